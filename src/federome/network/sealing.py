"""From tables to masked vectors and back: how one round's part is laid out, sealed at a node and opened in the sum.

The layout follows the round's declaration column by column, so that all nodes, the coordinator and the releaser agree
without a word on the wire but the widths of two-axis columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil, log2, prod

import numpy as np

from federome.errors import Invalid
from federome.model.release import Count, Number, Rows
from federome.model.table import Table
from federome.network import sums
from federome.network.protocol import Body
from federome.trust.canonical import Json

Shapes = Mapping[str, tuple[int, ...]]


def mask_part(number: int) -> int:
    """The mask's part number for a block; the table over people (−1) comes first."""
    return number + 1


def encoding(rows: Rows, name: str, *, parties: int) -> sums.Encoding:
    """How a declared column enters the ring; ``Invalid`` for columns that cannot be summed.

    Numbers keep 52 fraction bits, fewer where the declared bound is so large that the sum would not fit.
    """
    match rows.columns[name]:
        case Count():
            return sums.Encoding.integer(bound=2**53 // parties)
        case Number(bound=bound):
            return sums.Encoding.wide(bound=bound, fraction_bits=min(52, 93 - ceil(log2(parties * bound))))
    raise Invalid(f"column {name!r} cannot be summed.", remedy="Totals are counts and numbers.")


def to_vector(table: Table, rows: Rows, *, parties: int, room: int = 0) -> sums.Ring:
    """All declared columns of a node's part as one vector of ring elements, with so much ``room`` behind them.

    Raises ``Invalid`` for undeclared or missing columns, NaN, infinities and values beyond a column's bound.
    """
    if tuple(table.columns) != tuple(rows.columns):
        raise Invalid("the part does not have the columns that its round declares.")
    hows = {name: encoding(rows, name, parties=parties) for name in rows.columns}
    sizes = {name: table[name].size * how.limbs for name, how in hows.items()}
    vector, at = np.zeros(sum(sizes.values()) + room, np.uint64), 0
    for name, how in hows.items():
        values = table.ints(name) if isinstance(rows.columns[name], Count) else table.floats(name)
        vector[at : at + sizes[name]] = sums.encode(values, how, parties=parties).ravel()
        at += sizes[name]
    return vector


def from_vector(vector: sums.Ring, rows: Rows, shapes: Shapes, *, parties: int) -> Table:
    """The total that an opened vector stands for. Raises ``Damaged`` or ``Invalid`` when it cannot be one."""
    if tuple(shapes) != tuple(rows.columns):
        raise Invalid("the part does not have the columns that its round declares.")
    columns, at = {}, 0
    for name, shape in shapes.items():
        how = encoding(rows, name, parties=parties)
        size = prod(shape) * how.limbs
        piece = vector[at : at + size]
        if len(piece) != size:
            raise Invalid("an opened total is shorter than its columns.")
        limbs = (2, *shape) if how.limbs == 2 else shape
        columns[name] = sums.decode(np.ascontiguousarray(piece).reshape(limbs), how, parties=parties)
        at += size
    if at != len(vector):
        raise Invalid("an opened total is longer than its columns.")
    return Table(columns)


def shapes_of(table: Table) -> dict[str, Json]:
    """Column shapes for the wire."""
    return {name: list(values.shape) for name, values in table.columns.items()}


def read_shapes(body: Body, rows: Rows) -> Shapes:
    """Column shapes from the wire, in declared order."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name in rows.columns:
        shape = body.get(name)
        if not isinstance(shape, list) or not 1 <= len(shape) <= 2:
            raise Invalid("a part's shape is missing.", where=name)
        sizes = [n for n in shape if isinstance(n, int) and 0 <= n < 1 << 31]
        if len(sizes) != len(shape):
            raise Invalid("a part's shape is out of range.", where=name)
        shapes[name] = tuple(sizes)
    if len({shape[0] for shape in shapes.values()}) > 1:
        raise Invalid("a part's columns differ in length.")
    return shapes


def from_wire(pieces: Iterable[bytes]) -> sums.Ring:
    """A vector as it was sent, in memory of its own."""
    joined = bytearray()
    for piece in pieces:
        joined += piece
    if len(joined) % 8:
        raise Invalid("a masked part is not a whole number of ring elements.")
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64, copy=False)


def to_wire(vector: sums.Ring) -> memoryview:
    """A vector to be sent: its own memory where that has the order of the wire, which it has on nearly all machines."""
    return np.ascontiguousarray(vector, dtype="<u8").view(np.uint8).data
