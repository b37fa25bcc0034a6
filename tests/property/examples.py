"""Valid parameters for each registered algorithm, so that the shared suite can run it: append yours to ``EXAMPLES``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.worlds import POPULATIONS, MemorySite

Parameters = Mapping[str, object]


@dataclass(frozen=True)
class Example:
    """``parameters(pooled)`` gives questions that make sense for these people and variants, as plain JSON values.

    ``people`` is the smallest and largest world to draw; methods that estimate need more people than methods that
    count. An algorithm that must refuse a world raises ``Invalid`` or ``Refused``, federated and pooled alike.
    ``of_the_withheld`` are columns about what the threshold withholds one by one: without a threshold they are others.
    """

    parameters: Callable[[MemorySite], Sequence[Parameters]]
    people: tuple[int, int] = (12, 80)
    of_the_withheld: frozenset[str] = frozenset()


DEFINITION: Parameters = {
    "cases": {"any_of": [{"diagnoses": [{"code": "I10"}], "measurements": [{"name": "pc1", "low": 1.5}]}]},
    "controls": {
        "measurements": [{"name": "pc1", "high": 1}],
        "any_of": [{"diagnoses": [{"code": "I10"}], "present": False}],
    },
}


def _cohort_count(site: MemorySite) -> Sequence[Parameters]:
    first = site.variants[0]
    return [
        {},
        {"by": ["sex"]},
        {"by": ["population", "age_band"], "populations": list(POPULATIONS[:3]), "band_years": 25},
        {"by": ["sex", "population"], "populations": ["IBS"], "cohort": {"age": {"low": 30, "high": 70}}},
        {"cohort": {"diagnoses": [{"code": "I10"}], "sex": "female"}},
        {
            "cohort": {
                "any_of": [
                    {"diagnoses": [{"code": "E11"}, {"code": "I21"}]},
                    {"diagnoses": [{"code": "I10"}], "present": False},
                ]
            }
        },
        {"cohort": {"carriers": [{"variant": str(first)}], "measurements": [{"name": "trait", "low": 20}]}},
    ]


def _field_agreement(site: MemorySite) -> Sequence[Parameters]:
    return [
        {"field": "trait", "populations": list(POPULATIONS[:3])},
        {"field": "age", "populations": list(POPULATIONS), "cohort": {"sex": "female"}},
    ]


def _allele_frequency(site: MemorySite) -> Sequence[Parameters]:
    named = [str(variant) for variant in site.variants[::2]]
    return [
        {},
        {"by": "sex", "regions": ["X", "1:1-2000000", "MT"]},
        {"by": "sex-population", "populations": list(POPULATIONS), "variants": [*named, "7:1000:A:G", "X:5000000:T:A"]},
        {"by": "population", "populations": ["TSI", "FIN"], "cohort": {"sex": "male"}},
    ]


def _gwas_linear(site: MemorySite) -> Sequence[Parameters]:
    # Site intercepts are a part of the model that depends on the split; with them, unit tests compare with indicators.
    loose = {"phenotype": "trait", "site_intercepts": False, "maf_min": 0, "minor_alleles_min": 1, "threshold": 1e-4}
    return [
        loose,
        {**loose, "covariates": [], "call_rate_min": 0, "unrelated": False, "regions": ["1", "X"], "clump_kb": 1},
        {**loose, "covariates": ["age", "pc1", "pc2"], "maf_min": 0.05, "cohort": {"sex": "female"}},
    ]


def _gwas_logistic(site: MemorySite) -> Sequence[Parameters]:
    loose = {"phenotype": "case", "site_intercepts": False, "maf_min": 0, "minor_alleles_min": 1, "threshold": 1e-4}
    loose["expected_min"] = 0
    return [
        {**loose, "estimate_below": 0.05},
        {**loose, "covariates": [], "call_rate_min": 0, "unrelated": False, "regions": ["1", "X"], "spa": "always"},
        {**loose, "covariates": ["pc1"], "firth": "always", "estimate_below": 0.05, "cohort": {"sex": "male"}},
        {**loose, "phenotype": "", "diagnosis": "E11", "covariates": ["age"], "spa": "always", "firth": "never"},
        {**loose, "phenotype": "", "covariates": [], **DEFINITION},
    ]


def _gene_background(site: MemorySite) -> Sequence[Parameters]:
    # What is rare is decided at each node, and REF and ALT of single bases may be exchanged: so all insertions.
    plain = {"genes": ["EARLY", "UNKNOWN", "ON-X", "BOTH"], "rare_below": 1}
    return [plain, {**plain, "genes": ["LATE"], "cohort": {"sex": "male"}}]


def _gene_burden(site: MemorySite) -> Sequence[Parameters]:
    plain = {**_gene_background(site)[0], "phenotype": "case", "site_intercepts": False}
    return [plain, {**plain, "covariates": [], "unrelated": False}, {**plain, "covariates": ["pc1", "age"]}]


def _gene_skat(site: MemorySite) -> Sequence[Parameters]:
    plain = {**_gene_burden(site)[0], "consequences": "any"}
    # Where REF and ALT may be exchanged carriers are others: insertions only, or no exchange.
    return [{**plain, "consequences": "loss-of-function"}, {**_gene_burden(site)[1]}, {**_gene_burden(site)[2]}]


def _cox(site: MemorySite) -> Sequence[Parameters]:
    # The shift compares each node with itself and clusters lie within nodes: unit tests look at both.
    plain = {"time": "months", "event": "died", "covariates": ["age", "pc1"], "exits_min": 5, "tell_shift": False}
    plain["halvings"] = 3
    return [
        {**plain, "robust": True},
        {**plain, "strata": "sex", "levels": ["female", "male"], "covariates": ["case"]},
        {**plain, "entry": "seen_from", "since": ["treated_at"], "covariates": ["age"], "halvings": 2},
        {**plain, "event": "ended", "cause": 1, "covariates": ["population=FIN"], "ties": "breslow"},
        {**plain, "model": "piecewise-exponential", "cohort": {"sex": "female"}},
        {**plain, "changing": ["marker"], "covariates": ["age"], "halvings": 2},
    ]


def _survival_curves(site: MemorySite) -> Sequence[Parameters]:
    plain = {"time": "months", "event": "died", "exits_min": 5}
    return [
        plain,
        {**plain, "by": "sex", "groups": ["female", "male"], "halvings": 3},
        {**plain, "by": "case", "groups": ["0", "1"], "event": "ended", "cause": 1, "until": 20},
    ]


def _prs_reference(site: MemorySite) -> Sequence[Parameters]:
    return [
        {"score": "trait"},
        {"score": "trait", "populations": list(POPULATIONS), "bins": 6, "span": 1.0},
        {"score": "trait", "populations": ["FIN"], "cohort": {"sex": "female"}},
    ]


def _prs_adjustment(site: MemorySite) -> Sequence[Parameters]:
    return [
        {"score": "trait", "components": ["pc1", "pc2"]},
        {"score": "trait", "components": ["age"], "cohort": {"sex": "male"}},
    ]


def _ancestry_components(site: MemorySite) -> Sequence[Parameters]:
    plain = [str(v) for v in site.variants if v.chromosome.isdigit()]
    plain += [f"22:{20_000_000 + at}:A:G" for at in range(5)]  # nobody has these
    loose = {"variants": plain, "components": 1, "maf_min": 0.01, "call_rate_min": 0.5}
    return [loose, {**loose, "populations": list(POPULATIONS[:2]), "unrelated": False}]


def _pgx_counts(site: MemorySite) -> Sequence[Parameters]:
    return [
        {"gene": "SLCO1B1"},
        {"gene": "TPMT", "of": "diplotype", "populations": list(POPULATIONS[:2])},
        {"gene": "G6PD", "cohort": {"sex": "male"}},
    ]


def _pgx_actionable(site: MemorySite) -> Sequence[Parameters]:
    return [
        {"drugs": ["simvastatin"]},
        {"drugs": ["rosuvastatin", "azathioprine"], "populations": list(POPULATIONS)},
    ]


def _score_validation(site: MemorySite) -> Sequence[Parameters]:
    plain = {"time": "months", "event": "died", "score": "trait", "edges": [27.0], "horizon": 10.0}
    plain |= {"exits_min": 5, "halvings": 3}
    return [plain, {**plain, "predicted": "case", "edges": [26.0, 28.0]}]


def _tumour_alterations(site: MemorySite) -> Sequence[Parameters]:
    return [
        {"genes": ["BRAF", "TP53", "NONE"]},
        {"genes": ["PTEN"], "acquired": True, "by": "sex", "groups": ["female", "male"]},
        {"genes": ["NRAS"], "by": "population", "groups": ["FIN"], "cohort": {"sex": "female"}},
    ]


def _similar_tumours(site: MemorySite) -> Sequence[Parameters]:
    # Which cases are a node's nearest depends on the split, so here everybody alike counts.
    plain = {"time": "months", "event": "died", "treatments": ["dabrafenib", "ipilimumab"], "exits_min": 5}
    plain |= {"nearest": 100_000, "similarity": 0.2, "halvings": 3}
    return [
        {**plain, "genes": ["BRAF", "TP53"], "variants": ["BRAF:p.V600E"]},
        {**plain, "genes": ["PTEN"], "acquired": ["PTEN"], "strata": ["sex=female"]},
        {**plain, "genes": ["CDKN2A"], "required": ["CDKN2A"]},
    ]


def _treatment_effect(site: MemorySite) -> Sequence[Parameters]:
    plain = {"time": "months", "event": "died", "treatment": "case", "covariates": ["age", "pc1"]}
    loose = {**plain, "exits_min": 5, "site_intercepts": False, "halvings": 3}
    # Pairs are chosen within nodes, so that they depend on the split: unit tests look at them.
    return [loose, {**loose, "estimand": "ate"}, {**loose, "estimand": "att", "trim": 0.0, "covariates": ["pc2"]}]


def _prs_evaluate(site: MemorySite) -> Sequence[Parameters]:
    return [
        {"score": "trait", "phenotype": "case"},
        {"score": "pc1", "phenotype": "case", "by": "sex", "covariates": ["age"]},
        {"score": "trait", "diagnosis": "I10", "populations": list(POPULATIONS[:2]), "cohort": {"sex": "female"}},
        {"score": "trait", **DEFINITION},
    ]


EXAMPLES: dict[str, Example] = {
    "allele-frequency": Example(_allele_frequency),
    "cohort-count": Example(_cohort_count),
    "cox": Example(_cox, people=(120, 150)),
    "field-agreement": Example(_field_agreement),
    "gene-background": Example(_gene_background),
    "gene-burden": Example(_gene_burden, people=(60, 120)),
    "gene-skat": Example(_gene_skat, people=(60, 120), of_the_withheld=frozenset({"others"})),
    "gwas-linear": Example(_gwas_linear, people=(40, 120)),
    "gwas-logistic": Example(_gwas_logistic, people=(60, 120)),
    "score-validation": Example(_score_validation, people=(80, 120)),
    "similar-tumours": Example(_similar_tumours, people=(80, 120)),
    "tumour-alterations": Example(_tumour_alterations),
    "survival-curves": Example(_survival_curves, people=(60, 200)),
    "ancestry-components": Example(_ancestry_components, people=(200, 260)),
    "prs-adjustment": Example(_prs_adjustment, people=(40, 80)),
    "prs-evaluate": Example(_prs_evaluate, people=(40, 120)),
    "prs-reference": Example(_prs_reference),
    "pgx-actionable": Example(_pgx_actionable),
    "pgx-counts": Example(_pgx_counts),
    "treatment-effect": Example(_treatment_effect, people=(120, 150)),
}
