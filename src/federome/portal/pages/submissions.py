"""Programs on their way to an approval: a researcher's own, the reviewers' queue by due date, and one with its files.

A yes or no counts by the reviewer's own signature, made by ``federome algorithm review`` and handed in here; the page
shows what is read and by whom, and cannot sign. Nothing of a program runs at the hub.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from fastapi import APIRouter, Request
from fastapi.responses import Response

from federome.errors import FederomeError, Invalid, Missing, Refused
from federome.model.registry import Person
from federome.network.doors import Caller, open_to
from federome.network.sandbox_bundle import Program
from federome.network.submissions import MAX_BUNDLE, MAX_TRIED, WAITING, Act, Standing, Submissions
from federome.portal.languages import N_
from federome.portal.pages.applications import SANDBOX
from federome.portal.route import pages_of
from federome.portal.site import PREFIX, Face, MenuEntry, Site, see, visit_of
from federome.trust.envelopes import MAX_ENVELOPE_BYTES

PLACE: Final = f"{PREFIX}/submissions"
STATES: Final[Mapping[str, tuple[str, str]]] = {
    "submitted": (N_("Waits for reviewers"), "care"),
    "in-review": (N_("In review"), "care"),
    "approved": (N_("Approved"), "good"),
    "lapsed": (N_("The approval has ended: to be reviewed again"), "care"),
    "revoked": (N_("Revoked"), "bad"),
    "rejected": (N_("Rejected"), "bad"),
    "sent-back": (N_("Sent back"), "bad"),
    "withdrawn": (N_("Withdrawn"), "own"),
}
DONE: Final[Mapping[str, str]] = {
    "submit": N_("submits it"),
    "take": N_("looks at it"),
    "comment": N_("comments"),
    "approve": N_("signs for it"),
    "reject": N_("signs against it"),
    "return": N_("sends it back"),
    "withdraw": N_("withdraws it"),
    "replace": N_("submits a newer version"),
}
SHOWN: Final = 200_000
"""Letters of all files together that a page shows; the bundle has all."""
COMPARED: Final = 600
"""Lines of a file that are compared one by one; where more changed, the old ones and the new ones stand apart."""


@dataclass(frozen=True)
class Shown:
    """A file as a page shows it. ``way``: new, changed or as before; ``change``: lines that are other, with + and -."""

    name: str
    size: int
    digest: str
    text: str
    whole: bool
    native: bool
    way: str
    change: str


def pages(site: Site, submissions: Submissions) -> Face:
    """What one has submitted or may review, one submission, and its files."""
    api = pages_of(site)

    @api.get("/submissions")
    @open_to("researcher", "algorithm-reviewer", "node-operator")
    def listed(request: Request) -> Response:
        return _list(site, submissions, request)

    @api.post("/submissions")
    @open_to("researcher")
    def hand_in(request: Request) -> Response:
        visit = visit_of(request)
        try:
            opened = submissions.hand_in(
                visit.registered(),
                _file(request, "bundle", MAX_BUNDLE),
                _file(request, "signed", MAX_ENVELOPE_BYTES),
                purpose=visit.one("purpose"),
                tried=_tried(request),
                once=visit.sent_once(),
            )
        except (Invalid, Refused) as error:
            return _list(site, submissions, request, error)
        return see(f"{PLACE}/{opened.id}")

    @api.get("/submissions/{submission}")
    @open_to("named")
    def show(request: Request, submission: str) -> Response:
        return _one(site, submissions, request, submission)

    @api.post("/submissions/{submission}/act")
    @open_to("named")
    def act(request: Request, submission: str) -> Response:
        visit = visit_of(request)
        seen = visit.one("seen")
        try:
            submissions.do(
                submission,
                visit.registered(),
                cast(Act, visit.one("act")),
                visit.one("reasons"),
                once=visit.sent_once(),
                seen=int(seen) if seen.isascii() and seen.isdecimal() and len(seen) < 10 else None,
            )
        except (Invalid, Refused) as error:
            return _again(site, submissions, request, submission, error)
        return see(f"{PLACE}/{submission}#said")

    @api.post("/submissions/{submission}/review")
    @open_to("named")
    def review(request: Request, submission: str) -> Response:
        person = visit_of(request).registered()
        submissions.find(submission, person)
        try:
            submissions.sign(submission, person, _file(request, "review", MAX_ENVELOPE_BYTES))
        except (Invalid, Refused) as error:
            return _again(site, submissions, request, submission, error)
        return see(f"{PLACE}/{submission}#reviews")

    _downloads(api, submissions)
    to: frozenset[Caller] = frozenset({"researcher", "algorithm-reviewer", "node-operator"})
    return Face(
        api,
        (MenuEntry(N_("Programs"), PLACE, to, N_("Programs that researchers wrote, and how far their review is.")),),
    )


def _downloads(api: APIRouter, submissions: Submissions) -> None:
    @api.get("/submissions/{submission}/files/{name}")
    @open_to("named")
    def file(request: Request, submission: str, name: str) -> Response:
        person = visit_of(request).registered()
        held = submissions.whole(submission, person)
        found = held.standing
        opened, signed = found.kept.opened, dict(found.kept.envelopes)
        if name == "bundle":
            return _download(held.bundle, f"{opened.name}-{opened.version}.bundle", "application/zip")
        if name == "submission":
            return _download(held.signed, f"{opened.name}-{opened.version}.submission.json", "application/json")
        number = name.removeprefix("review-")
        if number == name or not (number.isascii() and number.isdecimal() and int(number[:9]) in signed):
            raise Missing("there is no such file.")
        by = found.kept.events[int(number)].actor
        return _download(signed[int(number)], f"{opened.name}-{opened.version}.{by}.dsse.json", "application/json")


def _list(site: Site, submissions: Submissions, request: Request, error: FederomeError | None = None) -> Response:
    visit = visit_of(request)
    person = visit.registered()
    found = submissions.listed(person)
    own = [one for one in found if one.kept.opened.author == person.id]
    reviewer = "algorithm-reviewer" in person.roles
    values = {
        "own": own[::-1],
        "waiting": [one for one in found if reviewer and one.state in WAITING and one not in own],
        "rest": [one for one in found if one not in own and not (reviewer and one.state in WAITING)][::-1],
        "reviewer": reviewer,
        "person": person,
        "states": STATES,
        "today": submissions.now().date(),
        "error": error,
        "purpose": visit.one("purpose"),
        "most": MAX_BUNDLE >> 20,
    }
    return site.page(request, "submissions.html", status=error.status if error else 200, **values)


def _one(
    site: Site, submissions: Submissions, request: Request, submission: str, error: FederomeError | None = None
) -> Response:
    visit = visit_of(request)
    person = visit.registered()
    held = submissions.whole(submission, person)
    found, program, before = held.standing, held.program, held.before
    values = {
        "found": found,
        "opened": found.kept.opened,
        "events": found.kept.events,
        "program": program,
        "described": program.description,
        "files": tuple(_shown(program, before)),
        "gone": sorted(set(before.files) - set(program.files)) if before else (),
        "before": before,
        "tried": visible(held.tried),
        "author": person.id == found.kept.opened.author,
        "judge": _judges(found, person),
        "signatures": [
            (number, found.kept.events[number], found.reviews.get(number)) for number, _ in found.kept.envelopes
        ],
        "waiting": found.state in WAITING,
        "states": STATES,
        "acts": DONE,
        "today": submissions.now().date(),
        "error": error,
        "given": {"act": visit.one("act"), "reasons": visit.one("reasons")},
    }
    return site.page(request, "submission.html", status=error.status if error else 200, **values)


def _again(
    site: Site, submissions: Submissions, request: Request, submission: str, error: Invalid | Refused
) -> Response:
    """The page with what was wrong and what was written, so that nothing is lost."""
    if isinstance(error, Missing):
        raise error
    return _one(site, submissions, request, submission, error)


def _judges(found: Standing, person: Person) -> bool:
    return "algorithm-reviewer" in person.roles and person.id != found.kept.opened.author


def _file(request: Request, name: str, most: int) -> bytes:
    """A file of the form, one byte longer than it may be at most: whoever takes it refuses that."""
    file = visit_of(request).files.get(name)
    if file is None or not file.filename:
        raise Invalid("no file was chosen.", where=name)
    return file.file.read(most + 1)


def _tried(request: Request) -> str:
    """What ``federome algorithm try --json`` printed, if it is handed in. Nothing of it is believed."""
    if not (file := visit_of(request).files.get("tried")) or not file.filename:
        return ""
    try:
        return file.file.read(MAX_TRIED + 1).decode()
    except UnicodeDecodeError as error:
        raise Invalid("the result of a try is text.", where="tried") from error


def _shown(program: Program, before: Program | None) -> Iterator[Shown]:
    """The files as text, beside what changed, as long as there is room on a page."""
    room = SHOWN
    digests = {file.path: file.digest for file in program.bundle.files}
    native = set(program.description.native)
    for name, data in sorted(program.files.items()):
        old = before.files.get(name) if before is not None else None
        text = "" if name in native else data.decode()
        change = ""
        if old is not None and old != data and name not in native and max(len(old), len(data)) <= SHOWN:
            change = difference(visible(old.decode("utf-8", "replace")), visible(text))
        whole = len(text) + len(change) <= room
        head, change = text[:room], change[:room]
        room = max(0, room - len(head) - len(change))
        yield Shown(
            name, len(data), digests[name], visible(head), whole, name in native, _way(before, old, data), change
        )


def _way(before: Program | None, old: bytes | None, data: bytes) -> str:
    if before is None:
        return ""
    return N_("new") if old is None else N_("as before") if old == data else N_("changed")


def difference(before: str, after: str) -> str:
    """The lines that are other, with + and -, each with three lines around it."""
    old, new = before.splitlines(), after.splitlines()
    start = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    if max(len(old), len(new)) - start > COMPARED:  # comparing takes as long as the square of what may differ
        return "\n".join([*(f"-{line}" for line in old[start:]), *(f"+{line}" for line in new[start:])])
    return "\n".join(list(difflib.unified_diff(old, new, lineterm=""))[2:])


def _download(data: bytes, name: str, media: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Security-Policy": SANDBOX}
    return Response(data, media_type=media, headers=headers)


def visible(text: str) -> str:
    """A text in which nothing is hidden: what has no width, or turns the direction, is written as its code."""
    return "".join(
        c
        if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        else f"\\u{{{ord(c):x}}}"
        for c in text.replace("\r\n", "\n")
    )
