"""The common index: one order of variants for all nodes, in blocks, whoever brings what and in which order."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model import index
from federome.model.index import BLOCK_ROWS, BlockIndex, merge, named_blocks
from federome.model.table import Table
from federome.model.variant import CHROMOSOMES, Bin, Variant

Bins = list[tuple[int, list[NDArray[np.uint64]]]]
# few different names, so that nodes share some; each node says once how it wrote a variant (the lowest bit)
TOKENS = st.dictionaries(st.integers(0, 9) | st.integers(0, 2**63 - 1), st.booleans(), max_size=6).map(
    lambda told: np.array(sorted(2 * name + flipped for name, flipped in told.items()), np.uint64)
)


@st.composite
def bins(draw: st.DrawFn) -> Bins:
    """Bins in genome order, each with the tokens of three nodes."""
    places = draw(st.sets(st.tuples(st.integers(0, len(CHROMOSOMES) - 1), st.integers(0, 3)), max_size=10))
    return [(Bin(*place).code, [draw(TOKENS) for _ in range(3)]) for place in sorted(places)]


def pairs(blocks: list[BlockIndex]) -> list[tuple[int, int]]:
    return [pair for b in blocks for pair in zip(b.bins.tolist(), b.tokens.tolist(), strict=True)]


@given(bins(), st.integers(0, 12))
def test_blocks_hold_the_union_once_and_in_order(given_bins: Bins, rows: int) -> None:
    blocks = list(merge(given_bins, rows=rows))
    votes = Counter((code, int(t)) for code, parts in given_bins for part in parts for t in part)
    wanted = [
        (code, t)
        for code, t in sorted(votes)
        if votes[code, t] > votes[code, t ^ 1] or (votes[code, t] == votes[code, t ^ 1] and not t & 1)
    ]
    assert pairs(blocks) == wanted
    assert [block.number for block in blocks] == list(range(len(blocks)))
    for block in blocks:
        assert block.rows > 0
        assert {Bin.from_code(code).chromosome_class for code in block.bins.tolist()} == {block.chromosome}


@given(bins(), st.permutations(range(3)))
def test_the_order_of_nodes_is_irrelevant(given_bins: Bins, order: list[int]) -> None:
    shuffled = [(code, [parts[n] for n in order]) for code, parts in given_bins]
    for a, b in zip(merge(given_bins, rows=3), merge(shuffled, rows=3), strict=True):
        assert (a.number, a.chromosome) == (b.number, b.chromosome)
        np.testing.assert_array_equal(a.bins, b.bins)
        np.testing.assert_array_equal(a.tokens, b.tokens)


@given(bins(), st.integers(1, 12))
def test_a_block_survives_the_wire(given_bins: Bins, rows: int) -> None:
    for block in merge(given_bins, rows=rows):
        again = BlockIndex.from_table(block.number, Table.from_bytes(block.to_table().to_bytes()))
        assert (again.number, again.chromosome, again.rows) == (block.number, block.chromosome, block.rows)
        np.testing.assert_array_equal(again.bins, block.bins)
        np.testing.assert_array_equal(again.tokens, block.tokens)


@given(bins(), st.integers(1, 12))
def test_blocks_are_about_as_large_as_asked(given_bins: Bins, rows: int) -> None:
    largest = max((len(np.unique(np.concatenate(parts) >> np.uint64(1))) for _, parts in given_bins), default=0)
    assert all(block.rows <= max(2 * rows, largest) for block in merge(given_bins, rows=rows))


def test_a_crowded_bin_fills_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "BLOCK_ROWS", 4)
    code = Bin(0, 7).code
    blocks = list(merge([(code, [np.arange(0, 22, 2, dtype=np.uint64)])], rows=2))
    assert [block.rows for block in blocks] == [4, 4, 3]
    assert [block.number for block in blocks] == [0, 1, 2]
    assert pairs(blocks) == [(code, n) for n in range(0, 22, 2)]


def test_nothing_makes_no_block() -> None:
    assert list(merge([])) == []
    assert list(merge([(0, []), (1, [np.zeros(0, np.uint64)])])) == []
    assert named_blocks([]) == ()


def wire(bins_: list[int], tokens: list[int]) -> Table:
    return Table({"bin": np.array(bins_, np.int64), "token": np.array(tokens, np.uint64).view(np.int64)})


@pytest.mark.parametrize(
    "table",
    [
        wire([], []),
        wire([5, 4], [1, 2]),
        wire([5, 5], [2, 1]),
        wire([5, 5], [2, 2]),
        wire([5, 5], [2**63, 3]),  # unsigned order counts
        wire([99_999, 100_000], [1, 2]),  # two chromosomes
        wire([-1], [1]),
        wire([len(CHROMOSOMES) * 100_000], [1]),
        wire([1] * (BLOCK_ROWS + 1), list(range(BLOCK_ROWS + 1))),
        Table({"bin": np.array([1])}),
        Table({"bin": np.array([1.0]), "token": np.array([1])}),
    ],
)
def test_blocks_that_are_out_of_order_or_out_of_bounds_are_invalid(table: Table) -> None:
    with pytest.raises(Invalid):
        BlockIndex.from_table(0, table)


@given(
    st.lists(
        st.tuples(st.sampled_from(["1", "2", "X", "Y", "MT"]), st.sampled_from([5, 100_000, 3_000_000])), max_size=12
    )
)
def test_named_blocks_do_not_depend_on_the_order_of_the_question(places: list[tuple[str, int]]) -> None:
    variants = [Variant.of("GRCh38", chromosome, position, "A", "C") for chromosome, position in places]
    blocks = named_blocks(variants)
    named = [variant for block in blocks for variant in block.named]
    assert named == sorted(set(variants), key=lambda v: v.sort_key)
    assert [b.named for b in named_blocks(reversed(variants))] == [b.named for b in blocks]
    assert [b.chromosome for b in blocks] == list(dict.fromkeys(v.chromosome_class for v in named))
    for block in blocks:
        assert block.rows == len(block.named) == len(block.tokens)
        assert block.bins.tolist() == [Bin.of(v).code for v in block.named]


def test_named_blocks_are_cut_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "BLOCK_ROWS", 2)
    blocks = named_blocks(Variant.of("GRCh38", "1", p, "A", "C") for p in range(1, 6))
    assert [(block.number, block.rows) for block in blocks] == [(0, 2), (1, 2), (2, 1)]
