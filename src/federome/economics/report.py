"""The report of an evaluation as one HTML page: results, figures each with a table, inputs with sources, CHEERS.

Complete in one file, no script and nothing fetched from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from federome.economics.analysis import Evaluation
from federome.economics.cheers import checklist
from federome.economics.countries import Country, unverified
from federome.economics.evaluate import trace
from federome.economics.figures import figures

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "body{color:#111;background:#fff}"
    "table{border-collapse:collapse;margin:1rem 0}th,td{border:1px solid #999;padding:.2rem .6rem;text-align:left}"
    "td.n{text-align:right}caption{text-align:left;font-weight:600}svg{max-width:100%;height:auto}"
)
_CAPTIONS = {
    "frontier": "Costs and effects; the line is the frontier",
    "acceptability": "How likely each strategy is best, by willingness to pay",
    "tornado": "How far single inputs move the result",
}


def html(found: Evaluation, *, profile: Country | None = None) -> str:
    """The whole page."""
    model = found.model
    parts = [
        f"<h1>{escape(model.title)}</h1>",
        f"<p>{escape(model.question)}</p>",
        f"<p>{escape(_setting(found, profile))}</p>",
        "<h2>Results</h2>",
        comparison_table(found),
        *(_figure(found, name, svg) for name, svg in figures(found).items()),
        *_scenario_tables(found),
        "<h2>Inputs</h2>",
        _inputs(found),
        *_country(profile),
        "<h2>CHEERS 2022</h2>",
        _table(
            "Reporting checklist",
            ("Item", "Section", "Name", "Answer"),
            [
                (each.number, each.section, each.name, each.answer or "To be written by the authors")
                for each in checklist(found)
            ],
        ),
    ]
    head = f'<meta charset="utf-8"><title>{escape(model.title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def comparison_table(found: Evaluation) -> str:
    """The comparison of strategies as an HTML table."""
    model = found.model
    rows = [
        (each.strategy, each.cost, each.effect, each.status, each.against, "" if each.icer is None else each.icer)
        for each in found.compared
    ]
    header = (
        "Strategy",
        model.currency,
        model.effect.unit,
        "Status",
        "Against",
        f"{model.currency}/{model.effect.unit}",
    )
    return _table(f"Per person, discounted; best at {found.threshold:,.0f}: {found.best}", header, rows)


def _setting(found: Evaluation, profile: Country | None) -> str:
    model = found.model
    where = "as published in the model file" if profile is None else profile.name
    return (
        f"Population: {model.population}. Perspective: {model.perspective}. Horizon: {model.horizon}. "
        f"Setting: {where}. {model.currency}, prices of {model.price_year}."
    )


def _figure(found: Evaluation, name: str, svg: str) -> str:
    title = _CAPTIONS.get(name, f"The cohort over time, strategy {name.removeprefix('trace-')}")
    picture = svg[svg.index("<svg") :]
    named = picture.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
    return f"<h3>{escape(title)}</h3>\n<figure>{named}</figure>\n{_figure_table(found, name)}"


def _figure_table(found: Evaluation, name: str) -> str:
    """The numbers of a figure; the frontier's stand in the comparison already, a trace's every tenth of the time."""
    if name == "acceptability" and found.probabilistic is not None:
        curves = found.probabilistic.acceptability
        names = [each.name for each in found.model.strategies]
        rows = [
            (curves.thresholds[at], *curves.likely[at], names[int(curves.best[at])], curves.evpi[at])
            for at in range(0, len(curves.thresholds), 4)
        ]
        return _table("Probability of being best", ("Willingness to pay", *names, "Best on average", "EVPI"), rows)
    if name == "tornado":
        bars = [(each.says, each.low, each.high, each.at_low, each.at_high) for each in found.bars]
        title = f"Incremental net benefit, {found.best} against {found.against}"
        return _table(title, ("Input", "Low", "High", "At low", "At high"), bars)
    if name.startswith("trace-"):
        states, shares = trace(found.model, name.removeprefix("trace-"))
        step = max(1, (len(shares) - 1) // 10)
        return _table(
            "Share of the cohort", ("Cycle", *states), [(at, *shares[at]) for at in range(0, len(shares), step)]
        )
    return ""


def _scenario_tables(found: Evaluation) -> Iterable[str]:
    for name, compared in found.scenarios.items():
        rows = [
            (each.strategy, each.cost, each.effect, each.status, each.icer if each.icer is not None else "")
            for each in compared
        ]
        yield _table(f"Scenario: {name}", ("Strategy", "Cost", "Effect", "Status", "ICER"), rows)


def _inputs(found: Evaluation) -> str:
    model = found.model
    rows = [
        (
            each.name,
            each.says,
            each.value if each.value is not None else "",
            "" if each.distribution is None else str(each.distribution),
            each.provenance or model.sources[each.source],
            "yes" if each.verified else "no",
        )
        for each in model.parameters.values()
        if each.value is not None
    ]
    return _table("Constants", ("Name", "Meaning", "Value", "Distribution", "Source", "Verified"), rows)


def _country(profile: Country | None) -> Iterable[str]:
    if profile is None:
        return
    yield f"<h2>{escape(profile.name)}</h2>"
    facts = [(each.says, each.source, "no") for each in unverified(profile)]
    yield _table("What was not verified in its source", ("What", "Source", "Verified"), facts)


def _table(caption: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    top = "".join(f'<th scope="col">{escape(each)}</th>' for each in header)
    body = "\n".join("<tr>" + "".join(_cell(each) for each in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"<td>{escape(str(value))}</td>"
    text = f"{value:,.2f}" if abs(value) >= 100 else f"{value:.5g}"
    return f'<td class="n">{text}</td>'
