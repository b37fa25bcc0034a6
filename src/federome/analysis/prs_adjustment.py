"""``prs-adjustment``: how a score's mean and spread move with ancestry, as a model that every node can apply at home.

The mean is a linear function of principal components of a public reference, the logarithm of the variance another
(a gamma regression on squared residuals; the idea of pgsc_calc's second normalisation). Exactly as on pooled data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import msgspec
import numpy as np

from federome.analysis import prs_scores
from federome.analysis.algorithm import DONE, Algorithm, Block, Finished, Reads, State, Table, View, algorithm
from federome.analysis.prs_scores import Column as ScoreColumn
from federome.analysis.regression import Floats, collinear, inverted, moments_at_powers, packed, units, unpacked
from federome.errors import Invalid
from federome.model.cohort import Cohort
from federome.model.release import Count, Label, Number, Round, Rows, Statistic
from federome.model.table import Mask

EVERYBODY = Cohort()
MOST_STEPS: Final = 100
CONVERGED: Final = 1e-11
_MOMENTS: Final = Rows({"people": Count(people=True), "sum": Number(guard="people"), "square": Number(guard="people")})


@algorithm("prs-adjustment", "1.0")
@dataclass(frozen=True, kw_only=True)
class PrsAdjustment(Algorithm):
    """Coefficients of a score's mean and of its log variance on ``components``.

    z = (score - mean) ÷ √exp(log variance), each a constant plus the sum of its coefficients times the components as
    they are. People without a score or a component take no part. Raises ``Invalid`` for components that are constant
    or follow from each other, and where the coefficients exceed a third of the people.
    """

    score: ScoreColumn
    components: Annotated[tuple[ScoreColumn, ...], msgspec.Meta(min_length=1, max_length=20)]
    cohort: Cohort = EVERYBODY

    modules: ClassVar[tuple[str, ...]] = prs_scores.modules()
    rounds: ClassVar[tuple[Round, ...]] = (
        Round("moments", scope="people", totals=_MOMENTS, gated=True),
        Round("cross", scope="people", totals=Rows({"cross": Number()}, release_class="model")),
        Round("variance", scope="people", totals=Rows({"score": Number()}, release_class="model")),
    )
    broadcasts: ClassVar[frozenset[str]] = frozenset(
        {"people", "mean", "scale", "effects", "spread", "inverse", "tries"}
    )
    releases: ClassVar[Mapping[str, Rows]] = {
        "model": Rows(
            {"term": Label(), "mean": Statistic(digits=12), "log_variance": Statistic(digits=12)},
            key=("term",),
            release_class="model",
        ),
        "people": Rows({"people": Count(people=True)}),
    }

    def __post_init__(self) -> None:
        prs_scores.check_groups(self.score, ())
        if len(set(self.components)) < len(self.components):
            raise Invalid("a component is named twice.", where="components")

    @property
    def reads(self) -> Reads:
        return Reads(columns=(self.score, *self.components))

    def estimates(self, nodes: int) -> int:  # noqa: ARG002
        """Of mean and variance."""
        return 2 * (1 + len(self.components))

    def analysed(self, view: View) -> Iterator[Mask]:
        """Those with score and components."""
        yield np.asarray(np.isfinite(self._all(view)).all(axis=1))

    def _all(self, view: View) -> Floats:
        return np.column_stack([view.numbers(name) for name in (self.score, *self.components)])

    def _columns(self, view: View) -> Floats:
        """Score and components of those who have all of them: (people, 1 + K)."""
        columns = self._all(view)
        return np.asarray(columns[np.isfinite(columns).all(axis=1)])

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        columns = self._columns(view)
        if state.round == "moments":
            total, square = moments_at_powers(columns)
            return Table({"people": np.array([len(columns)]), "sum": total[None], "square": square[None]})
        shared = state.shared
        standard = (columns - shared.floats("mean")[0]) / shared.floats("scale")[0]
        design = np.column_stack([np.ones(len(columns)), standard[:, 1:]])
        if state.round == "cross":
            whole = np.column_stack([standard[:, :1], design])
            return Table({"cross": packed(whole.T @ whole)[None]})
        squares = (standard[:, 0] - design @ shared.floats("effects")[0]) ** 2
        return Table({"score": (design.T @ (squares * np.exp(-design @ shared.floats("spread")[0]) - 1))[None]})

    def step(self, state: State, total: Table) -> State:
        match state.round:
            case "moments":
                return self._step_moments(state, total)
            case "cross":
                return self._step_cross(state, total)
        return self._step_variance(state, total)

    def _step_moments(self, state: State, total: Table) -> State:
        size = 1 + len(self.components)
        if not total.rows or prs_scores.hidden_in(total, "people").any():
            raise Invalid("too few people have the score and all components.", where="components")
        people = int(total.ints("people")[0])
        prs_scores.require(self, people, 2 * size)
        found = units(total, (self.score, *self.components), people)
        return state.to("cross", shared=Table({"people": np.array([people]), **found}))

    def _step_cross(self, state: State, total: Table) -> State:
        size = 2 + len(self.components)
        cross = unpacked(total.floats("cross")[0], size)
        bad = collinear(cross[2:, 2:], np.diag(cross)[2:])
        if bad is not None:
            raise Invalid(f"{self.components[bad]!r} follows from the components before it.", where="components")
        inverse = inverted(cross[1:, 1:])
        effects = inverse @ cross[1:, 0]
        rest = float(cross[0, 0] - cross[0, 1:] @ effects)
        people = int(state.shared.ints("people")[0])
        spread = np.zeros(size - 1)
        spread[0] = np.log(max(rest, 1e-300) / people)
        columns = {
            "effects": effects[None],
            "spread": spread[None],
            "inverse": inverse.reshape(1, -1),
            "tries": np.array([0]),
        }
        return state.to("variance", shared=Table({**state.shared.columns, **columns}))

    def _step_variance(self, state: State, total: Table) -> State:
        """Fisher scoring: the expected information of a gamma regression with a logarithmic link is the design's."""
        shared = state.shared
        size = 1 + len(self.components)
        step = shared.floats("inverse")[0].reshape(size, size) @ total.floats("score")[0]
        step *= min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-300))
        tries = int(shared.ints("tries")[0]) + 1
        moved = shared.with_column("spread", (shared.floats("spread")[0] + step)[None]).with_column(
            "tries", np.array([tries])
        )
        if float(np.abs(step).max()) <= CONVERGED:
            return state.to(DONE, shared=moved)
        if tries >= MOST_STEPS:
            raise Invalid(
                "the model of the variance has no maximum.", where="components", remedy="Use fewer components."
            )
        return state.to("variance", shared=moved)

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        shared = state.shared
        mean, scale = shared.floats("mean")[0], shared.floats("scale")[0]
        effects, spread = shared.floats("effects")[0], shared.floats("spread")[0]
        slopes = effects[1:] * scale[0] / scale[1:]
        spreads = spread[1:] / scale[1:]
        first = mean[0] + scale[0] * effects[0] - slopes @ mean[1:]
        level = spread[0] + 2 * np.log(scale[0]) - spreads @ mean[1:]
        model = Table(
            {
                "term": np.array(["constant", *self.components], np.str_),
                "mean": np.concatenate([[first], slopes]),
                "log_variance": np.concatenate([[level], spreads]),
            }
        )
        return {"model": model, "people": Table({"people": shared.ints("people")})}
