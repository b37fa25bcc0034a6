"""Scoring files: everything that the Catalog's formats have, and an error that names the line for everything else."""

from __future__ import annotations

import gzip
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from federome.errors import Invalid
from federome.prs.scorefile import read_scores

HEAD = "#pgs_id=PGS1\n#genome_build=GRCh38\n"
COLUMNS = "rsID\tchr_name\tchr_position\teffect_allele\tother_allele\teffect_weight"


def written(folder: Path, *rows: str, columns: str = COLUMNS, head: str = HEAD) -> Path:
    path = folder / "score.txt"
    path.write_text(head + "\n".join([columns, *rows]) + "\n")
    return path


def test_columns_become_positions_alleles_and_weights(tmp_path: Path) -> None:
    (score,) = read_scores(written(tmp_path, "rs1\t1\t100\tA\tG\t0.5", "rs2\tchrX\t200\tct\tC\t-1e-3"))
    assert (score.accession, score.build, len(score.rows)) == ("PGS1", "GRCh38", 2)
    assert list(score.rows.chromosome) == ["1", "X"]
    assert score.rows.position.tolist() == [100, 200]
    assert list(score.rows.effect) == ["A", "CT"]
    assert score.rows.weights.tolist() == [[0, 0.5, 1], [0, -0.001, -0.002]]
    assert score.rows.line.tolist() == [4, 5]


def test_dominant_recessive_and_dosage_weights(tmp_path: Path) -> None:
    columns = f"{COLUMNS}\tis_dominant\tis_recessive\tdosage_0_weight\tdosage_1_weight\tdosage_2_weight"
    path = written(
        tmp_path,
        "a\t1\t1\tA\tG\t2\tTrue\tFalse\t\t\t",
        "b\t1\t2\tA\tG\t2\tFALSE\t1\t\t\t",
        "c\t1\t3\tA\tG\t\t\t\t0.1\t0.7\t-3",
        columns=columns,
    )
    (score,) = read_scores(path)
    assert score.rows.weights.tolist() == [[0, 2, 2], [0, 0, 2], [0.1, 0.7, -3]]
    assert list(score.rows.kind) == ["dominant", "recessive", "dosage"]


def test_format_1_and_omicspred_names_are_understood(tmp_path: Path) -> None:
    old = written(
        tmp_path,
        "rs1\t1\t100\tA\tG\t0.5",
        columns="rsID\tchr_name\tchr_position\teffect_allele\treference_allele\teffect_weight",
        head="# PGS ID = PGS000009\n# Original Genome Build = hg19\n# Reported Trait = Height\n",
    )
    (score,) = read_scores(old)
    assert (score.accession, score.trait, score.build, list(score.rows.other)) == (
        "PGS000009",
        "Height",
        "GRCh37",
        ["G"],
    )
    omics = written(
        tmp_path,
        "rs1\t1\t100\tA\tG\t0.5",
        columns="rsid\tchr\tpos\teffect_allele\tother_allele\teffect",
        head="###OMICSPRED SCORING FILE\n#omicspred_id=OPGS000001\n#genome_build=GRCh37\n",
    )
    (score,) = read_scores(omics)
    assert (score.accession, score.rows.position.tolist()) == ("OPGS000001", [100])


def test_harmonised_positions_are_used_on_their_assembly_only(tmp_path: Path) -> None:
    columns = f"{COLUMNS}\thm_source\thm_chr\thm_pos\thm_inferOtherAllele"
    path = written(
        tmp_path,
        "rs1\t1\t100\tA\t\t0.5\tENSEMBL\t1\t177\tG/T",
        "rs2\t1\t101\tA\tC\t0.5\tUnknown\t\t\t",
        "rs3\t1\t102\tA\tC\t0.5\tENSEMBL\t8_KI270821v1_alt\t5\t",
        columns=columns,
        head="#pgs_id=P\n#genome_build=GRCh37\n#HmPOS_build=GRCh38\n",
    )
    (score,) = read_scores(path)
    assert score.placed("GRCh38")[1].tolist() == [177, 0, 0]
    assert score.placed("GRCh37")[1].tolist() == [100, 101, 102]
    assert list(score.rows.inferred) == ["G/T", "", ""]


def test_a_score_on_another_assembly_is_refused_with_the_file_to_take(tmp_path: Path) -> None:
    (score,) = read_scores(written(tmp_path, "rs1\t1\t100\tA\tG\t0.5"))
    with pytest.raises(Invalid, match="hmPOS_GRCh37"):
        score.placed("GRCh37")
    (score,) = read_scores(written(tmp_path, "rs1\t1\t100\tA\tG\t0.5", head="#pgs_id=P\n#genome_build=NR\n"))
    with pytest.raises(Invalid, match="genome_build=GRCh37"):
        score.placed("GRCh37")


@pytest.mark.parametrize(
    ("row", "says", "remedy"),
    [
        ("rs1\t1\tA\t100\tG\t0.5", "effect_allele is '100'", "swapped"),
        ("rs1\t100200300\t1\tA\tG\t0.5", "chr_name is '100200300'", "swapped"),
        ("rs1\t1\t100\t0.5\tG\tA", "effect_weight is 'A'", "swapped"),
        ("rs1\t1\t100\tA\tG\tC", "effect_weight is 'C'", "swapped"),
        ("rs1\t1\t1e5\tA\tG\t0.5", "chr_position is '1e5'", "swapped"),
        ("rs1\t1\t²\tA\tG\t0.5", "chr_position is '²'", "swapped"),
        ("rs1\t1\t٣\tA\tG\t0.5", "chr_position is '٣'", "swapped"),
        (f"rs1\t1\t{10**20}\tA\tG\t0.5", "not a position", "swapped"),
        ("rs1\t1\t100\tA\tG\t1_0", "effect_weight is '1_0'", "Correct"),
        ("rs1\t1\t100\tA\tG\tabc", "effect_weight is 'abc'", "Correct"),
        ("rs1\t1\t100\tA\tG\tinf", "not a finite number", "Correct"),
        ("rs1\t1\t100\tA\tG\tNaN", "not a finite number", "Correct"),
        ("rs1\t1\t100\tA\tG\t", "not a finite number", "Correct"),
        ("rs1\t1\t100\tA\tA\t0.5", "are the same", "Correct"),
        ("rs1\t1\t100\t\tA\t0.5", "not an allele", "Fill it in"),
        ("rs1\t1\t100\tA\tG", "5 columns", "Separate"),
        ("rs0\t1\t50\tA\tG\t0.1", "repeats line 4", "Remove one"),
        ("rs0\t1\t50\tA\tG\t0.2", "contradicts line 4", "Remove one"),
        ("rs0\t1\t50\tG\tA\t0.1", "contradicts line 4", "Remove one"),
    ],
)
def test_a_bad_line_is_named_with_its_remedy(tmp_path: Path, row: str, says: str, remedy: str) -> None:
    path = written(tmp_path, "rs0\t1\t50\tA\tG\t0.1", row)
    with pytest.raises(Invalid, match=r"score\.txt:5") as raised:
        read_scores(path)
    assert says in raised.value.message
    assert remedy in raised.value.remedy


def test_of_rows_that_stand_twice_the_first_may_be_kept(tmp_path: Path) -> None:
    path = written(tmp_path, "rs0\t1\t50\tA\tG\t0.1", "rs0\t1\t50\tG\tA\t0.1")
    (score,) = read_scores(path, duplicates="first")
    assert list(score.rows.trouble) == ["", "duplicate of line 4"]


def test_an_unknown_assembly_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"score\.txt: genome_build: assembly 'mm10'"):
        read_scores(written(tmp_path, "rs1\t1\t100\tA\tG\t0.5", head="#pgs_id=P\n#genome_build=mm10\n"))


@pytest.mark.parametrize(
    "content", [b"", b"#only=header\n", b"one column\nA\n", b"\x1f\x8b\x08\x00cut off", b"\xff\xfe\x00binary"]
)
def test_what_is_no_scoring_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "score.txt"
    path.write_bytes(content)
    with pytest.raises(Invalid):
        read_scores(path)


def test_one_file_may_hold_several_scores(tmp_path: Path) -> None:
    path = written(tmp_path, "1:5:A:G\tG\t1\t2", columns="ID\teffect_allele\tone\ttwo", head="")
    one, two = read_scores(path, build="GRCh38")
    assert (one.accession, two.accession) == ("one", "two")
    assert list(two.rows.other) == ["A"]
    assert two.rows.weights.tolist() == [[0, 2, 4]]


@pytest.mark.shared
def test_the_catalogs_own_files(shared: Path) -> None:
    folder = shared / "data" / "prs" / "scores"
    (breast,) = read_scores(folder / "PGS000001_hmPOS_GRCh38.txt.gz")
    assert (breast.accession, len(breast.rows), breast.harmonised) == ("PGS000001", 77, "GRCh38")
    content = gzip.decompress((folder / "PGS000001_hmPOS_GRCh38.txt.gz").read_bytes())
    assert breast.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    (bowel,) = read_scores(folder / "PGS000802_hmPOS_GRCh37.txt")
    assert Counter(bowel.rows.kind) == {"additive": 5, "dominant": 7, "recessive": 7}
    assert np.isfinite(bowel.rows.frequency).all()
    (diabetes,) = read_scores(folder / "complex_variants_PGS000021.txt")
    assert sum(map(bool, diabetes.rows.trouble)) == 8
    assert set(diabetes.rows.trouble) == {"", "diplotype of HLA types", "haplotype of HLA types"}
