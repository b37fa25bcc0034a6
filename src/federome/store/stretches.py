"""Stretches of the genome that a batch of people comes with; read from files without a database's libraries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GeneRegion:
    """Where a gene lies: 1-based, both ends included."""

    symbol: str
    chromosome: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch in which absence of a variant means reference: 1-based, both ends included."""

    chromosome: str
    start: int
    end: int
