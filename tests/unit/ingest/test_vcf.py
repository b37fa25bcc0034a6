"""Lines that are not VCF end in words and the line's number, wherever the file says too little about its contigs.

cyvcf2 hands out a line that htslib gave up on if it is the first of a contig that the header does not declare: to look
at its bases ended the process.
"""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cyvcf2 import VCF

from federome.errors import Invalid
from federome.ingest.gvcf import GvcfSource
from federome.ingest.known import NoSites
from federome.ingest.source import Tally
from federome.ingest.vcf import VcfHeader, records
from federome.prs.files import build_panel

HEAD = "##fileformat=VCFv4.2\n{contig}#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tAnna\n"
GOOD = "chr10\t94781859\t.\tG\tA\t.\t.\t.\tGT\t0/1\n"
BAD = {
    "no number": GOOD.replace("94781859", "x"),
    "a float": GOOD.replace("94781859", "1e5"),
    "below zero": GOOD.replace("94781859", "-5"),
    "an end": "chr10\n",
    "an end after the place": "chr10\t94781859\t.\n",
    "an end before the genotypes": "chr10\t94781859\t.\tG\tA\t.\t.\t.\n",
}


def write(path: Path, *lines: str, contig: str = "") -> Path:
    path.write_text(HEAD.format(contig=contig) + "".join(lines))
    return path


@pytest.mark.parametrize("bad", list(BAD.values()), ids=list(BAD))
def test_a_line_that_is_not_vcf_is_named(tmp_path: Path, bad: str) -> None:
    for contig in ("", "##contig=<ID=chr10,length=133797422>\n"):
        if contig and bad.count("\t") > 6 and "GT" not in bad:
            continue  # with its contig declared, whoever needs genotypes says that it has none
        path = write(tmp_path / "a.vcf", bad, GOOD, contig=contig)
        with pytest.raises(Invalid, match="this line is not VCF") as refused:
            list(records(VcfHeader(path)))
        assert refused.value.where == f"{path}:{len(VcfHeader(path).lines) + 1}"
    path = write(tmp_path / "later.vcf", GOOD, bad.replace("chr10", "chr11"))
    with pytest.raises(Invalid) as refused:
        list(records(VcfHeader(path)))
    assert refused.value.where == f"{path}:4"


def test_what_is_vcf_is_read_whether_or_not_its_contigs_are_declared(tmp_path: Path) -> None:
    path = write(tmp_path / "a.vcf", GOOD, GOOD.replace("chr10", "chr11"))
    assert [(each.CHROM, each.POS, each.ALT) for each in records(VcfHeader(path))] == [
        ("chr10", 94781859, ["A"]), ("chr11", 94781859, ["A"])
    ]  # fmt: skip


def test_undefended_such_a_line_is_handed_out_with_nothing_in_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.vcf", BAD["no number"])
    assert next(iter(VCF(str(path)))).FORMAT == [], "cyvcf2 refuses such lines by now: no guard is needed"


def test_a_panel_is_read_as_genotypes_are(tmp_path: Path) -> None:
    people = tmp_path / "people.tsv"
    people.write_text("sample\tPopulation\nAnna\tFIN\n")
    with pytest.raises(Invalid, match="this line is not VCF"):
        build_panel(write(tmp_path / "a.vcf", BAD["no number"]), people, "Population", 1, None, "", "GRCh38")


def bgzf(data: bytes) -> bytes:
    """One block and the empty one that ends a file, as htslib writes them."""
    packer = zlib.compressobj(wbits=-15)
    body = packer.compress(data) + packer.flush()
    head = bytes.fromhex("1f8b08040000000000ff060042430200") + struct.pack("<H", len(body) + 25)
    end = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
    return head + body + struct.pack("<II", zlib.crc32(data), len(data)) + end


def test_a_line_within_a_region_is_named(tmp_path: Path, tool: Callable[[str], str]) -> None:
    path, packed = tmp_path / "a.g.vcf", tmp_path / "a.g.vcf.gz"
    write(path, GOOD, contig="##contig=<ID=chr10,length=133797422>\n##FORMAT=<ID=GT,Number=1,Type=String>\n")
    packed.write_bytes(bgzf(path.read_bytes()))
    subprocess.run([tool("bcftools"), "index", packed], check=True, capture_output=True)
    packed.write_bytes(bgzf(path.read_bytes().replace(b"0/1", b"0/x")))
    source = GvcfSource([packed], NoSites())
    with pytest.raises(Invalid, match="this line is not VCF") as refused:
        list(source.chunks(np.zeros(1, np.bool_), "GRCh38", Tally()))
    assert refused.value.where == f"{packed}, chr10:94000001-95000000, record 1"
