"""``similar-tumours``: how patients with a tumour like this one fared, and what they were given.

Each node looks for its own most similar cases: weighted Jaccard over altered genes, exact variants and mutations that
came under treatment, among those that the clinical strata admit. A gene that was not sequenced is unknown, not
unaltered: it counts on neither side. Only sums over such cases leave, on a common grid of times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar
from weakref import WeakKeyDictionary

import msgspec
import numpy as np

from federome.analysis import follow_up
from federome.analysis.algorithm import DONE, Algorithm, Block, Finished, Reads, State, Table, View, algorithm
from federome.analysis.cohort_count import EVERYBODY
from federome.analysis.covariates import Name
from federome.analysis.follow_up import HALVES, START, Grid, Marks
from federome.analysis.regression import Floats
from federome.analysis.survival_curves import CURVE_COLUMNS, Curve
from federome.errors import Invalid
from federome.model.cohort import Cohort
from federome.model.release import Count, Label, Round, Rows, Statistic
from federome.model.table import Column, Mask

GENE, EXACT, ACQUIRED = 1.0, 2.0, 3.0
"""Weights: an altered gene, an exact variant, a gene or variant that came under treatment."""
_TREES = 2
_MARKS: WeakKeyDictionary[View, dict[object, tuple[Marks, np.ndarray]]] = WeakKeyDictionary()

Variant = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{1,20}:p\.[A-Za-z0-9*_=?>-]{1,60}$")]
Gene = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{1,20}$")]
Stratum = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,62}=.{1,60}$")]


@algorithm("similar-tumours", "1.0")
@dataclass(frozen=True, kw_only=True)
class SimilarTumours(Algorithm):
    """Cases like one tumour: how many, how they fared, what they were given.

    ``genes`` are altered in the tumour, ``variants`` its exact ones as ``BRAF:p.V600E``, ``acquired`` genes or variants
    that were not there before treatment. ``strata`` are conditions as ``column=text`` that a case must meet. A node
    takes its ``nearest`` cases of at least ``similarity``; all genes of ``required`` must be altered (in ``acquired``:
    acquired) and sequenced. ``treatments`` names the treatments that get a count, as the column ``treatments`` lists
    them. Cases lie in the columns ``tumour_genes``, ``tumour_variants``, ``tumour_acquired`` and ``tumour_panel``,
    lists with ``;`` (see the page on tumours).
    """

    time: Name
    event: Name
    genes: Annotated[tuple[Gene, ...], msgspec.Meta(max_length=500)] = ()
    variants: Annotated[tuple[Variant, ...], msgspec.Meta(max_length=100)] = ()
    acquired: Annotated[tuple[Name, ...], msgspec.Meta(max_length=50)] = ()
    required: Annotated[tuple[Name, ...], msgspec.Meta(max_length=50)] = ()
    strata: Annotated[tuple[Stratum, ...], msgspec.Meta(max_length=20)] = ()
    treatments: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=50)]
    cohort: Cohort = EVERYBODY
    nearest: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 100
    similarity: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.3
    halvings: Annotated[int, msgspec.Meta(ge=1, le=10)] = 5
    exits_min: Annotated[int, msgspec.Meta(ge=2, le=100_000)] = 10
    confidence: Annotated[float, msgspec.Meta(gt=0.5, lt=1)] = 0.95

    modules: ClassVar[tuple[str, ...]] = (
        "federome.analysis.cohort_count",
        "federome.analysis.follow_up",
        "federome.analysis.covariates",
        "federome.analysis.logistic",
        "federome.analysis.partial_likelihood",
        "federome.analysis.regression",
        "federome.analysis.survival_curves",
    )
    rounds: ClassVar[tuple[Round, ...]] = (
        Round("start", scope="people", totals=START, gated=True),
        Round(
            "halve",
            scope="people",
            totals=Rows({**HALVES.columns, "treated": Count(people=True)}, release_class="summary-statistics"),
            gated=True,
        ),
    )
    how_told: ClassVar[frozenset[str]] = frozenset({"halvings", "exits_min", "confidence"})
    broadcasts: ClassVar[frozenset[str]] = follow_up.BROADCASTS | {"treated"}
    releases: ClassVar[Mapping[str, Rows]] = {
        "cases": Rows(
            {
                "cases": Count(people=True),
                "events": Count(people=True),
                **dict.fromkeys(("median", "median_low", "median_high"), Statistic(guard="events")),
            },
            release_class="summary-statistics",
        ),
        "treatments": Rows({"treatment": Label(), "cases": Count(people=True)}, key=("treatment",)),
        "curve": Rows(
            {
                "time": Label(),
                "at_risk": Count(people=True),
                "events": Count(guard="at_risk"),
                **dict.fromkeys(("survival", "low", "high"), Statistic(guard="at_risk")),
            },
            release_class="summary-statistics",
            key=("time",),
        ),
    }

    def __post_init__(self) -> None:
        if not (self.genes or self.variants or self.acquired):
            raise Invalid("a tumour is described by what is altered in it.", where="genes")

    @property
    def reads(self) -> Reads:
        columns = ("tumour_genes", "tumour_variants", "tumour_acquired", "tumour_panel", "treatments")
        strata = [each.partition("=")[0] for each in self.strata]
        return Reads(tuple(dict.fromkeys((self.time, self.event, *columns, *strata))))

    def told_of(self, view: View) -> Iterator[Mask]:
        """The cases that are told of: one nearly the same set after another would tell of the few in between."""
        yield self._chosen(view)

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        known = _MARKS.setdefault(view, {})
        if self not in known:
            known[self] = self._cases(view)
        marks, treated = known[self]
        if state.round == "start":
            return marks.start(0, trees=_TREES, groups=1)
        grid = Grid.read(state.shared)
        placed = grid.place(marks) >= 0
        return Table({**grid.halves(marks).columns, "treated": treated[placed].sum(axis=0, dtype=np.int64)[None]})

    def _chosen(self, view: View) -> Mask:
        """This node's most similar cases, (people,)."""
        exits, kinds = follow_up.times_of(view, self.time), follow_up.kinds_of(view, self.event, 0)
        fit = np.isfinite(exits) & np.isfinite(kinds)
        for each in self.strata:
            column, _, wanted = each.partition("=")
            fit &= view.labels(column) == wanted
        alike = np.where(fit, self._similarity(view), 0.0)
        order = np.argsort(-alike, kind="stable")[: self.nearest]
        chosen = np.zeros(view.people, np.bool_)
        chosen[order[alike[order] >= self.similarity]] = True
        return chosen

    def _cases(self, view: View) -> tuple[Marks, np.ndarray]:
        """Their ends, and which treatments each had, (cases, treatments)."""
        exits, kinds = follow_up.times_of(view, self.time), follow_up.kinds_of(view, self.event, 0)
        chosen = np.flatnonzero(self._chosen(view))
        given = [_listed(text) for text in view.labels("treatments")[chosen].tolist()]
        treated = np.array([[name in each for name in self.treatments] for each in given], np.bool_)
        nobody = np.zeros(len(chosen), np.int64)
        tree = kinds[chosen].astype(np.int64) // 2  # censored is 2
        return Marks(nobody, tree, nobody, exits[chosen]), treated.reshape(len(chosen), len(self.treatments))

    def _similarity(self, view: View) -> Floats:
        """Weighted Jaccard with each person's tumour, over what was sequenced; people alike are worked out once."""
        columns = ("tumour_genes", "tumour_variants", "tumour_acquired", "tumour_panel")
        texts = list(zip(*(view.labels(name).tolist() for name in columns), strict=True))
        found = {each: self._alike(*(_listed(text) for text in each)) for each in set(texts)}
        return np.array([found[each] for each in texts], np.float64)

    def _alike(
        self, genes: frozenset[str], variants: frozenset[str], acquired: frozenset[str], panel: frozenset[str]
    ) -> float:
        asked = _features(self.genes, self.variants, self.acquired)
        theirs = _features(genes, variants, acquired)
        need = {
            ("acquired" if name in self.acquired else "exact" if ":" in name else "gene", name)
            for name in self.required
        }
        if not need <= set(theirs):
            return 0.0
        known = {each: weight for each, weight in {**asked, **theirs}.items() if each[1].partition(":")[0] in panel}
        if not any(each in known for each in asked):
            return 0.0
        both = sum(weight for each, weight in known.items() if each in asked and each in theirs)
        return both / sum(known.values())

    def step(self, state: State, total: Table) -> State:
        if state.round == "start":
            grid = Grid.whole(total, trees=_TREES, groups=1, least=self.exits_min)
            if not len(grid.of(0)):
                raise Invalid(
                    "fewer cases like this one are known, with an end, than may be told of.",
                    where="similarity",
                    remedy="Lower the similarity, or require less. It does not mean that there is none.",
                )
            return state.to("halve", shared=Table({**grid.columns(), "level": np.array([0])}))
        level = int(state.shared.ints("level")[0]) + 1
        grid = Grid.read(state.shared).halved(total, self.exits_min)
        hidden = total.withheld.get("treated", np.zeros(total["treated"].shape, np.bool_))
        columns: dict[str, Column] = {**grid.columns(), "level": np.array([level])}
        columns["treated"] = np.where(hidden, 0, total.ints("treated"))
        more = level < self.halvings and bool(grid.open.any())
        return state.to("halve" if more else DONE, shared=Table(columns, {"treated": hidden}))

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        shared = state.shared
        grid = Grid.read(shared)
        kinds = Grid(grid.tree * 2, grid.low, grid.high, grid.mean, grid.count, grid.open)
        curve = Curve.of(kinds, 0, self.confidence)
        median, low, high = curve.median()
        cases: dict[str, Column] = {
            "cases": np.array([curve.people]),
            "events": np.array([int(curve.events.sum())]),
            "median": np.array([median]),
            "median_low": np.array([low]),
            "median_high": np.array([high]),
        }
        treated = shared.ints("treated")[0]
        hidden: Mask = shared.withheld.get("treated", np.zeros((1, len(treated)), np.bool_))[0]
        names = ("time", "at_risk", "events", "survival", "low", "high")
        assert set(names) <= set(CURVE_COLUMNS)
        return {
            "cases": Table(cases),
            "treatments": Table({"treatment": np.array(self.treatments, np.str_), "cases": treated}, {"cases": hidden}),
            "curve": Table({name: getattr(curve, name) for name in names}),
        }


def _listed(text: str) -> frozenset[str]:
    return frozenset(part for part in text.split(";") if part)


def _features(genes: Iterable[str], variants: Iterable[str], acquired: Iterable[str]) -> dict[tuple[str, str], float]:
    """What a tumour is compared by, with weights."""
    return {
        **{("gene", name): GENE for name in genes},
        **{("exact", name): EXACT for name in variants},
        **{("acquired", name): ACQUIRED for name in acquired},
    }
