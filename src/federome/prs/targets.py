"""The genotypes that a score is matched against: a PLINK 2 file set, a VCF or gVCF, or data releases of a store.

Stands between files and `match`: whatever the source, a target has people, sites by chromosome, genotype files that
the store's kernels read, and an answer to "was this place looked at?" where no variant is listed.
"""

from __future__ import annotations

import io
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.ingest.contigs import LENGTHS, declared, stored_chromosome
from federome.ingest.fasta import Fasta
from federome.ingest.regions import read_intervals
from federome.ingest.source import Chromosomes, check_people
from federome.ingest.vcf import VcfHeader, genotypes_of, records
from federome.model.variant import ASSEMBLIES, Assembly, assembly_name, is_position, trim
from federome.store import kernels
from federome.store.pgen import PgenFile, PgenWriter

Floats = NDArray[np.float64]
Wanted = Mapping[str, Sequence[int]]
"""Positions by chromosome, sorted."""
_ONE_COPY: Final = frozenset({"X", "Y", "MT"})
MIN_QUALITY, MIN_DEPTH = 20, 10
"""A gVCF block counts as looked at from this genotype quality and depth on, as at ingest."""


@dataclass(frozen=True, eq=False)
class Sites:
    """The listed variants of one chromosome, by position; ``file`` and ``number`` say where the genotypes are."""

    positions: list[int]
    refs: list[str]
    alts: list[str]
    file: list[int]
    number: list[int]

    def at(self, position: int) -> range:
        """Places of the variants at a position."""
        first = last = bisect_left(self.positions, position)
        while last < len(self.positions) and self.positions[last] == position:
            last += 1
        return range(first, last)


@dataclass(frozen=True, eq=False)
class Looked:
    """Where nothing listed means reference: sorted stretches by chromosome, or everywhere."""

    everywhere: bool = False
    starts: Mapping[str, list[int]] = field(default_factory=dict)
    ends: Mapping[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, stretches: Iterable[tuple[str, int, int]]) -> Looked:
        """From stretches (chromosome, first, last) in any order; those that touch are joined."""
        starts: dict[str, list[int]] = {}
        ends: dict[str, list[int]] = {}
        for chromosome, first, last in sorted(stretches):
            held = ends.setdefault(chromosome, [])
            if held and first <= held[-1] + 1:
                held[-1] = max(held[-1], last)
            else:
                starts.setdefault(chromosome, []).append(first)
                held.append(last)
        return cls(starts=starts, ends=ends)

    def at(self, chromosome: str, first: int, last: int) -> bool:
        """Whether all of a stretch was looked at."""
        if self.everywhere:
            return True
        place = bisect_right(self.starts.get(chromosome, []), first) - 1
        return place >= 0 and self.ends[chromosome][place] >= last

    def __bool__(self) -> bool:
        return self.everywhere or bool(self.starts)


@dataclass(frozen=True, eq=False)
class Target:
    """People and their genotypes. ``reference`` gives reference bases (chromosome, position, length), or nothing."""

    where: str
    assembly: Assembly
    people: Sequence[str]
    files: tuple[PgenFile, ...]
    sites: Mapping[str, Sites]
    looked: Looked
    reference: Callable[[str, int, int], str]

    known: dict[int, tuple[NDArray[np.int64], NDArray[np.int32]]] = field(default_factory=dict)
    """By file: variants that were asked for before, sorted, and their genotype counts."""

    def counts(self, places: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
        """Genotype counts of some variants (file, number) of everybody: [variants, 4]."""
        spots = np.array(places, np.int64).reshape(-1, 2)
        out = np.empty((len(spots), 4), np.int64)
        for number in np.unique(spots[:, 0]).tolist():
            mine = np.flatnonzero(spots[:, 0] == number)
            out[mine] = self._counted(number, spots[mine, 1])
        return out

    def uncalled(self, places: Sequence[tuple[int, int]], person: int) -> set[tuple[int, int]]:
        """Which of these variants (file, number) one person has no genotype of."""
        alone = kernels.Masks.of(np.arange(len(self.people)) == person)
        spots = np.array(places, np.int64).reshape(-1, 2)
        out: set[tuple[int, int]] = set()
        for number in np.unique(spots[:, 0]).tolist():
            variants = np.unique(spots[spots[:, 0] == number, 1])
            counts = kernels.counts_masked(self.files[number], variants, alone)[:, 0]
            out |= {(number, variant) for variant in variants[counts[:, 3] > 0].tolist()}
        return out

    def _counted(self, number: int, variants: NDArray[np.int64]) -> NDArray[np.int32]:
        """Counts of one file's variants."""
        held, counts = self.known.get(number, (np.empty(0, np.int64), np.empty((0, 4), np.int32)))
        new = np.setdiff1d(variants, held)
        if len(new):
            counts = np.concatenate([counts, kernels.counts(self.files[number], new)])
            held = np.concatenate([held, new])
            order = np.argsort(held)
            held, counts = self.known[number] = held[order], counts[order]
        return counts[np.searchsorted(held, variants)]


def assembly_of(lengths: Mapping[str, int], named: Iterable[str], given: str, *, where: str) -> Assembly:
    """The assembly that headers state or that was given; ``Invalid`` if they contradict each other or nobody says."""
    told: set[Assembly] = set()
    for name in named:
        try:
            told.add(assembly_name(name))
        except Invalid:
            continue
    for chromosome, length in lengths.items():
        told |= {each for each in ASSEMBLIES if length and LENGTHS[each][chromosome] == length and chromosome != "MT"}
    if given:
        told.add(assembly_name(given))
    if len(told) != 1:
        raise Invalid(
            "the header and what was given name different assemblies."
            if told
            else "nothing says which assembly it is.",
            where=where,
            remedy="Say --assembly GRCh37 or GRCh38, as the genotypes really are.",
        )
    return told.pop()


def no_reference(chromosome: str, position: int, length: int) -> str:  # noqa: ARG001
    """Nothing known of the reference sequence."""
    return ""


def from_fasta(path: Path | None) -> Callable[[str, int, int], str]:
    """Reference bases from an indexed FASTA file."""
    if path is None:
        return no_reference
    fasta = Fasta.open(path)
    return lambda chromosome, position, length: fasta.sequence(chromosome, position, length)


def open_target(
    path: Path,
    wanted: Callable[[Assembly], Wanted],
    *,
    scratch: Path,
    assembly: str = "",
    callable_bed: Path | None = None,
    reference: Path | None = None,
    raw: bool = False,
) -> Target:
    """A target from a .pgen, or a VCF, BCF or gVCF file. ``wanted`` gives the positions that matter on an assembly.

    Genotypes of a VCF go into a file in ``scratch``. ``raw`` keeps alleles as they are written, and variants with
    several ALT alleles as several sites of one record, as pgsc_calc sees them; otherwise alleles are trimmed.
    Raises ``Invalid`` naming file and line.
    """
    if path.suffix == ".pgen":
        target = _of_pgen(path, wanted, assembly=assembly, raw=raw)
    elif path.name.endswith((".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")):
        target = _of_vcf(path, wanted, scratch=scratch, assembly=assembly)
    else:
        raise Invalid(
            "the genotypes are neither PLINK 2 nor VCF.", where=str(path), remedy="Give a .pgen or .vcf file."
        )
    looked = target.looked
    if callable_bed is not None:
        found = read_intervals(callable_bed, target.assembly)
        held = [(c, s, e) for c in looked.starts for s, e in zip(looked.starts[c], looked.ends[c], strict=True)]
        looked = Looked.of([*held, *((each.chromosome, each.start, each.end) for each in found)])
    return Target(
        target.where, target.assembly, target.people, target.files, target.sites, looked, from_fasta(reference)
    )


class SiteList:
    """Collects sites of any order and gives them back by chromosome and position."""

    def __init__(self) -> None:
        self._held: dict[str, list[tuple[int, int, int, str, str]]] = {}

    def add(self, chromosome: str, position: int, ref: str, alt: str, file: int, number: int) -> None:
        """One variant."""
        self._held.setdefault(chromosome, []).append((position, file, number, ref, alt))

    def sites(self) -> dict[str, Sites]:
        """Everything, sorted by position, file and number, then as added."""
        out = {}
        for chromosome, rows in self._held.items():
            rows.sort(key=itemgetter(0, 1, 2))
            positions, files, numbers, refs, alts = (list(column) for column in zip(*rows, strict=True))
            out[chromosome] = Sites(positions, refs, alts, files, numbers)
        return out


def _of_pgen(path: Path, wanted: Callable[[Assembly], Wanted], *, assembly: str, raw: bool) -> Target:
    where = str(path)
    if not path.is_file():
        raise Invalid("there is no such file.", where=where, remedy="Name the .pgen; .pvar and .psam lie beside it.")
    people, (lengths, named) = _psam_people(path.with_suffix(".psam")), declared(_pvar_head(path))
    found = assembly_of(lengths, named, assembly, where=where)
    places = {chromosome: frozenset(positions) for chromosome, positions in wanted(found).items()}
    listed = SiteList()
    known: dict[str, tuple[str, frozenset[int]]] = {}
    number = 0
    for number, (contig, position, ref, alt) in enumerate(_pvar_rows(path), 1):
        if contig not in known:
            chromosome = stored_chromosome(contig)
            known[contig] = chromosome, places.get(chromosome, frozenset())
        chromosome, near = known[contig]
        if raw:
            if position in near:
                several = "," if "," in alt else ""
                for each in alt.split(","):
                    listed.add(chromosome, position, ref, each + several, 0, number - 1)
            continue
        if near and (len(ref) > 1 or len(alt) > 1) and "," not in alt:
            position, ref, alt = trim(position, ref.upper(), alt.upper())
        if position in near:
            listed.add(chromosome, position, ref, alt, 0, number - 1)
    file = PgenFile.open(path)
    if file.variants != number:
        raise Invalid("the variant table and the genotypes differ in length.", where=where, remedy="Copy both again.")
    if file.people != len(people):
        raise Invalid("the sample table and the genotypes differ in length.", where=where, remedy="Copy both again.")
    return Target(where, found, people, (file,), listed.sites(), Looked(), no_reference)


def _psam_people(path: Path) -> list[str]:
    """Sample names of the table beside a .pgen."""
    try:
        text = path.read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line[:2] != "##"] if text[:2] == "##" else text.splitlines()
    except (OSError, UnicodeDecodeError):
        raise Invalid("the sample table is missing or not UTF-8.", where=str(path), remedy="Copy it again.") from None
    head = lines[0].lstrip("#").split("\t") if lines and lines[0].startswith("#") else []
    if "IID" not in head:
        raise Invalid("the sample table has no header #IID.", where=f"{path}:1", remedy="Add the header line.")
    at = head.index("IID")
    people = [line.split("\t", at + 1)[at] if line.count("\t") >= at else "" for line in lines[1:]]
    if "" in people:
        number = len(lines) - len(people) + people.index("") + 1
        raise Invalid("the line names nobody.", where=f"{path}:{number}", remedy="Separate columns by tabs.")
    check_people(people, str(path))
    return people


def _pvar_head(path: Path) -> list[str]:
    """The lines of the variant table's header."""
    head: list[str] = []
    for line in _pvar_lines(path):
        if not line.startswith("#"):
            break
        head.append(line)
    return head


def _pvar_table(path: Path) -> Path:
    """The variant table beside a .pgen."""
    plain = path.with_suffix(".pvar")
    return plain if plain.is_file() else path.with_suffix(".pvar.zst")


def _pvar_lines(path: Path) -> Iterator[str]:
    table = _pvar_table(path)
    try:
        with ExitStack() as streams:
            raw = streams.enter_context(table.open("rb"))
            stream = zstandard.ZstdDecompressor().stream_reader(raw) if table.suffix == ".zst" else raw
            yield from streams.enter_context(io.TextIOWrapper(stream, encoding="utf-8"))
    except (OSError, UnicodeDecodeError, zstandard.ZstdError):
        raise Invalid("the variant table is missing or cut off.", where=str(table), remedy="Copy it again.") from None


def _pvar_rows(path: Path) -> Iterator[tuple[str, int, str, str]]:
    """(contig, position, REF, ALT) of every line of the variant table beside a .pgen."""
    for number, line in enumerate(_pvar_lines(path), 1):
        if line[0] == "#":
            continue
        fields = line.split("\t", 5)
        if len(fields) < 5 or not is_position(fields[1]):
            raise Invalid(
                "the line has no position, REF and ALT.",
                where=f"{_pvar_table(path)}:{number}",
                remedy="Copy the file again.",
            )
        yield fields[0], int(fields[1]), fields[3], fields[4] if len(fields) > 5 else fields[4].rstrip("\r\n")


def _of_vcf(path: Path, wanted: Callable[[Assembly], Wanted], *, scratch: Path, assembly: str) -> Target:
    header = VcfHeader(path)
    if not header.people:
        raise Invalid("the file has no samples.", where=str(path), remedy="Give genotypes of people, not sites only.")
    found = assembly_of(header.lengths, header.assemblies, assembly, where=str(path))
    places = {chromosome: set(positions) for chromosome, positions in wanted(found).items()}
    reading = _VcfReading(header, places)
    order = Chromosomes(header.where)
    for line, record in enumerate(records(header), 1):
        order.check(stored_chromosome(record.CHROM) or record.CHROM, record.POS, line)
        reading.take(record, line)
    if not reading.named:
        raise Invalid(
            "no contig of the file is a chromosome.",
            where=str(path),
            remedy="Name contigs 1-22, X, Y, MT (with or without chr), or by RefSeq accessions.",
        )
    out = scratch / "genotypes.pgen"
    rows = np.array(reading.rows, np.int8).reshape(-1, len(header.people))
    files: tuple[PgenFile, ...] = ()
    if len(rows):
        with PgenWriter(out, len(header.people), max_variants=len(rows)) as writer:
            writer.append_many(rows)
        files = (PgenFile.open(out),)
    looked = Looked.of(reading.blocks)
    return Target(str(path), found, header.people, files, reading.listed.sites(), looked, no_reference)


class _VcfReading:
    """Keeps the genotypes at wanted places and, of a gVCF, where everybody is reference."""

    def __init__(self, header: VcfHeader, places: Mapping[str, set[int]]) -> None:
        self.header = header
        self.places = places
        self.ordered = {chromosome: sorted(held) for chromosome, held in places.items()}
        self.listed = SiteList()
        self.rows: list[NDArray[np.int8]] = []
        self.blocks: list[tuple[str, int, int]] = []
        self.named: dict[str, str] = {}

    def take(self, record: object, line: int) -> None:
        """One record."""
        contig, position = record.CHROM, record.POS  # type: ignore[attr-defined]
        chromosome = self.named[contig] if contig in self.named else self._name(contig)
        near = self.places.get(chromosome)
        if not near:
            return
        ref, alts = record.REF.upper(), [each.upper() for each in record.ALT]  # type: ignore[attr-defined]
        real = [each for each in alts if not each.startswith("<") and each not in ("*", ".")]
        if not real:
            self._block(chromosome, record, line)
            return
        spots = [(number, *trim(position, ref, alt)) for number, alt in enumerate(alts, 1) if alt in real]
        spots = [spot for spot in spots if spot[1] in near]
        if not spots:
            return
        alleles = genotypes_of(record, self.header.where, line)[:, :-1]
        called = (alleles >= 0).any(axis=1) & (alleles != -1).all(axis=1)
        unread = [number for number, alt in enumerate(alts, 1) if alt not in real]
        if unread:  # who has one of these has fewer copies of REF, and of which sequence instead nobody says
            called &= ~np.isin(alleles, unread).any(axis=1)
        alone = (alleles == -2).any(axis=1) if alleles.shape[1] == 2 else np.ones(len(alleles), np.bool_)
        if chromosome not in _ONE_COPY and alone.any():
            raise Invalid(
                "a genotype has one allele, on a chromosome of which everybody has two.",
                where=self.header.where(line),
                remedy="Give diploid calls: 0/1, or ./. where nothing is known.",
            )
        for number, at, first, second in spots:
            copies = (alleles == number).sum(axis=1) * np.where(alone, 2, 1)
            self.listed.add(chromosome, at, first, second, 0, len(self.rows))
            self.rows.append(np.where(called, copies, -1).astype(np.int8))

    def _name(self, contig: str) -> str:
        name = stored_chromosome(contig)
        if name:
            self.named[contig] = name
        return name

    def _block(self, chromosome: str, record: object, line: int) -> None:
        """A stretch without variants: reference where everybody is called so with enough depth and quality."""
        first = record.POS  # type: ignore[attr-defined]
        last = max(int(record.end), first)  # type: ignore[attr-defined]
        held = self.ordered[chromosome]
        if bisect_left(held, first) == bisect_right(held, last):
            return
        alleles = genotypes_of(record, self.header.where, line)[:, :-1]
        sure = bool(((alleles == 0) | (alleles == -2)).all())
        for name, least in (("GQ", MIN_QUALITY), ("MIN_DP", MIN_DEPTH), ("DP", MIN_DEPTH)):
            values = record.format(name) if name in record.FORMAT else None  # type: ignore[attr-defined]
            if values is not None and not (name == "DP" and "MIN_DP" in record.FORMAT):  # type: ignore[attr-defined]
                sure = sure and bool((np.asarray(values) >= least).all())
        if sure:
            self.blocks.append((chromosome, first, last))
