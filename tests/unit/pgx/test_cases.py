"""The external suite of cases, with the definitions it was written for and with the product's own tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from federome.ingest.pgx import read_genotypes
from federome.pgx.call import call
from federome.pgx.cases import Definitions, Outcome, own_definitions, run_cases, shared_definitions
from federome.pgx.genes import Gene, Genotype
from federome.pgx.tables import tables

Case = Mapping[str, object]


def _read(path: Path, gene: Gene) -> Genotype:
    return read_genotypes(path, {gene.name: gene}, in_order=False).genes[gene.name].of(0)


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "data" / "pgx"


@pytest.fixture(scope="module")
def definitions(folder: Path) -> Definitions:
    return shared_definitions(folder, tables())


@pytest.fixture(scope="module")
def cases(folder: Path) -> list[Case]:
    return list(json.loads((folder / "cases" / "pharmcat_cases.json").read_text()))


def _run(cases: list[Case], definitions: Definitions, folder: Path) -> list[Outcome]:
    return run_cases(cases, definitions, vcf=lambda name: folder / "cases" / "vcf" / name, read_vcf=_read)


def test_all_cases_are_equal(cases: list[Case], definitions: Definitions, folder: Path) -> None:
    assert [each.id for each in _run(cases, definitions, folder) if each.ok is not True] == []


def test_with_its_own_tables_nothing_is_wrong_and_what_they_lack_is_named(cases: list[Case], folder: Path) -> None:
    outcomes = _run(cases, own_definitions(tables()), folder)
    assert [each.id for each in outcomes if each.ok is False] == []
    lacking = [each for each in outcomes if each.ok is None]
    assert len(lacking) == 9  # eight with variants of RYR1 of unknown function, one with CYP2C9*25
    assert all("no definition of RYR1" in each.note or "no definition of CYP2C9" in each.note for each in lacking)


def test_another_expectation_fails(cases: list[Case], definitions: Definitions, folder: Path) -> None:
    def other(value: object) -> object:
        match value:
            case dict():
                return {key: other(inner) for key, inner in value.items()}
            case list():
                return [other(inner) for inner in value] or ["*1/*1"]
            case _:
                return f"{value}x"

    changed = [
        {**case, "expected": {key: other(value)}}
        for case in cases
        for key, value in case["expected"].items()  # type: ignore[attr-defined]
        if key in ("diplotypes", "SourceDiplotypes", "RecommendedDiplotypes", "PrintCpicCalls", "LookupByActivity")
        and not case["outside_calls"]
    ]
    assert len(changed) > 100
    assert [each.id for each in _run(changed, definitions, folder) if each.ok] == []


def test_a_case_of_outside_calls_counts_apart(definitions: Definitions, folder: Path) -> None:
    case = {"id": "a", "ops": [], "expected": {"PrintCalls": {"CYP2D6": ["*1/*4"]}}, "flags": {}, "outside_calls": True}
    (outcome,) = _run([case], definitions, folder)
    assert outcome.ok is None
    assert "outside call" in outcome.note


def test_what_is_not_known_counts_apart(definitions: Definitions, folder: Path) -> None:
    case = {"id": "a", "ops": [["invert", "CYP2C9"]], "expected": {"diplotypes": []}, "flags": {}}
    other = {"id": "b", "ops": [["reference", "CYP2C9"]], "expected": {"Colour": "red"}, "flags": {}}
    outcomes = _run([case, other], definitions, folder)
    assert [each.ok for each in outcomes] == [None, None]
    assert "invert" in outcomes[0].note
    assert "Colour" in outcomes[1].note


def test_a_line_as_it_is_counts_if_its_ref_is_the_reference(definitions: Definitions, folder: Path) -> None:
    ops = [["variationAsIs", "CYP2C9", "chr10", "94942290", "0/1", "C", "T"]]
    wrong = [["variationAsIs", "CYP2C9", "chr10", "94942290", "0/1", "G", "T"]]
    rows = [
        {
            "id": str(n),
            "gene": "CYP2C9",
            "ops": each,
            "expected": {"diplotypes": [name]},
            "flags": {"raw_bool_args": [True]},
        }
        for n, (each, name) in enumerate(((ops, "*1/*2"), (wrong, "*1/*1")))
    ]
    assert [each.ok for each in _run(rows, definitions, folder)] == [True, True]


def test_the_example_is_called_as_its_tool_calls_it(definitions: Definitions, folder: Path) -> None:
    example = folder / "example"
    wanted = json.loads((example / "pharmcat.example.match.json").read_text())["results"]
    found = read_genotypes(example / "pharmcat.example.vcf", definitions.genes)
    compared = 0
    for row in wanted:
        gene = definitions.genes[row["gene"]]
        made = call(gene, found.genes[gene.name].of(0), definitions.rank)
        assert list(made.names) == [each["name"] for each in row["diplotypes"]]
        assert [each.score for each in made.diplotypes] == [each["score"] for each in row["diplotypes"]]
        assert made.missing == ()
        compared += 1
    assert compared == len(definitions.genes) - 1  # all but CYP2D6, which needs copy numbers
