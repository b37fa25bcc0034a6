"""Access scenarios as files: who does what in which world, and what must be decided.

A file describes a world and scenarios; ``run`` makes keys and signed documents for it and drives the same code that
a node runs, with a simulated clock. ``federome policy check`` and the tests read the results.
The format is described in ``docs/reference/access-files.md``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from federome.errors import Invalid
from federome.governance.case import AccessRequest, Evidence
from federome.governance.consent import Operation, after_freeze, cohort_mask
from federome.governance.decide import decide, decide_cohort, decide_process
from federome.governance.decision import Decision, Outcome, Stage, combine
from federome.governance.evidence import Presented, gather, gather_question
from federome.governance.orders import consume, sign_order
from federome.governance.output_review import Output, Review, decide_release
from federome.governance.roles import Action, ActionRequest, decide_action
from federome.governance.scenario_world import Keychain, Raw, World, bundle_digest, merged, moment, without
from federome.model.order import RunOrder
from federome.model.permit import AlgorithmRef, Authorisation, Basis, EthicsDocument, HealthcareContract, Purpose
from federome.model.strict import Document, Identifier, JsonObject

MAX_FILE = 1 << 20
Include = Callable[[str], str]


@dataclass(frozen=True)
class Expect(Document):
    """What a step must give: the outcome, at least these codes and obligations, none of ``not_codes``.

    ``private``: codes in the node's log that no answer shows. ``cohort``, ``absent``: size of the frozen cohort and
    who is not in it. ``never_fetched``: addresses that nobody may have asked for.
    """

    outcome: Outcome
    codes: tuple[Identifier, ...] = ()
    not_codes: tuple[Identifier, ...] = ()
    obligations: tuple[str, ...] = ()
    private: tuple[Identifier, ...] = ()
    cohort: int | None = None
    absent: tuple[Identifier, ...] = ()
    never_fetched: tuple[Identifier, ...] = ()


@dataclass(frozen=True)
class StepSpec(Document):
    """One step. ``do`` says which decision is asked for; the other fields are its words (see the reference page)."""

    do: Literal["ask", "order", "apply", "freeze", "release", "act", "process", "change"]
    expect: Expect | None = None
    part: str = ""
    also: bool = False
    stage: Stage | None = None
    operation: Operation | None = None
    person: Identifier | None = None
    node: Identifier | None = None
    datasets: tuple[Identifier, ...] = ()
    permit: Identifier | None = None
    purpose: Purpose | None = None
    basis: Basis = "research"
    ethics: tuple[EthicsDocument, ...] = ()
    algorithm: Identifier | None = None
    digest: Identifier | None = None
    parameters: JsonObject = field(default_factory=dict)
    project: Identifier | None = None
    passport: bool = True
    embedded: bool = False
    visas: tuple[Identifier, ...] | None = None
    allow_partial: bool = False
    signed_by: Identifier | None = None
    audience: Identifier | None = None
    issued: str = "-1m"
    expires: str = "+1h"
    deadline: str = "+1h"
    repeat: bool = False
    output_class: Identifier | None = None
    cells: tuple[int, ...] = ()
    cohort: str = ""
    without: tuple[Identifier, ...] = ()
    over_budget: bool = False
    reviews: tuple[Review, ...] = ()
    action: Action | None = None
    authors: tuple[Identifier, ...] = ()


@dataclass(frozen=True)
class Change:
    """What a step does to the world before it asks: the clock, a patch, removals."""

    at: object = None
    patch: Raw = field(default_factory=dict)
    remove: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """One scenario: its world (the file's with its own patch) and its steps."""

    id: str
    title: str
    world: Raw
    steps: tuple[tuple[Change, StepSpec], ...]


@dataclass(frozen=True)
class StepResult:
    """What one step gave. ``again`` makes the same decision anew from the same inputs."""

    spec: StepSpec
    decision: Decision
    problems: tuple[str, ...]
    again: Callable[[], Decision] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Result:
    """What one scenario gave, and every way in which it is not what was expected."""

    id: str
    title: str
    steps: tuple[StepResult, ...]

    @property
    def ok(self) -> bool:
        """Whether every step gave what it must."""
        return not any(step.problems for step in self.steps)

    @property
    def expected(self) -> str:
        """The outcomes that the file expects, of the steps that are the scenario's answer."""
        return "; ".join(_part(s.spec, s.spec.expect.outcome) for s in self.steps if s.spec.expect and not s.spec.also)

    @property
    def got(self) -> str:
        """The outcomes of the same steps."""
        return "; ".join(_part(s.spec, s.decision.outcome) for s in self.steps if s.spec.expect and not s.spec.also)

    @property
    def reasons(self) -> tuple[str, ...]:
        """All reason codes of all expected steps."""
        return tuple(sorted({code for step in self.steps if step.spec.expect for code in step.decision.codes}))

    @property
    def problems(self) -> tuple[str, ...]:
        """What went otherwise than expected."""
        return tuple(problem for step in self.steps for problem in step.problems)

    def document(self) -> dict[str, object]:
        """The report of ``federome policy check --json``."""
        return {
            "id": self.id,
            "ok": self.ok,
            "expected": self.expected,
            "got": self.got,
            "reasons": list(self.reasons),
            "problems": list(self.problems),
        }


def parse(text: str, *, include: Include, where: str) -> tuple[Scenario, ...]:
    """The scenarios of one TOML file. ``include`` reads the file that ``extends`` names. Raises ``Invalid``."""
    return tuple(_scenarios(_toml(text, where), include, where))


def run(scenarios: Iterable[Scenario], *, keys: Keychain | None = None) -> list[Result]:
    """Run scenarios one after the other, each in a world of its own; only the keys are shared."""
    chain = keys or Keychain()
    return [_Runner(scenario, chain).run() for scenario in scenarios]


# --- reading ----------------------------------------------------------------------------------------------------


def _toml(text: str, where: str) -> dict[str, object]:
    if len(text) > MAX_FILE:
        raise Invalid("the scenario file is larger than we read.", where=where)
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Invalid(f"this is not TOML: {error}", where=where, remedy="Mend the line that is named.") from error


def _scenarios(document: dict[str, object], include: Include, where: str) -> Iterable[Scenario]:
    listed = document.pop("scenario", [])
    world = _extended(document, include, where, depth=0)
    if not isinstance(listed, list):
        raise Invalid("scenarios are written as [[scenario]].", where=where)
    seen: set[str] = set()
    for number, entry in enumerate(listed):
        scenario = _scenario(entry, world, f"{where}: scenario[{number}]")
        if scenario.id in seen:
            raise Invalid(f"the scenario {scenario.id} stands here twice.", where=where)
        seen.add(scenario.id)
        yield scenario


def _extended(document: dict[str, object], include: Include, where: str, *, depth: int) -> dict[str, object]:
    base = document.pop("extends", None)
    if base is None:
        return document
    if not isinstance(base, str) or depth > 4:
        raise Invalid("'extends' names one other file, a few deep at most.", where=where)
    below = _toml(include(base), base)
    below.pop("scenario", None)
    return merged(_extended(below, include, base, depth=depth + 1), document)


def _scenario(entry: object, world: Raw, where: str) -> Scenario:
    if not isinstance(entry, dict):
        raise Invalid("a scenario is a table.", where=where)
    unknown = set(entry) - {"id", "title", "step", "world", "remove", "clock"}
    ident, title, steps = entry.get("id"), entry.get("title", ""), entry.get("step", [])
    if unknown or not isinstance(ident, str) or not isinstance(title, str) or not isinstance(steps, list) or not steps:
        told = f"unknown: {', '.join(sorted(unknown))}." if unknown else "it needs an id and at least one step."
        raise Invalid(f"a scenario cannot be read; {told}", where=where)
    change = _change({"world": entry.get("world", {}), "remove": entry.get("remove", [])}, where)
    own = _changed(world, change)
    if "clock" in entry:
        own["clock"] = entry["clock"]
    read = []
    for number, step in enumerate(steps):
        if not isinstance(step, dict):
            raise Invalid("a step is a table.", where=where)
        told_step = {name: value for name, value in step.items() if name not in ("at", "world", "remove")}
        place = f"{where} ({ident}) step[{number}]"
        read.append((_change(step, place), StepSpec.from_document(told_step, where=place)))
    return Scenario(ident, title, own, tuple(read))


def _change(step: Mapping[str, object], where: str) -> Change:
    patch, remove = step.get("world", {}), step.get("remove", [])
    if not isinstance(patch, dict) or not isinstance(remove, list) or not all(isinstance(p, str) for p in remove):
        raise Invalid("'world' is a table and 'remove' a list of collection/name.", where=where)
    return Change(step.get("at"), patch, tuple(remove))


def _changed(world: Raw, change: Change) -> dict[str, object]:
    out = merged(world, change.patch)
    for path in change.remove:
        out = without(out, path)
    return out


# --- running ----------------------------------------------------------------------------------------------------


@dataclass
class _Memory:
    """A node's memory of used orders, for one scenario."""

    told: dict[str, datetime] = field(default_factory=dict)

    def used(self, jti: str) -> bool:
        return jti in self.told

    def remember(self, jti: str, until: datetime) -> bool:
        if jti in self.told:
            return False
        self.told[jti] = until
        return True


@dataclass(frozen=True)
class _Frozen:
    people: list[str]
    operation: Operation
    basis: Basis
    at: datetime


class _Runner:
    """One scenario, from its first step to its last."""

    def __init__(self, scenario: Scenario, keys: Keychain) -> None:
        self.scenario = scenario
        self.raw: Raw = scenario.world
        self.keys = keys
        self.clock = moment(scenario.world.get("clock"), datetime(1970, 1, 1, tzinfo=UTC))
        self.fetched: list[str] = []
        self.seen: dict[str, _Memory] = {}
        self.frozen: dict[str, _Frozen] = {}
        self.released: dict[str, list[frozenset[str]]] = {}
        self.last_orders: list[tuple[str, Presented]] = []

    def run(self) -> Result:
        """Every step in turn."""
        results = []
        for number, (change, spec) in enumerate(self.scenario.steps):
            if change.at is not None:
                self.clock = moment(change.at, self.clock)
            self.raw = _changed(self.raw, change)
            if spec.do == "change":
                continue
            world = World(self.raw, self.clock, self.keys, self.fetched)
            again = self._step(world, spec, number)
            decision = again()
            results.append(StepResult(spec, decision, tuple(self._problems(spec, decision)), again))
        return Result(self.scenario.id, self.scenario.title, tuple(results))

    def _step(self, world: World, spec: StepSpec, number: int) -> Callable[[], Decision]:
        match spec.do:
            case "order":
                return self._order(world, spec, number)
            case "ask" | "apply":
                return self._question(world, spec)
            case "freeze":
                return self._freeze(world, spec)
            case "release":
                return self._release(world, spec)
            case "act":
                return self._act(world, spec)
            case _:
                course = world.processes[_needed(spec.permit, "permit")]
                node, calendar, now = _needed(spec.node, "node"), world.calendar, world.now
                return lambda: decide_process(course, node, calendar=calendar, now=now)

    def _order(self, world: World, spec: StepSpec, number: int) -> Callable[[], Decision]:
        """One signed order per node, each decided at its node, then combined (R18)."""
        if not spec.repeat:
            self.last_orders = [(node, self._present(world, spec, node, number)) for node in _nodes(world, spec)]
        stage = spec.stage or "start"
        cases = []
        for node, presented in self.last_orders:
            seen, state = self.seen.setdefault(node, _Memory()), world.state(node)
            request, evidence = gather(
                presented, stage=stage, state=state, anchors=world.anchors(), now=world.now, seen=seen
            )
            cases.append((request, evidence, state))
            if stage == "start" and evidence.order and decide(request, evidence, state, world.now).allowed:
                consume(evidence.order, seen)

        def again() -> Decision:
            made = [decide(request, evidence, state, world.now) for request, evidence, state in cases]
            return made[0] if len(made) == 1 else combine(made, allow_partial=spec.allow_partial)

        return again

    def _present(self, world: World, spec: StepSpec, node: str, number: int) -> Presented:
        person, permit = _needed(spec.person, "person"), _needed(spec.permit, "permit")
        grant = world.grants.get(permit)
        algorithm = spec.algorithm
        if algorithm is None and grant is not None and grant.algorithms:
            algorithm = f"{grant.algorithms[0].name}@{grant.algorithms[0].version}"
        name, _, version = _needed(algorithm, "algorithm").partition("@")
        roster = tuple(dict.fromkeys([*_nodes(world, spec), node]))
        order = RunOrder(
            person=person,
            node=spec.audience or node,
            jti=f"order-{number}-{node}",
            issued=moment(spec.issued, world.now),
            expires=moment(spec.expires, world.now),
            run=f"run-{number}",
            roster=(*roster, spec.audience) if spec.audience and spec.audience not in roster else roster,
            permit=permit,
            purpose=spec.purpose or _purpose(grant),
            datasets=tuple(d for d in spec.datasets if _at(world, d) in (node, None)),
            algorithm=AlgorithmRef(name, version, spec.digest or bundle_digest(f"{name}@{version}")),
            quorum=1,
            deadline=moment(spec.deadline, world.now),
            parameters=spec.parameters,
            allow_partial=spec.allow_partial,
        )
        presented = Presented(
            order=sign_order(order, world.person_key(spec.signed_by or person)),
            grant=None if grant is None else world.permit_token(permit),
        )
        return self._with_passport(world, spec, presented)

    def _with_passport(self, world: World, spec: StepSpec, presented: Presented) -> Presented:
        known = world.persons.get(spec.person or "")
        if not spec.passport or known is None or not known.identities:
            return presented
        holder, token, visas = world.passport(known.id, visas=spec.visas)
        if spec.embedded:
            return replace(presented, holder=holder, visas=visas)
        return replace(presented, passport=token)

    def _question(self, world: World, spec: StepSpec) -> Callable[[], Decision]:
        """What needs no run order: a Beacon question, the catalogue, rows, an application."""
        applying = spec.do == "apply"
        node = spec.node or ("hub" if applying or not spec.datasets else _nodes(world, spec)[0])
        request = AccessRequest(
            operation="apply" if applying else spec.operation or "catalogue",
            stage=spec.stage or ("submission" if applying else "start"),
            node=node,
            person=spec.person,
            datasets=spec.datasets,
            purpose=spec.purpose,
            grant=spec.permit,
            project=spec.project,
        )
        presented = Presented(grant=world.permit_token(spec.permit) if spec.permit in world.grants else None)
        state = world.state(node, everywhere=applying)
        evidence: Evidence = gather_question(
            request,
            self._with_passport(world, spec, presented),
            state=state,
            anchors=world.anchors(),
            now=world.now,
            ethics=spec.ethics,
        )
        return lambda: decide(request, evidence, state, world.now)

    def _freeze(self, world: World, spec: StepSpec) -> Callable[[], Decision]:
        node = _needed(spec.node, "node")
        people, operation = world.subjects(node), spec.operation or "run"
        ledger = world.ledger

        def again() -> Decision:
            mask = cohort_mask(ledger, people, operation=operation, basis=spec.basis, now=world.now)
            return decide_cohort(mask, node=node, now=world.now)

        mask = cohort_mask(ledger, people, operation=operation, basis=spec.basis, now=world.now)
        kept = [person for person, is_in in zip(people, mask.included, strict=True) if is_in]
        self.frozen[node] = _Frozen(kept, operation, spec.basis, world.now)
        return again

    def _release(self, world: World, spec: StepSpec) -> Callable[[], Decision]:
        node, frozen = _needed(spec.node, "node"), self.frozen.get(spec.node or "")
        people = self._cohort(spec, frozen)
        withdrawn = 0
        if frozen is not None:
            withdrawn = after_freeze(
                world.ledger,
                frozen.people,
                operation=frozen.operation,
                basis=frozen.basis,
                frozen_at=frozen.at,
                now=world.now,
            )
        earlier = [len(people ^ other) for other in self.released.get(node, [])]
        name, _, version = _needed(spec.algorithm, "algorithm").partition("@")
        output = Output(
            run="run",
            node=node,
            algorithm=AlgorithmRef(name, version, spec.digest or bundle_digest(f"{name}@{version}")),
            output_class=_needed(spec.output_class, "output_class"),
            project=spec.project,
            cells=spec.cells,
            cohort_size=len(people) if people else None,
            nearest_earlier=min(earlier, default=None),
            withdrawn=withdrawn,
            over_budget=spec.over_budget,
        )
        approvals, persons, now = world.approvals, world.persons, world.now
        if decide_release(output, approvals=approvals, reviews=spec.reviews, persons=persons, now=now).allowed:
            self.released.setdefault(node, []).append(people)
        return lambda: decide_release(output, approvals=approvals, reviews=spec.reviews, persons=persons, now=now)

    def _cohort(self, spec: StepSpec, frozen: _Frozen | None) -> frozenset[str]:
        """The people behind a result: a range such as ``S1..S100`` less ``without``, else the frozen cohort."""
        if not spec.cohort:
            return frozenset(frozen.people if frozen else ())
        found = re.fullmatch(r"([A-Za-z]+)(\d{1,5})\.\.\1(\d{1,5})", spec.cohort)
        if found is None:
            raise Invalid("a cohort is written like S1..S100.", where=self.scenario.id)
        numbers = range(int(found.group(2)), int(found.group(3)) + 1)
        return frozenset(f"{found.group(1)}{number}" for number in numbers) - set(spec.without)

    def _act(self, world: World, spec: StepSpec) -> Callable[[], Decision]:
        if spec.action is None:
            raise Invalid("a step 'act' names its action.", where=self.scenario.id)
        person = _needed(spec.person, "person")
        request = ActionRequest(spec.action, person, spec.node or "hub", spec.project, spec.authors)
        actor, now = world.persons.get(person), world.now
        return lambda: decide_action(request, actor, now=now)

    def _problems(self, spec: StepSpec, decision: Decision) -> Iterable[str]:
        expect = spec.expect
        if expect is None:
            return
        where = f"{self.scenario.id}{f' ({spec.part})' if spec.part else ''}"
        if decision.outcome != expect.outcome:
            yield f"{where}: expected {expect.outcome}, got {decision.outcome} {' '.join(decision.codes)}".rstrip()
        told = {reason["code"] for reason in _listed(decision.document(public=True)["reasons"])}
        yield from (f"{where}: {code} is missing" for code in expect.codes if code not in decision.codes)
        yield from (f"{where}: {code} was not expected" for code in expect.not_codes if code in decision.codes)
        for code in expect.private:
            if code not in decision.codes or code in told:
                yield f"{where}: {code} must stand in the node's log and nowhere else"
        owed = {str(obligation) for obligation in decision.obligations}
        yield from (f"{where}: the obligation {text} is missing" for text in expect.obligations if text not in owed)
        yield from (f"{where}: {url} was fetched" for url in expect.never_fetched if url in self.fetched)
        frozen = self.frozen.get(spec.node or "")
        people = set(frozen.people) if frozen else set()
        if expect.cohort is not None and len(people) != expect.cohort:
            yield f"{where}: expected a cohort of {expect.cohort}, got {len(people)}"
        yield from (f"{where}: a subject is in the cohort that must not be" for who in expect.absent if who in people)


def _nodes(world: World, spec: StepSpec) -> list[str]:
    if spec.node is not None:
        return [spec.node]
    nodes = sorted({node for node in (_at(world, name) for name in spec.datasets) if node is not None})
    if not nodes:
        raise Invalid("the step names no node and no known dataset.", where="step.node")
    return nodes


def _at(world: World, dataset: str) -> str | None:
    held = world.datasets.get(dataset)
    return held.node if held else None


def _purpose(grant: object) -> Purpose:
    if isinstance(grant, Authorisation):
        return grant.purpose
    if isinstance(grant, HealthcareContract) or grant is None:
        return Purpose("care")
    raise Invalid("the step states no purpose.", where="step.purpose")


def _needed(value: str | None, name: str) -> str:
    if value is None:
        raise Invalid("this step needs a word more.", where=f"step.{name}", remedy=f"Give {name}.")
    return value


def _part(spec: StepSpec, outcome: str) -> str:
    return f"({spec.part}) {outcome}" if spec.part else outcome


def _listed(value: object) -> Sequence[Mapping[str, object]]:
    assert isinstance(value, list)
    return value
