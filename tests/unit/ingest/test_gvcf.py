"""gVCF: reference where a good block says so, unknown elsewhere, at new sites and at those the store has."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from tests.unit.ingest.batch_folders import DAY, MANIFEST, ingest, small_batch, stored, write_people

from federome.errors import Invalid
from federome.ingest.folder import ingest_folder

HEADER = """\
##fileformat=VCFv4.2
##contig=<ID=chr1,length=248956422>
##contig=<ID=chrX,length=156040895>
##contig=<ID=chr22,length=50818468>
##ALT=<ID=NON_REF,Description="Any other allele">
##INFO=<ID=END,Number=1,Type=Integer,Description="End of the block">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Quality">
##FORMAT=<ID=MIN_DP,Number=1,Type=Integer,Description="Least depth of the block">
"""


def gvcf_batch(folder: Path, bcftools: str, files: Mapping[str, list[str]], *, men: tuple[bool, ...]) -> Path:
    """One gVCF a person. Lines: ``chromosome start-end GQ DP`` for a block, ``chromosome position ref alt GT``."""
    (folder / "gvcf").mkdir(parents=True)
    (folder / "manifest.toml").write_text(MANIFEST)
    write_people(folder, list(files), men)
    for person, lines in files.items():
        body = []
        for line in lines:
            chromosome, place, *rest = line.split()
            if "-" in place:
                start, end = place.split("-")
                quality, depth = rest
                body.append(
                    f"{chromosome}\t{start}\t.\tA\t<NON_REF>\t.\t.\tEND={end}\tGT:GQ:MIN_DP\t0/0:{quality}:{depth}"
                )
            else:
                ref, alt, genotype = rest
                body.append(f"{chromosome}\t{place}\t.\t{ref}\t{alt},<NON_REF>\t.\t.\t.\tGT:GQ:MIN_DP\t{genotype}:50:.")
        columns = "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", person])
        text = folder / f"{person}.vcf"
        text.write_text(HEADER + columns + "\n" + "".join(f"{line}\n" for line in body))
        path = folder / "gvcf" / f"{person}.g.vcf.gz"
        subprocess.run([bcftools, "view", "-Oz", "-o", path, text], check=True, capture_output=True)
        subprocess.run([bcftools, "index", path], check=True)
        text.unlink()
    return folder


FILES = {
    "Anna": [
        "chr1 50-99 40 20",
        "chr1 100 A G 0/1",
        "chr1 101-1999 40 20",
        "chr1 2000 AT A 0/1",
        "chr1 2002-3000 15 20",  # too poor to be called
        "chr1 3001-1500000 40 20",  # over the border of a window
        "chrX 5000000 C T 1/1",
    ],
    "Bert": [
        "chr1 50-3000 40 20",
        "chr1 3001-4000 40 9",  # too shallow
        "chr1 4001-1999999 40 20",
        "chrX 5000000 C T 0/1",  # one copy of two in a man
    ],
    "Cleo": ["chr1 100 A C,G 1/2", "chr1 101-2500 40 20", "chr1 1200000 G T ./1", "chrX 4999000-5000100 99 30"],
}


def test_every_person_at_every_site(tool: Callable[[str], str], tmp_path: Path) -> None:
    batch = gvcf_batch(tmp_path / "b", tool("bcftools"), FILES, men=(False, True, False))
    store, report = ingest(tmp_path, batch)
    assert stored(store, report.release) == {
        "1:100:A:C": [0, 0, 1],
        "1:100:A:G": [1, 0, 1],
        "1:2000:AT:A": [1, 0, 0],
        "1:1200000:G:T": [0, 0, -1],
        "X:5000000:C:T": [2, -1, 0],
    }
    assert (report.half_calls, report.ploidy_calls, report.split_lines) == (1, 1, 1)
    assert report.release.batches[0].callable == "sites"


def test_sites_that_the_store_has_are_answered_too(tool: Callable[[str], str], tmp_path: Path) -> None:
    known = ["1 60 C T 0/1 0/0 0/0 0/0", "1 2001 T C 0/1 0/0 0/0 0/0", "1 2100 A G 0/1 0/0 0/0 0/0"]
    known += ["1 3500 A G 0/1 0/0 0/0 0/0", "1 1400000 A G 0/1 0/0 0/0 0/0", "22 20000000 A G 0/1 0/0 0/0 0/0"]
    store, _ = ingest(tmp_path, small_batch(tmp_path / "first", known, manifest=MANIFEST.replace('"small"', '"known"')))
    batch = gvcf_batch(tmp_path / "b", tool("bcftools"), FILES, men=(False, True, False))
    report = ingest_folder(store, batch, released_on=DAY)
    found = stored(store, report.release)
    assert {key: found[key] for key in found if key.split(":")[1] not in ("100", "2000", "1200000", "5000000")} == {
        "1:60:C:T": [0, 0, -1],
        "1:2001:T:C": [-1, 0, 0],  # inside Anna's deletion
        "1:2100:A:G": [-1, 0, 0],
        "1:3500:A:G": [0, -1, -1],
        "1:1400000:A:G": [0, 0, -1],
        "22:20000000:A:G": [-1, -1, -1],
    }


def test_equals_the_truth_base_by_base(tool: Callable[[str], str], tmp_path: Path) -> None:
    """Random people: at each base reference, a carrier, or unread; written as blocks, read back at every site."""
    rng = np.random.default_rng(8)
    size, start = 3_000, 999_000  # across the border of a window
    people = [f"P{number}" for number in range(6)]
    variable = np.sort(rng.choice(size, 120, replace=False))
    truth = np.zeros((len(people), size), np.int8)
    truth[:, variable] = rng.choice([0, 1, 2, -1], (len(people), variable.size), p=[0.6, 0.2, 0.1, 0.1])
    for row in truth:
        for hole in rng.choice(size - 60, 8):
            row[hole : hole + rng.integers(1, 60)] = -1
    files = {}
    for person, row in zip(people, truth, strict=True):
        lines, base = [], 0
        while base < size:
            if row[base] > 0:
                lines.append(f"chr1 {start + base} A G {'0/1' if row[base] == 1 else '1/1'}")
                base += 1
                continue
            end = base
            while end < size and row[end] == row[base]:
                end += 1
            depth = 30 if row[base] == 0 else 3
            lines.append(f"chr1 {start + base}-{start + end - 1} {'60' if rng.random() < 0.5 else '99'} {depth}")
            base = end
        files[person] = lines
    store, report = ingest(tmp_path, gvcf_batch(tmp_path / "b", tool("bcftools"), files, men=(False,) * 6))
    carried = [base for base in range(size) if (truth[:, base] > 0).any()]
    assert stored(store, report.release) == {f"1:{start + base}:A:G": truth[:, base].tolist() for base in carried}


def test_refuses_files_without_index_and_the_same_person_twice(tool: Callable[[str], str], tmp_path: Path) -> None:
    batch = gvcf_batch(tmp_path / "b", tool("bcftools"), FILES, men=(False, True, False))
    (batch / "gvcf" / "Bert.g.vcf.gz.csi").unlink()
    with pytest.raises(Invalid, match="has no index") as caught:
        ingest(tmp_path, batch)
    assert caught.value.where == str(batch / "gvcf" / "Bert.g.vcf.gz")
    (batch / "gvcf" / "Bert.g.vcf.gz").write_bytes((batch / "gvcf" / "Anna.g.vcf.gz").read_bytes())
    with pytest.raises(Invalid, match="1 samples stand twice"):
        ingest(tmp_path, batch)
    for path in (batch / "gvcf").iterdir():
        path.unlink()
    with pytest.raises(Invalid, match="holds no gVCF files"):
        ingest(tmp_path, batch)
