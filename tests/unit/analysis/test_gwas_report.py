"""What is released of an association run, and the numerics beneath it: tails, clumps, inflation, QQ, Manhattan."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from federome.analysis import gwas_report, spa
from federome.analysis.algorithm import Finished, Table
from federome.analysis.logistic import intercepts
from federome.analysis.regression import (
    collinear,
    inverted,
    minus_log10_normal,
    minus_log10_student,
    packed,
    unpacked,
)
from federome.model.variant import Bin, Variant


@pytest.mark.parametrize("freedom", [3.0, 50.0, 1e4, 1e6])
def test_student_tails_agree_with_integration_beyond_what_floats_can_hold(freedom: float) -> None:
    def by_integration(t: float) -> float:
        law = stats.t(freedom)
        rate = (freedom + 1) * t / (freedom + t * t)

        def relative(s: float) -> float:
            u = t + s / rate
            return float(np.exp((freedom + 1) / 2 * (np.log1p(t * t / freedom) - np.log1p(u * u / freedom))))

        area, _ = integrate.quad(relative, 0, np.inf, epsabs=0, epsrel=1e-12, limit=500)
        return float(-(law.logpdf(t) + np.log(2 * area / rate)) / np.log(10))

    found = minus_log10_student(np.array([0.5, 3.0, 25.0, 45.0, 80.0]), freedom)
    wanted = [by_integration(t) for t in (0.5, 3.0, 25.0, 45.0, 80.0)]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    assert minus_log10_student(np.array([0.0, np.inf]), freedom).tolist() == [0.0, np.inf]


def test_normal_tails_do_not_underflow() -> None:
    np.testing.assert_allclose(minus_log10_normal(np.array([-1.96])), -np.log10(2 * stats.norm.sf(1.96)), rtol=1e-12)
    assert minus_log10_normal(np.array([100.0]))[0] == pytest.approx(-(stats.norm.logsf(100) + np.log(2)) / np.log(10))


def test_triangles_and_inverses_of_many_matrices() -> None:
    rng = np.random.default_rng(1)
    unit = np.array([1, 1e-6, 1e6, 1])
    roots = rng.normal(size=(5, 4, 6)) * unit[:, None]
    matrices = roots @ np.swapaxes(roots, 1, 2)
    np.testing.assert_array_equal(unpacked(packed(matrices), 4), matrices)
    matrices[2, 3] = matrices[2, :, 3] = 0
    inverse = inverted(matrices)
    assert np.isnan(inverse[2]).all()
    for each in (0, 1, 3, 4):
        in_units = np.linalg.inv(matrices[each] / np.outer(unit, unit))
        np.testing.assert_allclose(inverse[each] * np.outer(unit, unit), in_units, rtol=1e-9)
    assert inverted(np.zeros((0, 0))).shape == (0, 0)


def test_the_first_column_that_others_explain_is_named() -> None:
    x = np.random.default_rng(2).normal(size=(50, 3))
    design = np.column_stack([x, x[:, 0] + 2 * x[:, 1], x[:, 2]])
    cross = design.T @ design
    assert collinear(cross, np.diag(cross)) == 3
    assert collinear(cross[:3, :3], np.diag(cross)[:3]) is None
    assert collinear(np.zeros((0, 0)), np.zeros(0)) is None


@given(st.integers(0, 10_000))
def test_intercepts_solve_their_equation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    linear = rng.normal(size=(3, 12)) * rng.choice([0.1, 1, 30], size=(3, 1))
    outcome = np.zeros(12)
    outcome[: rng.integers(1, 12)] = 1
    chance = 1 / (1 + np.exp(-np.clip(linear + intercepts(linear, outcome)[:, None], -700, 700)))
    np.testing.assert_allclose(chance.sum(axis=1), outcome.sum(), atol=1e-9)


def test_saddle_points_know_what_cannot_happen() -> None:
    """One carrier among four people: a score beyond the carrier being a case has probability zero."""
    adjusted, chance = np.array([[0.9, -0.1, -0.1, -0.1]]), np.full(4, 0.1)
    reach = spa.support(adjusted, chance)
    scores = [float(adjusted[0] @ (np.array(y) - chance)) for y in itertools.product((0, 1), repeat=4)]
    np.testing.assert_allclose(reach, [[max(scores), -min(scores)]])
    search = spa.Search.start(np.array([1.2 * max(scores)]), np.array([0.1]))
    assert search.possible(reach).tolist() == [[False, False]]
    _, found = search.advance(spa.cumulants(adjusted, chance, search.point).reshape(1, 2, 3), reach)
    assert found.all()
    assert np.isnan(search.minus_log10_p(spa.cumulants(adjusted, chance, search.point), reach)).all()


def slow_clumps(chromosome: list[str], position: list[int], strength: list[float], window: int) -> dict[int, int]:
    left, out = set(range(len(position))), {}
    while left:
        lead = max(left, key=lambda i: (round(strength[i], 8), -int(chromosome[i]), -position[i], -i))
        near = {i for i in left if chromosome[i] == chromosome[lead] and abs(position[i] - position[lead]) <= window}
        out[lead] = len(near)
        left -= near
    return out


@given(
    st.lists(
        st.tuples(st.sampled_from(["1", "2", "10"]), st.integers(1, 60), st.integers(5, 9)), min_size=1, max_size=25
    )
)
def test_clumps_equal_the_slow_twin(found: list[tuple[str, int, int]]) -> None:
    chromosome, position, strength = (list(column) for column in zip(*found, strict=True))
    lead, size = gwas_report.clumps(
        np.array(chromosome), np.array(position, np.int64), np.array(strength, float), window=7
    )
    assert dict(zip(lead.tolist(), size.tolist(), strict=True)) == slow_clumps(chromosome, position, strength, 7)
    order = [(int(chromosome[i]), position[i]) for i in lead.tolist()]
    assert order == sorted(order)
    assert size.sum() == len(found)


def test_uniform_p_values_lie_on_the_diagonal_and_are_not_inflated() -> None:
    p = (np.arange(1, 20_001) - 0.5) / 20_000
    strength = -np.log10(np.random.default_rng(3).permutation(p))
    assert gwas_report.inflation(strength) == pytest.approx(1, abs=1e-3)
    table = gwas_report.qq(strength)
    np.testing.assert_allclose(table.floats("observed"), table.floats("expected"), rtol=0.03, atol=0.002)
    assert table.ints("variants").sum() == len(p)
    assert table.rows <= gwas_report.QQ_POINTS
    inflated = -np.log10(2 * stats.norm.sf(1.2 * np.abs(stats.norm.isf(p / 2))))
    assert gwas_report.inflation(inflated) == pytest.approx(1.44, rel=1e-3)


def test_manhattan_tells_the_strongest_per_megabase() -> None:
    places = [("1", 1_500_000), ("1", 1_999_999), ("1", 2_000_000), ("X", 100_000), ("X", 3_000_000)]
    bins = np.array([Bin.of(Variant.of("GRCh38", c, p, "A", "C")).code for c, p in places])
    told = gwas_report.manhattan(bins, np.array([1.0, 3.0, 2.0, 0.5, 4.0])).records()
    assert [(r["chromosome"], r["start"], r["tested"], r["minus_log10_p"]) for r in told] == [
        ("1", 1_000_000, 2, 3.0),
        ("1", 2_000_000, 1, 2.0),
        ("PAR1", 0, 1, 0.5),
        ("X", 3_000_000, 1, 4.0),
    ]


def test_effects_turn_with_the_allele_they_are_told_for() -> None:
    kept = Table(
        {
            "row": np.array([2, 5]),
            "people": np.array([90, 95]),
            "frequency": np.array([0.25, 0.4]),
            "beta": np.array([1.5, -2.0]),
            "se": np.array([0.1, 0.2]),
            "statistic": np.array([15.0, -10.0]),
            "minus_log10_p": np.array([50.0, 23.0]),
        }
    )
    names = Table(
        {
            "row": np.array([2, 5]),
            "chromosome": np.array(["1", "1"]),
            "position": np.array([10, 9_000_000]),
            "ref": np.array(["A", "T"]),
            "alt": np.array(["C", "G"]),
            "flipped": np.array([False, True]),
        }
    )
    block = Finished(0, "1", np.zeros(8, np.int64), kept, names)
    declared = {"hits": gwas_report.hits_rows()}
    hits = gwas_report.report([block], Table({"people": np.array([100])}), declared, window_kb=500, most=20)[
        "hits"
    ].records()
    assert [(h["effect_allele"], h["beta"], h["statistic"], round(float(str(h["frequency"])), 9)) for h in hits] == [
        ("C", 1.5, 15.0, 0.25),
        ("G", 2.0, 10.0, 0.6),
    ]


def test_no_more_hits_are_told_than_a_study_pays_for() -> None:
    strength = np.array([9.0, 50.0, 23.0, 8.0, 31.0])
    numbers = {name: np.linspace(0.1, 0.2, 5) for name in ("frequency", "beta", "se", "statistic")}
    rows = np.arange(5)
    kept = Table({"row": rows, "people": np.full(5, 90), **numbers, "minus_log10_p": strength})
    texts = {name: np.full(5, letter) for name, letter in (("chromosome", "1"), ("ref", "A"), ("alt", "C"))}
    names = Table({"row": rows, **texts, "position": 9_000_000 * (1 + rows), "flipped": np.zeros(5, np.bool_)})
    block = Finished(0, "1", np.zeros(5, np.int64), kept, names)
    for most in (1, 3, 5, 20):
        told = gwas_report.report(
            [block], Table({"people": np.array([90])}), {"hits": gwas_report.hits_rows()}, window_kb=500, most=most
        )
        strongest = sorted(strength.tolist(), reverse=True)[:most]
        assert sorted(told["hits"].floats("minus_log10_p").tolist(), reverse=True) == strongest
        assert np.all(np.diff(told["hits"].ints("position")) > 0)
        assert told["summary"].ints("left_out").tolist() == [5 - len(strongest)]
