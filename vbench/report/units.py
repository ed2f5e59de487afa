"""Units stand in a table's head, once, and never in its cells. Pure.

A cell holds its figures as numbers. `table` chooses one unit for each column, puts it into the
heading, and writes the figures in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vbench.model import Item, TimeBase
from vbench.report import cells
from vbench.report.document import Cell, Table
from vbench.report.gather import Panel
from vbench.results.formatting import NOTHING, instructions, number, small, whole


@dataclass(frozen=True)
class Scale:
    """Units of one quantity, the largest first, each with its size; and how a figure is written."""

    units: tuple[tuple[str, float], ...]
    text: Callable[[float], str] = number

    def choose(self, values: Sequence[float]) -> tuple[str, float]:
        """The largest unit of which the typical value (geometric mean) is at least one."""
        logs = [math.log(abs(value)) for value in values if value]
        typical = math.exp(math.fsum(logs) / len(logs)) if logs else 0.0
        return next((u for u in self.units if typical >= u[1] * 0.9995), self.units[-1])


SECONDS = Scale((("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)))
RATE = Scale((("GiB/s", 2.0**30), ("MiB/s", 2.0**20), ("KiB/s", 2.0**10), ("B/s", 1.0)))
# On the instruction base a second is 10⁹ instructions: in three digits, or to the instruction.
INSTRUCTIONS = Scale((("instr.", 1e-9),), instructions)
# What is no exact count, and long.
MILLIONS = Scale((("million instr.", 1e-3), ("instr.", 1e-9)))
EXACT = Scale((("instr.", 1e-9),), whole)


def clock(base: TimeBase, *, exact: bool = False) -> Scale:
    """The scale of what a host's clock told, in seconds."""
    if base is TimeBase.WALL:
        return SECONDS
    return EXACT if exact else INSTRUCTIONS


@dataclass(frozen=True)
class Figures:
    """A cell's figures, in the unit of size 1 of their scale. `show` makes the cell of their texts;
    the cell sorts by `value`."""

    values: Sequence[float | None]
    scale: Scale
    show: Callable[[Sequence[str]], str] = " → ".join
    value: float | None = None
    series: str = ""


def compared(panel: Panel, item: Item) -> Figures:
    """Overhead with its interval, and native and guest as they are."""
    value = panel.overheads.get(item.name)
    ratio = cells.ratio(value) if value is not None else "no ratio"
    return Figures(
        [s for s in (cells.native_s(item), cells.guest_s(item)) if s is not None],
        clock(panel.host.time_base),
        lambda texts: f"{ratio}<br>{small(' → '.join(texts))}",
        None if value is None else value.ratio,
        panel.series(item),
    )


def spread(texts: Sequence[str]) -> str:
    """`2.1 (1.9 to 2.5)` of a middle, a least and a most; the middle alone where they are alike."""
    middle, low, high = texts
    return middle if low == high else f"{middle} ({low} to {high})"


def table(
    headings: Sequence[str], rows: Sequence[Sequence[Cell | Figures | str]], *, alike: bool = False
) -> Table:
    """Columns of Figures get their unit behind the heading: one unit for each column, or one for
    all columns if they are `alike`. Columns without a cell are left out."""
    filled = [
        i for i in range(len(headings)) if not rows or i == 0 or any(map(_says, _column(rows, i)))
    ]
    columns = {i: [c for c in _column(rows, i) if isinstance(c, Figures)] for i in filled}
    everything = [cell for of in columns.values() for cell in of]
    chosen = {i: _unit(everything if alike else of) for i, of in columns.items() if of}
    shown = [f"{headings[i]}, {chosen[i][0]}" if i in chosen else headings[i] for i in filled]
    return Table(shown, [[_cell(row[i], chosen.get(i)) for i in filled] for row in rows])


def _column(rows: Sequence[Sequence[Cell | Figures | str]], at: int) -> list[Cell | Figures | str]:
    return [row[at] for row in rows]


def _says(cell: Cell | Figures | str) -> bool:
    if isinstance(cell, Figures):
        return any(value is not None for value in cell.values)
    return (cell.text if isinstance(cell, Cell) else cell) not in (NOTHING, "")


def _unit(of: Sequence[Figures]) -> tuple[str, float]:
    return of[0].scale.choose([v for cell in of for v in cell.values if v is not None])


def _cell(cell: Cell | Figures | str, unit: tuple[str, float] | None) -> Cell | str:
    if not isinstance(cell, Figures):
        return cell
    if unit is None or not _says(cell):
        return NOTHING
    texts = [NOTHING if v is None else cell.scale.text(v / unit[1]) for v in cell.values]
    value = cell.value if cell.value is not None else next(v for v in cell.values if v is not None)
    return Cell(cell.show(texts), value, cell.series)
