"""Nested definitions: two counts of the carriers of one gene, whose definitions differ by one variant, tell who has it.

The audit of cohorts compares whom a question is about. Here whom a definition counts among them is compared with whom
earlier definitions of places that it shares counted, of the people whom both questions were about. Names do not matter:
a gene, its other symbol, a neighbour that overlaps it, a region and a variant in it are compared by where they lie.
Records are kept by ``network/defining.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.disclosure.differencing import Members
from federome.disclosure.sticky import uniforms
from federome.model.release import Policy
from federome.model.variant import Region

Numbers = NDArray[np.int64]

COMBINED: Final = 16
"""Of so many related definitions over the same people, the latest, sums and differences are compared as well."""


@dataclass(frozen=True, eq=False)
class Definition:
    """Who meets a definition, by lasting numbers in ascending order, among the people whom a question is about.

    ``of`` is the kind of count and what is defined, "carriers LDLR" for instance; of one thing equal ``words`` are the
    same definition. ``places`` are where the variants lie that may count. ``annotated`` says that of these only those
    count which are annotated with this gene.
    """

    of: str
    words: str
    among: Members
    people: Numbers
    places: tuple[Region, ...] = ()
    annotated: bool = False

    @cached_property
    def digest(self) -> str:
        """Identity of what was told: who, among whom, by which definition."""
        inner = hashlib.sha256(f"{self.of}\x00{self.words}\x00{self.among.digest}\x00".encode())
        inner.update(self.people.astype("<i8").tobytes())
        return inner.hexdigest()

    @property
    def name(self) -> tuple[str, str]:
        """Equal for the same definition of one thing."""
        return self.of, self.words

    @property
    def kind(self) -> str:
        """What is counted of a thing: kinds are not compared with each other."""
        return self.of.partition(" ")[0]

    def meets(self, other: Definition) -> bool:
        """Whether both count one thing in one way, or one variant could count for both. Nobody's data are asked.

        Genes overlap, and a question asks them all by the same words. Hardly a variant is annotated with two genes, but
        with two names of one: where both count by annotation, they must share half of the longer one.
        """
        if self.kind != other.kind:
            return False
        shared = sum(_shared(one, each) for one in self.places for each in other.places)
        if self.annotated and other.annotated and self.words == other.words:
            return self.of == other.of or 2 * shared >= max(_bases(self.places), _bases(other.places)) > 0
        return self.of == other.of or shared > 0

    def within(self, among: Members) -> Numbers:
        """Those of them who are among some people."""
        if self.among is among or self.among.digest == among.digest:
            return self.people
        return self.people[among.holds(self.people)]


def _shared(one: Region, other: Region) -> int:
    if one.chromosome != other.chromosome:
        return 0
    return max(0, min(one.end, other.end) - max(one.start, other.start) + 1)


def _bases(places: Sequence[Region]) -> int:
    return sum(each.end - each.start + 1 for each in places)


def is_near(new: Definition, earlier: Sequence[Definition], *, secret: bytes, policy: Policy) -> bool:
    """Whether a count by this definition, with counts by earlier ones that meet it, would tell of few people.

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
    met = [other for other in earlier if new.meets(other)]
    for other in met:
        apart = np.setxor1d(new.within(other.among), other.within(new.among), assume_unique=True).size
        near |= apart < within and (apart > 0 or new.name != other.name)
    return near or _completes(new, met, earlier, within)


def _completes(new: Definition, met: Sequence[Definition], earlier: Sequence[Definition], within: int) -> bool:
    """Whether this count and two or three earlier ones of the same people, added and subtracted, tell of few of them.

    Carriers of variants that are of one class and of one frequency are in four definitions: with and without the
    class, with and without the frequency. A region is the sum of its parts. The sums compared are new + X = A + B, of
    which A meets the new one and the others meet that one or it; X and B may be nobody, not both.
    """
    first = {other.name: other for other in met if other.name != new.name and other.among.digest == new.among.digest}
    kept = [*first.values()][-COMBINED:]
    second = {
        other.name: other
        for other in earlier
        if other.name not in first
        and other.name != new.name
        and other.among.digest == new.among.digest
        and any(each.meets(other) for each in kept)
    }
    sets = [new.people, *(each.people for each in (*kept, *[*second.values()][-COMBINED:]))]
    if not kept or len(sets) < 3:
        return False
    people = np.unique(np.concatenate(sets))
    counted = np.stack([np.isin(people, some, assume_unique=True) for some in sets]).astype(np.int8)
    counted = np.concatenate([counted, np.zeros_like(counted[:1])])
    nobody = len(sets)
    for one in range(1, 1 + len(kept)):
        for other in range(one + 1, nobody + 1):
            rest = np.delete(counted, (0, one, other), axis=0)
            apart = np.count_nonzero(counted[0] - counted[one] - counted[other] + rest, axis=1)
            if ((apart > 0) & (apart < within)).any():
                return True
    return False
