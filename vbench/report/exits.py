"""VM exits: what one costs, how many an operation causes, how much of the overhead they explain."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from vbench import exits
from vbench.model import Item, Statistic, Status, Technique
from vbench.report import cells, published
from vbench.report.gather import Panel
from vbench.text import NOTHING, TIMES, code, duration, number, plain, small, table

# A reason that makes up less of an operation is left out of cells (it stays in the JSON).
_LEAST_PER_UNIT = 0.005
_TICKS = "tsc_ticks"
# Below this ratio to native there is no overhead to explain: a share of it would be noise.
WORTH_EXPLAINING = 1.05


@dataclass(frozen=True)
class Cost:
    """One event in a guest, in seconds: `net` is the median without what the control costs.

    `ticks` is `net` in ticks of the time stamp counter; None where that was not read.
    """

    item: Item
    net: float
    ticks: float | None


def median(item: Item, name: str, *, native: bool = False) -> float | None:
    """Median over rounds of a quantile, in seconds."""
    both = [pair.quantiles[name] for pair in item.pairs if name in pair.quantiles]
    values = [value for value in (pair[0 if native else 1] for pair in both) if value is not None]
    return statistics.median(values) if values else None


def cost(panel: Panel, variant: str, workload: str) -> Cost | None:
    """What a trigger costs in this variant; None where it or its control was not measured."""
    items = {item.workload: item for item in panel.of(variant, "exit")}
    item = items.get(workload)
    if item is None:
        return None
    trigger = exits.TRIGGERS[workload]
    if trigger.control is None:
        without = median(item, "p50", native=True)
    else:
        control = items.get(trigger.control)
        without = None if control is None else median(control, "p50")
    with_it = median(item, "p50")
    if with_it is None or without is None:
        return None
    net = with_it - without
    rate = _tick_rate(item)
    return Cost(item, net, None if rate is None else net * rate)


def _tick_rate(item: Item) -> float | None:
    """Ticks of the time stamp counter per second, over the item's own loops."""
    rates = [p.counters[_TICKS] / p.guest_s for p in item.pairs if _TICKS in p.counters]
    return statistics.median(rates) if rates else None


def costs(panel: Panel) -> list[str]:
    """What one event costs, as a distribution, for each trigger and variant."""
    rows = []
    for workload, trigger in exits.TRIGGERS.items():
        for variant in panel.variants():
            found = [i for i in panel.of(variant, "exit") if i.workload == workload]
            if not found:
                continue
            item, net = found[0], cost(panel, variant, workload)
            natively = median(item, "p50", native=True)
            rows.append(
                [
                    plain(trigger.title),
                    code(variant),
                    _net(panel, net),
                    *([_ticks(net)] if panel.wall else []),
                    *(_exact(panel, median(item, q)) for q in ("min", "p50", "p99", "mean")),
                    NOTHING if natively is None else _exact(panel, natively),
                ]
            )
    if not rows:
        return []
    headings = ["Event", "Variant", "Cost", *(["TSC ticks"] if panel.wall else [])]
    text = [
        "**What one event costs**",
        table([*headings, "min", "median", "p99", "mean", "native median"], rows),
        "Cost is the median less the median of the same without the event (the same system call "
        "on `/dev/zero`, an MSR that is the guest's own, nothing but the clock); for timer "
        "interrupt, wake-up and page fault, less native's median, because nothing else is like "
        "them. The MSR is IA32_PAT (0x277), the ports are 0x21 and 0x80.",
    ]
    if panel.wall:
        text.append(
            "Ticks are those of the time stamp counter, whose rate is taken over the whole loop; "
            "it is constant, so they are cycles at the nominal frequency, not at the actual one."
        )
    else:
        text.append("In instructions that guest and hypervisor execute together.")
    return [*text, *published.beside(panel.wall, _cpuid(panel), _nested(panel))]


def _nested(panel: Panel) -> bool:
    return panel.host.facts.get("virtualization", "unknown") not in ("none", "")


def _cpuid(panel: Panel) -> dict[str, float]:
    """Ticks (wall) or instructions that CPUID costs, by variant of hardware virtualization."""
    out = {}
    for variant in panel.variants():
        found = cost(panel, variant, exits.CHEAPEST)
        if found is not None and found.item.exits:
            value = found.ticks if panel.wall else found.net * 1e9
            if value is not None:
                out[variant] = value
    return out


def _exact(panel: Panel, seconds: float | None) -> str:
    """On the instruction base to the instruction: the counts repeat exactly."""
    if seconds is None:
        return NOTHING
    if panel.wall:
        sign = "-" if seconds < 0 else ""
        return sign + duration(abs(seconds), panel.host.time_base)
    return f"{seconds * 1e9:,.0f}"


def _net(panel: Panel, found: Cost | None) -> str:
    if found is None:
        return NOTHING
    return _exact(panel, found.net) if found.net > 0 else "not above its control"


def _ticks(found: Cost | None) -> str:
    if found is None or found.ticks is None or found.net <= 0:
        return NOTHING
    return f"{found.ticks:,.0f}"


def per_operation(panel: Panel) -> list[str]:
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
        rows.append([f"{plain(workload)}<br>{small('per ' + plain(unit))}", *cell])
    return [
        "**Exits per unit of work**",
        table(["Workload", *map(code, variants)], rows),
        "Counted by the kernel's tracepoints in rounds of their own, which are not timed; what "
        "starting the program causes is taken off. Names are the processor's; port I/O and MMIO "
        "are told apart by who answers. For Xen: entries of the domain by hypercall or trap, from "
        "xentrace; what a multicall holds and events that came are beside it, not in the sum. A "
        "system call's way through Xen is not traced, its return is the hypercall iret.",
    ]


def total(item: Item) -> float:
    """All exits per unit of work."""
    return sum(n for name, n in item.exits.items() if not name.startswith(exits.INSIDE))


def _exits_cell(item: Item) -> str:
    parts = sorted(exits.split(dict(item.exits)).items(), key=lambda part: (-part[1], part[0]))
    told = ", ".join(f"{plain(n)} {number(v)}" for n, v in parts if v >= _LEAST_PER_UNIT)
    return f"{number(total(item)) if total(item) >= _LEAST_PER_UNIT else '0'}<br>{small(told)}"


@dataclass(frozen=True)
class Attribution:
    """Where an item's overhead goes, in seconds per unit of work (exit reasons by their price)."""

    item: Item
    parts: tuple[tuple[str, float], ...]  # largest first
    measured: float  # guest less native

    @property
    def predicted(self) -> float:
        return sum(value for _, value in self.parts)

    @property
    def rest(self) -> float:
        """What the exits do not explain; negative where they explain too much."""
        return self.measured - self.predicted


def attributions(panel: Panel, *categories: str) -> list[Attribution]:
    """For each item with counted exits and a native partner, in these categories or all."""
    out = []
    for item in panel.items:
        if item.status is not Status.OK or item.statistic is not Statistic.RATIO or not item.exits:
            continue
        if item.technique is not Technique.HARDWARE:
            continue  # no price was measured for each of Xen's entries
        if categories and item.category not in categories:
            continue
        guest, native = cells.guest_s(item), cells.native_s(item)
        cheapest = cost(panel, item.variant, exits.CHEAPEST)
        if guest is None or native is None or cheapest is None or cells.no_ratio(item):
            continue
        parts = []
        for reason, count in exits.split(dict(item.exits)).items():
            priced = cost(panel, item.variant, exits.PRICES.get(reason, exits.CHEAPEST))
            price = cheapest.net if priced is None else max(priced.net, 0.0)
            parts.append((reason, count * price))
        parts.sort(key=lambda part: (-part[1], part[0]))
        out.append(Attribution(item, tuple(parts), guest - native))
    return out


def worth(panel: Panel, one: Attribution) -> bool:
    """Whether there is an overhead to explain."""
    value = panel.overheads.get(one.item.name)
    return value is not None and value.ratio > WORTH_EXPLAINING


def attribution(panel: Panel) -> list[str]:
    """Exits times their cost, beside the overhead that was measured."""
    found = attributions(panel)
    if not found:
        return []
    rows = [
        [
            f"{plain(one.item.workload)}<br>{small('per ' + plain(one.item.unit))}",
            code(one.item.variant),
            _signed(panel, one.measured),
            _signed(panel, one.predicted),
            _signed(panel, one.rest),
            f"{one.predicted / one.measured:.0%}" if worth(panel, one) else NOTHING,
            "; ".join(f"{plain(n)} {_signed(panel, v)}" for n, v in one.parts[:3] if v > 0)
            or NOTHING,
        ]
        for one in found
    ]
    headings = ["Workload", "Variant", "Measured overhead", f"Exits {TIMES} cost", "Rest"]
    body = table([*headings, "Explained", "Largest parts"], rows)
    note = (
        "Measured is guest less native; a share is given where that is more than "
        f"{WORTH_EXPLAINING - 1:.0%} of native. A reason that none of the events above makes by "
        "itself is priced as the cheapest exit, CPUID; so the rest holds what dearer exits cost "
        "beyond that, work of QEMU's device models and other threads, waiting, caches and TLB. "
        "A negative rest: the exits explain more than there is, as their prices were taken one "
        "by one."
    )
    return ["**Overhead explained by exits**", body, note]


def _signed(panel: Panel, seconds: float) -> str:
    sign = "-" if seconds < 0 else "+"
    return f"{sign}{duration(abs(seconds), panel.host.time_base)}" if seconds else "0"


def section(panel: Panel, plot: Sequence[str]) -> list[str]:
    """All of it, folded detail last; nothing where no exit was measured or counted."""
    told = [*costs(panel), *per_operation(panel), *attribution(panel)]
    return [*told, *plot] if told else []
