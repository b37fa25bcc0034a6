"""Families: CanRisk's file, exact segregation against brute force and hand calculation, screening categories."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from federome.cancer.pedigree import (
    LESSER,
    Gene,
    Member,
    Pedigree,
    Penetrance,
    canrisk,
    screening,
    segregation,
)
from federome.errors import Invalid

HIGH = Penetrance((0, 30, 80), (0, 0.02, 0.7))
LOW = Penetrance((0, 40, 80), (0, 0.01, 0.12))
GENE = Gene("BRCA1", 0.001, HIGH, LOW)
FAMILY = Pedigree(
    "F1",
    "me",
    (
        Member("me", "F", "dad", "mum", age=35, born=1991),
        Member("dad", "M", age=66),
        Member("mum", "F", "grandpa", "grandma", age=60, cancers={"BC1": 42}),
        Member("aunt", "F", "grandpa", "grandma", age=50, dead=True, cancers={"BC1": 38, "OC": 49}),
        Member("grandpa", "M", age=80, dead=True),
        Member("grandma", "F", age=85),
        Member("sister", "F", "dad", "mum", age=40),
    ),
)


def brute(pedigree: Pedigree, gene: Gene) -> float:
    """The target's chance to carry, over all 3^n genotypes of the family."""
    q = gene.frequency
    people = {member.id: member for member in pedigree.members}
    weights = {True: 0.0, False: 0.0}
    for copies in itertools.product(range(3), repeat=len(people)):
        own = dict(zip(people, copies, strict=True))
        chance = 1.0
        for name, member in people.items():
            n = own[name]
            if member.father:
                one, other = own[member.father] / 2, own[member.mother] / 2
                chance *= [(1 - one) * (1 - other), one * (1 - other) + other * (1 - one), one * other][n]
            else:
                chance *= [(1 - q) ** 2, 2 * q * (1 - q), q**2][n]
            curve = gene.carriers if n else gene.others
            if member.sex == "F" and "BC1" in member.cancers:
                chance *= curve.at(member.cancers["BC1"])
            elif member.sex == "F" and member.age:
                chance *= 1 - curve.by(member.age)
            test = member.tests.get(gene.name, "")
            if test:
                positive = gene.sensitivity if n else 0.0
                chance *= positive if test == "positive" else 1 - positive
        weights[own[pedigree.target] > 0] += chance
    return weights[True] / (weights[True] + weights[False])


def with_test(name: str, result: str) -> Pedigree:
    members = tuple(
        dataclasses.replace(m, tests={"BRCA1": result}) if m.id == name else m
        for m in FAMILY.members  # type: ignore[dict-item]
    )
    return dataclasses.replace(FAMILY, members=members)


@pytest.mark.parametrize(
    "family", [FAMILY, with_test("mum", "positive"), with_test("me", "negative"), with_test("aunt", "positive")]
)
def test_segregation_equals_the_sum_over_all_genotypes(family: Pedigree) -> None:
    gene = dataclasses.replace(GENE, sensitivity=0.9)
    assert segregation(family, gene).carrier == pytest.approx(brute(family, gene), rel=1e-12, abs=1e-15)


def test_half_of_the_children_of_a_carrier_carry() -> None:
    nobody = Penetrance((0, 80), (0, 0.0))
    gene = Gene("BRCA1", 1e-6, nobody, nobody)
    assert segregation(with_test("mum", "positive"), gene).carrier == pytest.approx(0.5, abs=1e-5)


def test_relatives_with_cancer_raise_the_risk_and_a_negative_test_takes_it_back() -> None:
    alone = Pedigree("F2", "me", (Member("me", "F", age=35),))
    family, negative = segregation(FAMILY, GENE), segregation(with_test("me", "negative"), GENE)
    base = segregation(alone, GENE)
    assert family.risk > 1.2 * base.risk
    assert family.carrier > 30 * base.carrier
    assert negative.carrier == 0
    assert negative.risk == pytest.approx((LOW.by(80) - LOW.by(35)) / (1 - LOW.by(35)))
    assert family.note == LESSER


def test_contradicting_tests_are_refused() -> None:
    results = {"me": "positive", "mum": "negative", "dad": "negative"}
    members = tuple(dataclasses.replace(m, tests={"BRCA1": results.get(m.id, "")}) for m in FAMILY.members)  # type: ignore[dict-item]
    with pytest.raises(Invalid, match="contradict"):
        segregation(dataclasses.replace(FAMILY, members=members), GENE)


def test_the_canrisk_file_has_its_columns_and_the_score() -> None:
    text = canrisk(with_test("me", "negative"), z=1.234567, alpha=0.444, factors={"menarche": "13"})
    lines = text.splitlines()
    assert lines[0] == "##CanRisk 4.0"
    assert lines[1] == "##menarche=13"
    assert lines[2] == "##PRS_BC=alpha=0.444, zscore=1.23457"
    head = lines[3].removeprefix("##").split("\t")
    assert len(head) == 28
    assert head[:3] == ["FamID", "Name", "Target"]
    rows = [dict(zip(head, line.split("\t"), strict=True)) for line in lines[4:]]
    assert [row["Target"] for row in rows] == ["1", *["0"] * 6]
    assert rows[0]["BRCA1"] == "S:N"
    assert rows[0]["ER:PR:HER2:CK14:CK56"] == "0:0:0:0:0"
    aunt = next(row for row in rows if row["IndivID"] == "aunt")
    assert (aunt["BC1"], aunt["OC"], aunt["PAN"], aunt["Dead"], aunt["FathID"]) == ("38", "49", "0", "1", "grandpa")
    unknown = Member("x", "F", cancers={"BC1": 0})
    assert canrisk(Pedigree("F", "x", (unknown,))).splitlines()[-1].split("\t")[11] == "AU"


def test_a_score_needs_its_alpha() -> None:
    for changes in ({"z": 1.0}, {"alpha": 0.4}, {"z": 1.0, "alpha": 2.0}):
        with pytest.raises(Invalid, match="alpha"):
            canrisk(FAMILY, **changes)  # type: ignore[arg-type]


def test_families_that_cannot_be_are_refused() -> None:
    me = Member("me", "F", "dad", "mum")
    for members, word in (
        ((me,), "a parent is unknown"),
        ((me, Member("dad", "F"), Member("mum", "F")), "other sex"),
        ((dataclasses.replace(me, mother=""), Member("dad", "M")), "both parents or none"),
        ((me, Member("dad", "M", "me2", "me"), Member("mum", "F"), Member("me2", "M")), "own ancestor"),
        ((me, me), "unique"),
    ):
        with pytest.raises(Invalid, match=word):
            Pedigree("F", "me", members)
    for changes, word in (({"age": 130}, "0 to 125"), ({"age": 30, "cancers": {"BC1": 40}}, "after the last known age"),
                          ({"cancers": {"XX": 1}}, "no cancer"), ({"id": "far too long"}, "id of up to")):  # fmt: skip
        with pytest.raises(Invalid, match=word):
            dataclasses.replace(Member("me", "F"), **changes)  # type: ignore[arg-type]
    for ages, risks in (((0, 50), (0, 1.0)), ((10, 50), (0, 0.5)), ((0, 50, 40), (0, 0.1, 0.2)), ((0, 50), (0.1, 0.2))):
        with pytest.raises(Invalid, match="penetrance"):
            Penetrance(ages, risks)


def test_screening_follows_the_guideline_and_names_it() -> None:
    cases = {(0.16, 0.02): "near population", (0.17, 0.02): "moderate", (0.16, 0.03): "moderate",
             (0.30, 0.05): "high", (0.20, 0.081): "high"}  # fmt: skip
    for (lifetime, forties), category in cases.items():
        found = screening(lifetime=lifetime, forties=forties)
        assert found.category == category
        assert "CG164" in found.source
    with pytest.raises(Invalid):
        screening(lifetime=0.1, forties=0.2)
    assert np.isfinite(HIGH.at(42))
