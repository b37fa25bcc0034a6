"""From alleles to function, activity score and phenotype, by the tables; what they do not say stays unsaid."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from federome.pgx.call import Call
from federome.pgx.genes import Diplotype
from federome.pgx.outside import OutsideCall, copies
from federome.pgx.tables import Tables

INDETERMINATE = "Indeterminate"
STATUS = {"HLA-A": ("*31:01",), "HLA-B": ("*15:02", "*57:01", "*58:01")}
"""Genes whose guidance asks whether one allele is there."""
_COPIES = 2

_HEMIZYGOUS = {"G6PD": "Sex Chromosome"}
_ONE_COPY = ("G6PD", "MT-RNR1")
"""Of these somebody may have one copy only."""
_SEVERAL_NAMES = re.compile(r", | \(|\)")


@dataclass(frozen=True, slots=True)
class Possible:
    """One diplotype that remains possible, with what follows from it. ``probability`` is ``None`` if unknown."""

    name: str
    functions: tuple[str, ...]
    activity: float | None
    phenotype: str
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class GeneResult:
    """What is told about a gene: all that is possible, and the phenotype when the possibilities agree on it.

    ``others`` also explain the genotype, with fewer sites in their favour; guidance does not follow them.
    ``results`` are what guidance looks for: a phenotype, or for HLA whether each allele asked about is there.
    """

    gene: str
    source: str  # "matcher" or "outside"
    possible: tuple[Possible, ...]
    others: tuple[Possible, ...]
    phenotype: str
    activity: float | None
    results: tuple[str, ...]
    call: Call | None
    notes: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether anything can be looked up."""
        return bool(self.results)


def from_call(tables: Tables, call: Call, frequencies: Mapping[str, float] | None = None) -> GeneResult:
    """What follows from a matcher call, weighted by allele frequencies where they are given."""
    weights = probabilities([*call.decides, *call.others], frequencies)
    told = call.diplotypes if len(call.diplotypes) == len(call.decides) else call.decides
    possible = tuple(
        _possible(tables, call.gene, decides.alleles, name=shown.name, probability=weight)
        for decides, shown, weight in zip(call.decides, told, weights, strict=False)
    )
    others = tuple(
        _possible(tables, call.gene, each.alleles, name=each.name, probability=weight)
        for each, weight in zip(call.others, weights[len(call.decides) :], strict=True)
    )
    agreed = {each.phenotype for each in possible}
    activities = {each.activity for each in possible}
    phenotype = agreed.pop() if len(agreed) == 1 else ""
    notes = call.notes
    if len(possible) > 1:
        saying = f"all mean {phenotype}" if phenotype else "they do not agree on a phenotype"
        notes = (*notes, f"{len(possible)} diplotypes remain possible; {saying}.")
    if others and {each.phenotype for each in others} - {phenotype}:
        likely = [each.probability for each in others if each.probability is not None]
        weight = f", with probability {sum(likely):.2g}" if likely else ""
        notes = (*notes, f"Without knowing phase {_names(others)} would be possible too{weight}.")
    return GeneResult(
        call.gene,
        "matcher",
        possible,
        others,
        phenotype,
        activities.pop() if len(activities) == 1 else None,
        (phenotype,) if phenotype else (),
        call,
        notes,
    )


def from_outside(tables: Tables, outside: OutsideCall) -> GeneResult:
    """What follows from another tool's call: its activity before its phenotype before its diplotype."""
    gene = outside.gene
    notes: list[str] = []
    alleles = tuple(_spelled(tables, gene, allele) for allele in outside.alleles)
    possible = _possible(tables, gene, alleles, name="/".join(alleles)) if alleles else None
    if possible and len(alleles) < _COPIES and gene not in (*_ONE_COPY, *STATUS):
        possible = replace(possible, activity=None, phenotype="")
        notes.append("One copy of two is named: of the other nothing is known.")
    given = _known_phenotype(tables, gene, outside.phenotype)
    if outside.phenotype and not given:
        notes.append(f"The tables know no phenotype {outside.phenotype[:40]!r} of {gene}: no advice goes by it.")
    activity = outside.activity if outside.activity is not None else possible.activity if possible else None
    phenotype = given or outside.phenotype or (possible.phenotype if possible else "")
    if outside.activity is not None:
        scored = _of_score(tables, gene, outside.activity)
        if scored and phenotype and scored.lower() != phenotype.lower():
            notes.append(f"Activity {outside.activity:g} means {scored}; the {phenotype} beside it is not used.")
        phenotype = scored or phenotype
        if possible and possible.activity is not None and possible.activity != outside.activity:
            notes.append(f"The diplotype has activity {possible.activity:g}; the given {outside.activity:g} is used.")
    elif outside.phenotype and possible and possible.phenotype not in ("", phenotype):
        notes.append(f"The diplotype means {possible.phenotype}; the given {phenotype} is used.")
        activity = None
    shown = possible or Possible("", (), activity, phenotype)
    results = status(gene, outside.alleles) if gene in STATUS and outside.alleles else (phenotype,) if phenotype else ()
    if gene in STATUS and outside.alleles:
        known = " ".join(results)
        notes += [f"Whether {asked} is there cannot be told." for asked in STATUS[gene] if asked not in known]
    told = ", ".join(results) if gene in STATUS else phenotype
    return GeneResult(gene, "outside", (shown,), (), told, activity, results, None, tuple(notes))


def _spelled(tables: Tables, gene: str, allele: str) -> str:
    """An allele as the tables spell it. Laboratories put the gene before it, leave out the m. of mitochondria, and use
    one of several names: ``*2A`` or ``c.1905+1G>A`` for ``c.1905+1G>A (*2A)``, ``*1`` for its reference.
    """
    known, plain = tables.alleles.get(gene, {}), allele.removeprefix(gene).strip()
    for name in (plain, f"m.{plain}"):
        if name in known:
            return name
    named = [name for name in known if plain in _SEVERAL_NAMES.split(name)]
    if plain == "*1" and "Reference" in known and any("(*" in name for name in known):
        named = ["Reference"]
    return named[0] if len(named) == 1 else plain


def _known_phenotype(tables: Tables, gene: str, told: str) -> str:
    """A phenotype as tables and guidance spell it, whatever the case; empty where they have none such."""
    asked = {
        wanted for rules in tables.rules.values() for rule in rules for name, wanted in rule.wanted if name == gene
    }
    found = {*tables.phenotypes.get(gene, {}).values(), *(name for _, _, name in tables.scores.get(gene, ())), *asked}
    return next((name for name in sorted(found) if name.lower() == told.lower()), "")


def status(gene: str, alleles: Sequence[str]) -> tuple[str, ...]:
    """For each allele that guidance asks about, whether it is there: "*57:01 positive".

    Nothing is said of one that could be behind a group of alleles (``*57``) or on a copy that was not typed.
    """
    typed = [allele.removeprefix(gene).removeprefix("*").rstrip("GPN").split(":") for allele in alleles]
    told = []
    for asked in STATUS[gene]:
        first, second = asked.removeprefix("*").split(":")
        same = [fields for fields in typed if fields[0] == first]
        if any(fields[1:2] == [second] for fields in same):
            told.append(f"{asked} positive")
        elif len(typed) == _COPIES and all(fields[1:] and fields[1].isdigit() for fields in same):
            told.append(f"{asked} negative")
    return tuple(told)


def probabilities(diplotypes: Sequence[Diplotype], frequencies: Mapping[str, float] | None) -> list[float | None]:
    """How likely each is if both strands are drawn by frequency; ``None`` where a frequency is not known."""
    if len(diplotypes) == 1:
        return [1.0]
    known = frequencies or {}
    if not diplotypes or any(allele not in known for each in diplotypes for allele in each.alleles):
        return [None] * len(diplotypes)
    weights = [_weight(each, known) for each in diplotypes]
    total = sum(weights)
    return [weight / total for weight in weights] if total else [None] * len(diplotypes)


def _names(possible: Sequence[Possible]) -> str:
    named = [each.name for each in possible]
    return ", ".join(named[:3]) + (f" and {len(named) - 3} others" if len(named) > 3 else "")


def _weight(diplotype: Diplotype, frequencies: Mapping[str, float]) -> float:
    if not diplotype.second:
        return frequencies[diplotype.first]
    one, other = (frequencies[allele] for allele in diplotype.alleles)
    return one * other * (1 if diplotype.first == diplotype.second else 2)


def _possible(
    tables: Tables, gene: str, alleles: Sequence[str], *, name: str, probability: float | None = None
) -> Possible:
    functions = tuple(_function(tables, gene, allele) for allele in alleles)
    activity = _activity(tables, gene, alleles)
    return Possible(name, functions, activity, phenotype(tables, gene, alleles), probability)


def _function(tables: Tables, gene: str, allele: str) -> str:
    known = tables.alleles.get(gene, {})
    if allele in known:
        return known[allele].function
    parts = {known[unit].function if unit in known else "" for unit, _ in copies(allele)}
    return parts.pop() if len(parts) == 1 else ""


def _activity(tables: Tables, gene: str, alleles: Sequence[str]) -> float | None:
    """The sum over all copies; ``None`` if the gene has no scores or one copy has none."""
    if gene not in tables.scores:
        return None
    total = 0.0
    for allele in alleles:
        known = tables.alleles[gene]
        for unit, number in [(allele, 1)] if allele in known else copies(allele):
            value = known[unit].activity if unit in known else None
            if value is None:
                return None
            total += value * number
    return total


def phenotype(tables: Tables, gene: str, alleles: Sequence[str]) -> str:
    """The phenotype of one diplotype; empty where the tables define none for the gene."""
    if not alleles:
        return ""
    if gene in tables.scores:
        total = _activity(tables, gene, alleles)
        return INDETERMINATE if total is None else _of_score(tables, gene, total)
    if gene not in tables.phenotypes:
        return ""
    names = sorted(alleles) if len(alleles) == 2 else [alleles[0], "MALE" if gene in _HEMIZYGOUS else alleles[0]]
    if special := tables.exceptions.get(gene, {}).get((min(names), max(names))):
        return special
    functions = [_function(tables, gene, allele) for allele in alleles]
    if len(alleles) == 1:
        functions.append(_HEMIZYGOUS.get(gene, functions[0]))
    one, other = sorted(functions)
    return tables.phenotypes[gene].get((one, other), INDETERMINATE)


def _of_score(tables: Tables, gene: str, score: float) -> str:
    for low, high, name in tables.scores.get(gene, ()):
        if low <= score < high:
            return name
    return ""
