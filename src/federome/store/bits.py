"""Machine instructions that the genotype kernels need and numba does not offer by name.

Bit counts, reading eight bytes at any address, and adding whole rows of eight float64 columns. Each is one
short piece of LLVM code, correct on every processor; LLVM picks the widest instructions the machine has.
No instruction here reassociates or fuses sums, so results carry the same bits on every machine.
"""

# mypy: allow-untyped-decorators, allow-untyped-calls, allow-untyped-defs
# ruff: noqa: ARG001 - numba fixes the parameters of intrinsics; most need only some of them

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba.extending
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types

compiled: Callable[..., Any] = njit(nogil=True, cache=True)
"""How every kernel is compiled: without the GIL, and kept in numba's cache."""

intrinsic: Callable[..., Callable[..., Any]] = numba.extending.intrinsic

LANES = 8
"""Columns of a row that one vector instruction adds: eight float64 are one cache line."""

_WORD = ir.IntType(64)
_ROW = ir.VectorType(ir.DoubleType(), LANES)


def _element(context, builder, array_type, array, index):
    """Address of ``array[index]`` in a contiguous array, without bounds or wrap-around checks."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _load_row(builder, address, align=8):
    row = builder.load(builder.bitcast(address, _ROW.as_pointer()))
    row.align = align
    return row


def _store_row(builder, row, address, align=8):
    builder.store(row, builder.bitcast(address, _ROW.as_pointer())).align = align


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
def add_row(typingctx, out, at, rows, of):
    """``out[at:at+8] += rows[of:of+8]`` on flat float64 arrays."""

    def code(context, builder, signature, args):
        target = _element(context, builder, signature.args[0], args[0], args[1])
        source = _element(context, builder, signature.args[2], args[2], args[3])
        _store_row(builder, builder.fadd(_load_row(builder, target), _load_row(builder, source)), target)
        return context.get_dummy_value()

    return types.void(out, types.int64, rows, types.int64), code


@intrinsic
def set_sum(typingctx, out, at, first, second):
    """``out[at:at+8] = out[first:first+8] + out[second:second+8]`` on one flat float64 array."""

    def code(context, builder, signature, args):
        kind, array = signature.args[0], args[0]
        rows = [_load_row(builder, _element(context, builder, kind, array, k)) for k in args[2:]]
        _store_row(builder, builder.fadd(*rows), _element(context, builder, kind, array, args[1]))
        return context.get_dummy_value()

    return types.void(out, types.int64, types.int64, types.int64), code


@intrinsic
def add_looked_up(typingctx, out, at, table, word):
    """``out[at:at+8] += Σ_j table[j, nibble j of word, :]`` over the 16 nibbles of a uint64.

    ``table`` is flat float64 of shape [16 nibbles, 16 values, 8 columns]. Four partial sums run side by side
    and are joined in a fixed order.
    """

    def code(context, builder, signature, args):
        base = context.make_array(signature.args[2])(context, builder, args[2]).data
        partial = [None] * 4
        for nibble in range(16):
            value = builder.and_(builder.lshr(args[3], _WORD(4 * nibble)), _WORD(15))
            offset = builder.add(builder.shl(value, _WORD(3)), _WORD(nibble * 16 * LANES))
            row = _load_row(builder, builder.gep(base, [offset]))
            lane = nibble % 4
            partial[lane] = row if partial[lane] is None else builder.fadd(partial[lane], row)
        joined = builder.fadd(builder.fadd(*partial[:2]), builder.fadd(*partial[2:]))
        target = _element(context, builder, signature.args[0], args[0], args[1])
        _store_row(builder, builder.fadd(_load_row(builder, target), joined), target)
        return context.get_dummy_value()

    return types.void(out, types.int64, table, types.uint64), code
