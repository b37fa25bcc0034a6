"""What is wrong in a model file is refused with its file, its line and its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from federome.economics.evaluate import totals
from federome.economics.read import find_model, read_model, shipped
from federome.errors import Invalid

GOOD = shipped()["sick-sicker"]
TREE = """
format = 1
id = "tree"
title = "Test all or test none"
question = "-"
population = "-"
perspective = "payer"
horizon = "5 years"
currency = "EUR"
price_year = 2023
[sources]
own = "made up for this test"
[strategies.none]
title = "Nobody"
root = "untested"
[strategies.all]
title = "Everybody"
[parameters.ill]
kind = "probability"
says = "Prevalence"
value = 0.25
source = "own"
[tree]
root = "tested"
[tree.nodes.tested]
adds = { cost = 100 }
to = { found = "ill", healthy = "rest" }
[tree.nodes.untested]
to = { missed = "ill", healthy = "rest" }
[tree.nodes.found]
adds = { cost = 1000, qaly = 3 }
[tree.nodes.missed]
years = 2
adds = { cost = 5000, qaly = 1 }
[tree.nodes.healthy]
adds = { qaly = 4 }
[outcomes.cost]
role = "cost"
unit = "EUR"
discount = 0.1
[outcomes.qaly]
role = "effect"
unit = "QALY"
discount = 0
"""


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_a_tree_is_folded_back() -> None:
    found = totals(read_model(TREE, "tree.toml")).table()
    assert found["all"] == pytest.approx({"cost": 100 + 0.25 * 1000, "qaly": 0.25 * 3 + 0.75 * 4})
    assert found["none"] == pytest.approx({"cost": 0.25 * 5000 / 1.1**2, "qaly": 0.25 * 1 + 0.75 * 4})


# what is replaced, by what, what the refusal says, and the text whose line it names
MISTAKES = [
    ('S1 = "(1 - p_HD) * p_HS1"', 'S1 = "p_HD * p_nothing"', "'p_nothing' is not defined", "moves.H.S1"),
    ('D = "p_S1D"', 'D = "r_HD"', "is a probability, and its formula gives a rate", "moves.S1.D"),
    ('formula = "probability(r_HD)"', 'formula = "probability(r_HD) + r_HD"', "do not go together", "p_HD.formula"),
    ('formula = "probability(r_HD)"', 'formula = "probability(p_HS1)"', "argument 1 of probability", "p_HD.formula"),
    ('formula = "probability(r_HD)"', 'formula = "probability(r_HD * r_HS1)"', "two rates", "p_HD.formula"),
    ('formula = "probability(r_HD)"', 'formula = "p_S1D * c_H"', "gives a amount", "p_HD.formula"),
    ('formula = "probability(r_HD)"', 'formula = "1 - p_HS1 * p_HD"', "p_HD → p_HD", "p_HD.formula"),
    ('formula = "probability(r_HD)"', 'formula = "open(1)"', "no function 'open'", "p_HD.formula"),
    ('formula = "probability(r_HD)"', 'formula = "r_HD.real"', "not part of the language", "p_HD.formula"),
    ('formula = "probability(r_HD)"', 'formula = "[1][0]"', "not part of the language", "p_HD.formula"),
    ('formula = "probability(r_HD)"', 'formula = "lambda: 1"', "not part of the language", "p_HD.formula"),
    ('formula = "probability(r_HD)"', 'formula = "p_HS1 +"', "is not a formula", "p_HD.formula"),
    ("value = 0.002", "value = -0.002", "not negative", "r_HD.value"),
    ("value = 0.002", 'value = "little"', "finite number is expected", "r_HD.value"),
    ("value = 0.002", "value = nan", "finite number is expected", "r_HD.value"),
    ("value = 0.002", "", "this entry is missing", "r_HD"),
    ("shape = 20, rate = 10000", "shape = -20, rate = 10000", "no gamma law", "r_HD.distribution"),
    ("gamma = { shape = 20, rate = 10000 }", "normal = { mean = 1, sd = 1 }", "rates below 0", "r_HD.distribution"),
    ("beta = { a = 200, b = 3 }", "beta = { mean = 0.9, sd = 0.5 }", "sd² must be", "u_H.distribution"),
    ("beta = { a = 200, b = 3 }", "cauchy = { a = 1 }", "'cauchy' is not known", "u_H.distribution"),
    ("gamma = { shape = 100, scale = 20 }", "beta = { a = 1, b = 2 }", "which no cost is", "c_H.distribution"),
    ('states = ["H", "S1", "S2", "D"]', 'states = ["H", "S1", "S2", "D", "E"]', "'E' has no moves", "cohort.moves"),
    ("H = 1\n[cohort.moves.H]", "X = 1\n[cohort.moves.H]", "no such state", "cohort.start.X"),
    ('counting = "simpson"', 'counting = "thirds"', "'thirds' is not known", "cohort.counting"),
    ("cycles = 75", "cycles = 0", "whole number from 1", "cohort.cycles"),
    ("discount = 0.03\nstates = { H = \"u_H\"", "discount = 3\nstates = { H = \"u_H\"", "below 1", "outcomes.qaly"),
    ('role = "effect"', 'role = "efect"', "'efect' is not known", "outcomes.qaly.role"),
    ('source = "darth"', 'source = "memory"', "not listed under [sources]", "r_HD.source"),
    ('says = "Healthy people die, per year"', 'say = "x"', "this entry is missing", "r_HD"),
    ("set = { a = 1, b = 0 }", "set = { a = 1 }", "'b' is set by some strategies", "strategies.A"),
    ('id = "sick-sicker"', 'id = "sick-sicker"\ncolour = "red"', "nothing is known by this name", "colour"),
    ("format = 1", "format = 2", "format 1 is expected", "format"),
    ("[parameters.r_HD]", "[parameters.cycle]", "a meaning of its own", "parameters.cycle"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "told", "name"), MISTAKES, ids=[f"{n}-{at}" for at, (*_, n) in enumerate(MISTAKES)]
)
def test_mistakes_in_the_file(old: str, new: str, told: str, name: str) -> None:
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    with pytest.raises(Invalid) as caught:
        read_model(text, "mine.toml")
    assert told in caught.value.message
    assert caught.value.where.startswith("mine.toml, line ")
    assert name in caught.value.where


def test_the_line_is_the_right_one() -> None:
    text = GOOD.replace('formula = "probability(r_S1H)"', 'formula = "probability(r_typo)"')
    with pytest.raises(Invalid, match="'r_typo' is not defined") as caught:
        read_model(text, "mine.toml")
    assert f"line {line_of(text, 'probability(r_typo)')}," in caught.value.where


# found when numbers are put in
BAD_NUMBERS = [
    ('H = "rest"\nS1 = "(1 - p_HD)', 'H = 0.5\nS1 = "(1 - p_HD)', "the row moves.H sums to 0.641", "moves.H.D"),
    ('S2 = "(1 - p_S1D) * p_S1S2_here"', 'S2 = 0.7', "sum to 1.09", "moves.S1.S1"),
    ('D = "p_S2D"', 'D = "1 - 60 * p_S2D"', "is -0.18", "moves.S2.D"),
    ("value = 0.5\ndistribution = { gamma = { shape = 60", "value = 1.5\ndistribution = { gamma = { shape = 60",
     "above one event per cycle", "p_S1H"),
    ('formula = "a * c_trtA', 'formula = "cycle * a * c_trtA', "", ""),
    ('H = 1\n[cohort.moves.H]', 'H = 0.4\nD = 0.5\n[cohort.moves.H]', "the row start sums to 0.9", "start.D"),
    ('S2 = "u_S2"', 'S2 = "u_S2 / (a - a)"', "not finite numbers", "outcomes.qaly"),
    ('S2 = "u_S2"', 'S2 = "u_S2 * state_time"', "'state_time' has no meaning here", "outcomes.qaly"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "told", "name"), BAD_NUMBERS)
def test_numbers_that_cannot_be(old: str, new: str, told: str, name: str) -> None:
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    model = read_model(text, "mine.toml")
    if not told:
        assert totals(model).table()["A"]["cost"] > totals(find_model("sick-sicker")).table()["A"]["cost"]
        return
    with pytest.raises(Invalid, match=re.escape(told)) as caught:
        totals(model)
    assert "mine.toml, line " in caught.value.where
    assert name in caught.value.where


TREE_MISTAKES = [
    ('found = "ill"', 'nowhere = "ill"', "no node 'nowhere'"),
    ('root = "untested"', 'root = "elsewhere"', "no such node"),
    ("adds = { qaly = 4 }", 'adds = { qaly = 4 }\nto = { tested = "rest" }', "round in a circle"),
    ("adds = { cost = 100 }", "adds = { money = 100 }", "no outcome 'money'"),
]


@pytest.mark.parametrize(("old", "new", "told"), TREE_MISTAKES)
def test_mistakes_in_a_tree(old: str, new: str, told: str) -> None:
    with pytest.raises(Invalid, match=re.escape(told)) as caught:
        read_model(TREE.replace(old, new, 1), "tree.toml")
    assert "tree.toml, line " in caught.value.where


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="not TOML"):
        read_model("a = [", "mine.toml")
    with pytest.raises(Invalid, match="cannot be read"):
        find_model(str(tmp_path / "none.toml"))
    with pytest.raises(Invalid, match="no model is called"):
        find_model("sick")
    (tmp_path / "big.toml").write_text("#" * (1 << 20) + "\n")
    with pytest.raises(Invalid, match="larger than 1 MB"):
        find_model(str(tmp_path / "big.toml"))


def test_formulas_cannot_tie_up_the_machine() -> None:
    for formula in ("9**9**9**9", "-" * 300 + "1", "1" * 500, "1" * 2000, "1e999"):
        text = GOOD.replace('formula = "probability(r_HD)"', f'formula = "{formula}"')
        with pytest.raises(Invalid):
            totals(read_model(text, "mine.toml"))
