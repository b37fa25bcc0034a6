"""Matching against a twin that works on sets, one pair at a time, on generated ontologies and corpora."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federome.analysis.match_index import Index
from federome.analysis.match_search import Corpus
from federome.analysis.matching import (
    MAX_TERMS,
    Background,
    Measure,
    alert_strength,
    alert_threshold,
    best_score,
    better_score,
    estimate_background,
    explain,
    formula,
    probability,
    ranking,
)
from federome.errors import Invalid
from federome.model.finding import Finding
from federome.model.information import information
from federome.model.ontology import Terms, compile_terms
from federome.model.patient import Patient

TERMS = 300


def name(number: int) -> str:
    return f"HP:{number:07d}"


def parents_of(seed: int) -> dict[str, tuple[str, ...]]:
    """HP:1 is the root, HP:118 the phenotypes, HP:5 a branch that is none; everything else hangs below one of both."""
    rng = np.random.default_rng(seed)
    found: dict[str, tuple[str, ...]] = {name(1): (), name(5): (name(1),), name(118): (name(1),)}
    below, aside = [118], [5]
    for number in range(200, 200 + TERMS):
        pool = aside if number % 40 == 0 else below
        found[name(number)] = tuple({name(int(rng.choice(pool[-60:]))) for _ in range(rng.integers(1, 3))})
        pool.append(number)
    return found


def make_measure(seed: int = 1) -> Measure:
    parents = parents_of(seed)
    rng = np.random.default_rng(seed + 1)
    terms = Terms("hp/test", {t: f"name of {t}" for t in parents}, parents, {"HP:0000099": name(230)},
                  frozenset({"HP:0000098"}))  # fmt: skip
    leaves = [t for t in parents if t > name(199)]
    diseases = {f"D{i}": [str(t) for t in rng.choice(leaves, 6)] for i in range(80)}
    return Measure.of(information(compile_terms(terms), diseases, source="test"))


MEASURE = make_measure()
LEAVES = [t for t in MEASURE.information.ontology.ids if t > name(199)]


def closure(term: str) -> set[str]:
    return {term, *MEASURE.information.ontology.ancestors(term)}


def slow_score(query: Patient, candidate: Patient) -> float:
    """The formula on sets and floats, straight from its description."""
    content = dict(zip(MEASURE.information.ontology.ids, MEASURE.information.content, strict=True))

    def parts(patient: Patient) -> tuple[set[str], set[str]]:
        known = {t for t in patient.observed if content.get(t, 0) > 0}
        return {a for t in known for a in closure(t) if content[a] > 0}, known

    def weigh(closed: set[str], exact: set[str]) -> float:
        return sum(content[t] ** 1.5 for t in closed) + sum(8 * content[t] for t in exact)

    (qc, qe), (cc, ce) = parts(query), parts(candidate)
    t, q, c = weigh(qc & cc, qe & ce), weigh(qc, qe), weigh(cc, ce)
    return t / (t + 0.85 * (q - t) + 0.3 * (c - t)) if t else 0.0


def random_patients(seed: int, count: int, *, genes: int = 0) -> list[Patient]:
    rng = np.random.default_rng(seed)
    return [
        Patient(
            f"p{i}",
            tuple(str(t) for t in rng.choice(LEAVES, rng.integers(0, 7))),
            genes=tuple(f"G{g}" for g in rng.choice(40, genes, replace=False)),
            group=f"s{i // 3}",
        )
        for i in range(count)
    ]


PATIENTS = random_patients(3, 400, genes=3)
PROFILES = [MEASURE.profile(p) for p in PATIENTS]


def test_score_is_the_formula_on_sets() -> None:
    for one in range(0, 60, 3):
        for other in range(100, 130):
            slow = slow_score(PATIENTS[one], PATIENTS[other])
            assert MEASURE.score(PROFILES[one], PROFILES[other]) == pytest.approx(slow, abs=1e-3)
    whole = [p for p in PROFILES if p.rows]
    assert all(MEASURE.score(p, p) == 1.0 for p in whole)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 40), st.booleans())
def test_index_equals_scoring_every_pair(seed: int, top: int, masked: bool) -> None:
    index = Index.empty(MEASURE).add_patients(PATIENTS[:160])
    query = MEASURE.profile(random_patients(seed, 1)[0])
    allowed = np.random.default_rng(seed).random(160) < 0.5 if masked else None
    scores = np.array([MEASURE.score(query, profile) for profile in PROFILES[:160]])
    if allowed is not None:
        scores[~allowed] = 0.0
    best = np.lexsort((np.arange(len(scores)), -scores))[:top]
    best = best[scores[best] > 0]
    found = index.search(query, top, allowed)
    assert found.numbers.tolist() == best.tolist()
    assert found.scores.tolist() == scores[best].tolist()


def test_early_stop_spares_work_and_full_scores_agree() -> None:
    many = [replace(p, id=f"{p.id}-{k}") for k in range(8) for p in PATIENTS]
    index = Index.empty(MEASURE).add_patients(many)
    rich = max(range(400), key=lambda n: PROFILES[n].total)
    query = PROFILES[rich]
    found = index.search(query, 8)
    assert (found.scores == 1.0).all() and found.numbers.tolist() == [rich + 400 * k for k in range(8)]
    assert found.scored < len(many) // 4
    assert index.scores(query, found.numbers).tolist() == found.scores.tolist()
    shared = [MEASURE.shared(query, other) for other in PROFILES[:50]]
    twin = [better_score(query, other, shared=t) for other, t in zip(PROFILES[:50], shared, strict=True)]
    assert index.better_scores(query, range(50)).tolist() == twin


def test_segments_hold_what_one_would(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Index.empty(MEASURE).add_patients(PATIENTS)
    monkeypatch.setattr("federome.analysis.match_index.SEGMENT", 64)
    grown = Index.empty(MEASURE)
    for start in range(0, len(PATIENTS), 50):
        before = grown
        grown = grown.add_patients(PATIENTS[start : start + 50])
        full = len(before.segments) - 1
        assert all(a is b for a, b in zip(before.segments[:full], grown.segments, strict=False))
    by_profile = Index.empty(MEASURE).add(PROFILES)
    assert len(grown.segments) == 7 and grown.cases == 400
    assert (grown.frequency == whole.frequency).all() and (by_profile.frequency == whole.frequency).all()
    for query in PROFILES[:40]:
        if query.rows:
            one, other = whole.search(query, 10), grown.search(query, 10)
            assert one.numbers.tolist() == other.numbers.tolist() and one.scores.tolist() == other.scores.tolist()


def test_ranking_with_genes_equals_ranking_every_pair() -> None:
    corpus = Corpus.of(MEASURE, PATIENTS)
    background = estimate_background(PATIENTS, source="test")
    for number in range(0, 90, 9):
        query = PROFILES[number]
        pairs = []
        for other, candidate in enumerate(PATIENTS):
            genes = background.shared(query.patient.genes, candidate.genes)
            score = ranking(MEASURE.score(query, PROFILES[other]), genes)
            if candidate.group != query.patient.group and score > 0:
                pairs.append((-score, other))
        expected = [PATIENTS[n].id for _, n in sorted(pairs)[:15]]
        assert [m.patient.id for m in corpus.rank(query, 15, background)] == expected


def test_generalising_or_dropping_a_term_never_destroys_a_match() -> None:
    candidate = MEASURE.profile(Patient("c", tuple(LEAVES[100:106])))
    for gone in range(6):
        kept = [t for i, t in enumerate(LEAVES[100:106]) if i != gone]
        broad = [t for t in MEASURE.information.ontology.ancestors(LEAVES[100 + gone]) if t in MEASURE.usable]
        for terms in (kept, kept + broad[-1:]):
            assert MEASURE.score(MEASURE.profile(Patient("q", tuple(terms))), candidate) > 0.5


def test_what_is_not_used_is_told() -> None:
    observed = ("HP:9999999", "HP:0000098", name(5), name(118), "HP:0000099", name(230))
    profile = MEASURE.profile(Patient("p", observed))
    told = {each.term: each.why for each in profile.ignored}
    assert told["HP:9999999"] == "unknown" and told["HP:0000098"] == "obsolete"
    assert told[name(5)] == "not a phenotype" and told[name(118)] == "says nothing"
    assert [MEASURE.information.ontology.ids[row] for row in profile.rows] == [name(230)]


def test_a_thousand_terms_are_cut_to_the_most_specific() -> None:
    profile = MEASURE.profile(Patient("p", tuple(LEAVES)))
    cut = [each for each in profile.ignored if each.why == "beyond the limit"]
    assert len(profile.rows) == MAX_TERMS and len(cut) > 0
    content = MEASURE.information.content
    ontology = MEASURE.information.ontology
    least = min(content[row] for row in profile.rows)
    rows = [ontology.index(each.term) for each in cut]
    assert all(row is not None and content[row] <= least for row in rows)
    index = Index.empty(MEASURE).add_patients([Patient("p", tuple(LEAVES))])
    assert index.search(profile, 1).scores.tolist() == [1.0]


def test_no_terms_no_matches_and_bad_calls_are_refused() -> None:
    index = Index.empty(MEASURE).add_patients(PATIENTS)
    nothing = MEASURE.profile(Patient("q", ("HP:9999999",)))
    assert len(index.search(nothing, 5).numbers) == 0
    assert len(Index.empty(MEASURE).search(PROFILES[1], 5).numbers) == 0
    with pytest.raises(Invalid):
        index.search(PROFILES[1], 0)
    with pytest.raises(Invalid):
        index.search(PROFILES[1], 5, np.ones(3, np.bool_))


def test_excluded_terms_are_shown_and_change_no_score() -> None:
    one = Patient("a", tuple(LEAVES[270:274]))
    other = Patient("b", tuple(LEAVES[270:273]), excluded=(LEAVES[273],))
    plain = MEASURE.score(MEASURE.profile(one), MEASURE.profile(replace(other, excluded=())))
    assert MEASURE.score(MEASURE.profile(one), MEASURE.profile(other)) == plain
    why = explain(MEASURE, MEASURE.profile(one), MEASURE.profile(other))
    assert [t.term for t in why.contradicted] == [LEAVES[273]]
    assert {t.term for t in why.shared if t.exact} == set(LEAVES[270:273])
    assert LEAVES[273] in {t.term for t in why.query_only} and not why.candidate_only


def test_evidence_is_the_rarest_gene_and_background_forgets_the_cause_of_a_group() -> None:
    background = Background({"COMMON": 0.5, "RARE": 0.001}, 0.01, "test")
    assert background.shared(("COMMON", "RARE"), ("RARE", "COMMON")) == pytest.approx(math.log(1000))
    assert background.shared(("COMMON",), ("RARE",)) == 0.0
    assert background.evidence("NEVER SEEN") == pytest.approx(math.log(100))
    family = [Patient(f"f{i}", (), genes=("CAUSE", f"X{i}"), group="paper") for i in range(5)]
    others = [Patient(f"o{i}", (), genes=("TITIN",), group=f"o{i}") for i in range(5)]
    rates = estimate_background(family + others, source="test").rates
    assert "CAUSE" not in rates and rates["TITIN"] == pytest.approx(6 / 12) and rates["X1"] == pytest.approx(2 / 12)
    with pytest.raises(Invalid):
        Background({"G": 0.0}, 0.1, "test")


def test_closer_variants_rank_above_the_same_gene_and_other_copies_below() -> None:
    background, terms = Background({}, 0.01, "test"), tuple(LEAVES[40:44])

    def patient(name: str, **more: object) -> Patient:
        found = Finding("A", **more)  # type: ignore[arg-type]
        return Patient(name, terms, (), ("A",), "", (found,))

    seen = {"variant": "1:1000:A:G", "consequence": "missense_variant", "protein": "p.N215S"}
    asked = patient("asked", **seen, zygosity="heterozygous")
    others = [
        patient("copies", variant="1:900:A:G", zygosity="homozygous"),
        patient("gene", variant="1:900:A:G", consequence="stop_gained"),
        patient("class", variant="1:900:A:G", consequence="missense_variant"),
        patient("residue", variant="1:1001:A:G", protein="p.N215K"),
        patient("variant", **seen),
        Patient("list only", terms, (), ("A",)),
    ]
    corpus = Corpus.of(MEASURE, others)
    found = corpus.rank(MEASURE.profile(asked), 10, background)
    assert [m.patient.id for m in found] == ["variant", "residue", "class", "gene", "list only", "copies"]
    assert {m.patient.id: m.genetic.tier for m in found}["list only"] == "gene"
    plain = background.evidence("A")
    assert [m.gene_evidence - plain for m in found] == pytest.approx([4.0, 3.0, 0.5, 0.0, 0.0, -1.0])
    assert best_score(MEASURE.profile(asked), background) == pytest.approx(found[0].score)
    why = explain(MEASURE, MEASURE.profile(asked), MEASURE.profile(others[0]))
    assert why.copies_differ == ("A",) and why.closest == "gene"
    assert explain(MEASURE, MEASURE.profile(asked), MEASURE.profile(others[4])).closest == "variant"


def test_a_stretch_is_found_without_a_gene_and_without_a_term() -> None:
    lost = Patient("asked", (), findings=(Finding(stretch="loss 7:73000000-74000000"),))
    near = Patient("near", tuple(LEAVES[:3]), findings=(Finding(stretch="loss 7:73100000-74000000"),))
    far = Patient("far", tuple(LEAVES[:3]), findings=(Finding(stretch="loss 7:75000000-76000000"),))
    background = Background({}, 0.01, "test")
    found = Corpus.of(MEASURE, [far, near]).rank(MEASURE.profile(lost), 5, background)
    assert [(m.patient.id, m.genetic.tier) for m in found] == [("near", "stretch")]
    assert found[0].gene_evidence == pytest.approx(-math.log(0.01))


def test_probability_rises_with_evidence_and_stays_one() -> None:
    one, other = PROFILES[1], PROFILES[4]
    shared = MEASURE.shared(one, one)
    chances = [probability(one, other, shared=s, lead=0.0, genes=None) for s in range(0, one.total, one.total // 20)]
    assert chances[0] == 0.0 and chances == sorted(chances) and chances[-1] < 1
    with_genes = [probability(one, one, shared=shared, lead=0.0, genes=g) for g in (0.0, 1.0, 4.0, 9.0)]
    assert with_genes == sorted(with_genes) and 0 < with_genes[0] < with_genes[-1] < 1
    assert formula(0, 10, 10) == 0.0


def test_an_alert_s_threshold_lets_as_many_false_ones_through_as_was_asked() -> None:
    strengths = np.random.default_rng(1).random(10_000)
    for allowed in (0.05, 1.0, 5.0):
        threshold = alert_threshold(strengths, arrivals=100, false_alerts=allowed)
        assert (strengths > threshold).sum() == int(allowed * 100)
    assert alert_threshold(strengths[:50], arrivals=100, false_alerts=1.0) == 0.0
    with pytest.raises(Invalid):
        alert_threshold(strengths, arrivals=0, false_alerts=1.0)
    one, other = PROFILES[1], PROFILES[4]
    shared = MEASURE.shared(one, other)
    assert alert_strength(one, other, shared=shared, genes=2.0) == alert_strength(other, one, shared=shared, genes=2.0)
