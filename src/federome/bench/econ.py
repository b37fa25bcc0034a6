"""Economic evaluation against published totals, and its speed; heormodel runs beside it where it is installed.

The Sick-Sicker model as heormodel is given it is written down here from the published numbers, not from our file.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from federome.bench.report import Row, against, at_most, timed
from federome.economics.evaluate import totals
from federome.economics.incremental import compare, compare_table
from federome.economics.model import Counting, Model
from federome.economics.read import find_model
from federome.economics.uncertainty import draw

Array = NDArray[np.float64]
SPEED_BAR: Final = 50.0
SAME_BAR: Final = 1e-9
SECONDS_BAR: Final = 3.0

# Printed totals: cost to a thousandth and effect to a millionth, unless the source prints other digits.
SICK_SICKER: Final[Mapping[Counting, Mapping[str, tuple[float, float]]]] = {
    "simpson": {
        "SoC": (151579.866, 20.711331),
        "A": (284804.513, 21.498663),
        "B": (259100.411, 22.184465),
        "AB": (378875.198, 23.136844),
    },
    "half": {
        "SoC": (152262.291, 21.038151),
        "A": (285676.923, 21.828836),
        "B": (259991.515, 22.511198),
        "AB": (379955.447, 23.466846),
    },
    "none": {
        "SoC": (153541.413, 21.554487),
        "A": (287185.641, 22.345544),
        "B": (261490.974, 23.032608),
        "AB": (381676.096, 23.988969),
    },
}
# Totals of the two models of Briggs, Sculpher and Claxton (2006), with the digits that were printed.
BRIGGS: Final = (
    ("hiv-briggs", "mono", "cost", 44663.4535637, 7),
    ("hiv-briggs", "mono", "life_years", 7.9912066, 7),
    ("hiv-briggs", "comb", "cost", 50601.6513312, 7),
    ("hiv-briggs", "comb", "life_years", 8.9373889, 7),
    ("hip-briggs", "standard", "cost", 512.434658, 6),
    ("hip-briggs", "standard", "qaly", 14.6531896, 7),
    ("hip-briggs", "np1", "cost", 610.311818, 6),
    ("hip-briggs", "np1", "qaly", 14.69770986, 8),
)
# dampack's vignette on the C. difficile analysis: cost and effect of each strategy, as shipped (cdiff_icers.csv).
CDIFF: Final = {
    "s3": (57336.0059896538, 12.9399639202408),
    "s27": (57541.2526373815, 13.0140640696275),
    "s33": (57642.2587507842, 13.0389116321918),
    "s31": (57934.0743411241, 13.0966257932217),
    "s43": (58072.1137208494, 13.11285766912),
    "s44": (58665.7823044647, 13.1283328397025),
    "s39": (57814.6470919581, 13.0462790163185),
    "s4": (57887.481549326, 12.9970657153765),
    "s13": (58018.6252420203, 13.0650412387992),
    "s37": (58081.7947984323, 13.1029711156978),
    "s20": (58634.2026441398, 13.1100568867995),
}


@dataclass(frozen=True)
class Published:
    """A published table of costs and effects, the ratios along its frontier, and who is off it (strategy → status)."""

    name: str
    table: Mapping[str, tuple[float, float]]
    icers: Mapping[str, float]
    digits: int
    off: Mapping[str, str]


OUT, MIXED = "dominated", "extendedly dominated"
# Examples of the R package dampack 1.0.2 (numbers only), as its vignettes print them.
DAMPACK: Final = (
    Published(
        "HIV screening",
        {
            name: (cost, months / 12)
            for name, cost, months in (
                ("none", 26000.0, 277.25), ("once", 27000.0, 277.57), ("5 years", 28020.0, 277.78),
                ("3 years", 28440.0, 277.83), ("annual", 29440.0, 277.76),
            )
        },
        {"once": 37500.0, "5 years": 58285.71, "3 years": 100800.0},
        2,
        {"annual": OUT},
    ),
    Published(
        "VA case",
        {"E": (55000, 5), "D": (35000, 4), "C": (25000, 3), "B": (10000, 2), "A": (12000, 1.5), "UC": (5000, 1)},
        {"B": 5000.0, "D": 12500.0, "E": 20000.0},
        6,
        {"C": MIXED, "A": OUT},
    ),
    Published(
        "C. difficile",
        CDIFF,
        {"s27": 2769.85, "s33": 4065.03, "s31": 5056.22, "s43": 8504.22, "s44": 38362.65},
        2,
        {"s39": MIXED, "s4": OUT, "s13": OUT, "s37": OUT, "s20": OUT},
    ),
)  # fmt: skip


def measure(console: Console, quick: bool) -> list[Row]:
    """Published totals beside ours (bar: half a unit of the last printed digit), then speed."""
    rows = [*_sick_sicker(), *_briggs(), *_ratios(), *_dampack()]
    model = find_model("sick-sicker")
    draws = 1_000
    drawn = draw(model, draws, seed=1)
    seconds = timed(lambda: totals(model, drawn), repeats=5)
    rows += _heormodel(model, drawn, seconds, console)
    if not quick:
        many = timed(lambda: totals(model, draw(model, 100_000, seed=1)), repeats=3)
        rows.append(at_most("Sick-Sicker, 100,000 draws with drawing them", many, "s", SECONDS_BAR))
    return rows


def _beside(name: str, ours: float, printed: float, digits: int, unit: str) -> Row:
    """Ours beside the printed number; fine when it rounds to the same digits."""
    good = abs(ours - printed) <= 0.5 * 10.0**-digits * (1 + 1e-6)
    return Row(name, round(ours, digits), unit, None, good, "published", printed)


def _sick_sicker() -> list[Row]:
    rows = []
    for counting, expected in SICK_SICKER.items():
        found = totals(find_model("sick-sicker").with_counting(counting)).table()
        for name, (cost, effect) in expected.items():
            rows.append(_beside(f"Sick-Sicker {name}, {counting}: cost", found[name]["cost"], cost, 3, "USD"))
            rows.append(_beside(f"Sick-Sicker {name}, {counting}: effect", found[name]["qaly"], effect, 6, "QALY"))
    return rows


def _briggs() -> list[Row]:
    rows = []
    for name, strategy, outcome, printed, digits in BRIGGS:
        model = find_model(name)
        unit = next(each.unit for each in model.outcomes if each.name == outcome)
        ours = totals(model).table()[strategy][outcome]
        rows.append(_beside(f"{name} {strategy}: {outcome}", ours, printed, digits, unit))
    return rows


def _dampack() -> list[Row]:
    """Frontiers of published tables: each ratio, and how many strategies are off the frontier as published."""
    rows = []
    for told in DAMPACK:
        costs, effects = zip(*told.table.values(), strict=True)
        found = {each.strategy: each for each in compare(list(told.table), costs, effects)}
        for name, printed in told.icers.items():
            icer = found[name].icer
            ours = float("nan") if icer is None else icer
            rows.append(_beside(f"dampack {told.name} {name}: ICER", ours, printed, told.digits, "per unit of effect"))
        same = sum(found[name].status == status for name, status in told.off.items())
        rows.append(_beside(f"dampack {told.name}: strategies off the frontier", same, len(told.off), 0, ""))
    return rows


def _ratios() -> list[Row]:
    expected = (
        ("sick-sicker", "B", 72988, 0),
        ("sick-sicker", "AB", 125764, 0),
        ("hiv-briggs", "comb", 6275.95560, 5),
        ("hip-briggs", "np1", 2198.486665, 6),
    )
    rows = []
    for name, strategy, printed, digits in expected:
        model = find_model(name)
        compared = compare_table(totals(model).table(), model.cost.name, model.effect.name)
        (icer,) = [each.icer for each in compared if each.strategy == strategy]
        assert icer is not None
        rows.append(_beside(f"{name} {strategy}: ICER", icer, printed, digits, f"per {model.effect.unit}"))
    return rows


def _heormodel(model: Model, drawn: Mapping[str, Array], seconds: float, console: Console) -> list[Row]:
    """1,000 draws against heormodel on the same draws; ours alone where it is not installed."""
    ours = "Sick-Sicker, 1,000 draws, four strategies"
    needed = ("heormodel", "joblib", "sklearn")
    if any(importlib.util.find_spec(name) is None for name in needed):
        console.print("heormodel is not installed: its rows are left out.", markup=False)
        return [at_most(ours, seconds, "s", None)]
    run = _peer(drawn)
    theirs = timed(run, repeats=3)
    frame = run().groupby(level=0).mean()
    table = totals(model, drawn).table()
    worst = max(
        abs(table[name][here] / frame.loc[name, there] - 1)
        for name in table
        for here, there in (("cost", "cost"), ("qaly", "qaly"))
    )
    return [
        against(ours, seconds, "s", peer="heormodel", theirs=theirs, bar=SPEED_BAR),
        at_most("Sick-Sicker, largest relative difference of means from heormodel's", worst, "", SAME_BAR),
    ]


def _peer(drawn: Mapping[str, Array]) -> Callable[[], Any]:
    """heormodel's run of the same draws, as a data frame by strategy and draw."""
    import pandas as pd

    markov = importlib.import_module("heormodel.models")
    runner = importlib.import_module("heormodel.run")
    draws = pd.DataFrame(dict(drawn))
    draws.index.name = "iteration"

    def one(p: Any, strategy: str) -> Any:
        a, b = "A" in strategy, "B" in strategy
        chance = {name: 1 - np.exp(-p[name]) for name in ("r_HD", "r_HS1", "r_S1H")}
        worse = 1 - np.exp(-p["r_S1S2"] * (p["hr_S1S2_trtB"] if b else 1))
        die, die1, die2 = chance["r_HD"], 1 - np.exp(-p["r_HD"] * p["hr_S1"]), 1 - np.exp(-p["r_HD"] * p["hr_S2"])
        sick, well = (1 - die) * chance["r_HS1"], (1 - die1) * chance["r_S1H"]
        moves = np.array(
            [
                [1 - die - sick, sick, 0, die],
                [well, 1 - die1 - well - (1 - die1) * worse, (1 - die1) * worse, die1],
                [0, 0, 1 - die2, die2],
                [0, 0, 0, 1],
            ]
        )
        extra = a * p["c_trtA"] + b * p["c_trtB"]
        costs = np.array([p["c_H"], p["c_S1"] + extra, p["c_S2"] + extra, 0])
        return markov.CohortSpec(moves, costs, np.array([p["u_H"], p["u_trtA"] if a else p["u_S1"], p["u_S2"], 0]))

    engine = markov.MarkovModel(
        states=("H", "S1", "S2", "D"), interventions=("SoC", "A", "B", "AB"), transitions_and_rewards=one, n_cycles=75
    )
    return lambda: runner.run_psa(engine, draws).outcomes.data
