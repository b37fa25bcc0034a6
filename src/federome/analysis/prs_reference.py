"""``prs-reference``: a polygenic score's mean, spread and histogram, nation by nation: what one person is read against.

Three gated sums over people. Histograms have fixed bins, because those add up exactly over nodes; quantile sketches do
not. Bins lie in standard deviations from each group's own mean, so that one set of bounds serves every score.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from federome.analysis import prs_scores
from federome.analysis.algorithm import DONE, Algorithm, Block, Finished, Reads, State, Table, View, algorithm
from federome.analysis.prs_scores import (
    CONSTANT,
    Populations,
    bin_of,
    by_group,
    edges,
    group_names,
    groups_of,
    located,
    moments_of,
    placed,
)
from federome.analysis.prs_scores import Column as ScoreColumn
from federome.model.cohort import Cohort
from federome.model.release import Count, Label, Number, Round, Rows, Statistic
from federome.model.table import Column, Mask
from federome.model.wording import narrowed

EVERYBODY = Cohort()
_PEOPLE, _GUARDED = Count(people=True), Number(guard="people")


@algorithm("prs-reference", "1.0")
@dataclass(frozen=True, kw_only=True)
class PrsReference(Algorithm):
    """Mean, standard deviation and histogram of a score in each population, or among everybody.

    ``score`` is a column that every node has computed. ``populations`` names the groups (nodes must agree on them);
    without, there is one group. ``bins`` of the histogram lie between ``-span`` and ``span`` standard deviations from
    the group's mean, the two outermost are open.
    """

    score: ScoreColumn
    cohort: Cohort = EVERYBODY
    populations: Populations = ()
    bins: Annotated[int, msgspec.Meta(ge=4, le=200)] = 26
    span: Annotated[float, msgspec.Meta(gt=0.5, le=4)] = 2.4

    modules: ClassVar[tuple[str, ...]] = prs_scores.modules()
    rounds: ClassVar[tuple[Round, ...]] = (
        Round(
            "mean", scope="people", totals=Rows({"people": _PEOPLE, "sum": _GUARDED, "square": _GUARDED}), gated=True
        ),
        Round("spread", scope="people", totals=Rows({"people": _PEOPLE, "squares": _GUARDED}), gated=True),
        Round("bins", scope="people", totals=Rows({"people": _PEOPLE}, total=True), gated=True),
    )
    broadcasts: ClassVar[frozenset[str]] = frozenset({"mean", "unit", "sd"})
    releases: ClassVar[Mapping[str, Rows]] = {
        "groups": Rows(
            {
                "population": Label(),
                "people": Count(people=True),
                "mean": Statistic(guard="people"),
                "sd": Statistic(guard="people"),
            },
            key=("population",),
            release_class="summary-statistics",
        ),
        "histogram": Rows(
            {"population": Label(), "low": Label(), "high": Label(), "people": Count(people=True)},
            key=("population", "low"),
        ),
    }

    def __post_init__(self) -> None:
        prs_scores.check_groups(self.score, self.populations)

    @property
    def reads(self) -> Reads:
        return Reads(columns=(self.score, *(("population",) if self.populations else ())))

    @property
    def _size(self) -> int:
        return len(group_names(self.populations))

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        values = view.numbers(self.score)
        known = np.isfinite(values)
        group = groups_of(view, self.populations, known)
        people = np.bincount(group[group >= 0], minlength=self._size)
        values = np.where(known, values, 0.0)
        if state.round == "mean":
            total, square = moments_of(group, values[:, None], self._size)
            return Table({"people": people, "sum": total, "square": square})
        centred = np.where(group >= 0, values - state.shared.floats("mean")[group], 0.0)
        if state.round == "spread":
            scaled = centred / state.shared.floats("unit")[group]
            return Table({"people": people, "squares": by_group(group, scaled**2, self._size)})
        counts = np.zeros((1 + self.bins, self._size), np.int64)
        counts[0] = people
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.nan_to_num(centred / state.shared.floats("sd")[group])
        inside = group >= 0
        np.add.at(counts, (1 + bin_of(z[inside], edges(self.bins, self.span)), group[inside]), 1)
        return Table({"people": counts})

    def analysed(self, view: View) -> Iterator[Mask]:
        """Those of all populations who have a score."""
        yield groups_of(view, self.populations, np.isfinite(view.numbers(self.score))) >= 0

    def told_of(self, view: View) -> Iterator[Mask]:
        """The people of each population."""
        if self.populations:
            group = groups_of(view, self.populations, np.isfinite(view.numbers(self.score)))
            yield from (group == at for at in range(-1, self._size))

    def told_as(self) -> Iterator[tuple[Cohort | None, str]]:
        """Who has the score and each population, and those who lack either."""
        yield self.cohort, f"no {self.score} or none of {sorted(self.populations)}"
        for population in self.populations:
            yield narrowed(self.cohort, population=population, known=self.score), ""

    def step(self, state: State, total: Table) -> State:
        if state.round == "mean":
            people, hidden = placed(total, "people", self._size)
            sums, squares = (np.asarray(placed(total, name, self._size)[0], np.float64) for name in ("sum", "square"))
            mean, unit = (each[:, 0] for each in located(sums, squares, np.maximum(people, 1)))
            hidden |= unit == 0
            shared = {"mean": np.where(hidden, 0.0, mean), "unit": np.where(hidden, 1.0, unit)}
            return state.to("spread", shared=Table(shared))
        if state.round == "spread":
            people, hidden = placed(total, "people", self._size)
            variance = placed(total, "squares", self._size)[0] / np.maximum(people - 1, 1)
            known = ~hidden & (people > 1) & (variance > CONSTANT)
            sd = np.where(known, state.shared.floats("unit") * np.sqrt(variance), 0.0)
            kept = Table({"people": people, "hidden": hidden})
            return state.to("bins", shared=state.shared.with_column("sd", sd), kept=kept)
        counts, hidden = placed(total, "people", 1 + self.bins)
        return state.to(DONE, kept=Table({"people": counts, "hidden": hidden}))

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        assert state.kept is not None
        counts, hidden = state.kept.ints("people"), state.kept["hidden"].astype(np.bool_)
        gone = hidden[0]
        names = np.array(group_names(self.populations), np.str_)
        bounds = edges(self.bins, self.span)
        groups: dict[str, Column] = {
            "population": names,
            "people": np.where(gone, 0, counts[0]),
            "mean": np.where(gone, 0.0, state.shared.floats("mean")),
            "sd": np.where(gone, 0.0, state.shared.floats("sd")),
        }
        masks = dict.fromkeys(("people", "mean", "sd"), gone)
        bins: dict[str, Column] = {
            "population": np.repeat(names, self.bins),
            "low": np.tile(bounds[:-1], self._size),
            "high": np.tile(bounds[1:], self._size),
            "people": np.where(hidden[1:], 0, counts[1:]).T.ravel(),
        }
        shown = {"people": hidden[1:].T.ravel()}
        return {"groups": Table(groups, masks), "histogram": Table(bins, shown)}
