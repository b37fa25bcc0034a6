"""The Merkle tree against the definitions of RFC 9162, written out as slowly as they read, and known vectors."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federome.errors import Damaged, Invalid
from federome.trust.log import MemoryStore, append
from federome.trust.merkle import (
    Frontier,
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_at,
    tile,
    tile_path,
)

# The eight entries, and the roots after each, that Certificate Transparency implementations share.
ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


# RFC 9162 §2.1.1, §2.1.3.1 and §2.1.4.1, word for word.


def mth(entries: list[bytes]) -> bytes:
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = largest_power(len(entries))
    return hashlib.sha256(b"\x01" + mth(entries[:k]) + mth(entries[k:])).digest()


def path(m: int, entries: list[bytes]) -> list[bytes]:
    if len(entries) == 1:
        return []
    k = largest_power(len(entries))
    if m < k:
        return [*path(m, entries[:k]), mth(entries[k:])]
    return [*path(m - k, entries[k:]), mth(entries[:k])]


def proof(m: int, entries: list[bytes]) -> list[bytes]:
    return subproof(m, entries, True)


def subproof(m: int, entries: list[bytes], complete: bool) -> list[bytes]:
    if m == len(entries):
        return [] if complete else [mth(entries)]
    k = largest_power(len(entries))
    if m <= k:
        return [*subproof(m, entries[:k], complete), mth(entries[k:])]
    return [*subproof(m - k, entries[k:], False), mth(entries[:k])]


def largest_power(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def log_of(entries: list[bytes]) -> MemoryStore:
    store = MemoryStore()
    append(store, entries)
    return store


NUMBERED = [str(i).encode() for i in range(70)]


def test_known_roots() -> None:
    for size, expected in enumerate(ROOTS, start=1):
        assert root_at(log_of(ENTRIES).nodes, size).hex() == expected
        assert log_of(ENTRIES[:size]).frontier().root().hex() == expected
    assert Frontier().root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_known_inclusion_proof() -> None:
    # RFC 9162 §2.1.5: the proof for the fourth of seven entries is [c, g, l].
    seven = log_of(ENTRIES[:7])
    c, g = leaf_hash(ENTRIES[2]), mth(ENTRIES[:2])
    assert inclusion_proof(seven.nodes, 3, 7) == (c, g, mth(ENTRIES[4:7]))
    # and the consistency proof from three to seven is [c, d, g, l].
    d = leaf_hash(ENTRIES[3])
    assert consistency_proof(seven.nodes, 3, 7) == (c, d, g, mth(ENTRIES[4:7]))


def test_every_proof_of_small_logs_is_the_rfcs() -> None:
    store = log_of(NUMBERED)
    for size in range(1, 34):
        entries = NUMBERED[:size]
        assert root_at(store.nodes, size) == mth(entries)
        for index in range(size):
            assert list(inclusion_proof(store.nodes, index, size)) == path(index, entries)
        for old in range(1, size + 1):
            assert list(consistency_proof(store.nodes, old, size)) == proof(old, entries)


@given(st.data(), st.integers(1, 70))
def test_proofs_hold_and_nothing_else_does(data: st.DataObject, size: int) -> None:
    store = log_of(NUMBERED)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    root, old_root = mth(NUMBERED[:size]), mth(NUMBERED[:old])
    inclusion = inclusion_proof(store.nodes, index, size)
    consistency = consistency_proof(store.nodes, old, size)
    check_inclusion(leaf_hash(NUMBERED[index]), index, size, proof=inclusion, root=root)
    check_consistency(old, size, old_root=old_root, new_root=root, proof=consistency)

    other = data.draw(st.integers(0, 69).filter(lambda i: i != index))
    with pytest.raises(Damaged):
        check_inclusion(leaf_hash(NUMBERED[other]), index, size, proof=inclusion, root=root)
    with pytest.raises(Damaged):
        check_inclusion(leaf_hash(NUMBERED[index]), other, size, proof=inclusion, root=root)
    for broken in mutations(data, inclusion):
        with pytest.raises(Damaged):
            check_inclusion(leaf_hash(NUMBERED[index]), index, size, proof=broken, root=root)
    for broken in mutations(data, consistency):
        with pytest.raises(Damaged):
            check_consistency(old, size, old_root=old_root, new_root=root, proof=broken)
    with pytest.raises(Damaged):
        check_consistency(old, size, old_root=bytes(32), new_root=root, proof=consistency)
    if old != size:
        with pytest.raises(Damaged):
            check_consistency(old, size, old_root=old_root, new_root=bytes(32), proof=consistency)


def mutations(data: st.DataObject, proof: tuple[bytes, ...]) -> list[tuple[bytes, ...]]:
    changed = [(*proof, bytes(32)), (bytes(32), *proof)]
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        changed += [proof[:-1], proof[1:], (*proof[:at], bytes(32), *proof[at + 1 :])]
    return changed


@given(st.lists(st.lists(st.binary(max_size=3), max_size=9), max_size=6))
def test_batches_make_no_difference(batches: list[list[bytes]]) -> None:
    store = MemoryStore()
    for batch in batches:
        append(store, batch)
    entries = [entry for batch in batches for entry in batch]
    assert store.frontier() == log_of(entries).frontier()
    assert store.frontier().root() == mth(entries)


def test_a_proof_of_growth_is_never_empty() -> None:
    with pytest.raises(Damaged, match="too short"):
        check_consistency(3, 7, old_root=bytes(32), new_root=bytes(32), proof=())


def test_rewritten_and_shortened_logs_are_noticed() -> None:
    forked = [*NUMBERED[:10], b"other", *NUMBERED[11:20]]
    with pytest.raises(Damaged, match="rewritten"):
        check_consistency(
            15,
            20,
            old_root=mth(NUMBERED[:15]),
            new_root=mth(forked),
            proof=consistency_proof(log_of(forked).nodes, 15, 20),
        )
    with pytest.raises(Damaged, match="two roots"):
        check_consistency(20, 20, old_root=mth(NUMBERED[:20]), new_root=mth(forked), proof=())
    with pytest.raises(Damaged, match="shorter"):
        check_consistency(20, 15, old_root=mth(NUMBERED[:20]), new_root=mth(NUMBERED[:15]), proof=())
    check_consistency(0, 20, old_root=mth([]), new_root=mth(forked), proof=())
    with pytest.raises(Damaged):
        check_consistency(0, 20, old_root=bytes(32), new_root=mth(forked), proof=())


@pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0), (2**70, 5)])
def test_places_outside_the_log(index: int, size: int) -> None:
    with pytest.raises(Invalid):
        inclusion_proof(log_of(NUMBERED).nodes, index, size)
    with pytest.raises(Damaged):
        check_inclusion(bytes(32), index, size, proof=(), root=bytes(32))
    with pytest.raises(Invalid):
        consistency_proof(log_of(NUMBERED).nodes, 6, 5)


def test_tiles() -> None:
    entries = [str(i).encode() for i in range(70_000)]
    store = log_of(entries)
    assert tile(store.nodes, 0, 1, size=70_000) == b"".join(leaf_hash(entry) for entry in entries[256:512])
    assert tile(store.nodes, 1, 1, size=70_000) == b"".join(
        mth(entries[i * 256 : i * 256 + 256]) for i in range(256, 70_000 // 256)
    )
    assert tile(store.nodes, 2, 0, size=70_000) == mth(entries[:65_536])
    assert len(tile(store.nodes, 0, 273, size=70_000)) == (70_000 - 273 * 256) * 32
    for level, index in ((0, 274), (2, 1), (3, 0), (-1, 0), (0, -1)):
        with pytest.raises(Invalid):
            tile(store.nodes, level, index, size=70_000)


def test_tile_paths_of_the_specification() -> None:
    # C2SP tlog-tiles: index 1234067 is x001/x234/067.
    assert tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tile_path(1, 5, width=17) == "tile/1/005.p/17"
    assert tile_path(0, 0) == "tile/0/000"
    assert tile_path(0, 1000) == "tile/0/x001/000"
