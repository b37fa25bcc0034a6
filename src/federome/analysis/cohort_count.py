"""How many people meet criteria, in all and by sex, age band and population: the simplest approved algorithm.

One gated sum over people. Cells and the total are both of use, so ``finish`` sees to it that what the total tells
about withheld cells is never less than a cell that passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import DONE, Algorithm, Block, Finished, Reads, State, Table, View, algorithm
from federome.errors import Invalid
from federome.model.cohort import AgeBand, Cohort
from federome.model.release import Count, Label, Round, Rows
from federome.model.table import Column, Mask
from federome.model.wording import narrowed

Dimension = Literal["sex", "age_band", "population"]
Population = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
EVERYBODY = Cohort()
SEXES = ("female", "male")
ELDEST = 90  # the last, open age band begins here or, if bands do not fit, before
_COLUMNS: Mapping[Dimension, str] = {"sex": "male", "age_band": "age", "population": "population"}


@algorithm("cohort-count", "1.0")
@dataclass(frozen=True, kw_only=True)
class CohortCount(Algorithm):
    """People of a cohort: the total, and the cells of a table over ``by``.

    ``populations`` names the populations that get a cell (all nodes must list the same), ``band_years`` is the width
    of the age bands, of which the last is open. Everybody else, and whoever's sex, age or population is unknown, is
    counted as ``other``, so that the cells always add up to the total.
    """

    cohort: Cohort = EVERYBODY
    by: tuple[Dimension, ...] = ()
    populations: Annotated[tuple[Population, ...], msgspec.Meta(max_length=200)] = ()
    band_years: Annotated[int, msgspec.Meta(ge=1, le=ELDEST)] = 10

    rounds: ClassVar[tuple[Round, ...]] = (
        Round("count", scope="people", totals=Rows({"people": Count(people=True)}), gated=True),
    )
    releases: ClassVar[Mapping[str, Rows]] = {
        "counts": Rows(
            {"sex": Label(), "age_band": Label(), "population": Label(), "people": Count(people=True)},
            key=("sex", "age_band", "population"),
        )
    }

    def __post_init__(self) -> None:
        if len(set(self.by)) != len(self.by):
            raise Invalid("a dimension is named twice.", where="by")
        check_populations(self.populations, wanted="population" in self.by)

    @property
    def reads(self) -> Reads:
        return Reads(columns=tuple(_COLUMNS[name] for name in self.by))

    def _categories(self, name: Dimension) -> tuple[str, ...]:
        if name not in self.by:
            return ("all",)
        if name == "sex":
            return SEXES
        if name == "population":
            return self.populations
        lows = range(0, ELDEST - self.band_years + 1, self.band_years)
        last = lows[-1] + self.band_years
        return (*(f"{low}-{low + self.band_years - 1}" for low in lows), f"{last}+")

    def _cells(self) -> list[tuple[str, ...]]:
        """Labels (sex, age band, population) of the rows: the total, the cells, and everybody else."""
        if not self.by:
            return [("all", "all", "all")]
        cells = list(product(*(self._categories(name) for name in _COLUMNS)))
        other = tuple("other" if name in self.by else "all" for name in _COLUMNS)
        return [("all", "all", "all"), *cells, other]

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        """One row per cell: people (rows,)."""
        if not self.by:
            return Table({"people": np.array([view.people])})
        cell, cells = self._placed(view)
        inside = np.bincount(cell[cell >= 0], minlength=cells)
        return Table({"people": np.concatenate([[view.people], inside, [np.count_nonzero(cell < 0)]])})

    def told_of(self, view: View) -> Iterator[Mask]:
        """The people of each cell, and those of none."""
        if self.by:
            cell, cells = self._placed(view)
            yield from (cell == at for at in range(-1, cells))

    def told_as(self) -> Iterator[tuple[Cohort | None, str]]:
        """The cohort with the cell's conditions; those of no cell are what is left by these categories."""
        if self.by:
            yield self.cohort, f"none of {sorted(self.by)} {sorted(self.populations)}"
        for sex, band, population in self._cells()[1:-1]:
            low, _, high = band.removesuffix("+").partition("-")
            cell = narrowed(
                self.cohort,
                sex="" if sex == "all" else sex,
                age=None if band == "all" else AgeBand(int(low), int(high or 130)),
                population="" if population == "all" else population,
            )
            yield cell, ""

    def places(self, view: View) -> NDArray[np.int64]:
        """Cells follow the total, and those of none come last."""
        if not self.by:
            return np.zeros(view.people, np.int64)
        cell, cells = self._placed(view)
        return np.where(cell < 0, cells, cell) + 1

    def _placed(self, view: View) -> tuple[NDArray[np.int64], int]:
        """Each person's cell, -1 where a category is unknown, and the number of cells."""
        cell = np.zeros(view.people, np.int64)
        known = np.ones(view.people, np.bool_)
        cells = 1
        for name in _COLUMNS:
            size = len(self._categories(name))
            code = self._codes(view, name)
            cell, known, cells = cell * size + code, known & (code >= 0), cells * size
        return np.where(known, cell, -1), cells

    def _codes(self, view: View, name: Dimension) -> NDArray[np.int64]:
        """Each person's category, -1 where it has none."""
        if name not in self.by:
            return np.zeros(view.people, np.int64)
        if name == "sex":
            return sex_codes(view)
        if name == "population":
            return label_codes(view.labels("population"), self.populations)
        age = view.numbers("age")
        band = np.minimum(np.nan_to_num(age) // self.band_years, len(self._categories(name)) - 1)
        return np.where(age >= 0, band, -1).astype(np.int64)

    def step(self, state: State, total: Table) -> State:
        return state.to(DONE, kept=total)

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        assert state.kept is not None
        cells = self._cells()
        people, hidden = np.zeros(len(cells), np.int64), np.ones(len(cells), np.bool_)
        row, passed = state.kept.ints("row"), state.kept.ints("people")
        hidden[row] = state.kept.withheld.get("people", np.zeros(len(row), np.bool_))
        people[row] = np.where(hidden[row], 0, passed)
        hidden = complement(people, hidden)
        labels = np.array(cells, np.str_).T
        columns: dict[str, Column] = {name: labels[at] for at, name in enumerate(_COLUMNS)}
        return {"counts": Table({**columns, "people": np.where(hidden, 0, people)}, {"people": hidden})}


def complement(people: NDArray[np.int64], hidden: Mask) -> Mask:
    """``hidden`` with one more cell where the total (row 0) would otherwise tell what the hidden cells add up to.

    The remainder, total minus shown cells, may be known only if it is as large as some cell that passed the gate:
    then it is not below the threshold either, whatever that is. Else the smallest cell shown is hidden too. Whether
    bounds on single cells remain too narrow is for the gate's own audit.
    """
    shown = ~hidden
    shown[0] = False
    if hidden[0] or not hidden.any() or not (people[shown] > 0).any():
        return hidden
    smallest = int(np.flatnonzero(shown & (people > 0))[np.argmin(people[shown & (people > 0)])])
    if people[0] - people[shown].sum() >= people[smallest]:
        return hidden
    out = hidden.copy()
    out[smallest] = True
    return out


def check_populations(populations: tuple[str, ...], *, wanted: bool) -> None:
    """``Invalid`` unless populations are listed, each once, exactly when the strata need them."""
    if wanted != bool(populations):
        raise Invalid(
            "populations are listed if and only if the answer is split by population.",
            where="populations",
            remedy="Name the populations that get a row of their own; nodes must agree on them.",
        )
    if len(set(populations)) != len(populations):
        raise Invalid("a population is listed twice.", where="populations")


def sex_codes(view: View) -> NDArray[np.int64]:
    """0 for women, 1 for men, -1 where unknown: places in ``SEXES``."""
    male = view.numbers("male")
    return np.where(np.isnan(male), -1, male).astype(np.int64)


def label_codes(values: NDArray[np.str_], wanted: tuple[str, ...]) -> NDArray[np.int64]:
    """Each value's place in ``wanted``, -1 if it is not there."""
    out = np.full(len(values), -1, np.int64)
    for place, label in enumerate(wanted):
        out[values == label] = place
    return out
