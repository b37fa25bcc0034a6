"""V7 of stages and V10 of genes and variants: right ones, what is said of wrong ones, and their VRS identifiers."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from federome.ingest.fasta import Fasta
from federome.model.vrs import Allele, allele_id
from federome.onboard.convert import People, convert, open_workbench
from federome.onboard.findings import Finding
from federome.onboard.mapping import FORMAT, FieldMapping, Plan, TableMapping
from federome.onboard.notations import Reference, check_notations, identified

SEQUENCE = "TTTTTTTTTTCAGCAGCTAG"


def people(tmp_path: Path, field: str, cells: list[str], *, mend: bool = False) -> People:
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", field), *((f"P{at}", cell) for at, cell in enumerate(cells))])
    table = TableMapping("t.csv", "id", fields={field: FieldMapping(field)})
    return convert(open_workbench(tmp_path / "spill"), Plan(FORMAT, (table,)), tmp_path, scratch=tmp_path, mend=mend)


def said(found: list[Finding]) -> list[tuple[str, str, list[int], str]]:
    assert all(each.message and each.remedy for each in found)
    return [(each.rule, each.level, list(each.every() if each.every else ()), each.message) for each in found]


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    (tmp_path / "r.fa").write_text(f">19\n{SEQUENCE}\n")
    (tmp_path / "r.fa.fai").write_text(f"19\t{len(SEQUENCE)}\t4\t{len(SEQUENCE)}\t{len(SEQUENCE) + 1}\n")
    return Reference("GRCh38", Fasta.open(tmp_path / "r.fa"))


def test_v7_one_clinical_and_one_pathological_tnm_are_right(tmp_path: Path) -> None:
    table = people(tmp_path, "tnm", ["pT2 pN1 cM0;cT3 cN0 cM0", "", "pT1 N0 M0;ypT0 pN0", "T9 M0", "cT1 N0;T2 N1"])
    assert said(list(check_notations(table, Reference("GRCh38"), mend=False))) == [
        ("V7", "error", [5], "this is no TNM."),
        ("V7", "error", [4, 6], "two clinical or two pathological TNM are given."),
    ]


def test_v10_a_withdrawn_symbol_is_told_and_mended(tmp_path: Path) -> None:
    cells = ["LDLR", "MLL2;LDLR", "kmt2d", "KMT2D;MLL2", ""]
    [found] = check_notations(people(tmp_path, "genetic_diagnosis_genes", cells), Reference("GRCh38"), mend=False)
    assert said([found]) == [("V10", "error", [3, 5], "the symbol of a gene was withdrawn by HGNC.")]
    table = people(tmp_path, "genetic_diagnosis_genes", cells, mend=True)
    [found] = check_notations(table, Reference("GRCh38"), mend=True)
    assert said([found])[0][:3] == ("V10", "repaired", [3, 5])
    kept = table.connection.execute("SELECT genetic_diagnosis_genes FROM people ORDER BY rowid").fetchall()
    assert [sorted(row[0]) for row in kept] == [["LDLR"], ["KMT2D", "LDLR"], ["kmt2d"], ["KMT2D"], []]


def test_v10_variants_are_genomic_names_of_the_assembly_with_its_bases(tmp_path: Path, reference: Reference) -> None:
    cells = [
        "NC_000019.10:g.11C>G",
        "NM_000527.5:c.682G>A",  # a transcript's: nobody here knows where it lies
        "NC_000019.9:g.11C>G",
        "NC_000019.10:g.11A>G",
        "NC_000019.10:g.11_13delCAT",
        "NC_000019.10:g.11_13delCA",
        "NC_000019.10:g.21C>G",
        "NC_000019.10:g.14_16dup;NC_000019.10:g.16_17insCAG",
        "LDLR",  # too short for any: a cell that does not read (V2)
        "19:g.11C>G",
    ]
    table = people(tmp_path, "genetic_diagnosis_hgvs", cells)
    assert said(list(check_notations(table, reference, mend=False))) == [
        ("V10", "error", [3, 7, 11], "this is no genomic HGVS name."),
        ("V10", "error", [4], "the HGVS name is of another assembly than the dataset."),
        ("V10", "error", [8], "the HGVS name lies outside its chromosome."),
        ("V10", "error", [5, 6], "the replaced bases are not those of the reference sequence."),
    ]
    [*_, last] = check_notations(table, Reference("GRCh38"), mend=False)
    assert (last.rule, last.level) == ("V10", "warning") and "--fasta" in last.remedy


def test_one_change_has_one_vrs_identifier_however_it_is_spelled(tmp_path: Path, reference: Reference) -> None:
    spelled = ["NC_000019.10:g.14_16dup", "NC_000019.10:g.10_11insCAG", "NC_000019.10:g.11_13dupCAG"]
    other = "NC_000019.10:g.11C>G"
    table = people(tmp_path, "genetic_diagnosis_hgvs", [*spelled, other, ""])
    assert not [each for each in check_notations(table, reference, mend=False) if each.level != "repaired"]
    named = identified(table, reference)
    assert reference.fasta is not None
    refget = reference.fasta.refget("19")
    assert {named[name] for name in spelled} == {allele_id(refget, Allele(10, 17, "CAGCAGCAGC", 3))}
    assert named[other] == allele_id(refget, Allele(10, 11, "G"))
    assert identified(table, Reference("GRCh38")) == {}
