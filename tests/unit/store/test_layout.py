"""Where files lie, how they become durable, and that other programs read them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pgenlib
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.store.small_stores import draw_batch, in_order, put

from federome.errors import Damaged
from federome.store.catalogue import Store
from federome.store.layout import Layout, digest_of, file_digest, stem, with_part, write_durably
from federome.store.sites import Sites

SITES = st.lists(
    st.tuples(
        st.integers(1, 2**31 - 2),
        st.text("ACGTN", min_size=1, max_size=40),
        st.text("ACGTN", min_size=1, max_size=40),
        st.booleans(),
        st.lists(st.tuples(st.text(max_size=8), st.text(max_size=20)), max_size=3).map(tuple),
    ),
    max_size=20,
)


@settings(max_examples=50, deadline=None)
@given(SITES, st.booleans())
def test_sites_come_back_as_they_were(
    rows: list[tuple[int, str, str, bool, tuple[tuple[str, str], ...]]], men: bool
) -> None:
    effects = tuple(dict.fromkeys(row[4] for row in rows))
    sites = Sites(
        np.array([row[0] for row in rows], np.int64),
        [row[1] for row in rows],
        [row[2] for row in rows],
        np.array([row[3] for row in rows], np.bool_),
        effects,
        np.array([effects.index(row[4]) for row in rows], np.int64),
        np.arange(4 * len(rows), dtype=np.int32).reshape(-1, 4) if men else None,
    )
    again = Sites.from_bytes(sites.to_bytes(), where="x")
    assert again.positions.tolist() == sites.positions.tolist()
    assert (list(again.refs), list(again.alts)) == (sites.refs, sites.alts)
    assert again.not_left_aligned.tolist() == sites.not_left_aligned.tolist()
    assert [again.effects[i] for i in again.effect] == [row[4] for row in rows]
    assert (again.male_counts is None) is not men
    if men:
        np.testing.assert_array_equal(again.male_counts, sites.male_counts)


def test_sites_of_earlier_programs_are_read() -> None:
    """As they were written: not compressed, positions and ends of alleles in four bytes each."""
    men = np.arange(8, dtype="<i4")
    row = ["federome-sites/1", np.array([5, 9], "<i4").tobytes(), np.array([1, 2, 4, 5], "<u4").tobytes(), "AGCTC"]
    row += [bytes([0b01000000]), [[], [["G", "stop_gained"]]], np.array([1, 0], "<i4").tobytes(), men.tobytes()]
    found = Sites.from_bytes(msgspec.msgpack.encode(row), where="x")
    assert (found.positions.tolist(), list(found.refs), list(found.alts)) == ([5, 9], ["A", "CT"], ["G", "C"])
    assert found.effects[found.effect[0]] == (("G", "stop_gained"),) and found.not_left_aligned.tolist() == [
        False,
        True,
    ]
    np.testing.assert_array_equal(found.male_counts, men.reshape(2, 4))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_sites_never_crash(data: st.DataObject) -> None:
    sites = Sites(np.array([5, 9]), ["A", "CT"], ["G", "C"], np.array([False, True]), ((),), np.array([0, 0]))
    content = bytearray(sites.to_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.integers(0, len(content)))
    for bad in (bytes(content[:cut]), bytes(content)):
        with suppress(Damaged):
            Sites.from_bytes(bad, where="the file")


def test_names_never_collide() -> None:
    layout = Layout(Path("/s"))
    base = layout.block("GRCh38", "X", 5, stem("a.b", "1"))
    assert with_part(base, ".pgen") == Path("/s/store/GRCh38/X/000000005/a.b~1.pgen")
    assert stem("a", "b") != stem("a-b", "") and digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})


def test_a_durable_write_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "x.sites"
    write_durably(path, b"one")
    write_durably(path, b"two")
    assert path.read_bytes() == b"two" and [p.name for p in tmp_path.iterdir()] == ["x.sites"]


def test_a_missing_file_is_named() -> None:
    with pytest.raises(Damaged, match="not there") as caught:
        file_digest(Path("/nowhere/at.all"))
    assert caught.value.where == "/nowhere/at.all" and "federome store verify" in caught.value.remedy


def test_other_programs_read_every_file(tmp_path: Path, tool: Callable[[str], str]) -> None:
    plink2 = tool("plink2")
    store = Store.open(tmp_path / "store")
    batch = draw_batch(np.random.default_rng(4), "b", 33)
    release = put(store, batch)
    psam = store.layout.batch("fi~b") / "people.psam"
    seen = 0
    for chromosome in sorted({site[0] for site in batch.genotypes}):
        sites = in_order([site for site in batch.genotypes if site[0] == chromosome])
        for file in store.files(release.batches[0], release, chromosome):
            here, sites = sites[: file.variants], sites[file.variants :]
            expected = np.array([batch.genotypes[site] for site in here])
            got = np.empty(len(batch.people), np.int8)
            with pgenlib.PgenReader(bytes(file.part(".pgen"))) as reader:
                assert (reader.get_raw_sample_ct(), reader.get_variant_ct()) == (len(batch.people), len(here))
                for row in range(len(here)):
                    reader.read(row, got)
                    np.testing.assert_array_equal(np.where(got == -9, -1, got), expected[row])
            table = zstandard.decompress(file.part(".pvar.zst").read_bytes()).decode().splitlines()
            assert [tuple(line.split("\t")) for line in table[2:]] == [(c, str(p), ".", r, a) for c, p, r, a in here]
            out = tmp_path / f"{chromosome}-{file.first}"
            command = [plink2, "--pgen", file.part(".pgen"), "--pvar", file.part(".pvar.zst"), "--psam", psam]
            subprocess.run([*command, "--validate", "--out", out], check=True, capture_output=True)
            subprocess.run([*command, "--geno-counts", "--out", out], check=True, capture_output=True)
            lines = [line.split("\t") for line in out.with_suffix(".gcount").read_text().splitlines()[1:]]
            assert [line[2:4] for line in lines] == [[r, a] for _, _, r, a in here]
            if chromosome in ("1", "2"):
                counted = np.stack([(expected == code).sum(axis=1) for code in (0, 1, 2, -1)], axis=1)
                assert [[int(line[i]) for i in (4, 5, 6, 9)] for line in lines] == counted.tolist()
            seen += len(here)
    assert seen == len(batch.genotypes)
