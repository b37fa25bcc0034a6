"""Find the patients most like one: the index by phenotype, postings by gene, one ranking, exact.

A patient who shares a candidate gene is always scored in full, the others come from the index's best; together they
hold the true best N. The query's own group and the query itself are never listed: one source is no second case.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federome.analysis.match_index import Index
from federome.analysis.matching import Background, Genetic, Measure, Profile, genetic, probability, ranking
from federome.model.patient import Patient

LEAD_OVER = 10


@dataclass(frozen=True)
class Match:
    """One candidate: what it is ranked by, and its two parts."""

    patient: Patient
    number: int
    score: float
    phenotype: float
    gene_evidence: float
    genetic: Genetic


@dataclass(frozen=True, eq=False)
class Corpus:
    """Patients, indexed. ``by_gene`` (stretches by their megabases too) and ``by_group`` hold ascending numbers."""

    patients: tuple[Patient, ...]
    index: Index
    by_gene: dict[str, list[int]]
    by_group: dict[str, list[int]]

    @classmethod
    def of(cls, measure: Measure, patients: Iterable[Patient]) -> Corpus:
        """Index some patients."""
        return cls((), Index.empty(measure), {}, {}).add(patients)

    @property
    def measure(self) -> Measure:
        """The formula and table that all scores use."""
        return self.index.measure

    def add(self, patients: Iterable[Patient]) -> Corpus:
        """The corpus with these patients after the others; this one is unchanged but for what it shares."""
        new = tuple(patients)
        by_gene = {gene: list(held) for gene, held in self.by_gene.items()}
        by_group = {group: list(held) for group, held in self.by_group.items()}
        for number, patient in enumerate(new, start=len(self.patients)):
            for key in _keys(patient):
                by_gene.setdefault(key, []).append(number)
            if patient.group:
                by_group.setdefault(patient.group, []).append(number)
        return Corpus(self.patients + new, self.index.add_patients(new), by_gene, by_group)

    def rank(
        self, query: Profile, top: int, background: Background | None = None, allowed: NDArray[np.bool_] | None = None
    ) -> list[Match]:
        """The best ``top`` allowed patients, best first; fewer where no others share a term or a gene.

        Genes count where ``background`` is given and both have lists.
        """
        own = set(self.by_group.get(query.patient.group, ())) if query.patient.group else set()
        found = self.index.search(query, top + len(own) + 1, allowed)
        scores = dict(zip(found.numbers.tolist(), found.scores.tolist(), strict=True))
        if background is not None:
            sharing = sorted({n for key in _keys(query.patient) for n in self.by_gene.get(key, ())} - scores.keys())
            scores |= zip(sharing, self.index.scores(query, sharing).tolist(), strict=True)
        made = []
        for number, phenotype in scores.items():
            patient = self.patients[number]
            if number in own or patient.id == query.patient.id or (allowed is not None and not allowed[number]):
                continue
            shared = genetic(background, query.patient, patient) if background is not None else Genetic()
            score = ranking(phenotype, shared.evidence)
            made.append(Match(patient, number, score, phenotype, shared.evidence, shared))
        return sorted(made, key=lambda match: (-match.score, match.number))[:top]

    def chances(self, query: Profile, matches: Sequence[Match], *, genes: bool) -> list[float]:
        """The probability of a shared cause for each of a list (ten or more, for the lead to mean something)."""
        bar = sorted((match.phenotype for match in matches), reverse=True)[LEAD_OVER - 1 : LEAD_OVER]
        found = []
        for match in matches:
            candidate = self.measure.profile(match.patient)
            both = genes and bool(query.patient.genes) and bool(match.patient.genes)
            found.append(
                probability(
                    query,
                    candidate,
                    shared=self.measure.shared(query, candidate),
                    lead=match.phenotype - bar[0] if bar else 0.0,
                    genes=match.gene_evidence if both else None,
                )
            )
        return found


def _keys(patient: Patient) -> dict[str, None]:
    """What a patient is found by beside terms: candidate genes, and the megabases of stretches."""
    return dict.fromkeys((*patient.genes, *(key for each in patient.findings for key in each.keys)))


def warm(measure: Measure) -> None:
    """Compile the kernels, or load them from numba's cache, by one search: no clinician's first question waits."""
    terms = sorted(measure.usable)[-2:]
    patients = [Patient(term, (term,), (), ("A",)) for term in terms]
    if patients:
        corpus = Corpus.of(measure, patients)
        corpus.rank(measure.profile(patients[0]), 1, Background({}, 0.005, "none"))
