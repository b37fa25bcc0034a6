"""The door: nothing of people leaves a node, and no pooled total is read, but through these few functions.

``gate`` marks what a pooled total may not show, ``veto`` lets each contributor object to a cell that would show the
others' few, ``release`` checks finished tables against what the algorithm declared. ``Released`` and ``Sealed`` are
the only two things that can be sent, and only this module makes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid, Refused
from federome.model.release import Count, Label, Policy, Ratio, Round, Rows, Statistic
from federome.model.table import Column, Mask, Table

MAX_ROWS: Final = 20_000_000
_KEY: Final = object()
_FORMULA: Final = re.compile(r"^[=+\-@\t\r]|[/\\]|\.\.|[\x00-\x1f]")


@dataclass(frozen=True)
class Released:
    """Tables that passed this gate, and which checks they passed. Made by :func:`release` alone."""

    tables: Mapping[str, Table]
    policy: Policy
    checks: tuple[str, ...]
    made_by: object

    def __post_init__(self) -> None:
        if self.made_by is not _KEY:
            raise TypeError("only the door makes Released")


@dataclass(frozen=True)
class Sealed:
    """A masked part of a sum for one roster, turn and block. Made by :func:`seal` alone."""

    roster: str
    turn: int
    part: int
    masked: bytes
    made_by: object

    def __post_init__(self) -> None:
        if self.made_by is not _KEY:
            raise TypeError("only the door makes Sealed")


def seal(table: Table, declared: Rows, masked: bytes, *, roster: str, turn: int, part: int) -> Sealed:
    """A node's masked part, after checking that its plain form has exactly the declared columns.

    Raises ``Refused`` (``output_class_unapproved``) for undeclared or missing columns, ``Invalid`` for NaN.
    """
    _check_columns(table, declared, "this round")
    for name, values in table.columns.items():
        if values.dtype.kind not in "if" or (values.dtype.kind == "f" and not np.isfinite(values).all()):
            raise Invalid(f"column {name!r} holds values that cannot be summed.")
    return Sealed(roster, turn, part, masked, _KEY)


def gate(total: Table, due: Round, policy: Policy, *, contributors: int) -> Table:
    """The pooled gate of a round. ``total`` has the declared columns and ``row``.

    In gated rounds every people cell below the threshold is withheld together with its group and whatever it guards;
    the value under a withheld cell is erased. In rounds over variants a row goes when a one-axis people column is
    small, or when none of the cells of its two-axis people columns is left. Other rounds pass unchanged: only rows
    that passed a gated round take part in them.
    """
    _check_totals(total, due.totals, contributors)
    if not due.gated:
        return total
    k = policy.threshold
    people = [n for n, rule in due.totals.columns.items() if isinstance(rule, Count) and rule.people]
    small = {name: total.ints(name) < k for name in people}
    masks = {name: _withheld(name, due.totals, small, total[name].shape) for name in due.totals.columns}
    return _erase(total, masks, _staying(due, small, masks, total.rows))


def _withheld(name: str, rows: Rows, small: Mapping[str, Mask], shape: tuple[int, ...]) -> Mask:
    """Where one column is withheld: itself small, one of its group small, or its guard small."""
    rule = rows.columns[name]
    together = getattr(rule, "together", "")
    mask = np.zeros(shape, np.bool_)
    for other, cells in small.items():
        same = together and getattr(rows.columns[other], "together", "") == together
        if other == name or same or other == getattr(rule, "guard", ""):
            mask |= cells if cells.ndim == mask.ndim else (cells[:, None] if mask.ndim == 2 else cells.any(axis=1))
    return mask


def _staying(due: Round, small: Mapping[str, Mask], masks: Mapping[str, Mask], rows: int) -> Mask:
    keep = np.ones(rows, np.bool_)
    if due.scope != "variants":
        return keep
    deep = [masks[name].all(axis=1) for name, cells in small.items() if cells.ndim == 2]
    for cells in small.values():
        if cells.ndim == 1:
            keep &= ~cells
    if deep:
        keep &= ~np.logical_and.reduce(deep)
    return keep


def _erase(table: Table, masks: Mapping[str, Mask], keep: Mask) -> Table:
    columns: dict[str, Column] = {}
    for name, values in table.columns.items():
        mask = masks.get(name)
        columns[name] = values if mask is None else np.where(mask, values.dtype.type(0), values)
    return Table(columns, {n: m for n, m in masks.items() if m.any()}).take(keep)


def candidates(gated: Table, due: Round) -> Table:
    """The people cells that would go on, with ``row``, to be shown to the contributors; withheld ones stay withheld."""
    people = [n for n, rule in due.totals.columns.items() if isinstance(rule, Count) and rule.people]
    return gated.only("row", *people)


def veto(shown: Table, own: Table, policy: Policy) -> NDArray[np.bool_]:
    """A node's objections, one for each people cell shown, column after column: true where others would be exposed.

    A cell is objected to where the total minus this node's own part is between 1 and the threshold minus one: whoever
    knows this node's part could then read the few people of the others. ``own`` has the same rows as ``shown``.
    """
    raised: list[Mask] = []
    for name in shown.columns:
        if name == "row":
            continue
        rest = shown.ints(name) - own.ints(name)
        hidden = shown.withheld.get(name, np.zeros(rest.shape, np.bool_))
        if np.any(~hidden & (rest < 0)):
            raise Refused("a shown total is smaller than this node's own part.", codes=["token_invalid"])
        raised.append((~hidden & (rest > 0) & (rest < policy.threshold)).ravel())
    return np.concatenate(raised) if raised else np.zeros(0, np.bool_)


def apply_veto(gated: Table, due: Round, vetoes: NDArray[np.int64], policy: Policy) -> Table:
    """Withhold the cells that at least one contributor objected to, with their groups, as if they were small."""
    people = [n for n, rule in due.totals.columns.items() if isinstance(rule, Count) and rule.people]
    k = policy.threshold
    small: dict[str, Mask] = {}
    at = 0
    for name in people:
        shape = gated[name].shape
        size = int(np.prod(shape))
        objected = vetoes[at : at + size].reshape(shape) > 0
        at += size
        small[name] = objected | gated.withheld.get(name, np.zeros(shape, np.bool_)) | (gated.ints(name) < k)
    if at != len(vetoes):
        raise Invalid("the vetoes do not fit the cells that were shown.")
    masks = {name: _withheld(name, due.totals, small, gated[name].shape) for name in due.totals.columns}
    return _erase(gated, masks, _staying(due, small, masks, gated.rows))


def release(tables: Mapping[str, Table], declared: Mapping[str, Rows], policy: Policy, *, people: int) -> Released:
    """Finished tables, checked against their declaration and rounded; anything undeclared is refused.

    Raises ``Refused``: ``output_class_unapproved`` (undeclared table or column, text that a spreadsheet would run),
    ``record_level_output`` (as many rows as people, without a public key), ``small_cell`` (a people cell below the
    threshold that its algorithm forgot to withhold).
    """
    if extra := sorted(set(tables) - set(declared)):
        raise Refused(f"table {extra[0]!r} is not declared.", codes=["output_class_unapproved"])
    out: dict[str, Table] = {}
    for name, table in tables.items():
        rows = declared[name]
        _check_columns(table, rows, name)
        if table.rows > MAX_ROWS:
            raise Refused(f"table {name!r} is too large.", codes=["output_class_unapproved"])
        if (
            not rows.key
            and not any(isinstance(r, Label) for r in rows.columns.values())
            and table.rows >= max(people, 2)
        ):
            raise Refused(f"table {name!r} has a row for every person.", codes=["record_level_output"])
        _check_small(name, table, rows, policy)
        out[name] = _rounded(table, rows, policy)
    checks = ("declared-columns", "people-threshold", "guards", "significant-digits", "text")
    return Released(MappingProxyType(out), policy, checks, _KEY)


def _check_columns(table: Table, rows: Rows, name: str) -> None:
    for column in table.columns:
        if column not in rows.columns:
            raise Refused(f"column {column!r} of {name} is not declared.", codes=["output_class_unapproved"])
    for column in rows.columns:
        if column not in table.columns:
            raise Refused(f"{name} lacks the declared column {column!r}.", codes=["output_class_unapproved"])


def _check_small(name: str, table: Table, rows: Rows, policy: Policy) -> None:
    k = policy.threshold
    small: dict[str, Mask] = {}
    for column, rule in rows.columns.items():
        if isinstance(rule, Count) and rule.people:
            hidden = table.withheld.get(column, np.zeros(table[column].shape, np.bool_))
            if np.any(~hidden & (table.ints(column) < k)):
                raise Refused(f"{name}: {column!r} shows fewer than {k} people.", codes=["small_cell"])
            small[column] = hidden
    for column, rule in rows.columns.items():
        guard = getattr(rule, "guard", "")
        if guard in small:
            shown = ~table.withheld.get(column, np.zeros(table[column].shape, np.bool_))
            cover = small[guard] if small[guard].ndim == shown.ndim else small[guard][:, None]
            if np.any(shown & cover & (table[column] != 0)):
                raise Refused(f"{name}: {column!r} is shown where {guard!r} is withheld.", codes=["small_cell"])


def _rounded(table: Table, rows: Rows, policy: Policy) -> Table:
    columns: dict[str, Column] = {}
    for name, rule in rows.columns.items():
        values = table[name]
        mask = table.withheld.get(name)
        if isinstance(rule, Label) and values.dtype.kind == "U":
            if any(_FORMULA.search(str(text)) for text in values.ravel().tolist()):
                raise Refused(f"{name!r} holds text that is no label.", codes=["output_class_unapproved"])
        elif values.dtype.kind == "f":
            digits = rule.digits if isinstance(rule, Statistic) else policy.digits
            values = significant(table.floats(name), min(digits, policy.digits) if isinstance(rule, Ratio) else digits)
        if mask is not None:
            values = np.where(mask, values.dtype.type(), values)
        columns[name] = values
    return Table(columns, dict(table.withheld))


def significant(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    """Values rounded to so many significant digits; zeros, NaN and infinities as they are."""
    out = values.copy()
    some = np.isfinite(values) & (values != 0)
    power = digits - 1 - np.floor(np.log10(np.abs(values[some])))
    # Split the power of ten so that subnormal p values neither overflow nor vanish.
    half = np.floor(power / 2)
    scaled = values[some] * 10.0**half * 10.0 ** (power - half)
    out[some] = np.where(np.isfinite(scaled), np.round(scaled) / 10.0**half / 10.0 ** (power - half), values[some])
    return out


def _check_totals(total: Table, rows: Rows, contributors: int) -> None:
    """Canary totals: counts below zero, or numbers that are none, are the mark of a broken or forged part."""
    if contributors < 1:
        raise Invalid("a total needs a contributor.")
    for name, rule in rows.columns.items():
        values = total[name]
        if isinstance(rule, Count) and values.size and values.min() < 0:
            raise Refused(f"the total of {name!r} is negative: a part is broken.", codes=["token_invalid"])
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise Refused(f"the total of {name!r} is not a number: a part is broken.", codes=["token_invalid"])
