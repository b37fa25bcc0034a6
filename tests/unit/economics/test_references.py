"""Published models and tables, to every digit in which they are printed."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from federome.bench.econ import CDIFF, DAMPACK, SICK_SICKER, Published, _beside, measure
from federome.economics.evaluate import totals, trace
from federome.economics.incremental import compare, compare_table
from federome.economics.model import Counting
from federome.economics.read import find_model, read_model
from federome.economics.uncertainty import draw


@pytest.mark.parametrize("counting", list(SICK_SICKER))
def test_sick_sicker_to_every_printed_digit(counting: Counting) -> None:
    found = totals(find_model("sick-sicker").with_counting(counting)).table()
    for name, (cost, effect) in SICK_SICKER[counting].items():
        assert (round(found[name]["cost"], 3), round(found[name]["qaly"], 6)) == (cost, effect), name


def test_sick_sicker_s_comparison_is_the_published_one() -> None:
    soc, b, ab, a = compare_table(totals(find_model("sick-sicker")).table(), "cost", "qaly")
    assert [each.strategy for each in (soc, b, ab, a)] == ["SoC", "B", "AB", "A"]
    assert b.icer is not None
    assert ab.icer is not None
    assert (round(b.icer), round(ab.icer)) == (72988, 125764)  # as printed in the tutorial
    assert (round(b.icer, 3), round(ab.icer, 3)) == (72987.636, 125763.786)
    assert a.status == "dominated"


def test_sick_sicker_s_probabilistic_means() -> None:
    """100,000 draws of the reference gave these means; ours are other draws, so they agree within five errors."""
    model = find_model("sick-sicker")
    reference = {"SoC": (151433, 20.556), "A": (284184, 21.379), "B": (258702, 21.971), "AB": (378136, 22.965)}
    draws = 10_000
    found = totals(model, draw(model, draws, seed=3))
    for at, name in enumerate(found.strategies):
        for column, expected in zip((0, 1), reference[name], strict=True):
            values = found.values[at, column]
            error = values.std() * math.sqrt(1 / draws + 1 / 100_000)
            assert abs(values.mean() - expected) < 5 * error, (name, column)


def test_hiv_to_every_printed_digit() -> None:
    found = totals(find_model("hiv-briggs")).table()
    mono, comb = found["mono"], found["comb"]
    assert [round(mono["cost"], 7), round(mono["life_years"], 7)] == [44663.4535637, 7.9912066]
    assert [round(comb["cost"], 7), round(comb["life_years"], 7)] == [50601.6513312, 8.9373889]
    _, combined = compare_table(found, "cost", "life_years")
    assert combined.icer is not None
    assert round(combined.icer, 5) == 6275.95560


def test_hip_replacement_to_every_printed_digit() -> None:
    found = totals(find_model("hip-briggs")).table()
    standard, new = found["standard"], found["np1"]
    assert [round(standard["cost"], 6), round(standard["qaly"], 7)] == [512.434658, 14.6531896]
    assert [round(new["cost"], 6), round(new["qaly"], 8)] == [610.311818, 14.69770986]
    _, compared = compare_table(found, "cost", "qaly")
    assert compared.icer is not None
    assert round(compared.icer, 6) == 2198.486665


def test_hip_replacement_s_first_years() -> None:
    """The workbook's counts of the first eight years: successful, revision, revised, dead."""
    states, shares = trace(find_model("hip-briggs"), "standard")
    expected = [
        [0.98000000, 0.0, 0.0, 0.0200000],
        [0.97265720, 0.0007768, 0.0, 0.02656600],
        [0.96516548, 0.00097491, 0.00075606, 0.03310354],
        [0.95757109, 0.00115802, 0.00166964, 0.03960125],
        [0.93783561, 0.00132115, 0.00268314, 0.05816010],
        [0.91838963, 0.00145307, 0.00379326, 0.07636404],
        [0.89924305, 0.00157339, 0.00496429, 0.09421927],
        [0.88040225, 0.00168398, 0.00618146, 0.11173231],
    ]
    assert states == ("Primary", "Successful", "Revision", "Revised", "Dead")
    assert np.round(shares[1:9, 1:], 8) == pytest.approx(np.array(expected), abs=1e-8)


@pytest.mark.parametrize("told", DAMPACK, ids=lambda told: told.name)
def test_frontiers_of_dampack(told: Published) -> None:
    costs, effects = zip(*told.table.values(), strict=True)
    found = {each.strategy: each for each in compare(list(told.table), costs, effects)}
    ratios = {name: round(each.icer, told.digits) for name, each in found.items() if each.icer is not None}
    assert ratios == told.icers
    assert {name: each.status for name, each in found.items() if each.status != "frontier"} == told.off


def test_dampack_c_difficile_to_every_digit_kept() -> None:
    costs, effects = zip(*CDIFF.values(), strict=True)
    front = [each for each in compare(list(CDIFF), costs, effects) if each.status == "frontier"]
    assert [each.strategy for each in front] == ["s3", "s27", "s33", "s31", "s43", "s44"]
    expected = [2769.85470915263, 4065.03105249231, 5056.2216470406, 8504.2160616553, 38362.6519947134]
    assert [each.icer for each in front[1:]] == pytest.approx(expected, rel=1e-9)


def test_the_benchmark_finds_every_published_total_reproduced() -> None:
    rows = measure(Console(quiet=True), quick=True)
    published = [row for row in rows if row.peer == "published"]
    assert len(published) == 50
    assert all(row.ok for row in published)
    assert not _beside("x", 1.006, 1.0, 2, "").ok, "a difference in the last printed digit is seen"


def test_the_documented_model_runs() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/economic-models.md").read_text()
    (text,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    found = totals(read_model(text, "screening.toml")).table()
    assert found["screening"]["qaly"] > found["none"]["qaly"]
