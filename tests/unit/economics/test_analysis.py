"""Sensitivity, budgets, reports and commands."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from typer.testing import CliRunner

from federome.cli.econ import econ_app
from federome.economics.analysis import evaluate_model
from federome.economics.cheers import checklist
from federome.economics.countries import country
from federome.economics.evaluate import totals, trace, yearly
from federome.economics.figures import figures
from federome.economics.read import find_model, read_model, shipped
from federome.economics.report import html
from federome.economics.sensitivity import budget_impact, one_way, tornado, two_way
from federome.economics.uncertainty import draw
from federome.errors import Invalid

MODEL = find_model("sick-sicker")


def test_one_and_two_ways_are_single_runs_put_together() -> None:
    prices = [8000.0, 12000.0, 16000.0]
    costs, effects = one_way(MODEL, "c_trtA", prices)
    for at, price in enumerate(prices):
        alone = totals(MODEL, {"c_trtA": np.array([price])})
        assert costs[at] == pytest.approx(alone.of("cost")[0])
        assert effects[at] == pytest.approx(alone.of("qaly")[0])
    grid, _ = two_way(MODEL, ("c_trtA", prices), ("u_S1", [0.6, 0.8]))
    assert grid.shape == (3, 2, 4)
    assert grid[:, 0] == pytest.approx(costs)


def test_a_tornado_is_sorted_and_its_ends_are_runs() -> None:
    bars = tornado(MODEL, "AB", "B", threshold=100_000)
    assert [bar.width for bar in bars] == sorted((bar.width for bar in bars), reverse=True)
    bar = bars[0]
    found = totals(MODEL, {bar.parameter: np.array([bar.low])})
    net = 100_000 * found.of("qaly")[0] - found.of("cost")[0]
    assert bar.at_low == pytest.approx(net[3] - net[2])


def test_only_constants_are_moved() -> None:
    with pytest.raises(Invalid, match="no constant"):
        one_way(MODEL, "p_HD", [0.1])
    with pytest.raises(Invalid, match="two different strategies"):
        tornado(MODEL, "B", "B", threshold=1)
    with pytest.raises(Invalid, match="two different parameters"):
        two_way(MODEL, ("c_H", [1.0]), ("c_H", [2.0]))


def test_budget_year_by_year() -> None:
    """Two years' entries by hand: the second year pays the new ones' first year and the old ones' second."""
    spent = yearly(MODEL, "cost")
    soc, b = spent[0], spent[2]
    found = budget_impact(MODEL, [100, 50], now={"SoC": [1, 1]}, planned={"SoC": [0.5, 0.0], "B": [0.5, 1.0]})
    assert found.now == pytest.approx([100 * soc[0], 50 * soc[0] + 100 * soc[1]])
    assert found.planned[1] == pytest.approx(50 * b[0] + 50 * soc[1] + 50 * b[1])
    assert found.net == pytest.approx(found.planned - found.now)
    _, shares = trace(MODEL, "SoC")
    assert soc[1] == pytest.approx(shares[1] @ [2000, 4000, 15000, 0])


def test_a_tree_s_budget_falls_into_the_years_of_its_nodes() -> None:
    model = find_model("rare-disease-genome-first")
    spent = yearly(model, "cost")
    values = {name: each.value for name, each in model.parameters.items()}
    assert spent.shape == (3, 3)
    assert spent[2][0] == pytest.approx(
        values["c_genome"] + (1 - values["yield_genome"]) * values["c_search"] * 5  # type: ignore[operator]
    )


def test_shares_that_do_not_sum_to_one() -> None:
    for now in ({"SoC": [0.5]}, {"SoC": [1.0, 1.0]}, {"X": [1.0]}, {"SoC": [1.5], "A": [-0.5]}):
        with pytest.raises(Invalid):
            budget_impact(MODEL, [10], now=now, planned={"SoC": [1.0]})


def test_correlated_draws() -> None:
    text = shipped()["sick-sicker"] + ('\n[correlations.costs]\nparameters = ["c_S1", "c_S2"]\ncorrelation = 0.8\n')
    model = read_model(text, "mine.toml")
    drawn = draw(model, 20_000, seed=1)
    from scipy.stats import norm, rankdata

    one, two = (norm.ppf((rankdata(drawn[name]) - 0.5) / 20_000) for name in ("c_S1", "c_S2"))
    assert np.corrcoef(one, two)[0, 1] == pytest.approx(0.8, abs=0.01)
    assert drawn["c_S1"].mean() == pytest.approx(177.8 * 22.5, rel=0.01)
    assert (drawn["c_H"] == draw(MODEL, 20_000, seed=1)["c_H"]).all(), "other parameters keep their draws"
    impossible = text + (
        '[correlations.b]\nparameters = ["c_S1", "c_H"]\ncorrelation = 0.9\n'
        '[correlations.c]\nparameters = ["c_S2", "c_H"]\ncorrelation = -0.9\n'
    )
    with pytest.raises(Invalid, match="contradict each other"):
        draw(read_model(impossible, "mine.toml"), 10, seed=1)


def test_shares_drawn_together_sum_to_one() -> None:
    drawn = draw(find_model("hiv-briggs"), 5000, seed=1)
    total = sum(drawn[name] for name in ("p_AA", "p_AB", "p_AC", "p_AD"))
    assert total == pytest.approx(np.ones(5000))
    assert drawn["p_AB"].mean() == pytest.approx(350 / 1734, rel=0.01)


@pytest.mark.parametrize("name", ["prs-statins", "pgx-panel"])
def test_the_report_is_whole(name: str) -> None:
    model = find_model(name)
    found = evaluate_model(model, threshold=50_000, draws=600, seed=1)
    drawn = figures(found)
    page = html(found, profile=country("NL"))
    assert page.count("<svg") == len(drawn)
    assert not re.search(r"<script|src=|@import|<link", page)
    for each in found.compared:
        assert f"<td>{each.strategy}</td>" in page
    for svg in drawn.values():
        ET.fromstring(svg)
    assert figures(found) == drawn
    items = checklist(found)
    assert [each.number for each in items] == list(range(1, 29))
    assert found.best in items[22].answer
    told = json.loads(json.dumps(found.document()))
    assert told["best"] == found.best
    assert len(told["probabilistic"]["acceptability"]) >= 41


def test_what_people_write_cannot_break_the_page() -> None:
    text = shipped()["pgx-panel"].replace('title = "Pharma', 'title = "<script>alert(1)</script>Pharma', 1)
    page = html(evaluate_model(read_model(text, "mine.toml"), threshold=1.0))
    assert "<script" not in page


def test_commands() -> None:
    runner = CliRunner()
    done = runner.invoke(econ_app, ["run", "sick-sicker", "--threshold", "100000", "--psa", "600", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert [round(each["icer"]) for each in told["comparison"] if each["icer"]] == [72988, 125764]
    assert told["probabilistic"]["draws"] == 600
    done = runner.invoke(econ_app, ["compare", "brca-cascade", "NL", "SE", "GB", "--json"])
    assert [each["currency"] for each in json.loads(done.output)["evaluations"]] == ["EUR", "SEK", "GBP"]
    done = runner.invoke(econ_app, ["run", "pgx-panel", "--country", "NO", "--psa", "50"])
    assert "NOK, prices of 2023" in done.output
    assert isinstance(runner.invoke(econ_app, ["run", "nothing"]).exception, Invalid)
    assert isinstance(runner.invoke(econ_app, ["run", "pgx-panel", "--json", "--html"]).exception, Invalid)
    assert isinstance(runner.invoke(econ_app, ["run", "pgx-panel", "--result", "actionable"]).exception, Invalid)


def test_commands_that_move_constants_and_add_up_budgets() -> None:
    def told(*words: str) -> dict[str, object]:
        done = CliRunner().invoke(econ_app, [*words, "--json"])
        assert done.exit_code == 0, done.output
        return dict(json.loads(done.stdout))

    one = told("vary", "sick-sicker", "--over", "c_trtA=8000:16000:3", "--threshold", "100000")
    assert one["over"] == [{"parameter": "c_trtA", "values": [8000.0, 12000.0, 16000.0]}]
    costs, effects = one_way(MODEL, "c_trtA", [8000.0, 12000.0, 16000.0])
    assert np.array_equal(np.array(one["costs"]), costs)
    assert one["best"] == (100_000 * effects - costs).argmax(axis=1).tolist()
    grid = CliRunner().invoke(
        econ_app, ["vary", "sick-sicker", "--over", "c_trtB=1000:90000:2", "--over", "u_S1=0.6:0.8:3"]
    )
    last = [line.split() for line in grid.stdout.splitlines()[-2:]]
    assert last == [["1000", "B", "B", "B"], ["90000", "SoC", "SoC", "SoC"]]
    spent = told(
        "budget",
        "sick-sicker",
        "--entering",
        "100,50",
        "--now",
        "SoC=1",
        "--planned",
        "SoC=0.5,0",
        "--planned",
        "B=0.5,1",
    )
    found = budget_impact(MODEL, [100, 50], now={"SoC": [1, 1]}, planned={"SoC": [0.5, 0.0], "B": [0.5, 1.0]})
    assert spent["net"] == found.net.tolist()


@pytest.mark.parametrize(
    "words",
    [
        ["vary", "sick-sicker", "--over", "c_trtA=1:2"],
        ["vary", "sick-sicker", "--over", "c_trtA=1:x:3"],
        ["vary", "sick-sicker", "--over", "c_trtA=1:2:1"],
        ["vary", "sick-sicker", "--over", "c_trtA=1:2:3", "--over", "c_H=1:2:3", "--over", "c_S1=1:2:3"],
        ["budget", "sick-sicker", "--entering", "10,nan", "--now", "SoC=1", "--planned", "SoC=1"],
        ["budget", "sick-sicker", "--entering", "10", "--now", "SoC", "--planned", "SoC=1"],
        ["budget", "sick-sicker", "--entering", "10", "--now", "SoC=1", "--planned", "SoC=0.5"],
    ],
)
def test_ranges_and_plans_that_cannot_be_read(words: list[str]) -> None:
    assert isinstance(CliRunner().invoke(econ_app, words).exception, Invalid)
