"""Whole batches: real genotypes count for count, tiny ones call for call, and every refusal with its line."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.unit.ingest.batch_folders import (
    DAY,
    MANIFEST,
    MINIMAL,
    ingest,
    names,
    small_batch,
    stored,
    stored_counts,
    vcf,
    write_people,
)
from tests.unit.ingest.killed import killed
from tests.unit.ingest.test_fasta import write_fasta

from federome.errors import Invalid, Unavailable
from federome.ingest.folder import Progress, ingest_folder, stage_folder
from federome.ingest.kinship import FIRST_DEGREE
from federome.ingest.readers import Readers
from federome.ingest.source import Tally
from federome.ingest.vcf import VcfSource
from federome.store.catalogue import Store

ASSEMBLY_37 = MANIFEST.replace("GRCh38", "GRCh37").replace("synthetic = true", "synthetic = false")


def plink_counts(tool: Callable[[str], str], out: Path, *source: str) -> dict[str, tuple[int, ...]]:
    """``plink2 --geno-counts`` as (hom-ref, het, hom-alt, missing) of each ALT; one copy counts like two."""
    subprocess.run([tool("plink2"), *source, "--geno-counts", "--out", str(out)], check=True, capture_output=True)
    found: dict[str, tuple[int, ...]] = {}
    rows = [line.split("\t") for line in out.with_suffix(".gcount").read_text().splitlines()]
    with_positions = subprocess.run(
        [tool("plink2"), *source, "--make-just-pvar", "cols=", "--out", str(out)], check=True, capture_output=True
    )
    assert with_positions.returncode == 0
    sites = [line.split("\t")[:5] for line in out.with_suffix(".pvar").read_text().splitlines() if line[0] != "#"]
    for (chromosome, position, _, ref, alts), row in zip(sites, rows[1:], strict=True):
        *_, homref, het, two, hapref, hapalt, missing = row
        hets = [int(x) for x in het.split(",")]
        pairs = [int(x) for x in two.split(",")]  # 1/1, 1/2, 2/2, 1/3, …
        haploid = [int(x) for x in hapalt.split(",")]
        total = int(homref) + sum(hets) + sum(pairs) + int(hapref) + sum(haploid)
        order = [(a, b) for b in range(len(hets)) for a in range(b + 1)]
        for number, alt in enumerate(alts.split(",")):
            double = pairs[order.index((number, number))] + haploid[number]
            single = hets[number]
            single += sum(c for (a, b), c in zip(order, pairs, strict=True) if a != b and number in (a, b))
            found[f"{chromosome}:{position}:{ref}:{alt}"] = (total - single - double, single, double, int(missing))
    return found


def real_batch(folder: Path, source: Path, people: Sequence[str], men: Sequence[bool], manifest: str) -> Path:
    folder.mkdir()
    (folder / "manifest.toml").write_text(manifest)
    write_people(folder, people, men)
    for path in source.parent.glob(
        source.name.removesuffix(".pgen") + ".*" if source.suffix == ".pgen" else source.name
    ):
        (folder / ("genotypes" + "".join(path.suffixes[-2:] if path.suffix == ".gz" else [path.suffix]))).symlink_to(
            path
        )
    return folder


def samples(source: Path) -> list[str]:
    """Sample names of a compressed VCF."""
    with gzip.open(source, "rt") as file:
        header = next(line for line in file if line.startswith("#CHROM"))
    return header.rstrip("\n").split("\t")[9:]


def high_coverage(shared: Path) -> tuple[Path, Path, list[str], list[bool]]:
    """The VCF and the pedigree of 3,202 people, their names and who is a man."""
    data = shared / "data" / "genotypes"
    source, psam = data / "1000G_hc_GRCh38_3202x1004_phased.vcf.gz", data / "1000G_3202_populations_pedigree.psam"
    sexes = {row[0]: row[3] for row in (line.split("\t") for line in psam.read_text().splitlines()[1:])}
    people = samples(source)
    return source, psam, people, [sexes[person] == "1" for person in people]


def test_high_coverage_1000_genomes_equals_plink2(shared: Path, tool: Callable[[str], str], tmp_path: Path) -> None:
    """3,202 people, 22 autosomes and X with one-copy men; chromosomes in the order of their names."""
    source, psam, people, men = high_coverage(shared)
    batch = real_batch(tmp_path / "hc", source, people, men, MANIFEST)
    store, report = ingest(tmp_path, batch)
    expected = plink_counts(tool, tmp_path / "p", "--vcf", str(source), "--psam", str(psam))
    assert stored_counts(store, report.release) == expected
    assert (report.people, report.variants) == (3202, 1004)
    assert (report.half_calls, report.ploidy_calls, report.duplicates) == (0, 0, 0)
    # seven indels, none aligned for lack of a reference sequence
    assert report.not_left_aligned == 7
    # 968 autosomal sites are enough for first degree, and there are 602 trios
    assert report.kinship_limit == FIRST_DEGREE
    assert 1_150 < report.related_pairs < 1_350


def test_phase_3_with_multiallelic_lines_equals_plink2(
    shared: Path, tool: Callable[[str], str], tmp_path: Path
) -> None:
    source = shared / "data" / "genotypes" / "1000G_ph3_chr1_2504x1042.vcf.gz"
    people = samples(source)
    batch = real_batch(tmp_path / "ph3", source, people, [False] * len(people), ASSEMBLY_37)
    store, report = ingest(tmp_path, batch)
    expected = plink_counts(tool, tmp_path / "p", "--vcf", str(source))
    found = stored_counts(store, report.release)
    assert report.variants == len(found) == len(expected) == 1044
    assert report.split_lines == 2
    # trimmed spellings differ from the file's: one of TATATA>AATATA,T
    assert expected.pop("1:66381:TATATA:AATATA") == found["1:66381:T:A"]
    assert {k: v for k, v in found.items() if k != "1:66381:T:A"} == expected


def test_pgen_equals_plink2(shared: Path, tool: Callable[[str], str], tmp_path: Path) -> None:
    source = shared / "data" / "genotypes" / "cineca_synthetic_subset.pgen"
    people = [line.split("\t")[1] for line in source.with_suffix(".psam").read_text().splitlines()[1:]]
    batch = real_batch(tmp_path / "cineca", source, people, [False] * len(people), ASSEMBLY_37)
    store, report = ingest(tmp_path, batch)
    prefix = str(source.with_suffix(""))
    assert stored_counts(store, report.release) == plink_counts(tool, tmp_path / "p", "--pfile", prefix)
    assert report.kinship_limit is None  # one chromosome says too little


@pytest.mark.parametrize("form", ["bcf", "vcf.gz", "pgen", "pgen zst", "one file a chromosome"])
def test_every_form_of_the_same_data_gives_the_same_release(
    shared: Path, tool: Callable[[str], str], tmp_path: Path, form: str
) -> None:
    source, psam, people, men = high_coverage(shared)
    people, men = people[:300], men[:300]
    (tmp_path / "keep").write_text("".join(f"{person}\n" for person in people))
    few = tmp_path / "few.vcf.gz"
    select = [tool("plink2"), "--vcf", source, "--psam", psam, "--keep", tmp_path / "keep"]
    export = ["--export", "vcf", "bgz", "--out", tmp_path / "few"]
    subprocess.run([*select, *export], check=True, capture_output=True)
    bcftools = tool("bcftools")
    batches = []
    for name in ("plain", "other"):
        batches.append(tmp_path / name / "batch")
        batches[-1].mkdir(parents=True)
        (batches[-1] / "manifest.toml").write_text(MANIFEST)
        write_people(batches[-1], people, men)
    (batches[0] / "genotypes.vcf").write_bytes(gzip.decompress(few.read_bytes()))
    target = batches[1] / "genotypes"
    if form in ("bcf", "vcf.gz"):
        kind = "-Ob" if form == "bcf" else "-Oz"
        subprocess.run([bcftools, "view", kind, "-o", f"{target}.{form}", few], check=True, capture_output=True)
    elif form.startswith("pgen"):
        make = ["--make-pgen", *(["vzs"] if "zst" in form else [])]
        rows = psam.read_text().splitlines()
        (tmp_path / "few.psam").write_text(
            "\n".join([rows[0], *(r for r in rows if r.split("\t")[0] in people)]) + "\n"
        )
        command = [tool("plink2"), "--vcf", few, "--psam", tmp_path / "few.psam", *make, "--out", target]
        subprocess.run(command, check=True, capture_output=True)
    else:
        target.mkdir()
        subprocess.run([bcftools, "index", few], check=True)
        for chromosome in (*range(1, 23), "X"):
            out = target / f"chr{chromosome}.bcf"
            subprocess.run([bcftools, "view", "-r", str(chromosome), "-Ob", "-o", out, few], check=True)
    digests = {ingest(batch.parent, batch)[1].release.digest for batch in batches}
    assert len(digests) == 1


@pytest.mark.processes
def test_files_read_side_by_side_give_the_same_release_and_the_same_refusals(tmp_path: Path) -> None:
    """A process for each file; a fault in the second has its own line."""
    batch = small_batch(tmp_path / "b", GOOD)
    (batch / "genotypes.vcf").unlink()
    (batch / "genotypes").mkdir()
    files = [batch / "genotypes" / f"chr{name}.vcf" for name in (1, 2)]
    for name, file in enumerate(files, start=1):
        lines = [f"{name} 100 A G,T 0/1 1/2 0/0 ./1", f"{name} 200 C T 0/1 0/0 0/0 1/1"]
        file.write_text(vcf(names(4), lines))
    _, alone = ingest(tmp_path / "alone", batch, processes=1)
    store, together = ingest(tmp_path / "together", batch, processes=2)
    assert together == alone and alone.variants == 6 and alone.half_calls == 2
    assert not list(store.layout.staging.rglob("*.read"))
    files[1].write_text(files[1].read_text().replace("0/0", "0/0/0"))
    with pytest.raises(Invalid, match="more than two alleles") as caught:
        ingest(tmp_path / "refused", batch, processes=2)
    assert caught.value.where == f"{files[1]}:4"


@pytest.mark.parametrize("form", ["vcf.gz", "bcf"])
def test_an_indexed_file_read_in_parts_gives_the_same(tool: Callable[[str], str], tmp_path: Path, form: str) -> None:
    """Contigs side by side; an index that was made for another file is not looked at."""
    bcftools = tool("bcftools")
    batch = small_batch(tmp_path / "b", GOOD)
    plain = batch / "genotypes.vcf"
    lines = [f"{name} {at} A G 0/1 1/1 0/0 ./." for name in ("1", "2", "3", "X") for at in range(100, 160)]
    plain.write_text(vcf(names(4), lines))
    men = np.array([False, False, True, True])
    alone = list(map(repr, VcfSource([plain]).chunks(men, "GRCh38", Tally())))
    assert alone
    target = batch / f"genotypes.{form}"

    def write(text: str) -> None:
        kind = "-Ob" if form == "bcf" else "-Oz"
        contigs = "".join(f"##contig=<ID={name}>\n" for name in ("1", "2", "3", "4", "X"))
        text = text.replace("#CHROM", f"{contigs}#CHROM")
        subprocess.run([bcftools, "view", kind, "-o", target], input=text.encode(), check=True, capture_output=True)

    write(plain.read_text())
    plain.unlink()
    subprocess.run([bcftools, "index", target], check=True)
    source = VcfSource([target])
    source.side_by_side(tmp_path / "waiting", processes=2)
    assert len(source._parts) > 1
    assert [each.contig for part in source._parts for each in part.stretches] == ["1", "2", "3", "X"]
    source.readers = None  # in order, in this process
    assert list(map(repr, source.chunks(men, "GRCh38", Tally()))) == alone
    index = target.with_name(f"{target.name}.csi")
    held = index.read_bytes()
    # Longer in every form: the header has the hour, so that a file of equal records may be as long as the first one.
    write(vcf(names(4), [*lines, *(f"X {at} A G 0/1 0/1 1/1 0/0" for at in range(200, 2_200, 7))]))
    index.write_bytes(held)
    source = VcfSource([target])
    source.side_by_side(tmp_path / "waiting", processes=2)
    assert [part.stretches for part in source._parts] == [()]
    assert source.readers is None


@pytest.mark.processes
def test_a_fault_in_a_part_has_its_place_in_that_part(tool: Callable[[str], str], tmp_path: Path) -> None:
    bcftools = tool("bcftools")
    batch = small_batch(tmp_path / "b", GOOD)
    plain, target = batch / "genotypes.vcf", batch / "genotypes.vcf.gz"
    lines = [f"{name} {at} A G 0/1 1/1 0/0 ./." for name in ("1", "2") for at in (100, 200)]
    plain.write_text(vcf(names(4), [*lines[:3], lines[3].replace("0/0", "0/0/0")]))
    subprocess.run([bcftools, "view", "-Oz", "-o", target, plain], check=True, capture_output=True)
    plain.unlink()
    subprocess.run([bcftools, "index", target], check=True)
    with pytest.raises(Invalid, match="more than two alleles") as caught:
        ingest(tmp_path / "refused", batch, processes=2)
    assert caught.value.where == f"{target}, record 2 from contig 2 on"


@pytest.mark.processes
def test_a_reader_that_is_killed_is_an_error_and_no_shorter_release(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="part 1 of 2 was ended"):
        list(Readers(2, tmp_path / "waiting").read([killed, killed], Tally()))


X_MALE, X_PAR, Y, MT = 5_000_000, 100_000, 10_000_000, 100

CALLS = {
    # two women, then two men: line -> stored genotypes of each ALT
    "1 100 A G 0/0 0/1 1/1 ./.": {"1:100:A:G": [0, 1, 2, -1]},
    "1 101 a g 0|1 1|0 0|0 .|.": {"1:101:A:G": [1, 1, 0, -1]},
    "1 102 A G ./1 0/. 1/1 0/0": {"1:102:A:G": [-1, -1, 2, 0]},  # half calls
    "1 103 A G 1 0 . 1/1": {"1:103:A:G": [-1, -1, -1, 2]},  # one copy where there are two
    "1 104 A G,T 1/2 2/2 0/2 ./2": {"1:104:A:G": [1, 0, 0, -1], "1:104:A:T": [1, 2, 1, -1]},
    "1 105 A G,<DEL>,* 1/2 0/3 2/2 1/1": {"1:105:A:G": [1, 0, 0, 2]},
    "1 106 AT A,ATT 1/2 0/1 0/0 2/2": {"1:106:AT:A": [1, 1, 0, 0], "1:106:A:AT": [1, 0, 0, 2]},
    "1 107 CAG CTG 0/1 0/0 0/0 0/0": {"1:108:A:T": [1, 0, 0, 0]},
    "1 107 A <INS> 0/1 0/0 0/0 0/0": {},
    "1 109 A . 0/0 0/0 0/0 0/0": {},
    f"X {X_PAR} A G 0/1 1/1 0/1 1": {f"X:{X_PAR}:A:G": [1, 2, 1, -1]},
    f"X {X_MALE} A G 0/1 1 1 0/1": {f"X:{X_MALE}:A:G": [1, -1, 2, -1]},
    f"X {X_MALE + 1} A G,T 1/2 0/0 2 2/2": {
        f"X:{X_MALE + 1}:A:G": [1, 0, 0, 0],
        f"X:{X_MALE + 1}:A:T": [1, 0, 2, 2],
    },
    f"Y {Y} A G . 0/1 1 0/1": {f"Y:{Y}:A:G": [-1, -1, 2, -1]},
    f"Y {Y + 1} A G ./. 0/0 0/0 1/1": {f"Y:{Y + 1}:A:G": [-1, -1, 0, 2]},
    f"MT {MT} A G 1 0 0/1 1/1": {f"MT:{MT}:A:G": [2, 0, -1, 2]},
    "GL000191.1 5 A G 0/1 0/0 0/0 0/0": {},
}


def test_calls_one_by_one(tmp_path: Path) -> None:
    store, report = ingest(tmp_path, small_batch(tmp_path / "b", CALLS))
    expected = {key: calls for line in CALLS.values() for key, calls in line.items()}
    assert stored(store, report.release) == expected
    assert report.variants == len(expected)
    assert report.half_calls == 3
    assert report.ploidy_calls == 2 + 1 + 2 + 1 + 1
    assert report.skipped_alleles == 2 + 1 + 1
    assert report.skipped_contigs == 1
    assert report.split_lines == 4
    assert report.not_left_aligned == 2


def test_men_with_two_copies_in_a_pgen(tool: Callable[[str], str], tmp_path: Path) -> None:
    """A PGEN cannot tell one copy from two: het men on X, and women on Y, are found by position and sex."""
    lines = [f"X {X_PAR} A G 0/1 0/0 0/1 0/0", f"X {X_MALE} A G 0/1 0/0 0/1 1/1", f"Y {Y} A G 0/0 1/1 1/1 0/1"]
    batch = small_batch(tmp_path / "b", [*lines, f"MT {MT} A G 0/1 1/1 0/0 0/0"])
    source = batch / "genotypes.vcf"
    import pgenlib

    with pgenlib.PgenWriter(str(batch / "genotypes.pgen").encode(), 4, variant_ct=4, nonref_flags=False) as writer:
        for row in ([1, 0, 1, 0], [1, 0, 1, 2], [0, 2, 2, 1], [1, 2, 0, 0]):
            writer.append_biallelic(np.array(row, np.int8))
    records = [line.split("\t")[:5] for line in source.read_text().splitlines() if line[0] != "#"]
    (batch / "genotypes.pvar").write_text("#CHROM\tPOS\tID\tREF\tALT\n" + "".join("\t".join(r) + "\n" for r in records))
    (batch / "genotypes.psam").write_text("#IID\tSEX\nP0000\t2\nP0001\tNA\nP0002\t1\nP0003\t0\n")
    source.unlink()
    store, report = ingest(tmp_path, batch)
    assert stored(store, report.release) == {
        f"X:{X_PAR}:A:G": [1, 0, 1, 0],
        f"X:{X_MALE}:A:G": [1, 0, -1, 2],
        f"Y:{Y}:A:G": [-1, -1, 2, -1],
        f"MT:{MT}:A:G": [-1, 2, 0, 0],
    }
    assert report.ploidy_calls == 3


def test_effects_genes_and_callable_regions_reach_the_store(tmp_path: Path) -> None:
    header = '##INFO=<ID=CSQ,Number=.,Type=String,Description="VEP. Format: Allele|Consequence|IMPACT|SYMBOL">\n'
    batch = small_batch(
        tmp_path / "b",
        ["1 150 A G,T CSQ=G|missense_variant|M|GENE,T|stop_gained|H|GENE 0/1 0/2 0/0 0/0"],
        header=header,
    )
    (batch / "genes.bed").write_text("1\t99\t200\tGENE\n")
    (batch / "callable.bed").write_text("1\t50\t300\n")
    store, report = ingest(tmp_path, batch)
    (record,) = report.release.batches
    block = store.blocks.open(store.files(record, report.release, "1")[0])
    assert [block.sites.effects[e] for e in block.sites.effect] == [
        (("GENE", "missense_variant"),),
        (("GENE", "stop_gained"),),
    ]
    assert store.gene(report.release, "GENE") == (("1", 100, 200),)
    assert store.intervals(record, "1").tolist() == [[51, 300]]
    assert report.release.manifest.callable == "intervals"
    assert report.release.manifest.populations == ("FIN",)


def reference(folder: Path) -> tuple[Path, str]:
    """A small mitochondrial genome of the right length, full of repeats."""
    rng = np.random.default_rng(2)
    sequence = "".join(rng.choice(["AC", "ACAC", "G", "TT", "TTTT", "CAG"], 12_000))[:16_569]
    return write_fasta(folder / "mt.fa", {"MT": sequence}, width=70), sequence


def test_with_a_reference_indels_are_left_aligned_and_stay_sorted(tool: Callable[[str], str], tmp_path: Path) -> None:
    fasta, sequence = reference(tmp_path)
    rng = np.random.default_rng(3)
    lines = []
    for position in range(20, 16_500, 3):
        ref = sequence[position - 1 : position - 1 + int(rng.integers(1, 5))]
        alt = ref + ref[-1:] if rng.random() < 0.5 else ref[:1] + "CAG"
        if alt != ref:
            genotypes = rng.choice(["0/0", "1/1", "./."], 4)
            lines.append(f"MT {position} {ref} {alt} {' '.join(genotypes)}")
    batch = small_batch(tmp_path / "b", lines, header="##contig=<ID=MT,length=16569>\n")
    done = subprocess.run(
        [tool("bcftools"), "norm", "-f", str(fasta), str(batch / "genotypes.vcf")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    theirs: dict[str, list[int]] = {}
    again: set[str] = set()
    for row in (line.split("\t") for line in done.stdout.splitlines() if line[0] != "#"):
        key = f"MT:{row[1]}:{row[3]}:{row[4]}"
        calls = [{"0/0": 0, "1/1": 2, "./.": -1}[call] for call in row[9:]]
        if theirs.setdefault(key, calls) != calls:
            again.add(key)
    kept = [  # what aligns to the same place with other genotypes would be refused
        line for line, key in zip(lines, _spellings(lines, sequence), strict=True) if key not in again
    ]
    (batch / "genotypes.vcf").write_text(vcf(names(4), kept))
    store, report = ingest(tmp_path, batch, fasta=fasta)
    found = stored(store, report.release)
    assert found == {key: calls for key, calls in theirs.items() if key not in again}
    assert report.not_left_aligned == 0
    assert report.variants + report.duplicates == len(kept) > 4_000
    assert report.references["MT"].startswith("SQ.")


def _spellings(lines: Sequence[str], sequence: str) -> list[str]:
    from federome.ingest.normalise import left_align

    keys = []
    for line in lines:
        _, position, ref, alt, *_ = line.split()
        at, r, a, _reached = left_align(int(position), ref, alt, lambda p, n: sequence[p - 1 : p - 1 + n])
        keys.append(f"MT:{at}:{r}:{a}")
    return keys


def test_refuses_a_ref_that_is_not_the_reference(tmp_path: Path) -> None:
    fasta, sequence = reference(tmp_path)
    wrong = {"A": "C", "C": "G", "G": "T", "T": "A"}[sequence[99]]
    batch = small_batch(tmp_path / "b", [f"MT 50 {sequence[49]} N 1 1 0 0", f"MT 100 {wrong} {sequence[99]} 1 1 0 0"])
    with pytest.raises(Invalid, match="REF at MT:100 is not that of the reference sequence") as caught:
        ingest(tmp_path, batch, fasta=fasta)
    assert caught.value.where == f"{batch / 'genotypes.vcf'}:5"
    long = small_batch(tmp_path / "c", [f"MT 99 {sequence[98]}{wrong} {sequence[98]} 1 1 0 0"])
    with pytest.raises(Invalid, match="REF at MT:99"):
        ingest(tmp_path, long, fasta=fasta)


def test_swaps_alleles_that_plink_calls_provisional(tmp_path: Path) -> None:
    import pgenlib

    fasta, sequence = reference(tmp_path)
    other = {"A": "C", "C": "A", "G": "T", "T": "G"}
    strand = {"A": "T", "T": "A", "C": "G", "G": "C"}

    def make(name: str, position: int, ref: str, alt: str) -> Path:
        batch = small_batch(tmp_path / name, [])
        (batch / "genotypes.vcf").unlink()
        with pgenlib.PgenWriter(str(batch / "genotypes.pgen").encode(), 4, variant_ct=1, nonref_flags=True) as writer:
            writer.append_biallelic(np.array([2, 0, -9, 0], np.int8))
        (batch / "genotypes.pvar").write_text(f"#CHROM\tPOS\tID\tREF\tALT\nMT\t{position}\t.\t{ref}\t{alt}\n")
        (batch / "genotypes.psam").write_text("#IID\tSEX\n" + "".join(f"{p}\tNA\n" for p in names(4)))
        return batch

    base = sequence[99]
    store, report = ingest(tmp_path / "1", make("a", 100, other[base], base), fasta=fasta)
    assert stored(store, report.release) == {f"MT:100:{base}:{other[base]}": [0, 2, -1, 2]}
    assert report.swapped == 1
    # an exchange that could also be one of strands is nobody's to guess
    with pytest.raises(Invalid, match="REF at MT:100"):
        ingest(tmp_path / "2", make("b", 100, strand[base], base), fasta=fasta)


def test_without_a_reference_ref_must_agree_with_what_the_store_knows(tmp_path: Path) -> None:
    first = small_batch(tmp_path / "first", ["1 100 A G 0/1 0/0 0/0 0/0", "1 200 CA C 0/1 0/0 0/0 0/0"])
    store, _ = ingest(tmp_path, first)
    manifest = MANIFEST.replace('"small"', '"second"')
    fits = ["1 100 A T 0/1 0/0 0/0 0/0", "1 150 T C 0/1 0/0 0/0 0/0", "1 200 CAT C 0/1 0/0 0/0 0/0"]
    ingest_folder(store, small_batch(tmp_path / "second", fits, manifest=manifest), released_on=DAY)
    third = small_batch(tmp_path / "third", ["1 100 G A 0/1 0/0 0/0 0/0"], manifest=MANIFEST.replace('"small"', '"x"'))
    with pytest.raises(Invalid, match="REF at 1:100 is not that of what the store knows") as caught:
        ingest_folder(store, third, released_on=DAY)
    assert "--fasta" in caught.value.remedy
    # real and synthetic genomes are different genomes
    text = (third / "manifest.toml").read_text().replace("synthetic = true", "synthetic = false")
    (third / "manifest.toml").write_text(text)
    assert ingest_folder(store, third, released_on=DAY).variants == 1


def test_repeated_variants(tmp_path: Path) -> None:
    same = [
        "1 100 A G 0/1 0/0 0/0 1/1",
        "1 100 A C 0/0 0/0 0/0 1/1",
        "1 100 A G 0/1 0/0 0/0 1/1",
        "1 101 A G 0/1 0/0 0/0 0/0",
    ]
    store, report = ingest(tmp_path, small_batch(tmp_path / "b", same))
    assert list(stored(store, report.release)) == ["1:100:A:C", "1:100:A:G", "1:101:A:G"]
    assert report.duplicates == 1
    for number, second in enumerate(("1 100 A G 0/1 0/1 0/0 1/1", "1 100 G A 1/1 1/1 0/0 0/0")):
        batch = small_batch(tmp_path / f"c{number}", [same[0], second])
        with pytest.raises(Invalid, match="stands twice with different genotypes") as caught:
            ingest(tmp_path / str(number), batch)
        assert caught.value.where == f"{batch / 'genotypes.vcf'}:5"


GOOD = ["1 100 A G 0/1 0/0 0/0 1/1", "1 200 C T 0/1 0/0 0/0 0/0"]


@pytest.mark.parametrize(
    ("lines", "header", "message", "at"),
    [
        ([*reversed(GOOD)], "", "positions fall", ":5"),
        (["2 100 A G 0/1 0/0 0/0 1/1", *GOOD, "2 200 A G 0/1 0/0 0/0 1/1"], "", "comes back after others", ":7"),
        ([], "", "holds no variants", ""),
        ([*GOOD, *("1 248956423 A G 0/1 0/0 0/0 0/0",) * 2], "", "does not exist on chromosome 1 of GRCh38", ":6"),
        (["1 0 A G 0/1 0/0 0/0 0/0"], "", "position 0 does not exist", ":4"),
        ([*GOOD, "chr1 150 A C 0/1 0/0 0/0 0/0"], "", "positions fall", ":6"),
        ([GOOD[0], "X 1 A G 0/0 0/0 0 0", "chr1 200 C T 0/1 0/0 0/0 0/0"], "", "'1' comes back after others", ":6"),
        (["1 100 <X> G 0/1 0/0 0/0 0/0"], "", "REF is not a sequence", ":4"),
        (["1 100 A G 0/1/1 0/0/0 0/0/0 0/0/0"], "", "more than two alleles", ":4"),
        (GOOD, "##contig=<ID=1,length=249250621>\n", "the length in GRCh37; in GRCh38 it has 248,956,422", ""),
        (GOOD, "##contig=<ID=chr1,length=5>\n", "chromosome 1 has 5 bases; in GRCh38", ""),
        (GOOD, "##contig=<ID=1,assembly=b37>\n", "the header says b37, the manifest says GRCh38", ""),
        (GOOD, '##ALT=<ID=NON_REF,Description="x">\n', "this is a gVCF", ""),
    ],
)
def test_refuses_wrong_genotypes_with_their_line(
    tmp_path: Path, lines: list[str], header: str, message: str, at: str
) -> None:
    batch = small_batch(tmp_path / "b", lines, header=header)
    at = at and f":{int(at[1:]) + header.count(chr(10))}"
    with pytest.raises(Invalid, match=message) as caught:
        ingest(tmp_path, batch)
    assert caught.value.where == f"{batch / 'genotypes.vcf'}{at}"
    assert caught.value.remedy
    assert Store.open(tmp_path / "store").datasets() == ()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.replace("P0001", "P0000"), "1 samples stand twice"),
        (lambda text: text.replace("P0001", "Q0001"), "1 of 4 samples, the first being number 2, are not in"),
        (lambda text: text.replace("\tGT\t", "\tDP\t"), "no genotypes"),
        (lambda text: text.replace("#CHROM", "CHROM"), "no VCF header"),
        (lambda text: text[:-3], "last line has no end"),
        (lambda text: "", "the file is empty"),
        (lambda text: text.replace("\tC\tT\t", "\tC\n"), "truncated or this line is not VCF"),
        (lambda text: "\n".join("\t".join(x.split("\t")[:8]) for x in text.split("\n")), "holds no samples"),
    ],
)
def test_refuses_spoiled_files(tmp_path: Path, spoil: Callable[[str], str], message: str) -> None:
    batch = small_batch(tmp_path / "b", GOOD)
    path = batch / "genotypes.vcf"
    path.write_text(spoil(path.read_text()))
    with pytest.raises(Invalid, match=message) as caught:
        ingest(tmp_path, batch)
    assert caught.value.where.startswith(str(path))
    assert caught.value.remedy
    assert "P000" not in str(caught.value)


def test_refuses_cut_off_compressed_files(tool: Callable[[str], str], tmp_path: Path) -> None:
    lines = [f"1 {p} A G 0/1 0/0 0/0 1/1" for p in range(1, 20_000)]
    batch = small_batch(tmp_path / "b", lines, header="##contig=<ID=1,length=248956422>\n")
    plain = (batch / "genotypes.vcf").rename(tmp_path / "plain.vcf")
    for suffix, kind in (("vcf.gz", "-Oz"), ("bcf", "-Ob")):
        path = batch / f"genotypes.{suffix}"
        subprocess.run([tool("bcftools"), "view", kind, "-o", path, plain], check=True, capture_output=True)
        whole = path.read_bytes()
        path.write_bytes(whole[:-40])
        with pytest.raises(Invalid, match="last block is missing"):
            ingest(tmp_path, batch)
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + b"\x00" * 200 + whole[middle + 200 :])
        with pytest.raises(Invalid, match="truncated or this line is not VCF"):
            ingest(tmp_path, batch)
        path.unlink()
    path = batch / "genotypes.bcf"
    path.write_bytes(b"BCF\x02\x02" + bytes(range(200)))
    with pytest.raises(Invalid, match="not VCF or BCF"):
        ingest(tmp_path, batch)
    path.unlink()
    path = batch / "genotypes.vcf.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(Invalid, match="compressed with gzip") as caught:
        ingest(tmp_path, batch)
    assert "bgzip" in caught.value.remedy


def test_refuses_spoiled_plink_files(tool: Callable[[str], str], tmp_path: Path) -> None:
    batch = small_batch(tmp_path / "b", [f"1 {p} A G 0/1 0/0 0/0 1/1" for p in range(1, 200)])
    plink = [tool("plink2"), "--vcf", str(batch / "genotypes.vcf"), "--make-pgen", "--out", str(batch / "genotypes")]
    subprocess.run(plink, check=True, capture_output=True)
    (batch / "genotypes.vcf").unlink()
    (batch / "genotypes.log").unlink()
    pgen, pvar, psam = (batch / f"genotypes.{suffix}" for suffix in ("pgen", "pvar", "psam"))
    for path, change, message in (
        (pgen, lambda b: b[:-9], "size does not match|inside|truncated"),
        (pvar, lambda b: b[: b.rindex(b"\n", 0, -1) + 1], "does not have the 199 variants"),
        (pvar, lambda b: b + b"1\t900\t.\tA\tG\n", "does not have the 199 variants"),
        (pvar, lambda b: b[:-4], "last line has no end"),
        (pvar, lambda b: b.replace(b"\t7\t", b"\tseven\t"), "position is not a number"),
        (pvar, lambda b: b.replace(b"\t7\t", b"\t700\t"), "positions fall"),
        (pvar, lambda b: b.replace(b"#CHROM", b"#CHR"), "no header #CHROM"),
        (psam, lambda b: b.replace(b"#IID", b"#ID"), "no header #IID"),
        (psam, lambda b: b + b"P9\tNA\n", "has 4 people, genotypes.psam has 5"),
        (psam, lambda b: b.replace(b"P0000\tNA", b"P0000\t1"), "sex in the genotypes' sample table is another"),
        (psam, lambda b: b.replace(b"\tNA", b"", 1), "columns of the header"),
    ):
        good = path.read_bytes()
        path.write_bytes(change(good))
        with pytest.raises(Invalid, match=message) as caught:
            ingest(tmp_path, batch)
        assert str(batch) in caught.value.where
        path.write_bytes(good)
    pvar.unlink()
    with pytest.raises(Invalid, match=r"genotypes.pvar is missing beside genotypes.pgen"):
        ingest(tmp_path, batch)


def test_refuses_people_without_genotypes_and_folders_without_files(tmp_path: Path) -> None:
    batch = small_batch(tmp_path / "b", GOOD)
    with (batch / "phenotypes.csv").open("a") as file:
        file.write("P9999,male,FIN\n")
    with pytest.raises(Invalid, match="1 people of the phenotype table have no genotypes") as caught:
        ingest(tmp_path, batch)
    assert caught.value.where == f"{batch / 'phenotypes.csv'}:6"
    (batch / "phenotypes.parquet").touch()
    with pytest.raises(Invalid, match="2 phenotype tables"):
        ingest(tmp_path, batch)
    (batch / "genotypes.bcf").touch()
    with pytest.raises(Invalid, match="2 sets of genotypes"):
        ingest(tmp_path, batch)


def test_progress_and_batches_over_time(tmp_path: Path) -> None:
    seen: list[Progress] = []
    first = small_batch(tmp_path / "2026 June", GOOD)
    store, report = ingest(tmp_path, first, on_progress=seen.append)
    assert list(dict.fromkeys(p.stage for p in seen)) == ["checking", "genotypes", "kinship", "committing"]
    assert Progress("genotypes", "1", 2, None) in seen
    assert report.release.batches[0].name == "2026-june"
    with pytest.raises(Invalid, match="a batch of this name"):
        ingest_folder(store, first, released_on=DAY)
    with pytest.raises(Invalid, match="in the dataset already"):
        ingest_folder(store, first, released_on=DAY, batch="again")


INGEST = """
import os, signal, sys
from datetime import date
from pathlib import Path
import duckdb, pandas
from federome.ingest.folder import ingest_folder
from federome.network.warm import warm
from federome.store.catalogue import Store
warm()

def attempt(root, batch, stop_at):
    def progress(at):
        if f"{at.stage} {at.chromosome}".strip() == stop_at:
            os.kill(os.getpid(), signal.SIGKILL)
    ingest_folder(Store.open(Path(root)), Path(batch), released_on=date(2026, 6, 1), on_progress=progress)

print("ready", flush=True)
for line in sys.stdin:  # a warm parent: each attempt is a process of its own without the imports
    child = os.fork()
    if child == 0:
        attempt(*line.rstrip().split(";"))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.processes
def test_a_killed_ingest_is_resumed_and_ends_in_the_same_release(tmp_path: Path) -> None:
    """Killed in each stage, and between chromosomes at the first, in the middle, and at the last."""
    chromosomes = ["1", "2", "9", "17", "22", "X"]
    draw, people = np.random.default_rng(7), 40
    calls = np.array(["0/0", "0/1", "1/1", "./."])
    lines = [
        f"{name} {at} A G {' '.join(calls[draw.choice(4, people, p=(0.5, 0.3, 0.15, 0.05))])}"
        for name in chromosomes
        for at in range(5_000_000, 5_150_000, 1_000)
    ]
    batch = small_batch(tmp_path / "b", lines)
    seen: list[str] = []
    _, whole = ingest(tmp_path / "whole", batch, on_progress=lambda at: seen.append(f"{at.stage} {at.chromosome}"))
    stages = [stage.strip() for stage in dict.fromkeys(seen)]
    assert [stage.split()[0] for stage in stages] == ["checking", *["genotypes"] * 6, "kinship", "committing"]
    staged = dict(zip(stages, [0, *range(6), 5, 6], strict=True))
    with subprocess.Popen(
        [sys.executable, "-c", INGEST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin and parent.stdout and parent.stdout.readline() == "ready\n"
        for stop_at in ("checking", "genotypes 1", "genotypes 9", "genotypes X", "kinship", "committing"):
            root = tmp_path / stop_at
            print(root / "store", batch, stop_at, sep=";", file=parent.stdin, flush=True)
            assert int(parent.stdout.readline()) == -signal.SIGKILL
            assert Store.open(root / "store").datasets() == ()
            finished = list((root / "store" / "staging").glob("*/*/finished.json"))
            assert len(finished) == staged[stop_at], stop_at
            _, resumed = ingest(root, batch)
            assert resumed == whole
        parent.stdin.close()


@pytest.mark.parametrize("between", ["nothing", "another release"])
def test_what_was_staged_is_released_without_reading_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    """Unless what REF is checked against has changed: then genotypes are read, and refused where they contradict."""
    batch = small_batch(tmp_path / "b", GOOD)
    _, plain = ingest(tmp_path / "plain", batch)
    store = Store.open(tmp_path / "store")
    compared = stage_folder(store, batch, lambda writer: (writer.compared, tuple(writer.relatives)), released_on=DAY)
    assert compared == (None, ())  # two SNPs tell of nobody's kinship
    assert store.datasets() == ()
    if between == "another release":
        other = small_batch(tmp_path / "o", ["1 100 G A 0/1 0/0 0/0 0/0"], manifest=MANIFEST.replace('"small"', '"x"'))
        ingest_folder(store, other, released_on=DAY)
        with pytest.raises(Invalid, match="REF at 1:100 is not that"):
            ingest_folder(store, batch, released_on=DAY)
        return

    def read(*_: object) -> None:
        raise AssertionError("the genotypes were read again")

    monkeypatch.setattr("federome.ingest.folder._read", read)
    assert ingest_folder(store, batch, released_on=DAY) == plain


def test_minimal_dataset_from_csv(tmp_path: Path) -> None:
    from tests.unit.ingest.test_phenotypes import rows, write_csv

    batch = small_batch(tmp_path / "b", GOOD, manifest=MINIMAL)
    people = rows(4)
    for row, person, sex in zip(people, names(4), ("female", "female", "male", "male"), strict=True):
        row |= {"person_id": person, "sex": sex}
    write_csv(batch / "phenotypes.csv", people)
    store, report = ingest(tmp_path, batch)
    assert report.null_rates["smoking"] == 1
    assert report.release.manifest.data_use == {"permission": "GRU"}
    assert report.release.manifest.constants["qc_verdict"] == "pass"
    assert store.datasets() == ("small",)
