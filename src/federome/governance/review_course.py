"""The course of an output that waits for people: a table of acts and states, and who may do what.

Pure: the hub keeps the acts (``network/output_queue.py``) and asks here what follows from them. Whether votes suffice
is rule R19 in ``output_review.py``. Results were hashed before the first vote, and a vote names that digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from federome.errors import Invalid, Refused
from federome.governance.output_review import REVIEWERS, Output, Review, decide_release
from federome.model.registry import AlgorithmApproval, Person
from federome.model.strict import Digest, Document, Identifier

State = Literal["waiting", "released", "rejected", "contested", "closed"]
Act = Literal["approve", "reject", "comment", "contest"]
TRANSITIONS: Final[Mapping[tuple[State, Act], State]] = {
    ("waiting", "comment"): "waiting",
    ("waiting", "approve"): "released",  # with the second independent approval; until then it goes on waiting
    ("waiting", "reject"): "rejected",
    ("rejected", "comment"): "rejected",
    ("rejected", "contest"): "contested",
    ("contested", "comment"): "contested",
    ("contested", "approve"): "released",  # likewise, and by two who have not voted before the contest
    ("contested", "reject"): "closed",
}
ENDED: Final = frozenset({"released", "closed"})


@dataclass(frozen=True)
class Entry(Document):
    """One act. ``files`` is the digest of all that was to be released when it was done, ``reasons`` are for people."""

    who: Identifier
    act: Act
    files: Digest
    at: datetime
    reasons: str = ""

    def __post_init__(self) -> None:
        if self.act in ("reject", "contest", "comment") and not self.reasons.strip():
            raise Invalid("this needs reasons.", where=self.act, remedy="Say why, in a sentence.")
        if len(self.reasons) > 4000:
            raise Invalid("reasons have at most 4,000 letters.", where=self.act)


@dataclass(frozen=True)
class Waiting:
    """An output that waits: what it is (``outputs``, one for each class), its files' digest, who asked, what was done.

    ``asked_by`` are all people named in the grant: none of them may check the output.
    """

    outputs: tuple[Output, ...]
    files: str
    asked_by: frozenset[str]
    entries: tuple[Entry, ...] = ()


def state_of(course: Waiting, persons: Mapping[str, Person]) -> State:
    """Where the output stands after all acts."""
    state: State = "waiting"
    for at, entry in enumerate(course.entries):
        following = TRANSITIONS[state, entry.act]
        if entry.act == "approve" and not _suffices(course, course.entries[: at + 1], persons):
            continue
        state = following
    return state


def check_act(course: Waiting, entry: Entry, persons: Mapping[str, Person]) -> None:
    """Raise unless this act may be done now by this person.

    ``Refused``: ``wrong_state``, ``not_your_role``, ``reviewer_conflict`` (on the project, named in the grant, or voted
    before the contest), ``token_invalid`` (about other files).
    """
    state = state_of(course, persons)
    if (state, entry.act) not in TRANSITIONS:
        raise Refused(f"the output is {state}: there is nothing to {entry.act}.", codes=["wrong_state"])
    if entry.files != course.files:
        raise Refused("that is about other files than those that wait.", codes=["token_invalid"])
    if entry.act == "contest":
        if entry.who not in course.asked_by:
            raise Refused("only who asked may contest.", codes=["not_your_role"])
        return
    person = persons.get(entry.who)
    if person is None or "output-reviewer" not in person.roles:
        raise Refused("this person is no output checker.", codes=["not_your_role"])
    projects = {output.project for output in course.outputs}
    if entry.who in course.asked_by or projects & set(person.projects):
        raise Refused("a checker of this output works on the project.", codes=["reviewer_conflict"])
    if entry.act in ("approve", "reject") and entry.who in _voters(course.entries):
        raise Refused("this checker has voted already; another one has to look.", codes=["reviewer_conflict"])


def _suffices(course: Waiting, entries: Sequence[Entry], persons: Mapping[str, Person]) -> bool:
    """Rule R19 for every class of the output, on the votes since it was last contested."""
    last = max((at for at, entry in enumerate(entries) if entry.act == "contest"), default=-1)
    votes = tuple(Review(entry.who, "approve", entry.at) for entry in entries[last + 1 :] if entry.act == "approve")
    if len(votes) < REVIEWERS:
        return False
    now = entries[-1].at
    return all(
        decide_release(output, approvals=(_held(output),), reviews=votes, persons=persons, now=now).outcome == "ALLOW"
        for output in course.outputs
    )


def _held(output: Output) -> AlgorithmApproval:
    """The approval as the nodes found it when they agreed to the result: nothing of this class leaves by itself."""
    ref = output.algorithm
    return AlgorithmApproval(ref.name, ref.version, ref.digest, output.output_class, ())


def _voters(entries: Iterable[Entry]) -> set[str]:
    return {entry.who for entry in entries if entry.act in ("approve", "reject")}


def diagram() -> list[str]:
    """The table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> waiting"]
    lines += [
        f"    {before} --> {after}: {act}{' by the second checker' if act == 'approve' else ''}"
        for (before, act), after in TRANSITIONS.items()
        if act != "comment"
    ]
    return [*lines, *(f"    {state} --> [*]" for state in sorted(ENDED))]
