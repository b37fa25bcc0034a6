"""The door against adversaries that think of everything: all small tables there are, released and then reasoned about.

An adversary knows the rules to the letter, so of all tables it keeps those that would have been released alike. What
it then still holds possible must not single out fewer people than the threshold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from federome.disclosure.door import apply_veto, candidates, gate, release, veto
from federome.model.release import ALL, Count, Identity, Label, Policy, Ratio, Round, Rows, Scope
from federome.model.table import Table

K = 3
POLICY = Policy(k_min=K)
PEOPLE = Count(people=True)
COUNTS = Rows({"row": Label(), "column": Label(), "people": PEOPLE}, key=("row", "column"))
Cells = tuple[int, ...]


def seen(labels: Sequence[tuple[str, str]], people: Cells) -> tuple[int | None, ...]:
    """What is released of a table of counts whose algorithm withholds small cells and nothing else."""
    values = np.array(people)
    small = values < K
    names = np.array(labels, np.str_).T
    table = Table({"row": names[0], "column": names[1], "people": np.where(small, 0, values)}, {"people": small})
    told = release({"t": table}, {"t": COUNTS}, POLICY, people=1000).tables["t"]
    return tuple(record["people"] for record in told.records())  # type: ignore[misc]


def alike(labels: Sequence[tuple[str, str]], tables: Iterator[Cells]) -> Mapping[tuple[int | None, ...], list[Cells]]:
    groups: dict[tuple[int | None, ...], list[Cells]] = defaultdict(list)
    for people in tables:
        groups[seen(labels, people)].append(people)
    return groups


def test_whoever_knows_the_rules_still_holds_many_values_possible_for_a_withheld_part_of_a_total() -> None:
    largest = 3 * K
    labels = [(ALL, ALL), ("a", ALL), ("b", ALL), ("c", ALL)]
    tables = ((sum(cells), *cells) for cells in product(range(largest + 1), repeat=3) if sum(cells) <= largest)
    looked_at = 0
    for shown, possible in alike(labels, tables).items():
        for at, cell in enumerate(shown):
            if cell is None:
                looked_at += 1
                assert len({people[at] for people in possible}) >= K, (shown, possible)
    assert looked_at > 20


def cross(cells: Cells) -> Cells:
    """Two by two cells with all their totals: all, rows, columns, cells."""
    a, b, c, d = cells
    return (a + b + c + d, a + b, c + d, a + c, b + d, a, b, c, d)


CROSS = [
    (ALL, ALL), ("r1", ALL), ("r2", ALL), (ALL, "c1"), (ALL, "c2"),
    ("r1", "c1"), ("r1", "c2"), ("r2", "c1"), ("r2", "c2"),
]  # fmt: skip


def test_no_small_cell_of_a_table_with_margins_follows_from_what_is_shown() -> None:
    """Here the adversary adds and subtracts but does not know the rules: all tables that fit the shown cells."""
    largest = 7
    tables = [cross(cells) for cells in product(range(largest + 1), repeat=4) if sum(cells) <= largest]
    held = np.array(tables)
    undefended = 0
    for people in tables[::7]:
        for defended in (False, True):
            shown = seen(CROSS, people) if defended else tuple(n if n >= K else None for n in people)
            known = [at for at, cell in enumerate(shown) if cell is not None]
            if 0 not in known:
                continue  # without the grand total the tables that fit are more than these
            fits = held[(held[:, known] == np.array(people)[known]).all(axis=1)]
            for at, cell in enumerate(shown):
                if cell is None and np.ptp(fits[:, at]) < K - 1:
                    assert not defended, (people, shown)
                    undefended += 1
    assert undefended > 20


# rows


IDENTITIES: tuple[Identity, ...] = (
    {"carriers": 1, "het": -1, "hom": -1},
    {"alleles": 1, "het": -1, "hom": -2},
    {"carriers": 1, "called": -1, "reference": 1},
)


def test_no_few_people_follow_linearly_from_a_row() -> None:
    rows = Rows(
        {"carriers": PEOPLE, "called": PEOPLE, "alleles": Count(guard="called")},
        identities=IDENTITIES,
        genotypes=True,
    )
    bare = Rows(rows.columns, genotypes=True)
    found = {True: 0, False: 0}
    genotypes = np.array(list(product(range(8), repeat=3)))  # reference, het, hom
    reference, het, hom = genotypes.T
    total = Table(
        {
            "carriers": het + hom,
            "called": reference + het + hom,
            "alleles": het + 2 * hom,
            "row": np.arange(len(genotypes)),
        }
    )
    for defended in (True, False):
        due = Round("count", "variants", rows if defended else bare, gated=True)
        told = gate(total, due, POLICY, contributors=3)
        for record in told.records():
            at = record["row"]
            assert isinstance(at, int)
            carriers, called, alleles = record["carriers"], record["called"], record["alleles"]
            if isinstance(carriers, int) and isinstance(alleles, int):
                assert alleles - carriers == hom[at]
                found[defended] += int(hom[at] < K)
            if isinstance(carriers, int) and isinstance(called, int):
                assert called - carriers == reference[at]
                found[defended] += int(reference[at] < K)
    assert found[True] == 0
    assert found[False] > 100


@st.composite
def rounds(draw: st.DrawFn) -> tuple[Table, Round]:
    """A gated round of any declaration without identities, and a total for it."""
    people = [f"p{n}" for n in range(draw(st.integers(1, 3)))]
    columns: dict[str, Count | Ratio] = {}
    for name in people:
        columns[name] = Count(people=True, together=draw(st.sampled_from(["", "group"])))
    for name in ("x", "y"):
        columns[name] = Count(guard=draw(st.sampled_from(["", *people])))
    size, width = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    flat = draw(st.booleans())
    shape = (size,) if flat else (size, width)
    values = {
        name: np.array(
            draw(st.lists(st.integers(0, 2 * K), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        )
        for name in columns
    }
    total = Table({**{name: cells.reshape(shape) for name, cells in values.items()}, "row": np.arange(size)})
    scope: Scope = draw(st.sampled_from(["people", "variants"]))
    return total, Round("count", scope, Rows(columns), gated=True)


def plainly(total: Table, due: Round) -> dict[str, NDArray[np.bool_]]:
    """Cell by cell: small ones, then whatever a withheld cell guards or shares a group with, until stable."""
    rules = due.totals.columns
    hidden = {name: np.zeros(total[name].shape, np.bool_) for name in rules}
    for name, rule in rules.items():
        if isinstance(rule, Count) and rule.people:
            hidden[name] = total.ints(name) < K
    for _ in rules:
        for name, rule in rules.items():
            for other, its in rules.items():
                group = getattr(rule, "together", "")
                if other == getattr(rule, "guard", "") or (group and getattr(its, "together", "") == group):
                    hidden[name] = hidden[name] | hidden[other]
    return hidden


@settings(max_examples=60, deadline=None)
@given(rounds())
def test_the_gate_agrees_with_the_plainest_reading_of_the_rules(asked: tuple[Table, Round]) -> None:
    total, due = asked
    told, plain = gate(total, due, POLICY, contributors=3), plainly(total, due)
    people = [name for name, rule in due.totals.columns.items() if isinstance(rule, Count) and rule.people]
    if due.scope == "people":
        staying = list(range(total.rows))
    elif total[people[0]].ndim == 1:
        staying = [row for row in range(total.rows) if not any(plain[name][row] for name in people)]
    else:
        staying = [row for row in range(total.rows) if not all(plain[name][row].all() for name in people)]
    assert told["row"].tolist() == staying
    for name in due.totals.columns:
        hidden = told.withheld.get(name, np.zeros(told[name].shape, np.bool_))
        assert (hidden == plain[name][staying]).all()
        assert (told[name] == np.where(hidden, 0, total[name][staying])).all()


# contributors


@st.composite
def parts(draw: st.DrawFn) -> NDArray[np.int64]:
    """People by node and cell, shape (nodes, cells); many of them few."""
    nodes, cells = draw(st.integers(3, 4)), draw(st.integers(1, 4))
    few = st.sampled_from([0, 0, 1, 2, 3, 5, 9])
    return np.array(draw(st.lists(few, min_size=nodes * cells, max_size=nodes * cells))).reshape(nodes, cells)


def few_of_others(told: Table, own: NDArray[np.int64], total: NDArray[np.int64]) -> int:
    """How many numbers of others' people between 1 and k − 1 a node computes from a total, its parts and its own."""
    hidden = told.withheld.get("people", np.zeros(told.rows, np.bool_))
    rest = total - own
    numbers = [*rest[~hidden].tolist()]
    if not hidden[0] and hidden.any():
        numbers.append(int(rest[0] - rest[1:][~hidden[1:]].sum()))
    return sum(0 < number < K for number in numbers)


def with_total(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[cells.sum()], cells])


@settings(max_examples=200, deadline=None)
@given(parts())
def test_no_node_reads_the_others_few_once_all_have_objected(cells: NDArray[np.int64]) -> None:
    rows = Rows({"people": PEOPLE}, total=True)
    due = Round("count", "people", rows, gated=True)
    own = [with_total(node) for node in cells]
    total = np.sum(own, axis=0)
    row = np.arange(len(total))
    gated = gate(Table({"people": total, "row": row}), due, POLICY, contributors=len(cells))
    raised = [
        veto(candidates(gated, due), Table({"people": part, "row": row}), POLICY, rows=rows).astype(np.int64)
        for part in own
    ]
    told = apply_veto(gated, due, np.sum(raised, axis=0), POLICY)
    for part in own:
        assert few_of_others(told, part, total) == 0
    # Objecting twice changes nothing.
    again = [veto(candidates(told, due), Table({"people": part, "row": row}), POLICY, rows=rows).any() for part in own]
    assert not any(again)


def test_without_objections_nodes_do_read_the_others_few() -> None:
    due = Round("count", "people", Rows({"people": PEOPLE}, total=True), gated=True)
    own = [with_total(np.array(node)) for node in ([5, 5], [1, 5], [1, 5])]
    total = np.sum(own, axis=0)
    told = gate(Table({"people": total, "row": np.arange(3)}), due, POLICY, contributors=3)
    assert few_of_others(told, own[0], total) == 1


@settings(max_examples=60, deadline=None)
@given(rounds(), st.randoms(use_true_random=False))
def test_objections_only_ever_withhold_more(asked: tuple[Table, Round], random: object) -> None:
    total, due = asked
    gated = gate(total, due, POLICY, contributors=3)
    names = [name for name in candidates(gated, due).columns if name != "row"]
    size = sum(gated[name].size for name in names)
    vetoes = np.array([random.random() < 0.2 for _ in range(size)], np.int64)  # type: ignore[attr-defined]
    told = apply_veto(gated, due, vetoes, POLICY)
    assert set(told["row"].tolist()) <= set(gated["row"].tolist())
    at = np.searchsorted(gated["row"].astype(np.int64), told["row"].astype(np.int64))
    for name in names:
        before = gated.withheld.get(name, np.zeros(gated[name].shape, np.bool_))[at]
        after = told.withheld.get(name, np.zeros(told[name].shape, np.bool_))
        assert (after | ~before).all()
        assert (told[name][after] == 0).all()


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_the_order_of_rows_changes_nothing_but_which_cell_keeps_another_company(order: list[int]) -> None:
    labels = [("a", ALL), ("b", ALL), ("c", ALL)]
    cells = (5, 1, 6)
    shown = seen([(ALL, ALL), *(labels[at] for at in order)], (12, *(cells[at] for at in order)))
    assert sum(cell is None for cell in shown) == 2
    assert shown[1 + order.index(1)] is None
