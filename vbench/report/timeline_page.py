"""The history of series as a document, and as CSV. Pure."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable

from vbench.report import units
from vbench.report.document import Block, Cell, Document, Fold, Section, Table, link
from vbench.report.timeline import LEAST, LEVEL, Line, Point, Timeline, Turn
from vbench.results.formatting import NOTHING, code, plain, plural, ratio, small, times
from vbench.results.steps import MIN_SIDE

TITLE = "What changed over time"
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60  # runs that a line shows: the last ones
_SHOWN = 30  # changes that are not folded away


def document(timeline: Timeline) -> Document:
    """The whole report."""
    chapters = [
        Section("Changes of level", _turns(timeline)),
        Section("Every series", _lines(timeline)),
        Section("What changed on hosts and in versions", _conditions(timeline)),
        Section("How changes are found", [_METHOD]),
    ]
    chapters = [chapter for chapter in chapters if chapter.blocks]
    contents = " · ".join(link(chapter.title) for chapter in chapters)
    return Document(TITLE, [*_answer(timeline), f"**Read on:** {contents}"], chapters)


_METHOD = (
    "A series is a workload on a variant and a host. Its level changes where the runs before "
    "and after differ by more than chance: Student's t, corrected for all places that were tried "
    f"in all series (Bonferroni), below {LEVEL:g}. Both parts are looked at in turn. Runs that "
    "are like the run before them say less, which widens the test. A level must last for "
    f"{MIN_SIDE} runs, its median must have moved as well, and changes below {100 * LEAST:g} % "
    "(0.1 % where instructions are counted) are left out. *Changed with it* names what else was "
    "another in the first run of the new level. That is no proof of a cause."
)


def _answer(timeline: Timeline) -> list[Block]:
    runs = sorted(timeline.runs)
    hosts = len({line.name.host for line in timeline.lines})
    turns = sum(len(line.turns) for line in timeline.lines)
    moved = sum(bool(line.turns) for line in timeline.lines)
    short = sum(not _judged(line) for line in timeline.lines)
    text = (
        f"{plural(len(runs), 'run')} from {_day(runs[0])} to {_day(runs[-1])}, "
        f"{len(timeline.lines)} series on {plural(hosts, 'host')}."
    )
    if turns:
        text += f" **{plural(turns, 'change')} of level** in {moved} series."
    elif short < len(timeline.lines):
        text += " **No series changed its level.**"
    if short:
        text += (
            f" {short} series {'has' if short == 1 else 'have'} too few runs "
            f"to tell whether the level changed: fewer than {2 * MIN_SIDE}."
        )
    if timeline.once:
        text += (
            " Each run was on another host, so no series has a second point: `--by-class` takes "
            "machines of one class for one."
        )
    return [text]


def _judged(line: Line) -> bool:
    """Whether there are enough runs for two levels."""
    return len(line.points) >= 2 * MIN_SIDE


def _day(started: str) -> str:
    return started[:10]


def _series(line: Line) -> str:
    return f"{plain(line.name.workload)} {code(line.name.variant)}"


def _unit(line: Line) -> tuple[str, float]:
    """Rows are of unlike quantities, so each has its unit in its own head."""
    if line.name.what == "overhead":
        return "guest ÷ native", 1.0
    name, size = _scale(line).choose([point.value for point in line.points])
    return f"{name} per unit of work", size


def _scale(line: Line) -> units.Scale:
    return units.INSTRUCTIONS if line.name.what == "instructions" else units.SECONDS


def _value(line: Line, value: float) -> str:
    if line.name.what == "overhead":
        return times(value)
    return _scale(line).text(value / _unit(line)[1])


def _with_interval(line: Line, point: Point) -> str:
    if point.low is None or point.high is None:
        return _value(line, point.value)
    if line.name.what == "overhead":
        low, high = (ratio(bound, point.value) for bound in (point.low, point.high))
        return f"{times(point.value)} [{low}, {high}]"
    return f"{_value(line, point.value)} [{_value(line, point.low)}, {_value(line, point.high)}]"


def _turns(timeline: Timeline) -> list[Block]:
    found = [(line, turn) for line in timeline.lines for turn in line.turns]
    found.sort(key=lambda one: (one[0].points[one[1].at].started, one[0].name), reverse=True)
    rows = [_turn_row(line, turn) for line, turn in found]
    if not rows:
        return []
    headings = ["Series, unit", "First run", "Host", "Before", "After", "Change, %", "p"]
    headings.append("Changed with it")
    most = max(found, key=lambda one: abs(one[1].percent))
    blocks: list[Block] = [
        f"The largest change is {most[1].percent:+.1f} %, of {_series(most[0])}. The latest stands "
        "first. A positive change is slower, or more overhead.",
        Table(headings, rows[:_SHOWN]),
    ]
    if rows[_SHOWN:]:
        blocks.append(Fold(f"{len(rows) - _SHOWN} more", [Table(headings, rows[_SHOWN:])]))
    return blocks


def _turn_row(line: Line, turn: Turn) -> list[Cell | str]:
    return [
        _head(line),
        line.points[turn.at].started,
        code(line.name.host),
        _value(line, turn.before),
        _value(line, turn.after),
        Cell(f"{turn.percent:+.1f}", turn.percent),
        "< 0.0001" if turn.p < 0.0001 else f"{turn.p:.4f}",
        "<br>".join(turn.changed) or NOTHING,
    ]


def _head(line: Line) -> str:
    return f"{_series(line)}<br>{small(_unit(line)[0])}"


def _lines(timeline: Timeline) -> list[Block]:
    moved = sum(bool(line.turns) for line in timeline.lines)
    judged = sum(map(_judged, timeline.lines))
    blocks: list[Block] = [
        (f"{moved} of {judged} series with enough runs changed their level. " if judged else "")
        + "A line has a bar for each run, from the least to the most of its series; `│` "
        "stands where the level changed, `:` where a condition did."
    ]
    for host in dict.fromkeys(line.name.host for line in timeline.lines):
        rows = [_line_row(line) for line in timeline.lines if line.name.host == host]
        headings = ["Series, unit", "Category", "Of what", "Runs", "Line", "Level now", "Last run"]
        blocks += [f"**{plain(host)}**", Table(headings, rows)]
    return blocks


def _line_row(line: Line) -> list[Cell | str]:
    last = line.points[-1]
    return [
        _head(line),
        line.name.category,
        line.name.what,
        Cell(str(len(line.points)), len(line.points)),
        code(spark(line)),
        Cell(_value(line, line.level), line.level),
        f"{_with_interval(line, last)}<br>{small(_day(last.started))}",
    ]


def spark(line: Line) -> str:
    """The last runs as bars, with marks before the run at which something changed."""
    start = max(0, len(line.points) - _WIDTH)
    values = [point.value for point in line.points[start:]]
    low, high = min(values), max(values)
    turns = {turn.at for turn in line.turns}
    out = []
    for at, value in enumerate(values, start):
        if at in turns:
            out.append("│")
        elif at > start and line.points[at].conditions != line.points[at - 1].conditions:
            out.append(":")
        part = (value - low) / (high - low) if high > low else 0.5
        out.append(_BARS[min(len(_BARS) - 1, int(part * len(_BARS)))])
    return "".join(out)


def _conditions(timeline: Timeline) -> list[Block]:
    rows = [
        [started, code(host), "<br>".join(changes)]
        for (started, host), changes in timeline.changes().items()
    ]
    if not rows:
        return []
    text = f"{plural(len(rows), 'run')} had other conditions than the run before."
    return [text, Table(["Run", "Host", "Other than in the run before"], rows[::-1])]


# ---------------------------------------------------------------- for other programs

_COLUMNS = (
    "host", "category", "workload", "variant", "what", "started", "value", "low", "high", "change",
)  # fmt: skip


def table(timeline: Timeline) -> str:
    """CSV: a row for each run of each series; `change` in per cent at the first run of a level."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for line in timeline.lines:
        turns = {turn.at: turn.percent for turn in line.turns}
        for at, point in enumerate(line.points):
            figures = (point.value, point.low, point.high, turns.get(at))
            writer.writerow([*line.name, point.started, *figures])
    return out.getvalue()


def otava(timeline: Timeline) -> dict[str, str]:
    """Files for Apache Otava by name: a configuration, and a CSV file for each series."""
    files: dict[str, str] = {}
    tests: dict[str, object] = {}
    for line in timeline.lines:
        name = re.sub(r"[^\w.,=-]+", "-", "_".join(line.name)).strip("-")
        while f"{name}.csv" in files:  # of an earlier definition of the workload
            name += "+"
        files[f"{name}.csv"] = _otava_csv(line.points)
        tests[name] = {
            "type": "csv",
            "file": f"{name}.csv",
            "time_column": "time",
            "attributes": ["vbench", "kernel", "qemu"],
            "metrics": {line.name.what: {"column": "value", "direction": -1}},
            "csv_options": {"delimiter": ",", "quote_char": '"'},
        }
    # JSON is YAML, and needs no library
    files["otava.yaml"] = json.dumps({"tests": tests}, indent=2) + "\n"
    return files


def _otava_csv(points: Iterable[Point]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["time", "vbench", "kernel", "qemu", "value"])
    for point in points:
        of = point.conditions
        versions = [of.get(key, "") for key in ("version of vbench", "kernel", "version of qemu")]
        writer.writerow([point.started, *versions, point.value])
    return out.getvalue()
