"""The reference sequence: any base at any place, refget digests, and files that cannot be one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from federome.errors import Invalid
from federome.ingest.fasta import Fasta


def write_fasta(path: Path, sequences: dict[str, str], *, width: int = 7) -> Path:
    """A FASTA file and its index, made by hand."""
    text, index = "", ""
    for name, sequence in sequences.items():
        text += f">{name} description\n"
        index += f"{name}\t{len(sequence)}\t{len(text)}\t{width}\t{width + 1}\n"
        text += "".join(sequence[i : i + width] + "\n" for i in range(0, len(sequence), width))
    path.write_text(text)
    path.with_name(path.name + ".fai").write_text(index)
    return path


def test_gives_every_base_of_every_chromosome(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    one, two = ("".join(rng.choice(list("ACGTacgtn"), size)) for size in (100, 21))
    fasta = Fasta.open(write_fasta(tmp_path / "r.fa", {"chr1": one, "chrUn_1": "ACGT", "NC_000022.11": two}))
    assert fasta.lengths == {"1": 100, "22": 21}
    assert fasta.sequence("1", 1, 100) == one.upper()
    assert fasta.sequence("22", 7, 8) == two[6:14].upper()
    assert fasta.bases("22", np.array([21, 1, 1])).tobytes().decode() == (two[20] + two[0] * 2).upper()


def test_refget_digest_of_the_specification(tmp_path: Path) -> None:
    # the example of the GA4GH refget specification and of VRS: sha512t24u("ACGT")
    fasta = Fasta.open(write_fasta(tmp_path / "r.fa", {"1": "acGT", "2": "A" * 50}, width=3))
    assert fasta.refget("1") == "SQ.aKF498dAxcJAqme6QYQ7EZ07-fiw8Kw2"
    assert fasta.refget("2") != fasta.refget("1")


@pytest.mark.parametrize("place", [0, 5])
def test_refuses_positions_outside(tmp_path: Path, place: int) -> None:
    fasta = Fasta.open(write_fasta(tmp_path / "r.fa", {"1": "ACGT"}))
    with pytest.raises(Invalid, match="outside chromosome 1"):
        fasta.bases("1", np.array([place]))
    with pytest.raises(Invalid, match="no chromosome 2"):
        fasta.bases("2", np.array([1]))


def test_refuses_files_that_are_not_it(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "r.fa", {"1": "ACGT" * 10})
    index = path.with_name("r.fa.fai")
    good = path.read_bytes()
    path.write_bytes(good[:30])
    with pytest.raises(Invalid, match="does not fit") as caught:
        Fasta.open(path)
    assert caught.value.where == f"{index}:1"
    path.write_bytes(b"\x1f\x8b" + good)
    with pytest.raises(Invalid, match="compressed"):
        Fasta.open(path)
    path.write_bytes(good)
    index.write_text("1\tforty\n")
    with pytest.raises(Invalid, match="not a line of a FASTA index"):
        Fasta.open(path)
    index.unlink()
    with pytest.raises(Invalid, match="missing") as caught:
        Fasta.open(path)
    assert "samtools faidx" in caught.value.remedy
