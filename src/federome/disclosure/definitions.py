"""Nested definitions: two counts of the carriers of one gene, whose definitions differ by one variant, tell who has it.

The audit of cohorts compares whom a question is about. Here whom a definition counts among them is compared with whom
earlier definitions of the same thing counted, of the people whom both questions were about. Records are kept by
``network/defining.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.disclosure.differencing import Members
from federome.disclosure.sticky import uniforms
from federome.model.release import Policy

Numbers = NDArray[np.int64]

COMBINED: Final = 16
"""Of so many definitions of one thing over the same people, the latest, sums and differences are compared as well."""


@dataclass(frozen=True, eq=False)
class Definition:
    """Who meets a definition, by lasting numbers in ascending order, among the people whom a question is about.

    ``of`` is what is defined, a gene for instance; equal ``words`` are the same definition.
    """

    of: str
    words: str
    among: Members
    people: Numbers

    @cached_property
    def digest(self) -> str:
        """Identity of what was told: who, among whom, by which definition."""
        inner = hashlib.sha256(f"{self.of}\x00{self.words}\x00{self.among.digest}\x00".encode())
        inner.update(self.people.astype("<i8").tobytes())
        return inner.hexdigest()

    def within(self, among: Members) -> Numbers:
        """Those of them who are among some people."""
        if self.among is among or self.among.digest == among.digest:
            return self.people
        return self.people[among.holds(self.people)]


def is_near(new: Definition, earlier: Sequence[Definition], *, secret: bytes, policy: Policy) -> bool:
    """Whether a count by this definition, with counts by earlier ones of the same thing, would tell of few people.

    Two definitions must be at least k′ people apart, k′ drawn from k … 2k, of the people whom both questions were
    about. Not at all apart is too near as well: that nobody has what lies between two definitions would tell of
    everybody who is known to have it. The same definition may be asked about ever other people: how these differ is
    for the audit of cohorts. What was told before may be told again.
    """
    if any(new.digest == other.digest for other in earlier):
        return False
    k = policy.threshold
    within = k + int(uniforms(secret, new.digest, ["definition"])[0] * (k + 1))
    near = False
    for other in earlier:
        apart = np.setxor1d(new.within(other.among), other.within(new.among), assume_unique=True).size
        near |= apart < within and (apart > 0 or new.words != other.words)
    return near or _completes(new, earlier, within)


def _completes(new: Definition, earlier: Sequence[Definition], within: int) -> bool:
    """Whether this count and two or three earlier ones of the same people, added and subtracted, tell of few of them.

    Carriers of variants that are of one class and of one frequency are in four definitions: with and without the
    class, with and without the frequency. The sums compared are new + X = A + B, X earlier or nobody.
    """
    others = {
        other.words: other for other in earlier if other.words != new.words and other.among.digest == new.among.digest
    }
    sets = [new.people, *(other.people for other in [*others.values()][-COMBINED:])]
    if len(sets) < 3:
        return False
    people = np.unique(np.concatenate(sets))
    counted = np.stack([np.isin(people, some, assume_unique=True) for some in sets]).astype(np.int8)
    nobody = np.zeros_like(counted[:1])
    for one, other in combinations(range(1, len(sets)), 2):
        rest = np.delete(counted, (0, one, other), axis=0)
        apart = np.count_nonzero(counted[0] - counted[one] - counted[other] + np.concatenate([nobody, rest]), axis=1)
        if ((apart > 0) & (apart < within)).any():
            return True
    return False
