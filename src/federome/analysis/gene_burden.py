"""``gene-burden``: do carriers of rare, consequential variants of a gene have a severe course more often?

A burden test: whether somebody carries any qualifying variant of the gene takes the place of a dosage in the logistic
model of ``gwas_logistic``, whose sums it uses. A gene passes by its carriers alone, severe and mild together, so that
the choice of genes has no bearing on the result; men with a variant on their one X carry it like everybody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from federome.analysis import spa
from federome.analysis.algorithm import DONE, Block, Defined, Finished, State, Table, View, algorithm
from federome.analysis.gene_carriers import GeneBlock
from federome.analysis.gene_status import StatusOverGenes
from federome.analysis.gwas import told_apart
from federome.analysis.gwas_logistic import NULL_MODEL, SCORE, STEPS_SPA, TAIL, GwasLogistic
from federome.analysis.regression import Floats, inverted, minus_log10_normal, unpacked
from federome.model.release import Count, Label, Number, Round, Rows, Statistic
from federome.model.table import Column, Mask

METHODS = ("none", "score", "saddle-point")

_COUNTS = {"carriers": Count(people=True), "called": Count(people=True)}
_OTHERS = ({"carriers": 1, "called": -1, "others": 1},)
_PEOPLE = ("cases", "controls", "related", "incomplete")
_OVER_GENES = frozenset({"gene", "carriers", "called", "tested", "statistic", "minus_log10_p", "saddle"})
_SEARCH = frozenset({"searched", "adjust", "score", "point", "low", "high", "turn"})


@algorithm("gene-burden", "1.0")
@dataclass(frozen=True, kw_only=True)
class GeneBurden(StatusOverGenes):
    """Score test of ``phenotype`` (1 severe, 0 mild) on being a carrier, given covariates and site intercepts.

    One row a gene: carriers, people called, the signed root of the score statistic (positive: carriers more often
    severe) and -log10 of its two-sided p value, by the saddle point beyond two standard deviations. Genes with fewer
    carriers than the data holders' threshold are withheld. Statistics have two digits: what they tell about how many
    carriers are severe is told by no column. For the people who take part see
    :class:`~federome.analysis.gwas.Association`.
    """

    rounds: ClassVar[tuple[Round, ...]] = (
        *NULL_MODEL,
        Round("counts", scope="people", totals=Rows(_COUNTS, genotypes=True, identities=_OTHERS), gated=True),
        Round(
            "score",
            scope="people",
            totals=Rows(
                dict.fromkeys(("score", "covariates", "squares"), Number()), release_class="summary-statistics"
            ),
        ),
        Round(
            "refine",
            scope="people",
            totals=Rows(dict.fromkeys(("cumulants", "support"), Number()), release_class="summary-statistics"),
        ),
    )
    broadcasts: ClassVar[frozenset[str]] = GwasLogistic.broadcasts | _OVER_GENES | _SEARCH
    releases: ClassVar[Mapping[str, Rows]] = {
        "genes": Rows(
            {
                "gene": Label(),
                **_COUNTS,
                "statistic": Statistic(guard="carriers", digits=2),
                "minus_log10_p": Statistic(guard="carriers", digits=2),
                "test": Label(),
            },
            release_class="summary-statistics",
            genotypes=True,
            identities=_OTHERS,
            key=("gene",),
        ),
        "summary": Rows(
            {**dict.fromkeys(_PEOPLE, Count(people=True)), "tested": Statistic()}, release_class="summary-statistics"
        ),
    }

    def traits(self, view: View) -> Iterator[Floats]:
        """The outcome: its products with carriers are in the statistics."""
        yield from self.model.traits(view)

    def weights(self, view: View, state: State) -> Iterable[Floats]:
        """As of the model without genes."""
        return self.model.weights(view, state)

    # At the node ---------------------------------------------------------------------------------------------------

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        model, shared = self.model, state.shared
        if state.round in ("moments", "null"):
            return model.local(view, None, state)
        if state.round == "counts":
            counted = model.local(view, GeneBlock(self, tuple(range(len(self.genes)))), state)
            carriers = counted.ints("case_carriers") + counted.ints("control_carriers")
            return Table({"carriers": carriers, "called": counted["called"]})
        genes = shared.ints("gene")[0]
        rows = np.arange(len(genes))
        asked: dict[str, Column] = {"dosage": shared.floats("carriers")[0] / shared.floats("called")[0]}
        if state.round == "refine":
            rows = shared.ints("tested")[0][shared.ints("searched")[0]]
            size = len(rows)
            asked = {
                "dosage": asked["dosage"][rows],
                "search": np.ones(size, np.int64),
                "model": np.full(size, SCORE),
                **{name: shared.floats(name)[0].reshape(size, -1) for name in ("adjust", "point")},
            }
        part = model.local(
            view,
            GeneBlock(self, tuple(genes[rows].tolist())),
            State(state.round, shared, Table({"row": rows, **asked})),
        )
        return part.only(*self.round(state.round).totals.columns)

    def defined(self, view: View, state: State, rows: Sequence[int]) -> Iterator[Defined]:
        """The carriers of each gene, of those who take part."""
        if state.round != "counts":
            return
        people, among = self.taking_part(view)
        at = np.flatnonzero(among)
        for row, places in zip(rows, self.carriers(people, rows), strict=True):
            if places is not None:
                yield self.told(row, "carriers", among, at[places])

    # At the releaser -----------------------------------------------------------------------------------------------

    def step(self, state: State, total: Table) -> State:
        match state.round:
            case "moments" | "null":
                return self.model.step(state, total)
            case "counts":
                return self._step_counts(state, total)
            case "score":
                return self._step_score(state, total)
        return self._step_refine(state, total)

    def _step_counts(self, state: State, total: Table) -> State:
        """Genes with enough carriers, and enough others, go on."""
        hidden = [total.withheld.get(name, np.zeros(total.rows, np.bool_)) for name in _COUNTS]
        carriers, called = total.ints("carriers"), total.ints("called")
        passed = ~(hidden[0] | hidden[1])
        passed &= np.where(passed, (carriers > 0) & (carriers < called), False)
        found = {"gene": total.ints("row")[passed], "carriers": carriers[passed], "called": called[passed]}
        shared = _with(state.shared, found)
        return state.to("score" if passed.any() else DONE, shared=shared)

    def _step_score(self, state: State, total: Table) -> State:
        """Score tests of all genes, and the start of the searches that some need."""
        shared = state.shared
        inverse = inverted(unpacked(shared.floats("information")[0], shared["effects"].shape[1]))
        adjust = total.floats("covariates") @ inverse
        variance = total.floats("squares") - np.einsum("rk,rk->r", adjust, total.floats("covariates"))
        cases, controls = (int(shared.ints(name)[0]) for name in ("cases", "controls"))
        kept = Table({"called": shared["called"][0], "copies": shared["carriers"][0]})
        tested = np.flatnonzero(told_apart(variance, kept, cases * controls / (cases + controls)))
        score, variance, adjust = total.floats("score")[tested], variance[tested], adjust[tested]
        z = score / np.sqrt(variance)
        searched = np.flatnonzero(np.abs(z) > TAIL)
        start = spa.Search.start(score[searched], variance[searched])
        found: dict[str, Column] = {
            "tested": tested,
            "statistic": z,
            "minus_log10_p": minus_log10_normal(z),
            "saddle": np.zeros(len(tested), np.int64),
            "turn": np.array([0]),
            **_searching(searched, adjust[searched], start),
        }
        return state.to("refine" if len(searched) else DONE, shared=_with(shared, found))

    def _step_refine(self, state: State, total: Table) -> State:
        """One step of every search; genes whose p value is found leave."""
        shared = state.shared
        searched, turn = shared.ints("searched")[0], int(shared.ints("turn")[0, 0]) + 1
        size = len(searched)
        score, point, low, high = (shared.floats(n)[0].reshape(size, -1) for n in ("score", "point", "low", "high"))
        values, reach = total.floats("cumulants").reshape(size, 2, 3), total.floats("support")
        search = spa.Search(score[:, 0], point, low, high)
        following, there = search.advance(values, reach)
        p = np.where(there, search.minus_log10_p(values, reach), np.nan)
        good = np.isfinite(p)
        logs, saddle = shared.floats("minus_log10_p")[0].copy(), shared.ints("saddle")[0].copy()
        logs[searched[good]], saddle[searched[good]] = p[good], 1
        left = ~there & (turn < STEPS_SPA)
        on = spa.Search(*(each[left] for each in (following.score, following.point, following.low, following.high)))
        found: dict[str, Column] = {
            "minus_log10_p": logs,
            "saddle": saddle,
            "turn": np.array([turn]),
            **_searching(searched[left], shared.floats("adjust")[0].reshape(size, -1)[left], on),
        }
        return state.to("refine" if left.any() else DONE, shared=_with(shared, found))

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        shared, size = state.shared, len(self.genes)
        genes = shared.ints("gene")[0]
        columns: dict[str, Column] = {"gene": np.array(self.genes, np.str_)}
        masks: dict[str, Mask] = {}
        for name in _COUNTS:
            columns[name], masks[name] = _spread(shared[name][0], genes, size)
        tested = genes[shared.ints("tested")[0]] if "tested" in shared else genes[:0]
        for name in ("statistic", "minus_log10_p"):
            values = shared.floats(name)[0] if "tested" in shared else np.zeros(0)
            columns[name], masks[name] = _spread(values, tested, size)
        method = np.zeros(size, np.int64)
        method[tested] = 1 + (shared.ints("saddle")[0] if "tested" in shared else tested)
        columns["test"] = np.array(METHODS, np.str_)[method]
        hidden = {name: shared.withheld.get(name, np.zeros(1, np.bool_)) for name in _PEOPLE}
        people = {name: np.where(hidden[name], 0, shared.ints(name)) for name in _PEOPLE}
        summary = Table({**people, "tested": np.array([float(len(tested))])}, hidden)
        return {"genes": Table(columns, masks), "summary": summary}


def _with(shared: Table, found: Mapping[str, Column]) -> Table:
    """The shared state, a line of its own for each column over genes: the tables of a state have one row."""
    return Table({**shared.columns, **{name: values[None] for name, values in found.items()}}, shared.withheld)


def _searching(searched: Column, adjust: Floats, search: spa.Search) -> dict[str, Column]:
    """Searches under way, as columns over genes."""
    return {
        "searched": searched,
        "adjust": adjust.ravel(),
        **{name: getattr(search, name).ravel() for name in ("score", "point", "low", "high")},
    }


def _spread(values: Column, at: NDArray[np.int64], size: int) -> tuple[Column, Mask]:
    """Values at some of ``size`` rows, and which rows are withheld."""
    out: Column = np.zeros(size, np.int64) if values.dtype.kind == "i" else np.zeros(size)
    hidden = np.ones(size, np.bool_)
    out[at], hidden[at] = values, False
    return out, hidden
