"""A question as a form: every approved algorithm has one, and what is filled in is what a node reads."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.datastructures import QueryParams

from federome.errors import Invalid
from federome.network.offers import Offer, checked, offers
from federome.portal.questions import Form, cohort_of, datasets_of, fields_of, parameters_of

OFFERS = {offer.algorithm.name: offer for offer in offers()}


def form(**given: str) -> Form:
    return {name.replace("__", "."): [text] for name, text in given.items()}


@pytest.mark.parametrize("name", sorted(OFFERS))
def test_an_empty_form_is_the_algorithms_own_defaults(name: str) -> None:
    """Nothing is filled in but what is needed: the parameters are those alone, and the rest is the node's default."""
    offer = OFFERS[name]
    fields = fields_of(offer)
    by_command = {"cases", "controls"} if name in ("gwas-logistic", "prs-evaluate") else set()  # of case definitions
    assert {field.name for field in fields} == set(properties(offer)) - by_command
    needed = [field for field in fields if field.needed]
    assert [field.name for field in fields][: len(needed)] == [field.name for field in needed]
    filled = {f"p.{field.name}": ["1" if field.kind in ("number", "numbers", "whole") else "x"] for field in needed}
    assert set(parameters_of(fields, filled)) == {field.name for field in needed}
    if needed:
        with pytest.raises(Invalid, match="needed") as told:
            parameters_of(fields, {})
        assert told.value.where == needed[0].name


def properties(offer: Offer) -> dict[str, Any]:
    schema: Any = offer.parameters
    return dict(schema["$defs"][schema["$ref"].rpartition("/")[2]]["properties"])


def test_what_is_filled_in_is_what_a_node_reads() -> None:
    fields = fields_of(OFFERS["gwas-linear"])
    given = parameters_of(
        fields,
        form(p__phenotype="ldl_c_mmol_l", p__maf_min="0.01", p__clump_kb="250", p__site_intercepts="no",
             p__covariates="age\n\n male \n", c__sex="female", c__low="40", c__diagnoses="E78\nnot I21",
             c__measurements="bmi 25 -\nldl_c_mmol_l - 5.5", c__carriers="LDLR\n19:11089362:C:T\n19:1-200",
             c__any_of="E11, ATC:A10B, hba1c_mmol_mol 48 -\nnot E10,O24"),
    )  # fmt: skip
    assert given == {
        "phenotype": "ldl_c_mmol_l",
        "maf_min": 0.01,
        "clump_kb": 250,
        "site_intercepts": False,
        "covariates": ["age", "male"],
        "cohort": {
            "sex": "female",
            "age": {"low": 40},
            "diagnoses": [{"code": "E78"}, {"code": "I21", "present": False}],
            "measurements": [{"name": "bmi", "low": 25.0}, {"name": "ldl_c_mmol_l", "high": 5.5}],
            "carriers": [{"gene": "LDLR"}, {"variant": "19:11089362:C:T"}, {"region": "19:1-200"}],
            "any_of": [
                {
                    "diagnoses": [{"code": "E11"}, {"code": "ATC:A10B"}],
                    "measurements": [{"name": "hba1c_mmol_mol", "low": 48.0}],
                },
                {"diagnoses": [{"code": "E10"}, {"code": "O24"}], "present": False},
            ],
        },
    }
    read: Any = checked("gwas-linear", given)
    assert read["cohort"]["age"] == {"low": 40, "high": 130}
    with pytest.raises(Invalid, match="phenotype"):
        checked("gwas-linear", {"phenotype": 5})


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"p__maf_min": "much"}, "maf_min"),
        ({"p__clump_kb": "1.5"}, "clump_kb"),
        ({"p__full": "perhaps"}, "full"),
        ({"c__low": "old"}, "low"),
        ({"c__measurements": "bmi over 25"}, "measurements"),
        ({"c__measurements": "bmi 25"}, "measurements"),
    ],
)
def test_what_cannot_be_read_is_named(given: dict[str, str], where: str) -> None:
    with pytest.raises(Invalid) as told:
        parameters_of(fields_of(OFFERS["gwas-linear"]), form(**given))
    assert told.value.where == where


def test_nobody_in_particular_is_everybody() -> None:
    assert cohort_of({"c.sex": [""], "c.low": [" "], "c.carriers": ["\n"]}) is None


def test_datasets_by_node() -> None:
    ticked = QueryParams("datasets=FI:a&datasets=FI:b&datasets=ES:c&datasets=nonsense").getlist("datasets")
    assert datasets_of({"datasets": ticked}) == {"FI": ["a", "b"], "ES": ["c"]}
