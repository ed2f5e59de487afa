"""Machines that were measured without a reference: values as they are, and no ratio. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from vbench.model import Item
from vbench.records import NativeReference
from vbench.report import cells, exits, units
from vbench.report.document import Block, Cell, Table
from vbench.report.gather import Gathered, Panel
from vbench.report.reference import OPERATIONS, operation
from vbench.results.formatting import NOTHING, code, duration, plain

NO_REFERENCE = "no reference"
_WHY = (
    "A value of one machine says what it takes there. Beside the same of another machine it says "
    "which is faster. What the hypervisor costs it does not say, but for the exits: such an event "
    "less the same loop without it is the hypervisor's work. For ratios name a machine without the "
    "hypervisor: option `reference=ssh://USER@HOST`."
)


def alone(panel: Panel, variant: str) -> bool:
    """Whether a variant was measured, and its guest had no reference to be compared with. That a
    workload has no native half, as a boot, is another thing."""
    launch = panel.launch(variant)
    can = launch.capabilities if launch is not None else None
    if can is None or can.native is not NativeReference.NONE:
        return False
    return any(item.pairs for item in panel.items if item.variant == variant)


def machines(panels: Sequence[Panel]) -> list[tuple[Panel, str]]:
    return [(panel, v) for panel in panels for v in panel.variants() if alone(panel, v)]


def answer(gathered: Gathered) -> str:
    """Opens the report where such machines are all that it has; else empty."""
    found = machines(gathered.panels)
    return " ".join(_told(panel, variant) for panel, variant in found)


def _told(panel: Panel, variant: str) -> str:
    launch = panel.launch(variant)
    runs = f", seen to run under {plain(launch.attestation.summary)}," if launch else ""
    base = panel.host.time_base
    texts = [
        f"{title[0].lower()}{title[1:]} {duration(cells.guest_s(item), base)}"
        for title, item in _operations(panel, variant)
    ]
    values = f" Its values: {', '.join(texts)}." if texts else ""
    of_exits = exits.sentence(panel)
    events = f" {of_exits}" if of_exits != exits.NO_EXIT else ""
    return (
        f"**{code(variant)}{runs} was measured without a reference: its values are absolute, and "
        f"there is no ratio.**{values}{events}"
    )


def blocks(gathered: Gathered) -> list[Block]:
    """A row for each such machine: the operations that hypervisors are compared by, and below what
    an exit costs."""
    found = machines(gathered.panels)
    if not found:
        return []
    rows = [
        [code(v), *(_operation(p, v, workload) for _, workload in OPERATIONS)] for p, v in found
    ]
    operations = units.table(["Absolute values", *(title for title, _ in OPERATIONS)], rows)
    events = dict.fromkeys(
        cause.event for p, v in found for _, cause in exits.causing(p, v) if cause.reasons
    )
    costs = [[code(v), *(_event(p, v, event) for event in events)] for p, v in found]
    tables = [operations, units.table(["Cost of one exit", *map(plain, events)], costs)]
    return [*(each for each in tables if len(each.headings) > 1), f"{_WHY} {_SPREAD}"]


_SPREAD = "In brackets is the range over rounds; of an exit, over boots."


def lines(gathered: Gathered) -> list[str]:
    """The same for a terminal: a line for each figure."""
    out = []
    for table in (each for each in blocks(gathered) if isinstance(each, Table)):
        for name, *row in table.cells():
            out.append(f"{table.headings[0]}, {name.text}")
            known = zip(table.headings[1:], row, strict=True)
            out += [f"  {heading}: {cell.text}" for heading, cell in known if cell.text != NOTHING]
    return [*out, _WHY] if out else []


def _operations(panel: Panel, variant: str) -> list[tuple[str, Item]]:
    found = ((title, operation(panel, variant, workload)) for title, workload in OPERATIONS)
    return [(title, item) for title, item in found if item is not None]


def _operation(panel: Panel, variant: str, workload: str) -> units.Figures | Cell | str:
    item = operation(panel, variant, workload)
    if item is None:
        return NOTHING
    seconds = sorted(pair.guest_s for pair in item.pairs)
    of = [cells.guest_s(item), seconds[0], seconds[-1]]
    scale = units.clock(panel.host.time_base)
    return units.Figures(of, scale, units.spread, series=panel.series(item))


def _event(panel: Panel, variant: str, event: str) -> units.Figures | Cell | str:
    for item, cause in exits.causing(panel, variant):
        found = exits.cost(panel, variant, item.workload) if cause.event == event else None
        if found is not None and not (found.drowned or found.unlike):
            scale = units.clock(panel.host.time_base)
            return units.Figures([found.net, found.low, found.high], scale, units.spread,
                                 series=panel.series(item))  # fmt: skip
    return NOTHING
