"""gVCF files, one or several people each, as a source of genotypes in which reference and unknown are told apart.

Variants of all files and the store's known sites make one list of sites, window by window. At each of them a person is
what the person's own line says; else two copies of REF where a reference block with enough depth and quality covers
the place; else not called. Files are read through their index, so memory holds one window of sites.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from cyvcf2 import VCF
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.ingest.chunk import Chunk
from federome.ingest.contigs import LENGTHS, check_position, stored_chromosome
from federome.ingest.known import KnownSites, Site
from federome.ingest.source import ChunkBuilder, Tally, check_people, fingerprint, plain
from federome.ingest.vcf import CallReader, VcfHeader, genotypes_of, opened, parsed
from federome.model.variant import Assembly, trim
from federome.store.encode import MISSING, as_calls
from federome.store.writer import DeclaredSex

MIN_QUALITY, MIN_DEPTH = 20, 10
"""A reference block counts as called from this genotype quality (phred) and depth on; fields it lacks are not asked."""

WINDOW = 1_000_000
_REFERENCE_ALTS = frozenset({"<NON_REF>", "<*>", "<X>", "."})


class GvcfSource:
    """gVCF files of different people, each with its index."""

    provisional = False
    sexes: Sequence[DeclaredSex] | None = None
    variants: int | None = None

    def __init__(self, paths: Sequence[Path], known: KnownSites) -> None:
        if not paths:
            raise Invalid("the folder holds no gVCF files.", where="gvcf", remedy="Add .g.vcf.gz or .bcf files.")
        self._headers = [VcfHeader(path) for path in paths]
        self._known = known
        self.people: Sequence[str] = tuple(name for header in self._headers for name in header.people)
        check_people(self.people, str(paths[0].parent))
        for path in paths:
            _check_index(path)
        self.lengths: Mapping[str, int] = {n: size for header in self._headers for n, size in header.lengths.items()}
        named = [name for header in self._headers for name in header.assemblies]
        self.assemblies: Sequence[str] = tuple(dict.fromkeys(named))

    @property
    def fingerprint(self) -> str:
        """See `Source`; the store's known sites are not part of it."""
        return fingerprint([header.path for header in self._headers])

    def where(self, line: int) -> str:
        """The folder, or the file of that number (1 for the first)."""
        return str(self._headers[line - 1].path if line else self._headers[0].path.parent)

    def chunks(self, men: NDArray[np.bool_], assembly: Assembly, tally: Tally) -> Iterator[Chunk]:
        """See `Source`. A line of the report is a record of a file."""
        calls = CallReader(men, assembly, tally)
        readers: list[_Reader] = []
        column = 0
        for header in self._headers:
            columns = slice(column, column := column + len(header.people))
            readers.append(_Reader(header, len(readers) + 1, columns, calls))
        try:
            for chromosome in self.lengths:
                builder = ChunkBuilder(chromosome)
                for first in range(1, LENGTHS[assembly][chromosome] + 1, WINDOW):
                    window = _Window(chromosome, first, first + WINDOW - 1, self.people)
                    window.add_sites(self._known.between(chromosome, window.first, window.last))
                    for reader in readers:
                        window.add(reader.read(window))
                    for site, line, row in window.rows():
                        listed = np.flatnonzero(row).astype(np.uint32)
                        builder.add(site, line, (listed, row[listed].view(np.uint8) & np.uint8(MISSING)))
                        if builder.full:
                            yield from builder.finish()
                yield from builder.finish()
        finally:
            for reader in readers:
                reader.close()
        if not tally.lines:
            raise Invalid("the files hold no records.", where=self.where(0), remedy="Export them again.")


class _Part:
    """What one file says about a window: reference stretches, called places, and carriers of its alleles."""

    def __init__(self, number: int, columns: slice) -> None:
        self.number = number
        self.columns = columns
        self.stretches: list[tuple[int, int, NDArray[np.bool_]]] = []  # start, end, who is called as reference
        self.spans: list[tuple[int, int, NDArray[np.int8]]] = []  # start, end, 0 reference there or -1 unknown
        self.alleles: list[tuple[Site, NDArray[np.int8]]] = []


class _Reader:
    """One gVCF file, read by region."""

    def __init__(self, header: VcfHeader, number: int, columns: slice, calls: CallReader) -> None:
        self._header = header
        self._number = number
        self._columns = columns
        self._calls = calls
        self._file = opened(header.path)
        self._contigs = {name: contig for contig in self._file.seqnames if (name := stored_chromosome(contig))}

    def close(self) -> None:
        self._file.close()

    def read(self, window: _Window) -> _Part:
        """All records that touch the window; those that start before it count for its part of them only."""
        part = _Part(self._number, self._columns)
        contig = self._contigs.get(window.chromosome)
        if contig is None:
            return part
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a contig without records has no entry in the index
            found = self._file(f"{contig}:{window.first}-{window.last}")
            where = f"{self._header.path}, {contig}:{window.first}-{window.last}, record "
            for record in parsed(found, self._header, lambda number: f"{where}{number}"):
                self._read(record, window, part)
        return part

    def _read(self, record: VCF, window: _Window, part: _Part) -> None:
        tally = self._calls.tally
        starts_here = window.first <= record.POS
        tally.lines += starts_here
        where = self._header.path
        check_position(window.chromosome, record.end, self._calls.assembly, where=str(where))
        ref = plain(record.REF)
        if not ref:
            raise Invalid(
                "REF is not a sequence of bases.", where=f"{where}, position {record.POS}", remedy="Correct REF."
            )
        alts = [(number, plain(alt)) for number, alt in enumerate(record.ALT, 1)]
        alleles = genotypes_of(record, lambda _: f"{where}, position {record.POS}", 0)
        given = alleles[:, :-1]
        if not any(alt for _, alt in alts):
            tally.symbolic += starts_here and not _REFERENCE_ALTS.issuperset(record.ALT or ["."])
            called = (given != -1).all(axis=1) & (given <= 0).all(axis=1) & _good(record)
            part.stretches.append((record.POS, record.end, called))
            return
        called = (given != -1).all(axis=1)
        part.stretches.append((record.POS, record.POS, called))
        if len(ref) > 1:
            # inside the replaced bases only those without any ALT allele are known to be reference
            inside = np.where(called & (given <= 0).all(axis=1), 0, -1).astype(np.int8)
            part.spans.append((record.POS + 1, record.POS + len(ref) - 1, inside))
        tally.split += starts_here and sum(bool(alt) for _, alt in alts) > 1
        self._calls.expect(window.chromosome, record.POS, part.columns)
        for number, alt in alts:
            if alt and alt != ref:
                carriers, codes = self._calls.of(alleles, number, counted=starts_here)
                row = np.zeros(len(self._header.people), np.int8)
                row[carriers] = as_calls(codes)
                part.alleles.append((trim(record.POS, ref, alt), row))


class _Window:
    """The sites of a stretch of one chromosome, and everybody's genotypes there."""

    def __init__(self, chromosome: str, first: int, last: int, people: Sequence[str]) -> None:
        self.chromosome = chromosome
        self.first = first
        self.last = last
        self._people = len(people)
        self._lines: dict[Site, int] = {}
        self._parts: list[_Part] = []

    def add_sites(self, known: Sequence[Site]) -> None:
        """Sites of the store that lie here."""
        self._lines.update(dict.fromkeys(known, 0))

    def add(self, part: _Part) -> None:
        """One file's records; its alleles become sites where they lie here."""
        self._parts.append(part)
        for site, _ in part.alleles:
            if self.first <= site[0] <= self.last:
                self._lines[site] = self._lines.get(site) or part.number

    def rows(self) -> Iterator[tuple[Site, int, NDArray[np.int8]]]:
        """Each site with a file that names it, and genotypes int8 [people], −1 not called."""
        sites = sorted(self._lines)
        if not sites:
            return
        positions = np.array([site[0] for site in sites])
        numbers = {site: number for number, site in enumerate(sites)}
        calls = np.full((len(sites), self._people), -1, np.int8)
        for part in self._parts:
            own = calls[:, part.columns]
            for start, end, called in part.stretches:
                low, high = np.searchsorted(positions, [start, end + 1])
                own[low:high, called] = 0
            for start, end, inside in part.spans:
                low, high = np.searchsorted(positions, [start, end + 1])
                own[low:high] = inside
            for site, row in part.alleles:
                if site in numbers:
                    own[numbers[site]] = row
        for number, site in enumerate(sites):
            yield site, self._lines[site], calls[number]


def _good(record: VCF) -> NDArray[np.bool_]:
    """Who has the quality and depth to be believed reference; a field that is absent is not asked."""
    good = np.ones(len(record.genotype.array()), np.bool_)
    for name, least in (("GQ", MIN_QUALITY), ("MIN_DP" if "MIN_DP" in record.FORMAT else "DP", MIN_DEPTH)):
        if name in record.FORMAT:
            good &= record.format(name)[:, 0] >= least
    return good


def _check_index(path: Path) -> None:
    if not any(path.with_name(path.name + suffix).is_file() for suffix in (".tbi", ".csi")):
        raise Invalid("the gVCF file has no index.", where=str(path), remedy=f"Run: bcftools index {path.name}")
