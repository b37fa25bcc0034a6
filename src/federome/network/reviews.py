"""Signed approvals in a node's folder: the pinned root, the reviews it holds, and the newest list of revocations.

Where a root is pinned, only what its reviewers signed counts, and ``federome node approve`` has no effect any more.
The operator installs every file here; the hub is never asked, so there is nothing it could lie about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final

from federome.errors import FederomeError, Invalid, Refused
from federome.model.registry import AlgorithmApproval
from federome.network.files import replace_file
from federome.trust import approval, envelopes
from federome.trust.approval import Review, Revocations, Root, Tally
from federome.trust.canonical import digest_bytes

ROOT: Final = "root.json"
REVOCATIONS: Final = "revocations.json"
REVIEWS: Final = "approvals"
SUFFIX: Final = ".dsse.json"
NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""How old a list of revocations counts that is missing, unreadable or from the future: too old."""


@dataclass(frozen=True)
class Standing:
    """What the files say. ``ignored`` names files that do not stand up, each with the reason."""

    root: Root
    tallies: tuple[Tally, ...]
    revocations: Revocations | None
    ignored: tuple[tuple[str, str], ...]

    @cached_property
    def approvals(self) -> tuple[AlgorithmApproval, ...]:
        """What governance decides by (rule R17)."""
        return tuple(one.approval for one in self.tallies if one.approval is not None)


@dataclass
class SignedApprovals:
    """The signed approvals of one folder, read and verified again when a file changes."""

    folder: Path
    clock: Callable[[], float]
    _held: tuple[tuple[tuple[str, int], ...], Standing] | None = field(default=None, init=False)

    @property
    def pinned(self) -> bool:
        """Whether a root is pinned here, so that only signed approvals count."""
        return (self.folder / ROOT).is_file()

    def standing(self) -> Standing:
        """What stands now. ``Refused`` (``algorithm_not_approved``) where the root itself does not stand up."""
        stamps = tuple((path.name, path.stat().st_mtime_ns) for path in _files(self.folder))
        if self._held is None or self._held[0] != stamps:
            self._held = stamps, self._read()
        return self._held[1]

    def revocations_at(self) -> datetime:
        """How fresh the list of revocations is; ``NEVER`` where there is none to rely on."""
        listed = self.standing().revocations
        now = datetime.fromtimestamp(self.clock(), UTC)
        return NEVER if listed is None or listed.issued > now + approval.SKEW else listed.issued

    def _read(self) -> Standing:
        root = read_root(self.folder)
        ignored: list[tuple[str, str]] = []
        reviews: list[Review] = []
        for path in sorted((self.folder / REVIEWS).glob(f"*{SUFFIX}")):
            try:
                reviews.append(approval.read_review(_bytes(path), root))
            except FederomeError as error:
                ignored.append((path.name, error.message))
        revocations = None
        if (self.folder / REVOCATIONS).is_file():
            try:
                # Against the far future: whether the list is from the future is asked at every use.
                later = datetime.max.replace(tzinfo=UTC) - approval.SKEW
                revocations = approval.read_revocations(_bytes(self.folder / REVOCATIONS), root, now=later)
            except FederomeError as error:
                ignored.append((REVOCATIONS, error.message))
        return Standing(root, approval.tally(reviews, root, revocations), revocations, tuple(ignored))


def read_root(folder: Path) -> Root:
    """The pinned root; ``Invalid`` if there is none, ``Refused`` if it was altered."""
    path = folder / ROOT
    if not path.is_file():
        raise Invalid(
            "no root of reviewers is pinned here.", where=str(path), remedy="Run: federome algorithm trust --first"
        )
    try:
        return approval.first_root(_bytes(path))
    except FederomeError as error:
        raise Refused(
            "the pinned root of reviewers does not stand up; nothing is approved.",
            codes=["algorithm_not_approved"],
            remedy="Install it again: federome algorithm trust --first",
        ) from error


def install_root(folder: Path, envelope: bytes, *, first: bool) -> Root:
    """Pin a first root by hand, or take the next one, which the pinned one's reviewers must have signed.

    With a first root the operator's own approvals are put aside, so that losing the root approves nothing.
    """
    if first:
        if (folder / ROOT).is_file() and read_root(folder) != approval.first_root(envelope):
            raise Refused(
                "another root is pinned here already.",
                codes=["wrong_state"],
                remedy="Install the roots that follow it, in order, without --first.",
            )
        root = approval.first_root(envelope)
    else:
        root = approval.next_root(read_root(folder), envelope)
    _write(folder / ROOT, envelope)
    own = folder / "approvals.json"
    if own.is_file():
        own.replace(folder / "approvals.before-root.json")
    return root


def install_revocations(folder: Path, envelope: bytes, *, now: datetime) -> Revocations:
    """Take a newer list of revocations; ``Refused`` if it is older than the one held, or drops an entry of it."""
    found = approval.read_revocations(envelope, read_root(folder), now=now, earlier=_held_revocations(folder))
    _write(folder / REVOCATIONS, envelope)
    return found


def install_reviews(folder: Path, envelopes_given: Sequence[bytes]) -> tuple[Tally, ...]:
    """Keep reviews beside those held, and say how the algorithms stand that they are about.

    ``Refused``, and nothing is kept, if one of them does not stand up; ``sign_off_missing`` if they do not suffice.
    """
    root = read_root(folder)
    reviews = [approval.read_review(envelope, root) for envelope in envelopes_given]
    held = _reviews(folder, root)
    about = {(review.name, review.version, review.digest) for review in reviews}
    tallies = approval.tally([*held, *reviews], root, _held_revocations(folder))
    touched = tuple(one for one in tallies if (one.name, one.version, one.digest) in about)
    if lacking := [one for one in touched if one.approval is None and not one.rejected_by]:
        raise Refused(
            f"{lacking[0].name} {lacking[0].version} is not approved: {lacking[0].lacks}.",
            codes=["sign_off_missing"],
            remedy="Hand in the reviews of one algorithm together.",
        )
    for envelope in envelopes_given:
        _write(folder / REVIEWS / f"{digest_bytes(envelope).removeprefix('sha256:')[:32]}{SUFFIX}", envelope)
    return touched


def kind_of(envelope: bytes) -> str:
    """The payload type of an envelope: what an operator's file is."""
    return envelopes.peek(envelope)[0]


def _reviews(folder: Path, root: Root) -> list[Review]:
    found = []
    for path in sorted((folder / REVIEWS).glob(f"*{SUFFIX}")):
        with suppress(FederomeError):  # told by ``verify``; here only what stands up counts
            found.append(approval.read_review(_bytes(path), root))
    return found


def _held_revocations(folder: Path) -> Revocations | None:
    """The list as it lies here. Its signer may have left with a newer root; its entries hold all the same."""
    path = folder / REVOCATIONS
    if not path.is_file():
        return None
    return Revocations.from_document(envelopes.peek(_bytes(path))[1], where=str(path))


def _files(folder: Path) -> list[Path]:
    fixed = [path for path in (folder / ROOT, folder / REVOCATIONS) if path.is_file()]
    return [*fixed, *sorted((folder / REVIEWS).glob(f"*{SUFFIX}"))]


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(envelopes.MAX_ENVELOPE_BYTES + 1)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data)
