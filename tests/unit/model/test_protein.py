"""Spellings of changes of proteins: many of one change, one of each, and none of what is none."""

from __future__ import annotations

import pytest

from federome.errors import Invalid
from federome.model.protein import of_annotation, protein_change


@pytest.mark.parametrize(
    ("spellings", "means"),
    [
        (("V600E", "p.V600E", "Val600Glu", "p.Val600Glu", "p.(Val600Glu)", " p.V600Glu "), "p.V600E"),
        (("Arg97Ter", "R97*", "p.R97X", "p.Arg97*"), "p.R97*"),
        (("p.Leu54=", "L54=", "p.Leu54%3D"), "p.L54="),
        (("p.Arg97ProfsTer23", "R97Pfs*23", "p.(Arg97ProfsX23)"), "p.R97Pfs*23"),
        (("p.Gln39fs", "Q39fs"), "p.Q39fs"),
        (("p.Glu746_Ala750del", "E746_A750del"), "p.E746_A750del"),
        (("p.Asp770_Asn771insSerValAsp", "D770_N771insSVD"), "p.D770_N771insSVD"),
        (("p.Leu747_Pro753delinsSer", "L747_P753delinsS"), "p.L747_P753delinsS"),
        (("p.Ala767_Val769dup", "A767_V769dup"), "p.A767_V769dup"),
        (("p.Met1?", "M1?"), "p.M1?"),
    ],
)
def test_all_spellings_of_a_change_are_one(spellings: tuple[str, ...], means: str) -> None:
    assert {protein_change(each) for each in spellings} == {means}


@pytest.mark.parametrize(
    "text",
    ["", "600", "VE600", "V600", "V0E", "NP_004324.2:p.Val600Glu", "c.1799T>A", "p.(V600E", "V600E;W1A", "B600E",
     "v600e", "V600E' OR 1=1", "A" * 1_000_000, "V600ins" + "A" * 200],
)  # fmt: skip
def test_what_is_no_change_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="aminoacidChange"):
        protein_change(text)


def test_annotators_name_it_in_their_ways() -> None:
    assert of_annotation("ENSP00000288602.6:p.Val600Glu") == "p.V600E"
    assert of_annotation("", "V/E", "600") == "p.V600E"
    assert of_annotation("", "L", "54") == "p.L54="
    assert of_annotation("", "VK/E", "600-601") == of_annotation("") == of_annotation("p.(=)") == ""
