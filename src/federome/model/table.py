"""``Table``: the one typed result that algorithms return, sums add up, the gate inspects and people receive.

Columns share their first axis; a column may have a second axis (strata, matrix cells). A released table also says,
cell by cell, what was withheld: a withheld cell is marked, never zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

import msgspec
import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid

Column = NDArray[np.int64] | NDArray[np.float64] | NDArray[np.bool_] | NDArray[np.str_]
Mask = NDArray[np.bool_]
Cell = int | float | bool | str | None | list["Cell"]

_WIRE = {"int64": "<i8", "float64": "<f8", "bool": "|u1", "str": "utf8", "uint64": "<u8"}
MAX_HEADER = 1 << 20
MAX_CELLS = 1 << 31
MAX_LETTERS = 1 << 28  # of a text column as it lies in memory: cells times its longest text


def _canonical(name: str, values: object) -> Column:
    array = np.asarray(values)
    if array.ndim not in (1, 2):
        raise Invalid(f"column {name!r} has {array.ndim} axes.", remedy="Columns have one or two axes.")
    if array.dtype.kind in "iu":
        if array.dtype == np.uint64 and array.size and array.max() >= 1 << 63:
            raise Invalid(f"column {name!r} holds numbers beyond 64 signed bits.")
        return array.astype(np.int64, copy=False)
    if array.dtype.kind == "f":
        return array.astype(np.float64, copy=False)
    if array.dtype.kind == "b" or array.dtype.kind == "U":
        return array
    if array.dtype.kind == "O" and all(isinstance(v, str) for v in array.ravel()):
        return array.astype(np.str_)
    raise Invalid(f"column {name!r} holds {array.dtype}.", remedy="Columns hold integers, floats, booleans or text.")


@dataclass(frozen=True, eq=False)
class Table:
    """Columns by name, in order. ``withheld[name]`` is true where a cell must not be read (see the gate).

    Raises ``Invalid`` when columns disagree in length, hold other types than int64, float64, bool or text, or when a
    mask does not fit its column.
    """

    columns: Mapping[str, Column]
    withheld: Mapping[str, Mask] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {name: _canonical(name, values) for name, values in self.columns.items()}
        if len({len(values) for values in columns.values()}) > 1:
            raise Invalid("the columns of a table differ in length.")
        for name, mask in self.withheld.items():
            if name not in columns or mask.shape != columns[name].shape or mask.dtype != np.bool_:
                raise Invalid(f"the mask of column {name!r} does not fit it.")
        object.__setattr__(self, "columns", columns)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return next((len(values) for values in self.columns.values()), 0)

    def __getitem__(self, name: str) -> Column:
        try:
            return self.columns[name]
        except KeyError:
            raise Invalid(f"the table has no column {name!r}.") from None

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def ints(self, name: str) -> NDArray[np.int64]:
        """A column of integers; ``Invalid`` if it holds anything else."""
        return self._typed(name, np.int64)

    def floats(self, name: str) -> NDArray[np.float64]:
        """A numeric column as float64."""
        if self[name].dtype.kind == "i":
            return self[name].astype(np.float64)
        return self._typed(name, np.float64)

    def _typed(self, name: str, kind: type) -> NDArray:  # type: ignore[type-arg]
        if self[name].dtype != kind:
            raise Invalid(f"column {name!r} holds {self[name].dtype}, not {kind.__name__}.")
        return self[name]

    def __add__(self, other: Table) -> Table:
        """Cell by cell sum of numeric tables with the same columns and shape: the default ``combine``."""
        if tuple(self.columns) != tuple(other.columns):
            raise Invalid("tables with different columns cannot be added.")
        if self.withheld or other.withheld:
            raise Invalid("tables with withheld cells cannot be added.", remedy="Add first, withhold after.")
        for name, values in self.columns.items():
            if values.dtype.kind not in "if" or values.dtype != other[name].dtype or values.shape != other[name].shape:
                raise Invalid(f"column {name!r} cannot be added: types or shapes differ.")
        return Table({name: values + other[name] for name, values in self.columns.items()})  # type: ignore[operator]

    def with_column(self, name: str, values: Column) -> Table:
        """A copy with one column added or replaced."""
        return Table({**self.columns, name: values}, {k: v for k, v in self.withheld.items() if k != name})

    def take(self, rows: NDArray[np.int64] | Mask) -> Table:
        """The rows named by number or by a boolean mask, masks included."""
        return Table(
            {name: values[rows] for name, values in self.columns.items()},
            {name: mask[rows] for name, mask in self.withheld.items()},
        )

    def only(self, *names: str) -> Table:
        """The named columns, in that order."""
        return Table({n: self[n] for n in names}, {n: self.withheld[n] for n in names if n in self.withheld})

    @classmethod
    def stack(cls, tables: list[Table]) -> Table:
        """Rows of several tables with the same columns, one after another."""
        if not tables:
            return cls({})
        names = tuple(tables[0].columns)
        if any(tuple(t.columns) != names for t in tables):
            raise Invalid("tables with different columns cannot be stacked.")
        masked = {n for t in tables for n in t.withheld}
        return cls(
            {n: np.concatenate([t[n] for t in tables]) for n in names},
            {n: np.concatenate([t.withheld.get(n, np.zeros(t[n].shape, bool)) for t in tables]) for n in masked},
        )

    def to_bytes(self) -> bytes:
        """Wire form: a msgpack header, then raw little-endian column buffers in header order. No pickle anywhere."""
        header: list[tuple[str, str, list[int], int]] = []
        parts: list[bytes] = []
        for name, values in [*self.columns.items(), *((f"\x00{n}", m) for n, m in self.withheld.items())]:
            if values.dtype.kind == "U":
                body = msgspec.msgpack.encode(values.ravel().tolist())
                kind = "str"
            else:
                kind = "bool" if values.dtype.kind == "b" else values.dtype.name
                body = np.ascontiguousarray(values, dtype=_WIRE[kind]).tobytes()
            header.append((name, kind, list(values.shape), len(body)))
            parts.append(body)
        head = msgspec.msgpack.encode(header)
        return b"".join([b"FDT1", len(head).to_bytes(4, "little"), head, *parts])

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> Table:
        """Inverse of :meth:`to_bytes`; every size is checked before memory is taken. Raises ``Invalid``."""
        view = memoryview(data)
        size = int.from_bytes(view[4:8], "little") if len(view) >= 8 else -1
        if bytes(view[:4]) != b"FDT1" or not 0 <= size <= min(MAX_HEADER, len(view) - 8):
            raise Invalid("the payload is not a table.")
        try:
            header = msgspec.msgpack.decode(view[8 : 8 + size], type=list[tuple[str, str, list[int], int]])
            columns: dict[str, Column] = {}
            masks: dict[str, Mask] = {}
            seen: set[str] = set()
            at = 8 + size
            for name, kind, shape, length in header:
                cells = prod(shape)
                if not 1 <= len(shape) <= 2 or min(shape) < 0 or cells > MAX_CELLS:
                    raise Invalid("the payload's header does not fit its body.")
                if not 0 <= length <= len(view) - at or name in seen:
                    raise Invalid("the payload's header does not fit its body.")
                seen.add(name)
                array = _read(kind, view[at : at + length], cells).reshape(shape)
                if name[:1] == "\x00":
                    masks[name[1:]] = array
                else:
                    columns[name] = array
                at += length
        except (
            msgspec.DecodeError,
            msgspec.ValidationError,
            ValueError,
            OverflowError,
            UnicodeDecodeError,
        ) as error:
            raise Invalid("the payload is not a well-formed table.") from error
        if at != len(view):
            raise Invalid("the payload has bytes after its last column.")
        return cls(columns, masks)

    def records(self) -> list[dict[str, Cell]]:
        """Rows as plain values for JSON; a withheld or undefined cell is ``None``."""
        cells = {name: _plain(self[name], self.withheld.get(name)) for name in self.columns}
        return [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]


def _read(kind: str, body: memoryview, cells: int) -> NDArray:  # type: ignore[type-arg]
    if kind == "str":
        texts = msgspec.msgpack.decode(body, type=list[str])
        if len(texts) != cells or cells * max(map(len, texts), default=0) > MAX_LETTERS:
            raise Invalid("a text column does not have the promised length.")
        return np.asarray(texts, dtype=np.str_)
    if kind not in ("int64", "float64", "bool"):
        raise Invalid(f"column type {kind[:20]!r} is not known.")
    values = np.frombuffer(body, dtype=_WIRE[kind])
    if len(values) != cells:
        raise Invalid("a column does not have the promised length.")
    if kind == "bool":
        if values.size and values.max() > 1:
            raise Invalid("a truth value is neither 0 nor 1.")
        return values.astype(np.bool_)
    return values.astype(kind)


def _plain(values: Column, mask: Mask | None) -> list[Cell]:
    def one(value: Cell, hidden: bool) -> Cell:
        return None if hidden or (isinstance(value, float) and not np.isfinite(value)) else value

    hidden = np.zeros(values.shape, bool) if mask is None else mask
    if values.ndim == 1:
        return [one(v, h) for v, h in zip(values.tolist(), hidden.tolist(), strict=True)]
    return [
        [one(v, h) for v, h in zip(row, flags, strict=True)]
        for row, flags in zip(values.tolist(), hidden.tolist(), strict=True)
    ]
