"""Published attacks on what is released, carried out here: each succeeds where nothing defends, and then does not.

Attackers hold genomes, know public frequencies and all rules, and take a refusal for an observation. Power is the share
of members found at 5 % false alarms, calibrated on people outside of the cohort; 0.05 is guessing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from federome.bench.attack_linkage import Linked, powers, pruned
from federome.bench.attack_methods import (
    Asked,
    Cohort,
    beacon,
    carriers_only,
    common,
    differencing,
    frequency_power,
    guesses,
    homer,
    likelihood_ratio,
    rare,
    recovered,
    subtraction,
    tracker,
    wide_differencing,
    without,
)
from federome.disclosure.budgets import Charge, MemoryBudgets, MemoryPhenotypes
from federome.disclosure.door import apply_veto, candidates, check_weights, gate, release, veto
from federome.disclosure.risk import Question, power, price, rho_at
from federome.disclosure.sticky import sticky_noise
from federome.errors import Refused
from federome.model.release import ALL, Count, Label, Policy, Round, Rows, Statistic
from federome.model.table import Table

POLICY = Policy()
OFF = Policy(open_data=True)  # every check switched off
LIMIT = rho_at(POLICY.membership_power)
SECRET = b"a node's own secret, 32 bytes ..."
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def affordable(question: Callable[[int], Question], most: int) -> int:
    """How many sites a grant's budget pays for, asked until it is exhausted: one reservation for each."""
    budgets = MemoryBudgets()
    for number in range(most):
        try:
            budgets.reserve(f"run {number}", [Charge("permit", price(question(number)), LIMIT)])
        except Refused:
            return number
    return most


# membership from frequencies


@pytest.mark.parametrize("attack", [homer, likelihood_ratio])
def test_frequencies_of_many_sites_find_members_and_what_the_budget_allows_does_not(
    attack: Callable[..., Floats],
) -> None:
    people, most = 500, 8_000
    cohort = common(people, most, 1)
    assert frequency_power(cohort, most, attack) > 0.9
    allowed = affordable(lambda _: Question(people, sites=1), most)
    assert 0.08 < allowed / people < 0.10
    defended = np.mean([frequency_power(common(people, allowed, seed), allowed, attack) for seed in range(20)])
    assert defended <= 0.11


def test_a_minimum_of_carriers_alone_does_not_stop_it() -> None:
    cohort = common(500, 8_000, 2)
    enough = np.flatnonzero((cohort.members > 0).sum(axis=0) >= 20)
    thinned = Cohort(cohort.members[:, enough], cohort.others[:, enough], cohort.frequency[enough])
    assert frequency_power(thinned, len(enough), likelihood_ratio) > 0.9


def test_the_meter_foretells_the_best_attack() -> None:
    people = 400
    for ratio in (0.25, 1.0, 4.0):
        sites = int(ratio * people)
        measured = np.mean([frequency_power(common(people, sites, s), sites, likelihood_ratio) for s in range(12)])
        assert measured == pytest.approx(power(ratio), abs=0.05)


def test_pruned_sites_foretell_the_plain_attack_and_linked_ones_tell_as_much_as_all() -> None:
    """Why prices count every site (decision 19): 240 in blocks of 12, of which pruning at r² 0.2 leaves a quarter."""
    people, blocks, size = 400, 20, 12
    measured, left = [], 0
    for seed in range(3):
        linked = Linked.drawn(people, blocks, size, 0.9, seed)
        measured.append(powers(linked))
        left = sum(int(pruned(linked.panel[:, block], 0.2).sum()) for block in range(blocks))
    plain, knowing = np.mean(measured, axis=0)
    assert left < blocks * size / 3
    assert plain == pytest.approx(power(left / people), abs=0.04)
    assert knowing == pytest.approx(power(blocks * size / people), abs=0.05)
    assert knowing > power(left / people) + 0.04  # what a price by pruned sites would not cover


def test_pruning_keeps_no_two_linked_sites_and_drops_none_without_cause() -> None:
    panel = Linked.drawn(50, 1, 12, 0.9, 4).panel[:, 0]
    left = np.flatnonzero(pruned(panel, 0.2)).tolist()
    squared = [[np.corrcoef(panel[:, a], panel[:, b])[0, 1] ** 2 for b in range(12)] for a in range(12)]
    assert all(squared[a][b] < 0.2 for a in left for b in left if a != b)
    assert all(any(squared[a][b] >= 0.2 for b in left if b < a) for a in set(range(12)) - set(left))


# membership from yes and no


def test_a_beacon_gives_members_away_by_their_rarest_alleles_and_a_priced_one_does_not() -> None:
    people = 400
    cohort = rare(people, 8_000, 3)
    assert beacon(cohort, 10, 1, rarest=True) > 0.9
    carried = np.sort(1 - (1 - cohort.frequency) ** 2)

    def question(at_least: int) -> Callable[[int], Question]:
        return lambda n: Question(people, rare=(float(carried[n]),), at_least=at_least, counted=False)

    assert affordable(question(1), 10) == 0
    assert affordable(lambda _: Question(people, unknown=1, at_least=1, counted=False), 10) == 0
    # From ten carriers on an answer costs what it tells; all that a budget pays for leaves the attacker guessing.
    dearest = np.full(50, 9.5 / people)
    bought = affordable(lambda n: Question(people, rare=(dearest[n],), at_least=10, counted=False), 50)
    assert 1 <= bought < 10
    frequency = np.full(50, 1 - math.sqrt(1 - 9.5 / people))
    defended = np.mean(
        [carriers_only(Cohort.drawn(people, frequency, seed), bought, at_least=10) for seed in range(30)]
    )
    assert defended <= 0.11


# differencing and its relatives


@pytest.mark.parametrize("attack", [differencing, tracker, subtraction])
def test_two_answers_do_not_tell_of_one_person(
    attack: Callable[[Asked, NDArray[np.bool_], int], float],
) -> None:
    assert guesses(attack, OFF) == 1.0
    assert guesses(attack, POLICY) == pytest.approx(0.5, abs=0.05)


def test_what_an_answer_beyond_the_distance_tells_is_a_mean_over_many() -> None:
    assert guesses(wide_differencing, OFF) == 1.0
    # The mean of k′ people, the victim among them, is right a little more often than a coin: 0.5 + 0.4 / √k′.
    assert guesses(wide_differencing, Policy(difference_min=10)) > 0.57
    assert guesses(wide_differencing, POLICY) == pytest.approx(0.5, abs=0.05)


def test_refusals_do_not_tell_the_distance() -> None:
    """The last refused distance is drawn for each cohort, so it says nothing that holds for the next."""
    ends = set()
    cohort = np.ones(2_000, np.bool_)
    for seed in range(30):
        node = Asked(cohort, POLICY, seed=seed)
        node.count(cohort)
        taken = next(n for n in range(1, 200) if node.count(without(cohort, *range(n))) is not None)
        ends.add(taken)
        assert taken >= POLICY.k_min
    assert len(ends) > 4


def test_repeating_a_question_does_not_average_the_noise_away() -> None:
    truth, repeats, scale = 137, 400, 5.0
    rng = np.random.default_rng(5)
    fresh = truth + rng.geometric(1 - math.exp(-1 / scale), repeats) - rng.geometric(1 - math.exp(-1 / scale), repeats)
    assert abs(fresh.mean() - truth) < 1.5
    errors = []
    for person in range(200):
        answers = [
            truth + sticky_noise(scale, secret=SECRET, members=f"people {person}", statistics=["count"])[0]
            for _ in range(5)  # however the question is worded, it is about the same people
        ]
        assert len(set(answers)) == 1
        errors.append(abs(np.mean(answers) - truth))
    assert np.mean(errors) > scale / 2


# small cells


COUNTS = Rows({"group": Label(), "people": Count(people=True)}, key=("group",))


def table_of(cells: tuple[int, ...]) -> Table:
    people = np.array([sum(cells), *cells])
    small = people < POLICY.k_min
    labels = np.array([ALL, *(f"group {n}" for n in range(len(cells)))])
    return Table({"group": labels, "people": np.where(small, 0, people)}, {"people": small})


def complement(table: Table) -> int | None:
    """The one withheld cell, from the total and all others."""
    hidden = table.withheld.get("people", np.zeros(table.rows, np.bool_))
    if hidden[0] or hidden[1:].sum() != 1:
        return None
    return int(table.ints("people")[0] - table.ints("people")[1:].sum())


def test_a_withheld_cell_is_not_the_total_less_the_others() -> None:
    rng = np.random.default_rng(6)
    small = [tuple(rng.permutation([int(n), 40, 30, 50]).tolist()) for n in rng.integers(0, 10, 50)]
    assert [complement(table_of(cells)) for cells in small] == [min(cells) for cells in small]
    for cells in small:
        told = release({"t": table_of(cells)}, {"t": COUNTS}, POLICY, people=200).tables["t"]
        assert complement(told) is None


def test_a_node_that_knows_its_own_part_cannot_reconstruct_the_few_of_the_others() -> None:
    """Brute force: of all tables of the others that fit what is told, how many values has each of their cells?"""
    k = 3
    policy, rows = Policy(k_min=k), Rows({"people": Count(people=True)}, total=True)
    due = Round("count", "people", rows, gated=True)
    rng = np.random.default_rng(8)
    read = {True: 0, False: 0}
    for _ in range(60):
        nodes = [rng.choice([0, 1, 2, 4, 6], 3) for _ in range(3)]
        parts = [np.concatenate([[node.sum()], node]) for node in nodes]
        total = np.sum(parts, axis=0)
        row = np.arange(4)
        for objecting in (True, False):
            told = gate(Table({"people": total, "row": row}), due, policy, contributors=3)
            if objecting:
                raised = [
                    veto(candidates(told, due), Table({"people": part, "row": row}), policy, rows=rows)
                    for part in parts
                ]
                told = apply_veto(told, due, np.sum(raised, axis=0, dtype=np.int64), policy)
            read[objecting] += reconstructed(told, own=parts[0], rest=total - parts[0], k=k)
    assert read[False] > 10
    assert read[True] == 0


def reconstructed(told: Table, *, own: Ints, rest: Ints, k: int) -> int:
    """Cells of the others with 1 … k − 1 people that only one table of the others explains."""
    hidden = told.withheld.get("people", np.zeros(told.rows, np.bool_))
    if hidden[0]:
        return 0
    known = told.ints("people") - own
    fits = [
        cells
        for cells in product(range(int(rest[0]) + 1), repeat=3)
        if sum(cells) == known[0] and all(hidden[1 + at] or cell == known[1 + at] for at, cell in enumerate(cells))
    ]
    return sum(0 < rest[1 + at] < k and len({cells[at] for cells in fits}) == 1 for at in range(3))


# what an algorithm or a hub could smuggle out


def test_low_digits_carry_no_message() -> None:
    """An algorithm that writes a person's 40 bits into the digits of statistics: read back bit by bit."""
    rng = np.random.default_rng(9)
    bits = rng.integers(0, 2, (500, 40))
    message = bits @ (1 << np.arange(40))
    carrier = 1.5 + message * 2.0**-42  # a plausible estimate near 1.6
    rows = Rows({"line": Label(), "beta": Statistic()}, key=("line",))
    table = Table({"line": np.arange(500), "beta": carrier})

    def right(values: Floats) -> Floats:
        read = np.round((values - 1.5) * 2.0**42).astype(np.int64)
        return ((read[:, None] >> np.arange(40) & 1) == bits).mean(axis=0)  # type: ignore[no-any-return]

    assert right(table.floats("beta")).min() == 1.0
    told = release({"t": table}, {"t": rows}, POLICY, people=100_000).tables["t"].floats("beta")
    survived = right(told)
    assert np.abs(survived[:20] - 0.5).max() < 0.1
    assert (survived > 0.9).sum() < math.log2(10.0**POLICY.digits) < 20


def test_no_message_hides_in_what_is_no_number() -> None:
    """The bits of a NaN, the sign of a zero, and values under withheld cells are all told alike."""
    rng = np.random.default_rng(10)
    secret = rng.integers(1, 1 << 50, 100).astype(np.uint64)
    rows = Rows({"line": Label(), "x": Statistic(), "n": Count(people=True)}, key=("line",))
    values = (np.uint64(0x7FF8 << 48) | secret).view(np.float64)
    assert np.isnan(values).all()
    hidden = np.ones(100, np.bool_)
    table = Table({"line": np.arange(100), "x": values, "n": secret.astype(np.int64)}, {"n": hidden})
    zeros = np.where(secret & np.uint64(1), -0.0, 0.0)
    for sent in (table, table.with_column("x", zeros)):
        wire = sent.to_bytes()
        assert any(int(s).to_bytes(8, "little")[:6] in wire for s in secret.tolist())
        told = release({"t": sent}, {"t": rows}, POLICY, people=100_000).tables["t"]
        assert len(set(told.floats("x").view(np.uint64).tolist())) == 1
        assert set(told.ints("n").tolist()) == {0}


def test_a_hub_cannot_steer_a_sum_onto_one_person() -> None:
    """Weights that isolate a victim, openly, thinly veiled, or as the difference of two innocent columns."""
    rng = np.random.default_rng(12)
    people, victim = 300, 17
    dosage = rng.binomial(2, 0.3, people).astype(np.float64)
    alone = np.zeros(people)
    alone[victim] = 1.0
    veiled = alone + 1e-7 * rng.random(people)
    twins = np.column_stack([np.ones(people), np.ones(people) - alone])
    steered = (dosage @ alone, round(float(dosage @ veiled)), (dosage @ twins)[0] - (dosage @ twins)[1])
    assert all(value == dosage[victim] for value in steered)
    for weights in (alone, veiled, twins):
        check_weights(weights, OFF)
        with pytest.raises(Refused):
            check_weights(weights, POLICY)
    check_weights(rng.normal(size=(people, 5)), POLICY)


# genotypes from statistics of many phenotypes


def test_statistics_of_many_traits_give_genotypes_away_and_of_those_allowed_do_not() -> None:
    people = 300
    assert recovered(people, 150, 1) > 0.85
    ledger, allowed = MemoryPhenotypes(), 0
    while True:
        try:
            ledger.admit("cohort", f"phenotype {allowed}", people=people, policy=POLICY)
        except Refused:
            break
        allowed += 1
    assert allowed == 15
    assert recovered(people, allowed, 2) < 0.25
