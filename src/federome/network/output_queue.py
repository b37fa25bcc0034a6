"""Results that wait at the hub for two independent checkers: kept with their run, told to nobody else until released.

Nodes say which classes of output they hold back when they agree to a result; checkers sign their votes with their own
keys, so that who approved what can be shown later. What follows from a vote is in ``governance/review_course.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from federome.errors import Invalid, Missing, Refused
from federome.governance.output_review import Output
from federome.governance.review_course import ENDED, Entry, Waiting, check_act, state_of
from federome.model.permit import AlgorithmRef, Authorisation, HealthDataRequest
from federome.model.registry import Person
from federome.network.answers import problem_of
from federome.network.files import replace_file
from federome.network.jobs import Coordinator
from federome.network.ledger import Run
from federome.network.protocol import Body, mapping, text
from federome.trust.canonical import Json
from federome.trust.keys import KeyRing, PinnedKey, PublicKey
from federome.trust.people import VOTE_TYPE
from federome.trust.signing import PERSON_ALGORITHMS, peek, verify

CHECKERS: Final = "checkers.json"
HELD: Final = "held"
_REJECTED: Final = "output_class_unapproved"


@dataclass(frozen=True)
class Checkers:
    """Who checks outputs here, from ``checkers.json`` in the hub's folder; read anew each time."""

    path: Path

    def __call__(self) -> dict[str, Person]:
        """People by id."""
        held = json.loads(self.path.read_text()) if self.path.is_file() else []
        people = [Person.from_document(each, where=self.path.name) for each in held]
        return {person.id: person for person in people}

    def appoint(self, person: Person) -> None:
        """Add a checker, or replace what is known of one. ``Invalid`` without a key or the role."""
        if person.key is None or "output-reviewer" not in person.roles:
            raise Invalid("an output checker has a key, and the role output-reviewer.", where=person.id)
        people = self() | {person.id: person}
        told = json.dumps([people[name].to_document() for name in sorted(people)], indent=1)
        replace_file(self.path, told.encode())


class OutputQueue:
    """What checkers and those who asked may see and do. ``caller`` is always the thumbprint of a proven key."""

    def __init__(
        self, coordinator: Coordinator, checkers: Callable[[], Mapping[str, Person]], clock: Callable[[], float]
    ) -> None:
        self._coordinator, self._checkers, self._clock = coordinator, checkers, clock

    def listed(self, caller: str) -> list[Body]:
        """Results that wait (for a checker), or one's own."""
        runs = self._coordinator.ledger.runs(states=(HELD,))
        return [self._document(run) for run in runs if self._may_see(run, caller)]

    def show(self, run_id: str, caller: str) -> Body:
        """One result with all that was said about it; ``Invalid`` for anybody without a part in it."""
        return self._document(self.run(run_id, caller))

    def run(self, run_id: str, caller: str) -> Run:
        """The run, for a checker or for whoever asked."""
        missing = Missing("no such review.", where=run_id[:80])
        try:
            run = self._coordinator.ledger.run(run_id)
        except Invalid:
            raise missing from None
        if not self._may_see(run, caller):
            raise missing
        if "review" not in run.detail:
            raise Invalid("no result of this run waits for checkers.", where=run_id[:80])
        return run

    def check_reader(self, run: Run, caller: str) -> None:
        """The tables themselves are for checkers alone, while they wait."""
        if self._checker(caller) is None:
            raise Refused("only output checkers see a result that waits.", codes=["not_your_role"], where=run.id)

    def vote(self, token: str) -> Body:
        """A checker's signed vote or comment. Raises as ``check_act``, and for a signature that does not stand up."""
        claimed = peek(token)
        person = self._checker(str(claimed.header.get("kid")))
        if person is None or person.key is None:
            raise Refused("this person is no output checker.", codes=["not_your_role"])
        ring = KeyRing((PinnedKey(person.id, PublicKey.from_jwk(person.key.jwk)),))
        said = verify(token, ring, typ=VOTE_TYPE, algorithms=PERSON_ALGORITHMS, now=self._clock()).payload
        act = text(said, "act")
        if act not in ("approve", "reject", "comment"):
            raise Invalid("a checker approves, rejects or comments.", where=act[:20])
        entry = Entry(person.id, act, text(said, "files"), self._now(), text(said, "reasons"))  # type: ignore[arg-type]
        return self._act(text(said, "run"), entry, token)

    def asked(self, run_id: str, caller: str) -> Run:
        """A run that this caller asked for. ``Refused`` for anybody else, checkers included."""
        run = self.run(run_id, caller)
        if run.person != caller:
            raise Refused("only who asked may contest.", codes=["not_your_role"])
        return run

    def contest(self, run_id: str, caller: str, reasons: str) -> Body:
        """Whoever asked does not accept a rejection: two others have to look."""
        run = self.asked(run_id, caller)
        asker = next(iter(sorted(_named(run, caller))), "")
        files = text(mapping(run.detail, "review"), "files_digest")
        return self._act(run_id, Entry(asker, "contest", files, self._now(), reasons), "")

    def _act(self, run_id: str, entry: Entry, token: str) -> Body:
        def change(run: Run) -> Run:
            if run.state != HELD:
                raise Refused("this result waits no longer.", codes=["wrong_state"], where=run.id)
            course = course_of(run)
            persons = self._checkers()
            check_act(course, entry, persons)
            state = state_of(replace(course, entries=(*course.entries, entry)), persons)
            review = mapping(run.detail, "review")
            told: Body = {**entry.to_document(), "token": token}  # type: ignore[dict-item]
            listed = review.get("entries")
            entries: list[Json] = [*(listed if isinstance(listed, list) else []), told]
            detail: Body = {**run.detail, "review": {**review, "entries": entries, "state": state}}
            if state not in ENDED:
                return replace(run, detail=detail)
            if state == "released":
                return replace(run, state="complete", detail=detail)
            refusal = Refused("two rounds of checkers did not let this result leave.", codes=[_REJECTED], where=run.id)
            return replace(run, state="failed", detail={**detail, "problem": problem_of(refusal), "result": None})

        return self._document(self._coordinator.amend(run_id, change, f"output review: {entry.act}"))

    def _document(self, run: Run) -> Body:
        review = mapping(run.detail, "review")
        return {
            "run": run.id,
            "algorithm": run.detail["algorithm"],
            "parameters": run.detail["parameters"],
            "state": state_of(course_of(run), self._checkers()),
            **{name: review[name] for name in ("classes", "files", "files_digest", "entries")},
        }

    def _may_see(self, run: Run, caller: str) -> bool:
        return run.person == caller or self._checker(caller) is not None

    def _checker(self, thumbprint: str) -> Person | None:
        people = self._checkers().values()
        return next((each for each in people if each.key is not None and each.key.thumbprint == thumbprint), None)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(int(self._clock()), UTC)


def course_of(run: Run) -> Waiting:
    """A held run as the rules see it."""
    review = mapping(run.detail, "review")
    grant = _grant(run)
    algorithm = AlgorithmRef.from_document(run.detail["algorithm"], where="algorithm")
    outputs = tuple(
        Output(run.id, "hub", algorithm, str(name), None if grant is None else grant.project)
        for name in _listed(review["classes"])
    )
    entries = tuple(
        Entry.from_document({name: value for name, value in each.items() if name != "token"}, where="review")
        for each in _listed(review["entries"])
        if isinstance(each, dict)
    )
    asked = frozenset(person.id for person in grant.persons) if grant is not None else frozenset()
    return Waiting(outputs, text(review, "files_digest"), asked, entries)


def _grant(run: Run) -> Authorisation | None:
    """The permit as every contributor verified it before it agreed."""
    try:
        return HealthDataRequest.from_document(peek(text(run.detail, "permit")).payload.get("grant"), where="permit")
    except (Invalid, Refused):
        return None


def _named(run: Run, thumbprint: str) -> set[str]:
    grant = _grant(run)
    return {p.id for p in grant.persons if p.key.thumbprint == thumbprint} if grant is not None else set()


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
