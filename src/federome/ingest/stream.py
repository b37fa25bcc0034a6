"""Between source and store: REF checked, variants in their one spelling, sorted, each once, ploidy made right.

A stream of chunks goes in and comes out, chromosome by chromosome; at most one chunk and what lies within the reach
of left alignment is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.ingest.chunk import Chunk, enforce_ploidy, swapped
from federome.ingest.contigs import LENGTHS, check_position
from federome.ingest.fasta import Fasta
from federome.ingest.known import KnownSites
from federome.ingest.normalise import MAX_SHIFT, is_indel, left_align
from federome.ingest.source import Source, Tally
from federome.model.variant import Assembly, oriented, trim

_COMPLEMENT = {"A": "T", "T": "A", "C": "G", "G": "C"}
_BASES = np.zeros(256, np.bool_)
_BASES[list(b"ACGT")] = True


@dataclass(frozen=True, slots=True)
class Stream:
    """How the chunks of one source become the store's."""

    source: Source
    assembly: Assembly
    men: NDArray[np.bool_]
    tally: Tally
    fasta: Fasta | None
    known: KnownSites

    def __iter__(self) -> Iterator[Chunk]:
        """Chunks ready to be written. Raises ``Invalid`` with file and line."""
        held: Chunk | None = None
        reach = MAX_SHIFT if self.fasta else 0
        for chunk in self.source.chunks(self.men, self.assembly, self.tally):
            if held is None or held.chromosome != chunk.chromosome:
                if held is not None:
                    yield from self._finished(held)
                held = None
            self._check_positions(chunk)
            settled = int(chunk.positions[-1]) - reach  # whatever comes later lies here or beyond
            chunk = self._with_references(chunk)
            chunk = self._normalised(chunk)
            chunk = _sorted(held.followed_by(chunk) if held is not None and len(held) else chunk)
            ready = int(np.searchsorted(chunk.positions, settled))
            yield from self._finished(chunk.part(0, ready))
            held = chunk.part(ready, len(chunk))
        if held is not None:
            yield from self._finished(held)

    def _check_positions(self, chunk: Chunk) -> None:
        """``Invalid`` for the first position that the assembly's chromosome does not have; they are sorted."""
        length = LENGTHS[self.assembly][chunk.chromosome]
        outside = int(np.searchsorted(chunk.positions, length, side="right"))
        for index in (0, outside):
            if index < len(chunk):
                where = self.source.where(int(chunk.lines[index]))
                check_position(chunk.chromosome, int(chunk.positions[index]), self.assembly, where=where)

    def _with_references(self, chunk: Chunk) -> Chunk:
        """Refuse variants whose REF is not the reference; swap alleles that the file itself calls provisional."""
        wrong = self._against_fasta(chunk, self.fasta) if self.fasta else self._against_known(chunk)
        rows: dict[int, NDArray[np.int8]] = {}
        refs, alts = list(chunk.refs), list(chunk.alts)
        for index, reference in wrong:
            ref, alt = refs[index], alts[index]
            ambiguous = _COMPLEMENT.get(ref) == alt  # an exchange of strands looks like one of alleles
            if not self.source.provisional or alt != reference or len(ref) > 1 or ambiguous:
                raise self._mismatch(chunk, index)
            rows[index] = swapped(chunk.row(index, self.men.size))
            refs[index], alts[index] = alt, ref
        self.tally.swapped += len(rows)
        return replace(chunk.with_rows(rows), refs=refs, alts=alts) if rows else chunk

    def _against_fasta(self, chunk: Chunk, fasta: Fasta) -> list[tuple[int, str]]:
        """(number, reference) of the variants whose REF is another; ambiguous reference bases match anything."""
        bases = fasta.bases(chunk.chromosome, chunk.positions)
        first = np.frombuffer("".join(ref[0] for ref in chunk.refs).encode(), np.uint8)
        suspect = (bases != first) & _BASES[bases]
        suspect |= np.fromiter((len(ref) > 1 for ref in chunk.refs), np.bool_, len(chunk))
        wrong = []
        for index in np.flatnonzero(suspect).tolist():
            ref = chunk.refs[index]
            reference = fasta.sequence(chunk.chromosome, int(chunk.positions[index]), len(ref))
            if any(a != b and b in "ACGT" for a, b in zip(ref, reference, strict=True)):
                wrong.append((index, reference))
        return wrong

    def _against_known(self, chunk: Chunk) -> list[tuple[int, str]]:
        """(number, stored REF) of variants at a known position whose REF begins otherwise."""
        first, last = int(chunk.positions[0]), int(chunk.positions[-1])
        known = {position: ref for position, ref, _ in self.known.between(chunk.chromosome, first, last)}
        if not known:
            return []
        wrong = []
        for index, (position, ref) in enumerate(zip(chunk.positions.tolist(), chunk.refs, strict=True)):
            theirs = known.get(position, "")
            shared = min(len(ref), len(theirs))
            if ref[:shared] != theirs[:shared]:
                wrong.append((index, theirs))
        return wrong

    def _mismatch(self, chunk: Chunk, index: int) -> Invalid:
        other = "the reference sequence" if self.fasta else "what the store knows of this position"
        return Invalid(
            f"REF at {chunk.chromosome}:{int(chunk.positions[index]):,} is not that of {other}.",
            where=self.source.where(int(chunk.lines[index])),
            remedy="Check assembly and strand; bcftools norm --check-ref lists all such lines."
            if self.fasta
            else "Check assembly and strand, or give the reference sequence (--fasta) to decide.",
        )

    def _normalised(self, chunk: Chunk) -> Chunk:
        """Trimmed; indels left-aligned with a reference, else flagged."""
        longer = [i for i, (r, a) in enumerate(zip(chunk.refs, chunk.alts, strict=True)) if len(r) > 1 or len(a) > 1]
        if not longer:
            return chunk
        positions, flags = chunk.positions.copy(), chunk.not_left_aligned.copy()
        refs, alts = list(chunk.refs), list(chunk.alts)
        for index in longer:
            place = (int(positions[index]), refs[index], alts[index])
            positions[index], refs[index], alts[index], flags[index] = self._spelled(chunk.chromosome, place)
        return replace(chunk, positions=positions, refs=refs, alts=alts, not_left_aligned=flags)

    def _spelled(self, chromosome: str, place: tuple[int, str, str]) -> tuple[int, str, str, bool]:
        """One variant's normal form, and whether it is an indel that may stand elsewhere."""
        fasta = self.fasta
        if fasta is None:
            position, ref, alt, reached = *trim(*place), False
        else:
            position, ref, alt, reached = left_align(*place, partial(fasta.sequence, chromosome))
        return position, ref, alt, is_indel(ref, alt) and not reached

    def _finished(self, chunk: Chunk) -> Iterator[Chunk]:
        """Duplicates out, ploidy right; nothing if nothing is left."""
        if not len(chunk):
            return
        chunk = self._unique(chunk)
        chunk, changed = enforce_ploidy(chunk, self.men, self.assembly)
        self.tally.ploidy_calls += changed
        self.tally.not_left_aligned += int(np.count_nonzero(chunk.not_left_aligned))
        yield chunk

    def _unique(self, chunk: Chunk) -> Chunk:
        """Drop repeated variants with the same genotypes; ``Invalid`` where the genotypes differ."""
        dropped: list[int] = []
        first: dict[tuple[str, str], int] = {}
        position = -1
        for index in np.flatnonzero(_shared(chunk.positions)).tolist():
            if chunk.positions[index] != position:
                first, position = {}, int(chunk.positions[index])
            # single bases with REF and ALT exchanged are the same variant, longer alleles are not
            earlier = first.setdefault(oriented(chunk.refs[index], chunk.alts[index])[:2], index)
            if earlier == index:
                continue
            if chunk.refs[earlier] != chunk.refs[index] or not chunk.same_genotypes(earlier, index):
                raise Invalid(
                    f"the variant at {chunk.chromosome}:{position:,} stands twice with different genotypes.",
                    where=self.source.where(int(chunk.lines[index])),
                    remedy="Merge the lines (bcftools norm -m +any, then -m -any) or remove one of them.",
                )
            dropped.append(index)
        self.tally.duplicates += len(dropped)
        return chunk.take(np.delete(np.arange(len(chunk)), dropped)) if dropped else chunk


def _shared(positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the sorted positions stand there more than once."""
    again = np.zeros(positions.size, np.bool_)
    equal = positions[1:] == positions[:-1]
    again[1:] |= equal
    again[:-1] |= equal
    return again


def _sorted(chunk: Chunk) -> Chunk:
    """By position, then REF and ALT, so that equal content has one order."""
    rising = chunk.positions[1:] > chunk.positions[:-1]
    if rising.all():
        return chunk
    keys = zip(chunk.positions.tolist(), chunk.refs, chunk.alts, chunk.lines.tolist(), strict=True)
    order = [index for index, _ in sorted(enumerate(keys), key=lambda item: item[1])]
    return chunk.take(np.array(order, np.int64))
