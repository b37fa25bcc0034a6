"""Machine instructions that the genotype kernels need and numba does not offer by name.

Bit counts, reading eight bytes at any address, and adding whole rows of float64 columns. Each is one
short piece of LLVM code, correct on every processor; LLVM picks the widest instructions the machine has.
No instruction here reassociates or fuses sums, so results carry the same bits on every machine.
"""

# mypy: allow-untyped-decorators, allow-untyped-calls, allow-untyped-defs
# ruff: noqa: ARG001 - numba fixes the parameters of intrinsics; most need only some of them

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba.extending
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numpy.typing import NDArray

inlined: Callable[..., Any] = njit(nogil=True, _nrt=False, forceinline=True)  # type: ignore[call-overload]
"""How the parts of kernels are compiled: without the GIL and without counting references.

Counting references of array arguments at every inner call made reading a short record eight times slower. The
price: compiled functions cannot allocate, so callers hand them scratch. Write ``np.int64(0)`` where a number that
changes starts: for a plain 0 numba compiles what it is passed to a second time.
"""

compiled: Callable[..., Any] = njit(nogil=True, cache=True, _nrt=False)  # type: ignore[call-overload]
"""How whole kernels are compiled: the same, and kept in numba's cache."""


def plain(array: NDArray[Any]) -> NDArray[Any]:
    """An array of the one kind that kernels are compiled for: contiguous and writable; a copy if it was not.

    numba would compile every kernel again, for many seconds, for a read-only or a strided array.
    """
    return np.require(array, requirements=["C", "W", "E"])


intrinsic: Callable[..., Callable[..., Any]] = numba.extending.intrinsic

LANES = 8
"""Columns of a row that are added together: eight float64 are one cache line."""

_WORD = ir.IntType(64)
_ROW = ir.VectorType(ir.DoubleType(), LANES)


def _element(context, builder, array_type, array, index):
    """Address of ``array[index]`` in a contiguous array, without bounds or wrap-around checks."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _load_row(builder, address):
    row = builder.load(builder.bitcast(address, _ROW.as_pointer()))
    row.align = 8
    return row


def _store_row(builder, row, address):
    builder.store(row, builder.bitcast(address, _ROW.as_pointer())).align = 8


@intrinsic
def popcount(typingctx, word):
    """Number of set bits of a uint64."""

    def code(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.int64(types.uint64), code


@intrinsic
def lowest(typingctx, word):
    """Position of the lowest set bit of a uint64 (64 for zero)."""

    def code(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), code


@intrinsic
def load64(typingctx, data, position):
    """The eight bytes of a uint8 (or int8) array from ``position`` on, as one little-endian uint64."""

    def code(context, builder, signature, args):
        address = _element(context, builder, signature.args[0], args[0], args[1])
        word = builder.load(builder.bitcast(address, _WORD.as_pointer()))
        word.align = 1
        return word

    return types.uint64(data, types.int64), code


@intrinsic
def store64(typingctx, data, position, word):
    """Write eight bytes of a uint8 array from ``position`` on, little-endian."""

    def code(context, builder, signature, args):
        address = _element(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], builder.bitcast(address, _WORD.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(data, types.int64, types.uint64), code


@intrinsic
def put_steps(typingctx, out, at, word, starts, before):
    """``out[at:at+8]`` (uint32) = ``before`` plus the running sum of the varints that start at eight bits of ``word``.

    Byte j of ``starts`` is where number j starts, a multiple of 8 below 64; up to three of its bytes are read. Lanes
    beyond the numbers that are wholly in the word hold nonsense, for the caller to overwrite.
    """

    def code(context, builder, signature, args):
        array, at, word, starts, before = args
        number, eight = ir.IntType(32), ir.VectorType(ir.IntType(32), 8)
        zeros = ir.Constant(eight, [0] * 8)

        def each(value, kind=number):
            """The same number in eight lanes."""
            lanes = ir.VectorType(kind, 8)
            one = builder.insert_element(ir.Constant(lanes, ir.Undefined), value, number(0))
            return builder.shuffle_vector(one, one, zeros)

        def field(down, bits, wanted):
            """Seven bits of each lane, moved to their place, where ``wanted`` (all ones or zero) says so."""
            moved = builder.and_(builder.lshr(lanes, each(number(down))), each(number(bits)))
            return moved if wanted is None else builder.and_(moved, wanted)

        def goes_on(bit):
            """All ones in the lanes whose byte that ends at this bit is not the last of its number."""
            return builder.sub(zeros, builder.and_(builder.lshr(lanes, each(number(bit))), each(number(1))))

        shifts = builder.zext(builder.bitcast(starts, ir.VectorType(ir.IntType(8), 8)), ir.VectorType(_WORD, 8))
        shifts = builder.and_(shifts, each(_WORD(63), _WORD))
        lanes = builder.trunc(builder.lshr(each(word, _WORD), shifts), eight)
        second = goes_on(7)
        third = builder.and_(second, goes_on(15))
        sums = builder.or_(field(0, 0x7F, None), field(1, 0x3F80, second))
        sums = builder.or_(sums, field(2, 0x1FC000, third))
        for reach in (1, 2, 4):  # add the lane ``reach`` below; lanes 8.. are the first of the zeros
            below = ir.Constant(eight, [k - reach if k >= reach else 8 for k in range(8)])
            sums = builder.add(sums, builder.shuffle_vector(sums, zeros, below))
        sums = builder.add(sums, each(builder.trunc(before, number)))
        address = _element(context, builder, signature.args[0], array, at)
        builder.store(sums, builder.bitcast(address, eight.as_pointer())).align = 4
        return context.get_dummy_value()

    return types.void(out, types.int64, types.uint64, types.uint64, types.int64), code


@intrinsic
def add_row(typingctx, out, at, rows, of):
    """``out[at:at+LANES] += rows[of:of+LANES]`` on flat float64 arrays."""

    def code(context, builder, signature, args):
        target = _element(context, builder, signature.args[0], args[0], args[1])
        source = _element(context, builder, signature.args[2], args[2], args[3])
        _store_row(builder, builder.fadd(_load_row(builder, target), _load_row(builder, source)), target)
        return context.get_dummy_value()

    return types.void(out, types.int64, rows, types.int64), code


@intrinsic
def put_subsets(typingctx, table, at, rows, first, second, third, fourth):
    """Row s (1..15) of the table at ``at`` = sum of the rows in subset s of four; they start at the given places."""

    def code(context, builder, signature, args):
        table, at, rows, *starts = args
        sums: list[ir.Value] = []
        for start in starts:
            row = _load_row(builder, _element(context, builder, signature.args[2], rows, start))
            sums += [row, *(builder.fadd(row, smaller) for smaller in sums)]
        for subset, total in enumerate(sums, start=1):
            place = builder.add(at, _WORD(subset * LANES))
            _store_row(builder, total, _element(context, builder, signature.args[0], table, place))
        return context.get_dummy_value()

    return types.void(table, types.int64, rows, *[types.int64] * 4), code


@intrinsic
def add_looked_up(typingctx, out, at, table, word):
    """``out[at:at+LANES] += Σ_j table[j, nibble j of word, :]`` over the 16 nibbles of a uint64.

    ``table`` is flat float64 of shape [16 nibbles, 16 values, 8 columns]. Even
    and odd nibbles are summed apart, then joined.
    """

    def code(context, builder, signature, args):
        base = context.make_array(signature.args[2])(context, builder, args[2]).data
        partial = [None] * 2
        for nibble in range(16):
            value = builder.and_(builder.lshr(args[3], _WORD(4 * nibble)), _WORD(15))
            offset = builder.add(builder.mul(value, _WORD(LANES)), _WORD(nibble * 16 * LANES))
            row = _load_row(builder, builder.gep(base, [offset]))
            lane = nibble % 2
            partial[lane] = row if partial[lane] is None else builder.fadd(partial[lane], row)
        joined = builder.fadd(*partial)
        target = _element(context, builder, signature.args[0], args[0], args[1])
        _store_row(builder, builder.fadd(_load_row(builder, target), joined), target)
        return context.get_dummy_value()

    return types.void(out, types.int64, table, types.uint64), code
