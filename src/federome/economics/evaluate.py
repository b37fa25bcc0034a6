"""A model with numbers: parameters bound, cohorts moved, trees folded back. All draws of an analysis at once.

Arrays are cohorts x draws: a time-dependent value is (cycles, draws) or broadcasts to it, any other (draws,) or a
single number. Draws are worked through in blocks that fit the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.economics.document import Place
from federome.economics.formula import Formula, evaluate
from federome.economics.model import Cohort, Counting, Model, Node, Outcome, Strategy, Tree
from federome.economics.read import is_rest
from federome.errors import Invalid

Array = NDArray[np.float64]
BLOCK: Final = 1024
SLACK: Final = 1e-9
"""How far a row may be from one, and a probability from [0, 1], through rounding."""
_TIMED: Final = frozenset({"cycle", "time", "state_time"})


@dataclass(frozen=True)
class Totals:
    """What each strategy comes to per person. ``values`` is strategies x outcomes x draws, discounted."""

    strategies: tuple[str, ...]
    outcomes: tuple[str, ...]
    values: Array

    def of(self, outcome: str) -> Array:
        """One outcome, draws x strategies."""
        return self.values[:, self.outcomes.index(outcome)].T

    def table(self) -> dict[str, dict[str, float]]:
        """The means over draws: strategy → outcome → value."""
        means = self.values.mean(axis=2)
        return {
            name: {each: float(means[row, column]) for column, each in enumerate(self.outcomes)}
            for row, name in enumerate(self.strategies)
        }


def totals(model: Model, values: Mapping[str, Array] | None = None) -> Totals:
    """Outcomes of all strategies; ``values`` replaces constants, each (draws,), or is empty for the base case.

    ``Invalid`` where a row of moves does not sum to one or a probability is none, with the formula's place.
    """
    values = values or {}
    for name, each in values.items():
        if name not in model.parameters:
            raise Invalid(f"the model has no parameter {name[:40]!r}.", where=model.file)
        if not np.isfinite(each).all():
            raise Invalid(f"values of {name} are not finite.", where=model.file)
    draws = max((len(each) for each in values.values()), default=1)
    out = np.empty((len(model.strategies), len(model.outcomes), draws))
    for begin in range(0, draws, BLOCK):
        part = {name: each[begin : begin + BLOCK] for name, each in values.items()}
        size = min(BLOCK, draws - begin)
        traces: dict[str, Array] = {}
        for row, strategy in enumerate(model.strategies):
            out[row, :, begin : begin + size] = _strategy(Bound(model, strategy, part, size), traces)
    return Totals(tuple(each.name for each in model.strategies), tuple(each.name for each in model.outcomes), out)


def trace(model: Model, strategy: str) -> tuple[tuple[str, ...], Array]:
    """States, and the share of the cohort in each: (cycles + 1, states), base case. Tunnels are added up."""
    body = _cohort_of(model)
    bound = Bound(model, _named(model, strategy), {}, 1)
    slots = _slots(body)
    full = _trace(bound, body, slots)[:, :, 0]
    return body.states, np.stack(
        [full[:, [at for at, (name, _) in enumerate(slots) if name == state]].sum(axis=1) for state in body.states], 1
    )


def yearly(model: Model, outcome: str) -> Array:
    """An outcome per person and year since entry, not discounted: strategies x years, base case.

    The row of the trace counts as the beginning of a cycle, as payers see it; ``once`` falls into the first year.
    A tree's amounts fall into the year in which its nodes happen.
    """
    chosen = next(each for each in model.outcomes if each.name == outcome)
    rows = []
    for strategy in model.strategies:
        bound = Bound(model, strategy, {}, 1)
        if isinstance(model.body, Tree):
            found = _tree_years(bound, model.body, outcome)
        else:
            slots = _slots(model.body)
            amounts = _rewards(bound, model.body, chosen, slots)[:, :, 0] * _trace(bound, model.body, slots)[:, :, 0]
            year = np.floor(np.arange(model.body.cycles) * model.body.cycle_years).astype(np.int64)
            found = np.bincount(year, amounts.sum(axis=1)[:-1]).astype(np.float64)
            if chosen.once is not None:
                found[0] += float(np.mean(bound.value(chosen.once)))
        rows.append(found)
    out = np.zeros((len(rows), max(map(len, rows))))
    for at, row in enumerate(rows):
        out[at, : len(row)] = row
    return out


@dataclass(frozen=True)
class Bound:
    """A strategy's parameters as values: constants, draws, and formulas worked out when asked for."""

    model: Model
    strategy: Strategy
    values: Mapping[str, Array]
    draws: int
    timed: Mapping[str, Array] = field(default_factory=dict)
    known: dict[str, Array] = field(default_factory=dict)
    depends: dict[str, bool] = field(default_factory=dict)

    def at(self, **timed: Array) -> Bound:
        """The same at certain times; whatever does not depend on time is not worked out again."""
        kept = {name: value for name, value in self.known.items() if not self.changes(name)}
        return Bound(self.model, self.strategy, self.values, self.draws, timed, kept, self.depends)

    def changes(self, name: str) -> bool:
        """Whether a name depends on time, directly or through formulas."""
        if name not in self.depends:
            formula = self.formula(name)
            self.depends[name] = name in _TIMED or (
                formula is not None and any(self.changes(used) for used in formula.names)
            )
        return self.depends[name]

    def formula(self, name: str) -> Formula | None:
        """What a name stands for under this strategy, if it is worked out."""
        if name in self.strategy.sets:
            return self.strategy.sets[name]
        parameter = self.model.parameters.get(name)
        return parameter.formula if parameter is not None and name not in self.values else None

    def value(self, formula: Formula) -> Array:
        """A formula's values."""

        def name(asked: str) -> Array:
            if asked in _TIMED and asked not in self.timed:
                formula.place.refuse(f"{asked!r} has no meaning here.")
            return self.name(asked)

        return evaluate(formula, name, self.model.tables)

    def name(self, name: str) -> Array:
        """A parameter's or reserved word's values."""
        if name in self.timed:
            return self.timed[name]
        if name not in self.known:
            self.known[name] = self._work_out(name)
        return self.known[name]

    def _work_out(self, name: str) -> Array:
        if name == "cycle_years":
            body = self.model.body
            return np.float64(body.cycle_years if isinstance(body, Cohort) else 1.0)  # type: ignore[return-value]
        formula = self.formula(name)
        if formula is not None:
            found = self.value(formula)
            return found if name not in self.model.parameters else self._checked(name, found)
        if name in self.values:
            return self._checked(name, self.values[name])
        return np.float64(self.model.parameters[name].value)  # type: ignore[return-value]

    def _checked(self, name: str, found: Array) -> Array:
        parameter = self.model.parameters[name]
        if parameter.kind == "probability":
            return _probability(found, parameter.place, name)
        if parameter.kind == "rate" and bool(np.any(found < 0)):
            parameter.place.refuse("a rate is below 0.")
        return found


def _probability(found: Array, place: Place, told: str) -> Array:
    """The values, rounding mended; refused where they are no probabilities."""
    low, high = np.min(found), np.max(found)
    if low < -SLACK or high > 1 + SLACK:
        odd = float(low if low < -SLACK else high)
        place.refuse(f"the probability {told} is {odd:.6g}, which is not between 0 and 1.")
    return found if low >= 0 and high <= 1 else np.clip(found, 0.0, 1.0)


def _strategy(bound: Bound, traces: dict[str, Array]) -> Array:
    """Outcomes x draws of one strategy. ``traces`` keeps cohorts that strategies with the same moves share."""
    model = bound.model
    if isinstance(model.body, Tree):
        return np.stack([_fold(bound, model.body, each) for each in model.outcomes])
    body = model.body
    slots = _slots(body)
    same = _what_moves(bound, body)
    if same not in traces:
        traces[same] = _trace(bound, body, slots)
    return np.stack([_sum(bound, body, each, slots, traces[same]) for each in model.outcomes])


def _what_moves(bound: Bound, body: Cohort) -> str:
    """What the strategy sets among all that moves depend on: equal texts have equal traces."""
    waiting = [formula for row in (body.start, *body.moves.values()) for formula in row.values()]
    seen: set[str] = set()
    while waiting:
        for name in waiting.pop().names - seen:
            seen.add(name)
            if (below := bound.formula(name)) is not None:
                waiting.append(below)
    return repr(sorted((name, formula.text) for name, formula in bound.strategy.sets.items() if name in seen))


# cohorts


def _cohort_of(model: Model) -> Cohort:
    if isinstance(model.body, Tree):
        raise Invalid("a decision tree has no trace.", where=model.file)
    return model.body


def _named(model: Model, strategy: str) -> Strategy:
    found = next((each for each in model.strategies if each.name == strategy), None)
    if found is None:
        known = ", ".join(each.name for each in model.strategies)
        raise Invalid(f"the model has no strategy {strategy[:40]!r}.", where=model.file, remedy=f"Known: {known}.")
    return found


def _slots(body: Cohort) -> list[tuple[str, int]]:
    """The states as computed: a tunnel state once for each cycle spent in it, others once (0)."""
    return [
        (name, spent)
        for name in body.states
        for spent in (range(1, body.tunnels[name] + 1) if name in body.tunnels else (0,))
    ]


def _timed(bound: Bound, cycles: Array, years: float, spent: int) -> Bound:
    timed = {"cycle": cycles[:, None], "time": cycles[:, None] * years}
    if spent:
        timed["state_time"] = np.float64(spent)  # type: ignore[assignment]
    return bound.at(**timed)


def _moves(bound: Bound, body: Cohort, slots: list[tuple[str, int]]) -> list[tuple[int, int, Array]]:
    """Moves between slots that happen at all: (from, to, probability per cycle, broadcasting to cycles x draws)."""
    cycles = np.arange(1, body.cycles + 1, dtype=np.float64)
    first = {name: at for at, (name, spent) in reversed(list(enumerate(slots))) if spent <= 1}
    found = []
    cached: dict[int, Bound] = {}
    for at, (name, spent) in enumerate(slots):
        timed = cached.setdefault(spent, _timed(bound, cycles, body.cycle_years, spent))
        for target, probability in _row(timed, body.moves[name], f"moves.{name}"):
            to = first[target]
            if target == name and spent:
                to = at + (spent < body.tunnels[name])
            if np.any(probability != 0):
                found.append((at, to, probability))
    return found


def _row(bound: Bound, row: Mapping[str, Formula], told: str) -> Iterator[tuple[str, Array]]:
    """The probabilities of a row; what is written ``rest`` takes what the others leave over."""
    taken: Array = np.float64(0)  # type: ignore[assignment]
    rest: tuple[str, Formula] | None = None
    formula: Formula | None = None
    for target, formula in row.items():
        if is_rest(formula):
            rest = target, formula
            continue
        value = _probability(bound.value(formula), formula.place, target)
        taken = taken + value
        yield target, value
    if rest is not None:
        left = 1 - taken
        if np.min(left) < -SLACK:
            rest[1].place.refuse(f"the other moves of {told} sum to {float(np.max(taken)):.9g}, more than one.")
        yield rest[0], np.maximum(left, 0.0)
    elif formula is not None and np.max(np.abs(taken - 1)) > SLACK:
        odd = np.ravel(taken)[np.argmax(np.abs(np.ravel(taken) - 1))]
        formula.place.refuse(f"the row {told} sums to {float(odd):.9g}, not to one.", "Write rest for what is left.")


def _trace(bound: Bound, body: Cohort, slots: list[tuple[str, int]]) -> Array:
    """Shares of the cohort, (cycles + 1, slots, draws)."""
    rows = np.empty((body.cycles + 1, len(slots), bound.draws))
    rows[0] = 0
    begin = dict(_row(bound, body.start, "start"))
    for at, (name, spent) in enumerate(slots):
        if spent <= 1 and name in begin:
            rows[0, at] = begin[name]
    reached: set[int] = set()
    moves = []
    for at, to, probability in _moves(bound, body, slots):
        moves.append((at, to, _by_cycle(probability, body.cycles), to in reached))
        reached.add(to)
    rows[1:, [at for at in range(len(slots)) if at not in reached]] = 0
    spare = np.empty(bound.draws)
    now = list(rows[0])
    for cycle in range(body.cycles):
        then = list(rows[cycle + 1])
        for at, to, values, others in moves:
            if others:
                np.multiply(now[at], values[cycle], out=spare)
                np.add(then[to], spare, out=then[to])
            else:  # the first to arrive need not be added to anybody
                np.multiply(now[at], values[cycle], out=then[to])
        now = then
    return rows


def _by_cycle(values: Array, cycles: int) -> list[Array]:
    """One entry per cycle, so that the loop over cycles need not index arrays of different shapes."""
    values = np.asarray(values)
    return [values] * cycles if values.ndim < 2 or len(values) == 1 else list(values)


def weights(counting: Counting, rows: int) -> Array:
    """How often each row of a trace counts (rows = cycles + 1).

    Simpson's weights are those of Alarid-Escudero et al. 2023 (Medical Decision Making 43(1), tutorial code): ends
    1/3, then 4/3 and 2/3 in turn as the parity of the row, counted from 1, is odd or even.
    """
    found = np.ones(rows)
    match counting:
        case "simpson":
            found[:] = np.where(np.arange(1, rows + 1) % 2 == 0, 2 / 3, 4 / 3)
            found[[0, -1]] = 1 / 3
        case "half":
            found[[0, -1]] = 0.5
        case "start":
            found[-1] = 0
        case "end":
            found[0] = 0
        case "none":
            pass
    return found


def _rewards(bound: Bound, body: Cohort, outcome: Outcome, slots: list[tuple[str, int]]) -> Array:
    """What an outcome is worth by row and slot, (rows or 1, slots, draws or 1)."""
    cycles = np.arange(0, body.cycles + 1, dtype=np.float64)
    cached: dict[int, Bound] = {}
    values = []
    for name, spent in slots:
        timed = cached.setdefault(spent, _timed(bound, cycles, body.cycle_years, spent))
        values.append(np.atleast_2d(timed.value(outcome.states[name])))
    return np.stack(np.broadcast_arrays(*values), axis=1)


def _sum(bound: Bound, body: Cohort, outcome: Outcome, slots: list[tuple[str, int]], rows: Array) -> Array:
    """One outcome of one strategy over the whole trace, (draws,)."""
    years: Array = np.arange(body.cycles + 1, dtype=np.float64) * body.cycle_years
    factors = weights(body.counting, body.cycles + 1) * outcome.discount.factor(years)
    values = _rewards(bound, body, outcome, slots)
    if len(values) == 1:
        spent = np.tensordot(factors, rows, axes=1)  # slots x draws: discounted cycles in each state
        total: Array = (spent * values[0]).sum(axis=0)
    else:
        total = np.einsum("c,csd,csd->d", factors, rows, np.broadcast_to(values, rows.shape), optimize=False)
    return total if outcome.once is None else total + bound.value(outcome.once)


# trees


def _fold(bound: Bound, tree: Tree, outcome: Outcome) -> Array:
    """A tree's expected outcome, from the leaves back to the root, (draws,) or a single number."""
    known: dict[str, Array] = {}

    def worth(node: Node) -> Array:
        if node.name not in known:
            own: Array = np.zeros(bound.draws)
            if outcome.name in node.adds:
                own = own + bound.value(node.adds[outcome.name]) * float(
                    outcome.discount.factor(np.array([node.years]))[0]
                )
            for target, probability in _row(bound, node.follows, f"nodes.{node.name}.to"):
                own = own + probability * worth(tree.nodes[target])
            known[node.name] = own
        return known[node.name]

    total = worth(tree.nodes[bound.strategy.root or tree.root])
    return total if outcome.once is None else total + bound.value(outcome.once)


def _tree_years(bound: Bound, tree: Tree, outcome: str) -> Array:
    """Amounts by year, base case."""
    reached = {bound.strategy.root or tree.root: 1.0}
    found: dict[int, float] = {0: 0.0}
    once = next(each.once for each in bound.model.outcomes if each.name == outcome)
    if once is not None:
        found[0] += float(np.mean(bound.value(once)))
    for name in _downward(tree, bound.strategy.root or tree.root):
        node = tree.nodes[name]
        if outcome in node.adds:
            year = int(node.years)
            found[year] = found.get(year, 0.0) + reached[name] * float(np.mean(bound.value(node.adds[outcome])))
        for target, probability in _row(bound, node.follows, f"nodes.{name}.to"):
            reached[target] = reached.get(target, 0.0) + reached[name] * float(np.mean(probability))
    out = np.zeros(max(found) + 1)
    for year, amount in found.items():
        out[year] = amount
    return out


def _downward(tree: Tree, root: str) -> list[str]:
    """Nodes below a root, each after all that lead to it."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name not in order:
            for target in tree.nodes[name].follows:
                visit(target)
            order.append(name)

    visit(root)
    return order[::-1]
