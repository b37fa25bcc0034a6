"""``field-agreement``: whether a measurement means the same in every population, by octaves of its value.

One gated sum: people by population and by the power of two below their value. Units that are taken for one another are
a factor of two to forty apart (mg/dL and mmol/L of cholesterol 38.7, per cent and mmol/mol of HbA1c about 7), so an
octave is fine enough to see them and coarse enough that few cells are small. Where the label of the population is that
of one node, a node that sends another unit, or another thing under the same name, stands out by its median.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import DONE, Algorithm, Block, Finished, Reads, State, Table, View, algorithm
from federome.analysis.cohort_count import EVERYBODY, Population, check_populations, label_codes
from federome.model.cohort import Cohort
from federome.model.release import Count, Label, Round, Rows, Statistic
from federome.model.table import Mask

LOWEST: Final = -10
HIGHEST: Final = 14
_BINS: Final = HIGHEST - LOWEST + 1


@algorithm("field-agreement", "1.0")
@dataclass(frozen=True, kw_only=True)
class FieldAgreement(Algorithm):
    """How the values of ``field`` lie in each of ``populations``, and how far each is from all the others.

    ``times`` is the median of a population over the middle one of all medians, which one node in another unit cannot
    move. Between populations of one kind it stays between 0.5 and 2; beyond, somebody should look at the unit before
    anybody uses the field. Of two populations that disagree both stand out. Values at or below zero are not counted.
    """

    field: Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
    populations: Annotated[tuple[Population, ...], msgspec.Meta(min_length=2, max_length=200)]
    cohort: Cohort = EVERYBODY

    rounds: ClassVar[tuple[Round, ...]] = (
        Round("count", scope="people", totals=Rows({"people": Count(people=True)}), gated=True),
    )
    releases: ClassVar[Mapping[str, Rows]] = {
        "distribution": Rows(
            {"population": Label(), "low": Label(), "people": Count(people=True)}, key=("population", "low")
        ),
        "agreement": Rows(
            {"population": Label(), "median": Statistic(digits=2), "times": Statistic(digits=2)}, key=("population",)
        ),
    }

    def __post_init__(self) -> None:
        check_populations(self.populations, wanted=True)

    @property
    def reads(self) -> Reads:
        return Reads(columns=(self.field, "population"))

    def _cells(self, view: View) -> NDArray[np.int64]:
        """Each person's cell, population by octave; -1 for whoever has no value or no listed population."""
        values = view.numbers(self.field)
        with np.errstate(divide="ignore", invalid="ignore"):
            octave = np.floor(np.log2(values))
        octave = np.clip(np.where(np.isfinite(octave), octave, LOWEST), LOWEST, HIGHEST).astype(np.int64) - LOWEST
        group = label_codes(view.labels("population"), self.populations)
        return np.where((group >= 0) & (values > 0), group * _BINS + octave, -1)

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        """One row per population and octave: people (rows,)."""
        cells = self._cells(view)
        return Table({"people": np.bincount(cells[cells >= 0], minlength=len(self.populations) * _BINS)})

    def told_of(self, view: View) -> Iterator[Mask]:
        """The people of each cell."""
        cells = self._cells(view)
        yield from (cells == at for at in np.unique(cells[cells >= 0]))

    def step(self, state: State, total: Table) -> State:
        return state.to(DONE, kept=total)

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        """Cells that passed with anybody in them, and what follows of these alone."""
        assert state.kept is not None
        people = np.zeros(len(self.populations) * _BINS, np.int64)
        hidden = state.kept.withheld.get("people", np.zeros(state.kept.rows, np.bool_))
        people[state.kept.ints("row")[~hidden]] = state.kept.ints("people")[~hidden]
        held = people.reshape(len(self.populations), _BINS)
        told = np.flatnonzero(people)
        names = np.array(self.populations, np.str_)
        lows = np.array([f"{2.0**power:g}" for power in range(LOWEST, HIGHEST + 1)], np.str_)
        some = np.flatnonzero(held.any(axis=1))
        medians = np.array([median(held[at]) for at in some])
        middle = np.exp2(np.median(np.log2(medians))) if len(some) else np.nan
        return {
            "distribution": Table(
                {"population": names[told // _BINS], "low": lows[told % _BINS], "people": people[told]}
            ),
            "agreement": Table({"population": names[some], "median": medians, "times": medians / middle}),
        }


def median(counts: NDArray[np.int64]) -> float:
    """The median of values of which only the octaves are known, spread evenly within each; NaN for nobody."""
    total = counts.sum()
    if not total:
        return float("nan")
    reached = np.cumsum(counts)
    at = int(np.searchsorted(reached, total / 2))
    inside = (total / 2 - (reached[at] - counts[at])) / counts[at]
    return float(2.0 ** (LOWEST + at + inside))
