"""Which cells of a table must not be read: small ones, their company, and whatever would give them away.

Pure functions from numbers and masks to masks, used by ``door.py`` on pooled totals and on finished tables. Three
things follow from a small cell: its group and its wards go with it (:func:`followers`), quantities that could be
computed from the rest of its row are looked after (:func:`exposures`), and so are sums over rows (``margins.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model.release import Count, Ratio, Rows
from federome.model.table import Mask, Table

_ROUNDING: Final = 1e-9  # of row reductions over coefficients that are small whole numbers
Masks = Mapping[str, Mask]


def people_columns(rows: Rows) -> list[str]:
    """Names of the columns that count people."""
    return [name for name, rule in rows.columns.items() if isinstance(rule, Count) and rule.people]


def mask_of(table: Table, name: str) -> Mask:
    """Where a column is withheld; nowhere if the table does not say."""
    mask = table.withheld.get(name)
    return np.zeros(table[name].shape, np.bool_) if mask is None else mask


def fitted(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """A mask of one column on another: a one-axis mask covers whole lines, of a two-axis mask any cell counts."""
    if mask.ndim == len(shape):
        return mask
    return np.broadcast_to(mask[:, None], shape) if mask.ndim < len(shape) else np.logical_or.reduce(mask, axis=1)


def followers(table: Table, rows: Rows, masks: Masks) -> dict[str, Mask]:
    """Masks of all declared columns, once groups, wards and quotients have followed what ``masks`` withhold.

    Repeats itself until nothing more follows, since a ward may itself have a group.
    """
    out = {name: masks.get(name, np.zeros(table[name].shape, np.bool_)).copy() for name in rows.columns}
    needs = {name: _needed(name, rows) for name in rows.columns}
    changed = True
    while changed:
        changed = False
        for name, mask in out.items():
            for other in needs[name]:
                wider = mask | fitted(out[other], mask.shape)
                if (wider != mask).any():
                    mask |= wider
                    changed = True
    return out


def _needed(name: str, rows: Rows) -> list[str]:
    """The columns without which this one may not be shown."""
    rule = rows.columns[name]
    needed = [str(getattr(rule, "guard", ""))]
    if isinstance(rule, Ratio):
        needed += [rule.numerator, rule.denominator]
    if isinstance(rule, Count) and rule.together:
        needed += [
            other
            for other, its in rows.columns.items()
            if other != name and isinstance(its, Count) and its.together == rule.together
        ]
    return [other for other in needed if other]


@dataclass(frozen=True, eq=False)
class Exposure:
    """A quantity that can be computed from the shown cells of a row, where it can be.

    ``cells`` says where, in the shape of the identity's columns; ``values`` are exact there. ``hidden``: it is a
    withheld column; else it is people that no column counts. ``blamed`` is the column to withhold: of those needed,
    the one that the identities name first.
    """

    name: str
    cells: Mask
    values: NDArray[np.float64]
    hidden: bool
    blamed: str


def exposures(table: Table, rows: Rows, masks: Masks) -> Iterator[Exposure]:
    """What the identities of ``rows`` let a reader compute, by exact elimination for each pattern of shown columns."""
    if not rows.identities or not table.rows:
        return
    names = list(dict.fromkeys(name for identity in rows.identities for name in identity))
    held = [name for name in names if name in rows.columns]
    _check_shapes(table, held)
    coefficients = np.array([[identity.get(name, 0) for name in names] for identity in rows.identities], np.float64)
    masked = np.stack([masks[name] for name in held])
    codes = np.tensordot(1 << np.arange(len(held)), masked, axes=1)
    for code in np.unique(codes).tolist():
        cells = codes == code
        shown = {name for at, name in enumerate(held) if not code >> at & 1}
        for name, weights in _determined(coefficients, names, shown):
            shares = -(weights @ coefficients)
            used = [at for at, other in enumerate(names) if other in shown and abs(shares[at]) > _ROUNDING]
            if used:
                values = np.sum([shares[at] * table.floats(names[at]) for at in used], axis=0)
                yield Exposure(name, cells, values, name in rows.columns, names[used[0]])


def _check_shapes(table: Table, names: list[str]) -> None:
    if len({table[name].shape for name in names}) > 1:
        raise Invalid("the columns of an identity differ in shape.", where=", ".join(names))


def _determined(
    coefficients: NDArray[np.float64], names: list[str], shown: set[str]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Unknown names that the shown ones determine, with the combination of identities that isolates each."""
    unknown = [at for at, name in enumerate(names) if name not in shown]
    if not unknown:
        return
    part = coefficients[:, unknown]
    inverse = np.linalg.pinv(part)
    for place, at in enumerate(unknown):
        aim = np.zeros(len(unknown))
        aim[place] = 1.0
        weights = aim @ inverse
        if np.allclose(weights @ part, aim, atol=_ROUNDING):
            yield names[at], weights


def without_exposures(table: Table, rows: Rows, masks: Masks, k: int) -> dict[str, Mask]:
    """The masks, widened until nothing withheld and no unseen people fewer than ``k`` can be computed from a row."""
    out = followers(table, rows, masks)
    found = True
    while found:
        found = False
        for exposed in exposures(table, rows, out):
            bad = exposed.cells if exposed.hidden else exposed.cells & (exposed.values < k - 0.5)
            if bad.any():
                out[exposed.blamed] = out[exposed.blamed] | bad
                out = followers(table, rows, out)
                found = True
                break
    return out


def broken_identity(table: Table, rows: Rows) -> str:
    """The first column of an identity that does not hold where all of its columns are shown; empty if all hold."""
    for identity in rows.identities:
        if any(name not in rows.columns for name in identity):
            continue
        _check_shapes(table, list(identity))
        shown = ~np.logical_or.reduce([mask_of(table, name) for name in identity])
        total = np.sum([weight * table.ints(name) for name, weight in identity.items()], axis=0)
        if np.any(shown & (total != 0)):
            return next(iter(identity))
    return ""
