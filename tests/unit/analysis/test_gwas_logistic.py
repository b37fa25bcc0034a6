"""``gwas-logistic`` against textbook fits on pooled people with one indicator per site, and against plink2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from tests.unit.analysis.gwas_twins import each_variant, logistic, saddle_point, score, statistics
from tests.worlds import (
    MemorySite,
    Split,
    Watched,
    World,
    by_sex,
    make_world,
    random_assignment,
    run,
    splits,
    threshold_gate,
    without_kin,
)

from federome.analysis.algorithm import build, parameters
from federome.analysis.gwas_logistic import GwasLogistic
from federome.errors import Invalid
from federome.model.variant import Variant

LOOSE = GwasLogistic(
    phenotype="case",
    covariates=("age", "pc1"),
    maf_min=0.01,
    minor_alleles_min=3,
    call_rate_min=0,
    threshold=1e-4,
    spa="never",
    firth="never",
    estimate_below=0.05,
    expected_min=0,
)


def with_cases(world: World, *, share: float, effect: float, line: int, seed: int = 1) -> World:
    """A status moved by age, the node's own level and one variant."""
    rng = np.random.default_rng(seed)
    g = np.maximum(world.genotypes[line], 0)
    age = np.nan_to_num(world.view.numbers("age"), nan=50)
    linear = np.log(share / (1 - share)) + 0.02 * (age - 55) + effect * (g - g.mean())
    return world.with_numbers("status", (rng.random(world.people) < 1 / (1 + np.exp(-linear))).astype(float))


def near(value: float) -> object:
    return pytest.approx(value, rel=1e-9, abs=1e-9)


def assert_matches_twins(algorithm: GwasLogistic, sites: Sequence[MemorySite]) -> dict[str, int]:
    """Each variant against the twin of the method that the run says it used; how often each was used."""
    got = {(r["block"], r["row"]): r for r in statistics(algorithm, sites).records()}
    used = dict.fromkeys(("score", "wald", "firth", "spa"), 0)
    for block, row, people in each_variant(algorithm, sites):
        found = got.get((block, row))
        if found is None:
            continue
        others = people.others(site_intercepts=algorithm.site_intercepts)
        u, v, adjusted, chance = score(people.dosage, others, people.outcome)
        z = u / np.sqrt(v)
        expected = 2 * stats.norm.sf(abs(z))
        if algorithm.spa == "always" and abs(z) > 2:
            expected = saddle_point(u, adjusted, chance)
            assert found["minus_log10_p"] == near(-np.log10(expected))
            used["spa"] += 1
        if expected >= algorithm.estimate_below:
            assert (found["beta"], found["se"]) == (near(u / v), near(1 / np.sqrt(v)))
            used["score"] += 1
            continue
        design = np.column_stack([people.dosage, others])
        firth = algorithm.firth == "always"
        beta, se = logistic(design, people.outcome, penalty=firth)
        assert (found["beta"], found["se"], found["statistic"]) == (near(beta[0]), near(se[0]), near(beta[0] / se[0]))
        if algorithm.spa != "always":
            assert found["minus_log10_p"] == near(-np.log10(2 * stats.norm.sf(abs(beta[0] / se[0]))))
        used["firth" if firth else "wald"] += 1
    return used


@pytest.fixture(scope="module")
def world() -> World:
    made = make_world(seed=21, people=420, variants=36, missing=0.02)
    common = int(np.argmax([min(g[g >= 0].mean(), 2 - g[g >= 0].mean()) for g in made.genotypes]))
    return with_cases(made, share=0.35, effect=0.9, line=common)


@pytest.fixture(scope="module")
def split(world: World) -> Split:
    return world.split(random_assignment(world, sites=3, seed=4), lacking={1: [0, 9]}, absent={2: [1]})


@pytest.mark.parametrize("site_intercepts", [True, False])
def test_score_and_wald_equal_pooled_regression(split: Split, site_intercepts: bool) -> None:
    algorithm = replace(LOOSE, phenotype="status", site_intercepts=site_intercepts)
    used = assert_matches_twins(algorithm, split.sites)
    assert used["score"] > 5
    assert used["wald"] > 1


@pytest.mark.parametrize("site_intercepts", [True, False])
def test_firth_equals_pooled_firth(split: Split, site_intercepts: bool) -> None:
    algorithm = replace(LOOSE, phenotype="status", site_intercepts=site_intercepts, firth="always")
    assert assert_matches_twins(algorithm, split.sites)["firth"] > 1


@pytest.mark.parametrize("site_intercepts", [True, False])
def test_saddle_points_equal_a_bracketing_search(world: World, site_intercepts: bool) -> None:
    rare = with_cases(world, share=0.08, effect=0.9, line=0)
    sites = rare.split(random_assignment(rare, sites=3, seed=4)).sites
    algorithm = replace(LOOSE, phenotype="status", site_intercepts=site_intercepts, spa="always")
    assert assert_matches_twins(algorithm, sites)["spa"] > 1


def test_the_twin_is_the_textbook(split: Split) -> None:
    import statsmodels.api as sm  # more than a second to load, for all who collect

    algorithm = replace(LOOSE, phenotype="status")
    _, _, people = next(t for t in each_variant(algorithm, split.sites) if np.ptp(t[2].dosage) > 0)
    design = np.column_stack([people.dosage, people.others(site_intercepts=True)])
    beta, se = logistic(design, people.outcome)
    fit = sm.Logit(people.outcome, design).fit(disp=0, tol=1e-14, method="newton")
    np.testing.assert_allclose(beta, fit.params, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(se, fit.bse, rtol=1e-8)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), site_intercepts=st.booleans())
def test_equals_the_twins_on_any_split(data: st.DataObject, site_intercepts: bool) -> None:
    split = data.draw(splits(min_people=90, max_people=140, max_variants=8))
    algorithm = replace(LOOSE, covariates=("pc1",), site_intercepts=site_intercepts, estimate_below=1e-6)
    assert_matches_twins(algorithm, split.sites)


def test_sites_with_one_kind_of_people_stand_aside(world: World) -> None:
    status = world.view.numbers("status").copy()
    where = random_assignment(world, sites=3, seed=4)
    status[where == 2] = 0
    sites = world.with_numbers("status", status).split(where).sites
    algorithm = replace(LOOSE, phenotype="status")
    with_them, without = statistics(algorithm, sites), statistics(algorithm, sites[:2])
    assert assert_matches_twins(algorithm, sites)["score"] > 5
    np.testing.assert_allclose(with_them.floats("beta"), without.floats("beta"), rtol=0.2, atol=0.05)
    summary = run(algorithm, sites)["summary"].records()[0]
    others = run(algorithm, sites[:2])["summary"].records()[0]
    assert (summary["cases"], summary["controls"]) == (others["cases"], others["controls"])
    assert summary["one_sided"] > 0 == others["one_sided"]


def test_a_node_of_one_sex_and_an_empty_node_are_no_obstacle(world: World) -> None:
    split = without_kin(world).split(by_sex(world))
    nobody = split.sites[0].where(np.zeros(split.sites[0].view.people, bool))
    algorithm = replace(LOOSE, phenotype="status", covariates=("age",))
    assert assert_matches_twins(algorithm, (*split.sites, nobody))["score"] > 5


def test_no_covariates_at_all(split: Split) -> None:
    for site_intercepts in (True, False):
        algorithm = replace(LOOSE, phenotype="status", covariates=(), site_intercepts=site_intercepts)
        assert assert_matches_twins(algorithm, split.sites)["score"] > 5


def test_status_by_diagnosis_leaves_out_whom_nothing_is_known_of(split: Split) -> None:
    algorithm = replace(LOOSE, phenotype="", diagnosis="E11")
    summary = run(algorithm, split.sites)["summary"].records()[0]
    codes = np.concatenate([s.view.labels("diagnoses") for s in split.sites])
    known, has = codes != "", np.char.find(codes, "E11") >= 0
    assert 0.8 * has.sum() < summary["cases"] <= has.sum()
    assert 0.8 * (known & ~has).sum() < summary["controls"] <= (known & ~has).sum()
    assert assert_matches_twins(algorithm, split.sites)["score"] > 5


def separated(*, carriers: int) -> MemorySite:
    """All carriers of the only variant are cases."""
    status = (np.random.default_rng(2).random(300) < 0.3).astype(float)
    genotypes = np.zeros((1, 300), np.int8)
    genotypes[0, np.flatnonzero(status)[:carriers]] = 1
    return one_chromosome(genotypes, status)


def test_separation_gets_a_finite_penalised_estimate() -> None:
    site = separated(carriers=12)
    sites = [site.where(np.arange(300) % 2 == half) for half in (0, 1)]
    algorithm = replace(LOOSE, phenotype="status", firth="auto", covariates=("pc1",))
    (found,) = statistics(algorithm, sites).records()
    ((_, _, people),) = each_variant(algorithm, sites)
    design = np.column_stack([people.dosage, people.others(site_intercepts=True)])
    beta, se = logistic(design, people.outcome, penalty=True)
    assert (found["beta"], found["se"]) == (near(beta[0]), near(se[0]))
    assert 1 < found["beta"] < 8


def test_a_fit_that_runs_away_is_penalised_though_no_cell_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federome.analysis.gwas_logistic.FEW", 0)
    site = separated(carriers=12)
    algorithm = replace(LOOSE, phenotype="status", firth="auto", covariates=("pc1",))
    (found,) = statistics(algorithm, [site]).records()
    (wanted,) = statistics(replace(algorithm, firth="always"), [site]).records()
    assert found["beta"] == near(wanted["beta"])
    (never,) = statistics(replace(algorithm, firth="never"), [site]).records()
    assert never["statistic"] > 4  # the score test stands, no estimate is made up
    assert never["beta"] != near(found["beta"])


def test_saddle_point_is_close_to_the_exact_tail_where_normal_is_not() -> None:
    """One carrier in five a case where one person in fifty is: the count of cases among carriers is hypergeometric."""
    people, cases, carriers, hit = 2_000, 40, 20, 4
    status, g = np.zeros(people), np.zeros((1, people), np.int8)
    status[:cases] = 1
    g[0, :hit] = 1
    g[0, cases : cases + carriers - hit] = 1
    site = one_chromosome(g, status)
    algorithm = replace(LOOSE, phenotype="status", covariates=(), minor_alleles_min=1, maf_min=0, estimate_below=1e-9)
    normal = statistics(algorithm, [site]).floats("minus_log10_p")[0]
    saddle = statistics(replace(algorithm, spa="always"), [site]).floats("minus_log10_p")[0]
    law = stats.hypergeom(people, carriers, cases)
    exact = -np.log10(law.sf(hit) + 0.5 * law.pmf(hit))  # mid p; the other tail is empty
    assert abs(saddle - exact) < 0.3
    assert normal - exact > 4


def one_chromosome(genotypes: NDArray[np.int8], status: NDArray[np.float64]) -> MemorySite:
    """Strangers with these genotypes on chromosome 1 and this status."""
    lines, people = genotypes.shape
    base = without_kin(make_world(seed=5, people=people, variants=1, missing=0))
    variants = tuple(Variant.of("GRCh38", "1", 1_000 + 10 * line, "A", "C") for line in range(lines))
    return replace(base, variants=variants, genotypes=genotypes).with_numbers("status", status).pooled()


def test_false_positives_under_imbalance_are_as_many_as_promised() -> None:
    """1:50 cases, rare variants without effect: about α of the p values fall below α; by normal tails many more."""
    rng = np.random.default_rng(8)
    people, lines, alpha = 1_500, 800, 1e-3
    genotypes = rng.binomial(2, 0.008, (lines, people)).astype(np.int8)
    site = one_chromosome(genotypes, (np.arange(people) < people // 50).astype(float))
    algorithm = replace(LOOSE, phenotype="status", covariates=(), maf_min=0, spa="auto", estimate_below=1e-12)
    found = statistics(algorithm, [site])
    assert found.rows == lines
    assert (found.floats("minus_log10_p") > -np.log10(alpha)).mean() <= 3.5 * alpha
    assert (2 * stats.norm.sf(np.abs(found.floats("statistic"))) < alpha).mean() > 5 * alpha


def test_the_threshold_does_not_pick_variants_by_their_effect() -> None:
    """Variants with too few cases are withheld; where that is likely, those left would seem to be associated."""
    rng = np.random.default_rng(9)
    people, lines = 1_200, 500
    frequency = np.concatenate([rng.uniform(0.05, 0.09, lines // 2), rng.uniform(0.2, 0.4, lines // 2)])
    genotypes = rng.binomial(2, frequency[:, None], (lines, people)).astype(np.int8)
    site = one_chromosome(genotypes, (np.arange(people) < 120).astype(float))
    z = {}
    for expected_min in (0, 30):
        algorithm = replace(LOOSE, phenotype="status", covariates=(), estimate_below=1e-9, expected_min=expected_min)
        z[expected_min] = statistics(algorithm, [site], gate=threshold_gate(20)).floats("statistic")
    assert len(z[30]) == lines // 2
    assert np.mean(z[0]) > 0.15
    assert abs(np.mean(z[30])) < 0.12


@pytest.mark.parametrize(
    ("covariates", "named"), [(("age", "pc1", "double"), "double"), (("age", "site"), "site"), (("same",), "same")]
)
def test_collinear_covariates_are_refused_by_name(world: World, covariates: tuple[str, ...], named: str) -> None:
    where = random_assignment(world, sites=3, seed=3)
    age, pc1 = world.view.numbers("age"), world.view.numbers("pc1")
    more = (
        world.with_numbers("double", 2 * age - 3 * pc1 + 7)
        .with_numbers("site", where.astype(float))
        .with_numbers("same", np.full(world.people, 4.0))
    )
    with pytest.raises(Invalid, match=named):
        run(replace(LOOSE, phenotype="status", covariates=covariates), more.split(where).sites)


def test_what_cannot_be_analysed_is_said_clearly(world: World) -> None:
    algorithm = replace(LOOSE, phenotype="status")
    status = world.view.numbers("status")
    telling = world.with_numbers("telling", status * 10 + np.random.default_rng(0).random(world.people))
    with pytest.raises(Invalid, match="separate cases from controls"):
        run(replace(algorithm, covariates=("telling",)), [telling.pooled()])
    with pytest.raises(Invalid, match="other values than 0 and 1"):
        run(replace(algorithm, phenotype="age", covariates=()), [world.pooled()])
    with pytest.raises(Invalid, match="no cases or no controls"):
        run(algorithm, [world.with_numbers("status", np.zeros(world.people)).pooled()])
    with pytest.raises(Invalid, match="more than a third"):
        run(algorithm, [world.pooled().where(np.arange(world.people) < 9)])
    with pytest.raises(Invalid, match="too few people"):
        run(algorithm, [world.pooled()], gate=threshold_gate(200))


def test_parameters_are_checked_and_travel_as_json() -> None:
    made = build("gwas-logistic", {"diagnosis": "I21", "covariates": ["age"], "spa": "never"})
    assert build("gwas-logistic", parameters(made)) == made
    for wrong in ({}, {"phenotype": "a", "diagnosis": "b"}, {"phenotype": "a", "firth": "perhaps"}):
        with pytest.raises(Invalid):
            build("gwas-logistic", wrong)


def test_released_tables_say_how_a_number_was_found(world: World, split: Split) -> None:
    algorithm = replace(LOOSE, phenotype="status", spa="auto", firth="auto", estimate_below=1e-3)
    watched = Watched(threshold_gate(10))
    told = run(algorithm, split.sites, gate=watched)
    for name, table in told.items():
        assert tuple(table.columns) == tuple(GwasLogistic.releases[name].columns)
    assert told["hits"].rows >= 1
    lead = max(told["hits"].records(), key=lambda r: r["minus_log10_p"])
    assert (lead["test"], lead["model"]) == ("wald", "wald")
    assert lead["statistic"] == pytest.approx(lead["beta"] / lead["se"])
    counted = sum(t.rows for t in watched.totals if "case_carriers" in t)
    refined = sum(t.rows for t in watched.totals if "cumulants" in t)
    assert counted > 0
    assert 0 < refined < 10 * counted
