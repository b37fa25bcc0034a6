"""How alike two patients are, and why: phenotype terms weighed by their rarity, candidate genes by theirs.

Phenotype. Both term sets are closed upwards; a shared closed term counts IC^1.5, a term that both observed exactly
8·IC more. With T the shared weight, Q the query's and C the candidate's,

    score = T / (T + 0.85 (Q − T) + 0.30 (C − T))          in [0, 1], 1 for equal sets

so what the query has and the candidate lacks counts more than the reverse: a case report rarely tells everything.
The shape is Tversky's (Psychol Rev 1977;84:327), the weights were chosen on published cases (docs/explanation/
matching.md). Weights are whole numbers: sums are the same bits in any order, at every node.

Genes. A shared candidate gene is worth −log of how often a person of the *population* has that gene on their list:
a gene common among the sick is no evidence against it. Where both lists tell variants, the same variant, residue or
class of consequence adds to it, and another number of copies takes from it (:func:`genetic`).

Excluded terms are shown and never ranked on.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model.finding import Finding, Tier, copies, tier
from federome.model.information import Information
from federome.model.match import Evidence
from federome.model.patient import Patient

FORMULA: Final = "overlap/1"
SCALE: Final = 1000
CLOSED_POWER: Final = 1.5
EXACT_FACTOR: Final = 8.0
LACKING, EXTRA = 85, 30
"""Hundredths that a term costs which only the query, only the candidate has."""
MAX_TERMS: Final = 200
PHENOTYPE_WEIGHT: Final = 14.0
ALERT_WEIGHT: Final = 8.0

ALONE: Final = (-8.289, 11.912, -8.173, 0.652, 4.734)
BOTH: Final = (-17.124, 15.823, 1.834, 0.149)
FLAT: Final = 0.7
TOLD_ALONE: Final = (-4.945, 12.938, -8.026)
TOLD_GENE: Final = (-23.055, 3.649, -0.124)
TOLD_FLAT_ALONE, TOLD_FLAT = 0.6, 14.7
LIST_MISSES_CAUSE: Final = 0.1
"""How often the cause is on neither or one list only: a judgement, not a measurement."""

TIER_NATS: Final[Mapping[Tier, float]] = {"variant": 4.0, "residue": 3.0, "stretch": 2.0, "class": 0.5, "gene": 0.0}
"""What it adds that two who share a gene share more. A judgement: were the two unrelated, one pair in 55 would have the
same variant, one in 20 the same residue, one in 7 the same stretch. Kept low, since artefacts recur; published cases
cannot tell, because their variants are the answer."""
COPIES_DIFFER: Final = 1.0
"""Nats taken where one list has the gene hit once and the other on both copies; never more than half the evidence."""

Columns = NDArray[np.uint16]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Ignored:
    """What of a case was not used, by term and reason."""

    term: str
    why: Literal["unknown", "obsolete", "not a phenotype", "says nothing", "beyond the limit"]


@dataclass(frozen=True, eq=False)
class Profile:
    """A patient ready to compare: ``rows`` are the observed terms, ``columns`` closed then exact terms, ascending.

    ``total`` is the weight of all columns.
    """

    patient: Patient
    rows: tuple[int, ...]
    columns: Columns
    total: int
    ignored: tuple[Ignored, ...] = ()


@dataclass(frozen=True, eq=False)
class Measure:
    """The formula with one table of information content. Column t is closed term t, column terms + t the exact term."""

    information: Information
    weights: Ints
    version: str

    @classmethod
    def of(cls, information: Information) -> Measure:
        """Weights as whole numbers. ``Invalid`` for an ontology too large to number columns in 16 bits."""
        if 2 * len(information.content) > 1 << 16:
            raise Invalid("an ontology for matching has at most 32,768 terms.", where=information.ontology.release)
        closed = np.rint(SCALE * information.content**CLOSED_POWER)
        exact = np.rint(SCALE * EXACT_FACTOR * information.content)
        weights = np.concatenate([closed, exact]).astype(np.int64)
        told = hashlib.sha256(f"{FORMULA} {LACKING} {EXTRA} {information.digest}".encode())
        told.update(weights.astype("<i8").tobytes())
        return cls(information, weights, f"{FORMULA} {information.ontology.release} {told.hexdigest()[:16]}")

    @property
    def terms(self) -> int:
        """Number of terms."""
        return len(self.information.content)

    @cached_property
    def usable(self) -> Mapping[str, int]:
        """The row of every id that weighs something, merged ids included."""
        ontology = self.information.ontology
        found = {term: row for row, term in enumerate(ontology.ids) if self.weights[row] > 0}
        return found | {old: found[new] for old, new in ontology.merged.items() if new in found}

    def profile(self, patient: Patient) -> Profile:
        """The usable terms of a patient, at most ``MAX_TERMS`` (the most specific); what was not used is told."""
        ontology, content = self.information.ontology, self.information.content
        ignored: list[Ignored] = []
        rows: dict[int, str] = {}
        for term in dict.fromkeys(patient.observed):
            row = ontology.index(term)
            if row is None:
                ignored.append(Ignored(term, "obsolete" if ontology.status(term) == "obsolete" else "unknown"))
            elif not self.information.branch[row]:
                ignored.append(Ignored(term, "not a phenotype"))
            elif self.weights[row] == 0:
                ignored.append(Ignored(term, "says nothing"))
            else:
                rows[row] = term
        ordered = sorted(rows, key=lambda row: (-content[row], row))
        ignored += [Ignored(rows[row], "beyond the limit") for row in ordered[MAX_TERMS:]]
        kept = tuple(sorted(ordered[:MAX_TERMS]))
        columns = self._columns(kept)
        return Profile(patient, kept, columns, int(self.weights[columns].sum()), tuple(ignored))

    def _columns(self, rows: Sequence[int]) -> Columns:
        if not rows:
            return np.zeros(0, np.uint16)
        closed = np.unique(np.concatenate([self.information.ontology.ancestor_indices(row) for row in rows]))
        closed = closed[self.weights[closed] > 0]
        return np.concatenate([closed, np.array(rows) + self.terms]).astype(np.uint16)

    def shared(self, query: Profile, candidate: Profile) -> int:
        """T: the weight of the columns both have."""
        return int(self.weights[np.intersect1d(query.columns, candidate.columns, assume_unique=True)].sum())

    def score(self, query: Profile, candidate: Profile) -> float:
        """The phenotype score of a pair; 0 where either says nothing."""
        return formula(self.shared(query, candidate), query.total, candidate.total)


def formula(shared: int, query: int, candidate: int) -> float:
    """T / (T + .85 (Q − T) + .30 (C − T)) from whole numbers; 0 where nothing is shared."""
    if shared <= 0:
        return 0.0
    return (100 * shared) / ((100 - LACKING - EXTRA) * shared + LACKING * query + EXTRA * candidate)


@dataclass(frozen=True)
class Background:
    """How often a person of the population would have a gene on their list of candidates.

    ``rates`` come from the network's own ``gene-background`` or from the lists at hand (`estimate_background`);
    a gene that is not listed has the rate ``rare``.
    """

    rates: Mapping[str, float]
    rare: float
    source: str

    def __post_init__(self) -> None:
        if not 0 < self.rare <= 1 or any(not 0 < rate <= 1 for rate in self.rates.values()):
            raise Invalid("a rate of the gene background is not between 0 and 1.", where=self.source)

    def evidence(self, gene: str) -> float:
        """−log of the rate, natural."""
        return -math.log(self.rates.get(gene, self.rare))

    def shared(self, one: Iterable[str], other: Iterable[str]) -> float:
        """Evidence of the rarest gene both have; 0 where they share none. One cause is one gene: no sum."""
        both = set(one) & set(other)
        return max((self.evidence(gene) for gene in both), default=0.0)


@dataclass(frozen=True)
class Genetic:
    """What two lists of candidates share: evidence in nats, the gene (or stretch) it rests on, how closely, and whether
    the copies differ.
    """

    evidence: float = 0.0
    gene: str = ""
    tier: Tier | None = None
    copies_differ: bool = False


def genetic(background: Background, one: Patient, other: Patient) -> Genetic:
    """The best that the lists of two people share; nothing where they share none. One cause is one gene: no sum."""
    best = Genetic()
    for gene in sorted(set(one.genes) & set(other.genes)):
        plain = background.evidence(gene)
        mine, theirs = ([each for each in who.findings if each.gene == gene] for who in (one, other))
        close, differ = _closest(mine, theirs) or "gene", _differ(one.findings, other.findings, gene)
        value = plain + TIER_NATS[close] - (min(COPIES_DIFFER, plain / 2) if differ else 0.0)
        if value > best.evidence:
            best = Genetic(value, gene, close, differ)
    if best.tier is None and one.findings and other.findings:  # a stretch that both lost or gained, whatever lies in it
        mine, theirs = ([each for each in who.findings if each.stretch] for who in (one, other))
        if _closest(mine, theirs) == "stretch":
            named = next(each.stretch for each in mine if any(tier(each, their) == "stretch" for their in theirs))
            best = Genetic(-math.log(background.rare), named, "stretch")
    return best


def _closest(mine: Sequence[Finding], theirs: Sequence[Finding]) -> Tier | None:
    found = [close for one in mine for other in theirs if (close := tier(one, other)) is not None]
    return max(found, key=lambda close: TIER_NATS[close], default=None)


def _differ(mine: tuple[Finding, ...], theirs: tuple[Finding, ...], gene: str) -> bool:
    return {copies(mine, gene), copies(theirs, gene)} == {"one", "both"}


def ranking(phenotype: float, genes: float) -> float:
    """What pairs are ranked by: nats of evidence, a phenotype score of one being worth fourteen."""
    return PHENOTYPE_WEIGHT * phenotype + genes


def best_score(query: Profile, background: Background) -> float:
    """What the best candidate of all could be ranked by: scores are told as shares of it, the same at every node."""
    genes = genetic(background, query.patient, query.patient).evidence
    return ranking(1.0 if query.rows else 0.0, genes) or 1.0


def estimate_background(patients: Iterable[Patient], *, source: str) -> Background:
    """Rates from the lists themselves, for when no table of the population is at hand.

    Counting plainly would make every true disease gene look common: patients of one group share it. So where a gene is
    on two lists of a group or more, and on three in ten of them, it counts as that group's cause and not as
    background. One is added to every count.
    """
    sizes: Counter[str] = Counter()
    held: dict[str, Counter[str]] = {}
    for patient in patients:
        if patient.genes:
            group = patient.group or patient.id
            sizes[group] += 1
            held.setdefault(group, Counter()).update(set(patient.genes))
    counts: Counter[str] = Counter()
    for group, genes in held.items():
        counts.update({gene: n for gene, n in genes.items() if n < 2 or 10 * n < 3 * sizes[group]})
    lists = sizes.total()
    return Background({gene: (n + 1) / (lists + 2) for gene, n in counts.items()}, 1 / (lists + 2), source)


def probability(query: Profile, candidate: Profile, *, shared: int, lead: float, genes: float | None) -> float:
    """How likely the two have one cause, from the shared weight, the lead over the tenth of the list, and the genes.

    ``genes`` is the evidence of the rarest shared gene, 0 where both have lists that share none, ``None`` where one has
    no list. Logistic, fitted on published cases of half of the genes and tested on the other half (``bench
    matching``): it holds for pairs near the top of a list, not for a pair drawn at random.
    """
    phenotype = formula(shared, query.total, candidate.total)
    if phenotype == 0.0 and not genes:
        return 0.0
    weight = math.log(max(shared, 1) / SCALE)
    if genes:
        return _logistic(_dot(BOTH, (1.0, phenotype, genes, weight)))
    flat = min(phenotype, FLAT)
    alone = _logistic(_dot(ALONE, (1.0, flat, flat * flat, weight, max(lead, 0.0))))
    return alone if genes is None else alone * LIST_MISSES_CAUSE


def told_probability(score: float, evidence: Evidence, query: Profile, background: Background) -> float:
    """The same from what another node tells: a score to two digits and the kind of evidence, of questions of ten terms.

    Nothing more has to travel for it, and nothing more can be read from it. Fitted and tested as :func:`probability`.
    Where the question has genes and only phenotype is told, the other list is taken to have none of them.
    """
    strength = score * best_score(query, background)
    if evidence != "phenotype":
        x = min(strength, TOLD_FLAT)
        return _logistic(_dot(TOLD_GENE, (1.0, x, x * x)))
    x = min(strength / PHENOTYPE_WEIGHT, TOLD_FLAT_ALONE)
    alone = _logistic(_dot(TOLD_ALONE, (1.0, x, x * x))) if x > 0 else 0.0
    return alone * LIST_MISSES_CAUSE if query.patient.genes else alone


def told_parts(score: float, evidence: Evidence, query: Profile, background: Background) -> tuple[float, float]:
    """The least and the most that phenotype can be of a told score, from 0 to 1: which of the own genes is shared is
    not told, and each would leave another rest.
    """
    strength = score * best_score(query, background)
    shared = [0.0]
    if evidence != "phenotype":
        adds = [0.0, *(TIER_NATS.values() if query.patient.findings else ())]
        shared = [background.evidence(gene) + add for gene in query.patient.genes for add in adds]
        shared += [-math.log(background.rare)] if query.patient.findings else []
    rests = [(strength - each) / PHENOTYPE_WEIGHT for each in shared]
    slack = 0.005 * best_score(query, background) / PHENOTYPE_WEIGHT  # the score was rounded
    possible = [min(max(rest, 0.0), 1.0) for rest in rests if -slack <= rest <= 1 + slack]
    return (min(possible), max(possible)) if possible else (0.0, 1.0)


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def alert_strength(one: Profile, other: Profile, *, shared: int, genes: float) -> float:
    """What an alert is decided by: the better of both directions, since either may be the poorer report.

    Phenotype weighs less here than in a list: a threshold compares pairs of different questions with each other.
    """
    return ALERT_WEIGHT * better_score(one, other, shared=shared) + genes


def better_score(one: Profile, other: Profile, *, shared: int) -> float:
    """The better phenotype score of the two directions."""
    return max(formula(shared, one.total, other.total), formula(shared, other.total, one.total))


def alert_bar(unrelated: NDArray[np.float64], genes: Sequence[str], background: Background, *, rate: float) -> float:
    """The strength that an unrelated arrival passes with probability ``rate`` at most.

    ``unrelated`` are phenotype scores (better direction) of one question with cases that share none of its ``genes``.
    By chance an arrival shares gene g with the background's rate of g, whatever its phenotype; so a strength t is
    passed with probability (1 − Σ rates) P(8 s > t) + Σ rate(g) P(8 s + evidence(g) > t), s drawn from ``unrelated``.
    """
    if not 0 < rate < 1:
        raise Invalid("a rate of false alerts lies between 0 and 1.")
    scores = np.sort(ALERT_WEIGHT * (unrelated if len(unrelated) else np.zeros(1)))
    shifts = [(math.exp(-background.evidence(gene)), background.evidence(gene)) for gene in dict.fromkeys(genes)]
    shifts.append((max(0.0, 1 - sum(chance for chance, _ in shifts)), 0.0))

    def passed(t: float) -> float:
        return math.fsum(
            chance * (len(scores) - int(np.searchsorted(scores, t - by, side="right"))) / len(scores)
            for chance, by in shifts
        )

    places = np.unique(np.concatenate([scores + by for _, by in shifts]))
    low, high = 0, len(places) - 1  # the last one is passed by nobody
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if passed(float(places[middle])) <= rate else (middle + 1, high)
    return float(places[low])


def alert_threshold(unrelated: NDArray[np.float64], *, arrivals: int, false_alerts: float) -> float:
    """The strength above which ``false_alerts`` are expected at each arrival, from strengths of unrelated pairs.

    ``unrelated`` are the strengths of ``arrivals`` past cases with every standing question that is none of theirs.
    """
    if arrivals < 1 or false_alerts <= 0:
        raise Invalid("a threshold needs past arrivals and a positive number of false alerts.")
    place = int(false_alerts * arrivals)
    if place >= len(unrelated):
        return 0.0
    return float(np.partition(unrelated, len(unrelated) - 1 - place)[len(unrelated) - 1 - place])


@dataclass(frozen=True)
class SharedTerm:
    """A term that speaks for a pair: exact, or the closest ancestor both have."""

    term: str
    name: str
    exact: bool
    one_in: float
    weight: float


@dataclass(frozen=True)
class Explanation:
    """Why a pair scores as it does. Weights are shares of the query's total.

    ``closest`` is how closely candidate variants agree, ``copies_differ`` names genes hit once here and on both copies
    there.
    """

    shared: tuple[SharedTerm, ...]
    query_only: tuple[SharedTerm, ...]
    candidate_only: tuple[SharedTerm, ...]
    contradicted: tuple[SharedTerm, ...] = field(default=())
    genes: tuple[str, ...] = ()
    closest: Tier | None = None
    copies_differ: tuple[str, ...] = ()


def explain(measure: Measure, query: Profile, candidate: Profile, *, most: int = 5) -> Explanation:
    """The terms that speak most for a pair (most specific first), what each lacks, and what was looked for in vain.

    ``contradicted`` are terms of one that the other's doctor excluded: shown, never ranked on.
    """
    ontology, terms = measure.information.ontology, measure.terms
    both = np.intersect1d(query.columns, candidate.columns, assume_unique=True).astype(np.int64)
    exact = {int(column) - terms for column in both if column >= terms}
    closed = [int(column) for column in both if column < terms]
    covered: set[int] = set()
    for row in sorted(closed, key=lambda r: (-measure.weights[r] - (r in exact) * measure.weights[r + terms], r)):
        if row not in covered:
            covered |= {int(a) for a in ontology.ancestor_indices(row) if a != row}
    leaves = [row for row in closed if row not in covered or row in exact]
    shown = set(leaves)
    said = {int(r) for row in leaves for r in ontology.ancestor_indices(row)}

    def tell(rows: Iterable[int], total: int) -> tuple[SharedTerm, ...]:
        found = [_told(measure, row, row in exact or row not in shown, total) for row in rows]
        return tuple(sorted(found, key=lambda each: (-each.weight, each.term))[:most])

    excluded = _covered_by(measure, query, candidate.patient.excluded) | _covered_by(
        measure, candidate, query.patient.excluded
    )
    one, other = query.patient, candidate.patient
    genes = tuple(sorted(set(one.genes) & set(other.genes)))
    return Explanation(
        shared=tell(leaves, query.total),
        query_only=tell((row for row in query.rows if row not in said), query.total),
        candidate_only=tell((row for row in candidate.rows if row not in said), candidate.total),
        contradicted=tell(excluded, query.total),
        genes=genes,
        closest=_closest(one.findings, other.findings),
        copies_differ=tuple(gene for gene in genes if _differ(one.findings, other.findings, gene)),
    )


def _told(measure: Measure, row: int, exact: bool, total: int) -> SharedTerm:
    ontology = measure.information.ontology
    weight = int(measure.weights[row]) + (int(measure.weights[row + measure.terms]) if exact else 0)
    term = ontology.ids[row]
    one_in = math.exp(float(measure.information.content[row]))
    return SharedTerm(term, ontology.names.get(term, term), exact, round(one_in, 1), round(weight / max(total, 1), 4))


def _covered_by(measure: Measure, observed: Profile, excluded: Iterable[str]) -> set[int]:
    """Observed terms that are, or lie below, a term the other side excluded."""
    ontology = measure.information.ontology
    out = {row for row in map(ontology.index, excluded) if row is not None}
    return {row for row in observed.rows if out & {int(a) for a in ontology.ancestor_indices(row)}}
