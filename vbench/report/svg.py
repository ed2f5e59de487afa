"""A dot-and-interval plot as SVG text.

Written by hand rather than with matplotlib: it takes milliseconds instead of a second of
imports and drawing, its bytes depend on nothing but the numbers, and a style block adapts it to
light and dark pages. It brings its own background, so that it stays readable where a page's
theme is not the system's, which is all that an SVG in an <img> gets to know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 800  # GitHub scales wider images down, and their text with them
_LINE = 13  # height of one dot's line
_TOP, _BOTTOM, _RIGHT = 64, 44, 24

# Okabe and Ito's colours (colour-blind safe), darkened for the light page and lightened for the
# dark one to a contrast of 3:1 or more (WCAG 1.4.11); marks differ in shape as well.
_LIGHT = ("#0072b2", "#c44e00", "#007a5a", "#a04a85", "#7a6200", "#4d4d4d")
_DARK = ("#56b4e9", "#ff9447", "#35cfa0", "#e59bc8", "#e3c43a", "#c8c8c8")

_STYLE = """
text{font:13px system-ui,"Segoe UI","Noto Sans",Helvetica,Arial,sans-serif;fill:#1f2328}
.h{font-weight:600}.m{fill:#59636e;font-size:12px}.t{font-size:15px;font-weight:600}
.card{fill:#fff;stroke:#d1d9e0}.grid{stroke:#d1d9e0}.ref{stroke:#59636e;stroke-dasharray:4 3}
.one{stroke:#1f2328;stroke-width:1.5}.band{fill:#f6f8fa}"""
_STYLE_DARK = """
text{fill:#f0f6fc}.m{fill:#9198a1}.card{fill:#0d1117;stroke:#3d444d}.grid{stroke:#2f3742}
.ref{stroke:#9198a1}.one{stroke:#f0f6fc}.band{fill:#151b23}"""


@dataclass(frozen=True)
class Dot:
    """One value with its interval; `series` is an index into the legend. `tooltip` is what a
    pointer on it shows."""

    series: int
    value: float
    low: float | None
    high: float | None
    tooltip: str


@dataclass(frozen=True)
class Row:
    """A labelled group of dots, one below the other. Without dots it is a heading."""

    label: str
    dots: tuple[Dot, ...] = ()


@dataclass(frozen=True)
class Axis:
    """Logarithmic or from zero; `lines` are (value, is the neutral one) across the plot."""

    title: str
    log: bool
    prefix: str = ""
    lines: tuple[tuple[float, bool], ...] = ()


def _colours(palette: Sequence[str]) -> str:
    return "".join(
        f".s{i}{{fill:{colour};stroke:{colour}}}.l{i}{{stroke:{colour}}}"
        for i, colour in enumerate(palette)
    )


def _mark(series: int, x: float, y: float) -> str:
    """Circle, square, diamond, triangle, ring: readable without colour."""
    style = f'class="s{series % len(_LIGHT)}"'
    shape = series % 5
    if shape in (0, 4):
        hollow = ' style="fill:none;stroke-width:2"' if shape == 4 else ""
        return f'<circle {style} cx="{x:.1f}" cy="{y:.1f}" r="4"{hollow}/>'
    if shape == 1:
        return f'<rect {style} x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7"/>'
    corners = (
        ((0, -5), (5, 0), (0, 5), (-5, 0)) if shape == 2 else ((0, -5), (4.5, 3.5), (-4.5, 3.5))
    )
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon {style} points="{points}"/>'


def _ticks(low: float, high: float, log: bool) -> list[float]:
    """1-2-5 steps inside the range; only powers of ten where a range is long."""
    if log:
        steps = (1, 2, 5) if math.log10(high / low) < 3 else (1,)
        first = math.floor(math.log10(low))
        found = [m * 10.0**e for e in range(first, math.ceil(math.log10(high)) + 1) for m in steps]
        return [tick for tick in found if low * 0.999 <= tick <= high * 1.001]
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    return [step * i for i in range(math.floor(high / step) + 1)]


def _range(rows: Sequence[Row], axis: Axis) -> tuple[float, float]:
    values = [v for r in rows for d in r.dots for v in (d.value, d.low, d.high) if v is not None]
    values += [value for value, _ in axis.lines]
    low, high = min(values), max(values)
    if not axis.log:
        return 0.0, high * 1.05 or 1.0
    # an interval of two wild boots would squeeze all others: it leaves the plot instead
    points = [d.value for r in rows for d in r.dots] + [value for value, _ in axis.lines]
    low, high = max(low, min(points) / 3), min(high, max(points) * 3)
    return low / 1.08, max(high * 1.08, low * 2)


def frame(title: str, height: int) -> list[str]:
    """The beginning of a plot: size, style, card and title."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img"><title>{escape(title)}</title>',
        f"<style>{_STYLE}{_colours(_LIGHT)}\n@media(prefers-color-scheme:dark){{{_STYLE_DARK}"
        f"{_colours(_DARK)}}}</style>",
        f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
        f'<text class="t" x="16" y="24">{escape(title)}</text>',
    ]


def dot_plot(title: str, axis: Axis, rows: Sequence[Row], legend: Sequence[str]) -> str:
    """The plot of `rows` as SVG. Raises ValueError without any dot."""
    low, high = _range(rows, axis)
    left = 26 + 7.7 * max(len(row.label) for row in rows)
    span = WIDTH - left - _RIGHT

    def x_of(value: float) -> float:
        value = min(max(value, low), high)
        part = math.log(value / low) / math.log(high / low) if axis.log else value / high
        return left + span * part

    heights = [len(row.dots) * _LINE + 9 if row.dots else 26 for row in rows]
    wrapped = legend_lines(legend)
    top = _TOP + 20 * len(wrapped) - 20
    height = top + sum(heights) + _BOTTOM
    out = frame(title, height)
    for number, line in enumerate(wrapped):
        base = 44 + 20 * number
        for series, x in line:
            out.append(_mark(series, x, base - 4))
            out.append(f'<text x="{x + 10:.1f}" y="{base}">{escape(legend[series])}</text>')
    bottom = top + sum(heights)
    y = float(top)
    body: list[str] = []
    for i, (row, tall) in enumerate(zip(rows, heights, strict=True)):
        if not row.dots:
            body.append(f'<text class="h" x="16" y="{y + 18:.1f}">{escape(row.label)}</text>')
        else:
            if i % 2:
                out.append(
                    f'<rect class="band" x="1" y="{y:.1f}" width="{WIDTH - 2}" height="{tall}"/>'
                )
            middle = y + tall / 2 + 4
            body.append(
                f'<text x="{left - 10:.1f}" y="{middle:.1f}" text-anchor="end">'
                f"{escape(row.label)}</text>"
            )
            for k, dot in enumerate(row.dots):
                body += _dot(dot, x_of, (low, high), y + 4.5 + _LINE * (k + 0.5))
        y += tall
    if any(_leaves(dot, (low, high)) for row in rows for dot in row.dots):
        out.append(
            f'<text class="m" x="{WIDTH - 16}" y="24" text-anchor="end">'
            "an arrow: the interval goes on beyond the axis</text>"
        )
    out += _grid(axis, _ticks(low, high, axis.log), x_of, top, bottom)
    return "\n".join([*out, *body, "</svg>", ""])


def _leaves(dot: Dot, ends: tuple[float, float]) -> list[tuple[float, int]]:
    """Where its interval leaves the axis from the first to the last value of `ends`: that end, and
    -1 to the left or 1 to the right."""
    out = []
    if dot.low is not None and dot.low < ends[0]:
        out.append((ends[0], -1))
    if dot.high is not None and dot.high > ends[1]:
        out.append((ends[1], 1))
    return out


def _dot(
    dot: Dot, x_of: Callable[[float], float], ends: tuple[float, float], y: float
) -> list[str]:
    out = [f"<g><title>{escape(dot.tooltip)}</title>"]
    if dot.low is not None and dot.high is not None:
        out.append(
            f'<line class="l{dot.series % len(_LIGHT)}" stroke-width="2" '
            f'x1="{x_of(dot.low):.1f}" x2="{x_of(dot.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        out += [
            f'<path class="s{dot.series % len(_LIGHT)}" '
            f'd="M{x_of(end):.1f} {y:.1f}l{-7 * side} -4v8z"/>'
            for end, side in _leaves(dot, ends)
        ]
    return [*out, _mark(dot.series, x_of(dot.value), y), "</g>"]


def _grid(
    axis: Axis, ticks: Sequence[float], x_of: Callable[[float], float], top: int, bottom: int
) -> list[str]:
    out, last = [], -math.inf
    for tick in ticks:
        x = x_of(tick)
        out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        label = f"{axis.prefix}{tick:g}"
        if x - last > 8 * len(label) + 8:  # labels that would touch are left out
            out.append(
                f'<text class="m" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>'
            )
            last = x
    for value, neutral in axis.lines:
        x = x_of(value)
        kind = "one" if neutral else "ref"
        out.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
    out.append(f'<text class="m" x="16" y="{bottom + 34}">{escape(axis.title)}</text>')
    return out


def legend_lines(legend: Sequence[str]) -> list[list[tuple[int, float]]]:
    """(series, x) of each entry, wrapped into lines."""
    lines: list[list[tuple[int, float]]] = [[]]
    x = 22.0
    for series, name in enumerate(legend):
        width = 34 + 7.2 * len(name)
        if lines[-1] and x + width > WIDTH - 10:
            lines.append([])
            x = 22.0
        lines[-1].append((series, x))
        x += width
    return lines
