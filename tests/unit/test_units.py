"""Units stand in the heads of tables: of every table of every report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sample_results import full_run
from test_fleet import document, host, measured, some
from test_report_exits import kvm_result
from test_report_neighbours import crowd, neighbours
from test_report_scenarios import gathered, migration, scenario, snapshot
from test_timeline import months

from vbench import report
from vbench.model import TimeBase
from vbench.report import chapters, units
from vbench.report.document import Block, Cell, Document, Fold, Table
from vbench.report.gather import gather
from vbench.results import loading
from vbench.results.formatting import TIMES, instructions

SHIPPED = Path(__file__).parents[2] / "reports" / "development-machine"
LIFE = (scenario("snapshot", snapshot()), scenario("migration", migration(0.2), migration(0.4)))
# What these columns hold is text, in which each figure is another quantity.
TEXT = {
    "Evidence [interval]", "Verdict", "Why not", "What to do", "Meaning", "Result", "Flags",
    "Why", "Value", "Observed", "Most have", "Type, as stated", "To install", "Measured as",
    "Settings unlike its class's", "Changed with it", "Source", "The introduction says",
    "Other than in the run before", "First run", "Run", "Line", "What",
}  # fmt: skip
IN_CELL = re.compile(r"\d ?(ps|ns|µs|ms|s|h|instr\.|cycles|ticks|[KMG]?i?B|[KMG]iB/s|%|/s)(?!\w)")
# what stands in place of a figure that is undecided, because the boots differ
SENTENCE = re.compile(r"\bundecided\b\W*(natively|in the guest) .*? between boots")
IN_HEAD = re.compile(
    r"\b(ns|µs|ms|s|instr\.|cycles|ticks|[KMG]iB|[KMG]iB/s|extra instructions|p)(?!\w)|%|per s\b|÷"
)
COUNTS = re.compile(
    r"boots|packages|machines|deviate|guests\b|rounds|runs|workloads|exits? per|times|\bper\b"
    r"|cpus\b|seen|functions",
    re.I,
)


def tables(blocks: Sequence[Block]) -> Iterator[Table]:
    for block in blocks:
        if isinstance(block, Table):
            yield block
        elif isinstance(block, Fold):
            yield from tables(block.blocks)


def shown(text: str) -> str:
    """Without names, emphasis and marks."""
    return re.sub(r"(`+).*?\1|<[^>]*>|\*\*|[†‡]|\(\?\)", " ", text)


def is_figure(text: str) -> bool:
    """Numbers and what joins them, and no word; a ratio has its own sign."""
    return bool(re.fullmatch(r"[-+\d.,\s→/()\[\]]*\d[-+\d.,\s→/()\[\]]*", shown(text).replace(
        " to ", " "
    )))  # fmt: skip


def faults(document: Document) -> Iterator[str]:
    for table in tables([*document.first, *(b for s in document.sections for b in s.blocks)]):
        counted = "per" in table.headings  # the row says per what
        for row in table.cells():
            for heading, cell in zip(table.headings, row, strict=True):
                if heading in TEXT or cell is row[0] or "fact" in table.headings[0].lower():
                    continue
                where = f"{heading} of {row[0].text}: {cell.text}"
                if IN_CELL.search(SENTENCE.sub("", shown(cell.text))):
                    yield f"a unit in a cell: {where}"
                head = f"{shown(heading)} {shown(row[0].text)}"
                named = IN_HEAD.search(head) or COUNTS.search(f"{head} {table.headings[0]}")
                if is_figure(cell.text) and not named and not counted:
                    yield f"no unit in the head: {where}"


def of(*results: object) -> Document:
    return chapters.document(gather(results))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "made",
    [
        lambda: of(*loading.load_all([SHIPPED])),
        lambda: of(*full_run()),
        lambda: of(kvm_result()),
        lambda: of(gathered(crowd((1, 10, 20), (2, 12, 45), (3, 30, 66)))),
        lambda: of(gathered(neighbours(), *LIFE)),
        lambda: document(some(12, measured(host(99, governor="powersave"), overhead=3.0))),
        lambda: report.timeline(months(), by_class=False).document,
    ],
    ids=["shipped", "full", "kvm", "consolidation", "isolation", "fleet", "history"],
)
def test_every_table_has_its_units_in_its_head(made: object) -> None:
    document = made()  # type: ignore[operator]
    assert sorted(set(faults(document))) == []


def test_a_unit_in_a_cell_and_a_figure_without_one_are_found() -> None:
    table = Table(["Workload", "Native"], [["a", "3.1 ms"], ["b", "22.0 → 70.6"], ["c", "1.1"]])
    found = list(faults(Document("", [table])))
    assert [text.split(":")[0] for text in found] == [
        "a unit in a cell", "no unit in the head", "no unit in the head",
    ]  # fmt: skip
    good = Table(["Workload", "Native, ms", "Ratio"], [["a", "3.1", f"{TIMES}2.1"]])
    assert list(faults(Document("", [good]))) == []


def test_a_column_has_the_unit_of_its_typical_value() -> None:
    rows = [
        ["a", units.Figures([2e-6], units.SECONDS), "—"],
        ["b", units.Figures([3e-6, 5e-3], units.SECONDS), "—"],
        ["c", units.Figures([0.0], units.SECONDS), "—"],
    ]
    table = units.table(["What", "Native", "Guest"], rows)
    assert list(table.headings) == ["What", "Native, µs"]  # nothing stands in the last column
    assert [row[1] for row in table.rows] == [
        Cell("2.00", 2e-6), Cell("3.00 → 5,000", 3e-6), Cell("0", 0.0),
    ]  # fmt: skip


def test_columns_that_are_alike_have_one_unit() -> None:
    rows = [["a", units.Figures([2e-6], units.SECONDS), units.Figures([3e-9], units.SECONDS)]]
    one = units.table(["What", "Native", "Guest"], rows, alike=True)
    assert list(one.headings) == ["What", "Native, ns", "Guest, ns"]
    apart = units.table(["What", "Native", "Guest"], rows)
    assert list(apart.headings) == ["What", "Native, µs", "Guest, ns"]


def test_instructions_are_told_in_three_digits_and_never_in_parts() -> None:
    texts = [instructions(n) for n in (0.2, 4.32, 80.0, 338.4, 1306.0, 134_987.2, -0.3, -946.6)]
    assert texts == ["0", "4", "80", "338", "1,310", "135,000", "0", "-947"]
    exact = units.clock(TimeBase.INSTRUCTIONS, exact=True)
    assert exact.text(134_987.2) == "134,987"
