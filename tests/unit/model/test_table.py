"""The typed result: bytes and back, damaged payloads, sums, and marks that are never lost."""

from __future__ import annotations

import contextlib
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model.table import Column, Table

NAMES = st.text("abcdefgh_é", min_size=1, max_size=5)
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=6)


@st.composite
def columns(draw: st.DrawFn, rows: int) -> Column:
    shape = (rows,) if draw(st.booleans()) else (rows, draw(st.integers(0, 3)))
    kind = draw(st.sampled_from(["i", "f", "b", "U"]))
    if kind == "U":
        texts = draw(st.lists(TEXT, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        return np.array(texts, dtype=np.str_).reshape(shape)
    return draw(arrays({"i": np.int64, "f": np.float64, "b": np.bool_}[kind], shape))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    rows = draw(st.integers(0, 4))
    held = {name: draw(columns(rows)) for name in draw(st.lists(NAMES, unique=True, max_size=4))}
    marked = [name for name in held if draw(st.booleans())]
    return Table(held, {name: draw(arrays(np.bool_, held[name].shape)) for name in marked})


def same(a: Table, b: Table) -> bool:
    return (
        list(a.columns) == list(b.columns)
        and all(a[n].dtype.kind == b[n].dtype.kind and a[n].shape == b[n].shape for n in a)
        and all(np.array_equal(a[n], b[n], equal_nan=a[n].dtype.kind == "f") for n in a)
        and set(a.withheld) == set(b.withheld)
        and all(np.array_equal(a.withheld[n], b.withheld[n]) for n in a.withheld)
    )


@given(tables())
def test_bytes_and_back(table: Table) -> None:
    data = table.to_bytes()
    again = Table.from_bytes(data)
    assert same(table, again)
    assert again.to_bytes() == data
    assert same(Table.from_bytes(memoryview(data)), table)


@given(tables(), st.data())
def test_truncated_payloads_are_invalid(table: Table, data: st.DataObject) -> None:
    payload = table.to_bytes()
    with pytest.raises(Invalid):
        Table.from_bytes(payload[: data.draw(st.integers(0, len(payload) - 1))])
    with pytest.raises(Invalid, match=r"not a table|after its last|fit"):
        Table.from_bytes(payload + b"\x00")


@given(tables(), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_payloads_are_a_table_or_invalid_and_nothing_else(table: Table, damage: list[tuple[int, int]]) -> None:
    payload = bytearray(table.to_bytes())
    for place, value in damage:
        payload[place % len(payload)] = value
    with contextlib.suppress(Invalid):
        Table.from_bytes(bytes(payload))


@given(st.binary(max_size=200))
@example(b"FDT1" + (2**32 - 1).to_bytes(4, "little"))
def test_noise_is_invalid(noise: bytes) -> None:
    if Table({}).to_bytes() != noise:
        with pytest.raises(Invalid):
            Table.from_bytes(noise)
        with pytest.raises(Invalid):
            Table.from_bytes(b"FDT1" + struct.pack("<I", len(noise)) + noise + b"\x00")


def payload(header: object, body: bytes) -> bytes:
    head = msgspec.msgpack.encode(header)
    return b"FDT1" + struct.pack("<I", len(head)) + head + body


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ([("a", "int64", [2**31 + 1], 8)], b"\x00" * 8),  # more cells than any table has
        ([("a", "int64", [2**40, 2**40], 8)], b"\x00" * 8),
        ([("a", "int64", [1], 16)], b"\x00" * 8),  # longer than the payload
        ([("a", "int64", [1], -8), ("b", "int64", [2], 16)], b"\x00" * 8),  # a column that reads backwards
        ([("a", "int64", [0], -8), ("b", "int64", [2], 16)], b"\x00" * 16),
        ([("a", "int64", [-1], 8)], b"\x00" * 8),
        ([("a", "int64", [], 8)], b"\x00" * 8),
        ([("a", "int64", [1, 1, 1], 8)], b"\x00" * 8),
        ([("a", "int64", [2], 8)], b"\x00" * 8),
        ([("a", "int64", [1], 7)], b"\x00" * 7),
        ([("a", "object", [1], 8)], b"\x00" * 8),
        ([("a", "uint64", [1], 8)], b"\xff" * 8),
        ([("a", "bool", [1], 1)], b"\x02"),
        ([("a", "int64", [1], 8), ("a", "int64", [1], 8)], b"\x00" * 16),  # one name twice
        ([("a", "int64", [1], 8), ("b", "int64", [2], 16)], b"\x00" * 24),  # different lengths
        ([("\x00a", "bool", [1], 1)], b"\x01"),  # a mask of nothing
        ([("a", "int64", [1], 8), ("\x00a", "int64", [1], 8)], b"\x00" * 16),  # a mask of numbers
        ([("a", "str", [2], 2)], msgspec.msgpack.encode(["x"])),
        ([("a", "str", [1], 2)], msgspec.msgpack.encode([1])),
        ([("a", "str", [1], 3)], b"\x91\xa1\xff"),  # no UTF-8
        ({"a": 1}, b""),
    ],
)
def test_headers_that_lie_are_invalid(header: object, body: bytes) -> None:
    with pytest.raises(Invalid):
        Table.from_bytes(payload(header, body))


def test_one_long_text_among_many_takes_no_memory() -> None:
    """A text column is as wide as its longest cell: a kilobyte a row must not become terabytes."""
    body = msgspec.msgpack.encode(["x" * 100_000] + [""] * 100_000)
    with pytest.raises(Invalid, match="text column"):
        Table.from_bytes(payload([("a", "str", [100_001], len(body))], body))


INTS = arrays(
    np.int64,
    st.shared(st.tuples(st.integers(0, 4), st.integers(0, 3)), key="shape"),
    elements=st.integers(-(2**40), 2**40),
)


@given(INTS, INTS, INTS)
def test_addition_is_commutative_and_associative(
    a: NDArray[np.int64], b: NDArray[np.int64], c: NDArray[np.int64]
) -> None:
    x, y, z = (Table({"n": part, "m": part[:, :1].sum(axis=1)}) for part in (a, b, c))
    assert same(x + y, y + x)
    assert same((x + y) + z, x + (y + z))
    nothing = Table({"n": np.zeros_like(a), "m": np.zeros(len(a), np.int64)})
    assert same(x + nothing, x)
    assert (x + y).ints("n").tolist() == (a + b).tolist()


@pytest.mark.parametrize(
    "other",
    [
        Table({"b": np.zeros(2, np.int64)}),
        Table({"a": np.zeros(2)}),
        Table({"a": np.zeros(3, np.int64)}),
        Table({"a": np.zeros((2, 1), np.int64)}),
        Table({"a": np.zeros(2, np.int64), "b": np.zeros(2, np.int64)}),
        Table({"a": np.zeros(2, np.int64)}, {"a": np.array([True, False])}),  # a mark would be lost
    ],
)
def test_tables_that_do_not_match_cannot_be_added(other: Table) -> None:
    table = Table({"a": np.zeros(2, np.int64)})
    for left, right in ((table, other), (other, table)):
        with pytest.raises(Invalid, match="cannot be added"):
            _ = left + right


@pytest.mark.parametrize("column", [np.array(["a"]), np.array([True])])
def test_texts_and_truths_cannot_be_added(column: Column) -> None:
    with pytest.raises(Invalid, match="cannot be added"):
        _ = Table({"a": column}) + Table({"a": column})


def test_marks_travel_with_their_cells() -> None:
    table = Table({"a": np.array([5, 0, 7]), "b": np.array(["x", "y", "z"])}, {"a": np.array([False, True, False])})
    assert table.records() == [{"a": 5, "b": "x"}, {"a": None, "b": "y"}, {"a": 7, "b": "z"}]
    assert table.take(np.array([1])).records() == [{"a": None, "b": "y"}]
    assert table.only("b").withheld == {}
    assert table.with_column("b", np.array([1, 2, 3])).withheld["a"].tolist() == [False, True, False]
    assert table.with_column("a", np.array([1, 2, 3])).withheld == {}
    stacked = Table.stack([table, Table({"a": np.array([1]), "b": np.array(["w"])})])
    assert stacked.withheld["a"].tolist() == [False, True, False, False]
    assert Table.stack([]).rows == 0
    with pytest.raises(Invalid, match="cannot be stacked"):
        Table.stack([table, table.only("a")])


def test_records_hold_no_numbers_that_json_lacks() -> None:
    table = Table({"x": np.array([1.5, np.nan, np.inf]), "y": np.array([[1, 2], [3, 4], [5, 6]])})
    assert table.records() == [{"x": 1.5, "y": [1, 2]}, {"x": None, "y": [3, 4]}, {"x": None, "y": [5, 6]}]


def test_columns_hold_four_kinds_of_values_in_one_or_two_axes() -> None:
    assert Table({"a": np.zeros(2, np.int8)})["a"].dtype == np.int64
    assert Table({"a": np.zeros(2, np.float32)})["a"].dtype == np.float64
    assert Table({"a": np.array(["x", "yy"], dtype=object)})["a"].dtype.kind == "U"
    for wrong in (np.zeros((1, 1, 1)), np.array(1), np.array([1j]), np.array([None]), np.array([2**63], np.uint64)):
        with pytest.raises(Invalid):
            Table({"a": wrong})
    with pytest.raises(Invalid, match="differ in length"):
        Table({"a": np.zeros(1), "b": np.zeros(2)})
    for name, mask in (("b", np.zeros(1, bool)), ("a", np.zeros(2, bool)), ("a", np.zeros(1, np.int64))):
        with pytest.raises(Invalid, match="does not fit"):
            Table({"a": np.zeros(1)}, {name: mask})


def test_columns_are_read_as_what_they_are() -> None:
    table = Table({"n": np.array([1, 2]), "x": np.array([0.5, 1]), "t": np.array(["a", "b"])})
    assert table.floats("n").dtype == np.float64
    assert list(table) == ["n", "x", "t"]
    assert "n" in table
    assert "q" not in table
    for read, name in ((table.ints, "x"), (table.ints, "t"), (table.floats, "t")):
        with pytest.raises(Invalid, match=f"'{name}' holds"):
            read(name)
    with pytest.raises(Invalid, match="no column 'q'"):
        _ = table["q"]
