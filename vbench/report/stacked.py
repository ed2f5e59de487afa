"""A stacked bar per row as SVG text: parts of a whole, and what is left of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from vbench.report import svg

_TALL, _GAP, _TOP, _BOTTOM = 16, 8, 64, 44
_REST = 5  # the grey of the palette


@dataclass(frozen=True)
class Bar:
    """Parts as shares of the measured whole, which is 1; `rest` may be negative."""

    label: str
    parts: tuple[tuple[int, float], ...]  # (index into the legend, share)
    rest: float


def stacked_plot(title: str, axis: str, bars: Sequence[Bar], legend: Sequence[str]) -> str:
    """The bars as SVG. The line at 1 is what was measured; parts beyond it explain too much."""
    longest = max(sum(share for _, share in bar.parts) for bar in bars)
    end = min(max(1.0, longest), 3.0) * 1.05  # a wild bar is cut at three times the whole
    left = 26 + 7.7 * max(len(bar.label) for bar in bars)
    scale = (svg.WIDTH - left - 24) / end
    lines = svg.legend_lines([*legend, "not explained"])
    top = _TOP + 20 * len(lines) - 20
    bottom = top + len(bars) * (_TALL + _GAP) + _GAP
    height = bottom + _BOTTOM
    out = svg.frame(title, height)
    for number, line in enumerate(lines):
        base = 44 + 20 * number
        for series, x in line:
            colour = _REST if series == len(legend) else series % _REST
            out.append(
                f'<rect class="s{colour}" x="{x - 4:.1f}" y="{base - 9}" width="9" height="9"/>'
                f'<text x="{x + 10:.1f}" y="{base}">'
                f"{escape([*legend, 'not explained'][series])}</text>"
            )
    for share in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0):
        if share <= end:
            x = left + share * scale
            kind = "one" if share == 1 else "grid"
            out.append(
                f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
                f'<text class="m" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">'
                f"{share:.0%}</text>"
            )
    named = {series % _REST: name for series, name in enumerate(legend)} | {_REST: "not explained"}
    for i, bar in enumerate(bars):
        y = top + _GAP + i * (_TALL + _GAP)
        out.append(
            f'<text x="{left - 10:.1f}" y="{y + 12}" text-anchor="end">{escape(bar.label)}</text>'
        )
        at = 0.0
        rest = [(_REST, bar.rest)] if bar.rest > 0 else []
        for series, share in [*((s % _REST, share) for s, share in bar.parts), *rest]:
            shown = min(share, end - at)
            if shown > 0:
                hollow = ' style="fill-opacity:.25"' if series == _REST else ""
                out.append(
                    f'<rect class="s{series}"{hollow} x="{left + at * scale:.1f}" y="{y}" '
                    f'width="{shown * scale:.1f}" height="{_TALL}"><title>'
                    f"{escape(f'{bar.label}: {named[series]} {share:.0%}')}</title></rect>"
                )
            at += max(shown, 0.0)
    out.append(f'<text class="m" x="16" y="{bottom + 34}">{escape(axis)}</text>')
    return "\n".join([*out, "</svg>", ""])
