"""Calls made by other tools: for genes a VCF cannot tell (CYP2D6, HLA), or instead of what it tells.

One line a gene, tab-separated: gene, diplotype, phenotype, activity score; the last two, or the first of them, may be
empty or absent. An outside call replaces the call from the VCF. Of what one line says, activity goes before phenotype
and phenotype before diplotype; where they contradict each other the result says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from federome.errors import Invalid

_HLA = re.compile(r"(?:HLA-)?(?P<locus>[A-Z]+[0-9]?)?\*?(?P<fields>[0-9]{2,4}(?::(?:[0-9]{2,4}|[A-Z]{2,5}))*[A-Z]?)")


@dataclass(frozen=True, slots=True)
class OutsideCall:
    """One line: ``alleles`` are the two (or one) copies as written, ``(gene)``-less; empty where none is given."""

    gene: str
    alleles: tuple[str, ...]
    phenotype: str
    activity: float | None


def read_outside(text: str, *, where: str) -> dict[str, OutsideCall]:
    """All calls of a file by gene; ``Invalid`` names the line and what to do."""
    found: dict[str, OutsideCall] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#") or line.lower().startswith("gene\t"):
            continue
        each = _line(line, f"{where}:{number}")
        if each.gene in found:
            raise Invalid(f"{each.gene} is called twice.", where=f"{where}:{number}", remedy="Keep one line a gene.")
        found[each.gene] = each
    return found


def _line(line: str, where: str) -> OutsideCall:
    cells = [cell.strip() for cell in line.split("\t")]
    if not 2 <= len(cells) <= 4:
        raise Invalid(
            "this line has not two to four cells.",
            where=where,
            remedy="Write gene, diplotype, phenotype and activity score with tabs between them.",
        )
    gene, diplotype, phenotype, activity = [*cells, "", ""][:4]
    if not re.fullmatch(r"[A-Za-z0-9-]{2,12}", gene):
        raise Invalid("the first cell is no gene symbol.", where=where, remedy="Write one such as CYP2D6 or HLA-B.")
    if not (diplotype or phenotype or activity):
        raise Invalid("the line calls nothing.", where=where, remedy="Give a diplotype, phenotype or activity score.")
    alleles = _alleles(diplotype.removeprefix(gene).strip(), where)
    if gene.startswith("HLA-"):
        alleles = tuple(_hla(gene, allele, where) for allele in alleles)
    return OutsideCall(gene, alleles, phenotype, _number(activity, where))


def _alleles(diplotype: str, where: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in diplotype.split("/")) if diplotype else ()
    if len(parts) > 2:
        raise Invalid(
            "a diplotype has more than two alleles.",
            where=where,
            remedy="Write copies of one chromosome together, as *1/*2x2 or *36+*10/*1.",
        )
    if any(not part for part in parts):
        raise Invalid("an allele name is empty.", where=where, remedy="Write both alleles, as *1/*4.")
    return parts


def _hla(gene: str, allele: str, where: str) -> str:
    """An HLA allele as ``*57:01:01``, however a laboratory writes it; a group (``*57``, ``*57:XX``) stays one."""
    found = _HLA.fullmatch(allele)
    if not found or found["locus"] not in (None, gene.removeprefix("HLA-")):
        raise Invalid(
            f"that is no allele of {gene}.",
            where=where,
            remedy="Write two fields or more, as *57:01 or B*57:01:01; leave out a copy that was not typed.",
        )
    return f"*{found['fields']}"


def _number(activity: str, where: str) -> float | None:
    if not activity:
        return None
    try:
        value = float(activity.lstrip("≥"))
    except ValueError:
        value = -1.0
    if not 0 <= value < 100:
        raise Invalid("the activity score is no number.", where=where, remedy="Write one such as 1.25.")
    return value


def copies(allele: str) -> Sequence[tuple[str, int]]:
    """The units of one chromosome with their numbers: ``*2x3`` is three of *2, ``*36+*10`` one of each."""
    units = []
    for unit in re.split(r"\s*\+\s*", allele.strip("[] ")):
        found = re.fullmatch(r"(.+?)\s*x\s*(?:≥\s*)?([0-9]+)", unit)
        units.append((found[1].strip(), int(found[2])) if found else (unit, 1))
    return units
