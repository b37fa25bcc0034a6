"""A verdict for people and for other programs: one HTML page with plots, and MultiQC's custom content.

The page is one file: no script, nothing fetched. Every plot is an SVG drawn here, with a title and a description in it
and a table of its numbers beside it. It names samples by pseudonym and stays at the node.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from federome.quality.bands import Bands
from federome.quality.metrics import HET_HOM_SNV, METRICS
from federome.quality.verdict import DatasetVerdict, Finding, SampleVerdict

COLOURS: Final = {"accept": "#1f6f43", "refer": "#8a5a00", "refuse": "#a3202c"}
MOST_LISTED: Final = 200
PLOTTED: Final = (
    (HET_HOM_SNV, "Heterozygous per homozygous SNV by ancestry group"),
    ("ratio_transitions_transversions_snv", "Transitions per transversion by ancestry group"),
    ("count_snvs", "Single nucleotide variants by ancestry group"),
    ("call_rate", "Call rate by ancestry group"),
    ("mean_autosome_coverage", "Mean coverage of autosomes by ancestry group"),
)
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 720, 320, 70, 16, 44
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}"
    "body{color:#111;background:#fff}"
    "table{border-collapse:collapse;margin:1rem 0}th,td{border:1px solid #999;padding:.2rem .6rem;text-align:left}"
    "td.n{text-align:right}caption{text-align:left;font-weight:600}svg{max-width:100%;height:auto}"
    "figure{margin:1rem 0}.accept{color:#1f6f43}.refer{color:#8a5a00}.refuse{color:#a3202c}"
)


def page(found: DatasetVerdict, bands: Bands | None = None) -> str:
    """The whole page. ``bands`` are drawn behind the samples where they are given."""
    title = f"Quality of {found.dataset}"
    counts = found.counts
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p>Verdict: <strong class="{found.verdict}">{found.verdict}</strong>. Assessed on {found.assessed_on} by '
        f"{escape(found.policy)}. {escape(found.release or 'Not committed yet')}.</p>",
        _table(
            "Samples by verdict", ("Verdict", "Samples"), [(name, float(number)) for name, number in counts.items()]
        ),
        "<h2>The dataset</h2>",
        _findings("Findings of the dataset", [("", each) for each in found.findings]),
        _table("What could not be checked", ("Check", "Why"), list(found.unknown.items())),
        "<h2>Samples that wait for somebody</h2>",
        _findings("Findings that refer or refuse", list(_serious(found.samples))),
        "<h2>Measures</h2>",
        *(figure(found.samples, metric, says, bands) for metric, says in PLOTTED),
        _table("Facts", ("What", "Value"), list(found.facts.items())),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n'
        + "\n".join(filter(None, parts))
        + "\n</body></html>\n"
    )


def _serious(samples: Sequence[SampleVerdict]) -> Iterable[tuple[str, Finding]]:
    return ((each.sample, finding) for each in samples for finding in each.findings if finding.level != "remark")


def _findings(caption: str, rows: Sequence[tuple[str, Finding]]) -> str:
    if not rows:
        return f"<p>{escape(caption)}: none.</p>"
    left = len(rows) - MOST_LISTED
    listed = [
        (who or "dataset", each.check, each.level, each.says, "" if each.value is None else each.value, each.override)
        for who, each in rows[:MOST_LISTED]
    ]
    more = f"<p>And {left:,} more in the JSON document.</p>" if left > 0 else ""
    return _table(caption, ("Of", "Check", "Level", "What", "Value", "Lifted by"), listed) + more


def figure(samples: Sequence[SampleVerdict], metric: str, title: str, bands: Bands | None = None) -> str:
    """One metric of every sample, side by side by group, with bands; empty where nobody has it."""
    having = [each for each in samples if metric in each.metrics]
    if not having:
        return ""
    groups = sorted({each.group for each in having})
    drawn = plot(having, metric, title, groups, bands)
    rows = []
    for group in groups:
        values = sorted(each.metrics[metric] for each in having if each.group == group)
        band = None if bands is None else bands.of(metric, group)
        ends: tuple[object, object] = ("", "") if band is None else band.reach(8)
        rows.append((group or "all", len(values), values[0], values[len(values) // 2], values[-1], *ends))
    header = ("Group", "Samples", "Least", "Middle", "Most", "Band from", "Band to")
    return f"<h3>{escape(title)}</h3>\n<figure>{drawn}</figure>\n{_table(title, header, rows)}"


def plot(
    samples: Sequence[SampleVerdict],
    metric: str,
    title: str,
    groups: Sequence[str],
    bands: Bands | None,
    against: Bands | None = None,
) -> str:
    """The SVG. A verdict is told by colour and by shape; ``against`` is a fixed band, drawn as two broken lines."""
    values = [each.metrics[metric] for each in samples]
    ends = [band.reach(8) for group in groups if bands and (band := bands.of(metric, group))]
    low, high = min([*values, *(a for a, _ in ends)]), max([*values, *(b for _, b in ends)])
    pad = (high - low or abs(high) or 1) * 0.05
    low, high = low - pad, high + pad
    lane = (_WIDTH - _LEFT - 10) / len(groups)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    says = f"{METRICS.get(metric, metric)} of {len(samples)} samples in {len(groups)} groups"
    marks = list(_axis(low, high, y))
    for at, group in enumerate(groups):
        left = _LEFT + at * lane
        if bands is not None and (band := bands.of(metric, group)):
            bottom, top = band.reach(8)
            marks.append(
                f'<rect x="{left + 4:.1f}" y="{y(top):.1f}" width="{lane - 8:.1f}" height="{y(bottom) - y(top):.1f}" '
                'fill="#dfe8f2"/>'
            )
        marks.append(
            f'<text x="{left + lane / 2:.1f}" y="{_HEIGHT - 14}" text-anchor="middle">{escape(group or "all")}</text>'
        )
        own = [each for each in samples if each.group == group]
        marks += [
            _mark(left + 8 + (lane - 16) * (i + 0.5) / len(own), y(each.metrics[metric]), each.verdict)
            for i, each in enumerate(own)
        ]
    if against is not None and (band := against.of(metric, "")):
        marks += [
            f'<line x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{y(end):.1f}" y2="{y(end):.1f}" stroke="#a3202c" '
            'stroke-width="1.5" stroke-dasharray="7 5"/>'
            for end in band.reach(8)
        ]
    identity = f"t-{metric}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-labelledby="{identity} d-{metric}" font-family="sans-serif" font-size="12">'
        f'<title id="{identity}">{escape(title)}</title><desc id="d-{metric}">{escape(says)}; shaded is the band that '
        "refuses outside. Circle: accept, square: refer, cross: refuse.</desc>" + "".join(marks) + "</svg>"
    )


def _axis(low: float, high: float, y: object) -> Iterable[str]:
    step = 10 ** math.floor(math.log10(high - low))
    step = next(step * times for times in (0.1, 0.2, 0.5, 1, 2) if (high - low) / (step * times) <= 8)
    value = math.ceil(low / step) * step
    while value <= high:
        at = y(value)  # type: ignore[operator]
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>'
        yield f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_number(value)}</text>'
        value += step


def _mark(x: float, y: float, verdict: str) -> str:
    colour = COLOURS[verdict]
    if verdict == "refuse":
        return f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" stroke="{colour}" stroke-width="1.8" fill="none"/>'
    if verdict == "refer":
        return f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" fill="{colour}"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}" fill-opacity="0.75"/>'


def multiqc(found: DatasetVerdict) -> str:
    """Custom content (``…_mqc.json``): a table of the standard's metrics and our verdict, one row a sample."""
    headers: dict[str, Mapping[str, object]] = {
        "verdict": {"title": "Verdict", "description": "accept, refer or refuse", "scale": False}
    }
    headers |= {name: {"title": name, "description": label, "scale": False} for name, label in METRICS.items()}
    data = {
        each.sample: {"verdict": each.verdict, **{n: each.metrics[n] for n in METRICS if n in each.metrics}}
        for each in found.samples
    }
    content = {
        "id": "federome_quality",
        "section_name": "Federome quality",
        "description": f"Verdict of {found.dataset}: {found.verdict}, {found.assessed_on}, by {found.policy}.",
        "plot_type": "table",
        "pconfig": {"id": "federome_quality_table", "title": "Federome quality", "namespace": "Federome"},
        "headers": headers,
        "data": data,
    }
    return json.dumps(content, indent=1) + "\n"


def _table(caption: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return f"<p>{escape(caption)}: none.</p>"
    top = "".join(f'<th scope="col">{escape(each)}</th>' for each in header)
    body = "\n".join("<tr>" + "".join(_cell(each) for each in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.6g}"


def _cell(value: object) -> str:
    if isinstance(value, int | float):
        return f'<td class="n">{_number(value)}</td>'
    return f"<td>{escape(str(value))}</td>"
