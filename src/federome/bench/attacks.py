"""Attacks on what is released, against defences switched off and at their defaults; then what the defences cost.

A row is an attack with the defences on; its peer is the same attack with them off, which must succeed, or the row would
prove nothing. ``docs/explanation/attacks.md`` keeps a report. ``figure`` draws it.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from federome.bench import attack_booted
from federome.bench.attack_linkage import Linked, powers, pruned
from federome.bench.attack_methods import (
    SECRET,
    Attack,
    Cohort,
    Floats,
    auc,
    beacon,
    carriers_only,
    common,
    conditioned,
    conditioned_halves,
    differencing,
    expected,
    frequency_power,
    guesses,
    homer,
    likelihood_ratio,
    patient_differencing,
    rare,
    recovered,
    subtraction,
    tracker,
    wide_differencing,
    without,
)
from federome.bench.report import Row, at_most, timed
from federome.disclosure.budgets import Charge, MemoryBudgets, MemoryPhenotypes
from federome.disclosure.cohorts import FileCohorts
from federome.disclosure.differencing import Members, admit
from federome.disclosure.door import apply_veto, candidates, gate, release, veto
from federome.disclosure.risk import Question, price, rho_at
from federome.disclosure.sticky import sticky_noise
from federome.errors import Refused
from federome.model.release import ALL, Count, Label, Policy, Round, Rows, Statistic
from federome.model.table import Table
from federome.model.wording import Wording
from federome.network.pace import Pace
from federome.network.sandbox import Sandbox
from federome.network.sandbox_bundle import Description, Program
from federome.trust.bundle import Bundle, BundleFile
from federome.trust.canonical import digest_bytes

POLICY: Final = Policy()
OFF: Final = Policy(open_data=True)
POWER_BAR: Final = 0.10
GUESS_BAR: Final = 0.55
PEOPLE: Final = 500
SITES: Final = 8_000


def measure(console: Console, quick: bool) -> list[Row]:
    """All attacks, then the door's and the audit's own time, then attacks on a booted federation from outside."""
    rows: list[Row] = []
    for title, part in (
        ("membership", _membership),
        ("counts", _counts),
        ("cells and digits", _cells),
        ("what the defences cost", _cost),
    ):
        with console.status(f"attacking: {title}"):
            rows += part(5 if quick else 20)
    return rows + attack_booted.measure(console, quick)


def _attacked(name: str, on: float, off: float, unit: str, bar: float | None, off_at_least: float) -> Row:
    """An attack's row: fine while it fails with the defences on *and* succeeded with them off."""
    ok = None if bar is None else on <= bar and off >= off_at_least
    return Row(name, on, unit, bar, ok, "defences off", off, None)


def affordable(question: Question, most: int) -> int:
    """How many such questions the default budget of a grant pays for."""
    budgets = MemoryBudgets()
    for number in range(most):
        try:
            charge = Charge("grant", price(question), rho_at(POLICY.membership_power))
            budgets.reserve(f"run {number}", [charge])
        except Refused:
            return number
    return most


def _often(repeats: int) -> Row:
    """The likelihood ratio on what is attacked from outside too, people drawn anew each time: power without chance."""
    people = attack_booted.PEOPLE * len(attack_booted.NODES)
    bought = affordable(Question(people, sites=1), people)
    drawn = (
        Cohort.drawn(people, np.random.default_rng(seed).uniform(0.2, 0.8, bought), 1_000 + seed)
        for seed in range(repeats)
    )
    on = float(np.mean([frequency_power(cohort, bought, likelihood_ratio) for cohort in drawn]))
    off = frequency_power(common(people, SITES, 1), SITES, likelihood_ratio)
    label = f"likelihood ratio, {bought} (off: {SITES}) frequencies of {people} people, drawn {repeats} times"
    return _attacked(label, on, off, "power", POWER_BAR, 0.5)


def _membership(repeats: int) -> list[Row]:
    rows = []
    whole = common(PEOPLE, SITES, 1)
    bought = affordable(Question(PEOPLE, sites=1), SITES)
    attacks: Sequence[tuple[str, Callable[..., Floats]]] = (("Homer", homer), ("likelihood ratio", likelihood_ratio))
    for name, attack in attacks:
        on = [frequency_power(common(PEOPLE, bought, seed), bought, attack) for seed in range(repeats)]
        off = frequency_power(whole, SITES, attack)
        label = f"{name}, frequencies of {bought} (off: {SITES}) sites, {PEOPLE} people"
        rows.append(_attacked(label, float(np.mean(on)), off, "power", POWER_BAR, 0.9))
    rows.append(_often(5 * repeats))
    rows.append(_linked(bought, repeats))
    carried = (rare(400, SITES, 3), 1_000)
    dearest = Question(400, unknown=1, counted=False)
    yes = affordable(dearest, 50)
    worst = 1 - math.sqrt(1 - 9.5 / 400)
    on = [carriers_only(Cohort.drawn(400, np.full(50, worst), seed), yes, at_least=10) for seed in range(repeats)]
    for name, rarest, asked in (("Shringarpure-Bustamante", False, carried[1]), ("rarest first", True, 10)):
        off = beacon(carried[0], asked, 1, rarest=rarest)
        label = f"{name} beacon, {yes} (off: up to {asked}) questions, 400 people"
        rows.append(_attacked(label, float(np.mean(on)), off, "power", POWER_BAR, 0.6))
    ledger, traits = MemoryPhenotypes(), 0
    while True:
        try:
            ledger.admit("cohort", str(traits), people=300, policy=POLICY)
        except Refused:
            break
        traits += 1
    label = f"carriers from statistics of {traits} (off: 150) traits, 300 people, beyond guessing"
    rows.append(_attacked(label, recovered(300, traits, 2), recovered(300, 150, 1), "share", 0.25, 0.8))
    return rows


def _linked(bought: int, repeats: int) -> Row:
    """Linked sites, priced one by one; off: priced as if pruning at r² 0.2 left all that they tell."""
    size, linkage = 13, 0.98
    told = [Linked.drawn(PEOPLE, bought // size, size, linkage, seed) for seed in range(5 * repeats)]
    on = float(np.mean([powers(each)[1] for each in told]))
    left = int(pruned(told[0].panel[:, 0], 0.2).sum())
    off = float(np.mean([powers(Linked.drawn(PEOPLE, bought // left, size, linkage, s))[1] for s in range(3)]))
    label = f"linked sites, attacker knows the linkage: {bought} sites (off: {bought} after pruning), {PEOPLE} people"
    return _attacked(label, on, off, "power", POWER_BAR, 0.2)


def _counts(repeats: int) -> list[Row]:
    named: Sequence[tuple[str, Attack]] = (
        ("differencing by one person", differencing),
        ("tracker", tracker),
        ("complement (subtraction of the rest)", subtraction),
    )
    victims = 20 * repeats
    rows = [
        _attacked(
            f"{name}, a refusal counts", guesses(a, POLICY, victims=victims), guesses(a, OFF), "right", GUESS_BAR, 0.95
        )
        for name, a in named
    ]
    off = guesses(differencing, OFF)
    few = expected(wide_differencing, POLICY, victims=5 * repeats)
    rows.append(
        _attacked("differencing by as few as is answered, a refusal counts", few, off, "right", GUESS_BAR, 0.95)
    )
    patient = expected(patient_differencing, POLICY, victims=5 * repeats)
    rows.append(_attacked("the same with every stranger of 1,000 in turn", patient, off, "right", None, 0.95))
    answering = replace(POLICY, same_people="answer")
    for attack, parts in ((conditioned, ""), (conditioned_halves, ", told in two parts")):
        label = f"the trait as a condition{parts} (off: the same people in other words are answered)"
        on, off = guesses(attack, POLICY, victims=victims), guesses(attack, answering)
        rows.append(_attacked(label, on, off, "right", GUESS_BAR, 0.95))
    truth, scale = 137, 5.0
    rng = np.random.default_rng(5)
    two = rng.geometric(1 - math.exp(-1 / scale), (2, 200, 400)).astype(np.float64)
    fresh = float(np.abs((two[0] - two[1]).mean(axis=1)).mean())
    sticky = [
        np.mean([sticky_noise(scale, secret=SECRET, members=f"people {n}", statistics=["count"])[0] for _ in range(5)])
        for n in range(200)
    ]
    left = float(np.abs(sticky).mean()) / scale
    label = f"averaging 400 answers about {truth} people, error left (of the noise's scale)"
    rows.append(Row(label, left, "scales", 0.5, left >= 0.5 and fresh / scale < 0.2, "fresh noise", fresh / scale))
    return rows


COUNTS: Final = Rows({"group": Label(), "people": Count(people=True)}, key=("group",))


def _cells(repeats: int) -> list[Row]:
    return [_complement(repeats), _residual(repeats), _timing(repeats), _refusing(repeats), _digits()]


def _complement(repeats: int) -> Row:
    rng = np.random.default_rng(6)
    read = {True: 0, False: 0}
    trials = 10 * repeats
    for small in rng.integers(0, POLICY.k_min, trials).tolist():
        cells = rng.permutation([small, 40, 30, 50])
        people = np.array([cells.sum(), *cells])
        hidden = people < POLICY.k_min
        labels = np.array([ALL, *(f"group {n}" for n in range(4))])
        table = Table({"group": labels, "people": np.where(hidden, 0, people)}, {"people": hidden})
        told = release({"t": table}, {"t": COUNTS}, POLICY, people=10_000).tables["t"]
        for defended, shown in ((False, table), (True, told)):
            gone = shown.withheld["people"]
            read[defended] += int(not gone[0] and gone[1:].sum() == 1)
    return _attacked(
        "a withheld cell as total less the others", read[True] / trials, read[False] / trials, "share", 0.0, 0.99
    )


def _residual(repeats: int) -> Row:
    """A contributor subtracts its own part from cells that were told."""
    rng = np.random.default_rng(7)
    due = Round("count", "people", Rows({"people": Count(people=True)}), gated=True)
    read = {True: 0, False: 0}
    cells = 0
    for _ in range(10 * repeats):
        parts = rng.choice([0, 2, 5, 30, 60], (3, 8)).astype(np.int64)
        total = Table({"people": parts.sum(axis=0), "row": np.arange(8)})
        passed = gate(total, due, POLICY, contributors=3)
        shown = candidates(passed, due)
        at = shown.ints("row")
        raised = sum(
            veto(shown, Table({"people": part[at], "row": at}), POLICY, rows=due.totals).astype(np.int64)
            for part in parts
        )
        vetoed = apply_veto(passed, due, np.asarray(raised, np.int64), POLICY)
        cells += 8
        for defended, table in ((False, passed), (True, vetoed)):
            rest = table.ints("people") - parts[0][table.ints("row")]
            told = ~table.withheld.get("people", np.zeros(table.rows, np.bool_))
            read[defended] += int((told & (rest > 0) & (rest < POLICY.k_min)).sum())
    return _attacked(
        "a node reads the others' few by subtraction", read[True] / cells, read[False] / cells, "share", 0.0, 0.05
    )


def _timing(repeats: int) -> Row:
    """Nobody, or nine people, behind a withheld cell: told apart by how long the gate takes?"""
    due = Round("count", "variants", Rows({"carriers": Count(people=True)}, genotypes=True), gated=True)

    def table(few: int) -> Table:
        carriers = np.full(2_000, few, np.int64)
        carriers[1_000:] = 50
        return Table({"carriers": carriers, "row": np.arange(2_000)})

    def early(told: Table) -> None:
        if (told.ints("carriers") > 0).all():  # a gate that looks further only where somebody is
            gate(told, due, POLICY, contributors=3)

    def times(work: Callable[[Table], object]) -> float:
        both: dict[int, list[float]] = {0: [], 9: []}
        for number in range(60 * repeats):
            few = (0, 9)[number % 2]
            subject = table(few)
            started = time.perf_counter()
            work(subject)
            both[few].append(time.perf_counter() - started)
        return auc(np.array(both[9]), np.array(both[0]))

    times(early)
    on = times(lambda told: gate(told, due, POLICY, contributors=3))
    off = times(early)
    within = abs(on - 0.5)
    return Row(
        "timing: nobody or nine behind a withheld cell, AUC",
        on,
        "AUC",
        0.55,
        within <= 0.05 and off > 0.9,
        "early exit",
        off,
    )


def _refusing(repeats: int) -> Row:
    """A question that is refused because of earlier cohorts, against one that is answered: real audit, real waits."""
    rng = np.random.default_rng(10)

    def times(pace: Pace, folder: Path) -> float:
        cohorts = FileCohorts(folder)
        taken: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(10 * repeats):
            fresh = rng.random(20_000) < 0.5
            for refused, mask in ((False, fresh), (True, without(fresh, int(np.flatnonzero(fresh)[0])))):
                started = time.perf_counter()
                with suppress(Refused), pace.even("decide"):
                    admit(Members.of(mask), cohorts, by=Wording(("bench",)), secret=SECRET, policy=POLICY)
                taken[refused].append(time.perf_counter() - started)
        cohorts.close()
        return auc(np.array(taken[True][repeats:]), np.array(taken[False][repeats:]))

    with tempfile.TemporaryDirectory() as folder:
        on = times(Pace(), Path(folder) / "on")
        off = times(Pace(frozenset()), Path(folder) / "off")
    told = abs(on - 0.5) <= 0.05 and abs(off - 0.5) > 0.2
    return Row("timing: refused because of data, or answered, AUC", on, "AUC", 0.55, told, "no pace", max(off, 1 - off))


def _digits() -> Row:
    """An algorithm that writes 40 bits into each statistic: how many can be read back."""
    rng = np.random.default_rng(9)
    bits = rng.integers(0, 2, (500, 40))
    carrier = 1.5 + (bits @ (1 << np.arange(40))) * 2.0**-42
    rows = Rows({"line": Label(), "beta": Statistic()}, key=("line",))
    table = Table({"line": np.arange(500), "beta": carrier})

    def readable(values: Floats) -> float:
        read = np.round((values - 1.5) * 2.0**42).astype(np.int64)
        return float((((read[:, None] >> np.arange(40) & 1) == bits).mean(axis=0) > 0.9).sum())

    told = release({"t": table}, {"t": rows}, POLICY, people=100_000).tables["t"].floats("beta")
    bar = math.log2(10.0**POLICY.digits)
    return _attacked("covert channel in low digits", readable(told), readable(carrier), "bits per answer", bar, 39)


def _cost(repeats: int) -> list[Row]:
    published = Rows(
        {"line": Label(), "carriers": Count(people=True), "frequency": Statistic(guard="carriers")},
        key=("line",),
        genotypes=True,
    )
    answer = Table({"line": np.arange(10), "carriers": np.arange(20, 30), "frequency": np.linspace(0.1, 0.2, 10)})
    door = timed(lambda: release({"t": answer}, {"t": published}, POLICY, people=1_000), repeats=4 * repeats)
    rng = np.random.default_rng(3)
    with tempfile.TemporaryDirectory() as folder:
        cohorts = FileCohorts(Path(folder) / "audit")
        for _ in range(100 if repeats < 20 else 10_000):
            cohorts.add(Members.of(rng.random(20_000) < 0.5))
        seconds = []
        for _ in range(repeats):
            fresh = Members.of(rng.random(20_000) < 0.5)
            started = time.perf_counter()
            admit(fresh, cohorts, by=Wording(("bench",)), secret=SECRET, policy=POLICY)
            seconds.append(time.perf_counter() - started)
        cohorts.close()
    earlier = 100 if repeats < 20 else 10_000
    return [
        at_most("door, an answer of ten rows from a published table", 1e3 * door, "ms", 1.0),
        at_most(f"audit of a new cohort with {earlier:,} on record", 1e3 * float(np.median(seconds)), "ms", 50.0),
        at_most("sandbox, a job of others once warm", 1e3 * _warm_start(repeats), "ms", 60.0),
    ]


def _warm_start(repeats: int) -> float:
    """Seconds from an order to the result of a program that does next to nothing, numpy and numba loaded once."""
    source = b"import numpy as np\nfrom federome.model.table import Table\n\n\ndef run(reads):\n    return TABLE\n"
    files = {"code.py": source.replace(b"TABLE", b'Table({"n": np.array([1])})')}
    listed = tuple(BundleFile(path, digest_bytes(data)) for path, data in files.items())
    program = Program(Bundle("nothing", "1", "counts", listed), Description("code:run", (), ("n",)), files)
    with Sandbox(preload=("numpy", "numba")) as place:
        place.run(program, {})
        return timed(lambda: place.run(program, {}), repeats=repeats)


def figure(rows: Sequence[Row], path: Path) -> None:
    """The attacks that are shares, off and on, as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [row for row in rows if row.unit in ("power", "right", "share", "AUC") and row.peer_value is not None]
    at = np.arange(len(shown))[::-1]
    chart, axes = pyplot.subplots(figsize=(9, 0.5 * len(shown) + 1.2), layout="constrained")
    axes.barh(at + 0.2, [row.peer_value or 0.0 for row in shown], 0.38, color="#b5483a", label="defences off")
    axes.barh(at - 0.2, [row.value for row in shown], 0.38, color="#2f6f8f", label="default settings")
    guessing = {"power": 0.05, "right": 0.5, "share": 0.0, "AUC": 0.5}
    axes.scatter(
        [guessing[row.unit] for row in shown], at, marker="|", s=420, color="black", label="guessing", zorder=3
    )
    axes.set_yticks(at, [row.name for row in shown], fontsize=8)
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("share of victims found, or right")
    axes.set_ylim(-0.7, len(shown) - 0.3)
    chart.legend(loc="outside upper right", ncols=3, fontsize=8)
    chart.savefig(path, dpi=120)
    pyplot.close(chart)
