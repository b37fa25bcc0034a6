"""Who is told what of a program that waits for review: whoever has the next step, and whom it is about.

Notices follow from what is kept, each with an id of its own, so that telling all of them again tells nobody twice: a
process that died between an act and its notices catches up at its next start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from federome.db import engine
from federome.model.registry import Person
from federome.network.application_book import Notice
from federome.network.desk import Desk
from federome.network.reviews import SignedApprovals
from federome.network.submissions import DATABASE, Act, Event, Standing, Submissions

CAUGHT_UP: Final = timedelta(days=7)
"""Acts that are older are told of no more, so that whoever becomes a reviewer does not hear of last year."""
_SAYS: Final[Mapping[Act, str]] = {
    "submit": "a program waits for reviewers",
    "take": "a reviewer looks at the program",
    "comment": "there is a comment on the program",
    "approve": "a reviewer signed for the program",
    "reject": "a reviewer signed against the program",
    "return": "the program was sent back",
    "withdraw": "its author withdrew the program",
}  # a newer version is submitted, which reviewers are told
_APPROVED: Final = "the program is approved, and nodes can install it"


def open_submissions(folder: Path, desk: Desk) -> Submissions:
    """The submissions of a hub's folder; whoever is concerned is told by the desk, in the portal and by e-mail."""

    def tell(found: Standing) -> None:
        desk.book.tell(notices_of(found, desk.register().persons), desk.settings.contacts)

    database = engine(f"sqlite:///{folder / DATABASE}", durable=True)
    made = Submissions(database, SignedApprovals(folder, desk.clock), desk.register, desk.clock, tell)
    made.tell_again(since=made.now() - CAUGHT_UP)
    return made


def notices_of(found: Standing, people: Iterable[Person]) -> Iterator[Notice]:
    """All notices of what was lately done with one submission."""
    opened, events = found.kept.opened, found.kept.events
    since = events[-1].at - CAUGHT_UP
    people = tuple(people)
    for number, event in enumerate(events):
        if event.at < since or event.act not in _SAYS:
            continue
        for person in people:
            if person.id != event.actor and _concerns(found, number, event, person):
                name = f"{opened.id}/{number}/{person.id}"
                yield Notice(name, person.id, opened.id, event.at, _SAYS[event.act])
    if found.state == "approved":
        for person in people:
            if person.id == opened.author or "node-operator" in person.roles:
                yield Notice(f"{opened.id}/approved/{person.id}", person.id, opened.id, events[-1].at, _APPROVED)


def _concerns(found: Standing, number: int, event: Event, person: Person) -> bool:
    if event.act == "submit":
        return "algorithm-reviewer" in person.roles
    if event.actor != found.kept.opened.author:
        return person.id == found.kept.opened.author
    return person.id in {each.actor for each in found.kept.events[:number]}
