"""The differencing audit: two answers about nearly the same people would tell, by their difference, of the few between.

Every cohort about which something was released stays on record as a set of people. A new cohort is compared with all
of them, and with unions and differences of two of the latest, before anything about it leaves. Records are kept by
``cohorts.py`` in memory or in a file.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from federome.disclosure.sticky import sticky_k
from federome.errors import Invalid, Refused
from federome.model.release import Policy
from federome.model.table import Mask
from federome.model.wording import Wording

FOLDED: Final = 32
DEPTH: Final = 100
Words = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Members:
    """A set of people as packed bits by their lasting numbers at the node; trailing zero words are left out.

    Numbers must mean the same person in every data release, so that cohorts of different releases can be compared.
    """

    words: Words
    said: bytes = b""
    """By which words they were asked for when they were told of (``Wording.token``); no part of who they are."""

    def __post_init__(self) -> None:
        if len(self.words) and not self.words[-1]:
            left = self.words[::-1] != 0
            object.__setattr__(self, "words", self.words[: len(left) - int(left.argmax()) if left.any() else 0])

    @classmethod
    def of(cls, mask: Mask) -> Members:
        """From a truth value for each person, shape (people,)."""
        if mask.ndim != 1 or mask.dtype != np.bool_:
            raise Invalid("a cohort is one truth value for each person.")
        packed = np.packbits(mask, bitorder="little")
        return cls.from_bytes(packed.tobytes() + bytes(-len(packed) % 8))

    @classmethod
    def from_bytes(cls, data: bytes) -> Members:
        """Inverse of :meth:`to_bytes`."""
        if len(data) % 8:
            raise Invalid("a packed cohort is a whole number of 64-bit words.")
        return cls(np.frombuffer(data, "<u8").astype(np.uint64, copy=False))

    def asked(self, said: bytes) -> Members:
        """The same people, asked for by these words."""
        return Members(self.words, said)

    def to_bytes(self) -> bytes:
        """Little-endian words, the first person in the lowest bit."""
        return (self.words if sys.byteorder == "little" else self.words.astype("<u8")).tobytes()

    @cached_property
    def folded(self) -> Words:
        """The set in 2,048 bits (FOLDED words): of the people who share a bit it says whether they are odd in number.

        That of a symmetric difference is the exclusive or of both; so no two sets are closer than these bits, and sets
        of any size that have nothing to do with each other are about a thousand bits apart.
        """
        padded = np.concatenate([self.words, np.zeros(-len(self.words) % FOLDED, np.uint64)])
        return np.asarray(np.bitwise_xor.reduce(padded.reshape(-1, FOLDED), axis=0), np.uint64)

    @cached_property
    def size(self) -> int:
        """Number of people."""
        return int(np.bitwise_count(self.words).sum(dtype=np.int64))

    @cached_property
    def digest(self) -> str:
        """Identity of the set of people, however it was selected."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def holds(self, numbers: NDArray[np.int64]) -> Mask:
        """Which of some people, by number, are in the set."""
        at = numbers >> 6
        inside = at < len(self.words)
        held = np.zeros(len(numbers), np.bool_)
        bits = self.words[at[inside]] >> (numbers[inside] & 63).astype(np.uint64)
        held[inside] = (bits & np.uint64(1)).astype(np.bool_)
        return held

    def __and__(self, other: Members) -> Members:
        length = min(len(self.words), len(other.words))
        return Members(self.words[:length] & other.words[:length])

    def __or__(self, other: Members) -> Members:
        short, long = sorted((self.words, other.words), key=len)
        out = long.copy()
        out[: len(short)] |= short
        return Members(out)

    def __xor__(self, other: Members) -> Members:
        short, long = sorted((self.words, other.words), key=len)
        out = long.copy()
        out[: len(short)] ^= short
        return Members(out)

    def __sub__(self, other: Members) -> Members:
        return self ^ (self & other)


class Cohorts(Protocol):
    """Cohorts released before, of one node and whatever belongs together: a permit, a project, the public."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Nobody else checks or adds in between; once it is left, what was added or seen is there for good."""

    def near(self, cohort: Members, within: int) -> Iterator[Members]:
        """All earlier cohorts that may differ from this one by fewer than ``within`` people."""

    def recent(self, count: int) -> Sequence[Members]:
        """The latest so many cohorts."""

    def add(self, cohort: Members) -> None:
        """Put a cohort on record."""


def admit(cohort: Members, earlier: Cohorts, *, by: Wording, secret: bytes, policy: Policy) -> bool:
    """Check a cohort and put it on record, in one step. True if exactly these people were answered about before.

    Call it for the cohort and for each stratum that is told of. Open data is not audited. Raises as :func:`check`.
    """
    if policy.open_data:
        return False
    with earlier.exclusive():
        same = check(cohort, earlier, by=by, secret=secret, policy=policy)
        if not same:
            earlier.add(cohort.asked(by.token(secret)))
    return same


def check(cohort: Members, earlier: Cohorts, *, by: Wording, secret: bytes, policy: Policy) -> bool:
    """Whether a cohort is an earlier one; ``Refused`` (``differencing``) if it nearly is, or is by other words.

    Nearly: another set of people, but fewer than k′ (:func:`sticky_k`) apart from an earlier cohort, or from the
    union of two of the last 100 that hardly overlap, or from one of them without another that it nearly holds.
    Not at all apart is too near as well (``Policy.same_people``), unless words alone say that these are the same: else
    an answer would tell that nobody lies between. Everything is compared before anything is refused.
    """
    within, said = sticky_k(secret, cohort.digest, policy), by.token(secret)
    strict = policy.same_people == "refuse"
    near = [((cohort ^ other).size, other.said) for other in earlier.near(cohort, within)]
    same = [words for distance, words in near if not distance]
    close = any(0 < distance < within for distance, _ in near) or (strict and bool(same))
    pairs = _close_to_two(cohort, earlier.recent(DEPTH), within)
    made = {pair for distance, pair in pairs if not distance} if strict else set()
    known = {frozenset(words.token(secret) for words in pair) for pair in by.splits()} if made else set()
    close |= any(distance for distance, _ in pairs) or not made <= known
    if said in same or (same and not strict):
        return True
    if close:
        raise Refused(
            "this cohort is one that was answered about before in other words, or nearly one: the two answers "
            "together would tell of the few people between them, or that there are none.",
            codes=["differencing"],
            remedy="Ask in the words of your earlier question, or about a cohort that differs by many more people.",
        )
    return False


def bits_apart(one: Words, other: Words) -> NDArray[np.int64]:
    """How many bits differ between folded sets, (n, FOLDED), and another or as many others: their distance at least."""
    return np.asarray(np.bitwise_count(one ^ other).sum(axis=1, dtype=np.int64))


def _close_to_two(cohort: Members, recent: Sequence[Members], within: int) -> list[tuple[int, frozenset[bytes]]]:
    """Counts about which two earlier cohorts, added or subtracted, nearly give a count about this one, or give it.

    How many people apart, and the words of the two.

    An overlap (or overhang) and a distance below ``within`` leave the exclusive or of all three below twice that: a
    test of their folded bits, after which hardly any pair is left to be looked at.
    """
    if len(recent) < 2:
        return []
    folded = np.stack([members.folded for members in recent])
    possible = np.zeros((len(recent), len(recent)), np.bool_)
    _mark_near(folded, folded ^ cohort.folded, 2 * within, possible)
    found = []
    for first, second in np.argwhere(possible).tolist():
        one, other = recent[first], recent[second]
        both = one & other
        for made, loose in ((one | other, both), (one ^ both, other ^ both), (other ^ both, one ^ both)):
            if loose.size < within and (distance := (cohort ^ made).size) < within:
                found.append((distance, frozenset((one.said, other.said))))
    return found


@njit(nogil=True, cache=True)
def _mark_near(folded: Words, shifted: Words, limit: int, out: Mask) -> None:
    """Mark pairs (i < j) of rows of which fewer than ``limit`` bits of ``shifted[i]`` and ``folded[j]`` differ."""
    for first in range(folded.shape[0]):
        for second in range(first + 1, folded.shape[0]):
            apart = np.int64(0)
            for word in range(folded.shape[1]):
                bits = shifted[first, word] ^ folded[second, word]
                bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
                bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
                bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
                apart += np.int64((bits * np.uint64(0x0101010101010101)) >> np.uint64(56))
                if apart >= limit:
                    break
            out[first, second] = apart < limit
