"""``prs-evaluate``: how well a score tells cases from controls, nation by nation: odds, discrimination, calibration.

Sums over people in turn: means; spread; a logistic regression by Newton's method; a gated histogram of the score
among cases and controls, from which the area under the curve and its interval are read; and gated counts by tenth of
the score. No bin of few people is opened to anybody: in rounds over people nodes see the totals too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

import msgspec
import numpy as np
from scipy import special

from federome.analysis import prs_scores
from federome.analysis.algorithm import DONE, Algorithm, Block, Finished, Reads, State, Table, View, algorithm
from federome.analysis.cohort_count import SEXES, sex_codes
from federome.analysis.covariates import Complete, columns_of, complete_in
from federome.analysis.logistic import CONVERGED, Newton, Sums, sums
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
from federome.analysis.regression import Floats, inverted, packed, unpacked
from federome.analysis.status import Status
from federome.errors import Invalid
from federome.model.cohort import Cohort
from federome.model.release import Count, Label, Number, Round, Rows, Statistic
from federome.model.table import Column, Mask
from federome.model.wording import narrowed

EVERYBODY = Cohort()
BINS: Final = 32
SPAN: Final = 2.4
"""The histogram behind the area under the curve: so many bins, all but the outermost between ± ``SPAN``."""
TENTHS: Final = 10
UNKNOWN: Final = -1.0
"""Stands for the standard error of an area that is not known."""
MOST_STEPS: Final = 40
_PEOPLE, _GUARDED = Count(people=True), Number(guard="cases")
_NUMBERS = Rows(dict.fromkeys(("loglik", "score", "information"), Number()), release_class="summary-statistics")


@algorithm("prs-evaluate", "1.0")
@dataclass(frozen=True, kw_only=True)
class PrsEvaluate(Algorithm):
    """Odds ratio per standard deviation, area under the curve and calibration of a score, by population and sex.

    Cases and controls come from a 0/1 column (``phenotype``), or a ``diagnosis``: people who have it or one of its
    descendants, and people known not to; or from criteria, those of a case definition: who meets ``cases`` and who
    meets ``controls``. The odds ratio is that of a logistic regression on the score in standard deviations of its group
    (cases and controls together) and on ``covariates`` (numeric columns, ``age`` and ``male`` among them), of people
    who have a value in the columns ``complete``, too. The area under the curve is that of the score alone, from 32
    bins, people in one bin counting as equal; its interval is DeLong's (1988). Calibration counts cases and controls by
    tenth of a normal distribution with the group's mean and spread, beside the cases that the regression expects.
    """

    score: ScoreColumn
    phenotype: Annotated[str, msgspec.Meta(max_length=63)] = ""
    diagnosis: Annotated[str, msgspec.Meta(max_length=40)] = ""
    cases: Cohort | None = None
    controls: Cohort | None = None
    covariates: Annotated[tuple[ScoreColumn, ...], msgspec.Meta(max_length=20)] = ()
    complete: Complete = ()
    populations: Populations = ()
    by: Literal["", "sex"] = ""
    cohort: Cohort = EVERYBODY

    modules: ClassVar[tuple[str, ...]] = (
        *prs_scores.modules(),
        "federome.analysis.covariates",
        "federome.analysis.logistic",
        "federome.analysis.status",
    )
    rounds: ClassVar[tuple[Round, ...]] = (
        Round(
            "means",
            scope="people",
            totals=Rows({"cases": _PEOPLE, "controls": _PEOPLE, "sums": _GUARDED, "squares": _GUARDED}),
            gated=True,
        ),
        Round("spread", scope="people", totals=Rows({"squares": Number()}, release_class="summary-statistics")),
        Round("model", scope="people", totals=_NUMBERS),
        Round("curve", scope="people", totals=Rows({"cases": _PEOPLE, "controls": _PEOPLE}, total=True), gated=True),
        Round(
            "tenths",
            scope="people",
            totals=Rows({"cases": _PEOPLE, "controls": _PEOPLE, "expected": Number(guard="cases")}, total=True),
            gated=True,
        ),
    )
    broadcasts: ClassVar[frozenset[str]] = frozenset(
        {
            "mean",
            "sd",
            "trial",
            "base",
            "level",
            "information",
            "tries",
            "done",
            "fitted",
            "cases",
            "controls",
            "hidden",
            "auc",
            "auc_se",
        }
    )
    releases: ClassVar[Mapping[str, Rows]] = {
        "groups": Rows(
            {
                "population": Label(),
                "sex": Label(),
                "cases": _PEOPLE,
                "controls": _PEOPLE,
                **dict.fromkeys(
                    ("odds_ratio", "odds_low", "odds_high", "log_odds", "log_odds_se", "auc", "auc_low", "auc_high"),
                    Statistic(guard="cases"),
                ),
            },
            key=("population", "sex"),
            release_class="summary-statistics",
        ),
        "calibration": Rows(
            {
                "population": Label(),
                "sex": Label(),
                "tenth": Label(),
                "cases": _PEOPLE,
                "controls": _PEOPLE,
                "expected": Statistic(guard="cases"),
            },
            key=("population", "sex", "tenth"),
            release_class="summary-statistics",
        ),
    }

    def __post_init__(self) -> None:
        prs_scores.check_groups(self.score, self.populations)
        _ = self.status  # raises Invalid unless there is one
        if len(set(self.covariates)) < len(self.covariates):
            raise Invalid("a covariate is named twice.", where="covariates")

    @property
    def status(self) -> Status:
        """Who is a case."""
        return Status(self.phenotype, self.diagnosis, self.cases, self.controls)

    @property
    def reads(self) -> Reads:
        extra = (*(("population",) if self.populations else ()), *(("male",) if self.by else ()))
        columns = dict.fromkeys(
            (self.score, *self.status.columns, *self.covariates, *columns_of(self.complete), *extra)
        )
        return Reads(columns=tuple(columns))

    def estimates(self, nodes: int) -> int:  # noqa: ARG002
        """Of each group's own model; a group with fewer than three people for each is left out."""
        return 2 + len(self.covariates)

    def _labels(self) -> list[tuple[str, str]]:
        sexes = SEXES if self.by else ("all",)
        return [(name, sex) for name in group_names(self.populations) for sex in sexes]

    @property
    def _size(self) -> int:
        return len(self._labels())

    # At the node ---------------------------------------------------------------------------------------------------

    def _people(self, view: View) -> tuple[Floats, Floats, np.ndarray[tuple[int], np.dtype[np.int64]], Mask]:
        """Outcome (n,), score and covariates (n, 1 + K), and group of those who take part; who they are (people,)."""
        values = np.column_stack([view.numbers(name) for name in (self.score, *self.covariates)])
        outcome = self.status.of(view)
        known = np.isfinite(outcome) & np.isfinite(values).all(axis=1) & complete_in(view, self.complete)
        group = groups_of(view, self.populations, known)
        if self.by:
            sex = sex_codes(view)
            group = np.where((group >= 0) & (sex >= 0), group * len(SEXES) + sex, -1)
        inside = group >= 0
        return outcome[inside], values[inside], group[inside], inside

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        outcome, values, group, _ = self._people(view)
        size = self._size
        cases = np.bincount(group[outcome == 1], minlength=size)
        controls = np.bincount(group[outcome == 0], minlength=size)
        if state.round == "means":
            sums, squares = moments_of(group, values, size)
            return Table({"cases": cases, "controls": controls, "sums": sums, "squares": squares})
        shared = state.shared
        z = (values - shared.floats("mean")[group]) / shared.floats("sd")[group]
        if state.round == "spread":
            z = np.where(shared.ints("fitted")[group][:, None] == 1, z, 0.0)
            return Table({"squares": np.column_stack([by_group(group, column, size) for column in z.T**2])})
        if state.round == "model":
            return self._model(outcome, z, group, shared)
        kept = shared.ints("fitted")[group] == 1
        outcome, z, group = outcome[kept], z[kept], group[kept]
        if state.round == "curve":
            counts = np.zeros((2, 1 + BINS, size), np.int64)
            np.add.at(counts, (outcome.astype(np.int64), 1 + bin_of(z[:, 0], edges(BINS, SPAN)), group), 1)
            counts[:, 0] = counts.sum(axis=1)
            return Table({"cases": counts[1], "controls": counts[0]})
        return self._tenths(outcome, z, group, shared)

    def _model(self, outcome: Floats, z: Floats, group: np.ndarray, shared: Table) -> Table:
        design = np.column_stack([np.ones(len(z)), z])
        width = design.shape[1]
        trial = shared.floats("trial")
        out = {"loglik": np.zeros(self._size), "score": np.zeros((self._size, width))}
        out["information"] = np.zeros((self._size, width * (width + 1) // 2))
        for at in range(self._size):
            mine = group == at
            if shared.ints("done")[at] or not mine.any():
                continue
            found = sums(design[mine][None], outcome[mine], trial[at : at + 1], own_intercept=False)
            out["loglik"][at], out["score"][at] = found.loglik[0], found.score[0]
            out["information"][at] = packed(found.information[0])
        return Table(out)

    def _tenths(self, outcome: Floats, z: Floats, group: np.ndarray, shared: Table) -> Table:
        cuts = special.ndtri(np.arange(1, TENTHS) / TENTHS)
        tenth = (z[:, :1] >= cuts).sum(axis=1)
        linear = shared.floats("base")[group, 0] + (z * shared.floats("base")[group, 1:]).sum(axis=1)
        expected = np.zeros((1 + TENTHS, self._size))
        counts = np.zeros((2, 1 + TENTHS, self._size), np.int64)
        np.add.at(counts, (outcome.astype(np.int64), 1 + tenth, group), 1)
        np.add.at(expected, (1 + tenth, group), special.expit(linear))
        counts[:, 0], expected[0] = counts.sum(axis=1), expected.sum(axis=0)
        return Table({"cases": counts[1], "controls": counts[0], "expected": expected})

    def analysed(self, view: View) -> Iterator[Mask]:
        """Those of all groups with score, status and covariates."""
        yield self._people(view)[3]

    def told_of(self, view: View) -> Iterator[Mask]:
        """The people of each population, and the cases where the question itself says who they are."""
        if self.populations:
            group = groups_of(view, self.populations, np.isfinite(view.numbers(self.score)))
            yield from (group == at for at in range(-1, len(self.populations)))
        yield from self.status.told_of(view)

    def told_as(self) -> Iterator[tuple[Cohort | None, str]]:
        """Those who lack the score or a population, who has it and each population, and the cases."""
        if self.populations:
            yield self.cohort, f"no {self.score} or none of {sorted(self.populations)}"
        for population in self.populations:
            yield narrowed(self.cohort, population=population, known=self.score), ""
        yield from self.status.told_as(self.cohort)

    # At the releaser -----------------------------------------------------------------------------------------------

    def step(self, state: State, total: Table) -> State:
        match state.round:
            case "means":
                return self._step_means(state, total)
            case "spread":
                return self._step_spread(state, total)
            case "model":
                return self._step_model(state, total)
            case "curve":
                return self._step_curve(state, total)
        counts = {name: placed(total, name, 1 + TENTHS) for name in ("cases", "controls", "expected")}
        columns: dict[str, Column] = {}
        for name, (values, hidden) in counts.items():
            columns[name], columns[f"{name}_hidden"] = values.T, hidden.T
        return state.to(DONE, kept=Table(columns))

    def _step_means(self, state: State, total: Table) -> State:
        (cases, no_cases), (controls, no_controls) = (placed(total, name, self._size) for name in ("cases", "controls"))
        hidden = no_cases | no_controls
        people = np.where(hidden, 0, cases + controls)
        sums, squares = (np.asarray(placed(total, name, self._size)[0], np.float64) for name in ("sums", "squares"))
        mean, sd = located(sums, squares, np.maximum(people, 1))
        usable = ~hidden & (sd > 0).all(axis=1) & (people >= 3 * (2 + len(self.covariates)))
        mean, sd = np.where(usable[:, None], mean, 0.0), np.where(usable[:, None], sd, 1.0)
        width = 2 + len(self.covariates)
        trial = np.zeros((self._size, width))
        trial[:, 0] = np.where(usable, np.log(np.maximum(cases, 1) / np.maximum(controls, 1)), 0.0)
        shared: dict[str, Column] = {
            "mean": mean,
            "sd": sd,
            "trial": trial,
            "base": trial,
            "level": np.full(self._size, -np.inf),
            "information": np.zeros((self._size, width * (width + 1) // 2)),
            "done": np.where(usable, 0, 1),
            "tries": np.zeros(self._size, np.int64),
            "fitted": usable.astype(np.int64),
            "cases": np.where(hidden, 0, cases),
            "controls": np.where(hidden, 0, controls),
            "hidden": hidden.astype(np.int64),
        }
        return state.to("spread" if usable.any() else DONE, shared=Table(shared))

    def _step_spread(self, state: State, total: Table) -> State:
        """The spread to every digit; groups in which a column has none are left out."""
        shared = state.shared
        people = (shared.ints("cases") + shared.ints("controls"))[:, None]
        variance = total.floats("squares") / np.maximum(people - 1, 1)
        usable = (shared.ints("fitted") == 1) & (variance > CONSTANT).all(axis=1)
        columns: dict[str, Column] = {
            "sd": np.where(usable[:, None], shared.floats("sd") * np.sqrt(variance), 1.0),
            "done": np.where(usable, 0, 1),
            "fitted": usable.astype(np.int64),
        }
        return state.to("model" if usable.any() else DONE, shared=Table({**shared.columns, **columns}))

    def _step_model(self, state: State, total: Table) -> State:
        shared = state.shared
        width = shared["trial"].shape[1]
        information = unpacked(total.floats("information"), width)
        found = Sums(total.floats("loglik"), total.floats("score"), information)
        search = Newton(shared.floats("trial"), shared.floats("base"), shared.floats("level"))
        moved, decrement = search.advance(found, inverted(information))
        tries = shared.ints("tries") + 1
        running = shared.ints("done") == 0
        failed = running & (np.isnan(decrement) | (tries >= MOST_STEPS) | (np.abs(moved.trial).max(axis=1) > 30))
        done = ~running | failed | (decrement <= CONVERGED)
        on = (running & ~failed)[:, None]
        columns: dict[str, Column] = {
            "trial": np.where(on, moved.trial, shared.floats("trial")),
            "base": np.where(on, moved.base, shared.floats("base")),
            "level": np.where(on[:, 0], moved.level, shared.floats("level")),
            "information": np.where(on, packed(information), shared.floats("information")),
            "done": done.astype(np.int64),
            "tries": np.where(running, tries, shared.ints("tries")),
            "fitted": np.where(failed, 0, shared.ints("fitted")),
        }
        return state.to("curve" if done.all() else "model", shared=Table({**shared.columns, **columns}))

    def _step_curve(self, state: State, total: Table) -> State:
        """Areas under the curve."""
        told = [placed(total, name, 1 + BINS) for name in ("cases", "controls")]
        cases, controls = (_completed(values, hidden) for values, hidden in told)
        unseen = told[0][1][0] | told[1][1][0]
        areas = np.array([_area(cases[:, at], controls[:, at]) for at in range(self._size)])
        areas[unseen] = (0.5, UNKNOWN)
        found = {"auc": areas[:, 0], "auc_se": areas[:, 1]}
        return state.to("tenths", shared=Table({**state.shared.columns, **found}))

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        shared = state.shared
        gone = shared.ints("fitted") == 0
        unseen = shared.ints("hidden") == 1
        inverse = inverted(unpacked(shared.floats("information"), shared["trial"].shape[1]))
        effect = shared.floats("base")[:, 1]
        error = np.sqrt(np.where(gone, 1.0, inverse[:, 1, 1]))
        reach = float(special.ndtri(0.975))
        auc, auc_se = (shared.floats(n) if n in shared else np.full(len(gone), UNKNOWN) for n in ("auc", "auc_se"))
        low, high = _on_logit(auc, np.maximum(auc_se, 0), reach)
        no_area = gone | (auc_se < 0)
        told: dict[str, Floats] = {
            "odds_ratio": np.exp(effect),
            "odds_low": np.exp(effect - reach * error),
            "odds_high": np.exp(effect + reach * error),
            "log_odds": effect,
            "log_odds_se": error,
            "auc": auc,
            "auc_low": low,
            "auc_high": high,
        }
        labels = np.array(self._labels(), np.str_).reshape(-1, 2)
        groups: dict[str, Column] = {"population": labels[:, 0], "sex": labels[:, 1]}
        groups |= {name: shared.ints(name) for name in ("cases", "controls")}
        masks = dict.fromkeys(("cases", "controls"), unseen)
        masks |= {name: no_area if name.startswith("auc") else gone for name in told}
        groups |= {name: np.where(masks[name], 0.0, values) for name, values in told.items()}
        return {"groups": Table(groups, masks), "calibration": self._calibration(state.kept, labels, gone)}

    def _calibration(self, kept: Table | None, labels: np.ndarray, gone: Mask) -> Table:
        columns: dict[str, Column] = {
            "population": np.repeat(labels[:, 0], TENTHS),
            "sex": np.repeat(labels[:, 1], TENTHS),
            "tenth": np.tile(np.arange(1, TENTHS + 1), len(labels)),
        }
        masks: dict[str, Mask] = {}
        for name in ("cases", "controls", "expected"):
            if kept is not None:
                hidden = kept[f"{name}_hidden"].astype(np.bool_)[:, 1:] | gone[:, None]
                values = kept[name][:, 1:]
            else:
                hidden = np.ones((len(labels), TENTHS), np.bool_)
                values = np.zeros(hidden.shape, np.float64) if name == "expected" else np.zeros(hidden.shape, np.int64)
            columns[name] = np.where(hidden, 0, values).ravel()
            masks[name] = hidden.ravel()
        masks["expected"] |= masks["cases"]
        return Table(columns, masks)


def _completed(values: np.ndarray, hidden: Mask) -> Floats:
    """People by bin (bins, groups), withheld bins included: what the total leaves for them goes where a normal
    distribution with the mean and spread of the bins that are shown expects it.
    """
    bounds = edges(BINS, SPAN)
    inner = np.clip(bounds, -SPAN - 1, SPAN + 1)
    middle = ((inner[:-1] + inner[1:]) / 2)[:, None]
    shown = np.where(hidden[1:], 0, values[1:]).astype(np.float64)
    people = np.maximum(shown.sum(axis=0), 1)
    mean = (shown * middle).sum(axis=0) / people
    spread = np.sqrt(np.maximum((shown * (middle - mean) ** 2).sum(axis=0) / people, 0.25))
    expected = np.diff(special.ndtr((bounds[:, None] - mean) / spread), axis=0)
    part = np.where(hidden[1:], np.maximum(expected, 1e-12), 0.0)
    rest = np.maximum(values[0] - shown.sum(axis=0), 0)
    return np.asarray(shown + part / np.maximum(part.sum(axis=0), 1e-300) * rest)


def _area(cases: Floats, controls: Floats) -> tuple[float, float]:
    """Area under the curve from counts by bin, and its standard error (DeLong, DeLong and Clarke-Pearson 1988).

    People in one bin count as equal.
    """
    m, n = float(cases.sum()), float(controls.sum())
    if m < 2 or n < 2:
        return 0.5, UNKNOWN
    below = (np.cumsum(controls) - controls + controls / 2) / n
    above = (np.cumsum(cases[::-1])[::-1] - cases + cases / 2) / m
    area = float(cases @ below / m)
    of_cases = float(cases @ (below - area) ** 2 / (m - 1))
    of_controls = float(controls @ (above - area) ** 2 / (n - 1))
    return area, float(np.sqrt(of_cases / m + of_controls / n))


def _on_logit(auc: Floats, error: Floats, reach: float) -> tuple[Floats, Floats]:
    """Interval on the logit scale, so that it stays between 0 and 1."""
    inner = np.clip(auc, 1e-9, 1 - 1e-9)
    margin = reach * error / (inner * (1 - inner))
    centre = special.logit(inner)
    return np.asarray(special.expit(centre - margin)), np.asarray(special.expit(centre + margin))
