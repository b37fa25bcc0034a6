"""Ontologies: reading .obo text, closing the hierarchy against a naive twin, ICD-10 by prefix, bad input."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federome.errors import Invalid
from federome.model.ontology import Icd10, Ontologies, Terms, compile_terms, parse_obo

OBO = """format-version: 1.2
data-version: mondo/2026-05-05
ontology: mondo

[Term]
id: MONDO:0005267
name: heart disorder
is_a: MONDO:0000001 ! a parent this file does not hold

[Term]
id: MONDO:0005010
name: coronary artery disorder
alt_id: MONDO:0000666
is_a: MONDO:0005267 {source="DOID:3393"} ! heart disorder

[Term]
id: MONDO:0000777
name: obsolete heart trouble
is_obsolete: true
replaced_by: MONDO:0005267
consider: MONDO:0005010

[Term]
id: MONDO:0000888
name: below an obsolete one
is_a: MONDO:0000777
is_a: MONDO:0000666

[Typedef]
id: part_of
name: part of
"""


def heart() -> list[str]:
    return OBO.splitlines()


def test_an_obo_file_is_read_with_its_merges_and_obsolete_terms() -> None:
    ontology = compile_terms(parse_obo(heart()))
    assert ontology.release == "mondo/2026-05-05"
    assert ontology.names["MONDO:0005010"] == "coronary artery disorder"
    assert ontology.covers("MONDO:0005267", "MONDO:0005010")
    assert ontology.covers("MONDO:0005267", "MONDO:0005267")
    assert not ontology.covers("MONDO:0005010", "MONDO:0005267")
    assert ontology.covers("MONDO:0005267", "MONDO:0000666")  # a merged id stands for its new one
    assert [ontology.status(t) for t in ("MONDO:0005010", "MONDO:0000666", "MONDO:0000777", "MONDO:1")] == [
        "known",
        "merged",
        "obsolete",
        "unknown",
    ]
    assert ontology.replaced["MONDO:0000777"] == ("MONDO:0005267", "MONDO:0005010")
    assert ontology.ancestors("MONDO:0000888") == ("MONDO:0005010", "MONDO:0005267")
    assert ontology.descendants("MONDO:0005267") == ("MONDO:0000888", "MONDO:0005010", "MONDO:0005267")


def test_parents_that_do_not_exist_are_reported_and_ignored() -> None:
    problems = compile_terms(parse_obo(heart())).problems
    assert len(problems) == 2
    assert "unknown parent MONDO:0000001" in problems[0] + problems[1]
    assert "obsolete parent MONDO:0000777" in problems[0] + problems[1]


def test_nothing_is_known_of_obsolete_and_unknown_terms() -> None:
    ontology = compile_terms(parse_obo(heart()))
    for term in ("MONDO:0000777", "MONDO:9999999", "", "rubbish"):
        assert not ontology.covers(term, term)
        assert ontology.ancestors(term) == () == ontology.descendants(term)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["[Term]", "id: X:1"], "release"),
        (["data-version: r", "[Term]", "name: nobody"], "line 2"),
        (["data-version: r", "[Term]", "id: not an id"], "line 2"),
        (["data-version: r", "[Term]", "id: X:1", "[Term]", "id: X:1"], "twice"),
        (["data-version: r", "x" * 1_000_001], "line 2"),
    ],
)
def test_a_damaged_file_is_refused_with_its_place(lines: list[str], says: str) -> None:
    with pytest.raises(Invalid, match=says):
        parse_obo(lines)


def test_a_cycle_is_refused_by_name() -> None:
    with pytest.raises(Invalid, match="cycle at or above X:"):
        compile_terms(Terms("r", {}, {"X:1": ("X:2",), "X:2": ("X:3",), "X:3": ("X:1",), "X:4": ()}))


def test_an_empty_ontology_covers_nothing() -> None:
    ontology = compile_terms(Terms("r", {}, {}))
    assert ontology.ids == ()
    assert not ontology.covers("X:1", "X:1")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 24).flatmap(lambda n: st.lists(st.lists(st.integers(0, n), max_size=3), min_size=n, max_size=n)))
def test_closure_equals_a_naive_walk(parents: list[list[int]]) -> None:
    """Parents always have smaller numbers, so the random graph has no cycle."""
    ids = [f"T:{row}" for row in range(len(parents))]
    above = {ids[row]: tuple(ids[p] for p in named if p < row) for row, named in enumerate(parents)}
    ontology = compile_terms(Terms("r", {}, above))

    def walk(term: str) -> set[str]:
        return {term}.union(*(walk(parent) for parent in above[term]))

    for term in ids:
        assert set(ontology.ancestors(term)) | {term} == walk(term)
        assert set(ontology.descendants(term)) == {other for other in ids if term in walk(other)}
        for other in ids:
            assert ontology.covers(other, term) == (other in walk(term))


def test_the_human_phenotype_ontology_loads(shared: Path) -> None:
    with gzip.open(shared / "data" / "rare-disease" / "hp.obo.gz", "rt") as lines:
        ontology = compile_terms(parse_obo(lines))
    assert len(ontology.ids) > 15_000
    assert ontology.covers("HP:0000118", "HP:0001250")  # a seizure is a phenotypic abnormality
    assert not ontology.covers("HP:0001250", "HP:0000118")
    assert len(ontology.ancestors("HP:0001250")) >= 3
    assert ontology.indices.dtype == "int32"
    assert not ontology.problems


@pytest.mark.parametrize(
    ("ancestor", "term", "covered"),
    [
        ("I25", "I25.1", True),
        ("ICD10:I25", "ICD10:I25.10", True),
        ("I25.1", "I25.10", True),
        ("I25.1", "I25.2", False),
        ("I25", "I2", False),
        ("I20-I25", "I25.1", True),
        ("I20-I25", "I26", False),
        ("I20-I25", "I21-I22", True),
        ("I21-I22", "I20-I25", False),
        ("C50", "C50", True),
        ("rubbish", "C50", False),
        ("C50", "C50; DROP", False),
        ("I25-I20", "I22", False),
    ],
)
def test_icd10_goes_by_prefix_and_block(ancestor: str, term: str, *, covered: bool) -> None:
    assert Icd10().covers(ancestor, term) is covered


def test_several_ontologies_answer_by_prefix_and_never_across() -> None:
    both = Ontologies({"MONDO": compile_terms(parse_obo(heart())), "ICD10": Icd10()})
    assert both.covers("MONDO:0005267", "MONDO:0005010")
    assert both.covers("ICD10:I25", "ICD10:I25.1")
    assert not both.covers("MONDO:0005267", "ICD10:I25.1")
    assert both.status("ORPHA:1") == "unknown"
    assert both.release == "icd10/prefix mondo/2026-05-05"
