"""What every approved algorithm keeps without writing a test: the shared suite, over all that are registered.

Federated equals pooled on any split and in any order, small cells vanish and are marked, parameters survive JSON, the
same input gives the same bytes, and nothing undeclared gets out.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.property.examples import EXAMPLES
from tests.worlds import (
    MemorySite,
    Split,
    blocks_for,
    by_sex,
    make_world,
    pass_gate,
    random_assignment,
    run,
    splits,
    threshold_gate,
    without_kin,
)

from federome.analysis.algorithm import Algorithm, State, Table, build, content_digest, parameters, registered
from federome.analysis.program import PEOPLE, Gate, Program, contribution
from federome.errors import FederomeError, Invalid, Refused
from federome.model.release import Count
from federome.model.wording import Wording

K = 4
SMALL = settings(
    max_examples=int(os.environ.get("FEDEROME_EXAMPLES", "8")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
every_algorithm = pytest.mark.parametrize("name", sorted(EXAMPLES))

Outcome = Mapping[str, Table] | FederomeError


def answer(algorithm: Algorithm, sites: Sequence[MemorySite], *, gate: Gate = pass_gate, rows: int = 8_192) -> Outcome:
    """The finished tables, or the refusal: a question that cannot be answered is refused alike however split."""
    try:
        return run(algorithm, sites, gate=gate, rows=rows)
    except FederomeError as refusal:
        return refusal


def assert_same(found: Outcome, wanted: Outcome) -> None:
    """Equal to the bit for counts, texts and masks, to 1e-9 relative for real numbers; refusals equal in words."""
    if isinstance(found, FederomeError) or isinstance(wanted, FederomeError):
        assert (type(found), str(found)) == (type(wanted), str(wanted))
        return
    assert list(found) == list(wanted)
    for table in wanted:
        assert list(found[table].columns) == list(wanted[table].columns)
        for column in wanted[table]:
            a, b = found[table][column], wanted[table][column]
            assert a.dtype.kind == b.dtype.kind
            assert a.shape == b.shape, f"{table}.{column}"
            hidden = wanted[table].withheld.get(column, np.zeros(b.shape, bool))
            np.testing.assert_array_equal(found[table].withheld.get(column, np.zeros(b.shape, bool)), hidden)
            if b.dtype.kind != "f":
                np.testing.assert_array_equal(a, b, err_msg=f"{table}.{column}")
                continue
            np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b), err_msg=f"{table}.{column}")
            a, b = found[table].floats(column)[np.isfinite(b)], wanted[table].floats(column)[np.isfinite(b)]
            assert np.all(np.abs(a - b) <= 1e-9 * np.maximum(1, np.abs(b))), f"{table}.{column}"


def questions(name: str, site: MemorySite) -> Iterator[Algorithm]:
    """Every example of an algorithm, built from its parameters."""
    for values in EXAMPLES[name].parameters(site):
        yield build(name, values)


def draw_split(data: st.DataObject, name: str) -> tuple[Split, Algorithm]:
    low, high = EXAMPLES[name].people
    split = data.draw(splits(min_people=low, max_people=high), label="split")
    return split, data.draw(st.sampled_from(list(questions(name, split.pooled))), label="question")


@cache
def fixed(name: str) -> Split:
    """One ordinary world of three nodes, large enough for the algorithm."""
    world = make_world(seed=11, people=max(90, EXAMPLES[name].people[0]), variants=16)
    assignment = random_assignment(world, sites=3, seed=5)
    return world.split(assignment, lacking={1: [0]}, absent={2: [3]}, swapped={1: [1, 2, 5]})


def test_every_registered_algorithm_has_examples() -> None:
    ours = {name for name, cls in registered().items() if not cls.__module__.startswith("federome.bench.")}
    assert set(EXAMPLES) == ours, "add parameters for each algorithm to tests/property/examples.py"


@every_algorithm
@SMALL
@given(data=st.data())
def test_federated_equals_pooled_on_any_split(name: str, data: st.DataObject) -> None:
    split, question = draw_split(data, name)
    assert_same(answer(question, split.sites), answer(question, [split.pooled]))


@every_algorithm
@SMALL
@given(data=st.data())
def test_federated_equals_pooled_behind_a_threshold(name: str, data: st.DataObject) -> None:
    split, question = draw_split(data, name)
    gate = threshold_gate(K)
    assert_same(answer(question, split.sites, gate=gate), answer(question, [split.pooled], gate=gate))


@every_algorithm
@SMALL
@given(data=st.data())
def test_the_order_of_nodes_is_irrelevant(name: str, data: st.DataObject) -> None:
    split, question = draw_split(data, name)
    other = data.draw(st.permutations(split.sites), label="order")
    assert_same(answer(question, other), answer(question, split.sites))


@every_algorithm
@SMALL
@given(data=st.data())
def test_the_size_of_blocks_is_irrelevant(name: str, data: st.DataObject) -> None:
    split, question = draw_split(data, name)
    rows = data.draw(st.integers(1, 6), label="rows")
    assert_same(answer(question, split.sites, rows=rows), answer(question, split.sites))


@every_algorithm
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_one_sex_per_node_and_missing_calls(name: str, missing: float) -> None:
    people = max(60, EXAMPLES[name].people[0])
    world = without_kin(make_world(seed=3, people=people, variants=24, missing=missing))
    split = world.split(by_sex(world))
    for question in questions(name, split.pooled):
        assert_same(answer(question, split.sites), answer(question, [split.pooled]))


@every_algorithm
def test_monomorphic_variants_and_variants_a_node_lacks(name: str) -> None:
    world = make_world(seed=4, people=max(60, EXAMPLES[name].people[0]), variants=8, missing=0.1)
    genotypes = world.genotypes.copy()
    for line, copies in enumerate((0, 2, -1, 1)):
        genotypes[line] = copies
    world = dataclasses.replace(world, genotypes=genotypes)
    split = world.split(random_assignment(world, sites=3, seed=1), lacking={1: range(8), 2: [0, 5]})
    for question in questions(name, split.pooled):
        assert_same(answer(question, split.sites), answer(question, [split.pooled]))


@every_algorithm
@SMALL
@given(data=st.data())
def test_finished_tables_are_exactly_what_is_declared(name: str, data: st.DataObject) -> None:
    split, question = draw_split(data, name)
    finished = answer(question, split.sites)
    if isinstance(finished, FederomeError):
        return
    assert set(finished) == set(question.releases)
    for table, declared in question.releases.items():
        assert list(finished[table].columns) == list(declared.columns)
        keys = list(zip(*(finished[table][column].tolist() for column in declared.key), strict=True))
        assert len(set(keys)) == len(keys), "the key of a table names each row once"


@every_algorithm
@SMALL
@given(data=st.data())
def test_small_cells_vanish_and_are_marked(name: str, data: st.DataObject) -> None:
    split, question = draw_split(data, name)
    full, safe = answer(question, split.sites), answer(question, split.sites, gate=threshold_gate(K))
    if isinstance(full, FederomeError) or isinstance(safe, FederomeError):
        return
    for table, declared in question.releases.items():
        for column, rule in declared.columns.items():
            values = safe[table][column]
            hidden = safe[table].withheld.get(column, np.zeros(values.shape, bool))
            if isinstance(rule, Count) and rule.people:
                assert (safe[table].ints(column)[~hidden] >= K).all(), f"{table}.{column} shows a small cell"
            if values.dtype.kind in "if":
                assert not np.nan_to_num(values[hidden].astype(float)).any(), f"{table}.{column} hides a value"
        others = EXAMPLES[name].of_the_withheld
        alike = {column: rule for column, rule in declared.columns.items() if column not in others}
        assert_shown_cells_are_true(safe[table], full[table], declared.key, alike)


def assert_shown_cells_are_true(safe: Table, full: Table, key: tuple[str, ...], columns: Mapping[str, object]) -> None:
    """What is shown of people behind the threshold is what is shown without one."""
    if not key:
        return
    place = {row: at for at, row in enumerate(zip(*(full[name].tolist() for name in key), strict=True))}
    at = [place.get(row, -1) for row in zip(*(safe[name].tolist() for name in key), strict=True)]
    for name, rule in columns.items():
        if isinstance(rule, Count) and (rule.people or rule.guard):
            hidden = safe.withheld.get(name, np.zeros(safe[name].shape, bool))
            for row, line in enumerate(at):
                if line >= 0:
                    assert np.all((safe[name][row] == full[name][line]) | hidden[row]), name


@every_algorithm
def test_an_impossible_threshold_shows_no_count_at_all(name: str) -> None:
    split = fixed(name)
    for question in questions(name, split.pooled):
        finished = answer(question, split.sites, gate=threshold_gate(10**9))
        if isinstance(finished, FederomeError):
            continue
        for table, declared in question.releases.items():
            for column, rule in declared.columns.items():
                if isinstance(rule, Count):
                    marks = finished[table].withheld.get(column, np.zeros(finished[table][column].shape, bool))
                    assert marks.all(), f"{table}.{column}"


@every_algorithm
def test_parameters_survive_json(name: str) -> None:
    for question in questions(name, fixed(name).pooled):
        told = json.loads(json.dumps(parameters(question)))
        assert build(name, told) == question


@every_algorithm
def test_groups_that_are_told_of_have_words_and_equal_words_are_equal_people(name: str) -> None:
    """Over all examples of an algorithm: the audit of cohorts takes the words' word for it. Those sequenced for a gene
    have the words of their panel (decision 28).
    """
    view = fixed(name).pooled.view
    said: dict[Wording, frozenset[int]] = {}
    for question in questions(name, fixed(name).pooled):
        kept = np.flatnonzero(view.meets(question.cohort))
        groups = list(question.told_of(view.where(view.meets(question.cohort))))
        named = list(islice(question.told_as(), len(groups)))
        assert len(named) == len(groups)
        for mask, (cohort, more) in zip(groups, named, strict=True):
            if cohort is None:
                assert not mask.any()
            if cohort is None or more.startswith("sequenced"):
                continue
            words, people = Wording.of(["all"], cohort, more), frozenset(kept[mask].tolist())
            assert said.setdefault(words, people) == people, words


@every_algorithm
def test_how_numbers_are_told_is_no_condition_on_people(name: str) -> None:
    split = fixed(name)
    kept = split.pooled.view
    for question in questions(name, split.pooled):
        for field in registered()[name].how_told:
            values = parameters(question)
            other = build(name, {**values, field: {"confidence": 0.9, "halvings": 2, "exits_min": 7}[field]})
            assert other != question
            assert list(islice(other.told_as(), 9)) == list(islice(question.told_as(), 9))
            for one, two in zip(question.told_of(kept), other.told_of(kept), strict=True):
                assert np.array_equal(one, two)


@every_algorithm
def test_wrong_parameters_are_refused_by_name(name: str) -> None:
    valid = EXAMPLES[name].parameters(fixed(name).pooled)[0]
    with pytest.raises(Invalid, match="'no_such_thing'"):
        build(name, {**valid, "no_such_thing": 1})
    for field in dataclasses.fields(registered()[name]):  # type: ignore[arg-type]
        with pytest.raises(Invalid, match=rf"\b{field.name}\b"):
            build(name, {**valid, field.name: [[[]]]})


@every_algorithm
def test_a_misspelt_criterion_does_not_widen_the_cohort(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(registered()[name])}  # type: ignore[arg-type]
    if "cohort" not in fields:
        pytest.skip("this algorithm takes no cohort")
    valid = EXAMPLES[name].parameters(fixed(name).pooled)[0]
    with pytest.raises(Invalid, match=r"cohort\.diagnoses\.0\.presemt"):
        build(name, {**valid, "cohort": {"diagnoses": [{"code": "I10", "presemt": False}]}})


@every_algorithm
def test_same_input_same_bytes(name: str) -> None:
    for question in questions(name, fixed(name).pooled):
        first, second = answer(question, fixed(name).sites), answer(question, fixed.__wrapped__(name).sites)
        assert_same(first, second)
        if not isinstance(first, FederomeError) and not isinstance(second, FederomeError):
            assert {n: t.to_bytes() for n, t in first.items()} == {n: t.to_bytes() for n, t in second.items()}


@every_algorithm
def test_content_digests_are_stable_and_distinct(name: str) -> None:
    digest = content_digest(registered()[name])
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
    assert digest == content_digest(registered()[name])
    assert [content_digest(cls) for cls in registered().values()].count(digest) == 1


def spoiled(question: Algorithm, method: str, wrapped: Callable[..., object]) -> Algorithm:
    """The same question by a class whose method misbehaves."""
    original = getattr(type(question), method)
    body = lambda self, *a: wrapped(original(self, *a))  # noqa: E731
    cls = type("Spoiled", (type(question),), {method: body})
    made: Algorithm = cls(**{f.name: getattr(question, f.name) for f in dataclasses.fields(question)})  # type: ignore[arg-type]
    return made


@every_algorithm
def test_undeclared_columns_and_wrong_lengths_are_errors(name: str) -> None:
    split = fixed(name)
    question = next(questions(name, split.pooled))
    blocks = blocks_for(split.sites, question.reads.variants)
    program = Program(question, blocks)
    number = program.waiting[0]
    index = None if number == PEOPLE else blocks[number]

    def part(by: Algorithm) -> Table:
        return contribution(by, split.sites[0], index, program.state(number))

    assert part(question).rows >= 0
    with pytest.raises(Refused, match="does not declare"):
        part(spoiled(question, "local", lambda table: table.with_column("names", np.zeros(table.rows, np.int64))))
    with pytest.raises(Refused, match="does not declare"):
        part(spoiled(question, "local", lambda table: table.only(*list(table.columns)[1:])))
    if index is not None:
        with pytest.raises(FederomeError, match="rows for a block"):
            part(spoiled(question, "local", lambda table: table.take(np.arange(table.rows - 1))))


@every_algorithm
def test_undeclared_broadcasts_are_errors(name: str) -> None:
    split = fixed(name)
    question = next(questions(name, split.pooled))

    def leak(state: State) -> State:
        return dataclasses.replace(state, shared=Table({"leak": np.zeros(1)}))

    with pytest.raises(Refused, match="may not broadcast 'leak'"):
        run(spoiled(question, "step", leak), split.sites)
