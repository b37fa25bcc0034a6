"""What the genes of one person mean for each drug: every rule that applies, and the statins ranked.

Rules ask for phenotypes of one or two genes. Where a gene is not tested the rule for "no result" applies if there is
one, else the drug is told as not assessed, with the gene that is missing. Nothing is averaged over alternatives: if
diplotypes that remain possible lead to different advice, all of it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from federome.pgx.phenotype import GeneResult
from federome.pgx.tables import Guideline, Rule, Tables

ORDER = ("usual", "none", "watch", "adjust", "limit", "avoid")
"""Actions from the least to the most restrictive; "none" has no recommendation behind it: where something else remains
possible for which there is one, that is what has to be looked at."""
ACTIONS: Mapping[str, str] = {
    "": "not assessed",
    "none": "no recommendation",
    "usual": "use as usual",
    "watch": "use, with attention",
    "adjust": "adjust the dose",
    "limit": "limit the dose",
    "avoid": "prefer another drug",
}
"""What is to be done, in words."""

STATINS: Mapping[str, float] = {
    "atorvastatin": 80,
    "fluvastatin": 80,
    "lovastatin": 80,
    "pitavastatin": 4,
    "pravastatin": 80,
    "rosuvastatin": 40,
    "simvastatin": 40,
}
"""The seven statins with the largest licensed daily dose in mg (product information; not 80 mg of simvastatin)."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Everything that is said about one drug for one person, and where it is ``published``.

    ``because`` names genes and phenotypes.
    """

    drug: str
    genes: tuple[str, ...]
    rules: tuple[Rule, ...]
    because: tuple[str, ...]
    missing: tuple[str, ...]
    published: tuple[Guideline, ...] = ()

    @property
    def action(self) -> str:
        """The most restrictive of what is said; empty where nothing is."""
        said = [rule.action for rule in self.rules]
        return max(said, key=_severity) if said else ""

    @property
    def ceiling_mg(self) -> int | None:
        """The smallest of the ceilings."""
        return min((rule.ceiling_mg for rule in self.rules if rule.ceiling_mg is not None), default=None)


@dataclass(frozen=True, slots=True)
class RankedStatin:
    """One statin's place; equal places mean that genes give no reason to prefer one of them."""

    place: int
    drug: str
    action: str
    ceiling_mg: int | None
    share: float  # of the largest licensed dose that may be started with
    words: str


def advise(tables: Tables, results: Mapping[str, GeneResult]) -> list[Advice]:
    """Advice for every drug of the tables, in alphabetical order."""
    return [advise_drug(tables, drug, results) for drug in tables.rules]


def advise_drug(tables: Tables, drug: str, results: Mapping[str, GeneResult]) -> Advice:
    """Advice for one drug of the tables."""
    rules = tables.rules[drug]
    genes = tuple(dict.fromkeys(gene for rule in rules for gene, _ in rule.wanted))
    missing = tuple(gene for gene in genes if gene not in results or not _keys(results[gene]))
    choices: dict[str, list[tuple[str, ...]]] = {
        gene: _keys(results[gene]) if gene not in missing else [("None",)] for gene in genes
    }
    found: dict[Rule, None] = {}
    for combination in product(*choices.values()):
        having = dict(zip(choices, combination, strict=True))
        for rule in _applying(rules, having):
            found[rule] = None
    asked = [(gene, wanted) for rule in found for gene, wanted in rule.wanted if gene not in missing]
    because = [f"{gene}: {wanted.replace('AS ', 'activity score ')}" for gene, wanted in asked]
    because = because or [f"{gene}: {_said(results[gene])}" for gene in genes if gene not in missing]
    published = tuple(each for each in tables.guidelines if each.drug == drug and each.gene in genes)
    return Advice(drug, genes, tuple(found), tuple(dict.fromkeys(because)), missing, published)


def _applying(rules: Sequence[Rule], having: Mapping[str, tuple[str, ...]]) -> Iterable[Rule]:
    """Rules of each population whose phenotypes are all there; of two that fit, the one about the activity score."""
    best: dict[tuple[str, tuple[str, ...]], tuple[int, list[Rule]]] = {}
    for rule in rules:
        places = [having[gene].index(wanted) if wanted in having[gene] else -1 for gene, wanted in rule.wanted]
        if min(places) < 0 or all(having[gene] == ("None",) for gene, _ in rule.wanted):
            continue
        key = (rule.population, tuple(gene for gene, _ in rule.wanted))
        rank = sum(places)
        kept = best.get(key)
        if kept is None or rank < kept[0]:
            best[key] = (rank, [rule])
        elif rank == kept[0]:
            kept[1].append(rule)
    return [rule for _, rules_of in best.values() for rule in rules_of]


def _keys(result: GeneResult) -> list[tuple[str, ...]]:
    """What rules may ask for, for each thing that is possible: the activity score first, then the phenotype."""
    if result.source == "outside" or (result.phenotype and result.activity is not None):
        said = [(result.activity, each) for each in result.results]
        if result.gene.startswith("HLA"):
            return [tuple(each for _, each in said)] if said else []
        return [_key(activity, each) for activity, each in said]
    return list(dict.fromkeys(_key(each.activity, each.phenotype) for each in result.possible if each.phenotype))


def _key(activity: float | None, phenotype: str) -> tuple[str, ...]:
    return (f"AS {activity:.1f}", phenotype) if activity is not None else (phenotype,)


def _said(result: GeneResult) -> str:
    return result.phenotype or " or ".join(dict.fromkeys(each.phenotype for each in result.possible))


def rank_statins(advice: Iterable[Advice]) -> list[RankedStatin]:
    """The statins from the first to the last choice: by what is advised, then by the share of the dose that is left.

    Genes say nothing of potency, price or indication: those decide among equals, and between neighbours.
    """
    rows = []
    for each in advice:
        if each.drug not in STATINS:
            continue
        share = 1.0 if each.ceiling_mg is None else min(1.0, each.ceiling_mg / STATINS[each.drug])
        share = 0.0 if each.action == "avoid" and each.ceiling_mg is None else share
        action = each.action or "none"
        strictest = max(each.rules, key=lambda rule: _severity(rule.action)).words if each.rules else ""
        rows.append((_choice(action), -share, each.drug, action, each.ceiling_mg, share, strictest))
    ranked: list[RankedStatin] = []
    for number, (severity, share_, drug, action, ceiling, share, words) in enumerate(sorted(rows), 1):
        same = ranked and (_choice(ranked[-1].action), -ranked[-1].share) == (severity, share_)
        place = ranked[-1].place if same else number
        ranked.append(RankedStatin(place, drug, action, ceiling, share, words))
    return ranked


def _choice(action: str) -> int:
    """What is not assessed is nobody's first choice."""
    return len(ORDER) if action == "none" else ORDER.index(action)


def _severity(action: str) -> int:
    return ORDER.index(action)
