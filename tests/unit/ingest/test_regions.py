"""Genes from BED and GFF3, callable intervals from BED, and the lines that are refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from federome.errors import Invalid
from federome.ingest.regions import read_genes, read_intervals
from federome.store.writer import GeneRegion, Interval


def test_genes_from_bed(tmp_path: Path) -> None:
    path = tmp_path / "genes.bed"
    path.write_text("# made by hand\nchr1\t99\t200\tPCSK9\t0\t+\n\nchrUn\t0\t5\tNONE\nX\t0\t9\tSHOX\n")
    assert read_genes(path, "GRCh38") == [GeneRegion("PCSK9", "1", 100, 200), GeneRegion("SHOX", "X", 1, 9)]


def test_genes_from_gff3(tmp_path: Path) -> None:
    path = tmp_path / "genes.gff3.gz"
    lines = [
        "##gff-version 3",
        "chr1\tHAVANA\tgene\t100\t200\t.\t+\t.\tID=g1;gene_name=PCSK9;gene_type=protein_coding",
        "chr1\tHAVANA\texon\t100\t120\t.\t+\t.\tID=e1;gene_name=PCSK9",
        "NC_000022.11\tBestRefSeq\tpseudogene\t5\t9\t.\t-\t.\tID=g2;Name=A%3BB",
        "NW_1\tBestRefSeq\tgene\t5\t9\t.\t-\t.\tID=g3;Name=C",
        "chr2\tEnsembl\tgene\t1\t9\t.\t-\t.\tID=g4",
        "##FASTA",
        ">chr1",
        "ACGT",
    ]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert read_genes(path, "GRCh38") == [GeneRegion("PCSK9", "1", 100, 200), GeneRegion("A;B", "22", 5, 9)]


def test_intervals_are_joined_where_they_touch(tmp_path: Path) -> None:
    path = tmp_path / "callable.bed"
    path.write_text("1\t0\t10\n1\t10\t20\n1\t15\t18\n1\t21\t30\n2\t0\t5\n")
    assert read_intervals(path, "GRCh38") == [Interval("1", 1, 20), Interval("1", 22, 30), Interval("2", 1, 5)]


@pytest.mark.parametrize(
    ("name", "text", "line", "message"),
    [
        ("genes.bed", "1\t0\t9\tA\n1 5 9 B\n", 2, "separated by tabs"),
        ("genes.bed", "1\t9\t9\tA\n", 1, "larger end"),
        ("genes.bed", "1\t0\t9\n", 1, "no name"),
        ("genes.bed", "1\t0\t248956423\tA\n", 1, "does not exist on chromosome 1 of GRCh38"),
        ("genes.gff3", "1\tx\tgene\t9\t5\t.\t.\t.\tName=A\n", 1, "nine columns"),
        ("genes.gff3", "##gff-version 3\n1\tx\tgene\t1\t248956423\t.\t.\t.\tName=A\n", 2, "does not exist"),
    ],
)
def test_refuses_wrong_genes_with_their_line(tmp_path: Path, name: str, text: str, line: int, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(Invalid, match=message) as caught:
        read_genes(path, "GRCh38")
    assert caught.value.where == f"{path}:{line}"
    assert caught.value.remedy


def test_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="unknown format"):
        read_genes(tmp_path / "genes.txt", "GRCh38")
    cut = tmp_path / "genes.bed.gz"
    cut.write_bytes(gzip.compress(b"1\t0\t9\tA\n" * 1000)[:-12])
    with pytest.raises(Invalid, match="truncated"):
        read_genes(cut, "GRCh38")
    unsorted = tmp_path / "callable.bed"
    unsorted.write_text("1\t50\t60\n1\t10\t20\n")
    with pytest.raises(Invalid, match="not sorted"):
        read_intervals(unsorted, "GRCh38")
