"""TNM, stage groups and ICD-O codes: what is read, what is refused, and the tables of two organs cell by cell."""

from __future__ import annotations

import pytest

from federome.cancer import icdo
from federome.cancer.staging import anatomical, parse, stage_group
from federome.errors import Invalid


@pytest.mark.parametrize(
    ("text", "t", "n", "m", "kind"),
    [
        ("pT2 pN1a(sn) cM0", "2", "1a", "0", "pathological"),
        ("cT4b, cN2a, cM1a", "4b", "2a", "1a", "clinical"),
        ("ypT0N0M0", "0", "0", "0", "pathological"),
        ("T1c N0(i+) M0 G2 L0 V1 R0", "1c", "0", "0", "clinical"),
        ("pTis(DCIS) pN0 M0", "is(DCIS)", "0", "0", "pathological"),
        ("rpT3 NX", "3", "X", "", "pathological"),
        ("pT1mi pN1mi(1/3)", "1mi", "1mi", "", "pathological"),
    ],
)
def test_tnm_is_read_with_its_prefixes(text: str, t: str, n: str, m: str, kind: str) -> None:
    found = parse(text)
    assert (found.t, found.n, found.m, found.kind) == (t, n, m, kind)
    assert found.after_therapy == text.startswith("y")
    assert found.recurrence == text.startswith("r")


def test_marks_are_kept() -> None:
    assert parse("pT2(m) pN0(i+)(sn) M0").marks == ("m", "i+", "sn")


@pytest.mark.parametrize(
    "text", ["", "M0", "T5 N0 M0", "T2 N4", "T2 T3 N0", "pT2 pN0 pM0", "stage II", "T2 N0 M2", "Tx1"]
)
def test_what_is_no_tnm_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse(text)


def test_breast_by_the_printed_table() -> None:
    """Anatomical stage, UICC TNM 8: rows are T, columns N0, N1, N2, N3, all M0."""
    printed = {"0": ",IIA,IIIA,IIIC", "1": "IA,IIA,IIIA,IIIC", "2": "IIA,IIB,IIIA,IIIC", "3": "IIB,IIIA,IIIA,IIIC",
               "4": "IIIB,IIIB,IIIB,IIIC"}  # fmt: skip
    for t, groups in printed.items():
        for n, group in enumerate(groups.split(",")):
            assert anatomical("C50.9", parse(f"T{t} N{n} M0")) == group, (t, n)
            assert anatomical("C50.9", parse(f"T{t} N{n} M1")) == "IV"
    assert anatomical("C50.9", parse("Tis N0 M0")) == "0"
    assert [anatomical("C50.4", parse(f"T{t} N1mi M0")) for t in "0123"] == ["IB", "IB", "IIB", "IIIA"]


def test_colon_by_the_printed_table() -> None:
    """UICC TNM 8: rows are T, columns N0, N1, N2a, N2b, all M0."""
    printed = {"1": "I,IIIA,IIIA,IIIB", "2": "I,IIIA,IIIB,IIIB", "3": "IIA,IIIB,IIIB,IIIC", "4a": "IIB,IIIB,IIIC,IIIC",
               "4b": "IIC,IIIC,IIIC,IIIC"}  # fmt: skip
    for t, groups in printed.items():
        for n, group in zip(("0", "1", "2a", "2b"), groups.split(","), strict=True):
            assert anatomical("C18.7", parse(f"T{t} N{n} M0")) == group, (t, n)
    assert [anatomical("C20.9", parse(f"T1 N0 M1{each}")) for each in "abc"] == ["IVA", "IVB", "IVC"]
    assert anatomical("C18.7", parse("Tis N0 M0")) == "0"


def test_no_stage_is_made_up() -> None:
    for place, text in (("C50.9", "T2 NX M0"), ("C50.9", "T2 N0"), ("C50.9", "ypT1 N0 M0"), ("C34.1", "T1 N0 M0"),
                        ("C50.9", "rT1 N0 M0"), ("C18.7", "T4 N1 M0")):  # fmt: skip
        assert anatomical(place, parse(text)) == "", text


@pytest.mark.parametrize(
    ("text", "group"), [("Stage IIA", "IIA"), ("2a", "IIA"), ("IV", "IV"), ("0", "0"), ("3C1", "IIIC1")]
)
def test_recorded_groups_have_one_spelling(text: str, group: str) -> None:
    assert stage_group(text) == group


@pytest.mark.parametrize("text", ["", "V", "IIE", "early", "5"])
def test_other_groups_are_refused(text: str) -> None:
    with pytest.raises(Invalid, match="no stage group"):
        stage_group(text)


def test_topography_and_morphology_have_one_spelling() -> None:
    assert [icdo.topography(each) for each in ("c509", "C50.9", "C50", " C18.7 ")] == [
        "C50.9",
        "C50.9",
        "C50.9",
        "C18.7",
    ]
    assert icdo.morphology("M8500/3") == icdo.morphology("8500/3") == icdo.Morphology("8500", "3")
    assert icdo.morphology("8500/33").grade == "3"


@pytest.mark.parametrize(
    ("text", "says"),
    [("C43.5", "8720/3"), ("C45.0", "9050/3"), ("C79.3", "primary"), ("C81.1", "between"), ("D05", "between")],
)
def test_icd_10_in_the_place_of_a_topography_is_refused_with_what_to_write(text: str, says: str) -> None:
    with pytest.raises(Invalid) as error:
        icdo.topography(text)
    assert says in str(error.value.remedy)


@pytest.mark.parametrize("text", ["", "8500", "8500/4", "7999/3", "9994/3", "85/3", "8500/30"])
def test_other_morphologies_are_refused(text: str) -> None:
    with pytest.raises(Invalid, match="no morphology"):
        icdo.morphology(text)
