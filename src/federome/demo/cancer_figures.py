"""Figures about survival and tumours, drawn from released tables only. Each has its table beside it, as CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from federome.model.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = ("#1f4e79", "#c0392b", "#2e7d32", "#8e6c00", "#6a1b9a")
LINES: Final = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
"""Groups are told apart by more than their colour."""
GREY: Final = "#888888"


def _drawn(path: Path, size: tuple[float, float], draw: Callable[[Axes], None], table: Table) -> None:
    """One pair of axes into ``path`` (SVG or PNG), the table it shows into the same name as CSV."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "federome", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    write_table(table, path.with_suffix(".csv"))


def write_table(table: Table, path: Path) -> None:
    """A released table as CSV; withheld cells are empty."""
    rows = table.records()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table.columns))
        writer.writeheader()
        writer.writerows(rows)


def survival(
    curves: Table, path: Path, *, title: str, names: Mapping[str, str] | None = None, unit: str = "months"
) -> None:
    """Kaplan-Meier curves with bands and, below, how many are at risk."""
    from matplotlib.ticker import MaxNLocator

    groups = list(dict.fromkeys(curves["group"].tolist()))
    last = float(curves.floats("time").max(initial=1.0))
    steps = [1, 1.2, 2, 2.4, 3, 5, 6, 10] if unit == "months" else [1, 2, 5, 10]
    ticks = [tick for tick in MaxNLocator(7, steps=steps).tick_values(0, last) if tick <= last]

    def draw(axes: Axes) -> None:
        for colour, line, group in zip(COLOURS, LINES, groups, strict=False):
            part = curves.take(curves["group"] == group)
            time = np.concatenate([[0.0], part.floats("time")])
            lines = {n: np.concatenate([[1.0], part.floats(n)]) for n in ("survival", "low", "high")}
            name = (names or {}).get(group, group)
            axes.step(time, lines["survival"], where="post", color=colour, linestyle=line, label=name)
            axes.fill_between(time, lines["low"], lines["high"], step="post", color=colour, alpha=0.15, linewidth=0)
        axes.set(xlim=(0, 1.01 * last), ylim=(0, 1.02), xticks=ticks, ylabel="share surviving", title=title)
        axes.set_xlabel(unit)
        axes.set_xticklabels([f"{t:g}" for t in ticks])
        axes.legend(frameon=False, loc="upper right")
        axes.text(0, -0.2, "at risk", transform=axes.transAxes, color=GREY, fontsize=8)
        for row, (colour, group) in enumerate(zip(COLOURS, groups, strict=False)):
            part = curves.take(curves["group"] == group)
            for tick in ticks:
                later = np.flatnonzero(part.floats("time") >= tick)
                count = str(int(part.ints("at_risk")[later[0]])) if len(later) else "–"
                place = (tick, -0.26 - 0.06 * row)
                axes.annotate(count, place, xycoords=("data", "axes fraction"), ha="center", color=colour, fontsize=8)

    _drawn(path, (7, 4.6), draw, curves)


def forest(effects: Table, path: Path, *, label: str, title: str) -> None:
    """Hazard ratios with their intervals, one line each."""

    def draw(axes: Axes) -> None:
        ratio, low, high = (effects.floats(n) for n in ("hazard_ratio", "low", "high"))
        place = np.arange(effects.rows)[::-1]
        axes.errorbar(
            ratio, place, xerr=[ratio - low, high - ratio], fmt="s", color=COLOURS[0], ecolor=COLOURS[0], capsize=2
        )
        axes.axvline(1, color=GREY, linestyle="--", linewidth=0.8)
        axes.set_xscale("log")
        shown = [t for t in (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4) if low.min() * 0.8 <= t <= high.max() * 1.25]
        axes.set_xticks(shown, [f"{t:g}" for t in shown])
        axes.minorticks_off()
        axes.set_yticks(place, effects[label].tolist())
        axes.set(xlabel="hazard ratio per unit of the column (log scale)", title=title, ylim=(-0.7, effects.rows - 0.3))
        for at, values in zip(place, zip(ratio, low, high, strict=True), strict=True):
            text = "{:.2f} ({:.2f} to {:.2f})".format(*values)
            axes.annotate(text, (1.01, at), xycoords=("axes fraction", "data"), va="center", fontsize=8)

    _drawn(path, (7.5, 1.4 + 0.32 * effects.rows), draw, effects)


def balance(table: Table, path: Path, *, title: str, limit: float = 0.1) -> None:
    """Standardised differences of covariates before and after weighting or matching."""

    def draw(axes: Axes) -> None:
        place = np.arange(table.rows)[::-1]
        for name, marker, colour in (("before", "o", COLOURS[1]), ("after", "D", COLOURS[0])):
            axes.scatter(np.abs(table.floats(name)), place, marker=marker, color=colour, label=f"{name} adjustment")
        axes.axvline(limit, color=GREY, linestyle="--", linewidth=0.8)
        axes.set_yticks(place, table["covariate"].tolist())
        axes.set(xlabel="absolute standardised difference (dashed: 0.1)", title=title)
        axes.set_xlim(left=-0.02)
        axes.legend(frameon=False, loc="lower right")

    _drawn(path, (7, 1.6 + 0.32 * table.rows), draw, table)


def calibration(bands: Table, path: Path, *, title: str) -> None:
    """Observed against predicted risk by bands of the prediction; bands withheld are not drawn."""

    def draw(axes: Axes) -> None:
        shown = ~bands.withheld.get("people", np.zeros(bands.rows, bool))
        predicted, observed = bands.floats("predicted")[shown], bands.floats("observed")[shown]
        error = np.stack([observed - bands.floats("low")[shown], bands.floats("high")[shown] - observed])
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=0.8, label="perfect")
        axes.errorbar(
            predicted, observed, yerr=error, fmt="o", color=COLOURS[0], capsize=2, label="bands of prediction"
        )
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted risk", ylabel="observed risk", title=title)
        axes.legend(frameon=False, loc="upper left")

    _drawn(path, (4.6, 4.4), draw, bands)


def decision(table: Table, path: Path, *, title: str) -> None:
    """Net benefit over the risk from which one would act, by the score and by treating everybody or nobody."""

    def draw(axes: Axes) -> None:
        at = table.floats("threshold")
        axes.axhline(0, color=GREY, linewidth=0.8, label="treat nobody")
        axes.plot(at, table.floats("treat_all"), color=COLOURS[1], linestyle="--", label="treat everybody")
        axes.plot(at, table.floats("net_benefit"), color=COLOURS[0], marker="o", markersize=3, label="by the score")
        low = float(min(table.floats("net_benefit").min(initial=0.0), 0.0))
        high = float(max(table.floats("net_benefit").max(initial=0.0), table.floats("treat_all").max(initial=0.0)))
        axes.set_ylim(low - 0.15 * (high - low), high + 0.1 * (high - low))
        axes.set(xlabel="risk from which one would treat", ylabel="net benefit (true positives a person)", title=title)
        axes.legend(frameon=False, loc="upper right")

    _drawn(path, (5.4, 3.8), draw, table)


def alterations(table: Table, path: Path, *, title: str) -> None:
    """A matrix of aggregates: share of cases with each gene altered (row) in each group (column); grey: withheld."""
    genes = list(dict.fromkeys(table["gene"].tolist()))
    groups = list(dict.fromkeys(table["group"].tolist()))
    share = np.full((len(genes), len(groups)), np.nan)
    hidden = table.withheld.get("share", np.zeros(table.rows, bool))
    for gene, group, value, gone in zip(
        table["gene"].tolist(), table["group"].tolist(), table.floats("share").tolist(), hidden.tolist(), strict=True
    ):
        share[genes.index(gene), groups.index(group)] = np.nan if gone else value

    def draw(axes: Axes) -> None:
        axes.set_facecolor("#dddddd")
        axes.imshow(share, cmap="Blues", vmin=0, vmax=max(float(np.nanmax(share, initial=0.01)), 0.01), aspect="auto")
        axes.set_xticks(range(len(groups)), groups)
        axes.set_yticks(range(len(genes)), genes)
        for row, line in enumerate(share.tolist()):
            for column, value in enumerate(line):
                text = "few" if np.isnan(value) else f"{value:.0%}"
                dark = not np.isnan(value) and value > 0.6 * float(np.nanmax(share))
                axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=8)
        axes.set_title(title)

    width = max(1.8 + 0.9 * len(groups), 0.5 + 0.085 * len(title))
    _drawn(path, (width, 1.2 + 0.3 * len(genes)), draw, table)


FIGURES: Final[Sequence[Callable[..., Any]]] = (survival, forest, balance, calibration, decision, alterations)
