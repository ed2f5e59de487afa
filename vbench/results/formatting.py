"""Numbers, cells and tables as text. No locale, no clock: the same input gives the same bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tabulate import tabulate

from vbench.model import TimeBase
from vbench.results.stats import Overhead

NOTHING = "—"
TIMES = "\N{MULTIPLICATION SIGN}"
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {mark: "\\" + mark for mark in "\\`*_[]|~#"}
)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table. Cells are Markdown already: see `plain` for text from outside."""
    # disable_numparse: tabulate would turn "1e3" or "007" into other text
    text = tabulate(rows, headings, tablefmt="pipe", disable_numparse=True)
    if max(map(len, text.splitlines())) <= 120:
        return text
    # padding to the widest of such cells helps nobody and makes the file several times as long
    return re.sub(r" {2,}\|", " |", re.sub(r":-+\|", ":---|", text))


def plain(text: str) -> str:
    """Text from outside (reasons, model names) that must not act as Markdown or leave its cell."""
    return " ".join(text.split()).translate(_ESCAPES)


def unmarked(markdown: str) -> str:
    """Text that `plain`, `code` and emphasis made, without their marks, for what shows none."""
    return re.sub(r"\*\*|`|\\(?=[^\w\s]|_)", "", markdown)


def code(text: str) -> str:
    """Text as inline code in a table cell."""
    text = " ".join(text.split())
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}".replace("|", "\\|") if text else NOTHING


def small(text: str) -> str:
    """A second, smaller line of a cell."""
    return f"<sub>{text}</sub>"


def block(text: str, language: str = "") -> str:
    """A fenced code block, whose fence is longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


def details(summary: str, body: str) -> str:
    """A part that is folded until asked for."""
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def number(value: float) -> str:
    """Three significant digits, with separators instead of an exponent: 0.0123, 1.83, 12,300."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else NOTHING
    digits = 2 - int(f"{value:.2e}".partition("e")[2])  # after rounding: 0.09999 is 0.100
    rounded = round(value, digits)
    return f"{rounded:,.{max(digits, 0)}f}" if digits > 0 else f"{rounded:,.0f}"


def signed(value: float) -> str:
    """As `number`, with its sign: +15, -0.0123."""
    return ("+" if value >= 0 else "") + number(value)


def instructions(count: float) -> str:
    """Three significant digits, and never a part of an instruction: 0, 4, 338, 135,000."""
    if not math.isfinite(count):
        return NOTHING
    return whole(round(count, min(0, 3 - len(f"{abs(count):.0f}"))))


def whole(value: float) -> str:
    """Without a fraction: -3, 0, 1,234."""
    text = f"{value:,.0f}"
    return "0" if text == "-0" else text


def ratio(value: float, like: float | None = None) -> str:
    """A ratio, with as many decimals as `like` (default: itself) deserves; three close to 1."""
    size = value if like is None else like
    decimals = 3 if abs(size - 1) < 0.05 else 2 if size < 10 else 1 if size < 100 else 0
    return f"{value:,.{decimals}f}"


def times(value: float) -> str:
    """A ratio as it is shown: with its sign."""
    return TIMES + ratio(value)


def interval(value: Overhead) -> str:
    """`[1.79, 1.88]`, and that it holds for one boot only."""
    if value.low is None or value.high is None:
        return "one pair: no interval"
    text = f"[{ratio(value.low, value.ratio)}, {ratio(value.high, value.ratio)}]"
    return text + (" this boot only" if value.boots == 1 else "")


def share(value: Overhead) -> str:
    """What is left of native speed in per cent: `55 [52, 58]`. More than all of it has a word."""
    text = number(100 / value.ratio)
    if value.ratio < 1:
        surely = value.high is not None and value.high < 1
        text += " (faster than native)" if surely else " (as fast, within the interval)"
    if value.low is None or value.high is None:
        return text + ", one pair: no interval"
    text += f" [{number(100 / value.high)}, {number(100 / value.low)}]"
    return text + (" this boot only" if value.boots == 1 else "")


_STEPS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"), (1e-12, "ps"))
_RATES = ((2.0**30, "GiB/s"), (2.0**20, "MiB/s"), (2.0**10, "KiB/s"), (1.0, "B/s"))


def duration(seconds: float | None, base: TimeBase) -> str:
    """Seconds in a readable unit; on the instruction base, where 1 ns is one, instructions."""
    if seconds is None:
        return NOTHING
    unit, text = measure(seconds, seconds, base)
    return f"{text} {unit}"


def measure(seconds: float, like: float, base: TimeBase) -> tuple[str, str]:
    """The unit that suits `like`, and so many seconds in it; both may be differences."""
    if base is TimeBase.INSTRUCTIONS:
        if abs(like) >= 0.1:  # nobody counts eight zeros
            return "million instr.", instructions(seconds * 1e3)
        return "instr.", instructions(seconds * 1e9)
    # 999.6 ns would round to 1,000 ns
    found = (step for step in _STEPS if abs(like) >= step[0] * 0.9995)
    size, unit = next(found, _STEPS[-1])
    return unit, ("-" if seconds < 0 else "") + number(abs(seconds) / size)


def unit_bytes(unit: str) -> int | None:
    """How many bytes a unit of work is; None if it is an operation, an event, ..."""
    return {"byte": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}.get(unit)


def per_unit(seconds: float | None, unit: str, category: str, base: TimeBase) -> str:
    """Seconds per unit of work, as a rate for bytes and with one for I/O operations."""
    if seconds is None or seconds <= 0:
        return NOTHING
    if base is TimeBase.INSTRUCTIONS:
        return duration(seconds, base)
    if (held := unit_bytes(unit)) is not None:
        size, name = next((s for s in _RATES if held / seconds >= s[0]), _RATES[-1])
        return f"{number(held / seconds / size)} {name}"
    text = duration(seconds, base)
    if category in ("disk", "network", "app"):
        return f"{text} ({number(1 / seconds)}/s)"
    return text


def span(values: Sequence[str]) -> str:
    """Smallest to largest of texts that are sorted already; one if they are alike."""
    return values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
