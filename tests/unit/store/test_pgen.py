"""PGEN files: what the writer makes, pgenlib and plink2 read; what they make, the reader reads; damage is found."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import pickle
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pgenlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from federome.errors import Damaged, Invalid
from federome.store import kernels, pgen
from federome.store.pgen import PgenFile, PgenIndex, PgenWriter

Rows = NDArray[np.int8]

SIZES = (1, 2, 3, 5, 7, 8, 9, 31, 33, 63, 64, 65, 127, 255, 256, 257, 1000, 4099, 65535, 65536, 65537)


def simulate(people: int, variants: int, seed: int) -> Rows:
    """Genotypes of every kind: monomorphic, rare, common, flipped, without and with few, many, only missing calls."""
    rng = np.random.default_rng(seed)
    rows = np.empty((variants, people), np.int8)
    for row in rows:
        row[:] = rng.binomial(2, rng.choice([0, 0.002, 0.02, 0.06, 0.12, 0.3, 0.5, 0.97, 1]), people)
        row[rng.random(people) < rng.choice([0, 0, 0, 0.01, 0.1, 0.9, 1])] = -1
    return rows


def write(path: Path, rows: Rows) -> PgenIndex:
    with PgenWriter(path, rows.shape[1], max_variants=len(rows)) as writer:
        writer.append_many(rows)
    return writer.index


def read(path: Path) -> Rows:
    with PgenFile.open(path) as file:
        return kernels.decode(file, range(file.variants))


def pgenlib_read(path: Path, people: int, variants: int) -> Rows:
    reader = pgenlib.PgenReader(bytes(path), people)
    rows = np.empty((variants, people), np.int8)
    reader.read_range(0, variants, rows)
    reader.close()
    return np.where(rows == -9, -1, rows).astype(np.int8)


def pgenlib_write(path: Path, rows: Rows) -> None:
    writer = pgenlib.PgenWriter(bytes(path), rows.shape[1], variant_ct=len(rows), nonref_flags=False)
    for row in rows:
        writer.append_biallelic(np.where(row < 0, -9, row).astype(np.int8))
    writer.close()


def related(people: int, variants: int, seed: int) -> Rows:
    """Rows that repeat or invert the one before, but for a few people: what pgenlib writes as types 2 and 3."""
    rng = np.random.default_rng(seed)
    rows = np.empty((variants, people), np.int8)
    rows[0] = rng.integers(-1, 3, people)
    for before, row in itertools.pairwise(rows):
        row[:] = np.where(before >= 0, 2 - before, before) if rng.random() < 0.5 else before
        row[rng.integers(0, people, max(1, people // 40))] = rng.integers(-1, 3)
    return rows


# --- Writing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("people", SIZES)
def test_pgenlib_reads_what_the_writer_wrote(tmp_path: Path, people: int) -> None:
    rows = simulate(people, 12, seed=people)
    write(tmp_path / "a.pgen", rows)
    assert np.array_equal(pgenlib_read(tmp_path / "a.pgen", people, len(rows)), rows)
    assert np.array_equal(read(tmp_path / "a.pgen"), rows)


@settings(max_examples=60, deadline=None)
@given(people=st.integers(1, 300), seed=st.integers(0, 2**32))
def test_any_genotypes_come_back(tmp_path_factory: pytest.TempPathFactory, people: int, seed: int) -> None:
    path = tmp_path_factory.mktemp("any") / "a.pgen"
    rows = simulate(people, 8, seed)
    write(path, rows)
    assert np.array_equal(read(path), rows)
    assert np.array_equal(pgenlib_read(path, people, len(rows)), rows)


def test_one_row_many_rows_and_carriers_give_the_same_bytes(tmp_path: Path) -> None:
    rows = simulate(1000, 60, seed=5)
    with PgenWriter(tmp_path / "one.pgen", 1000, max_variants=len(rows)) as writer:
        for row in rows:
            writer.append(row)
    with PgenWriter(tmp_path / "sparse.pgen", 1000, max_variants=len(rows)) as writer:
        for row in rows:
            people = np.flatnonzero(row).astype(np.uint32)
            writer.append_sparse(people, row[people].view(np.uint8) & 3)
    index = write(tmp_path / "many.pgen", rows)
    assert set(index.record_types.tolist()) == {0, 1, 4, 6, 7}
    for name in ("one", "sparse"):
        assert (tmp_path / f"{name}.pgen").read_bytes() == (tmp_path / "many.pgen").read_bytes()


def test_the_bytes_are_those_of_pgenlib_when_nothing_is_related(tmp_path: Path) -> None:
    """The same record types and sizes as the reference writer, byte for byte, on independent variants."""
    rng = np.random.default_rng(3)
    rows = rng.binomial(2, rng.choice([0.0005, 0.003, 0.3, 0.5], 40)[:, np.newaxis], (40, 2000)).astype(np.int8)
    write(tmp_path / "ours.pgen", rows)
    pgenlib_write(tmp_path / "theirs.pgen", rows)
    assert (tmp_path / "ours.pgen").read_bytes() == (tmp_path / "theirs.pgen").read_bytes()


def test_records_are_never_larger_than_any_form_of_them(tmp_path: Path) -> None:
    """The chosen form against sizes worked out from the specification for every permitted form."""
    rows = simulate(900, 80, seed=11)
    index = write(tmp_path / "a.pgen", rows)
    sizes = np.diff(index.record_offsets.astype(np.int64))
    for row, size, kind in zip(rows, sizes, index.record_types, strict=True):
        assert size == min(possible_sizes(row, people=900).values())
        assert size == possible_sizes(row, people=900)[int(kind)]


def possible_sizes(row: Rows, people: int) -> dict[int, int]:
    """Bytes of each record type for a row (specification §2.3), sample numbers of two bytes."""

    def difflist(listed: NDArray[np.bool_]) -> int:
        ids = np.flatnonzero(listed).tolist()
        if not ids:
            return 1
        groups = -(-len(ids) // 64)
        deltas = [b - a for k, (a, b) in enumerate(itertools.pairwise(ids)) if (k + 1) % 64]
        varints = sum(1 + (delta > 127) for delta in deltas)
        return 1 + (len(ids) > 127) + groups * 2 + groups - 1 + -(-len(ids) // 4) + varints

    sizes = {0: -(-people // 4)}
    for kind, category in ((4, 0), (6, 2), (7, -1)):
        if np.sum(row != category) <= people // 8:
            sizes[kind] = difflist(row != category)
    first, second = sorted((0, 1, 2, -1), key=lambda c: -int(np.sum(row == c)))[:2]
    rest = (row != first) & (row != second)
    if rest.sum() < people // 16:  # pgenlib's rule, and ours: beyond that the form reads slowly
        sizes[1] = 1 + -(-people // 8) + difflist(rest)
    return sizes


@pytest.mark.parametrize("variants", [pgen.VBLOCK - 1, pgen.VBLOCK, pgen.VBLOCK + 1, 2 * pgen.VBLOCK + 5])
def test_files_of_several_variant_blocks(tmp_path: Path, variants: int) -> None:
    rows = np.random.default_rng(variants).integers(-1, 3, (variants, 9)).astype(np.int8)
    index = write(tmp_path / "a.pgen", rows)
    assert np.array_equal(pgenlib_read(tmp_path / "a.pgen", 9, variants), rows)
    with PgenFile.open(tmp_path / "a.pgen") as file:
        assert np.array_equal(file.record_offsets, index.record_offsets)
        edge = np.array([0, pgen.VBLOCK - 2, variants - 1], np.int64)
        assert np.array_equal(kernels.decode(file, edge), rows[edge])


def test_fewer_variants_than_announced_leave_no_gap(tmp_path: Path) -> None:
    rows = simulate(700, 30, seed=1)
    with PgenWriter(tmp_path / "a.pgen", 700, max_variants=3 * pgen.VBLOCK) as writer:
        writer.append_many(rows)
    write(tmp_path / "b.pgen", rows)
    assert (tmp_path / "a.pgen").read_bytes() == (tmp_path / "b.pgen").read_bytes()


def test_the_writer_knows_the_index_of_its_file(tmp_path: Path) -> None:
    rows = simulate(130, 50, seed=2)
    index = write(tmp_path / "a.pgen", rows)
    with PgenFile.open(tmp_path / "a.pgen") as file:
        again = file.index(kernels.counts(file, range(file.variants)))
    assert again.to_bytes() == index.to_bytes()
    assert np.array_equal(index.counts, [[np.sum(row == c) for c in (0, 1, 2, -1)] for row in rows])


def test_plink2_accepts_and_counts_alike(tmp_path: Path, tool: Callable[[str], str]) -> None:
    rows = simulate(500, 200, seed=8)
    index = write(tmp_path / "a.pgen", rows)
    describe(tmp_path / "a", rows)
    plink2(tool, tmp_path, "--pfile", "a", "--validate")
    assert np.array_equal(plink2_counts(tool, tmp_path, "a"), index.counts)


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted() -> None:
        with PgenWriter(tmp_path / "a.pgen", 9, max_variants=5) as writer:
            writer.append(np.zeros(9, np.int8))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    with pytest.raises(Invalid, match="at least one variant"), PgenWriter(tmp_path / "a.pgen", 9, max_variants=5):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_rename_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a.pgen").mkdir()
    with pytest.raises(IsADirectoryError), PgenWriter(tmp_path / "a.pgen", 9, max_variants=5) as writer:
        writer.append(np.zeros(9, np.int8))
    assert [path.name for path in tmp_path.iterdir()] == ["a.pgen"]


def test_the_file_appears_only_when_complete(tmp_path: Path) -> None:
    (tmp_path / "a.pgen").write_bytes(b"before")
    with PgenWriter(tmp_path / "a.pgen", 9, max_variants=5) as writer:
        writer.append(np.ones(9, np.int8))
        assert (tmp_path / "a.pgen").read_bytes() == b"before"
    assert np.array_equal(read(tmp_path / "a.pgen"), np.ones((1, 9)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.pgen"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda w: w.append(np.full(9, 3, np.int8)), "0, 1, 2 or -1"),
        (lambda w: w.append(np.full(9, -9, np.int8)), "0, 1, 2 or -1"),
        (lambda w: w.append(np.zeros(8, np.int8)), "int8 of 9 people"),
        (lambda w: w.append(np.zeros(9, np.int16)), "int8 of 9 people"),
        (lambda w: w.append_many(np.zeros((3, 9), np.int8)), "opened for 2"),
        (lambda w: w.append_sparse(np.array([4, 4], np.uint32), np.array([1, 1], np.uint8)), "increasing"),
        (lambda w: w.append_sparse(np.array([9], np.uint32), np.array([1], np.uint8)), "increasing"),
        (lambda w: w.append_sparse(np.array([1], np.uint32), np.array([0], np.uint8)), "1, 2 or 3"),
        (lambda w: w.append_sparse(np.array([1], np.uint32), np.array([4], np.uint8)), "1, 2 or 3"),
        (lambda w: w.append_sparse(np.array([1], np.int64), np.array([1], np.uint8)), "uint32"),
        (lambda w: w.append_sparse(np.array([1], np.uint32), np.array([1, 2], np.uint8)), "one length"),
    ],
)
def test_bad_genotypes_are_refused(tmp_path: Path, call: Callable[[PgenWriter], None], words: str) -> None:
    with pytest.raises(Invalid, match=words), PgenWriter(tmp_path / "a.pgen", 9, max_variants=2) as writer:
        call(writer)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("people", "variants"), [(0, 1), (-1, 1), (2**31, 1), (1, 0), (1, 2**32)])
def test_impossible_dimensions_are_refused(tmp_path: Path, people: int, variants: int) -> None:
    with pytest.raises(Invalid):
        PgenWriter(tmp_path / "a.pgen", people, max_variants=variants)


# --- Reading other tools' files ----------------------------------------------------------------------------


@pytest.mark.parametrize("people", [8, 33, 64, 100, 257, 5000])
def test_records_related_to_earlier_ones_are_read(tmp_path: Path, people: int) -> None:
    rows = related(people, 60, seed=people)
    pgenlib_write(tmp_path / "a.pgen", rows)
    with PgenFile.open(tmp_path / "a.pgen") as file:
        if people > 60:
            assert {2, 3} <= set(file.record_types.tolist())
        assert np.array_equal(kernels.decode(file, range(60)), rows)


def test_phase_and_dosage_tracks_are_skipped(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    alleles = rng.integers(0, 2, (20, 2 * 301)).astype(np.int32)
    writer = pgenlib.PgenWriter(
        bytes(tmp_path / "a.pgen"), 301, variant_ct=40, nonref_flags=False, hardcall_phase_present=True,
        dosage_present=True,
    )  # fmt: skip
    for row in alleles:
        writer.append_alleles(row, all_phased=True)
        writer.append_dosages(rng.random(301).astype(np.float32) * 2)
    writer.close()
    expected = pgenlib_read(tmp_path / "a.pgen", 301, 40)
    with PgenFile.open(tmp_path / "a.pgen") as file:
        assert (file.record_types[::2] & 16).all() and (file.record_types[1::2] & 0x60).all()
        assert np.array_equal(kernels.decode(file, range(40)), expected)
        tallies = [[np.sum(row == c) for c in (0, 1, 2, -1)] for row in expected]
        assert np.array_equal(kernels.counts(file, range(40)), tallies)


@pytest.mark.parametrize("flags", [0x00, 0x40, 0x80, 0xC0])
def test_fixed_width_files_are_read(tmp_path: Path, flags: int) -> None:
    rows = simulate(37, 11, seed=4)
    packed = np.zeros((11, 40), np.uint8)
    packed[:, :37] = rows.view(np.uint8) & 3
    body = (packed.reshape(11, 10, 4) << np.array([0, 2, 4, 6], np.uint8)).sum(2).astype(np.uint8).tobytes()
    header = struct.pack("<2sBIIB", b"\x6c\x1b", 2, 11, 37, flags) + (b"\xff\x07" if flags == 0xC0 else b"")
    (tmp_path / "a.pgen").write_bytes(header + body)
    assert np.array_equal(read(tmp_path / "a.pgen"), rows)


@pytest.mark.parametrize("widths", [(1, 0), (2, 1)])
def test_allele_counts_and_flags_in_the_header_are_skipped(tmp_path: Path, widths: tuple[int, int]) -> None:
    """Header parts that our writer never makes: allele counts, provisional-reference bits, 8-bit types."""
    rows = simulate(700, 30, seed=9)
    index = write(tmp_path / "a.pgen", rows)
    records = (tmp_path / "a.pgen").read_bytes()[int(index.record_offsets[0]) :]
    allele_width, wide = widths
    form = 0xC0 | allele_width << 4 | (4 if wide else 0) | 1
    types = index.record_types if wide else index.record_types[::2] | index.record_types[1::2] << 4
    lengths = np.diff(index.record_offsets).astype("<u2")
    body = types.tobytes() + lengths.tobytes() + bytes([2] + [0] * (allele_width - 1)) * 30 + b"\x01\x00\x00\x00"
    start = 12 + 8 + len(body)
    header = struct.pack("<2sBIIBQ", b"\x6c\x1b", 16, 30, 700, form, start)
    (tmp_path / "b.pgen").write_bytes(header + body + records)
    assert np.array_equal(read(tmp_path / "b.pgen"), rows)


@pytest.mark.parametrize("source", ["1000G_hc_GRCh38_3202x1004_phased", "1000G_ph3_chr1_2504x1042"])
def test_real_genomes_converted_by_plink2(
    tmp_path: Path, shared: Path, tool: Callable[[str], str], source: str
) -> None:
    vcf = shared / "data/genotypes" / f"{source}.vcf.gz"
    plink2(tool, tmp_path, "--vcf", str(vcf), "--max-alleles", "2", "--make-pgen", "--out", "a", "--allow-extra-chr")
    check_real(tmp_path, "a", tool)


def test_a_real_file_of_another_project(tmp_path: Path, shared: Path, tool: Callable[[str], str]) -> None:
    for suffix in ("pgen", "pvar", "psam"):
        origin = shared / f"data/genotypes/cineca_synthetic_subset.{suffix}"
        (tmp_path / f"a.{suffix}").write_bytes(origin.read_bytes())
    check_real(tmp_path, "a", tool)


def check_real(folder: Path, name: str, tool: Callable[[str], str]) -> None:
    """Genotypes against pgenlib, counts against plink2, and our own re-encoding against both."""
    with PgenFile.open(folder / f"{name}.pgen") as file:
        rows = kernels.decode(file, range(file.variants))
        counts = kernels.counts(file, range(file.variants))
        people, variants = file.people, file.variants
    assert np.array_equal(rows, pgenlib_read(folder / f"{name}.pgen", people, variants))
    assert np.array_equal(counts, plink2_counts(tool, folder, name))
    index = write(folder / "again.pgen", rows)
    assert np.array_equal(index.counts, counts)
    assert np.array_equal(pgenlib_read(folder / "again.pgen", people, variants), rows)


@pytest.mark.parametrize(("mode", "form"), [(0x01, 0), (0x03, 0), (0x04, 0), (0x11, 0x40), (0x10, 0x48), (2, 0x41)])
def test_other_storage_modes_are_refused_with_the_remedy(tmp_path: Path, mode: int, form: int) -> None:
    (tmp_path / "a.pgen").write_bytes(struct.pack("<2sBIIB", b"\x6c\x1b", mode, 1, 4, form) + bytes(20))
    with pytest.raises(Invalid, match="plink2 --make-pgen") as caught:
        PgenFile.open(tmp_path / "a.pgen")
    assert not isinstance(caught.value, Damaged)


def test_multiallelic_records_are_refused_with_the_remedy(tmp_path: Path) -> None:
    writer = pgenlib.PgenWriter(bytes(tmp_path / "a.pgen"), 20, variant_ct=2, nonref_flags=False, allele_ct_limit=3)
    writer.append_alleles(np.zeros(40, np.int32))
    writer.append_alleles(np.arange(40, dtype=np.int32) % 3, allele_ct=3)
    writer.close()
    with pytest.raises(Invalid, match="record 1 is multiallelic") as caught:
        PgenFile.open(tmp_path / "a.pgen")
    assert "bcftools norm" in caught.value.remedy


# --- Damage ------------------------------------------------------------------------------------------------


def test_a_file_cut_anywhere_is_damaged(tmp_path: Path) -> None:
    write(tmp_path / "a.pgen", simulate(300, 20, seed=1))
    content = (tmp_path / "a.pgen").read_bytes()
    for size in [*range(0, 130), *range(130, len(content), 61), len(content) - 1]:
        (tmp_path / "cut.pgen").write_bytes(content[:size])
        with pytest.raises(Damaged) as caught:
            PgenFile.open(tmp_path / "cut.pgen")
        assert "cut.pgen" in caught.value.where
    (tmp_path / "cut.pgen").write_bytes(content + b"\0")
    with pytest.raises(Damaged, match="size"):
        PgenFile.open(tmp_path / "cut.pgen")


def test_a_missing_file_and_a_wrong_one_are_damaged(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="does not exist"):
        PgenFile.open(tmp_path / "a.pgen")
    (tmp_path / "a.pgen").write_bytes(b"##fileformat=VCFv4.2\n" * 9)
    with pytest.raises(Damaged, match="not a PGEN"):
        PgenFile.open(tmp_path / "a.pgen")


def test_a_header_with_the_wrong_number_of_people_is_damaged(tmp_path: Path) -> None:
    write(tmp_path / "a.pgen", simulate(1000, 20, seed=3))
    content = bytearray((tmp_path / "a.pgen").read_bytes())
    content[7:11] = (5000).to_bytes(4, "little")
    (tmp_path / "a.pgen").write_bytes(content)
    with pytest.raises(Damaged, match="too short for"):
        PgenFile.open(tmp_path / "a.pgen")


def test_a_related_record_without_a_base_is_damaged(tmp_path: Path) -> None:
    pgenlib_write(tmp_path / "a.pgen", related(100, 10, seed=3))
    content = bytearray((tmp_path / "a.pgen").read_bytes())
    content[20] = (content[20] & 0xF0) | 2
    (tmp_path / "a.pgen").write_bytes(content)
    with pytest.raises(Damaged, match="nothing to refer to"):
        PgenFile.open(tmp_path / "a.pgen")


# --- Index and file object ---------------------------------------------------------------------------------


def test_an_index_opens_the_file_with_counts(tmp_path: Path) -> None:
    rows = simulate(130, 50, seed=2)
    index = PgenIndex.from_bytes(write(tmp_path / "a.pgen", rows).to_bytes(), where="a.idx")
    with PgenFile.open(tmp_path / "a.pgen", index) as file:
        assert file.counts is not None
        assert np.array_equal(file.counts, kernels.counts(file, range(50)))
        assert np.array_equal(kernels.decode(file, range(50)), rows)


def test_an_index_of_an_earlier_program_is_read(tmp_path: Path) -> None:
    index = write(tmp_path / "a.pgen", simulate(130, 50, seed=2))
    body = struct.pack("<8sII32s", b"fedpgi1\n", 130, 50, index.header_sha256) + index.record_types.tobytes()
    body += index.record_offsets.astype("<u8").tobytes() + index.counts.astype("<i4").tobytes()
    again = PgenIndex.from_bytes(body + hashlib.sha256(body).digest(), where="a.idx")
    assert again.to_bytes() == index.to_bytes()
    with pytest.raises(Damaged, match="index"):
        PgenIndex.from_bytes(body[:-1] + hashlib.sha256(body[:-1]).digest(), where="a.idx")


def test_an_altered_index_is_damaged(tmp_path: Path) -> None:
    content = write(tmp_path / "a.pgen", simulate(13, 5, seed=2)).to_bytes()
    for altered in (content[:-1], content[:10], b"", content[:60] + bytes([content[60] ^ 1]) + content[61:]):
        with pytest.raises(Damaged, match="index") as caught:
            PgenIndex.from_bytes(altered, where="a.idx")
        assert caught.value.where == "a.idx"


def test_an_index_of_another_file_is_damaged(tmp_path: Path) -> None:
    index = write(tmp_path / "a.pgen", simulate(130, 50, seed=2))
    other = write(tmp_path / "b.pgen", simulate(130, 50, seed=3))
    turned = dataclasses.replace(index, record_offsets=index.record_offsets[::-1].copy())
    for wrong in (other, turned, dataclasses.replace(index, counts=index.counts[:-1])):
        with pytest.raises(Damaged, match="does not belong"):
            PgenFile.open(tmp_path / "a.pgen", wrong)


def test_a_file_pickles_as_its_path_and_closes(tmp_path: Path) -> None:
    rows = simulate(13, 5, seed=2)
    write(tmp_path / "a.pgen", rows)
    file = PgenFile.open(tmp_path / "a.pgen")
    again = pickle.loads(pickle.dumps(file))
    file.close()
    with pytest.raises(ValueError, match="closed"):
        kernels.counts(file, range(5))
    assert np.array_equal(kernels.decode(again, range(5)), rows)


def describe(prefix: Path, rows: Rows) -> None:
    """The .pvar and .psam that plink2 wants beside a PGEN file."""
    variants = "".join(f"1\t{k + 1}\tv{k}\tA\tC\n" for k in range(len(rows)))
    prefix.with_suffix(".pvar").write_text("#CHROM\tPOS\tID\tREF\tALT\n" + variants)
    people = "".join(f"p{k}\t2\n" for k in range(rows.shape[1]))
    prefix.with_suffix(".psam").write_text("#IID\tSEX\n" + people)


def plink2(tool: Callable[[str], str], folder: Path, *arguments: str) -> None:
    command = [tool("plink2"), "--threads", "1", "--memory", "900", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def plink2_counts(tool: Callable[[str], str], folder: Path, name: str) -> NDArray[np.int32]:
    """Hom-ref, het, hom-alt, missing from ``--geno-counts``, hemizygous calls counted as homozygous."""
    columns = "homref,refalt,altxy,hapref,hapalt,missing"
    plink2(tool, folder, "--pfile", name, "--geno-counts", f"cols={columns}", "--out", "counted", "--allow-extra-chr")
    table = np.loadtxt(folder / "counted.gcount", skiprows=1, dtype=str)[:, -6:].astype(np.int32)
    ref, het, alt, hap_ref, hap_alt, missing = table.T
    return np.stack([ref + hap_ref, het, alt + hap_alt, missing], axis=1)
