"""Perturbation is drawn once for a set of people and a statistic, evenly, and from the secret alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from federome.disclosure.sticky import sticky_k, sticky_noise, sticky_round, uniforms
from federome.errors import Invalid
from federome.model.release import Policy

SECRET = b"a node's own secret, 32 bytes ..."
NAMES = [f"statistic {n}" for n in range(20_000)]


def test_the_same_people_and_statistic_get_the_same_number_and_any_other_another() -> None:
    once = uniforms(SECRET, "people", NAMES[:3])
    assert once.tolist() == uniforms(SECRET, "people", NAMES[:3]).tolist()
    assert once[1] == uniforms(SECRET, "people", NAMES[1:2])[0]  # whichever table it stands in
    for other in (
        uniforms(SECRET + b"!", "people", NAMES[:3]),
        uniforms(SECRET, "other people", NAMES[:3]),
        uniforms(SECRET, "people", NAMES[3:6]),
    ):
        assert not np.isin(once, other).any()


def test_numbers_are_even_and_independent_of_their_names() -> None:
    drawn = uniforms(SECRET, "people", NAMES)
    assert kstest(drawn, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.03


def test_a_short_secret_is_none() -> None:
    with pytest.raises(Invalid):
        uniforms(b"short", "people", ["x"])


def test_a_name_cannot_slip_into_the_digest() -> None:
    assert uniforms(SECRET, "ab", ["c"])[0] != uniforms(SECRET, "a", ["bc"])[0]


def test_the_distance_is_drawn_evenly_from_k_to_twice_k() -> None:
    policy = Policy(difference_min=10)
    drawn = [sticky_k(SECRET, f"people {n}", policy) for n in range(5_000)]
    assert set(drawn) == set(range(10, 21))
    assert chisquare(np.bincount(drawn, minlength=21)[10:]).pvalue > 0.001
    assert min(sticky_k(SECRET, f"people {n}", Policy()) for n in range(500)) == 64
    assert sticky_k(SECRET, "people", Policy(open_data=True)) == 0
    assert drawn[:50] == [sticky_k(SECRET, f"people {n}", policy) for n in range(50)]


def test_rounding_goes_to_a_neighbouring_multiple_without_bias() -> None:
    values = np.full(len(NAMES), 13)
    told = sticky_round(values, 5, secret=SECRET, members="people", statistics=NAMES)
    assert set(told.tolist()) == {10, 15}
    assert told.mean() == pytest.approx(13, abs=0.1)
    whole = sticky_round(np.array([15]), 5, secret=SECRET, members="people", statistics=["x"])
    assert whole.tolist() == [15]
    with pytest.raises(Invalid):
        sticky_round(values, 5, secret=SECRET, members="people", statistics=["one"])


@pytest.mark.parametrize("scale", [0.5, 3.0, 20.0])
def test_noise_is_two_sided_geometric(scale: float) -> None:
    noise = sticky_noise(scale, secret=SECRET, members="people", statistics=NAMES)
    ratio = np.exp(-1 / scale)
    values = np.arange(-4, 5)
    expected = (1 - ratio) / (1 + ratio) * ratio ** np.abs(values)
    seen = np.array([(noise == value).mean() for value in values])
    assert np.abs(seen - expected).max() < 4 * np.sqrt(0.25 / len(NAMES))
    assert noise.mean() == pytest.approx(0, abs=5 * scale * np.sqrt(2 / len(NAMES)))
    assert noise.var() == pytest.approx(2 * ratio / (1 - ratio) ** 2, rel=0.1)
    with pytest.raises(Invalid):
        sticky_noise(0.0, secret=SECRET, members="people", statistics=["x"])
