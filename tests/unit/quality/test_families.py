"""Pedigrees as PED files, and those that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from federome.errors import Invalid
from federome.quality.evidence import read_evidence
from federome.quality.families import check_acyclic


def folder(tmp_path: Path, ped: str, samples: str = "") -> Path:
    (tmp_path / "quality").mkdir()
    (tmp_path / "quality" / "families.ped").write_text(ped)
    if samples:
        (tmp_path / "quality" / "samples.csv").write_text(samples)
    return tmp_path


def test_a_ped_file_names_parents_and_joins_the_table(tmp_path: Path) -> None:
    ped = "#fam id pat mat sex\nF1 C DAD MUM 1 2\nF1 DAD 0 0 1 1\nF1 MUM 0 GRAN 2 -9\n"
    given, _ = read_evidence(folder(tmp_path, ped, "sample,person,father,mother\nS9,D,DAD,\nSC,C,,MUM\n"))
    assert given.parents == {"C": ("DAD", "MUM"), "MUM": ("", "GRAN"), "D": ("DAD", "")}


@pytest.mark.parametrize(
    ("ped", "said", "line"),
    [
        ("F A B 0 1\nF B A 0 1\n", "own ancestor", ":1"),
        ("F A A 0 1\n", "own ancestor", ":1"),
        ("F A B 0 1\nF B C 0 1\nF C D 0 1\nF D A 0 1\n", "own ancestor", ":1"),
        ("F A 0 0 1\nG A 0 0 1\n", "earlier line", ":2"),
        ("F A 0 0\n", "five columns", ":1"),
        ("F A 0 0 man\n", "no code", ":1"),
    ],
)
def test_pedigrees_that_cannot_be(ped: str, said: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=said) as caught:
        read_evidence(folder(tmp_path, ped))
    assert caught.value.where.endswith(line)


def test_two_files_that_name_different_parents_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="different parents"):
        read_evidence(folder(tmp_path, "F C DAD 0 1\n", "sample,father\nC,OTHER\n"))


def test_cousins_who_marry_are_no_circle_and_depth_does_not_matter() -> None:
    check_acyclic({"A": ("B", "C"), "B": ("D", ""), "C": ("D", "")}, "here")
    long = {str(at): (str(at + 1), "") for at in range(20_000)}
    check_acyclic(long, "here")
    with pytest.raises(Invalid, match="own ancestor"):
        check_acyclic({**long, "20000": ("0", "")}, "here")
