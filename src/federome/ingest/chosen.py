"""Some of a source's samples under the names of the people they come from: ``samples.tsv`` of a batch folder.

Laboratories name samples, hospitals name people. The table says which sample is whose; a sample that it does not name
is left out, as if it had never been in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.ingest.chunk import Chunk
from federome.ingest.source import Source, Tally
from federome.model.variant import Assembly
from federome.store.writer import DeclaredSex

NAME = "samples.tsv"
HEADER = "sample\tperson_id"


def read_samples(path: Path) -> dict[str, str]:
    """Sample -> person. ``Invalid`` with the line for anything but two different names a line, each once."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines or lines[0] != HEADER:
        raise Invalid("the table of samples has another header.", where=f"{path}:1", remedy=f"Write {HEADER!r}.")
    found: dict[str, str] = {}
    people: set[str] = set()
    for number, line in enumerate(lines[1:], 2):
        sample, tab, person = line.partition("\t")
        if not tab or not sample or not re.fullmatch(r"\S{1,100}", person) or sample in found or person in people:
            raise Invalid(
                "a sample or a person is missing or stands twice.",
                where=f"{path}:{number}",
                remedy="One line a sample.",
            )
        found[sample] = person
        people.add(person)
    return found


class Chosen:
    """A source without the samples that nobody chose. Implements ``source.Source``."""

    def __init__(self, source: Source, people: Mapping[str, str]) -> None:
        absent = len(set(people) - set(source.people))
        if absent:
            raise Invalid(
                f"{absent:,} samples of {NAME} are not in the genotypes.",
                where=source.where(0),
                remedy="Correct the table, or give their genotypes.",
            )
        self.inner = source
        self._rows = np.array([row for row, sample in enumerate(source.people) if sample in people], np.int64)
        self.people: Sequence[str] = tuple(people[source.people[row]] for row in self._rows)
        self._place = np.full(len(source.people), -1, np.int64)
        self._place[self._rows] = np.arange(self._rows.size)

    @property
    def sexes(self) -> Sequence[DeclaredSex] | None:
        """See ``Source``."""
        sexes = self.inner.sexes
        return None if sexes is None else [sexes[row] for row in self._rows.tolist()]

    @property
    def lengths(self) -> Mapping[str, int]:
        """See ``Source``."""
        return self.inner.lengths

    @property
    def assemblies(self) -> Sequence[str]:
        """See ``Source``."""
        return self.inner.assemblies

    @property
    def variants(self) -> int | None:
        """See ``Source``."""
        return self.inner.variants

    @property
    def provisional(self) -> bool:
        """See ``Source``."""
        return self.inner.provisional

    @property
    def fingerprint(self) -> str:
        """See ``Source``; the people are compared by the store itself."""
        return self.inner.fingerprint

    def where(self, line: int) -> str:
        """See ``Source``."""
        return self.inner.where(line)

    def chunks(self, men: NDArray[np.bool_], assembly: Assembly, tally: Tally) -> Iterator[Chunk]:
        """See ``Source``; ``men`` is of the chosen people."""
        everybody = np.zeros(len(self.inner.people), np.bool_)
        everybody[self._rows] = men
        for chunk in self.inner.chunks(everybody, assembly, tally):
            yield self._without_others(chunk)

    def _without_others(self, chunk: Chunk) -> Chunk:
        place = self._place[chunk.carriers]
        keep = place >= 0
        kept = np.concatenate([[0], np.cumsum(keep)])
        return replace(
            chunk,
            offsets=kept[chunk.offsets],
            carriers=place[keep].astype(np.uint32),
            codes=chunk.codes[keep],
        )
