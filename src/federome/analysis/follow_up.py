"""Times of follow-up on a common grid, so that no sum over a risk set gives a few people away.

Risk sets at consecutive event times differ by one person, and so would sums over them. Therefore times are coarsened
first: per stratum and per kind of mark (event, competing event, censoring, late entry, switch of a treatment) the
time axis is cut into blocks that each hold enough people of all nodes together, and a time is replaced by what stands
for its block. Blocks are found by halving: a block is cut at its pooled mean, and both halves must pass the gate in
every group, else the block stays whole for good (a second try at another place would tell the difference of both).
Hence any two risk sets differ by nobody or by enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import Table, View
from federome.analysis.regression import Floats
from federome.errors import Invalid
from federome.model.release import Count, Number, Rows
from federome.model.table import Column, Mask

Ints = NDArray[np.int64]

KINDS = EVENT, COMPETING, CENSORED = range(3)
FIRST, LAST = -1.0, 1e300
"""Ends of the time axis before anything is cut; times are 0 or more."""
_DIGITS = 9
_TIMES = Number(bound=2.0**48, guard="whole")

START = Rows({"incomplete": Count(people=True), "whole": Count(people=True), "times": _TIMES})
"""Totals of the first round: people per tree and group, and the sums of their times."""
HALVES = Rows(
    {
        "left": Count(people=True),
        "right": Count(people=True),
        "left_times": Number(bound=2.0**48, guard="left"),
        "right_times": Number(bound=2.0**48, guard="right"),
    },
)
"""Totals of a halving round: people left and right of each proposed cut, and the sums of their times."""
BROADCASTS = frozenset({"tree", "low", "high", "mean", "count", "open", "level", "incomplete"})


@dataclass(frozen=True, eq=False)
class Marks:
    """Marks on the time axis at one node, each (m,): of whom, in which tree of blocks and group of it, and when."""

    person: Ints
    tree: Ints
    group: Ints
    time: Floats

    @classmethod
    def joined(cls, parts: list[Marks]) -> Marks:
        """All marks of several lists."""
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("person", "tree", "group", "time")))

    def start(self, incomplete: int, *, trees: int, groups: int) -> Table:
        """This node's part of the first round."""
        cell = self.tree * groups + self.group
        whole = np.bincount(cell, minlength=trees * groups)
        times = np.bincount(cell, self.time, minlength=trees * groups).astype(np.float64)  # whole if there are none
        return Table({"incomplete": np.array([incomplete]), "whole": whole[None], "times": times[None]})


@dataclass(frozen=True, eq=False)
class Grid:
    """Blocks of the time axis, by tree and time: B blocks, G groups that share them.

    ``tree``, ``low``, ``high``, ``mean`` and ``open`` are (B,), ``count`` (B, G). A block holds times above ``low``
    up to ``high``. A group without enough people in a tree has a count of 0 there: its marks stand aside.
    """

    tree: Ints
    low: Floats
    high: Floats
    mean: Floats
    count: Ints
    open: Mask

    @classmethod
    def whole(cls, total: Table, *, trees: int, groups: int, least: int) -> Grid:
        """One block per tree, from the gated total of the first round."""
        count = total.ints("whole").reshape(trees, groups)
        hidden = _hidden(total, "whole").reshape(trees, groups) | (count < least)
        times = np.where(hidden, 0.0, total.floats("times").reshape(trees, groups)).sum(axis=1)
        count = np.where(hidden, 0, count)
        kept = np.flatnonzero(count.sum(axis=1))
        return cls(
            tree=kept.astype(np.int64),
            low=np.full(len(kept), FIRST),
            high=np.full(len(kept), LAST),
            mean=rounded(times[kept] / count[kept].sum(axis=1)),
            count=count[kept],
            open=np.ones(len(kept), np.bool_),
        )

    @classmethod
    def read(cls, shared: Table) -> Grid:
        """As a state holds it; the inverse of :meth:`columns`."""
        tree = shared.ints("tree")[0]
        low, high, mean = (shared.floats(name)[0] for name in ("low", "high", "mean"))
        return cls(tree, low, high, mean, shared.ints("count").reshape(len(tree), -1), shared.ints("open")[0] > 0)

    def columns(self) -> dict[str, Column]:
        """One row for a state."""
        return {
            "tree": self.tree[None],
            "low": self.low[None],
            "high": self.high[None],
            "mean": self.mean[None],
            "count": self.count.reshape(1, -1),
            "open": self.open.astype(np.int64)[None],
        }

    def place(self, marks: Marks) -> Ints:
        """Each mark's block, −1 where its group stands aside in its tree."""
        out = np.full(len(marks.time), -1, np.int64)
        for tree in np.unique(self.tree):
            blocks = self.of(int(tree))
            mine = np.flatnonzero(marks.tree == tree)
            out[mine] = blocks[np.searchsorted(self.high[blocks], marks.time[mine], side="left")]
        if not len(self.tree):
            return out
        return np.where(self.count[out, marks.group] == 0, -1, out)

    def halves(self, marks: Marks) -> Table:
        """This node's part of a halving round: (1, open blocks · groups) each."""
        groups = self.count.shape[1]
        block = self.place(marks)
        number = np.cumsum(self.open) - 1
        inside = (block >= 0) & self.open[block]
        block, group, time = block[inside], marks.group[inside], marks.time[inside]
        cell = number[block] * groups + group
        left = time <= self.mean[block]
        size = int(self.open.sum()) * groups
        told: dict[str, Column] = {}
        for name, side in (("left", left), ("right", ~left)):
            told[name] = np.bincount(cell[side], minlength=size)[None]
        for name, side in (("left_times", left), ("right_times", ~left)):
            told[name] = np.bincount(cell[side], time[side], minlength=size)[None].astype(np.float64)
        return Table(told)

    def halved(self, total: Table, least: int) -> Grid:
        """The finer grid: cut where both halves hold enough people of every group that has any; closed elsewhere."""
        groups = self.count.shape[1]
        parent = np.flatnonzero(self.open)
        live = self.count[parent] > 0
        sides = []
        passed = np.ones(len(parent), np.bool_)
        for name in ("left", "right"):
            count = total.ints(name).reshape(-1, groups)
            fine = ~_hidden(total, name).reshape(-1, groups) & (count >= least)
            passed &= (fine | ~live).all(axis=1)
            count = np.where(live & fine, count, 0)
            times = np.where(live & fine, total.floats(f"{name}_times").reshape(-1, groups), 0.0).sum(axis=1)
            sides.append((count, times))
        cut = parent[passed]
        stays = np.ones(len(self.tree), np.bool_)
        stays[cut] = False
        closed = np.zeros(int(stays.sum()), np.bool_)
        kept = (self.tree[stays], self.low[stays], self.high[stays], self.mean[stays], self.count[stays])
        parts = [Grid(*kept, closed)]
        for (count, times), edges in zip(sides, ((self.low, self.mean), (self.mean, self.high)), strict=True):
            mean = rounded(times[passed] / count[passed].sum(axis=1))
            opened = np.ones(len(cut), np.bool_)
            parts.append(Grid(self.tree[cut], edges[0][cut], edges[1][cut], mean, count[passed], opened))
        names = ("tree", "low", "high", "mean", "count", "open")
        merged = Grid(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))
        order = np.lexsort((merged.high, merged.tree))
        return Grid(*(getattr(merged, name)[order] for name in names))

    def of(self, *trees: int) -> Ints:
        """Numbers of the blocks of some trees, tree by tree and in order of time."""
        return np.flatnonzero(np.isin(self.tree, trees))


def _hidden(total: Table, name: str) -> Mask:
    return total.withheld.get(name, np.zeros(total[name].shape, np.bool_))


def rounded(values: Floats) -> Floats:
    """To nine digits: sums over nodes differ in their last bits with the order of nodes, places of cuts must not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        power = 10.0 ** (_DIGITS - 1 - np.floor(np.log10(np.abs(values))))
    return np.where(values == 0, 0.0, np.round(values * np.where(values == 0, 1.0, power)) / power)


def times_of(view: View, name: str) -> Floats:
    """A column of times, NaN where unknown; ``Invalid`` where one is negative or infinite."""
    values = view.numbers(name)
    if np.any(values < 0) or np.any(np.isinf(values)):
        raise Invalid(
            f"{name!r} holds negative or infinite times.",
            where=name,
            remedy="Times run from 0, the start of follow-up. Correct the data, or leave these people out by a cohort.",
        )
    return values


def kinds_of(view: View, name: str, cause: int) -> Floats:
    """Codes of :data:`KINDS` as floats, NaN where unknown, from a 0/1 column, or from causes where one is asked for.

    With a ``cause``, people who end by another one are competing events.
    """
    values = view.numbers(name)
    known = np.isfinite(values)
    whole = values[known] == np.floor(values[known])
    if not whole.all() or np.any(values[known] < 0) or (not cause and np.any(values[known] > 1)):
        raise Invalid(
            f"{name!r} holds other values than {'0 and 1' if not cause else '0, 1, 2, …'}.",
            where=name,
            remedy="0: censored, 1: event. Of several causes of an end (1, 2, …), name the one asked for as `cause`.",
        )
    wanted = cause or 1
    kinds = np.select([values == 0, values == wanted], [CENSORED, EVENT], COMPETING).astype(np.float64)
    return np.where(known, kinds, np.nan)


def aside(total: Table) -> Table:
    """How many people are incomplete, from the first round's gated total; nothing under a withheld cell."""
    hidden = _hidden(total, "incomplete")
    return Table({"incomplete": np.where(hidden, 0, total.ints("incomplete"))}, {"incomplete": hidden})


def need(counts: Mapping[str, int]) -> None:
    """``Invalid`` where one of the counts is 0: nobody, or fewer than the threshold."""
    for what, count in counts.items():
        if not count:
            raise Invalid(
                f"there are too few {what} among those who take part.",
                where="event",
                remedy="Widen the cohort, or ask about fewer groups.",
            )
