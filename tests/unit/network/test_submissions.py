"""What follows from reviews at a hub, without its pages: organisations count, roots change, and lists revoke."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.portals import KEYS, MONDAY
from tests.submitted import Handed, handed, overlapping, reviewer

from federome.errors import Invalid
from federome.network.bundles import bundle_in
from federome.network.submissions import Event, HandedIn, Kept, standing
from federome.trust.approval import Revocation, Revocations, Root, review_of, sign_review
from federome.trust.bundle import read_submission

ROOT = Root(1, tuple(map(reviewer, ("arne", "ruta", "ivan"))))  # of uni-b, office and office


def kept(what: Handed, *said: tuple[str, str]) -> Kept:
    """A submission with these reviews: who, and for or against."""
    submission = read_submission(what.signed)
    bundle = submission.bundle
    told = (bundle.name, bundle.version, bundle.digest, "alice", "uni-a", "To count.", MONDAY, MONDAY.date())
    events, envelopes = [Event("submit", "alice", MONDAY)], []
    for at, (who, decision) in enumerate(said, 1):
        issued = MONDAY + timedelta(minutes=at)
        made = review_of(submission, decision=decision, reviewer=reviewer(who), issued=issued)  # type: ignore[arg-type]
        events.append(Event(made.decision, who, issued))
        envelopes.append((at, sign_review(made, KEYS[who])))
    return Kept(HandedIn("S-1", *told), tuple(events), tuple(envelopes))


@pytest.mark.parametrize(
    ("said", "state", "organisations"),
    [
        ((), "submitted", ()),
        ((("ruta", "approve"),), "in-review", ("office",)),
        ((("ruta", "approve"), ("ivan", "approve")), "in-review", ("office",)),
        ((("ruta", "approve"), ("arne", "approve")), "approved", ("office", "uni-b")),
        ((("ruta", "approve"), ("arne", "approve"), ("ivan", "reject")), "rejected", ("office", "uni-b")),
        ((("ivan", "reject"), ("ivan", "approve"), ("arne", "approve")), "approved", ("office", "uni-b")),
    ],
)
def test_two_people_of_two_organisations(
    tmp_path: Path, said: tuple[tuple[str, str], ...], state: str, organisations: tuple[str, ...]
) -> None:
    found = standing(kept(handed(tmp_path), *said), ROOT, None, MONDAY + timedelta(days=1))
    assert (found.state, found.organisations) == (state, organisations)


def test_what_time_roots_and_revocations_do_to_an_approval(tmp_path: Path) -> None:
    one, day = kept(handed(tmp_path), ("ruta", "approve"), ("arne", "approve")), MONDAY + timedelta(days=1)
    assert standing(one, ROOT, None, MONDAY + timedelta(days=91)).state == "lapsed"
    listed = Revocations(1, day, (Revocation(one.opened.digest, day, "wrong"),))
    assert standing(one, ROOT, listed, day).state == "revoked"
    later = Root(2, tuple(map(reviewer, ("arne", "ivan"))))  # Ruta has left
    found = standing(one, later, None, day)
    assert (found.state, list(found.reviews)) == ("in-review", [2])
    assert standing(one, None, None, day).state == "in-review"
    for act, state in (("return", "sent-back"), ("withdraw", "withdrawn"), ("replace", "withdrawn")):
        ended = replace(one, events=(*one.events, Event(act, "arne", day)))  # type: ignore[arg-type]
        assert standing(ended, ROOT, None, day).state == state


def test_members_that_lie_over_each_other_are_not_read() -> None:
    bomb = overlapping(1 << 20, 20)
    with zipfile.ZipFile(io.BytesIO(bomb)) as archive:
        members = {each: bomb[each.header_offset + 30 + len(each.filename) :] for each in archive.infolist()}
    # What a reader without a limit would hold, and find in order, as Python's own did until 3.11.8 and 3.12.2.
    assert all(zlib.crc32(data[: each.file_size]) == each.CRC for each, data in members.items())
    assert sum(len(data[: each.file_size]) for each, data in members.items()) > 19 * len(bomb)
    with pytest.raises(Invalid, match="at most"):
        bundle_in(bomb, where="bomb")
