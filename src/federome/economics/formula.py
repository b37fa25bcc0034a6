"""The small language in which models are written: arithmetic, comparison, ``a if c else b`` and a few functions.

A formula is parsed by Python's own parser and then walked by us over a short list of node types; nothing is ever
executed. Rates, probabilities, amounts and plain numbers are told apart before anything is computed: what moves
people between states is a probability, and a rate becomes one only through ``probability(rate)``.
Arrays broadcast over (cycles, draws).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from federome.economics.document import Place
from federome.errors import Invalid

Array = NDArray[np.float64]
Kind = Literal["rate", "probability", "amount", "number"]

MAX_LETTERS: Final = 1000
MAX_DEPTH: Final = 40
RESERVED: Final = ("cycle", "time", "state_time", "cycle_years", "rest")
"""``cycle`` counts from 1 during moves and is the row of the trace in outcomes; ``time`` is in years;
``state_time`` counts the cycles spent in a tunnel state, from 1; ``rest`` is what other moves leave over."""


@dataclass(frozen=True)
class Lookup:
    """A step function given as a table: the value at the largest step that is not above the argument."""

    place: Place
    kind: Kind
    at: tuple[float, ...]
    values: tuple[float, ...]

    def __call__(self, x: Array) -> Array:
        if bool((x < self.at[0]).any()):
            self.place.refuse(f"the table begins at {self.at[0]:g} and was asked for less.")
        return np.asarray(self.values)[np.searchsorted(self.at, x, side="right") - 1]


@dataclass(frozen=True)
class Formula:
    """A checked formula. ``names`` are the parameters and reserved words it mentions."""

    text: str
    place: Place
    tree: ast.expr
    names: frozenset[str]


@dataclass(frozen=True)
class Function:
    """A function of the language: how many arguments, what they must be, what comes out, and how it is computed."""

    takes: tuple[tuple[Kind, ...], ...]
    gives: Kind
    compute: Callable[..., Array]
    optional: int = 0


def parse(text: str, place: Place, *, functions: Sequence[str] = ()) -> Formula:
    """Read one formula. ``Invalid`` names what is not part of the language. ``functions`` are names of tables."""
    if len(text) > MAX_LETTERS:
        place.refuse(f"a formula has at most {MAX_LETTERS} characters.")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        place.refuse(f"{text[:60]!r} is not a formula.")
    names: set[str] = set()
    _check(tree, place, names, {*FUNCTIONS, "min", "max", *functions}, MAX_DEPTH)
    return Formula(text, place, tree, frozenset(names))


_UNARY: Final[Mapping[type[ast.unaryop], Callable[[Array], Array]]] = {ast.USub: np.negative, ast.UAdd: np.positive}
_BINARY: Final[Mapping[type[ast.operator], Callable[[Array, Array], Array]]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}
_COMPARE: Final[Mapping[type[ast.cmpop], Callable[[Array, Array], NDArray[np.bool_]]]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}


def _check(node: ast.expr, place: Place, names: set[str], functions: set[str], depth: int) -> None:
    """Only what the language has; collects the names on the way."""
    if depth == 0:
        place.refuse("the formula is nested too deeply.")
    below: Sequence[ast.expr] = ()
    match node:
        case ast.Constant(value=bool()):
            place.refuse("a formula holds numbers, not truth values.", "Write 1 or 0.")
        case ast.Constant(value=int() | float() as value):
            if abs(value) > 1e300:
                place.refuse("a number in the formula is too large.")
        case ast.Name(id=name):
            names.add(name)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            below = (operand,)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            below = (left, right)
        case ast.BoolOp(values=values):
            below = values
        case ast.Compare(left=left, ops=ops, comparators=right) if all(type(op) in _COMPARE for op in ops):
            below = (left, *right)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            below = (test, body, orelse)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in functions:
            below = args
        case ast.Call(func=ast.Name(id=name)):
            place.refuse(f"there is no function {name[:40]!r}.", f"Known: {', '.join(sorted(functions))}.")
        case _:
            place.refuse(f"{ast.unparse(node)[:60]!r} is not part of the language.")
    for each in below:
        _check(each, place, names, functions, depth - 1)


# kinds


def kind_of(formula: Formula, kinds: Mapping[str, Kind], tables: Mapping[str, Lookup]) -> Kind:
    """What a formula gives. ``Invalid`` where it mixes rates with probabilities, or amounts with either."""
    return _Kinds(formula.place, kinds, tables).of(formula.tree)


@dataclass(frozen=True)
class _Kinds:
    place: Place
    kinds: Mapping[str, Kind]
    tables: Mapping[str, Lookup]

    def of(self, node: ast.expr) -> Kind:
        match node:
            case ast.Constant():
                return "number"
            case ast.Name(id=name):
                return self.kinds[name]
            case ast.UnaryOp(operand=operand):
                return self.of(operand)
            case ast.BinOp(left=left, op=op, right=right):
                return self.binary(type(op), left, right)
            case ast.BoolOp(values=values):
                for each in values:
                    self.of(each)
                return "number"
            case ast.Compare(left=left, comparators=right):
                for each in (left, *right):
                    self.of(each)
                return "number"
            case ast.IfExp(test=test, body=body, orelse=orelse):
                self.of(test)
                return self.same(body, orelse)
            case ast.Call(func=ast.Name(id=name), args=args):
                return self.call(name, args)
            case _:  # pragma: no cover - _check lets nothing else through
                raise AssertionError(ast.dump(node))

    def binary(self, op: type[ast.operator], left: ast.expr, right: ast.expr) -> Kind:
        one, two = self.of(left), self.of(right)
        if op in (ast.Add, ast.Sub):
            return self.same(left, right)
        if op is ast.Mult:
            return self.product(one, two, left, right)
        if op is ast.Div:
            return "number" if one == two else one if two in ("number", "probability") else "number"
        if two != "number":
            self.place.refuse(f"an exponent is a plain number, and {ast.unparse(right)[:40]!r} is a {two}.")
        return one if one in ("number", "probability", "amount") else "number"

    def product(self, one: Kind, two: Kind, left: ast.expr, right: ast.expr) -> Kind:
        if one == two == "rate":
            told = f"{ast.unparse(left)[:40]} * {ast.unparse(right)[:40]}"
            self.place.refuse(f"{told!r} multiplies two rates.")
        for strong in ("amount", "rate", "probability"):
            if strong in (one, two):
                return strong
        return "number"

    def same(self, left: ast.expr, right: ast.expr) -> Kind:
        """The kind of a sum or of two cases: equal kinds, or one that a plain number may stand in for."""
        one, two = self.of(left), self.of(right)
        if one == two:
            return one
        free = (
            {"probability", "amount"} if not (_literal(left) or _literal(right)) else {"probability", "amount", "rate"}
        )
        for other, plain in ((one, two), (two, one)):
            if plain == "number" and other in free:
                return other
        self.place.refuse(
            f"{ast.unparse(left)[:40]!r} is a {one} and {ast.unparse(right)[:40]!r} a {two}: they do not go together.",
            "probability(rate) and rate(probability) turn one into the other." if "rate" in (one, two) else "",
        )

    def call(self, name: str, args: Sequence[ast.expr]) -> Kind:
        if name in ("min", "max"):
            if len(args) != 2:
                self.place.refuse(f"{name} takes two arguments.")
            return self.same(args[0], args[1])
        if name in self.tables:
            if len(args) != 1 or self.of(args[0]) != "number":
                self.place.refuse(f"the table {name} is asked with one plain number.")
            return self.tables[name].kind
        function = FUNCTIONS[name]
        if not len(function.takes) - function.optional <= len(args) <= len(function.takes):
            self.place.refuse(f"{name} takes {len(function.takes)} arguments, not {len(args)}.")
        for at, (arg, wanted) in enumerate(zip(args, function.takes, strict=False), 1):
            if (got := self.of(arg)) not in wanted and not (_literal(arg) and got == "number"):
                self.place.refuse(f"argument {at} of {name} is a {wanted[0]}, and {ast.unparse(arg)[:40]!r} a {got}.")
        return function.gives


def _literal(node: ast.expr) -> bool:
    return all(not isinstance(each, ast.Name) for each in ast.walk(node))


# values


def evaluate(formula: Formula, names: Callable[[str], Array], tables: Mapping[str, Lookup]) -> Array:
    """The formula's values, broadcast over its names. ``Invalid`` where a value is not finite."""
    with np.errstate(all="ignore"):
        try:
            values = _Values(names, tables).of(formula.tree)
        except Invalid as error:
            if error.where:
                raise
            formula.place.refuse(error.message, error.remedy)
    if not np.isfinite(values).all():
        formula.place.refuse(f"{formula.text[:60]!r} gives values that are not finite numbers.")
    return values


@dataclass(frozen=True)
class _Values:
    names: Callable[[str], Array]
    tables: Mapping[str, Lookup]

    def of(self, node: ast.expr) -> Array:
        match node:
            case ast.Constant(value=int() | float() as value):
                return np.float64(value)  # type: ignore[return-value]
            case ast.Name(id=name):
                return self.names(name)
            case ast.UnaryOp(op=op, operand=operand):
                return _UNARY[type(op)](self.of(operand))
            case ast.BinOp(left=left, op=op, right=right):
                return _BINARY[type(op)](self.of(left), self.of(right))
            case ast.BoolOp(op=op, values=values):
                truths = [self.of(each) != 0 for each in values]
                merge = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return np.asarray(merge.reduce(np.broadcast_arrays(*truths)), np.float64)
            case ast.Compare(left=left, ops=ops, comparators=right):
                return self.compare(left, ops, right)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return np.where(self.of(test) != 0, self.of(body), self.of(orelse))
            case ast.Call(func=ast.Name(id=name), args=args):
                return self.call(name, [self.of(each) for each in args])
            case _:  # pragma: no cover - _check lets nothing else through
                raise AssertionError(ast.dump(node))

    def compare(self, left: ast.expr, ops: Sequence[ast.cmpop], right: Sequence[ast.expr]) -> Array:
        sides = [self.of(left), *map(self.of, right)]
        truth: NDArray[np.bool_] = np.asarray(True)
        for at, op in enumerate(ops):
            truth = truth & _COMPARE[type(op)](sides[at], sides[at + 1])
        return np.asarray(truth, np.float64)

    def call(self, name: str, args: list[Array]) -> Array:
        if name in ("min", "max"):
            return (np.minimum if name == "min" else np.maximum)(*args)
        if name in self.tables:
            return self.tables[name](np.asarray(args[0]))
        if name in ("probability", "rate") and len(args) == 1:
            cycle = self.names("cycle_years")
            if name == "probability" and bool(np.any(args[0] * cycle > 1)):
                raise Invalid(
                    "a rate is above one event per cycle: the cycle is too long for it.",
                    remedy="Shorten cycle_years, or name the years yourself: probability(rate, years).",
                )
            args = [*args, cycle]
        return FUNCTIONS[name].compute(*args)


def rate_to_probability(rate: Array, years: Array) -> Array:
    """1 − exp(−rate × years): the chance of at least one event at a constant hazard."""
    if bool(np.any(rate < 0)) or bool(np.any(years < 0)):
        raise Invalid("a rate or its time is negative.")
    return -np.expm1(-rate * years)


def probability_to_rate(probability: Array, years: Array) -> Array:
    """−ln(1 − p) / years: the constant hazard that gives this probability within these years."""
    if bool(np.any((probability < 0) | (probability >= 1))):
        raise Invalid("only a probability of at least 0 and below 1 has a rate.")
    return -np.log1p(-probability) / years


def weibull(time: Array, scale: Array, shape: Array) -> Array:
    """Probability of an event in the cycle ending at ``time`` for cumulative hazard scale × time^shape.

    Briggs, Sculpher, Claxton 2006, §3.3.2. ``time`` counts cycles from 1.
    """
    if bool(np.any(scale < 0)) or bool(np.any(shape <= 0)) or bool(np.any(time < 1)):
        raise Invalid("a Weibull hazard needs time ≥ 1, scale ≥ 0 and shape > 0.")
    return -np.expm1(scale * ((time - 1) ** shape - time**shape))


def gompertz(time: Array, rate: Array, slope: Array) -> Array:
    """Probability of an event in the cycle ending at ``time`` for the hazard rate × exp(slope × t); cycles from 1."""
    if bool(np.any(rate < 0)) or bool(np.any(time < 1)):
        raise Invalid("a Gompertz hazard needs time ≥ 1 and rate ≥ 0.")
    safe = np.where(slope == 0, 1.0, slope)
    span = np.where(slope == 0, 1.0, np.exp(slope * (time - 1)) * np.expm1(slope) / safe)
    return -np.expm1(-rate * span)


def by_odds(probability: Array, ratio: Array) -> Array:
    """The probability whose odds are ``ratio`` times as large."""
    if bool(np.any(ratio < 0)):
        raise Invalid("an odds ratio is negative.")
    return probability * ratio / (1 - probability + probability * ratio)


_ANY: Final[tuple[Kind, ...]] = ("number", "probability", "rate", "amount")
FUNCTIONS: Final[Mapping[str, Function]] = {
    "exp": Function((("number",),), "number", np.exp),
    "log": Function((_ANY,), "number", np.log),
    "sqrt": Function((("number", "probability"),), "number", np.sqrt),
    "floor": Function((("number",),), "number", np.floor),
    "normal_cdf": Function((("number",),), "probability", special.ndtr),
    "normal_quantile": Function((("probability",),), "number", special.ndtri),
    "probability": Function((("rate",), ("number",)), "probability", rate_to_probability, optional=1),
    "rate": Function((("probability",), ("number",)), "rate", probability_to_rate, optional=1),
    "weibull": Function((("number",), ("number", "rate"), ("number",)), "probability", weibull),
    "gompertz": Function((("number",), ("number", "rate"), ("number",)), "probability", gompertz),
    "by_odds": Function((("probability",), ("number",)), "probability", by_odds),
}
