"""The order of rounds: which totals are waited for, what nodes are told, and what is refused on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from tests.worlds import Split, Watched, blocks_for, make_world, name_table, namer, pass_gate, random_assignment, run

from federome.analysis.algorithm import DONE, Algorithm, Block, Finished, Reads, State, Table, Variants, View
from federome.analysis.program import PEOPLE, Program, contribution, run_in_process
from federome.errors import Invalid
from federome.model.index import BlockIndex
from federome.model.release import Count, Label, Number, Round, Rows
from federome.model.variant import oriented


@dataclass(frozen=True)
class Centred(Algorithm):
    """A toy with every kind of round: the mean age, then carriers, then ages of carriers where there are enough."""

    enough: int = 20
    keeps: str = "ages"

    name: ClassVar[str] = "centred"
    rounds: ClassVar[tuple[Round, ...]] = (
        Round("mean", "people", Rows({"people": Count(people=True), "years": Number()}), gated=True),
        Round("carriers", "variants", Rows({"carriers": Count(people=True)}), gated=True),
        Round("ages", "variants", Rows({"ages": Number()})),
    )
    releases: ClassVar[Mapping[str, Rows]] = {"out": Rows({"position": Label(), "ages": Number()})}
    broadcasts: ClassVar[frozenset[str]] = frozenset({"mean"})

    @property
    def reads(self) -> Reads:
        return Reads(("age",), Variants())

    def local(self, view: View, block: Block | None, state: State) -> Table:
        age = view.numbers("age")
        known = ~np.isnan(age)
        if block is None:
            return Table({"people": np.array([known.sum()]), "years": np.array([age[known].sum()])})
        assert state.kept is None, "what the releaser keeps never reaches a node"
        carries = block.dosages(view) > 0
        if state.round == "carriers":
            return Table({"carriers": carries.sum(axis=1)})
        return Table({"ages": carries @ np.where(known, age - state.shared.floats("mean")[0], 0)})

    def step(self, state: State, total: Table) -> State:
        if state.round == "mean":
            mean = total.floats("years") / total.ints("people")
            return state.to("carriers", shared=Table({"mean": mean}))
        if state.round == "carriers":
            many = total.take(total.ints("carriers") >= self.enough).only("row")
            return state.to(self.keeps if many.rows else DONE, block=many)
        return state.to(DONE, kept=total)

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:
        parts = [Table({"position": b.names["position"], "ages": b.kept["ages"]}) for b in blocks]
        nothing = Table({"position": np.zeros(0, np.int64), "ages": np.zeros(0)})
        return {"out": Table.stack([nothing, *parts])}


def split() -> Split:
    world = make_world(seed=6, people=80, variants=24)
    return world.split(random_assignment(world, sites=3, seed=1))


def blocks_of(parts: Split, rows: int = 8_192) -> tuple[BlockIndex, ...]:
    return blocks_for(parts.sites, Variants(), rows=rows)


def test_three_rounds_equal_the_direct_calculation() -> None:
    parts = split()
    pooled, world = parts.pooled, parts.pooled.view
    out = run(Centred(), parts.sites)["out"]
    age = world.numbers("age")
    centred = np.nan_to_num(age - np.nanmean(age))
    for position, ages in zip(out["position"].tolist(), out["ages"].tolist(), strict=True):
        (line,) = (n for n, v in enumerate(pooled.variants) if v.position == position)
        variant, copies = pooled.variants[line], pooled.genotypes[line]
        counted = np.where(copies < 0, 0, 2 - copies) if oriented(variant.ref, variant.alt)[2] else copies
        assert (counted > 0).sum() >= 20
        assert ages == pytest.approx((centred * (counted > 0)).sum(), abs=1e-9)
    assert 0 < out.rows < len(pooled.variants)


def test_rounds_open_one_after_another_and_blocks_drop_out() -> None:
    parts = split()
    blocks = blocks_of(parts, rows=4)
    program = Program(Centred(enough=60), blocks)
    assert program.waiting == (PEOPLE,)
    program.accept(PEOPLE, program.numbered(PEOPLE, Table({"people": np.array([4]), "years": np.array([200.0])})))
    assert program.due.name == "carriers"
    assert program.waiting == tuple(range(len(blocks)))
    assert program.state(0).shared.floats("mean").tolist() == [50.0]
    for number in program.waiting:
        many = np.full(blocks[number].rows, 70 if number == 1 else 3)
        program.accept(number, program.numbered(number, Table({"carriers": many})))
    assert program.due.name == "ages"
    assert program.waiting == (1,)
    rows = program.state(1).block
    assert rows is not None
    total = program.numbered(1, Table({"ages": np.zeros(rows.rows)}))
    assert total.ints("row").tolist() == rows.ints("row").tolist()
    program.accept(1, total)
    assert program.round is None
    assert program.waiting == ()
    with pytest.raises(Invalid, match="no further round"):
        _ = program.due


def test_states_may_live_in_any_mapping() -> None:
    states: dict[int, State] = {}
    parts = split()
    program = Program(Centred(), blocks_of(parts), states)
    program.accept(PEOPLE, program.numbered(PEOPLE, Table({"people": np.array([1]), "years": np.array([1.0])})))
    number = program.waiting[0]
    carriers = Table({"carriers": np.full(program.blocks[number].rows, 99)})
    program.accept(number, program.numbered(number, carriers))
    assert set(states) == {number}


def test_a_run_without_variants_ends_after_its_rounds_over_people() -> None:
    program = Program(Centred(), ())
    program.accept(PEOPLE, program.numbered(PEOPLE, Table({"people": np.array([2]), "years": np.array([9.0])})))
    assert program.round is None
    assert program.finish(lambda _number, rows: rows)["out"].rows == 0


def test_totals_that_were_not_asked_for_are_refused() -> None:
    parts = split()
    program = Program(Centred(), blocks_of(parts))
    good = Table({"people": np.array([1]), "years": np.array([1.0])})
    with pytest.raises(Invalid, match="was not waited for"):
        program.accept(0, good)
    with pytest.raises(Invalid, match="promised the columns people, years"):
        program.numbered(PEOPLE, good.only("years", "people"))
    program.accept(PEOPLE, program.numbered(PEOPLE, good))
    with pytest.raises(Invalid, match="was not waited for"):
        program.accept(PEOPLE, good)
    with pytest.raises(Invalid, match="wrong length"):
        program.numbered(0, Table({"carriers": np.zeros(program.blocks[0].rows + 1, np.int64)}))
    with pytest.raises(Invalid, match="rounds left"):
        program.finish(lambda _number, rows: rows)


def test_a_round_that_was_never_declared_is_refused() -> None:
    with pytest.raises(Invalid, match="has no round 'elsewhere'"):
        run(Centred(keeps="elsewhere"), split().sites)


def test_no_sites_are_refused() -> None:
    with pytest.raises(Invalid, match="at least one node"):
        run_in_process(Centred(), [], (), gate=pass_gate, names=namer([], ()))


def test_nodes_see_the_rows_that_are_left_and_nothing_that_is_kept() -> None:
    parts = split()
    blocks = blocks_of(parts)
    kept = Table({"row": np.array([0, 1]), "secret": np.array([1, 2])})
    state = State("ages", Table({"mean": np.array([50.0])}), Table({"row": np.array([1, 0])}), kept)
    part = contribution(Centred(), parts.sites[0], blocks[0], state)
    whole = contribution(Centred(), parts.sites[0], blocks[0], State("ages", state.shared))
    assert part.floats("ages").tolist() == whole.floats("ages")[[1, 0]].tolist()


def test_the_gate_sees_every_total_with_its_rows_numbered() -> None:
    watched = Watched()
    parts = split()
    run(Centred(), parts.sites, gate=watched)
    assert list(watched.totals[0].columns) == ["people", "years", "row"]
    assert all("row" in total for total in watched.totals)
    blocks = len(blocks_of(parts))
    assert sum("carriers" in total for total in watched.totals) == blocks


def test_names_are_asked_for_passed_rows_only() -> None:
    parts = split()
    blocks = blocks_of(parts)
    asked: list[int] = []
    inner = namer(parts.sites, blocks)

    def names(number: int, rows: Table) -> Table:
        asked.append(rows.rows)
        return inner(number, rows)

    out = run_in_process(Centred(enough=40), parts.sites, blocks, gate=pass_gate, names=names)["out"]
    assert sum(asked) == out.rows < sum(block.rows for block in blocks)
    assert name_table(np.zeros(0, np.int64), []).rows == 0
