"""Scenario files: what a reader gets for a mistake, that a wrong expectation fails, and that the docs are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from federome.errors import Invalid
from federome.governance.scenario_world import COLLECTIONS, SINGLES, merged, moment, without
from federome.governance.scenarios import Expect, StepSpec, parse, run

REPO = Path(__file__).parents[3]
WORLD = """
clock = 2026-06-01T12:00:00Z
[authorities.hdab]
[institutions.uni]
country = "FI"
[persons.alice]
institution = "uni"
vetted = true
assigned = true
[datasets.D1]
node = "FI"
data_use = { permission = "GRU" }
[algorithms."gwas@1"]
release_class = "counts"
[permits.P1]
authority = "hdab"
holder = "uni"
persons = ["alice"]
datasets = ["D1@FI"]
purpose = { basis = "research", topics = ["health"] }
algorithms = ["gwas@1"]
valid_from = 2026-01-01
valid_until = 2026-12-31
"""
STEP = """
[[scenario]]
id = "S1"
[[scenario.step]]
do = "order"
person = "alice"
permit = "P1"
datasets = ["D1"]
"""


def results(text: str):  # type: ignore[no-untyped-def]
    return run(parse(text, include=lambda name: {"world.toml": WORLD}[name], where="x.toml"))


def test_a_small_world_of_one_s_own_runs() -> None:
    (result,) = results(WORLD + STEP + 'expect = { outcome = "ALLOW" }')
    assert result.ok
    assert result.document() == {
        "id": "S1",
        "ok": True,
        "expected": "ALLOW",
        "got": "ALLOW",
        "reasons": [],
        "problems": [],
    }


@pytest.mark.parametrize(
    ("expect", "problem"),
    [
        ('{ outcome = "DENY" }', "expected DENY, got ALLOW"),
        ('{ outcome = "ALLOW", codes = ["no_permit"] }', "no_permit is missing"),
        ('{ outcome = "ALLOW", private = ["consent_tier"] }', "consent_tier must stand"),
        ('{ outcome = "ALLOW", obligations = ["publish"] }', "the obligation publish is missing"),
        ('{ outcome = "ALLOW", cohort = 3 }', "expected a cohort of 3"),
    ],
)
def test_a_wrong_expectation_fails_and_says_how(expect: str, problem: str) -> None:
    (result,) = results(f"{WORLD}{STEP}expect = {expect}")
    assert not result.ok
    assert problem in result.problems[0]


def test_not_codes_and_absence_fail_too() -> None:
    text = WORLD + STEP + 'datasets_ = 1\nexpect = { outcome = "ALLOW" }'
    with pytest.raises(Invalid, match="unknown field"):
        results(text)
    (result,) = results(
        WORLD.replace('permission = "GRU"', 'permission = "POA"')
        + STEP
        + 'expect = { outcome = "DENY", not_codes = ["duo_population"] }'
    )
    assert result.problems == ("S1: duo_population was not expected",)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("clock = ", "x.toml"),
        ("[[" * 5000, "x.toml"),
        ("a = " + "[" * 100_000, "x.toml"),
        ("scenario = 1", "x.toml"),
        ('[[scenario]]\nid = "S"', "scenario[0]"),
        ('[[scenario]]\nid = "S"\nstep = [1]', "scenario[0]"),
        ('[[scenario]]\nid = "S"\nstep = [{ do = "dance" }]', "step[0].do"),
        ('[[scenario]]\nid = "S"\nsurprise = 1\nstep = [{ do = "ask" }]', "scenario[0]"),
        ('[[scenario]]\nid = "S"\nworld = 1\nstep = [{ do = "ask" }]', "scenario[0]"),
        ('[[scenario]]\nid = "S"\nremove = ["persons/bob"]\nstep = [{ do = "ask" }]', "persons/bob"),
        ('[[scenario]]\nid = "S"\nstep = [{ do = "ask" }]\n[[scenario]]\nid = "S"\nstep = [{ do = "ask" }]', "x.toml"),
        ("extends = 1", "x.toml"),
        ("#" * (1 << 20) + "#", "x.toml"),
    ],
)
def test_a_file_with_a_mistake_names_the_place(text: str, where: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text, include=lambda name: name, where="x.toml")
    assert where in caught.value.where


def test_a_file_that_extends_itself_ends() -> None:
    with pytest.raises(Invalid):
        parse('extends = "x"', include=lambda _: 'extends = "x"', where="x.toml")


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ("[planets.mars]\n", "world"),
        ("[persons.bob]\n", "persons.bob"),
        ("[persons.bob]\ninstitution = 7\n", "persons.bob.institution"),
        ("[datasets.D2]\nnode = 'FI'\ndata_use = 1\n", "datasets.D2.data_use"),
    ],
)
def test_a_world_with_a_mistake_names_the_table(more: str, where: str) -> None:
    with pytest.raises(Invalid) as caught:
        results(WORLD + more + STEP + 'expect = { outcome = "ALLOW" }')
    assert caught.value.where == where


@pytest.mark.parametrize(
    ("step", "word"),
    [
        ('do = "order"\npermit = "P1"\ndatasets = ["D1"]', "person"),
        ('do = "order"\nperson = "alice"\ndatasets = ["D1"]', "permit"),
        ('do = "release"\nnode = "FI"\nalgorithm = "gwas@1"', "output_class"),
        ('do = "freeze"', "node"),
        ('do = "act"\nperson = "alice"', "action"),
        ('do = "order"\nperson = "alice"\npermit = "P1"\ndatasets = ["D404"]', "node"),
    ],
)
def test_a_step_that_lacks_a_word_says_which(step: str, word: str) -> None:
    with pytest.raises(Invalid, match=word):
        results(f'{WORLD}[[scenario]]\nid = "S"\n[[scenario.step]]\n{step}')


def test_patches_merge_tables_and_replace_the_rest() -> None:
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merged(base, {"a": {"y": [3]}, "c": {"z": 1}}) == {"a": {"x": 1, "y": [3]}, "b": 1, "c": {"z": 1}}
    assert without(base, "a/x") == {"a": {"y": [1, 2]}, "b": 1}
    assert base == {"a": {"x": 1, "y": [1, 2]}, "b": 1}


def test_times_are_instants_or_offsets() -> None:
    clock = moment("2026-06-01T12:00:00Z", moment("1970-01-01T00:00:00Z", None))  # type: ignore[arg-type]
    assert moment("+2d", clock).isoformat() == "2026-06-03T12:00:00+00:00"
    assert moment("-90s", clock).isoformat() == "2026-06-01T11:58:30+00:00"
    for text in ("tomorrow", "2026-06-01", 5, "+d"):
        with pytest.raises(Invalid):
            moment(text, clock)


def test_the_reference_page_names_every_table_step_field_and_expectation() -> None:
    page = (REPO / "docs" / "reference" / "access-files.md").read_text()
    told = set(re.findall(r"`([a-z_]+)`", page))
    assert {*COLLECTIONS, *SINGLES} - told == set()
    assert set(StepSpec.__dataclass_fields__) - told == set()
    assert set(Expect.__dataclass_fields__) - told == set()


def test_the_example_of_the_reference_page_runs_as_it_says() -> None:
    page = (REPO / "docs" / "reference" / "access-files.md").read_text()
    example = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)[0]
    answers = run(parse(example, include=lambda name: name, where="example"))
    assert len(answers) == 2
    assert [answer.problems for answer in answers] == [(), ()]
