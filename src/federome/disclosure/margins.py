"""Complementary suppression: a withheld cell of a table with totals must not follow from the cells that are shown.

A line is a total and the rows that add up to it. In every line either nothing is withheld, or at least two cells
whose sum is no fewer than the threshold; where several lines meet, a linear program finds how narrowly they bound a
withheld cell together (the attacker's program of Fischetti & Salazar 2001).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.errors import Refused
from federome.model.release import ALL, Label, Rows
from federome.model.table import Mask, Table

MAX_AUDITED: Final = 100
"""Withheld cells tied together by several totals, beyond which a table is refused: each costs two linear programs."""
_ROUNDING: Final = 1e-7


@dataclass(frozen=True)
class Line:
    """Row ``total`` is the sum of ``parts``. −1: this table does not show the total, but another question may."""

    total: int
    parts: tuple[int, ...]

    @property
    def members(self) -> tuple[int, ...]:
        """All rows of this table that the line ties together."""
        return self.parts if self.total < 0 else (*self.parts, self.total)


def lines_of(table: Table, rows: Rows) -> list[Line]:
    """The lines of a table: by its first row if ``rows`` says so, else by rows labelled ``ALL``.

    Of a cross table every margin counts, also one that is not in this table, since the same people may be counted by
    one dimension in the next question: a withheld cell is never alone in its row or column.
    """
    if rows.total:
        return [Line(0, tuple(range(1, table.rows)))] if table.rows > 1 else []
    labels = [table[name].tolist() for name, rule in rows.columns.items() if _splits(table, name, rule)]
    return list(_crossed(list(zip(*labels, strict=True)))) if labels else []


def _splits(table: Table, name: str, rule: object) -> bool:
    """Whether a column's labels tell a total from its parts."""
    if not isinstance(rule, Label) or table[name].dtype.kind != "U" or table[name].ndim != 1:
        return False
    totals = table[name] == ALL
    return bool(totals.any() and not totals.all())


def _crossed(labels: Sequence[tuple[str, ...]]) -> Iterator[Line]:
    """For each set of dimensions, the rows that agree on the others add up to the row labelled ``ALL`` on these."""
    place = {label: row for row, label in enumerate(labels)}
    dimensions = range(len(labels[0])) if labels else range(0)
    for size in range(1, len(dimensions) + 1):
        for summed in combinations(dimensions, size):
            groups: dict[tuple[str, ...], list[int]] = {}
            for row, label in enumerate(labels):
                if all(label[at] != ALL for at in summed):
                    margin = tuple(ALL if at in summed else text for at, text in enumerate(label))
                    groups.setdefault(margin, []).append(row)
            for margin, parts in groups.items():
                total = place.get(margin, -1)
                if total >= 0 or len(parts) > 1:
                    yield Line(total, tuple(parts))


def closed(values: NDArray[np.int64], hidden: Mask, lines: Sequence[Line], k: int) -> Mask:
    """``hidden`` (rows,) with as many cells more as it takes. Values of hidden cells are not looked at.

    What is added is the next cell in the order of the table, never the smallest: that would say how large the others
    at least are. Raises ``Refused`` (``small_cell``) where a table is too large and too thin to be looked through.
    """
    out = hidden.copy()
    if not lines or not out.any():
        return out
    while True:
        before = out.copy()
        for line in lines:
            _close(values, out, line, k)
        if (out == before).all() and not _widen(values, out, lines, k):
            return out


def _close(values: NDArray[np.int64], hidden: Mask, line: Line, k: int) -> None:
    """Withhold further cells of a line until none of its withheld cells, nor their sum, tells of fewer than ``k``."""
    while True:
        members = np.array(line.members)
        count = int(hidden[members].sum())
        if count == 0:
            return
        known = line.total >= 0 and not hidden[line.total]
        if count > 1 and not (known and remainder(values, hidden, line) < k):
            return
        more = _next(hidden, line)
        if more < 0:
            return
        hidden[more] = True


def remainder(values: NDArray[np.int64], hidden: Mask, line: Line) -> int:
    """What the withheld parts of a line add up to, by its total."""
    parts = np.array(line.parts)
    return int(values[line.total] - values[parts][~hidden[parts]].sum())


def _next(hidden: Mask, line: Line) -> int:
    """The first part after a withheld one that is shown; the total where no part is left; −1 for none."""
    parts = list(line.parts)
    start = next((at for at, row in enumerate(parts) if hidden[row]), 0)
    for row in parts[start:] + parts[:start]:
        if not hidden[row]:
            return row
    return line.total if line.total >= 0 and not hidden[line.total] else -1


def _widen(values: NDArray[np.int64], hidden: Mask, lines: Sequence[Line], k: int) -> bool:
    """Withhold one more cell where lines together give a withheld one away, exactly or nearly.

    Only totals of this table count here: in the next question the totals that matter will be withheld in their turn.
    """
    for cells, tied in _components(hidden, [line for line in lines if line.total >= 0]):
        if len(tied) < 2:
            continue
        for cell in _exposed(values, hidden, cells, tied, k):
            for line in (line for line in tied if cell in line.members):
                more = _next(hidden, line)
                if more >= 0:
                    hidden[more] = True
                    return True
    return False


def _components(hidden: Mask, lines: Sequence[Line]) -> Iterator[tuple[list[int], list[Line]]]:
    """Withheld cells that lines tie together, with these lines."""
    left = [(line, {row for row in line.members if hidden[row]}) for line in lines]
    left = [(line, rows) for line, rows in left if rows]
    while left:
        line, cells = left.pop()
        tied, grown = [line], True
        while grown:
            near = [(other, rows) for other, rows in left if rows & cells]
            left = [(other, rows) for other, rows in left if not rows & cells]
            grown = bool(near)
            for other, rows in near:
                tied.append(other)
                cells = cells | rows
        yield sorted(cells), tied


def _exposed(values: NDArray[np.int64], hidden: Mask, cells: list[int], lines: list[Line], k: int) -> Iterator[int]:
    """Withheld cells for which the lines leave fewer than ``k`` values, all cells being zero or more."""
    if len(cells) > MAX_AUDITED:
        raise Refused(
            "a table has too many withheld cells that hang together.",
            codes=["small_cell"],
            remedy="Ask for fewer or broader strata.",
        )
    from scipy.optimize import linprog  # half a second to load, and most processes never come here

    place = {row: at for at, row in enumerate(cells)}
    system = np.zeros((len(lines), len(cells)))
    known = np.zeros(len(lines))
    for at, line in enumerate(lines):
        for row, sign in [*((row, 1) for row in line.parts), (line.total, -1)]:
            if hidden[row]:
                system[at, place[row]] = sign
            else:
                known[at] -= sign * values[row]
    for at, cell in enumerate(cells):
        cost = np.zeros(len(cells))
        cost[at] = 1.0
        ends = [linprog(sign * cost, A_eq=system, b_eq=known, method="highs") for sign in (1.0, -1.0)]
        if all(end.status == 0 for end in ends) and -sum(float(end.fun or 0.0) for end in ends) < k - 1 - _ROUNDING:
            yield cell
