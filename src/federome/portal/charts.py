"""Charts drawn on the server as SVG: marks, classes and words, so that the style sheet colours them light and dark.

Every chart has a title, a description and a table of the same numbers (``parts.html`` puts them together). Series
differ by dash as well as by colour. A withheld value is no bar and is said to be withheld: it is never drawn as
zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count
from typing import Final

from markupsafe import Markup

WIDTH: Final = 640
LEFT: Final = 150
RIGHT: Final = 90
ROW: Final = 26
TOP: Final = 14
HEIGHT: Final = 300
LETTER: Final = 7.5
"""How wide a letter is, on the average."""
_IDS = count(1)


@dataclass(frozen=True)
class Bar:
    """One bar: its label, its value (``None``: withheld), and an interval around it."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    series: int = 1


@dataclass(frozen=True)
class Line:
    """One line of a plot: its label, and its points in order of x; a gap where y is ``None``."""

    label: str
    points: tuple[tuple[float, float | None], ...]
    steps: bool = False


@dataclass(frozen=True)
class Points:
    """Single points of a plot, all of one colour."""

    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Chart:
    """A drawn chart: the picture, and the same numbers as a table."""

    title: str
    svg: Markup
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def bars(
    title: str,
    held: Sequence[Bar],
    *,
    heads: tuple[str, str],
    description: str = "",
    withheld: str = "withheld",
    largest: float | None = None,
) -> Chart:
    """A chart of horizontal bars, one below the other."""
    most = largest or max([v for bar in held for v in (bar.value, bar.high) if v is not None], default=1.0) or 1.0
    span = WIDTH - LEFT - RIGHT
    drawn = []
    for at, bar in enumerate(held):
        y = TOP + at * ROW
        drawn.append(_text(LEFT - 8, y + 16, _short(bar.label), "", "end"))
        if bar.value is None:
            drawn.append(_text(LEFT + 4, y + 16, withheld, "soft", "start"))
            continue
        wide = span * bar.value / most
        drawn.append(f'<rect class="s{bar.series}" x="{LEFT}" y="{y + 3}" width="{wide:.1f}" height="{ROW - 8}"/>')
        end = wide
        if bar.low is not None and bar.high is not None:
            low, end = span * bar.low / most, max(wide, span * bar.high / most)
            drawn.append(f'<path class="whisker" d="M{LEFT + low:.1f} {y + 12}H{LEFT + end:.1f}"/>')
        drawn.append(_text(LEFT + end + 6, y + 16, number(bar.value), "soft", "start"))
    tall = TOP * 2 + ROW * len(held)
    drawn.append(f'<path class="axis" d="M{LEFT} {TOP - 4}V{tall - TOP + 4}"/>')
    rows = tuple((bar.label, *_told(bar, withheld)) for bar in held)
    interval = any(bar.low is not None for bar in held)
    named = (*heads, "", "")[: 4 if interval else 2]
    trimmed = tuple(row if interval else row[:2] for row in rows)
    said = description or "; ".join(f"{row[0]}: {row[1]}" for row in rows[:12])
    return Chart(title, _svg(title, said, tall, drawn), named, trimmed)


def lines(
    title: str, held: Sequence[Line], *, across: str, up: str, description: str = "", from_zero: bool = True
) -> Chart:
    """A plot of lines over a number."""
    points = [(x, y) for line in held for x, y in line.points if y is not None]
    xs, ys = [x for x, _ in points] or [0.0, 1.0], [y for _, y in points] or [0.0, 1.0]
    across_ticks = ticks(min(xs), max(xs))
    up_ticks = ticks(0.0 if from_zero else min(ys), max(ys))
    left, right, bottom = 62, WIDTH - 16, HEIGHT - 64

    def place(x: float, y: float) -> tuple[float, float]:
        wide = (x - across_ticks[0]) / (across_ticks[-1] - across_ticks[0])
        high = (y - up_ticks[0]) / (up_ticks[-1] - up_ticks[0])
        return left + wide * (right - left), bottom - high * (bottom - TOP)

    drawn = []
    for tick in up_ticks:
        y = place(across_ticks[0], tick)[1]
        drawn += [
            f'<path class="grid" d="M{left} {y:.1f}H{right}"/>',
            _text(left - 6, y + 4, number(tick), "soft", "end"),
        ]
    for tick in across_ticks:
        x = place(tick, up_ticks[0])[0]
        drawn.append(_text(x, bottom + 18, number(tick), "soft", "end" if x > right - 16 else "middle"))
    drawn.append(f'<path class="axis" d="M{left} {TOP}V{bottom}H{right}"/>')
    drawn += [_text(left, TOP - 2, up, "soft", "start"), _text(right, bottom + 34, across, "soft", "end")]
    for at, line in enumerate(held):
        look = at % 6 + 1
        drawn.append(f'<path class="line l{look} d{at % 4 + 1}" d="{_path(line, place)}"/>')
        room = (right - left) / max(1, len(held))
        x = left + at * room
        drawn.append(f'<path class="line l{look} d{at % 4 + 1}" d="M{x:.1f} {HEIGHT - 12}h26"/>')
        drawn.append(_text(x + 32, HEIGHT - 8, _short(line.label, room - 40), "", "start"))
    there = sorted({x for line in held for x, _ in line.points})
    values = [dict(line.points) for line in held]
    rows = tuple((number(x), *("–" if v.get(x) is None else number(v[x] or 0.0) for v in values)) for x in there)
    return Chart(title, _svg(title, description or title, HEIGHT, drawn), (across, *(li.label for li in held)), rows)


def points(
    title: str,
    held: Sequence[Points],
    *,
    across: str,
    up: str,
    marks: Sequence[tuple[float, str]],
    description: str,
) -> Chart:
    """A plot of many points, with ``marks`` along the bottom. Its numbers are too many for a table beside it."""
    most = max((x for each in held for x, _ in each.points), default=1.0) or 1.0
    up_ticks = ticks(0.0, max((y for each in held for _, y in each.points), default=1.0))
    left, right, bottom = 62, WIDTH - 16, HEIGHT - 48

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x / most * (right - left), bottom - y / up_ticks[-1] * (bottom - TOP)

    drawn = []
    for tick in up_ticks:
        y = place(0.0, tick)[1]
        drawn += [
            f'<path class="grid" d="M{left} {y:.1f}H{right}"/>',
            _text(left - 6, y + 4, number(tick), "soft", "end"),
        ]
    last = -math.inf
    for at, word in marks:
        x = place(at, 0.0)[0]
        if x - last >= 22:
            drawn.append(_text(x, bottom + 18, word, "soft", "middle"))
            last = x
    for look, each in enumerate(held, 1):
        path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in (place(*point) for point in each.points))
        drawn.append(f'<path class="dots l{look}" d="{path}"/>')
    drawn.append(f'<path class="axis" d="M{left} {TOP}V{bottom}H{right}"/>')
    drawn += [_text(left, TOP - 2, up, "soft", "start"), _text(right, bottom + 38, across, "soft", "end")]
    return Chart(title, _svg(title, description, HEIGHT, drawn), (), ())


def radar(
    title: str, axes: Sequence[str], held: Mapping[str, Sequence[float | None]], *, most: int, head: str, unknown: str
) -> Chart:
    """Values from 0 to ``most`` on axes around a point, one line a series; a gap where nothing is known."""
    tall, middle, reach = 420, (WIDTH / 2, 190.0), 140.0

    def place(at: int, value: float) -> tuple[float, float]:
        angle = 2 * math.pi * at / len(axes) - math.pi / 2
        return middle[0] + reach * value / most * math.cos(angle), middle[1] + reach * value / most * math.sin(angle)

    drawn = []
    for level in range(1, most + 1):
        ring = "L".join("{:.1f} {:.1f}".format(*place(at, level)) for at in range(len(axes)))
        drawn += [
            f'<path class="grid" d="M{ring}Z"/>',
            _text(middle[0] + 4, middle[1] - reach * level / most, str(level), "soft", "start"),
        ]
    for at, name in enumerate(axes):
        (x, y), (end_x, end_y) = place(at, most * 1.1), place(at, most)
        drawn.append(f'<path class="grid" d="M{middle[0]} {middle[1]}L{end_x:.1f} {end_y:.1f}"/>')
        side = "middle" if abs(x - middle[0]) < 9 else "start" if x > middle[0] else "end"
        drawn.append(_text(x, y + 4, _short(name), "", side))
    for look, (label, values) in enumerate(held.items()):
        kind = f"l{look % 6 + 1} d{look % 4 + 1}"
        path = ""
        for at in range(len(axes) + 1):  # around, and back to the first
            value, before = values[at % len(axes)], values[(at - 1) % len(axes)] if at else None
            if value is not None:
                x, y = place(at % len(axes), value)
                path += f"{'M' if before is None else 'L'}{x:.1f} {y:.1f}"
                if at < len(axes):
                    drawn.append(f'<circle class="s{look % 6 + 1}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
        drawn.append(f'<path class="line {kind}" d="{path or "M0 0"}"/>')
        x = 20 + look * (WIDTH - 40) / max(1, len(held))
        drawn += [
            f'<path class="line {kind}" d="M{x:.1f} {tall - 12}h26"/>',
            _text(x + 32, tall - 8, _short(label), "", "start"),
        ]
    rows = tuple(
        (name, *(unknown if values[at] is None else number(values[at] or 0.0) for values in held.values()))
        for at, name in enumerate(axes)
    )
    said = "; ".join(f"{row[0]}: {', '.join(row[1:])}" for row in rows)
    return Chart(title, _svg(title, said, tall, drawn), (head, *held), rows)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that reach from at most ``low`` to at least ``high``."""
    if not high > low:
        high = low + 1.0
    raw = (high - low) / wanted
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [at * step for at in range(first, last + 1)]


def number(value: float) -> str:
    """A number for people: at most four digits that count."""
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.4g}"


def _path(line: Line, place: object) -> str:
    assert callable(place)
    words, down, last = [], False, 0.0
    for x, y in line.points:
        if y is None:
            down = False
            continue
        across, up = place(x, y)
        if down and line.steps:
            words.append(f"L{across:.1f} {last:.1f}")
        words.append(f"{'L' if down else 'M'}{across:.1f} {up:.1f}")
        down, last = True, up
    return "".join(words)


def _told(bar: Bar, withheld: str) -> tuple[str, str, str]:
    if bar.value is None:
        return withheld, "", ""
    low, high = ("" if end is None else number(end) for end in (bar.low, bar.high))
    return number(bar.value), low, high


def _text(x: float, y: float, words: str, look: str, anchor: str) -> str:
    kind = f' class="{look}"' if look else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _short(label: str, room: float = 150) -> str:
    """As much of a label as fits into so many units."""
    most = max(8, int(room / LETTER))
    return label if len(label) <= most else f"{label[: most - 1]}…"


def _svg(title: str, description: str, tall: int, drawn: Sequence[str]) -> Markup:
    at = next(_IDS)
    return Markup(  # noqa: S704 (every word in it was escaped)
        f'<svg viewBox="0 0 {WIDTH} {tall}" role="img" aria-labelledby="c{at}t c{at}d">'
        f'<title id="c{at}t">{escape(title)}</title><desc id="c{at}d">{escape(description)}</desc>'
        f"{''.join(drawn)}</svg>"
    )
