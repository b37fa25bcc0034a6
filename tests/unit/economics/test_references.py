"""Published models and tables, to every digit in which they are printed."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from federome.bench.econ import _beside, measure
from federome.economics.evaluate import totals, trace
from federome.economics.incremental import compare, compare_table
from federome.economics.model import Counting
from federome.economics.read import find_model, read_model
from federome.economics.uncertainty import draw

# Alarid-Escudero et al. 2023 (inputs), our printed reference (totals), by cycle correction.
SICK_SICKER: dict[Counting, dict[str, tuple[float, float]]] = {
    "simpson": {
        "SoC": (151579.866, 20.711331),
        "A": (284804.513, 21.498663),
        "B": (259100.411, 22.184465),
        "AB": (378875.198, 23.136844),
    },
    "half": {
        "SoC": (152262.291, 21.038151),
        "A": (285676.923, 21.828836),
        "B": (259991.515, 22.511198),
        "AB": (379955.447, 23.466846),
    },
    "none": {
        "SoC": (153541.413, 21.554487),
        "A": (287185.641, 22.345544),
        "B": (261490.974, 23.032608),
        "AB": (381676.096, 23.988969),
    },
}
# dampack's vignette on the C. difficile analysis: cost and effect of each strategy, as shipped (cdiff_icers.csv).
CDIFF = {
    "s3": (57336.0059896538, 12.9399639202408),
    "s27": (57541.2526373815, 13.0140640696275),
    "s33": (57642.2587507842, 13.0389116321918),
    "s31": (57934.0743411241, 13.0966257932217),
    "s43": (58072.1137208494, 13.11285766912),
    "s44": (58665.7823044647, 13.1283328397025),
    "s39": (57814.6470919581, 13.0462790163185),
    "s4": (57887.481549326, 12.9970657153765),
    "s13": (58018.6252420203, 13.0650412387992),
    "s37": (58081.7947984323, 13.1029711156978),
    "s20": (58634.2026441398, 13.1100568867995),
}


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


def test_dampack_hiv_screening() -> None:
    costs = [26000, 27000, 28020, 28440, 29440]
    effects = [months / 12 for months in (277.25, 277.57, 277.78, 277.83, 277.76)]
    names = ["none", "once", "5 years", "3 years", "annual"]
    found = compare(names, costs, effects)
    assert [each.strategy for each in found] == names
    assert [round(each.icer or 0, 2) for each in found[1:4]] == [37500.0, 58285.71, 100800.0]
    assert found[4].status == "dominated"


def test_dampack_va_case() -> None:
    names = ["E", "D", "C", "B", "A", "UC"]
    found = {
        each.strategy: each
        for each in compare(names, [55000, 35000, 25000, 10000, 12000, 5000], [5.0, 4, 3, 2, 1.5, 1])
    }
    assert [round(found[name].icer or 0, 6) for name in ("UC", "B", "D", "E")] == [0, 5000, 12500, 20000]
    assert (found["C"].status, found["A"].status) == ("extendedly dominated", "dominated")


def test_dampack_c_difficile() -> None:
    costs, effects = zip(*CDIFF.values(), strict=True)
    found = compare(list(CDIFF), costs, effects)
    front = [each for each in found if each.status == "frontier"]
    assert [each.strategy for each in front] == ["s3", "s27", "s33", "s31", "s43", "s44"]
    expected = [2769.85470915263, 4065.03105249231, 5056.2216470406, 8504.2160616553, 38362.6519947134]
    assert [each.icer for each in front[1:]] == pytest.approx(expected, rel=1e-9)
    assert {each.strategy for each in found if each.status == "extendedly dominated"} == {"s39"}
    assert {each.strategy for each in found if each.status == "dominated"} == {"s4", "s13", "s37", "s20"}


def test_the_benchmark_finds_every_published_total_reproduced() -> None:
    rows = measure(Console(quiet=True), quick=True)
    published = [row for row in rows if row.peer == "published"]
    assert len(published) == 28
    assert all(row.ok for row in published)
    assert not _beside("x", 1.006, 1.0, 2, "").ok, "a difference in the last printed digit is seen"


def test_the_documented_model_runs() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/economic-models.md").read_text()
    (text,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    found = totals(read_model(text, "screening.toml")).table()
    assert found["screening"]["qaly"] > found["none"]["qaly"]
