"""Figures of an evaluation as SVG texts, drawn on the server: frontier, acceptability, tornado, trace.

Deterministic: the same evaluation gives the same bytes. Every figure stands beside a table with its numbers.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from federome.economics.analysis import Evaluation, traces
from federome.economics.maturity import Assessment, domains

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN_BARS = 12
_LABEL_WIDTH = 42
_LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
"""Lines are told apart by more than their colour."""


def figures(found: Evaluation) -> dict[str, str]:
    """All figures that this evaluation has, by name."""
    drawn = {"frontier": frontier(found)}
    if found.probabilistic is not None:
        drawn["acceptability"] = acceptability_curves(found)
    if found.bars:
        drawn["tornado"] = tornado_bars(found)
    for name, text in trace_figures(found).items():
        drawn[f"trace-{name}"] = text
    return drawn


def frontier(found: Evaluation) -> str:
    """Costs over effects, the frontier as a line."""
    model = found.model
    with _axes(f"{model.effect.unit} per person", f"{model.currency} per person") as (axes, out):
        front = [each for each in found.compared if each.status == "frontier"]
        axes.plot([each.effect for each in front], [each.cost for each in front], "-", color="0.4", zorder=1)
        for each in found.compared:
            axes.plot(each.effect, each.cost, "o" if each.status == "frontier" else "x", color="C0", zorder=2)
            axes.annotate(each.strategy, (each.effect, each.cost), xytext=(6, -10), textcoords="offset points")
        axes.margins(0.1)  # room for names
    return out.getvalue()


def acceptability_curves(found: Evaluation) -> str:
    """How likely each strategy is best, by willingness to pay; the frontier dotted."""
    assert found.probabilistic is not None
    curves = found.probabilistic.acceptability
    unit = f"{found.model.currency} per {found.model.effect.unit}"
    with _axes(f"Willingness to pay, {unit}", "Probability of being best") as (axes, out):
        for at, strategy in enumerate(found.model.strategies):
            axes.plot(curves.thresholds, curves.likely[:, at], ls=_LINES[at % len(_LINES)], label=strategy.title)
        frontier_line = curves.likely[range(len(curves.best)), curves.best]
        axes.plot(curves.thresholds, frontier_line, "k:", linewidth=2, label="highest mean net benefit")
        axes.axvline(found.threshold, color="0.6", linewidth=1)
        axes.set_ylim(-0.02, 1.02)  # a strategy that is never best shows, too
        axes.legend()
    return out.getvalue()


def tornado_bars(found: Evaluation) -> str:
    """The incremental net benefit over the range of each parameter, widest first."""
    bars = found.bars[:_SHOWN_BARS][::-1]
    height = max(4.2, 1.2 + 0.38 * len(bars))
    titles = {each.name: each.title for each in found.model.strategies}
    what = f"“{titles[found.best]}” against “{titles[found.against]}”"
    unit = f"Incremental net benefit, {found.model.currency}"
    with _axes(f"{unit}; dots: at upper ends of ranges\n{what}", "", height) as (axes, out):
        for at, bar in enumerate(bars):
            axes.barh(at, bar.at_high - bar.at_low, left=bar.at_low, color="C0")
        upper = [bar.at_high for bar in bars]
        axes.plot(upper, range(len(bars)), "o", color="k", markersize=4)
        ranges = [f"{bar.says} ({_number(bar.low)} to {_number(bar.high)})" for bar in bars]
        axes.set_yticks(range(len(bars)), ["\n".join(wrap(text, _LABEL_WIDTH)) for text in ranges], fontsize=8)
        axes.axvline(0, color="0.4", linewidth=1)
    return out.getvalue()


def _number(value: float) -> str:
    """To three digits, thousands in full."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def trace_figures(found: Evaluation) -> dict[str, str]:
    """Shares of the cohort by state over time, one figure a strategy."""
    drawn = {}
    for name, (states, shares) in traces(found.model).items():
        with _axes("Cycle", "Share of the cohort") as (axes, out):
            for at, state in enumerate(states):
                axes.plot(range(len(shares)), shares[:, at], ls=_LINES[at % len(_LINES)], label=state)
            axes.set_ylim(0, 1.02)
            axes.legend()
        drawn[name] = out.getvalue()
    return drawn


def maturity_radar(assessments: Sequence[Assessment]) -> str:
    """Mean level by domain, one line an assessment; a domain that nobody assessed leaves a gap in the line."""
    held = domains()
    angles = np.linspace(0, 2 * np.pi, len(held), endpoint=False)
    with _figure((7, 5.6)) as (figure, out):
        axes = figure.add_subplot(projection="polar")
        for each in assessments:
            levels = [each.mean(domain) for domain in held]
            values = np.array([np.nan if level is None else level for level in levels])
            label = f"{each.country}, {each.on.isoformat()}"
            axes.plot([*angles, angles[0]], [*values, values[0]], "o-", label=label, markersize=4)
        axes.set_ylim(0, 5)
        axes.set_yticks(range(1, 6))
        axes.set_xticks(angles, [domain.title.replace(" and ", "\nand ") for domain in held], fontsize=8)
        axes.tick_params(axis="x", pad=22)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.25, -0.12), fontsize=8)
    return out.getvalue()


@contextmanager
def _axes(x: str, y: str, height: float = 4.2) -> Iterator[tuple[Axes, io.StringIO]]:
    """Axes to draw on; the text stream holds the SVG afterwards."""
    with _figure((7, height)) as (figure, out):
        axes = figure.add_subplot()
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        yield axes, out


@contextmanager
def _figure(size: tuple[float, float]) -> Iterator[tuple[Figure, io.StringIO]]:
    import matplotlib as mpl  # half a second to load, and most processes never come here
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    out = io.StringIO()
    with mpl.rc_context(
        {"svg.hashsalt": "federome", "svg.fonttype": "none", "font.size": 10, "axes.grid": True, "grid.alpha": 0.3}
    ):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, out
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
