"""The keyed check of sums: its arithmetic against Python's own integers, and what it lets through."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.unit.network.test_sums import NODES, a_roster, start

from federome.errors import Refused
from federome.network.sums import CHUNK, Ring, add_part
from federome.network.tags import KEY_BYTES, LIMBS, holds, put, tag_of, turn_key, unwrap, wrap

KEY = bytes(range(16))
EXTREMES = [0, 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 2**31, 2**64 - 1]
RINGS = arrays(np.uint64, st.integers(0, 9), elements=st.sampled_from(EXTREMES) | st.integers(0, 2**64 - 1))


def slow_tag(values: Ring, key: bytes, part: int) -> int:
    """The definition, number by number."""
    stream = Cipher(AES(key), CTR(part.to_bytes(8, "big") + bytes(8))).encryptor().update(bytes(8 * len(values)))
    weights = [int.from_bytes(stream[8 * at : 8 * at + 8], "little") for at in range(len(values))]
    signed = [value - (value >> 63 << 64) for value in values.tolist()]
    return sum(r * x for r, x in zip(weights, signed, strict=True)) % 2**128


@given(values=RINGS, part=st.integers(0, 2**40))
def test_tags_are_the_inner_product(values: Ring, part: int) -> None:
    assert tag_of(values, KEY, part=part) == slow_tag(values, KEY, part)


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, 2 * CHUNK + 3])
def test_long_parts_have_one_tag(size: int) -> None:
    values = np.random.default_rng(size).choice(np.array(EXTREMES, np.uint64), size)
    assert tag_of(values, KEY, part=7) == slow_tag(values, KEY, 7)


def part_of(values: list[int], part: int = 0) -> Ring:
    vector = np.array([*values, *[0] * LIMBS], np.int64).view(np.uint64)
    put(vector, KEY, part=part)
    return vector


def shift(total: Ring, place: int, by: int) -> None:
    """What a coordinator does that adds a number of its own."""
    total[place] = (int(total[place]) + by) % 2**64


def total_of(parts: list[Ring]) -> Ring:
    total = parts[0].copy()
    for part in parts[1:]:
        add_part(total, part)
    return total


SMALL = st.integers(-(2**63) // 40, (2**63 - 1) // 40)
ROWS = st.integers(0, 5).flatmap(lambda n: st.lists(st.lists(SMALL, min_size=n, max_size=n), min_size=1, max_size=9))


@given(rows=ROWS)
def test_the_sum_of_tags_is_the_tag_of_the_sum(rows: list[list[int]]) -> None:
    total = total_of([part_of(row) for row in rows])
    assert holds(total, KEY, part=0, parties=len(rows))
    assert holds(total, KEY, part=0, parties=40)  # some of 40 may have been lost


def test_forty_parties_with_the_largest_tags_do_not_wrap() -> None:
    limbs = np.full(LIMBS, 2**32 - 1, np.uint64)
    assert all(limb < 40 << 32 for limb in (limbs * np.uint64(40)).tolist())


@cache
def honest() -> list[Ring]:
    return [part_of([5, -7, 2**40]), part_of([0, 3, -1]), part_of([9, 9, 9])]


VALUES = [(place, by) for place in range(3) for by in (1, 2**32, 2**61 - 1, 2**61, 2**63, 2**64 - 1)]
TAGS = [(3 + limb, by) for limb in range(LIMBS) for by in (1, 2**31, 2**61 - 1, 2**63, 2**64 - 1)]


@pytest.mark.parametrize(("place", "by"), VALUES + TAGS)
def test_nothing_can_be_added_unnoticed(place: int, by: int) -> None:
    total = total_of(honest())
    assert holds(total, KEY, part=0, parties=3)
    shift(total, place, by)
    assert not holds(total, KEY, part=0, parties=3)


def test_another_part_key_or_order_is_noticed() -> None:
    total = total_of(honest())
    assert not holds(total, KEY, part=1, parties=3)
    assert not holds(total, KEY[::-1], part=0, parties=3)
    assert not holds(total[[1, 0, 2, *range(3, 3 + LIMBS)]], KEY, part=0, parties=3)
    assert not holds(total[:-1], KEY, part=0, parties=3)
    assert not holds(total[:2], KEY, part=0, parties=3)
    assert not holds(total[:0], KEY, part=0, parties=3)


def test_a_limb_that_stands_for_two_numbers_is_noticed() -> None:
    total = total_of(honest())
    shift(total, -LIMBS, 2**32)
    shift(total, -LIMBS + 1, -1)  # the same number, written otherwise: no harm, and nothing is changed by it
    assert holds(total, KEY, part=0, parties=3)
    shift(total, -LIMBS, 2**63)
    shift(total, -LIMBS + 1, -(2**31))  # as much again, but now a limb could wrap
    assert not holds(total, KEY, part=0, parties=3)


def test_the_key_reaches_each_node_and_nobody_else() -> None:
    own, keys = start(a_roster())
    check = bytes(range(KEY_BYTES))
    told = {name: wrap(check, own["releaser"], keys, name) for name in NODES}
    assert len(set(told.values())) == len(NODES)
    for name in NODES:
        assert unwrap(told[name], own[name], keys) == check
        assert all(unwrap(told[name], own[other], keys) != check for other in NODES if other != name)
    for nonsense in ("", "AAAA", "%%%", told[NODES[0]][:-4]):
        with pytest.raises(Refused, match="cannot be read"):
            unwrap(nonsense, own[NODES[0]], keys)


def test_every_turn_and_run_has_weights_of_its_own() -> None:
    keys = {turn_key(bytes(KEY_BYTES), roster, turn) for roster in ("a", "b") for turn in (1, 2, 3)}
    assert len(keys) == 6
