"""Genotypes at the sites of pharmacogenes, from a VCF, BCF or gVCF file of one or many people.

Each line is laid against the sites it touches: single bases by base, insertions and deletions by their trimmed form
(left-aligned where a reference sequence is given), reference blocks by the span they declare. A site nobody mentions
stays missing: absent is not reference. Phase and phase sets are kept, unlike in the store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cyvcf2 import VCF
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.ingest.contigs import LENGTHS, stored_chromosome
from federome.ingest.gvcf import MIN_DEPTH, MIN_QUALITY
from federome.ingest.normalise import is_indel, left_align
from federome.ingest.source import Chromosomes, check_people, plain
from federome.ingest.vcf import VcfHeader, genotypes_of, records
from federome.model.variant import Assembly, assembly_name, chromosome_class, trim
from federome.pgx.cohort import Genotypes, PeopleGenotypes
from federome.pgx.genes import MISSING, NO_COPY, OTHER, PHASED, UNPHASED, Gene, Site

Bases = Callable[[str, int, int], str]
"""Reference bases: chromosome, 1-based position, length."""

_BLOCKS = frozenset({"<NON_REF>", "<*>", "<X>", "."})
_MOST_WRONG = 0.2
"""From this share of lines on whose REF is not the reference's the file is of another assembly."""


@dataclass(frozen=True, slots=True)
class _Place:
    """One site of one gene, where the file's assembly has it."""

    gene: str
    number: int
    site: Site
    position: int
    ref: str

    @property
    def indel(self) -> bool:
        """Whether its alleles differ in length."""
        return any(is_indel(self.site.ref, alt) for alt in self.site.alts)


@dataclass
class _Reading:
    """What has been read so far."""

    header: VcfHeader
    genes: Mapping[str, Gene]
    assembly: Assembly
    bases: Bases | None
    calls: dict[str, PeopleGenotypes] = field(default_factory=dict)
    matched: int = 0
    wrong: int = 0
    first_wrong: int = 0

    def __post_init__(self) -> None:
        people = len(self.header.people)
        self.calls = {name: PeopleGenotypes.missing(people, len(gene.sites)) for name, gene in self.genes.items()}
        self.at: dict[str, dict[int, list[_Place]]] = defaultdict(lambda: defaultdict(list))
        self.variants: dict[tuple[str, int, str, str], list[tuple[_Place, int]]] = defaultdict(list)
        for name, gene in self.genes.items():
            for number, site in enumerate(gene.sites):
                own = self.assembly == "GRCh38"
                place = _Place(
                    name, number, site, *((site.position, site.ref) if own else (site.position37, site.ref37))
                )
                if not place.position:
                    continue
                self.at[site.chromosome][place.position].append(place)
                for code, alt in enumerate(site.alts, 1):
                    if place.indel and alt != place.ref:
                        self.variants[site.chromosome, *trim(place.position, site.ref, alt)].append((place, code))
        self.sorted = {name: np.array(sorted(places)) for name, places in self.at.items()}

    def between(self, chromosome: str, first: int, last: int) -> list[_Place]:
        """Sites of a span."""
        known = self.sorted.get(chromosome)
        if known is None:
            return []
        low, high = np.searchsorted(known, first), np.searchsorted(known, last, side="right")
        return [place for position in known[low:high].tolist() for place in self.at[chromosome][position]]


def read_genotypes(
    path: Path,
    genes: Mapping[str, Gene],
    *,
    assembly: Assembly | None = None,
    bases: Bases | None = None,
    in_order: bool = True,
) -> Genotypes:
    """Everybody's genotypes at the sites of these genes; ``Invalid`` names the line and the remedy.

    ``assembly`` is read from the header where it is not given, and is GRCh38 where that says nothing. Lines out of
    order are refused unless ``in_order`` is false: what else is wrong with such a file nobody knows.
    """
    header = VcfHeader(path)
    check_people(header.people, str(path))
    reading = _Reading(header, genes, _assembly(header, assembly), bases)
    order = Chromosomes(header.where)
    named: set[str] = set()
    number = 0
    for number, record in enumerate(records(header), 1):
        chromosome = stored_chromosome(record.CHROM)
        named.add(record.CHROM)
        if in_order:
            order.check(chromosome or record.CHROM, record.POS, number)
        if chromosome:
            _line(reading, record, chromosome, number)
    _check(reading, number, named)
    return Genotypes(header.people, reading.assembly, reading.calls)


def _assembly(header: VcfHeader, wanted: Assembly | None) -> Assembly:
    """What the header says; a contradiction with what was asked for is an error."""
    said: set[Assembly] = set()
    for name, length in header.lengths.items():
        said |= {assembly for assembly in LENGTHS if length and LENGTHS[assembly][name] == length}
    for text in header.assemblies:
        try:
            said.add(assembly_name(text))
        except Invalid:
            continue
    if len(said) > 1 or (wanted and said and wanted not in said):
        raise Invalid(
            f"the header says {' and '.join(sorted(said))}{f', not {wanted}' if wanted else ''}.",
            where=str(header.path),
            remedy="Name the assembly that the variants were called on, or correct the header.",
        )
    return wanted or (said.pop() if said else "GRCh38")


def _line(reading: _Reading, record: VCF, chromosome: str, number: int) -> None:
    """Lay one line against the sites it touches."""
    alts = tuple(record.ALT)
    if not alts or set(alts) <= _BLOCKS:
        end = int(record.INFO.get("END") or record.POS + len(record.REF) - 1)
        if places := reading.between(chromosome, record.POS, end):
            _block(reading, record, places, number)
        return
    codes: dict[_Place, list[int]] = {}
    ref = plain(record.REF)
    places = reading.between(chromosome, record.POS, record.POS + len(record.REF) - 1)
    for place in places:
        reading.matched += 1
        offset = place.position - record.POS
        length = min(len(ref) - offset, len(place.ref))
        if ref[offset : offset + length] != place.ref[:length]:
            reading.wrong += 1
            reading.first_wrong = reading.first_wrong or number
            continue
        codes[place] = [_ref_code(place), *(_code(place, record.POS, ref, alt) for alt in alts)]
    for index, alt in enumerate(alts, 1):
        allele = plain(alt)
        if allele and is_indel(ref, allele):
            for place, code in reading.variants.get(_key(reading, chromosome, record.POS, ref, allele), ()):
                codes.setdefault(place, [_ref_code(place)] + [OTHER] * len(alts))[index] = code
    if codes:
        _store(reading, record, codes, number)


def _key(reading: _Reading, chromosome: str, position: int, ref: str, alt: str) -> tuple[str, int, str, str]:
    if reading.bases is not None:
        known = reading.bases
        place, ref, alt, _ = left_align(position, ref, alt, lambda at, length: known(chromosome, at, length))
        return chromosome, place, ref, alt
    return (chromosome, *trim(position, ref, alt))


def _ref_code(place: _Place) -> int:
    """The code of the file's REF: on GRCh37 it may be an alternative."""
    return place.site.alleles.index(place.ref) if place.ref in place.site.alleles else OTHER


def _code(place: _Place, position: int, ref: str, alt: str) -> int:
    """The code of a line's ALT at a site, by base for sites of single bases; indels are matched by their form."""
    allele = plain(alt)
    offset = place.position - position
    if not allele:
        return OTHER
    if place.indel:
        changed, short, long = trim(position, ref, allele)
        touches = changed <= place.position + len(place.ref) - 1 and changed + len(short) > place.position
        inside = touches and (is_indel(short, long) or changed > place.position)
        return OTHER if inside else _ref_code(place)
    if not is_indel(ref, allele):
        base = allele[offset]
        return place.site.alleles.index(base) if base in place.site.alleles else OTHER
    changed, short, _ = trim(position, ref, allele)
    kept = place.position <= changed or place.position >= changed + len(short)
    return _ref_code(place) if kept else OTHER


def _block(reading: _Reading, record: VCF, places: Sequence[_Place], number: int) -> None:
    """A line without a variant, or a gVCF block: reference where it is called well enough."""
    alleles = genotypes_of(record, reading.header.where, number)
    for place in places:
        if len(record.REF) == 1 and place.position == record.POS and plain(record.REF) != place.ref[0]:
            reading.wrong += 1
            reading.first_wrong = reading.first_wrong or number
            continue
        reading.matched += 1
        if (code := _ref_code(place)) == OTHER:
            continue
        called = (alleles[:, 0] == 0) & ((alleles[:, 1] == 0) | (alleles[:, 1] == -2) | (alleles.shape[1] == 2))
        if record.INFO.get("END"):
            called &= _deep(record, ("MIN_DP", "DP"), MIN_DEPTH) & _deep(record, ("GQ",), MIN_QUALITY)
        table = reading.calls[place.gene]
        fresh = called & (table.first[:, place.number] == MISSING)
        alone = np.zeros(len(fresh), np.bool_) if alleles.shape[1] > 2 else np.ones(len(fresh), np.bool_)
        alone |= alleles[:, 1] == -2 if alleles.shape[1] > 2 else False
        _one_copy(reading, place, alone & fresh, number)
        table.first[fresh, place.number] = code
        table.second[fresh, place.number] = np.where(alone[fresh], NO_COPY, code)


def _deep(record: VCF, names: Sequence[str], least: int) -> NDArray[np.bool_]:
    for name in names:
        values = record.format(name) if name in record.FORMAT else None
        if values is not None:
            enough: NDArray[np.bool_] = np.asarray(values)[:, 0] >= least
            return enough
    return np.ones(len(record.genotypes), np.bool_)


def _store(reading: _Reading, record: VCF, codes: Mapping[_Place, Sequence[int]], number: int) -> None:
    """Put a line's genotypes where they belong; of several lines about a site variants go before reference."""
    alleles = genotypes_of(record, reading.header.where, number)
    one = alleles[:, 0]
    other = alleles[:, 1] if alleles.shape[1] > 2 else np.full(len(one), -2, np.int16)
    phased = alleles[:, -1] == 1
    phase = np.where(phased, PHASED, UNPHASED).astype(np.int32)
    if "PS" in record.FORMAT and (sets := record.format("PS")) is not None:
        phase = np.where(phased & (np.asarray(sets)[:, 0] > 0), np.asarray(sets)[:, 0], phase)
    _symbolic(reading, record, (one, other), codes, number)
    for place, known in codes.items():
        _one_copy(reading, place, (one >= 0) & (other == -2), number)
        table = np.array([*known, NO_COPY, MISSING], np.int8)  # read from its end: -1 missing, -2 no copy
        first, second = table[one], table[other]
        into = reading.calls[place.gene]
        here = into.first[:, place.number], into.second[:, place.number]
        default = _ref_code(place)
        for old, new in zip(here, (first, second), strict=True):
            take = (old == MISSING) | ((old == default) & (new != MISSING))
            old[take] = new[take]
        into.phase[:, place.number] = np.where(here[0] != here[1], phase, UNPHASED)


def _symbolic(
    reading: _Reading, record: VCF, alleles: Sequence[NDArray[np.int16]], codes: Mapping[_Place, object], number: int
) -> None:
    """Nobody may carry an allele that is only named, as <DEL>, at a site that matters."""
    for index, alt in enumerate(record.ALT, 1):
        if alt.startswith("<") and alt not in _BLOCKS and any((copy == index).any() for copy in alleles):
            genes = ", ".join(sorted({place.gene for place in codes}))
            raise Invalid(
                f"somebody carries a symbolic allele at a site of {genes}.",
                where=reading.header.where(number),
                remedy="Leave symbolic alleles out, and give what they mean as an outside call.",
            )


def _one_copy(reading: _Reading, place: _Place, alone: NDArray[np.bool_], number: int) -> None:
    """One copy is a genotype on X, Y and MT only."""
    region = chromosome_class(place.site.chromosome, place.position, reading.assembly)
    if region not in ("X", "Y", "MT") and alone.any():
        raise Invalid(
            f"a genotype has one copy on chromosome {place.site.chromosome}.",
            where=reading.header.where(number),
            remedy="Give diploid calls; write ./. where nothing is known.",
        )


def _check(reading: _Reading, lines: int, named: set[str]) -> None:
    where = str(reading.header.path)
    if not lines:
        raise Invalid("the file holds no variants.", where=where, remedy="Export it again.")
    if not any(stored_chromosome(name) for name in named):
        raise Invalid(
            f"none of its contigs is a chromosome ({sorted(named)[0][:40]!r} is the first).",
            where=where,
            remedy="Name contigs 1-22, X, Y, MT, chr1-chr22 …, or by RefSeq accession.",
        )
    if not reading.matched:
        raise Invalid(
            f"none of the {sum(len(gene.sites) for gene in reading.genes.values())} sites is in the file.",
            where=where,
            remedy="Absent is not reference: call at the positions of 'federome pgx sites', or give a gVCF.",
        )
    if reading.wrong > _MOST_WRONG * (reading.matched + reading.wrong) and reading.wrong > 1:
        raise Invalid(
            f"REF is not that of {reading.assembly} in {reading.wrong} of {reading.matched} lines, first here.",
            where=reading.header.where(reading.first_wrong),
            remedy="Name the assembly the variants were called on (--assembly GRCh37 or GRCh38).",
        )
