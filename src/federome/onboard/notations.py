"""V7 and V10: what is written in a notation of its own, TNM, HGVS and gene symbols, once for each different text.

HGVS names are those of genomes (``NC_…:g.``); of a transcript's, nobody here knows where it lies. With a reference
sequence, replaced bases are held against it, and each variant gets the identifier of GA4GH VRS 2.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from federome.cancer import staging
from federome.errors import Invalid
from federome.ingest.fasta import Fasta
from federome.model.genes import RENAMED
from federome.model.variant import Assembly
from federome.model.vrs import allele_id, normalised
from federome.onboard.convert import People
from federome.onboard.findings import FIRST, Finding
from federome.onboard.terms import items_found, rewrite
from federome.standards.beacon.sequences import read_hgvs

TNM: Final = "tnm"
GENES: Final = "genetic_diagnosis_genes"
HGVS: Final = "genetic_diagnosis_hgvs"
_DUPLICATED: Final = re.compile(r"dup[ACGTNacgtn]*$")


@dataclass(frozen=True)
class Reference:
    """Which assembly the dataset is of, and its sequence where there is one."""

    assembly: Assembly
    fasta: Fasta | None = None


def check_notations(people: People, reference: Reference, *, mend: bool) -> Iterator[Finding]:
    """What is wrong with stages, genes and variants; with ``mend``, withdrawn symbols of genes are rewritten."""
    yield from _stages(people)
    yield from _genes(people, mend=mend)
    yield from _variants(people, reference)


def identified(people: People, reference: Reference) -> dict[str, str]:
    """The VRS identifier of every variant of the table; empty without a reference sequence. Faults were told before."""
    if reference.fasta is None:
        return {}
    return {name: _identifier(name, reference.fasta) for name in _distinct(people, HGVS)}


def _distinct(people: People, field: str) -> list[str]:
    if field not in people.fields:
        return []
    found = people.connection.execute(f"SELECT DISTINCT unnest({field}) FROM people").fetchall()  # noqa: S608
    return sorted(str(text) for (text,) in found)


def _stages(people: People) -> Iterator[Finding]:
    kinds: dict[str, str] = {}
    for text in _distinct(people, TNM):
        try:
            kinds[text] = staging.parse(text).kind
        except Invalid:
            kinds[text] = ""
    wrong = [text for text, kind in kinds.items() if not kind]
    yield from items_found(
        people, TNM, wrong, "error", "V7", "this is no TNM.", "Write pT2 pN1a cM0, ypT0 ypN0 M0 or cT3 cN1 M1a."
    )
    if not kinds:
        return
    rows = people.connection.execute(f"SELECT rowid, {TNM} FROM people WHERE len({TNM}) > 1").fetchall()  # noqa: S608
    lines = [
        people.line(int(row))
        for row, texts in rows
        if len(said := [kinds[text] for text in texts if kinds[text]]) > len(set(said))
    ]
    if lines:
        yield Finding(
            "V7", "error", people.main.file, people.columns[TNM], "two clinical or two pathological TNM are given.",
            "Keep one clinical and one pathological.", len(lines), lines[:FIRST], "TNM", lambda: iter(lines),
        )  # fmt: skip


def _genes(people: People, *, mend: bool) -> Iterator[Finding]:
    old = {text: RENAMED[text.upper()] for text in _distinct(people, GENES) if RENAMED.get(text.upper(), text) != text}
    if not old:
        return
    level, message, remedy = "error", "the symbol of a gene was withdrawn by HGNC.", "--fix writes the approved one."
    if mend:
        level, message, remedy = "repaired", "a withdrawn symbol of a gene was rewritten.", "Nothing to do."
    yield from items_found(people, GENES, list(old), level, "V10", message, remedy)
    if mend:
        rewrite(people, GENES, old)


def _variants(people: People, reference: Reference) -> Iterator[Finding]:
    names = _distinct(people, HGVS)
    wrong: dict[str, list[str]] = {}
    for name in names:
        if (fault := _fault(name, reference)) is not None:
            wrong.setdefault(fault, []).append(name)
    for fault, remedy in _FAULTS.items():
        yield from items_found(people, HGVS, wrong.get(fault, []), "error", "V10", fault, remedy)
    if names and reference.fasta is None:
        yield Finding(
            "V10", "warning", people.main.file, people.columns[HGVS], "replaced bases of variants were not looked up.",
            "Give the reference sequence with --fasta.", len(names), (), "HGVS",
        )  # fmt: skip


_FORM: Final = "this is no genomic HGVS name."
_OTHER: Final = "the HGVS name is of another assembly than the dataset."
_OUTSIDE: Final = "the HGVS name lies outside its chromosome."
_BASES: Final = "the replaced bases are not those of the reference sequence."
_FAULTS: Final[Mapping[str, str]] = {
    _FORM: "Write NC_000019.10:g.11105408G>A, with del, ins, dup or delins; names of transcripts are not read.",
    _OTHER: "Lift it over, or correct the accession's version.",
    _OUTSIDE: "Correct the place.",
    _BASES: "Correct the place or the bases.",
}


def _fault(name: str, reference: Reference) -> str | None:
    try:
        change = _read(name)
    except Invalid:
        return _FORM
    if change.assembly not in (None, reference.assembly):
        return _OTHER
    fasta = reference.fasta
    if fasta is None:
        return None
    if not 0 <= change.start <= change.end <= fasta.lengths.get(change.chromosome, 0):
        return _OUTSIDE
    there = fasta.sequence(change.chromosome, change.start + 1, change.end - change.start)
    return _BASES if change.replaced not in (None, there) else None


@dataclass(frozen=True)
class _Change:
    """Places are counted from 0 between bases; ``replaced`` is None where the name does not say it, and ``inserted``
    None for the bases that are there, once more.
    """

    chromosome: str
    assembly: Assembly | None
    start: int
    end: int
    replaced: str | None
    inserted: str | None


def _read(name: str) -> _Change:
    if not re.match(r"(refseq:)?NC_", name, re.IGNORECASE):
        raise Invalid("no chromosome's accession.", where=HGVS)
    again = _DUPLICATED.search(name)
    plain = name[: again.start()] + "del" if again else name
    chromosome, assembly, first, last, replaced, inserted = read_hgvs(plain)
    said = re.search(r"(?:del|dup)([ACGTN]+)$", name, re.IGNORECASE)
    if said:
        replaced = said[1].upper()
        if len(replaced) != last - first + 1:
            raise Invalid("the bases are not as many as the places.", where=HGVS)
    if replaced == "":  # an insertion, behind its first base
        return _Change(chromosome, assembly, first, first, "", inserted)
    return _Change(chromosome, assembly, first - 1, last, replaced, None if again else inserted)


def _identifier(name: str, fasta: Fasta) -> str:
    change = _read(name)

    def bases(start: int, end: int) -> str:
        return fasta.sequence(change.chromosome, start + 1, end - start)

    start, inserted = change.start, change.inserted
    if inserted is None:
        start, inserted = change.end, bases(change.start, change.end)
    allele = normalised(start, change.end, inserted, bases, fasta.lengths[change.chromosome])
    return allele_id(fasta.refget(change.chromosome), allele)
