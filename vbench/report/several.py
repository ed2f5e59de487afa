"""What more vCPUs bring or cost: a guest with many of them beside the same guest with few. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vbench.model import Item, Status
from vbench.report import cells
from vbench.report.document import Block, Cell, Table
from vbench.report.gather import Panel
from vbench.results import stats
from vbench.results.formatting import NOTHING, TIMES, code, interval, plain, times
from vbench.results.stats import Overhead

CATEGORY = "smp"
_HEADINGS = (
    "Workload",
    "Variant",
    "vCPUs",
    f"{TIMES} as long natively",
    f"{TIMES} as long in the guest",
)
_INTRODUCTION = (
    "**More vCPUs.** How many times as long a unit of work takes as with the fewest vCPUs that "
    "were measured: in the guest, and natively with as many threads on the same CPUs. A loop that "
    "all share takes less, half as long at best with twice as many. A lock takes longer. "
    "With more vCPUs than CPUs (`overcommitted`) a vCPU that holds a lock, or has to answer, may "
    "have no CPU."
)


def blocks(panel: Panel) -> list[Block]:
    """A table, where variants were measured that differ in their vCPUs only."""
    found: dict[tuple[str, str], dict[int, Item]] = {}
    for item in panel.items:
        if item.category == CATEGORY and item.status is Status.OK:
            count, rest = _vcpus(item.variant)
            found.setdefault((item.workload, rest), {})[count] = item
    rows = [
        row
        for (workload, variant), items in sorted(found.items())
        for row in _rows(workload, variant, items)
    ]
    return [_INTRODUCTION, Table(_HEADINGS, rows)] if rows else []


def _vcpus(variant: str) -> tuple[int, str]:
    """How many a variant asks for, and what else it says."""
    asked = re.search(r",vcpus=(\d+)", variant)
    return (int(asked[1]) if asked else 1), re.sub(r",vcpus=\d+", "", variant)


def _rows(workload: str, variant: str, items: dict[int, Item]) -> list[Sequence[Cell | str]]:
    least = items[min(items)]
    rows: list[Sequence[Cell | str]] = []
    for count, item in sorted(items.items()):
        if item is least:
            continue
        counted = stats.is_counted(item)
        sides = [
            stats.quotient(logs(item.pairs), logs(least.pairs), counted)
            for logs in (stats.log_native, stats.log_guest)
        ]
        shared = ", overcommitted" if "overcommitted" in cells.conditions(item) else ""
        rows.append(
            [
                plain(workload),
                code(variant),
                Cell(f"{count}{shared}, beside {min(items)}", count),
                *(_cell(side) for side in sides),
            ]
        )
    return rows


def _cell(value: Overhead | None) -> Cell | str:
    if value is None:
        return NOTHING
    return Cell(f"{times(value.ratio)} {interval(value)}", value.ratio)
