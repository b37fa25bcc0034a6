"""Programs of researchers that wait at the hub for review: what was handed in, what was done, where that leaves it.

    bundle + the author's signed submission → read, never run → events → two reviewers' signatures → files for nodes

The hub decides nothing: who reviews is in the root of reviewers that lies in its folder as it does in a node's
(``reviews.py``), a yes or no is a reviewer's own signed statement, and nodes check both again. What is kept is whole or
not there: one event, one transaction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from federome.db import Schema, migrate, read, write
from federome.errors import Damaged, FederomeError, Invalid, Missing, Refused
from federome.governance.calendars import calendar_of
from federome.governance.clocks import Calendar
from federome.governance.roles import ActionRequest, decide_action
from federome.model.registry import Person
from federome.model.strict import Digest, Document, Identifier
from federome.network.access import Register
from federome.network.application_book import Changed
from federome.network.bundles import bundle_in
from federome.network.reviews import SignedApprovals
from federome.network.sandbox_bundle import Program, program_of
from federome.trust.approval import SKEW, Review, Revocations, Root, Tally, read_review, tally
from federome.trust.bundle import read_submission
from federome.trust.canonical import digest_bytes

DATABASE: Final = "submissions.db"
DUE_DAYS: Final = 10
"""Working days until somebody should have said something: as many as nations have for their word on an application."""
MAX_BUNDLE: Final = 10 << 20
MAX_TRIED: Final = 1 << 18
MAX_HELD: Final = 100 << 20
"""Bytes that are kept of one person's."""
MAX_EVENTS: Final = 300
MAX_TEXT: Final = 4_000
MAX_PURPOSE: Final = 500

State = Literal["submitted", "in-review", "approved", "lapsed", "revoked", "rejected", "sent-back", "withdrawn"]
Act = Literal["submit", "take", "comment", "approve", "reject", "return", "withdraw", "replace"]
WAITING: Final[frozenset[State]] = frozenset({"submitted", "in-review", "lapsed"})
_ENDABLE: Final[frozenset[State]] = WAITING | {"rejected"}
_ACTS: Final[Mapping[Act, frozenset[State]]] = {
    "take": WAITING,
    "comment": _ENDABLE | {"approved", "sent-back"},
    "approve": _ENDABLE | {"approved"},
    "reject": _ENDABLE | {"approved"},
    "return": WAITING,
    "withdraw": _ENDABLE,
    "replace": WAITING,
}
"""In which states an act is done. A signed no can be taken back by its signer, what was sent back cannot."""
_REASONS: Final = frozenset({"comment", "return"})

_METADATA = sa.MetaData()
_SUBMISSION = sa.Table(
    "submission",
    _METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False, unique=True),
    sa.Column("author", sa.String, nullable=False, index=True),
    sa.Column("size", sa.Integer, nullable=False),
)
_CONTENT = sa.Table(
    "submission_content",
    _METADATA,
    sa.Column("submission", sa.String, sa.ForeignKey("submission.id"), primary_key=True),
    sa.Column("bundle", sa.LargeBinary, nullable=False),
    sa.Column("signed", sa.LargeBinary, nullable=False),
    sa.Column("tried", sa.Text, nullable=False),
)
_EVENT = sa.Table(
    "submission_event",
    _METADATA,
    sa.Column("submission", sa.String, sa.ForeignKey("submission.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("envelope", sa.LargeBinary, nullable=False),
)
SCHEMA: Final = Schema("submissions", _METADATA)


@dataclass(frozen=True)
class HandedIn(Document):
    """What was handed in. ``digest`` is that of the bundle, which is what orders, reviews and nodes name."""

    id: Identifier
    name: Identifier
    version: Identifier
    digest: Digest
    author: Identifier
    institution: Identifier
    purpose: str
    at: datetime
    due: date
    previous: Identifier | None = None


@dataclass(frozen=True)
class Event(Document):
    """One act: who did it, when, and what they said."""

    act: Act
    actor: Identifier
    at: datetime
    said: str = ""


@dataclass(frozen=True)
class Kept:
    """A submission with all that was done. ``envelopes`` are the signed reviews, by the number of their event."""

    opened: HandedIn
    events: tuple[Event, ...]
    envelopes: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True)
class Standing:
    """Where a submission stands: its state, the reviews that count by the number of their event, and what they make."""

    kept: Kept
    state: State
    reviews: Mapping[int, Review]
    tally: Tally | None
    root: Root | None

    @cached_property
    def organisations(self) -> tuple[str, ...]:
        """The organisations whose reviewers approve."""
        names = set(self.tally.approved_by) if self.tally is not None else set()
        listed = self.root.reviewers if self.root is not None else ()
        return tuple(sorted({one.organisation for one in listed if one.name in names}))


@dataclass(frozen=True)
class Whole:
    """A submission with its files and those of the version before it; ``tried`` is its author's word for a try."""

    standing: Standing
    program: Program
    before: Program | None
    bundle: bytes
    signed: bytes
    tried: str


def standing(kept: Kept, root: Root | None, revocations: Revocations | None, now: datetime) -> Standing:
    """What follows from the events. A review counts as long as it stands up under the root that lies here now."""
    if root is None:
        return Standing(kept, _state(kept, None, now), {}, None, None)
    counted = {}
    for number, envelope in kept.envelopes:
        with suppress(FederomeError):  # its reviewer has left the root: nodes do not count it either
            counted[number] = read_review(envelope, root)
    found = next(iter(tally(counted.values(), root, revocations)), None)
    return Standing(kept, _state(kept, found, now), counted, found, root)


def _state(kept: Kept, found: Tally | None, now: datetime) -> State:
    acts = {event.act for event in kept.events}
    made = found.approval if found is not None else None
    if acts & {"withdraw", "replace"}:
        return "withdrawn"
    if "return" in acts:
        return "sent-back"
    if found is not None and found.rejected_by:
        return "rejected"
    if made is not None:
        return "revoked" if made.revoked(now) else "approved" if made.in_force(now) else "lapsed"
    reviewing = any(event.actor != kept.opened.author for event in kept.events)
    return "in-review" if reviewing else "submitted"


class Submissions:
    """The submissions of one hub. Everybody without a part in one finds that there is no such thing."""

    def __init__(
        self,
        engine: sa.Engine,
        signed: SignedApprovals,
        register: Callable[[], Register],
        clock: Callable[[], float],
        tell: Callable[[Standing], None] = lambda _found: None,
    ) -> None:
        migrate(engine, SCHEMA)
        self._engine, self._signed, self._register, self._clock = engine, signed, register, clock
        self._tell = tell

    # reading

    def now(self) -> datetime:
        """The time, in whole seconds."""
        return datetime.fromtimestamp(int(self._clock()), UTC)

    def root(self) -> Root | None:
        """Whose reviews count; nobody's where no root lies in the hub's folder."""
        return self._signed.standing().root if self._signed.pinned else None

    def listed(self, person: Person) -> list[Standing]:
        """Every submission that somebody has to do with, by the day it is due."""
        with read(self._engine) as db:
            found = [_load(db, name) for name in db.execute(sa.select(_SUBMISSION.c.id)).scalars()]
        seen = [one for one in map(self._standing, found) if _sees(one, person)]
        return sorted(seen, key=lambda one: (one.kept.opened.due, one.kept.opened.at, one.kept.opened.id))

    def find(self, submission: str, person: Person) -> Standing:
        """One of them; ``Missing`` for whoever has no part in it, whether there is one or not."""
        with read(self._engine) as db:
            found = self._standing(_load(db, submission))
        if not _sees(found, person):
            raise Missing("there is no such submission.")
        return found

    def whole(self, submission: str, person: Person) -> Whole:
        """The same with its files, read again; ``Damaged`` if the bundle is not the one that was handed in."""
        found = self.find(submission, person)
        bundle, signed, tried = self._content(submission)
        before = found.kept.opened.previous
        earlier = None
        with suppress(Missing):  # an operator sees what is approved, and not what came before
            earlier = self._program(self.find(before, person).kept.opened) if before is not None else None
        return Whole(found, _program(bundle, found.kept.opened), earlier, bundle, signed, tried)

    # acting

    def tell_again(self, since: datetime) -> None:
        """Tell of everything that something was done with lately: a process may have died before it told."""
        with read(self._engine) as db:
            found = [_load(db, name) for name in db.execute(sa.select(_SUBMISSION.c.id)).scalars()]
        for one in found:
            if one.events[-1].at >= since:
                self._tell(self._standing(one))

    def hand_in(
        self, person: Person, bundle: bytes, signed: bytes, *, purpose: str, tried: str, once: str
    ) -> HandedIn:  # fmt: skip
        """Keep a bundle and its author's signature for review; the same form twice is one submission.

        The author's earlier version of the same program, where it still waits, is replaced by it.
        """
        program = self._read(person, bundle, signed, purpose, tried)
        opened = self._opened(person, program, purpose, once)
        with write(self._engine) as db:
            if _held(db, opened.id):
                return _load(db, opened.id).opened
            own = [_load(db, each) for each in _of(db, person.id)]
            same = [one for one in own if one.opened.name == opened.name]
            for one in same:
                if one.opened.version != opened.version or _withdrawn(one):
                    continue
                if one.opened.digest == opened.digest and self._standing(one).state not in ("sent-back", "rejected"):
                    return one.opened  # from another window
                raise Invalid(
                    "this version of your program is here already.",
                    where=f"{opened.name} {opened.version}",
                    remedy="Give it another version in bundle.toml, and pack and sign it again.",
                )
            size = len(bundle) + len(signed) + len(tried.encode())
            if _bytes_of(db, person.id) + size > MAX_HELD:
                raise Invalid(
                    f"only {MAX_HELD >> 20} MB of one person's are kept here.", remedy="Ask the hub's office."
                )
            before = same[-1].opened.id if same else None
            opened = HandedIn.from_document({**opened.to_document(), "previous": before}, where="submission")
            document = json.dumps(opened.to_document())
            number = db.execute(sa.select(sa.func.count()).select_from(_SUBMISSION)).scalar_one()
            told = {"id": opened.id, "document": document, "number": number, "author": person.id, "size": size}
            db.execute(_SUBMISSION.insert().values(**told))
            db.execute(_CONTENT.insert().values(submission=opened.id, bundle=bundle, signed=signed, tried=tried))
            _append(db, opened.id, Event("submit", person.id, opened.at), f"{opened.id}-submit")
            for one in same:
                if self._standing(one).state in _ACTS["replace"]:
                    event = Event("replace", person.id, opened.at, opened.id)
                    _append(db, one.opened.id, event, f"{one.opened.id}-replace")
        self._told_of(opened.id)
        return opened

    def do(
        self, submission: str, person: Person, act: Act, said: str, *, once: str, seen: int | None = None
    ) -> None:  # fmt: skip
        """Take up, comment, send back or withdraw. ``Changed`` where more was done than whoever decides has seen."""
        said = said.strip()
        if act not in ("take", "comment", "return", "withdraw"):
            raise Invalid("there is no such act.", where="act")
        if act in _REASONS and not said:
            raise Invalid("this needs reasons.", where="reasons", remedy="Say why, in a sentence.")
        if len(said) > MAX_TEXT:
            raise Invalid(f"reasons have at most {MAX_TEXT:,} letters.", where="reasons")
        self._act(submission, person, Event(act, person.id, self.now(), said), _name(person.id, once), seen=seen)

    def sign(self, submission: str, person: Person, envelope: bytes) -> None:
        """A reviewer's signed yes or no to exactly this bundle; handed in twice, it is kept once.

        ``Refused`` unless a pinned reviewer's own signature stands up, and it is the reviewer who hands it in.
        """
        found = self.find(submission, person)
        if found.root is None:
            raise Refused(
                "no root of reviewers lies at this hub, so no signature can be checked.",
                codes=["issuer_untrusted"],
                remedy="Its operator installs one: federome algorithm trust ROOT --first --dir HUB",
            )
        self._may_review(found, person)
        review = read_review(envelope, found.root)
        opened, now = found.kept.opened, self.now()
        program = self._program(opened)
        about = (review.name, review.version, review.digest, review.bundle)
        bundle = program.bundle
        if about != (bundle.name, bundle.version, bundle.identity, bundle.digest):
            raise Refused(
                "the review is of another bundle than the one that waits here.",
                codes=["token_invalid"],
                where=bundle.digest,
                remedy="Download this bundle, read it, and review it.",
            )
        author = read_submission(self._content(submission)[1])
        if (review.author, review.author_key) != (author.author, author.key.thumbprint):
            raise Refused("the review names another author.", codes=["token_invalid"])
        if (review.release_class, tuple(sorted(review.automatic))) != (
            bundle.release_class,
            tuple(sorted(bundle.automatic)),
        ):
            raise Refused(
                "the review allows other classes of results than the bundle asks for.", codes=["token_invalid"]
            )
        owner = next(one for one in found.root.reviewers if one.name == review.reviewer)
        if person.key is None or owner.key.thumbprint != person.key.thumbprint:
            raise Refused(
                "reviewers hand in their own reviews.", codes=["not_your_role"], remedy="Log in as its signer."
            )
        if review.issued > now + SKEW or review.expires <= now:
            raise Refused("the review is not of now.", codes=["token_invalid"], remedy="Sign it again.")
        event = Event(review.decision, person.id, now, review.comment[:MAX_TEXT])
        self._act(submission, person, event, digest_bytes(envelope), envelope)

    # within

    def _act(
        self,
        submission: str,
        person: Person,
        event: Event,
        name: str,
        envelope: bytes = b"",
        *,
        seen: int | None = None,
    ) -> None:
        with write(self._engine) as db:
            found = self._standing(_load(db, submission))
            if not _sees(found, person):
                raise Missing("there is no such submission.")
            if _told(db, name):
                return
            self._check(found, person, event)
            if event.act in ("return", "withdraw") and seen is not None and seen != len(found.kept.events):
                raise Changed(
                    "something was done with this submission since you opened the page.",
                    remedy="Look at the newest state; what you wrote is still in the form.",
                )
            _append(db, submission, event, name, envelope)
        self._told_of(submission)

    def _told_of(self, submission: str) -> None:
        with read(self._engine) as db:
            found = _load(db, submission)
        self._tell(self._standing(found))

    def _check(self, found: Standing, person: Person, event: Event) -> None:
        own = person.id == found.kept.opened.author
        if event.act == "withdraw":
            if not own:
                raise Refused("only its author withdraws a submission.", codes=["not_your_role"])
        elif not (own and event.act == "comment"):
            self._may_review(found, person)
        if found.state not in _ACTS[event.act]:
            raise Refused("this submission is in another state by now.", codes=["wrong_state"])
        if len(found.kept.events) >= MAX_EVENTS:
            raise Invalid("very much was said about this submission.", remedy="Submit a newer version.")

    def _may_review(self, found: Standing, person: Person) -> None:
        request = ActionRequest("review-algorithm", person.id, "hub", authors=(found.kept.opened.author,))
        decide_action(request, person, now=self.now()).require()

    def _read(self, person: Person, bundle: bytes, signed: bytes, purpose: str, tried: str) -> Program:
        """The program of what is handed in, if all of it is in order and its author's own."""
        if "researcher" not in person.roles or person.key is None or not person.institution:
            raise Refused(
                "researchers whose key the register knows submit programs.",
                codes=["not_your_role"],
                remedy="Your institution's signing official can have your public key registered.",
            )
        if not purpose or len(purpose) > MAX_PURPOSE:
            raise Invalid(f"say what it is for, in at most {MAX_PURPOSE} letters.", where="purpose")
        if len(bundle) > MAX_BUNDLE:
            raise Invalid(f"a bundle of at most {MAX_BUNDLE >> 20} MB is taken here.", where="bundle")
        if len(tried.encode()) > MAX_TRIED:
            raise Invalid(f"the result of a try has at most {MAX_TRIED >> 10} kB.", where="tried")
        program = program_of(*bundle_in(bundle, where="bundle"))
        said = read_submission(signed)
        if said.bundle != program.bundle:
            raise Invalid("the signed submission is of another bundle.", where="signed", remedy="Sign this one.")
        if (said.author, said.organisation) != (person.id, person.institution):
            raise Invalid(
                "the signed submission names another author or organisation than the register.",
                where="signed",
                remedy=f"Say --author {person.id} --organisation {person.institution}.",
            )
        if said.key.thumbprint != person.key.thumbprint:
            raise Refused(
                "the submission is signed with another key than the one the register knows.", codes=["issuer_untrusted"]
            )
        return program

    def _opened(self, person: Person, program: Program, purpose: str, once: str) -> HandedIn:
        now, bundle = self.now(), program.bundle
        name = f"S-{now:%Y%m%d}-{_name(person.id, once)[:8]}"
        due = self._calendar(person).after(now.date(), DUE_DAYS)
        return HandedIn(
            name, bundle.name, bundle.version, bundle.digest, person.id, person.institution, purpose, now, due
        )

    def _calendar(self, person: Person) -> Calendar:
        """The working days where the author is; Monday to Friday where no holidays are known."""
        country = next((i.country for i in self._register().institutions if i.id == person.institution), "")
        with suppress(Invalid):
            return calendar_of(country, self.now().year, self.now().year + 1)
        return Calendar()

    def _standing(self, kept: Kept) -> Standing:
        held = self._signed.standing() if self._signed.pinned else None
        return standing(kept, held.root if held else None, held.revocations if held else None, self.now())

    def _content(self, submission: str) -> tuple[bytes, bytes, str]:
        with read(self._engine) as db:
            row = db.execute(sa.select(_CONTENT).where(_CONTENT.c.submission == submission)).one()
        return row.bundle, row.signed, row.tried

    def _program(self, opened: HandedIn) -> Program:
        return _program(self._content(opened.id)[0], opened)


def _program(bundle: bytes, opened: HandedIn) -> Program:
    try:
        program = program_of(*bundle_in(bundle, where="bundle"))
    except FederomeError as error:
        raise _damaged() from error
    if program.bundle.digest != opened.digest:
        raise _damaged()
    return program


def _damaged() -> Damaged:
    return Damaged("a bundle is not the one that was handed in.", remedy="Restore the hub's folder from a backup.")


def _sees(found: Standing, person: Person) -> bool:
    if person.id == found.kept.opened.author or "algorithm-reviewer" in person.roles:
        return True
    return found.state == "approved" and "node-operator" in person.roles


def _withdrawn(kept: Kept) -> bool:
    return any(event.act in ("withdraw", "replace") for event in kept.events)


def _name(person: str, once: str) -> str:
    return hashlib.sha256(f"{person}|{once}".encode()).hexdigest()


def _of(db: Connection, person: str) -> list[str]:
    """Somebody's submissions, the oldest first."""
    wanted = sa.select(_SUBMISSION.c.id).where(_SUBMISSION.c.author == person).order_by(_SUBMISSION.c.number)
    return list(db.execute(wanted).scalars())


def _bytes_of(db: Connection, person: str) -> int:
    wanted = sa.select(sa.func.sum(_SUBMISSION.c.size)).where(_SUBMISSION.c.author == person)
    return int(db.execute(wanted).scalar_one() or 0)


def _held(db: Connection, submission: str) -> bool:
    return db.execute(sa.select(_SUBMISSION.c.id).where(_SUBMISSION.c.id == submission)).first() is not None


def _told(db: Connection, name: str) -> bool:
    return db.execute(sa.select(_EVENT.c.id).where(_EVENT.c.id == name)).first() is not None


def _append(db: Connection, submission: str, event: Event, name: str, envelope: bytes = b"") -> None:
    count = sa.select(sa.func.count()).select_from(_EVENT).where(_EVENT.c.submission == submission)
    told = json.dumps(event.to_document())
    number = db.execute(count).scalar_one()
    db.execute(_EVENT.insert().values(submission=submission, number=number, id=name, document=told, envelope=envelope))


def _load(db: Connection, submission: str) -> Kept:
    told = db.execute(sa.select(_SUBMISSION.c.document).where(_SUBMISSION.c.id == submission)).scalar_one_or_none()
    if told is None:
        raise Missing("there is no such submission.")
    rows = db.execute(sa.select(_EVENT).where(_EVENT.c.submission == submission).order_by(_EVENT.c.number)).all()
    events = tuple(Event.from_document(json.loads(row.document), where="event") for row in rows)
    signed = tuple((row.number, row.envelope) for row in rows if row.envelope)
    return Kept(HandedIn.from_document(json.loads(told), where="submission"), events, signed)
