"""What a VM exit costs. How many an operation causes: exit_counts.py."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from vbench.model import Item
from vbench.records import Cause
from vbench.report import published, units
from vbench.report.document import Block, Cell
from vbench.report.gather import Panel
from vbench.report.verdicts import nested
from vbench.results import exit_reasons
from vbench.results.formatting import NOTHING, code, duration, plain, whole

_TICKS = "tsc_ticks"
# Quantiles that are readings of the clock themselves, which a mean is not.
_STEPPED = ("min", "p50", "p99", "max")
_ROUNDING_S = 1e-13  # far below any clock's step
# Boots whose costs are so many times others' do not agree: their median stands for none.
UNLIKE_COSTS = 2.0
# An event causes a VM exit if at least so many exits per event were counted.
PER_EVENT = 0.9
NO_EXIT = "No event that was measured here is known to have caused an exit."


@dataclass(frozen=True)
class Cost:
    """One event in a guest, in seconds: `net` is the median over a boot's rounds without what the
    control costs there, and of boots the median.

    `low` and `high` are the least and the most of any boot. `rate` is that of the time stamp
    counter in ticks per second; None where it was not read. `step` is the clock's: see
    `clock_step`.
    """

    item: Item
    net: float
    low: float
    high: float
    boots: int
    rate: float | None
    step: float

    @property
    def drowned(self) -> bool:
        """Whether the subtraction leaves nothing that could be told from no cost: a boot without
        any, or less than a step of the clock."""
        return self.low <= 0 or self.net < self.step

    @property
    def unlike(self) -> bool:
        """Whether boots are so far apart that their median stands for none."""
        return self.high >= UNLIKE_COSTS * self.low

    @property
    def ticks(self) -> float | None:
        return None if self.rate is None else self.net * self.rate


def clock_step(panel: Panel, variant: str) -> float:
    """The step of the clock that timed a variant's events, in seconds: the smallest difference
    between two quantiles of one round; 0 where there are none that differ, and where instructions
    are counted: there one is the least that can be told apart."""
    if not panel.wall:
        return 0.0
    gaps = []
    for item in panel.of(variant, "exit"):
        for pair in item.pairs:
            ordered = sorted(pair.quantiles[n][1] for n in _STEPPED if n in pair.quantiles)
            gaps += [b - a for a, b in pairwise(ordered) if b - a > _ROUNDING_S]
    return min(gaps, default=0.0)


def median(item: Item, name: str, *, native: bool = False, boot: int | None = None) -> float | None:
    """Median over rounds (of one `boot`) of a quantile, in seconds."""
    both = [
        pair.quantiles[name]
        for pair in item.pairs
        if name in pair.quantiles and boot in (None, pair.boot)
    ]
    values = [value for value in (pair[0 if native else 1] for pair in both) if value is not None]
    return statistics.median(values) if values else None


def cost(panel: Panel, variant: str, workload: str) -> Cost | None:
    """What a trigger costs in this variant; None where it or its control was not measured."""
    items = {item.workload: item for item in panel.of(variant, "exit")}
    item = items.get(workload)
    if item is None or item.cause is None:
        return None
    control = item.cause.control
    other = items.get(control) if control else item
    if other is None:
        return None

    if control and _leaves(item, other):
        return None
    empty = items.get(item.cause.clock)

    def net(boot: int) -> float | None:
        with_it = median(item, "p50", boot=boot)
        without = median(other, "p50", native=not control, boot=boot)
        if with_it is None or without is None:
            return None
        clock = 0.0
        if not control and empty is not None:  # reading it may cost more in the guest
            here, there = median(empty, "p50", boot=boot), median(empty, "p50", native=True)
            clock = here - there if here is not None and there is not None else 0.0
        return with_it - without - clock

    boots = [each for boot in {p.boot for p in item.pairs} if (each := net(boot)) is not None]
    if not boots:
        return None
    value = statistics.median(boots)
    return Cost(
        item,
        value,
        min(boots),
        max(boots),
        len(boots),
        _tick_rate(item),
        clock_step(panel, variant),
    )


def left(item: Item) -> float:
    """How often an event of a trigger made the guest leave for the trigger's own reasons."""
    return _left(item, item)


def _left(item: Item, counted_in: Item) -> float:
    counted = exit_reasons.split(dict(counted_in.exits))
    reasons = item.cause.reasons if item.cause else ()
    return sum(counted.get(reason, 0.0) for reason in reasons)


def _stays(item: Item) -> bool:
    """Whether exits were counted, and the event caused none."""
    return bool(item.exits and item.cause and item.cause.reasons) and left(item) < PER_EVENT


def _leaves(item: Item, control: Item) -> bool:
    """Whether the control is none: it leaves for the event's own reasons, or where the event does
    not, and would take off a cost that is not the system call's."""
    own = exit_reasons.split(dict(item.exits))
    others = exit_reasons.split(dict(control.exits))
    more = (count - own.get(reason, 0.0) for reason, count in others.items())
    return _left(item, control) >= PER_EVENT or max(more, default=0.0) >= PER_EVENT


def causing(panel: Panel, variant: str) -> list[tuple[Item, Cause]]:
    """The items of a variant that cause an event, with that event."""
    return [(item, item.cause) for item in panel.of(variant, "exit") if item.cause]


def all_costs(panel: Panel) -> list[Cost]:
    """The cost of every event that was measured together with its control."""
    return [
        found
        for variant in panel.variants()
        for item, _ in causing(panel, variant)
        if (found := cost(panel, variant, item.workload)) is not None
    ]


def exit_costs(panel: Panel, variant: str) -> dict[str, float]:
    """What one exit costs by reason, in seconds, for all that could be priced.

    Only an event that did cause an exit gives its reason a cost. Where other exits come with it
    (to reprogram a timer, say), theirs are taken off; what remains is the difference of larger
    figures, and no exit is cheaper than the cheapest that was measured by itself, for all have
    the switch of worlds in common.
    """
    found = {}
    for item, cause in causing(panel, variant):
        each = cost(panel, variant, item.workload)
        if each is None or each.drowned or each.unlike:
            continue  # its line in the table has no cost either
        if left(each.item) >= PER_EVENT:
            found[cause] = each
    out: dict[str, float] = {}
    for cause, each in found.items():
        if cause.alone:
            out.update(dict.fromkeys(cause.reasons, each.net))
    alone = dict(out)
    cheapest = min(alone.values(), default=0.0)
    for cause, each in found.items():
        if not cause.alone and alone:
            counted = exit_reasons.split(dict(each.item.exits))
            others = sum(
                n * alone.get(reason, cheapest)
                for reason, n in counted.items()
                if reason not in cause.reasons and not reason.startswith(exit_reasons.INSIDE)
            )
            price = (each.net - others) / left(each.item)
            out.update(dict.fromkeys(cause.reasons, max(price, cheapest)))
    return out


def _tick_rate(item: Item) -> float | None:
    """Ticks of the time stamp counter per second, over the item's own loops."""
    rates = [
        p.counters[_TICKS] / p.guest_s for p in item.pairs if _TICKS in p.counters and p.guest_s > 0
    ]
    return statistics.median(rates) if rates else None


def sentence(panel: Panel) -> str:
    """Opens the chapter: the cheapest and the most expensive event that is one exit, and the most
    expensive of all if that is another one."""
    found = [
        (each.net, cause.event, variant, cause.alone)
        for variant in panel.variants()
        for item, cause in causing(panel, variant)
        if (each := cost(panel, variant, item.workload)) is not None
        and not (each.drowned or each.unlike)
        and left(each.item) >= PER_EVENT
    ]
    alone = [each for each in found if each[-1]]
    if not alone:
        return NO_EXIT

    def told(each: tuple[float, str, str, bool]) -> str:
        return f"{each[1]} in {code(each[2])} ({duration(each[0], panel.host.time_base)})"

    cheap, dear, most = min(alone), max(alone), max(found)
    text = f"Of the events that are one exit each, the cheapest is {told(cheap)}"
    if dear[1] != cheap[1]:
        text += f", the most expensive {told(dear)}"
    if most != dear:
        text += f"; {told(most)} costs more: other exits come with it"
    return f"{text}."


def costs(panel: Panel) -> list[Block]:
    """What one event costs, as a distribution, for each event and variant."""
    rows: list[list[Cell | units.Figures | str]] = []
    scale = units.clock(panel.host.time_base, exact=True)
    found = [(item, cause, v) for v in panel.variants() for item, cause in causing(panel, v)]
    for workload in dict.fromkeys(item.workload for item, *_ in found):
        for item, cause, variant in (each for each in found if each[0].workload == workload):
            net = cost(panel, variant, workload)
            natively = median(item, "p50", native=True)
            quantiles = [median(item, q) for q in ("min", "p50", "p99", "mean")]
            rows.append(
                [
                    plain(cause.event) + (", no exit" if _stays(item) else ""),
                    code(variant),
                    _net(panel, net, panel.series(item)),
                    _ticks(net) if panel.wall else NOTHING,
                    f"{left(item):.2f}" if cause.reasons and item.exits else NOTHING,
                    *(units.Figures([value], scale) for value in (*quantiles, natively)),
                ]
            )
    if not rows:
        return []
    headings = ["Event", "Variant", "Cost", "Cost, TSC ticks", "Exits per event"]
    headings += ["min", "median", "p99", "mean", "native median"]
    text: list[Block] = [
        "**What one event costs**",
        units.table(headings, rows, alike=True),
        "The cost is the median less the median of the same loop without the event: the same "
        "system call on `/dev/zero`, an MSR that the guest may read itself, or nothing but the "
        "clock. Nothing is like a timer interrupt, a wake-up or a page fault; from them native's "
        "median is taken off, and what reading the clock costs more in the guest. Each boot has "
        "its own cost; the median of them is shown. In brackets: the least and the most of any "
        f"boot, where boots differ; no median where one has {UNLIKE_COSTS:g} times another's. "
        "Exits: how often the event caused an exit for its own reason; under Xen PV, an entry "
        "into Xen. "
        "The MSR is IA32_PAT (0x277). KVM answers port 0x21 itself, and passes port 0x80 and the "
        "HPET on to QEMU; other hypervisors differ.",
    ]
    if panel.wall:
        text.append(
            "Ticks are those of the time stamp counter, whose rate is taken over the whole loop; "
            "it is constant, so they are cycles at the nominal frequency, not at the actual one. "
            "No cost is told that is below the smallest step of the clock."
        )
    else:
        text.append("Instructions are those that guest and hypervisor execute together.")
    return [*text, *published.comparison(panel.wall, _cpuid(panel), nested(panel))]


def _cpuid(panel: Panel) -> dict[str, float]:
    """Ticks (wall) or instructions that CPUID costs, by variant of hardware virtualization."""
    out = {}
    for variant in panel.variants():
        workloads = [i.workload for i, cause in causing(panel, variant) if cause.kind == "CPUID"]
        found = cost(panel, variant, workloads[0]) if workloads else None
        if found is not None and found.item.exits and not found.drowned:
            value = found.ticks if panel.wall else found.net * 1e9
            if value is not None:
                out[variant] = value
    return out


def exact(panel: Panel, seconds: float) -> str:
    """A cost in a sentence; on the instruction base to the instruction: the counts repeat."""
    return duration(seconds, panel.host.time_base) if panel.wall else whole(seconds * 1e9)


def _net(panel: Panel, found: Cost | None, series: str) -> units.Figures | str:
    if found is None:
        return NOTHING
    if found.drowned:
        return "not above its control" if found.low <= 0 else "below the clock's step"
    of = (found.net, found.low, found.high)
    scale = units.clock(panel.host.time_base, exact=True)
    return units.Figures(
        of, scale, _boots_differ if found.unlike else units.spread, found.net, series
    )


def _boots_differ(texts: Sequence[str]) -> str:
    return f"boots differ: {texts[1]} to {texts[2]}"


def _ticks(found: Cost | None) -> str:
    if found is None or found.ticks is None or found.drowned:
        return NOTHING
    return f"{found.ticks:,.0f}"
