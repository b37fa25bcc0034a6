"""Variants of the Beacon Friendly Format: alleles, who carries them, what they do, and how often they were counted.

Carriers stand in each variant (``caseLevelData``), or in a file of their own by number of sample, as newer exports have
it. They are a source of genotypes like any VCF: REF is checked, spellings and ploidy made right on their way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.ingest.chunk import Chunk, Effects
from federome.ingest.source import ChunkBuilder, Tally, plain
from federome.model.protein import protein_change
from federome.model.variant import Assembly, assembly_name, chromosome_name, chromosome_rank
from federome.onboard.bff_people import People, dataset_of
from federome.onboard.bff_read import SEE, Entry, entries, find
from federome.standards.beacon.sequences import read_place
from federome.store.encode import MISSING
from federome.store.writer import DeclaredSex, GeneRegion

ONE, TWO = 1, 2
_COPIES: Final = {  # Genotype Ontology; hemizygous: the one copy there is
    "GENO:0000135": ONE, "GENO:0000402": ONE, "GENO:0000458": ONE, "GENO:0000136": TWO, "GENO:0000134": TWO,
    "GENO:0000604": TWO, "GENO:0000605": TWO, "GENO:0000606": TWO,
}  # fmt: skip
_TERM: Final = re.compile(r"[a-z0-9_']+")
_COUNTS: Final = ("alleleCount", "alleleNumber", "alleleCountHomozygous", "alleleCountHeterozygous",
                  "alleleCountHemizygous")  # fmt: skip
Place = tuple[str, int, str, str]
Counts = tuple[int | None, ...]
"""``alleleCount, alleleNumber`` and the three zygosities of one population."""


@dataclass
class Listed:
    """One variant of the file; ``calls`` is ``None`` where it does not say who carries it."""

    place: Place
    where: str
    effects: Effects
    genes: tuple[str, ...]
    calls: dict[int, int] | None
    counted: Mapping[str, Counts]


@dataclass
class Variants:
    """The variants of one dataset, in genome order."""

    assembly: Assembly
    listed: list[Listed] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def of_people(self) -> bool:
        """Whether it is said who carries them."""
        return any(each.calls is not None for each in self.listed)

    def genes(self) -> list[GeneRegion]:
        """Where genes lie, as far as their variants show it."""
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for each in self.listed:
            chromosome, position, ref, _ = each.place
            for gene in each.genes:
                first, last = found.get((gene, chromosome), (position, position))
                found[gene, chromosome] = min(first, position), max(last, position + len(ref) - 1)
        return [GeneRegion(gene, on, first, last) for (gene, on), (first, last) in sorted(found.items())]


class BffSource:
    """Implements ``ingest.source.Source`` over the variants of one dataset."""

    def __init__(self, variants: Variants, people: People, fingerprint: str) -> None:
        self._variants, self._people = variants, people
        self.people: Sequence[str] = people.names
        self.sexes: Sequence[DeclaredSex] | None = people.sexes
        self.lengths: Mapping[str, int] = {}
        self.assemblies: Sequence[str] = ()
        self.variants: int | None = len(variants.listed)
        self.provisional = False
        self.fingerprint = fingerprint

    def where(self, line: int) -> str:
        """File and entry of a variant."""
        return self._variants.listed[line - 1].where if line else "genomicVariations"

    def chunks(self, men: NDArray[np.bool_], assembly: Assembly, tally: Tally) -> Iterator[Chunk]:  # noqa: ARG002
        """All variants; people without a sample are not called."""
        uncalled = dict.fromkeys(set(range(len(self.people))) - self._people.called, MISSING)
        builder = ChunkBuilder("")
        for number, each in enumerate(self._variants.listed, 1):
            chromosome, position, ref, alt = each.place
            if chromosome != builder.chromosome or builder.full:
                yield from builder.finish()
                builder = ChunkBuilder(chromosome)
            calls = (each.calls or {}) | uncalled
            rows = np.array(sorted(calls), np.uint32)
            codes = np.array([calls[row] for row in rows.tolist()], np.uint8)
            builder.add((position, ref, alt), number, (rows, codes), each.effects)
        yield from builder.finish()


def read_variants(folder: Path, people: Mapping[str, People], assembly: Assembly | None) -> dict[str, Variants]:
    """Variants by dataset. ``assembly`` overrules what the entries say of it."""
    cases = _case_level(folder, people)
    found: dict[str, Variants] = {}
    for entry in entries(folder, "genomicVariations"):
        dataset = dataset_of(entry, people)
        told, place = _placed(entry, assembly)
        here = found.setdefault(dataset, Variants(told))
        if here.assembly != told:
            raise Invalid(
                f"this variant is on {told}, earlier ones of its dataset on {here.assembly}.",
                where=entry.where,
                remedy="If the entries are wrong about it, name the assembly: --assembly",
            )
        calls = _carriers(entry, dataset, people[dataset], cases)
        if place is None:
            here.left_out["genomicVariations: structural or symbolic alleles"] += 1
            continue
        effects, genes = _effects(entry, here.left_out)
        here.listed.append(Listed(place, entry.where, effects, genes, calls, _counted(entry)))
    if cases is not None:
        cases.check()
    for here in found.values():
        here.listed.sort(key=lambda each: (chromosome_rank(each.place[0]), *each.place[1:]))
        silent = [each for each in here.listed if each.calls is None]
        if here.of_people and silent:
            raise Invalid(
                "some variants say who carries them, this one does not.",
                where=silent[0].where,
                remedy="Give every variant its caseLevelData ([] where nobody carries it), or none.",
            )
    return found


def _placed(entry: Entry, assembly: Assembly | None) -> tuple[Assembly, Place | None]:
    """Assembly, and place and alleles in VCF's form; no place where alleles are not spelled out."""
    variation, position = entry.child("variation"), entry.child("_position")
    position = position if "assemblyId" in position or "refseqId" in position else entry.child("position")
    location = variation.child("location")
    hints = (
        position.text("refseqId"),
        entry.child("identifiers").text("genomicHGVSId").partition(":")[0],
        location.text("sequence_id").removeprefix("HGVSid:").partition(":g.")[0],
    )
    chromosome, told = _sequence(hints, entry)
    if "assemblyId" in position:
        told = assembly_name(position.text("assemblyId"))
    told = assembly or told
    if told is None:
        raise Invalid("the assembly is not said.", where=entry.where, remedy="Name it: --assembly GRCh38")
    ref, alt = plain(variation.text("referenceBases")), plain(variation.text("alternateBases"))
    interval = location.child("interval")
    start = interval.child("start").whole("value")
    if start is None:
        start = position.whole("startInteger")
    if not ref or not alt:
        return told, None
    if start is None:
        raise Invalid("the place is not said.", where=entry.at("variation"), remedy=SEE)
    return told, (chromosome, start + 1, ref, alt)


def _sequence(hints: Sequence[str], entry: Entry) -> tuple[str, Assembly | None]:
    """Chromosome and, where an accession says so, assembly."""
    for hint in filter(None, hints):
        if (found := read_place(hint)) is not None:
            return found
        try:
            return chromosome_name(hint), None
        except Invalid:
            continue
    raise Invalid("no chromosome is named.", where=entry.at("variation"), remedy=SEE)


def _effects(entry: Entry, left_out: Counter[str]) -> tuple[Effects, tuple[str, ...]]:
    told = entry.child("molecularAttributes")
    genes = tuple(dict.fromkeys(gene for gene in told.texts("geneIds") if gene.strip(".")))
    found: dict[tuple[str, str], None] = {}
    words = [each.text("label").lower().replace(" ", "_") for each in told.children("molecularEffects")]
    changes = []
    for text in told.texts("aminoacidChanges"):
        try:
            changes += [protein_change(text)] if text.strip(".") else []
        except Invalid:
            left_out["genomicVariations: changes of proteins that cannot be read"] += 1
    for gene in genes or ("",):
        found.update(dict.fromkeys((gene, word) for word in (*filter(_TERM.fullmatch, words), *changes)))
    return tuple(found), genes


def _carriers(entry: Entry, dataset: str, people: People, cases: Cases | None) -> dict[int, int] | None:
    if cases is None:
        return _calls(entry, people)
    names = _names(entry, "_id", "variantInternalId")
    return cases.take(dataset, [*names, *_names(entry.child("identifiers"), "genomicHGVSId")])


def _calls(entry: Entry, people: People) -> dict[int, int] | None:
    """Copies by row of person; ``None`` where the entry does not say who carries it."""
    if "caseLevelData" not in entry:
        return None
    found: dict[int, int] = {}
    for case in entry.children("caseLevelData"):
        row = people.row_of.get(case.text("biosampleId"), people.row_of.get(case.text("individualId")))
        copies = _copies(case)
        if row is None or found.setdefault(row, copies) != copies:
            raise Invalid(
                "this case is of no sample that is listed, or of one that is there twice.",
                where=case.at("biosampleId"),
                remedy="Each case names one sample of biosamples.json.",
            )
    return found


def _copies(case: Entry) -> int:
    zygosity = case.child("zygosity")
    alleles = re.split(r"[/|]", zygosity.text("label"))
    copies = _COPIES.get(zygosity.text("id"), 0)
    if not copies and all(each in ("0", "1") for each in alleles):
        copies = TWO if "0" not in alleles else ONE if "1" in alleles else 0
    if not copies:
        raise Invalid(
            "it is not said how many copies there are.",
            where=case.at("zygosity"),
            remedy="Write a term of the Genotype Ontology (GENO:0000135), or a label as 0/1.",
        )
    return copies


@dataclass
class Cases:
    """Carriers by variant from a file of their own; each is asked for once."""

    _calls: list[tuple[str, dict[int, int]]] = field(default_factory=list)
    _of: dict[tuple[str, str], int] = field(default_factory=dict)
    _used: set[int] = field(default_factory=set)

    def add(self, dataset: str, names: Sequence[str], where: str, calls: dict[int, int]) -> None:
        """Put down who carries a variant."""
        for name in names:
            if self._of.setdefault((dataset, name), len(self._calls)) != len(self._calls):
                raise Invalid("this variant is there twice.", where=where, remedy="Export the files together.")
        self._calls.append((where, calls))

    def take(self, dataset: str, names: Sequence[str]) -> dict[int, int]:
        """Who carries a variant; nobody where the file does not list it."""
        for name in names:
            if (number := self._of.get((dataset, name))) is not None:
                self._used.add(number)
                return self._calls[number][1]
        return {}

    def check(self) -> None:
        """``Invalid`` for entries of no variant."""
        for number, (where, _) in enumerate(self._calls):
            if number not in self._used:
                raise Invalid(
                    "this is of no variant in genomicVariations.", where=where, remedy="Export both files together."
                )


def _case_level(folder: Path, people: Mapping[str, People]) -> Cases | None:
    """Carriers from ``caseLevelData`` (by variant, number of sample: alleles) and ``targets`` (the samples' names)."""
    if find(folder, "caseLevelData") is None:
        return None
    rows: dict[str, list[int]] = {}
    for entry in entries(folder, "targets"):
        dataset = dataset_of(entry, people)
        known = people[dataset].row_of
        names = entry.texts("biosampleIds")
        if unknown := [number for number, name in enumerate(names, 1) if name not in known]:
            raise Invalid(
                f"{len(unknown):,} samples, the first being number {unknown[0]}, are not listed.",
                where=entry.at("biosampleIds"),
                remedy="Add them to biosamples.json.",
            )
        rows[dataset] = [known[name] for name in names]
        people[dataset].called.intersection_update(rows[dataset])
    cases = Cases()
    for entry in entries(folder, "caseLevelData"):
        dataset = dataset_of(entry, people)
        names = _names(entry, "_id", "id")
        if not names:
            raise Invalid("no variant is named.", where=entry.at("id"), remedy=SEE)
        cases.add(dataset, names, entry.where, _numbered(entry, rows.get(dataset, ())))
    return cases


def _numbered(entry: Entry, rows: Sequence[int]) -> dict[int, int]:
    """Copies by row of person, of an entry that has alleles by number of sample."""
    calls: dict[int, int] = {}
    for name, value in entry.items():
        if not name.isdigit():
            continue
        alleles = re.sub(r"[/|]", "", str(value))
        if int(name) >= len(rows) or not re.fullmatch("[01]{1,2}", alleles):
            raise Invalid(
                "this is of no sample in targets, or not one or two alleles.",
                where=entry.at(name),
                remedy="Write 01 or 11.",
            )
        if "1" in alleles:
            calls[rows[int(name)]] = ONE if "0" in alleles else TWO
    return calls


def _names(entry: Entry, *fields: str) -> list[str]:
    """What an entry is called; database keys that are no text are nothing to go by."""
    return [value for name in fields if isinstance(value := entry.value(name), str) and value]


def _counted(entry: Entry) -> dict[str, Counts]:
    """Counts by population, where the entry has any."""
    found: dict[str, Counts] = {}
    for source in entry.children("frequencyInPopulations"):
        for cell in source.children("frequencies"):
            name = cell.needed("population")
            name = "Total" if name.lower() in ("total", "totals", "all") else name
            counts = tuple(cell.whole(each) for each in _COUNTS)
            if counts[0] is not None and counts[1] is not None and counts[0] > counts[1]:
                raise Invalid("more alleles are counted than called.", where=cell.at("alleleCount"), remedy=SEE)
            if name in found:
                raise Invalid(
                    "a population is counted twice.",
                    where=cell.at("population"),
                    remedy="Keep the counts of one source.",
                )
            found[name] = counts
    return found
