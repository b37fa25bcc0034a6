"""The door: nothing of people leaves a node, and no pooled total is read, but through these few functions.

``gate`` marks what a pooled total may not show, ``veto`` lets each contributor object to a cell that would show the
others' few, ``release`` checks finished tables against what the algorithm declared. ``Released``, ``Sealed`` and
``Matched`` are the only things that can be sent, and only this module makes them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.disclosure.margins import closed, lines_of, remainder
from federome.disclosure.tables import (
    Masks,
    broken_identity,
    exposures,
    fitted,
    mask_of,
    people_columns,
    without_exposures,
)
from federome.errors import Invalid, Refused
from federome.model.match import Handle
from federome.model.release import Count, Label, Number, Policy, Ratio, Round, Rows, Rule, Statistic
from federome.model.table import Column, Mask, Table

MAX_ROWS: Final = 20_000_000
MAX_COLUMNS: Final = 256
MAX_CELLS: Final = 200_000_000
MAX_LABEL: Final = 10_000  # letters; the longest alleles that a VCF spells out
FEWEST: Final = 3  # contributors to a pooled total: of two, each could subtract itself
_EXACT_TENS: Final = 22  # powers of ten up to here are exact, so that results are the doubles nearest to decimals
_KEY: Final = object()
_OPAQUE: Final = re.compile(r"[A-Za-z0-9_-]{7,64}")
_FORMULA: Final = re.compile(r"^\s*[=+\-@|]|[/\\]|\.\.")


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
    masked: bytes | memoryview
    made_by: object

    def __post_init__(self) -> None:
        if self.made_by is not _KEY:
            raise TypeError("only the door makes Sealed")


@dataclass(frozen=True)
class Matched:
    """Matches to one question, class ``match``: what may be told of people one by one. Made by `release_matches`."""

    handles: tuple[Handle, ...]
    made_by: object

    def __post_init__(self) -> None:
        if self.made_by is not _KEY:
            raise TypeError("only the door makes Matched")


def release_matches(handles: Sequence[Handle], *, top: int) -> Matched:
    """At most ``top`` matches, scores to two digits. No threshold protects a match, which is about one person: the
    access rules, consent and the budget of questions do. ``Refused`` for whatever is no score or no opaque handle.
    """
    for handle in handles:
        if not 0 <= handle.score <= 1 or not _OPAQUE.fullmatch(handle.handle):
            raise Refused("a match holds more than may be told of it.", codes=["output_class_unapproved"])
    return Matched(tuple(replace(handle, score=round(handle.score, 2)) for handle in handles[:top]), _KEY)


# parts and totals


def seal(table: Table, declared: Rows, masked: bytes | memoryview, *, roster: str, turn: int, part: int) -> Sealed:
    """A node's masked part, after checking that its plain form is one that the round declares.

    Raises ``Refused`` (``output_class_unapproved``) for undeclared or missing columns, ``Invalid`` for negative
    counts, NaN, numbers beyond their bound and cells that are already withheld.
    """
    _check_columns(table, declared, "this round")
    if table.withheld:
        raise Invalid("a part with withheld cells cannot be summed.", remedy="Add first, withhold after.")
    for name, rule in declared.columns.items():
        values = table[name]
        if values.dtype.kind not in "if" or (values.dtype.kind == "f" and not np.isfinite(values).all()):
            raise Invalid(f"column {name!r} holds values that cannot be summed.")
        if isinstance(rule, Count) and values.size and (values.dtype.kind == "f" or values.min() < 0):
            raise Invalid(f"column {name!r} counts, but holds something else.")
        if isinstance(rule, Number) and values.size and np.abs(table.floats(name)).max() > rule.bound:
            raise Invalid(f"column {name!r} holds a number beyond its declared bound.")
    return Sealed(roster, turn, part, masked, _KEY)


def gate(total: Table, due: Round, policy: Policy, *, contributors: int) -> Table:
    """The pooled gate of a round. ``total`` has the declared columns and ``row``.

    In gated rounds every people cell below the threshold is withheld together with its group and whatever it guards,
    and with as much more as it takes that no withheld cell and no unseen few follow from the rest; the value under a
    withheld cell is erased. In rounds over variants a row goes when a one-axis people column is withheld, or when
    none of the cells of its two-axis people columns is left. Other rounds pass unchanged: only rows that passed a
    gated round take part in them. ``contributors`` is 1 where a node gates its own totals.

    Raises ``Refused``: ``incomplete`` (two contributors), ``token_invalid`` (a total that cannot be one).
    """
    _check_totals(total, due.totals, policy, contributors)
    if not due.gated:
        return total
    k = policy.threshold
    return _passed(total, due, {name: total.ints(name) < k for name in people_columns(due.totals)}, k)


def _passed(total: Table, due: Round, small: Masks, k: int) -> Table:
    masks = _widened(total, due.totals, small, k)
    keep = np.ones(total.rows, np.bool_)
    if due.scope == "variants":
        deep = []
        for name in small:
            if masks[name].ndim == 1:
                keep &= ~masks[name]
            else:
                deep.append(masks[name].all(axis=1))
        if deep:
            keep &= ~np.logical_and.reduce(deep)
    return _erased(total.take(keep), {name: mask[keep] for name, mask in masks.items()})


def _widened(table: Table, rows: Rows, small: Masks, k: int) -> dict[str, Mask]:
    """Masks of all declared columns, closed under groups, guards, identities and margins."""
    masks: dict[str, Mask] = dict(small)
    lines = [] if rows.genotypes else lines_of(table, rows)
    while True:
        masks = without_exposures(table, rows, masks, k)
        before = sum(int(mask.sum()) for mask in masks.values())
        for name in (name for name in people_columns(rows) if lines and table[name].size):
            values, hidden = _flat(table.ints(name)), _flat(masks[name])
            done = [closed(values[:, at], hidden[:, at], lines, k) for at in range(values.shape[1])]
            masks[name] = np.stack(done, axis=1).reshape(masks[name].shape)
        if sum(int(mask.sum()) for mask in masks.values()) == before:
            return masks


def _flat(values: NDArray[np.generic]) -> NDArray:  # type: ignore[type-arg]
    """A column with two axes, whatever it has."""
    return values.reshape(len(values), -1) if values.size else values.reshape(len(values), 0)


def _erased(table: Table, masks: Masks) -> Table:
    columns: dict[str, Column] = {}
    for name, values in table.columns.items():
        mask = masks.get(name)
        columns[name] = values if mask is None else np.where(mask, values.dtype.type(), values)
    return Table(columns, {name: mask for name, mask in masks.items() if mask.any()})


def candidates(gated: Table, due: Round) -> Table:
    """The people cells that would go on, with ``row``, to be shown to the contributors; withheld ones stay withheld."""
    return gated.only("row", *people_columns(due.totals))


# objections of contributors


def veto(shown: Table, own: Table, policy: Policy, *, rows: Rows | None = None) -> NDArray[np.bool_]:
    """A node's objections, one for each people cell shown, column after column: true where others would be exposed.

    A cell is objected to where the total minus this node's own part is between 1 and the threshold minus one: whoever
    knows this node's part could then read the few people of the others. With ``rows``, the round's declaration, that
    also holds for people whom no column counts but an identity of people columns gives away, and for the sum of the
    withheld rows.
    ``own`` has the same rows as ``shown``. Raises ``Refused`` (``token_invalid``) for totals below the own part.
    """
    k = policy.threshold
    names = [name for name in shown.columns if name != "row"]
    others = Table({name: shown.ints(name) - own.ints(name) for name in names})
    hidden = {name: mask_of(shown, name) for name in names}
    raised: dict[str, Mask] = {}
    for name in names:
        rest = others.ints(name)
        if np.any(~hidden[name] & (rest < 0)):
            raise Refused("a shown total is smaller than this node's own part.", codes=["token_invalid"])
        raised[name] = ~hidden[name] & (rest > 0) & (rest < k)
    if rows is not None:
        _object_to_identities(others, rows, hidden, raised, k)
        _object_to_remainders(others, rows, hidden, raised, k)
    return np.concatenate([raised[name].ravel() for name in names]) if names else np.zeros(0, np.bool_)


def _object_to_identities(others: Table, rows: Rows, hidden: Masks, raised: dict[str, Mask], k: int) -> None:
    named = {name for identity in rows.identities for name in identity}
    unshown = {name for name in rows.columns if name in named} - set(hidden)
    shape = next((hidden[name].shape for name in hidden if name in named), None)
    if shape is None:
        return
    masks = {**hidden, **{name: np.ones(shape, np.bool_) for name in unshown}}
    table = Table({**others.columns, **{name: np.zeros(shape, np.int64) for name in unshown}})
    for exposed in exposures(table, rows, masks):
        few = exposed.cells & (exposed.values > 0.5) & (exposed.values < k - 0.5)
        if exposed.blamed in raised and not exposed.hidden:
            raised[exposed.blamed] = raised[exposed.blamed] | few


def _object_to_remainders(others: Table, rows: Rows, hidden: Masks, raised: dict[str, Mask], k: int) -> None:
    """Object to further rows until the others' people in all rows that this node sees withheld are none or enough."""
    if not rows.total or others.rows < 2:
        return
    (line,) = lines_of(others, rows)
    for name in raised:
        values, gone = _flat(others.ints(name)), _flat(hidden[name] | raised[name]).copy()
        for at in range(values.shape[1]):
            column = values[:, at]
            while not gone[0, at] and 0 < remainder(column, gone[:, at], line) < k:
                enough = [row for row in line.parts if not gone[row, at] and column[row] >= k]
                gone[enough[0] if enough else 0, at] = True
        raised[name] = gone.reshape(hidden[name].shape) & ~hidden[name]


def apply_veto(gated: Table, due: Round, vetoes: NDArray[np.int64], policy: Policy) -> Table:
    """Withhold the cells that at least one contributor objected to, as if they were small, and what follows."""
    k = policy.threshold
    small: dict[str, Mask] = {}
    at = 0
    for name in people_columns(due.totals):
        shape = gated[name].shape
        size = int(np.prod(shape))
        if at + size > len(vetoes):
            raise Invalid("the vetoes do not fit the cells that were shown.")
        small[name] = (vetoes[at : at + size].reshape(shape) > 0) | mask_of(gated, name)
        at += size
    if at != len(vetoes):
        raise Invalid("the vetoes do not fit the cells that were shown.")
    return _passed(gated, due, small, k)


# finished tables


def release(tables: Mapping[str, Table], declared: Mapping[str, Rows], policy: Policy, *, people: int) -> Released:
    """Finished tables, checked against their declaration and rounded; anything undeclared is refused.

    Cells that would give a withheld one away are withheld too. Raises ``Refused``: ``output_class_unapproved``
    (undeclared table or column, wrong kind of value, too large, text that a spreadsheet or a file system would obey),
    ``record_level_output`` (as many rows as people, without a public key), ``small_cell`` (a people cell below the
    threshold, or a ward of a withheld cell, that its algorithm forgot to withhold).
    """
    out: dict[str, Table] = {}
    for name, table in tables.items():
        if name not in declared:
            raise Refused("a table is not declared.", codes=["output_class_unapproved"])
        rows = declared[name]
        _check_columns(table, rows, name)
        _check_size(name, table, rows, people)
        for column, rule in rows.columns.items():
            _check_values(f"{name}: {column!r}", table[column], mask_of(table, column), rule)
        _check_small(name, table, rows, policy)
        marked = {column: mask_of(table, column) for column in rows.columns}
        out[name] = _told(_erased(table, _widened(table, rows, marked, policy.threshold)), rows, policy)
    checks = ("declared-columns", "people-threshold", "guards", "margins", "identities", "significant-digits", "text")
    return Released(MappingProxyType(out), policy, checks, _KEY)


def _check_columns(table: Table, rows: Rows, name: str) -> None:
    for column in table.columns:
        if column not in rows.columns:
            raise Refused(f"a column of {name} is not declared.", codes=["output_class_unapproved"])
    for column in rows.columns:
        if column not in table.columns:
            raise Refused(f"{name} lacks the declared column {column!r}.", codes=["output_class_unapproved"])


def _check_size(name: str, table: Table, rows: Rows, people: int) -> None:
    cells = sum(values.size for values in table.columns.values())
    if table.rows > MAX_ROWS or cells > MAX_CELLS or len(table.columns) > MAX_COLUMNS:
        raise Refused(f"table {name!r} is too large.", codes=["output_class_unapproved"])
    public = rows.key or any(isinstance(rule, Label) for rule in rows.columns.values())
    widest = max((values.shape[1] for values in table.columns.values() if values.ndim == 2), default=1)
    if (not public and table.rows >= max(people, 2)) or (people > 1 and widest >= people):
        raise Refused(f"table {name!r} has a row for every person.", codes=["record_level_output"])


def _check_values(where: str, values: Column, hidden: Mask, rule: Rule) -> None:
    """The kind of values that a rule allows. Infinite or undefined ones are not numbers that could be summed."""
    kinds = {Count: "i", Number: "if", Ratio: "if", Statistic: "if", Label: "ifbU"}[type(rule)]
    if values.dtype.kind not in kinds:
        raise Refused(f"{where} holds another kind of value than declared.", codes=["output_class_unapproved"])
    if isinstance(rule, Label) and values.dtype.kind == "U":
        for text in np.unique(values).tolist():
            if not _is_label(str(text)):
                raise Refused(f"{where} holds text that is no label.", codes=["output_class_unapproved"])
    if values.dtype.kind == "f" and not isinstance(rule, Statistic) and not np.isfinite(values[~hidden]).all():
        raise Refused(f"{where} holds values that are no numbers.", codes=["output_class_unapproved"])


def _is_label(text: str) -> bool:
    """Printable, of bounded length, neither a formula nor a path, also when its letters only look so."""
    plain = unicodedata.normalize("NFKC", text)
    return len(plain) <= MAX_LABEL and text.isprintable() and plain.isprintable() and not _FORMULA.search(plain)


def _check_small(name: str, table: Table, rows: Rows, policy: Policy) -> None:
    k = policy.threshold
    for column in people_columns(rows):
        if np.any(~mask_of(table, column) & (table.ints(column) < k)):
            raise Refused(f"{name}: {column!r} shows fewer than {k} people.", codes=["small_cell"])
    for column, rule in rows.columns.items():
        guard = getattr(rule, "guard", "")
        if guard:
            shown = ~mask_of(table, column)
            uncovered = shown & fitted(mask_of(table, guard), shown.shape)
            if np.any(uncovered & (table[column] != table[column].dtype.type())):
                raise Refused(f"{name}: {column!r} is shown where {guard!r} is withheld.", codes=["small_cell"])
    if wrong := broken_identity(table, rows):
        raise Refused(f"{name}: {wrong!r} is not what it is declared to be.", codes=["output_class_unapproved"])


def _told(table: Table, rows: Rows, policy: Policy) -> Table:
    """The table as it is told: no more digits than allowed, no meaning in the sign of zero or the bits of a NaN."""
    coarse = {
        name: nearest(table.ints(name), rule.rounded)
        for name, rule in rows.columns.items()
        if isinstance(rule, Count) and rule.rounded > 1
    }
    columns: dict[str, Column] = {}
    for name, rule in rows.columns.items():
        values = table[name]
        match rule:
            case Count():
                columns[name] = coarse.get(name, values)
            case Ratio(numerator=over, denominator=under) if {over, under} & set(coarse):
                above, below = (coarse.get(part, table[part]).astype(np.float64) for part in (over, under))
                known = ~mask_of(table, name) & (below != 0)
                quotient = np.divide(above, below, out=np.zeros(above.shape), where=known)
                columns[name] = significant(quotient, policy.digits)
            case Label():
                columns[name] = table.floats(name) + 0.0 if values.dtype.kind == "f" else values
            case Number() | Ratio() | Statistic():
                digits = min(rule.digits, policy.digits) if isinstance(rule, Statistic) else policy.digits
                rounded = significant(table.floats(name), digits)
                columns[name] = rounded.astype(np.int64) if values.dtype.kind == "i" else rounded
    return Table(columns, dict(table.withheld))


def nearest(values: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Whole numbers to the nearest multiple of ``step``, halves up."""
    return (2 * values + step) // (2 * step) * step


def significant(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    """Values rounded to so many significant digits; infinities as they are, one zero and one NaN."""
    out = np.where(np.isnan(values), np.nan, values + 0.0)
    some = np.flatnonzero(np.isfinite(values) & (values != 0))
    power = digits - 1 - np.floor(np.log10(np.abs(values.flat[some])))
    near = np.abs(power) <= _EXACT_TENS
    at, exact = some[near], 10.0 ** np.abs(power[near])
    up = power[near] >= 0
    scaled = np.round(np.where(up, values.flat[at] * exact, values.flat[at] / exact))
    out.flat[at] = np.where(up, scaled / exact, scaled * exact)
    far = some[~near]  # few: p values of strong hits
    out.flat[far] = [float(f"{value:.{digits - 1}e}") for value in values.flat[far].tolist()]
    return out


# what goes into a model


def check_parameters(parameters: int, people: int, policy: Policy) -> None:
    """Refuse a model of more than ``parameter_share`` parameters a person, or with too few people beyond them.

    ``parameters`` are the numbers released over all rounds. Raises ``Refused`` (``small_cell``).
    """
    if parameters > people * policy.parameter_share or people - parameters < policy.threshold:
        raise Refused(
            f"the model has {parameters} parameters: too many for the people who take part.",
            codes=["small_cell"],
            remedy="Use fewer covariates or more people.",
        )


def check_weights(weights: NDArray[np.float64], policy: Policy) -> None:
    """Refuse weights of people, (n,) or (n, K), that rest on too few: a sum under them would tell of these few.

    Each column's effective sample size (Σ|w|)² / Σw² (Kish 1965) must reach the threshold. Of several columns no
    combination may isolate anybody either: with leverage hᵢ, every combination w has w²ᵢ ≤ hᵢ Σw², hence an
    effective size of 1/max h at least. Columns of zeros say nothing. Raises ``Refused`` (``small_cell``), and
    ``Invalid`` for weights that are no numbers.
    """
    columns = _flat(np.asarray(weights, np.float64))
    if not np.isfinite(columns).all():
        raise Invalid("a weight is not a number.")
    scale = np.abs(columns).max(axis=0, initial=0.0)
    columns = columns[:, scale > 0] / scale[scale > 0]
    if not columns.size:
        return
    sizes = np.abs(columns).sum(axis=0) ** 2 / (columns**2).sum(axis=0)
    smallest = float(sizes.min())
    if columns.shape[1] > 1:
        left, singular, _ = np.linalg.svd(columns, full_matrices=False)
        basis = left[:, singular > singular[0] * max(columns.shape) * np.finfo(np.float64).eps]
        smallest = min(smallest, 1.0 / float((basis**2).sum(axis=1).max()))
    if smallest < policy.threshold * (1 - 1e-9):
        raise Refused(
            "the weights rest on fewer people than the data holder's threshold.",
            codes=["small_cell"],
            remedy="Start again from the last state that passed.",
        )


def check_steering(weights: NDArray[np.float64], policy: Policy) -> None:
    """``check_weights`` for one node's people, (n,): its own part of a sum, of which it cannot see the others.

    A node with few people asks for a quarter of them, and for two at least. Open data need no threshold.
    """
    if policy.open_data or not weights.size:
        return
    fewest = min(policy.threshold, max(2, weights.size // 4))
    check_weights(weights, replace(policy, k_min=fewest))


def _check_totals(total: Table, rows: Rows, policy: Policy, contributors: int) -> None:
    """Canary totals: counts below zero, numbers that are none, sums that do not add up mark a broken or forged part."""
    if contributors < 1:
        raise Invalid("a total needs a contributor.")
    if 1 < contributors < FEWEST and not policy.open_data:
        raise Refused(
            f"a pooled total needs at least {FEWEST} contributors: of two, each could read the other.",
            codes=["incomplete"],
        )
    _check_columns(total.only(*(name for name in total.columns if name != "row")), rows, "this round")
    for name, rule in rows.columns.items():
        values = total[name]
        if isinstance(rule, Count) and values.size and total.ints(name).min() < 0:
            raise Refused(f"the total of {name!r} is negative: a part is broken.", codes=["token_invalid"])
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise Refused(f"the total of {name!r} is not a number: a part is broken.", codes=["token_invalid"])
    if wrong := broken_identity(total, rows):
        raise Refused(f"the total of {wrong!r} does not add up: a part is broken.", codes=["token_invalid"])
