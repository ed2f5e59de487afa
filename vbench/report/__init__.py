"""Results as a report for people and as data for programs. Pure: the same results give the same
bytes.

chapters.py makes a document of the results, which markdown.py and html.py render; data.py and
exports.py give the figures. Knows no backend by name: columns are techniques, the rest is data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vbench.errors import StoreError
from vbench.model import Result
from vbench.report import chapters, data, exports, fleet_page, markdown, terminal, timeline_page
from vbench.report.document import Document
from vbench.report.fleet import Filed, Fleet
from vbench.report.fleet_names import Names
from vbench.report.gather import Gathered, gather
from vbench.report.timeline import Timeline
from vbench.results.journal import write_atomic
from vbench.results.unmeasured import Unmeasured


@dataclass(frozen=True)
class Report:
    """The report's Markdown, its plots as SVG files by name, and every command line."""

    markdown: str
    plots: Mapping[str, bytes] = field(default_factory=dict)
    commands: str = ""


def _gathered(results: Sequence[Result]) -> Gathered:
    if not results:
        raise StoreError("there is no result to report", remedy="measure something: vbench run")
    return gather(results)


def render(
    results: Sequence[Result], *, plots_dir: str | None, commands_file: str | None = None
) -> Report:
    """The report of `results`, in any order, as Markdown. `plots_dir` is the folder of the plots as
    links name it, relative to the report; None leaves them out. `commands_file` is the file
    of the command lines, likewise. Raises StoreError without results."""
    made = chapters.document(_gathered(results))
    plots = {} if plots_dir is None else {p.name: p.svg.encode() for p in made.pictures()}
    body = markdown.render(made, plots=plots_dir, commands=commands_file)
    return Report(body, plots, made.commands)


def html_page(results: Sequence[Result]) -> str:
    """The same as one HTML file. Raises StoreError without results."""
    from vbench.report import html  # noqa: PLC0415 - brings a Markdown parser

    gathered = _gathered(results)
    return html.render(chapters.document(gathered), data.samples(gathered))


def fleet(files: Iterable[Filed], failures: Iterable[Unmeasured] = ()) -> Fleet:
    """Many machines by class, for `fleet_document`. `files` are read one by one, then `failures`.
    Raises StoreError without any result by the wall clock, and without a failure."""
    many = Fleet(files, failures)
    if not many.classes and not many.unmeasured:
        raise StoreError(
            "there is no result by the wall clock, by which alone machines are compared",
            remedy="vbench report without --fleet",
        )
    return many


def fleet_document(many: Fleet, page: Callable[[Path], str] = lambda _: "") -> Document:
    """Their report, for `markdown` and `html` to render. `page` gives the link to the report of the
    results in a folder; empty: there is none."""
    return fleet_page.document(many, Names(page))


@dataclass(frozen=True)
class History:
    """What `timeline` found: a document, its points as CSV, and files for Apache Otava by name."""

    document: Document
    csv: str
    otava: Mapping[str, str]


def timeline(results: Iterable[Result], *, by_class: bool) -> History:
    """What changed over the runs of months. Raises StoreError without anything measured."""
    line = Timeline(results, by_class=by_class)
    if not line.lines:
        raise StoreError("nothing was measured in these runs", remedy="name folders of other runs")
    return History(
        timeline_page.document(line), timeline_page.table(line), timeline_page.otava(line)
    )


def _json(gathered: Gathered) -> str:
    return json.dumps(data.report(gathered), indent=2, allow_nan=False) + "\n"


def summary(results: Sequence[Result]) -> str:
    """The answer and the table of the techniques, for a terminal. Raises StoreError without
    results."""
    return terminal.screen(_gathered(results))


FORMATS: Mapping[str, Callable[[Gathered], str]] = {
    "json": _json,
    "bencher": exports.bencher,
    "openmetrics": exports.openmetrics,
    "csv": exports.table,
}


def text(results: Sequence[Result], form: str) -> str:
    """The figures in one of FORMATS. Raises StoreError without results."""
    return FORMATS[form](_gathered(results))


def write(results: Sequence[Result], path: Path) -> None:
    """Write the report to `path`, its plots beside it in `<name>-plots`, and the command lines in
    `<name>-commands.txt`. Raises StoreError."""
    folder = path.with_name(f"{path.stem}-plots")
    commands = path.with_name(f"{path.stem}-commands.txt")
    report = render(results, plots_dir=folder.name, commands_file=commands.name)
    if report.plots:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{folder} cannot be made: {error.strerror}", remedy="write elsewhere with -o"
            ) from error
    for name, svg in report.plots.items():
        write_atomic(folder / name, svg)
    write_atomic(commands, report.commands)
    write_atomic(path, report.markdown)
