"""``gwas-linear`` against ordinary least squares on pooled people with one indicator per site, and against plink2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.analysis.gwas_twins import Pooled, each_variant, statistics
from tests.worlds import (
    MemorySite,
    Split,
    Watched,
    blocks_for,
    by_sex,
    make_world,
    random_assignment,
    run,
    splits,
    threshold_gate,
    without_kin,
)

from federome.analysis.algorithm import build, parameters
from federome.analysis.gwas_linear import GwasLinear
from federome.errors import Invalid, Refused
from federome.model.release import Number

LOOSE = GwasLinear(
    phenotype="trait",
    covariates=("age", "male", "pc1"),
    maf_min=0,
    minor_alleles_min=1,
    call_rate_min=0,
    threshold=1e-4,
)


def oracle(algorithm: GwasLinear, people: Pooled) -> tuple[float, float, float] | None:
    """β, SE and t by statsmodels with explicit site columns and pooled mean imputation; None where not estimable."""
    import statsmodels.api as sm  # more than a second to load, for all who collect

    others = people.others(site_intercepts=algorithm.site_intercepts)
    if not people.tells(others):
        return None
    fit = sm.OLS(people.outcome, np.column_stack([people.dosage, others])).fit()
    return float(fit.params[0]), float(fit.bse[0]), float(fit.tvalues[0])


def assert_matches_oracle(algorithm: GwasLinear, sites: Sequence[MemorySite]) -> int:
    got = {(r["block"], r["row"]): r for r in statistics(algorithm, sites).records()}
    compared = 0
    for block, row, people in each_variant(algorithm, sites):
        wanted, found = oracle(algorithm, people), got.pop((block, row), None)
        assert (wanted is None) == (found is None)
        if wanted is None or found is None:
            continue
        for name, value in zip(("beta", "se", "statistic"), wanted, strict=True):
            assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name
        compared += 1
    assert not got
    return compared


@pytest.mark.parametrize("site_intercepts", [True, False])
@pytest.mark.parametrize("unrelated", [True, False])
def test_equals_least_squares_on_pooled_people(site_intercepts: bool, unrelated: bool) -> None:
    world = make_world(seed=3, people=240, variants=40)
    split = world.split(random_assignment(world, sites=3, seed=1), lacking={1: [0, 9]}, absent={2: [1]})
    algorithm = replace(LOOSE, site_intercepts=site_intercepts, unrelated=unrelated)
    assert assert_matches_oracle(algorithm, split.sites) >= 20


@settings(max_examples=25, deadline=None)
@given(data=st.data(), site_intercepts=st.booleans())
def test_equals_least_squares_on_any_split(data: st.DataObject, site_intercepts: bool) -> None:
    split = data.draw(splits(min_people=60, max_people=90, max_variants=8))
    assert_matches_oracle(replace(LOOSE, covariates=("pc1",), site_intercepts=site_intercepts), split.sites)


def test_a_node_of_one_sex_and_an_empty_node_are_no_obstacle() -> None:
    world = without_kin(make_world(seed=5, people=150, variants=16))
    women_men = world.split(by_sex(world)).sites
    mixed = make_world(seed=6, people=90, variants=16)
    nobody = mixed.pooled().where(np.zeros(90, bool))
    same_variants = replace(mixed, variants=world.variants)
    sites = (*women_men, nobody, same_variants.pooled())
    assert assert_matches_oracle(LOOSE, sites) > 5


@pytest.mark.parametrize("unit", [1e-12, 1e-5, 1e4, 1e10])
def test_units_and_large_offsets_do_not_cost_precision(unit: float) -> None:
    world = make_world(seed=8, people=200, variants=12)
    year = 1_950_000.0 + world.view.numbers("pc2") * 4_000
    world = world.with_numbers("year", year).with_numbers("odd", world.view.numbers("trait") * unit)
    split = world.split(random_assignment(world, sites=2, seed=2))
    assert assert_matches_oracle(replace(LOOSE, phenotype="odd", covariates=("year", "age")), split.sites) > 3


def test_no_part_of_a_sum_exceeds_its_declared_bound() -> None:
    world = make_world(seed=8, people=60, variants=2)
    huge = world.view.numbers("trait") * 1e200
    algorithm = replace(LOOSE, phenotype="huge", covariates=("age",))
    view = world.with_numbers("huge", huge).pooled().view
    part = algorithm.local(view, None, algorithm.start())
    for name in ("sum", "square"):
        rule = algorithm.rounds[0].totals.columns[name]
        assert isinstance(rule, Number)
        assert np.isfinite(part[name]).all()
        assert np.abs(part[name]).max() <= rule.bound
    with pytest.raises(Invalid, match="too large"):
        run(algorithm, [world.with_numbers("huge", huge).pooled()])


def test_monomorphic_and_uncalled_variants_are_not_tested() -> None:
    world = make_world(seed=9, people=100, variants=10)
    world.genotypes[0] = 2
    world.genotypes[1] = -1
    table, blocks = statistics(LOOSE, [world.pooled()]), blocks_for([world.pooled()], LOOSE.reads.variants)
    lines = [(b.number, r) for b in blocks for r in range(b.rows)]
    assert len(lines) == 10
    assert not {lines[0], lines[1]} & {(r["block"], r["row"]) for r in table.records()}


@pytest.mark.parametrize(
    ("covariates", "named"),
    [
        (("age", "pc1", "double"), "double"),
        (("constant", "age"), "constant"),
        (("age", "site"), "site"),
    ],
)
def test_collinear_covariates_are_refused_by_name(covariates: tuple[str, ...], named: str) -> None:
    world = make_world(seed=10, people=120, variants=4)
    where = random_assignment(world, sites=3, seed=3)
    age, pc1 = world.view.numbers("age"), world.view.numbers("pc1")
    world = (
        world.with_numbers("double", 2 * age - 3 * pc1 + 7)
        .with_numbers("constant", np.full(120, 1.7))
        .with_numbers("site", where.astype(float))
    )
    with pytest.raises(Invalid, match=named):
        run(replace(LOOSE, covariates=covariates), world.split(where).sites)


def test_what_cannot_be_analysed_is_said_clearly() -> None:
    world = make_world(seed=11, people=100, variants=4).with_numbers("same", np.full(100, 3.0))
    age = world.view.numbers("age")
    world = world.with_numbers("copy", 2 * age + 1)
    sites = [world.pooled()]
    with pytest.raises(Invalid, match="the same for everybody"):
        run(replace(LOOSE, phenotype="same"), sites)
    with pytest.raises(Invalid, match="explained entirely"):
        run(replace(LOOSE, phenotype="copy"), sites)
    with pytest.raises(Invalid, match="more than a third"):
        run(LOOSE, [s.where(np.arange(100) < 15) for s in sites])
    with pytest.raises(Invalid, match="too few people"):
        run(LOOSE, sites, gate=threshold_gate(101))
    with pytest.raises(Invalid, match="no numeric column"):
        run(replace(LOOSE, phenotype="absent"), sites)


def test_parameters_are_checked_and_travel_as_json() -> None:
    made = build("gwas-linear", {"phenotype": "bmi", "covariates": ["age"], "regions": ["19:1-2000000"]})
    assert build("gwas-linear", parameters(made)) == made
    assert made.reads.columns == ("bmi", "age", "male")
    for wrong in ({"maf_min": 0.7}, {"threshold": 0.5}, {"regions": ["1:9-2"]}, {"covariates": ["bmi"]}):
        with pytest.raises(Invalid):
            build("gwas-linear", {"phenotype": "bmi", **wrong})
    with pytest.raises(Invalid, match="phenotype"):
        build("gwas-linear", {})
    with pytest.raises(Refused, match="output checkers"):
        build("gwas-linear", {"phenotype": "bmi", "full": True})


def planted(seed: int = 12) -> tuple[GwasLinear, Split]:
    """A world in which one common variant on chromosome 19 moves the trait strongly."""
    world = make_world(seed=seed, people=400, variants=40, missing=0.01)
    line = next(i for i, v in enumerate(world.variants) if v.chromosome == "19" and 0.1 < af(world.genotypes[i]) < 0.9)
    trait = 5 + 3.0 * np.maximum(world.genotypes[line], 0) + np.random.default_rng(1).normal(size=400)
    world = world.with_numbers("planted", trait)
    split = world.split(random_assignment(world, sites=3, seed=4), swapped={1: [line], 2: [line]})
    return replace(LOOSE, phenotype="planted"), split


def af(copies: np.ndarray) -> float:
    return float(copies[copies >= 0].mean() / 2)


def test_hits_are_told_for_alt_whatever_was_counted() -> None:
    algorithm, split = planted()
    told = run(algorithm, split.sites)
    (lead,) = [r for r in told["hits"].records() if r["chromosome"] == "19"]
    variant = next(v for v in split.pooled.variants if v.chromosome == "19" and v.position == lead["position"])
    assert (lead["other_allele"], lead["effect_allele"]) == (variant.ref, variant.alt)
    assert lead["beta"] == pytest.approx(3.0, abs=0.5)
    assert lead["p"] < 1e-20
    assert lead["statistic"] == pytest.approx(lead["beta"] / lead["se"])
    counted = split.pooled.genotypes[split.pooled.variants.index(variant)]
    assert lead["frequency"] == pytest.approx(af(counted), abs=0.05)


def test_released_tables_hold_exactly_what_is_declared() -> None:
    algorithm, split = planted()
    for sites in (split.sites, [s.where(np.arange(s.view.people) < 100) for s in split.sites]):
        for name, table in run(algorithm, sites).items():
            assert tuple(table.columns) == tuple(GwasLinear.releases[name].columns)
    told = run(algorithm, split.sites)
    tested = told["summary"].ints("tested")[0]
    assert told["qq"].ints("variants").sum() == tested == told["manhattan"].ints("tested").sum()
    assert told["summary"].ints("people")[0] + told["summary"].ints("related")[0] + told["summary"].ints("incomplete")[
        0
    ] == sum(s.view.people for s in split.sites)


def test_nothing_tested_is_an_answer_too() -> None:
    algorithm, split = planted()
    told = run(replace(algorithm, minor_alleles_min=10_000), split.sites)
    assert told["hits"].rows == told["qq"].rows == told["manhattan"].rows == 0
    assert told["summary"].ints("tested")[0] == 0
    assert np.isnan(told["summary"].floats("lambda_gc")[0])
    assert tuple(told["hits"].columns) == tuple(GwasLinear.releases["hits"].columns)


def test_only_gated_variants_go_on_and_only_hits_are_named() -> None:
    algorithm, split = planted()
    watched = Watched(threshold_gate(10))
    told = run(algorithm, split.sites, gate=watched)
    scored = [t for t in watched.totals if "squares" in t]
    counted = [t for t in watched.totals if "copies" in t]
    everything = sum(index.rows for index in blocks_for(split.sites, algorithm.reads.variants))
    assert 0 < sum(t.rows for t in scored) < everything
    assert len(counted) >= len(scored)
    assert told["summary"].ints("tested")[0] == sum(t.rows for t in scored)
    assert told["hits"].rows < 5


def test_order_of_nodes_does_not_matter() -> None:
    algorithm, split = planted()
    one = statistics(algorithm, split.sites)
    two = statistics(algorithm, split.sites[::-1])
    np.testing.assert_allclose(one.floats("statistic"), two.floats("statistic"), rtol=1e-9, atol=1e-9)
