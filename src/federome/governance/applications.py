"""The way to a permit: one state machine from the first draft to the archive, as a table that people can read.

An application is what its events made of it: ``fold`` computes where it stands, ``check`` says whether somebody may
do the next act. What the clock does by itself, and the document that nodes believe, are in ``application_course.py``.
Nothing here stores, sends or looks at a real clock.
Sources: GDI-SOP0002 and GDI-SOP0003 v1; EHDS Art. 67-69 (permit, request), 61 (duties of users), 63 (enforcement).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Literal

from federome.errors import Invalid, Refused
from federome.governance.clocks import EventKind, Process, ProcessEvent
from federome.model.permit import (
    AlgorithmGrant,
    DatasetGrant,
    EthicsDocument,
    NamedPerson,
    Purpose,
)
from federome.model.registry import Person, Role
from federome.model.strict import Digest, Document, Identifier

Kind = Literal["permit", "request", "contract"]
State = Literal[
    "draft",
    "conformity",
    "assessment",
    "veto-window",
    "consensus",
    "agreement",
    "preparation",
    "active",
    "suspended",
    "closing",
    "archived",
    "rejected",
    "appeal",
    "withdrawn",
]
# Who may do an act: a role of the register, a named person of the application, or the clock itself.
Actor = Role | Literal["applicant", "coordinator", "system"]

ALL: Final[frozenset[Kind]] = frozenset({"permit", "request", "contract"})
ASSESSED: Final[frozenset[Kind]] = frozenset({"permit", "request"})
LONG: Final[frozenset[Kind]] = frozenset({"permit"})
ENDED: Final[frozenset[State]] = frozenset({"archived", "withdrawn"})

VOTES: Final = 2
"""Members who must have voted before a recommendation (project rule: two pairs of eyes)."""
APPEAL_DAYS: Final = 30


@dataclass(frozen=True)
class Act:
    """One row of the table: who does what, from which states, to which state (the same one if ``to`` is empty)."""

    name: str
    who: tuple[Actor, ...]
    at: tuple[State, ...]
    to: State | Literal[""]
    says: str
    kinds: frozenset[Kind] = ALL
    by_node: bool = False
    reasoned: bool = False


# The way is the same for all three kinds; a request and a contract leave out stations (``AFTER``).
ACTS: Final[tuple[Act, ...]] = (
    Act("save", ("applicant",), ("draft",), "", "a version of the draft is kept"),
    Act("sign-off", ("signing-official",), ("draft",), "", "the institution stands behind this version"),
    Act("submit", ("applicant",), ("draft",), "conformity", "the draft becomes an application"),
    Act("withdraw", ("applicant",), ("draft", "conformity", "assessment", "veto-window", "consensus", "agreement"),
        "withdrawn", "the applicant takes it back"),
    Act("return", ("coordinator",), ("conformity",), "draft", "something is missing; the draft is open again",
        reasoned=True),
    Act("accept", ("coordinator",), ("conformity",), "assessment", "it is complete"),
    Act("vote", ("dac-member",), ("assessment",), "", "a member of the committee votes", ASSESSED),
    Act("recommend", ("dac-member",), ("assessment",), "veto-window", "the committee recommends approval", ASSESSED),
    Act("recommend-against", ("dac-member",), ("assessment",), "rejected", "the committee recommends against it",
        ASSESSED, reasoned=True),
    Act("remind", ("system",), ("veto-window",), "", "coordination points are reminded", ASSESSED, by_node=True),
    Act("agree", ("ncp",), ("veto-window",), "", "a nation agrees", ASSESSED, by_node=True),
    Act("veto", ("ncp",), ("veto-window",), "", "a nation vetoes, for all or some of its data", ASSESSED,
        by_node=True, reasoned=True),
    Act("justify", ("ncp",), ("veto-window", "consensus", "agreement", "preparation", "active"), "",
        "a nation justifies its veto", ASSESSED, by_node=True, reasoned=True),
    Act("accept-veto", ("dac-member",), ("veto-window", "consensus", "agreement", "preparation", "active"), "",
        "the committee accepts a veto", ASSESSED, by_node=True),
    Act("close-review", ("dac-member",), ("veto-window", "consensus", "agreement", "preparation", "active"), "",
        "the review of a veto ends in favour", ASSESSED, by_node=True),
    Act("inform-subjects", ("ncp",), ("agreement", "preparation", "active"), "",
        "a nation tells its data subjects", ASSESSED, by_node=True),
    Act("tell-applicant", ("coordinator",), ("veto-window", "consensus", "agreement", "preparation", "active"), "",
        "the applicant is told of a review that takes long", ASSESSED, by_node=True),
    Act("settle", ("system",), ("veto-window", "consensus"), "agreement", "every nation has spoken or was silent",
        ASSESSED),
    Act("wait", ("system",), ("veto-window",), "consensus", "every nation vetoed; consensus is sought", ASSESSED),
    Act("fail", ("system",), ("veto-window", "consensus"), "rejected", "no nation's data is left", ASSESSED),
    Act("sign", ("signing-official", "ncp", "coordinator"), ("agreement",), "", "a party signs the agreement"),
    Act("seal", ("system",), ("agreement",), "preparation", "all parties have signed"),
    Act("prepare", ("node-operator",), ("preparation",), "", "a node's data is ready", LONG, by_node=True),
    Act("open", ("system",), ("preparation",), "active", "access begins; the permit is signed"),
    Act("ask-extension", ("applicant",), ("active",), "", "more time is asked for", LONG, reasoned=True),
    Act("extend", ("dac-member",), ("active",), "", "more time is given", LONG),
    Act("deny-extension", ("dac-member",), ("active",), "", "no more time is given", LONG, reasoned=True),
    Act("suspend", ("coordinator", "ncp"), ("active",), "suspended", "access is closed for now", reasoned=True),
    Act("resume", ("coordinator",), ("suspended",), "active", "access is open again"),
    Act("report-breach", ("coordinator", "ncp", "applicant"), ("active", "suspended", "closing"), "suspended",
        "a breach is reported; access closes at once", reasoned=True),
    Act("blacklist", ("coordinator",), ("suspended",), "closing", "the breach is confirmed; its author is listed",
        reasoned=True),
    Act("publish", ("applicant",), ("active", "suspended", "closing", "archived"), "", "results are public"),
    Act("close", ("applicant",), ("active", "suspended"), "closing", "the work is done"),
    Act("expire", ("system",), ("active", "suspended"), "closing", "the permit has ended"),
    Act("confirm-deletion", ("node-operator",), ("closing",), "", "a node has deleted the project's data",
        by_node=True),
    Act("archive", ("system",), ("closing",), "archived", "everything is deleted and kept on record"),
    Act("repair", ("applicant",), ("rejected",), "draft", "the reasons are answered in a new draft"),
    Act("appeal", ("applicant",), ("rejected",), "appeal", "the decision is appealed", ASSESSED, reasoned=True),
    Act("uphold", ("coordinator",), ("appeal",), "rejected", "the rejection stands", ASSESSED, reasoned=True),
    Act("overturn", ("coordinator",), ("appeal",), "assessment", "another committee looks again", ASSESSED),
)  # fmt: skip
BY_NAME: Final[Mapping[str, Act]] = {act.name: act for act in ACTS}

# Where an act leads for a kind that leaves stations out (EHDS Art. 69: an answer, no access; care: a contract).
AFTER: Final[Mapping[tuple[Kind, str], State]] = {
    ("request", "settle"): "active",
    ("contract", "accept"): "agreement",
    ("contract", "seal"): "active",
}
_CLOCK: Final[Mapping[str, EventKind]] = {
    "submit": "submitted",
    "return": "returned",
    "recommend": "recommended",
    "recommend-against": "recommended-against",
    "remind": "reminded",
    "agree": "agreed",
    "veto": "vetoed",
    "justify": "justified",
    "accept-veto": "veto-accepted",
    "close-review": "review-closed",
    "inform-subjects": "subjects-informed",
    "tell-applicant": "applicant-told",
}
# Nobody judges a project of their own (rule R22).
_JUDGING: Final = frozenset(
    {"return", "accept", "vote", "recommend", "recommend-against", "agree", "veto", "justify", "accept-veto"}
    | {"close-review", "extend", "deny-extension", "suspend", "resume", "blacklist", "uphold", "overturn"}
)
_OFFICE: Final = "coordinator"


@dataclass(frozen=True)
class Opened(Document):
    """What an application is from its first moment: its kind, its institution, and who applies."""

    id: Identifier
    kind: Kind
    institution: Identifier
    applicants: tuple[Identifier, ...]
    at: datetime


@dataclass(frozen=True)
class Content(Document):
    """The part of a draft that the machine itself needs; the form's other answers are kept beside it by digest."""

    answers: Digest
    datasets: tuple[DatasetGrant, ...] = ()
    persons: tuple[NamedPerson, ...] = ()
    purpose: Purpose | None = None
    algorithms: tuple[AlgorithmGrant, ...] = ()
    ethics: tuple[EthicsDocument, ...] = ()
    question: str = ""
    vulnerable: bool = False
    valid_from: date | None = None
    valid_until: date | None = None
    missing: tuple[Identifier, ...] = ()


@dataclass(frozen=True)
class Event(Document):
    """One act that was done. ``id`` makes telling it twice harmless; ``version`` is the draft version it speaks of.

    ``datasets`` of a veto: which of the node's data it closes (empty: all of it).
    """

    id: Identifier
    act: Identifier
    actor: Identifier
    at: datetime
    node: Identifier | None = None
    reasons: str = ""
    version: int | None = None
    content: Content | None = None
    datasets: tuple[Identifier, ...] = ()
    until: date | None = None
    vote: Literal["for", "against"] | None = None


@dataclass(frozen=True)
class Application:
    """Where an application stands after its events: everything derived, nothing stored."""

    opened: Opened
    state: State = "draft"
    since: datetime | None = None
    content: Content | None = None
    version: int = 0
    signed_off: int = 0
    events: tuple[Event, ...] = ()
    valid_until: date | None = None
    extension_asked: bool = False

    @property
    def datasets(self) -> tuple[DatasetGrant, ...]:
        """The datasets asked for."""
        return self.content.datasets if self.content else ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes whose data is asked for, sorted."""
        return tuple(sorted({grant.node for grant in self.datasets}))

    def of(self, act: str) -> tuple[Event, ...]:
        """The events of one act since the last submission, in order."""
        start = max((at for at, event in enumerate(self.events) if event.act == "submit"), default=0)
        return tuple(event for event in self.events[start:] if event.act == act)

    def process(self, grant: DatasetGrant) -> Process:
        """The events that the national clock of one dataset looks at."""
        told = [
            ProcessEvent(_CLOCK[event.act], event.at, event.node)
            for event in self.events
            if event.act in _CLOCK
            and event.node in (None, grant.node)
            and (not event.datasets or grant.dataset in event.datasets)
        ]
        return Process(self.opened.id, (grant.node,), tuple(told))


def fold(opened: Opened, events: Iterable[Event]) -> Application:
    """The application after these events, which ``check`` has let pass, in the order they happened."""
    now = Application(opened, since=opened.at)
    for event in events:
        now = _after(now, event)
    return now


def _after(before: Application, event: Event) -> Application:
    act = BY_NAME[event.act]
    to: State = AFTER.get((before.opened.kind, act.name)) or act.to or before.state
    changes: dict[str, object] = {"events": (*before.events, event)}
    if to != before.state:
        changes |= {"state": to, "since": event.at}
    match event.act:
        case "save":
            changes |= {"content": event.content, "version": before.version + 1}
        case "sign-off":
            changes["signed_off"] = before.version
        case "submit":
            assert before.content is not None
            changes["valid_until"] = before.content.valid_until
        case "ask-extension":
            changes["extension_asked"] = True
        case "extend":
            changes |= {"extension_asked": False, "valid_until": event.until}
        case "deny-extension":
            changes["extension_asked"] = False
    return dataclasses.replace(before, **changes)  # type: ignore[arg-type]


# who may do what


def check(application: Application, event: Event, actor: Person | None) -> None:
    """Raises ``Refused`` (``wrong_state``, ``not_your_role``, ``conflict_of_interest``, ``sign_off_missing``) or
    ``Invalid`` (``incomplete`` content, a missing reason or node); returns when the event may be appended.

    ``actor`` is the register's record of who acts, ``None`` for the clock itself.
    """
    act = BY_NAME.get(event.act)
    if act is None or application.opened.kind not in act.kinds:
        raise Invalid("an application of this kind knows no such act.", where=event.act[:40])
    if application.state not in act.at:
        says = f"an application that is {application.state!r} cannot {act.name.replace('-', ' ')}."
        raise Refused(says, codes=["wrong_state"], remedy=f"It can when it is {' or '.join(act.at)}.")
    _who(application, act, event, actor)
    if act.reasoned and not event.reasons.strip():
        raise Invalid("a reason is needed.", where=act.name, remedy="Say why; the applicant reads it.")
    if act.by_node and event.node not in application.nodes:
        raise Invalid("this act is done for one of the application's nodes.", where=act.name)
    if extra := set(event.datasets) - {g.dataset for g in application.datasets if g.node == event.node}:
        raise Invalid(f"{len(extra)} of these datasets are not asked for at this node.", where=act.name)
    _CHECKS.get(act.name, _nothing)(application, event)


def allowed(application: Application, actor: Person) -> tuple[Act, ...]:
    """What this person could do next: for pages and queues. ``check`` still has the last word."""
    return tuple(
        act
        for act in ACTS
        if application.opened.kind in act.kinds
        and application.state in act.at
        and "system" not in act.who
        and _role(application, act, actor)
        and not (act.name in _JUDGING and _own(application, actor))
    )


def _who(application: Application, act: Act, event: Event, actor: Person | None) -> None:
    if actor is None:
        if "system" not in act.who:
            raise Refused("only the clock acts without a person.", codes=["not_your_role"])
        return
    if actor.id != event.actor or not _role(application, act, actor):
        raise Refused(f"to {act.name.replace('-', ' ')} is not among this person's roles.", codes=["not_your_role"])
    if act.name in _JUDGING and _own(application, actor):
        raise Refused("nobody judges a project of their own.", codes=["conflict_of_interest"])


def _role(application: Application, act: Act, actor: Person) -> bool:
    if "applicant" in act.who and actor.id in application.opened.applicants:
        return True
    if act.name == "sign-off":  # the applicant's own institution, and nobody who applies
        own = actor.institution == application.opened.institution and actor.id not in application.opened.applicants
        return own and "signing-official" in actor.roles
    roles = {_OFFICE if role == "administrator" else role for role in actor.roles}
    return bool(roles & set(act.who))


def _own(application: Application, actor: Person) -> bool:
    named = {person.id for person in application.content.persons} if application.content else set()
    return actor.id in application.opened.applicants or actor.id in named or application.opened.id in actor.projects


def _nothing(_application: Application, _event: Event) -> None:
    """Acts that need no more than the right person at the right time."""


def _saved(_application: Application, event: Event) -> None:
    if event.content is None:
        raise Invalid("a version of the draft comes with its content.", where="save")


def _submitted(application: Application, event: Event) -> None:
    if application.content is None or event.version != application.version:
        raise Invalid(
            "the draft was changed meanwhile.", where="submit", remedy="Read the newest version, then submit that."
        )
    content = application.content
    gaps = [*content.missing, *(["datasets"] if not content.datasets else [])]
    needed = ["valid_from", "valid_until", "algorithms"]
    needed += [] if application.opened.kind == "contract" else ["persons", "purpose"]
    gaps += [name for name in needed if not getattr(content, name)]
    if gaps:
        raise Refused(f"the application is not complete: {', '.join(gaps)}.", codes=["incomplete"])
    if application.signed_off != application.version:
        raise Refused(
            "the institution's signing official has not signed this version.",
            codes=["sign_off_missing"],
            remedy="Ask them to sign off the newest version.",
        )


def _voted(application: Application, event: Event) -> None:
    if event.vote is None:
        raise Invalid("a vote is for or against.", where="vote")
    if any(earlier.actor == event.actor for earlier in _votes(application)):
        raise Refused("this member has voted.", codes=["wrong_state"])


def _recommended(application: Application, event: Event) -> None:
    votes = _votes(application)
    wanted: Literal["for", "against"] = "for" if event.act == "recommend" else "against"
    if len(votes) < VOTES or 2 * sum(vote.vote == wanted for vote in votes) <= len(votes):
        found = sum(vote.vote == wanted for vote in votes)
        says = f"{found} of {len(votes)} votes are {wanted}; it takes a majority of {VOTES} votes or more."
        raise Refused(says, codes=["wrong_state"])


def _votes(application: Application) -> tuple[Event, ...]:
    """The votes of the present assessment: those before an appeal was won do not count."""
    fresh = max((event.at for event in application.of("overturn")), default=None)
    return tuple(vote for vote in application.of("vote") if fresh is None or vote.at > fresh)


def _signed(application: Application, event: Event) -> None:
    party = party_of(application, event)
    if any(party_of(application, earlier) == party for earlier in application.of("sign")):
        raise Refused("this party has signed.", codes=["wrong_state"])


def party_of(application: Application, event: Event) -> str:
    """The party an event of ``sign`` binds: a node, or the applicant's institution."""
    if event.node is None:
        return application.opened.institution
    if event.node not in application.nodes:
        raise Invalid("this node is no party of the agreement.", where="sign")
    return event.node


def _extended(application: Application, event: Event) -> None:
    if not application.extension_asked:
        raise Refused("no extension is asked for.", codes=["wrong_state"])
    if event.act == "extend" and (
        event.until is None or application.valid_until is None or event.until <= application.valid_until
    ):
        raise Invalid("an extension ends later than the permit does now.", where="extend")


def _asked(application: Application, _event: Event) -> None:
    if any(event.act == "extend" for event in application.events):
        raise Refused("a permit is extended once.", codes=["wrong_state"], remedy="Apply for a new one.")


def _appealed(application: Application, event: Event) -> None:
    assert application.since is not None
    if event.at.date() > application.since.date() + timedelta(days=APPEAL_DAYS):
        raise Refused(f"an appeal is made within {APPEAL_DAYS} days.", codes=["deadline_passed"])


_CHECKS: Final = {
    "save": _saved,
    "submit": _submitted,
    "vote": _voted,
    "recommend": _recommended,
    "recommend-against": _recommended,
    "sign": _signed,
    "ask-extension": _asked,
    "extend": _extended,
    "deny-extension": _extended,
    "appeal": _appealed,
}


def diagram() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> draft"]
    for act in ACTS:
        if not act.to:
            continue
        lines += [f"    {start.replace('-', '_')} --> {act.to.replace('-', '_')}: {act.name}" for start in act.at]
    lines += [f"    {end.replace('-', '_')} --> [*]" for end in sorted(ENDED)]
    return "\n".join(lines) + "\n"
