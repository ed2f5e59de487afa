"""How many VM exits an operation causes, and why. What one costs: exits.py."""

from __future__ import annotations

import statistics

from vbench.model import Item
from vbench.report import cells
from vbench.report.document import Block, Table
from vbench.report.gather import Panel
from vbench.results import exit_reasons
from vbench.results.formatting import NOTHING, code, number, plain, small

# A reason that makes up less of an operation is left out of cells (it stays in the JSON).
LEAST_PER_UNIT = 0.005
_EXITS = "exits"  # QMP query-stats
# Boots whose counts are further apart, as a share of the largest, do not agree: the mean is of two
# different things then.
AGREE = 0.1


def per_operation(panel: Panel) -> list[Block]:
    """Exits per unit of work, by reason, variants side by side."""
    counted = [item for item in panel.items if item.exits and item.category != "exit"]
    if not counted:
        return []
    variants = [v for v in panel.variants() if any(i.variant == v for i in counted)]
    rows = []
    for workload in dict.fromkeys(item.workload for item in counted):
        of = {item.variant: item for item in counted if item.workload == workload}
        unit = next(iter(of.values())).unit
        cell = [_exits_cell(of[v]) if v in of else NOTHING for v in variants]
        rows.append([f"{plain(workload)}<br>{small('exits per ' + plain(unit))}", *cell])
    return [
        "**Exits per unit of work**",
        Table(["Workload", *map(code, variants)], rows),
        "The first figure is the hypervisor's own count over all timed rounds, where it keeps one "
        "(KVM does); *boots differ*: the least and the most of any boot, where they are more than "
        f"{100 * AGREE:.0f} % apart, so that the mean stands for none. Reasons are counted by the "
        "kernel's tracepoints in a round of its own, which is not timed; where that round had "
        "another number of exits, its sum stands before them. "
        "What starting the program causes is taken off. Names are the processor's (NPF: nested "
        "page fault; INTR: interrupt of the host; VINTR: the guest is ready for an interrupt; "
        "EXCP_NM: floating-point unit used again); port I/O and MMIO are told apart by who "
        "answers. For Xen, from xentrace: of a PV domain entries by hypercall or trap, of a PVH "
        "domain exits by the processor's reason; also, not in the sum, what a multicall holds and "
        "events that came. A PV domain's system call is not traced on its way through Xen, its "
        "return is the hypercall iret.",
    ]


def by_reason(item: Item) -> float:
    """All exits per unit of work, counted once, by reason. Below 0 is what starting the program
    took off too much."""
    return sum(
        max(n, 0.0) for name, n in item.exits.items() if not name.startswith(exit_reasons.INSIDE)
    )


def by_boot(item: Item) -> list[float]:
    """Exits per unit of work of each boot, by the hypervisor's own counter; where it has none, the
    one count by reason."""
    if cells.counter(item, _EXITS) is None:
        return [by_reason(item)]
    boots: dict[int, list[float]] = {}
    for pair in item.pairs:
        if _EXITS in pair.counters:
            boots.setdefault(pair.boot, []).append(pair.counters[_EXITS])
    return [statistics.mean(found) for _, found in sorted(boots.items())]


def per_unit(item: Item) -> str:
    """How many exits a unit of work causes, everywhere in the report: the mean over boots."""
    mean = statistics.mean(by_boot(item))
    return number(mean) if mean >= LEAST_PER_UNIT else "0"


def disagreement(item: Item) -> str:
    """The least and the most of any boot, where boots do not agree; else empty."""
    low, high = min(by_boot(item)), max(by_boot(item))
    if high - low <= max(AGREE * high, LEAST_PER_UNIT):
        return ""
    return f"boots differ: {number(low)} to {number(high)}"


def _exits_cell(item: Item) -> str:
    parts = sorted(
        exit_reasons.split(dict(item.exits)).items(), key=lambda part: (-part[1], part[0])
    )
    shown = [(name, f"{plain(name)} {number(n)}") for name, n in parts if n >= LEAST_PER_UNIT]
    inside = [text for name, text in shown if name.startswith(exit_reasons.INSIDE)]
    texts = ", ".join(text for name, text in shown if not name.startswith(exit_reasons.INSIDE))
    texts += f"; also: {', '.join(inside)}" if inside else ""
    if texts and number(by_reason(item)) != per_unit(item):
        texts = f"of {number(by_reason(item))} by reason: {texts}"
    lines = filter(None, (disagreement(item), texts))
    return "<br>".join([per_unit(item), *map(small, lines)])
