"""Calls of many people: equal genotypes are called once.

Pharmacogenes have few distinct genotypes, so calling costs what the distinct ones cost and people cost a look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federome.model.variant import Assembly
from federome.pgx.call import Call, Options, call
from federome.pgx.genes import MISSING, UNPHASED, Gene, Genotype


@dataclass(slots=True)
class PeopleGenotypes:
    """Codes and phase of everybody at the sites of one gene, (people, sites)."""

    first: NDArray[np.int8]
    second: NDArray[np.int8]
    phase: NDArray[np.int32]

    @classmethod
    def missing(cls, people: int, sites: int) -> PeopleGenotypes:
        """Nobody called anywhere."""
        shape = (people, sites)
        return cls(
            np.full(shape, MISSING, np.int8), np.full(shape, MISSING, np.int8), np.full(shape, UNPHASED, np.int32)
        )

    def of(self, person: int) -> Genotype:
        """One person's genotype."""
        rows = (self.first[person].tolist(), self.second[person].tolist(), self.phase[person].tolist())
        return Genotype(*(tuple(row) for row in rows))


@dataclass(frozen=True, slots=True)
class Genotypes:
    """Everybody's genotypes, gene by gene, and the assembly they were read on."""

    people: Sequence[str]
    assembly: Assembly
    genes: Mapping[str, PeopleGenotypes]


@dataclass(frozen=True, slots=True)
class CohortCalls:
    """The distinct calls of a gene, and which of them each person has."""

    calls: Sequence[Call]
    of: NDArray[np.int64]


def call_everybody(
    gene: Gene, people: PeopleGenotypes, rank: Callable[[str, str], float], options: Options | None = None
) -> CohortCalls:
    """Call one gene for everybody. Copies are put in one order where phase is open, so that fewer are distinct."""
    first, second = people.first, people.second
    swap = (first > second) & (people.phase == UNPHASED) & (second >= 0)
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    rows = np.concatenate([first.view(np.uint8), second.view(np.uint8), people.phase.view(np.uint8)], axis=1)
    numbers: dict[bytes, int] = {}
    examples: list[int] = []
    of = np.empty(len(rows), np.int64)
    for person, row in enumerate(np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel().tolist()):
        number = numbers.setdefault(row, len(examples))
        if number == len(examples):
            examples.append(person)
        of[person] = number
    ordered = PeopleGenotypes(first, second, people.phase)
    return CohortCalls([call(gene, ordered.of(person), rank, options) for person in examples], of)
