"""Model files: from TOML to a checked ``Model``. What is wrong is refused here, with file, line and name.

The format is described in ``docs/reference/economic-models.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final, cast, get_args

import numpy as np

from federome.economics import distribution
from federome.economics.document import Place, Section, check_name, parse, read_text
from federome.economics.formula import FUNCTIONS as BUILT_IN
from federome.economics.formula import RESERVED, Formula, Kind, Lookup, kind_of
from federome.economics.formula import parse as parse_formula
from federome.economics.model import (
    Cohort,
    Counting,
    Discount,
    Model,
    Node,
    Outcome,
    Parameter,
    Result,
    Role,
    Strategy,
    Tree,
)
from federome.errors import Invalid

FORMAT: Final = 1
MAX_CYCLES: Final = 10_000
MAX_PARAMETERS: Final = 300
KINDS: Final[Mapping[str, Kind]] = {
    "rate": "rate",
    "probability": "probability",
    "cost": "amount",
    "utility": "amount",
    "ratio": "number",
    "number": "number",
}
_RESERVED_KINDS: Final[Mapping[str, Kind]] = {name: "number" for name in RESERVED if name != "rest"}


def shipped() -> dict[str, str]:
    """The models that come with the program: their texts by name."""
    folder = resources.files("federome.economics") / "models"
    files = sorted((each for each in folder.iterdir() if each.name.endswith(".toml")), key=lambda each: each.name)
    return {each.name.removesuffix(".toml"): each.read_text("utf-8") for each in files}


def model_text(name: str) -> tuple[str, str]:
    """Text and file name of a model: of a shipped one by its name, of any other by the path of its file."""
    if name.endswith(".toml"):
        return read_text(Path(name)), name
    known = shipped()
    if name not in known:
        raise Invalid(f"no model is called {name[:60]!r}.", remedy=f"Known: {', '.join(known)}; or name a .toml file.")
    return known[name], f"{name}.toml"


def find_model(name: str) -> Model:
    """A model by the name of a shipped one, or by the path of a file."""
    return read_model(*model_text(name))


def read_model(text: str, file: str) -> Model:
    """A checked model. ``Invalid`` names file, line and entry."""
    top = parse(text, file)
    if top.whole("format", low=1, high=99) != FORMAT:
        top.place("format").refuse(f"format {FORMAT} is expected.")
    return Reader(top).model()


@dataclass
class Reader:
    """Reads one file. ``kinds`` grows as names become known."""

    top: Section
    sources: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Lookup] = field(default_factory=dict)
    kinds: dict[str, Kind] = field(default_factory=dict)

    def model(self) -> Model:
        top = self.top
        parameters = self._parameters()
        strategies = tuple(self._strategies(top.section("strategies"), parameters))
        choices = {name for each in strategies for name in each.sets if name not in parameters}
        self._parameter_kinds(parameters, {**_RESERVED_KINDS, **dict.fromkeys(choices, "number")})
        for each in strategies:
            _no_circles({**{n: p.formula for n, p in parameters.items()}, **each.sets})
            self._check_sets(each.sets, parameters)
        outcomes = top.section("outcomes")
        body = self._body()
        model = Model(
            id=top.text("id"),
            file=top.file,
            title=top.text("title"),
            question=top.text("question"),
            population=top.text("population"),
            perspective=top.text("perspective"),
            horizon=top.text("horizon"),
            currency=top.text("currency"),
            price_year=top.whole("price_year", low=1970, high=2100),
            sources=self.sources,
            parameters=parameters,
            tables=self.tables,
            strategies=strategies,
            outcomes=tuple(self._outcome(name, at, body) for name, at in outcomes.sections()),
            body=body,
            scenarios={n: self._scenario(s, parameters) for n, s in top.section("scenarios", needed=False).sections()},
            countries={n: self._local(s, parameters) for n, s in top.section("countries", needed=False).sections()},
            groups=tuple(self._groups(top.section("dirichlet", needed=False), parameters)),
            correlations=tuple(self._correlations(top.section("correlations", needed=False), parameters)),
            assumptions=top.texts("assumptions") if "assumptions" in top else (),
        )
        top.taken.add("format")
        top.done()
        for role in get_args(Role):
            if not any(each.role == role for each in model.outcomes):
                outcomes.place().refuse(f"no outcome has the role {role!r}.")
        if sum(each.role == "cost" for each in model.outcomes) > 1:
            outcomes.place().refuse("more than one outcome has the role 'cost'.")
        self._tree_adds(model)
        return model

    # parameters

    def constants(self) -> dict[str, Parameter]:
        """Sources and parameters of a file without strategies, checked."""
        found = self._parameters()
        self._parameter_kinds(found, {name: each.kind for name, each in found.items()})
        _no_circles({name: each.formula for name, each in found.items()})
        return found

    def formula(self, at: Section, name: str, wanted: Kind) -> Formula:
        """An entry's formula over what is known by now."""
        found = self._formula(at, name)
        self._check(found, wanted, name)
        return found

    def _parameters(self) -> dict[str, Parameter]:
        sources = self.top.section("sources")
        self.sources = {name: sources.text(name) for name in sources}
        self.tables = dict(self._tables(self.top.section("tables", needed=False)))
        found = {name: self._parameter(name, at) for name, at in self.top.section("parameters").sections()}
        if len(found) > MAX_PARAMETERS:
            self.top.place("parameters").refuse(f"a model has at most {MAX_PARAMETERS} parameters.")
        return found

    def _tables(self, section: Section) -> Iterator[tuple[str, Lookup]]:
        for name, at in section.sections():
            place = at.place()
            self._new_name(name, place)
            kind = KINDS[at.choice("kind", tuple(KINDS))]
            steps, values = at.numbers("at"), at.numbers("values")
            if len(steps) != len(values) or list(steps) != sorted(set(steps)):
                place.refuse("a table needs as many values as steps, and steps that rise.")
            for value in values:
                check_value(value, kind, at.place("values"))
            self._source(at)
            at.text("says", "-")
            at.taken.update(("verified", "says"))
            at.done()
            yield name, Lookup(place, kind, steps, values)

    def _new_name(self, name: str, place: Place) -> None:
        check_name(name, place)
        if name in RESERVED or name in BUILT_IN or name in ("min", "max"):
            place.refuse("this name has a meaning of its own in formulas.", "Choose another.")
        if name in self.tables:
            place.refuse("a table has this name already.")

    def _source(self, at: Section) -> str:
        name = at.text("source")
        if name not in self.sources:
            at.place("source").refuse(f"the source {name[:40]!r} is not listed under [sources].")
        return name

    def _parameter(self, name: str, at: Section) -> Parameter:
        place = at.place()
        self._new_name(name, place)
        word = at.choice("kind", tuple(KINDS))
        kind = KINDS[word]
        says = at.text("says")
        if "formula" in at:
            found = Parameter(name, place, kind, says, formula=self._formula(at, "formula"), money=word == "cost")
        else:
            found = self._constant(name, at, word, says)
        at.done()
        return found

    def _constant(self, name: str, at: Section, word: str, says: str) -> Parameter:
        kind, place = KINDS[word], at.place()
        value = at.number("value")
        check_value(value, kind, at.place("value"), money=word == "cost")
        law = None
        if "distribution" in at:
            law = distribution.read(at.section("distribution"))
            _check_law(law, kind, at.place("distribution"), money=word == "cost")
        low, high = (at.number("low"), at.number("high")) if "low" in at or "high" in at else (None, None)
        if low is not None and high is not None and not low <= value <= high:
            at.place("low").refuse("low ≤ value ≤ high must hold.")
        return Parameter(
            name,
            place,
            kind,
            says,
            value=value,
            distribution=law,
            low=low,
            high=high,
            money=word == "cost",
            source=self._source(at),
            verified=at.flag("verified", default=False),
            result=self._result(at.section("result"), kind) if "result" in at else None,
        )

    def _result(self, at: Section, kind: Kind) -> Result:
        if kind != "probability":
            at.place().refuse("only a probability can come from a count of people.")
        found = Result(
            algorithm=at.text("algorithm"),
            table=at.text("table"),
            count=at.text("count"),
            of=at.text("of"),
            where=_words(at.section("where", needed=False)),
        )
        at.done()
        return found

    def _formula(self, at: Section, name: str) -> Formula:
        return parse_formula(at.formula_text(name), at.place(name), functions=tuple(self.tables))

    # strategies and kinds

    def _strategies(self, section: Section, parameters: Mapping[str, Parameter]) -> Iterator[Strategy]:
        """Every strategy sets the same choices; besides, it may replace parameters."""
        first: set[str] | None = None
        for name, at in section.sections():
            sets = at.section("set", needed=False)
            found = {each: self._formula(sets, each) for each in sets}
            choices = {each for each in found if each not in parameters}
            for each in choices:
                self._new_name(each, sets.place(each))
            first = choices if first is None else first
            if choices != first:
                odd = sorted(choices ^ first)[0]
                at.place().refuse(f"{odd[:40]!r} is set by some strategies and not by others.")
            yield Strategy(name, at.place(), at.text("title"), found, at.text("root") if "root" in at else "")
            at.done()
        if first is None:
            section.place().refuse("a model has at least one strategy.")

    def _parameter_kinds(self, parameters: Mapping[str, Parameter], others: Mapping[str, Kind]) -> None:
        self.kinds = {**others, **{name: each.kind for name, each in parameters.items()}}
        for each in parameters.values():
            if each.formula is not None:
                self._check(each.formula, each.kind, each.name)

    def _check_sets(self, sets: Mapping[str, Formula], parameters: Mapping[str, Parameter]) -> None:
        for name, formula in sets.items():
            self._check(formula, parameters[name].kind if name in parameters else "number", name)

    def _check(self, formula: Formula, wanted: Kind, name: str) -> None:
        """Names exist and the formula gives what is wanted here."""
        for used in sorted(formula.names):
            if used not in self.kinds:
                formula.place.refuse(f"{used[:40]!r} is not defined.")
        got = kind_of(formula, self.kinds, self.tables)
        if got == wanted or wanted == "amount":
            return
        constant = not formula.names
        if (got == "number" and (constant or wanted == "probability")) or (wanted == "number" and got == "probability"):
            return
        told = "probability(rate) turns a rate into one." if (got, wanted) == ("rate", "probability") else ""
        formula.place.refuse(f"{name} is a {wanted}, and its formula gives a {got}.", told)

    # outcomes and structure

    def _outcome(self, name: str, at: Section, body: Cohort | Tree) -> Outcome:
        check_name(name, at.place())
        states = at.section("states", needed=isinstance(body, Cohort))
        found = {each: self._formula(states, each) for each in states}
        for state, formula in found.items():
            if not isinstance(body, Cohort) or state not in body.states:
                states.place(state).refuse("there is no such state.")
            self._check(formula, "amount", name)
        if isinstance(body, Cohort) and (missing := [each for each in body.states if each not in found]):
            states.place().refuse(f"the state {missing[0]!r} has no value here.", "Write 0 where nothing counts.")
        once = self._formula(at, "once") if "once" in at else None
        if once is not None:
            self._check(once, "amount", name)
        role = cast(Role, at.choice("role", get_args(Role)))
        outcome = Outcome(name, at.place(), role, at.text("unit"), _discount(at), found, once)
        at.done()
        return outcome

    def _body(self) -> Cohort | Tree:
        if ("cohort" in self.top) == ("tree" in self.top):
            self.top.place().refuse("a model has either [cohort] or [tree].")
        if "cohort" in self.top:
            return self._cohort(self.top.section("cohort"))
        return self._tree(self.top.section("tree"))

    def _cohort(self, at: Section) -> Cohort:
        states = at.texts("states")
        for state in states:
            check_name(state, at.place("states"))
        tunnels = at.section("tunnels", needed=False)
        lengths = {name: tunnels.whole(name, low=1, high=1000) for name in tunnels}
        start = at.section("start")
        begin = self._row(start)
        moves = at.section("moves")
        found = {name: self._row(row) for name, row in moves.sections()}
        for section, names in ((tunnels, lengths), (start, begin), (moves, found)):
            for name in names:
                if name not in states:
                    section.place(name).refuse("there is no such state.")
        for name, row in found.items():
            for target in row:
                if target not in states:
                    moves.section(name).place(target).refuse("there is no such state.")
        if missing := [each for each in states if each not in found]:
            moves.place().refuse(f"the state {missing[0]!r} has no moves.", f"Write {missing[0]} = 1 if people stay.")
        years = at.number("cycle_years", 1.0)
        if years <= 0:
            at.place("cycle_years").refuse("a cycle lasts longer than nothing.")
        cycles = at.whole("cycles", low=1, high=MAX_CYCLES)
        counting = cast(Counting, at.choice("counting", get_args(Counting)))
        if counting == "simpson" and cycles < 2:
            at.place("counting").refuse("Simpson's rule needs two cycles at least.")
        at.done()
        return Cohort(cycles, years, counting, states, lengths, begin, found)

    def _row(self, row: Section) -> dict[str, Formula]:
        found = {name: self._formula(row, name) for name in row}
        for name, formula in found.items():
            if is_rest(formula):
                continue
            if "rest" in formula.names:
                formula.place.refuse("rest stands alone.")
            self._check(formula, "probability", f"the move to {name}")
        if sum(is_rest(each) for each in found.values()) > 1:
            row.place().refuse("rest is written once in a row.")
        return found

    def _tree(self, at: Section) -> Tree:
        root = at.text("root")
        nodes = {name: self._node(name, node) for name, node in at.section("nodes").sections()}
        names = {name: node.follows for name, node in nodes.items()}
        for name, follows in names.items():
            for target in follows:
                if target not in nodes:
                    nodes[name].place.refuse(f"there is no node {target[:40]!r}.")
        strategies = self.top.section("strategies")
        for name, each in strategies.sections():
            if each.text("root", root) not in nodes:
                strategies.section(name).place("root").refuse("there is no such node.")
        if root not in nodes:
            at.place("root").refuse("there is no such node.")
        at.done()
        _no_circles_among(names, at.place("nodes"))
        return Tree(root, nodes)

    def _node(self, name: str, at: Section) -> Node:
        to, adds = at.section("to", needed=False), at.section("adds", needed=False)
        node = Node(
            name,
            at.place(),
            at.number("years", 0.0),
            {each: self._formula(adds, each) for each in adds},
            self._row(to),
        )
        for outcome, formula in node.adds.items():
            self._check(formula, "amount", outcome)
        at.done()
        return node

    def _tree_adds(self, model: Model) -> None:
        if isinstance(model.body, Tree):
            names = {each.name for each in model.outcomes}
            for node in model.body.nodes.values():
                for outcome in node.adds:
                    if outcome not in names:
                        node.place.refuse(f"there is no outcome {outcome[:40]!r}.")

    # variations

    def _scenario(self, at: Section, parameters: Mapping[str, Parameter]) -> dict[str, Formula]:
        found = {name: self._formula(at, name) for name in at}
        for name in found:
            if name not in parameters:
                at.place(name).refuse("there is no such parameter.")
        self._check_sets(found, parameters)
        _no_circles({**{n: p.formula for n, p in parameters.items()}, **found})
        return found

    def _local(self, at: Section, parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
        found = {name: self._parameter(name, each) for name, each in at.sections()}
        for name, each in found.items():
            if name not in parameters or each.formula is not None or parameters[name].kind != each.kind:
                at.place(name).refuse("a country replaces the value of a parameter of the model, of the same kind.")
        return found

    def _groups(
        self, section: Section, parameters: Mapping[str, Parameter]
    ) -> Iterator[tuple[tuple[str, ...], tuple[float, ...]]]:
        for name, at in section.sections():
            members, counts = at.texts("parameters"), at.numbers("counts")
            at.done()
            if len(members) != len(counts) or min(counts) <= 0:
                section.place(name).refuse("a Dirichlet law needs a count above 0 for each of its parameters.")
            for each in members:
                if each not in parameters or parameters[each].value is None or parameters[each].distribution:
                    section.place(name).refuse(f"{each[:40]!r} must be a constant without a distribution of its own.")
            yield members, counts

    def _correlations(self, section: Section, parameters: Mapping[str, Parameter]) -> Iterator[tuple[str, str, float]]:
        for name, at in section.sections():
            one, two = (*at.texts("parameters"), "")[:2]
            value = at.number("correlation")
            at.done()
            for each in (one, two):
                if each not in parameters or parameters[each].distribution is None:
                    section.place(name).refuse(f"{each[:40]!r} has no distribution to be correlated.")
            if not -1 < value < 1:
                section.place(name).refuse("a correlation lies between -1 and 1.")
            yield one, two, value


def is_rest(formula: Formula) -> bool:
    return formula.text.strip() == "rest"


def _words(at: Section) -> dict[str, str]:
    return {name: at.text(name) for name in at}


def check_value(value: float, kind: Kind, place: Place, *, money: bool = False) -> None:
    """``Invalid`` about this place for a value that an input of this kind cannot have."""
    if kind == "probability" and not 0 <= value <= 1:
        place.refuse("a probability lies between 0 and 1.")
    if (kind == "rate" or money) and value < 0:
        place.refuse("a rate or a cost is not negative.")


def _check_law(law: distribution.Distribution, kind: Kind, place: Place, *, money: bool) -> None:
    """A law may only give values its parameter can have."""
    low, high = law.quantile(np.array([0.0, 1.0]))
    if kind == "probability" and not (low >= 0 and high <= 1):
        place.refuse(f"a {law.law} law gives values that are no probabilities.", "Use beta.")
    if kind == "rate" and low < 0:
        place.refuse(f"a {law.law} law gives rates below 0.", "Use gamma or lognormal.")
    if money and law.law == "beta":
        place.refuse("a beta law gives values from 0 to 1, which no cost is.", "Use gamma.")


def _discount(at: Section) -> Discount:
    if "discount" not in at:
        at.place("discount").refuse("this entry is missing.")
    if isinstance(at.values["discount"], int | float):
        steps: tuple[tuple[float, float], ...] = ((0.0, at.number("discount")),)
    else:
        table = at.section("discount")
        steps = tuple(zip(table.numbers("from"), table.numbers("rates"), strict=False))
        if len(table.numbers("from")) != len(table.numbers("rates")):
            table.place().refuse("as many rates as years are needed.")
        table.done()
    return check_discount(Discount(steps), at.place("discount"))


def check_discount(discount: Discount, place: Place) -> Discount:
    """The discount if its steps rise from year 0 and its rates are sensible."""
    years = [begin for begin, _ in discount.steps]
    if years[0] != 0 or years != sorted(set(years)) or any(not 0 <= rate < 1 for _, rate in discount.steps):
        place.refuse("discount rates lie from 0 to below 1, and their years rise from 0.")
    return discount


def _no_circles(formulas: Mapping[str, Formula | None]) -> None:
    """Refuse formulas that need their own result."""
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        formula = formulas.get(name)
        if name in done or formula is None:
            return
        if name in path:
            formula.place.refuse(f"the formulas go round in a circle: {' → '.join([*path[path.index(name) :], name])}.")
        for used in sorted(formula.names):
            visit(used, (*path, name))
        done.add(name)

    for name in formulas:
        visit(name, ())


def _no_circles_among(names: Mapping[str, Mapping[str, Formula]], place: Place) -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            place.refuse(f"the tree goes round in a circle: {' → '.join([*path[path.index(name) :], name])}.")
        if name not in done:
            for follower in names[name]:
                visit(follower, (*path, name))
            done.add(name)

    for name in names:
        visit(name, ())
