"""The detail below the first screen: each a list of Markdown blocks for one panel or for all."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from vbench.model import CATEGORIES, SCENARIOS, Item, Statistic, Status
from vbench.report import cells, units
from vbench.report.choice import parted
from vbench.report.document import Block, Cell, Fold, Table
from vbench.report.exit_counts import LEAST_PER_UNIT
from vbench.report.gather import Gathered, Panel
from vbench.report.overview import boot_times
from vbench.results.formatting import (
    NOTHING,
    TIMES,
    code,
    number,
    plain,
    plural,
    small,
    times,
    unit_bytes,
)

# Counters that have columns of their own; all others share a table.
_OWN_COLUMNS = ("host_cpu_s", "vcpu_wait_s")
# as cycles, and as the CPU time of all other threads, in the section about exits
_SHOWN_ELSEWHERE = ("tsc_ticks", "vcpu_cpu_s")

_ROUNDS = f"Boots {TIMES} rounds"
_HEADINGS = (
    "Workload",
    "Variant",
    "Overhead",
    "±, %",
    _ROUNDS,
    "Native → guest",
    "Native → guest",
    "Native → guest, per s",
    "Equal groups, %",
    "Mean above it, %",
    "Host CPU",
    "vCPU wait",
    "Flags",
)
_MIB = 1 << 20

TITLES = {
    "cpu": "Computing",
    "memory": "Memory",
    "syscall": "System calls",
    "interrupt": "Interrupts and timers",
    "exit": "VM exits",
    "smp": "Several CPUs",
    "disk": "Disk",
    "network": "Network",
    "app": "Applications",
    "boot": "Boot",
}


def sentence(panel: Panel) -> str:
    """Opens the chapter: how many workloads have a ratio to native, and the largest overhead."""
    ratios = [
        (value, item)
        for item in panel.items
        if (value := panel.overheads.get(item.name)) is not None
    ]
    if not ratios:
        count = len({item.workload for item in panel.items if item.status is Status.OK})
        return f"{plural(count, 'workload')} measured, none with a ratio to native."
    several = [pair for pair in ratios if pair[0].boots > 1] or ratios
    value, item = max(several, key=lambda pair: (pair[0].ratio, pair[1].name))
    alike = sum(not parted(value, other) for other, _ in several) - 1
    more = f" ({alike} more may be as large)" if alike else ""
    count = len({item.workload for _, item in ratios})
    return (
        f"Of {plural(count, 'workload')} with a ratio to native, {plain(item.workload)} under "
        f"{code(item.variant)} has the largest overhead: {times(value.ratio)}{more}."
    )


def workloads(panel: Panel) -> list[Block]:
    """A table per category: overhead, samples, absolute times, host CPU, vCPU wait, flags."""
    measured = [item for item in panel.items if item.status is Status.OK]
    out: list[Block] = []
    for category in sorted({item.category for item in measured}, key=_category_order):
        items = [
            item
            for item in measured
            if item.category == category and item.statistic is Statistic.RATIO
        ]
        if items:
            out.append(f"**{TITLES.get(category, plain(category))}**{_conditions(panel, items)}")
            out.append(units.table(_HEADINGS, [_row(panel, item) for item in items]))
    return out


def _category_order(category: str) -> tuple[int, str]:
    known = category in CATEGORIES
    return (CATEGORIES.index(category) if known else len(CATEGORIES)), category


def _conditions(panel: Panel, items: Sequence[Item]) -> str:
    """What holds for whole series of a table, said once: the flag, and whose if not everybody's."""
    texts = []
    for flag in sorted({flag for item in items for flag in panel.conditions[item.name]}):
        under = [item for item in items if flag in panel.conditions[item.name]]
        others = [item for item in items if item not in under]
        workloads, variants = _names(under)
        if not others:
            texts.append(plain(flag))
        elif workloads.isdisjoint(_names(others)[0]):
            texts.append(f"{plain(flag)} ({', '.join(map(plain, sorted(workloads)))})")
        elif variants.isdisjoint(_names(others)[1]):
            texts.append(f"{plain(flag)} ({', '.join(map(code, sorted(variants)))})")
        else:
            names = (f"{plain(item.workload)} on {code(item.variant)}" for item in under)
            texts.append(f"{plain(flag)} ({', '.join(names)})")
    return f"; in all rounds: {', '.join(texts)}" if texts else ""


def _names(items: Sequence[Item]) -> tuple[set[str], set[str]]:
    """Their workloads, and their variants."""
    return {item.workload for item in items}, {item.variant for item in items}


def _row(panel: Panel, item: Item) -> list[Cell | units.Figures | str]:
    flags = [
        f"{plain(flag)} ({count})" if count else plain(flag)
        for flag, count in panel.flags[item.name].items()
    ]
    if item.reason:
        flags.append(plain(item.reason))
    overhead = panel.overheads.get(item.name)
    held = unit_bytes(item.unit)
    share = 1.0 if held is None else _MIB / held  # what bytes cost is told of a MiB
    unit = plain(item.unit) if held is None else "MiB"
    return [
        f"{plain(item.workload)}<br>{small(f'per {unit}')}",
        code(item.variant),
        Cell(
            cells.overhead_cell(item, overhead),
            None if overhead is None else overhead.ratio,
            panel.series(item),
        ),
        cells.half_width(item, overhead),
        cells.rounds(item.pairs),
        *absolute(panel, item),
        *cells.exactness(item),
        *(
            NOTHING if value is None else units.Figures([value * share], _clock(panel))
            for value in (cells.counter(item, name) for name in _OWN_COLUMNS)
        ),
        "<br>".join(flags) or NOTHING,
    ]


def absolute(panel: Panel, item: Item) -> list[units.Figures | str]:
    """Native and guest as they are: as time per unit of work, for bytes by the clock as a rate; and
    operations of input and output a second."""
    overhead = panel.overheads.get(item.name)
    if overhead is not None and cells.boots_differ(item, overhead):
        return [NOTHING] * 3  # the mean of boots that are so unlike is no boot's
    both = [cells.native_s(item), cells.guest_s(item)]
    held = unit_bytes(item.unit)
    if held is not None and panel.wall:
        rates = [held / s if s else None for s in both]
        return [NOTHING, units.Figures(rates, units.RATE), NOTHING]
    share = 1.0 if held is None else _MIB / held
    seconds = units.Figures([None if s is None else s * share for s in both], _clock(panel))
    if not panel.wall or held is not None or item.category not in ("disk", "network"):
        return [seconds, NOTHING, NOTHING]
    return [seconds, NOTHING, " → ".join(number(1 / s) if s else NOTHING for s in both)]


def _clock(panel: Panel) -> units.Scale:
    return units.clock(panel.host.time_base)


def counters(panel: Panel) -> list[Block]:
    """All other counters, per unit of work: VM exits and the like."""
    items = [item for item in panel.items if item.category not in SCENARIOS]
    names = sorted(
        {name for item in items for name in cells.counter_names(item)}
        - {*_OWN_COLUMNS, *_SHOWN_ELSEWHERE}
    )
    rows: list[list[Cell | str]] = []
    for item in items:
        values = [cells.counter(item, name) for name in names]
        if any(value is not None for value in values):
            texts = [Cell(_count(value), value) for value in values]
            rows.append([plain(item.workload), code(item.variant), plain(item.unit), *texts])
    if not rows:
        return []
    body = Table(["Workload", "Variant", "per", *map(plain, names)], rows)
    note = (
        f"0: fewer than {LEAST_PER_UNIT:g} per unit of work. {NOTHING}: not counted, or fewer than "
        "starting the program causes, which is taken off."
    )
    return [Fold("**Counters per unit of work**", [body, note])]


def _count(value: float | None) -> str:
    if value is None:
        return NOTHING
    return number(value) if value >= LEAST_PER_UNIT else "0"


def _quantile_order(name: str) -> tuple[float, str]:
    """min < p50 < p99 < p99.9 < max; others behind."""
    if name in ("min", "max"):
        return (0.0 if name == "min" else 100.0, name)
    try:
        return (float(name.removeprefix("p")), name)
    except ValueError:
        return (101.0, name)


def quantiles(panel: Panel) -> list[Block]:
    """Latency distributions, native and guest. No ratio: tails do not scale."""
    items = [i for i in panel.items if i.status is Status.OK and i.statistic is Statistic.QUANTILES]
    names = sorted(
        {name for item in items for pair in item.pairs for name in pair.quantiles},
        key=_quantile_order,
    )
    if not names:
        return []
    rows: list[list[Cell | units.Figures | str]] = [
        [
            plain(item.workload),
            code(item.variant),
            cells.rounds(item.pairs),
            *(_quantile(panel, item, name) for name in names),
            ", ".join([*map(plain, panel.flags[item.name]), *_no_count(panel, item)]) or NOTHING,
        ]
        for item in items
    ]
    headings = ["Workload", "Variant", _ROUNDS, *(f"{n}: native → guest" for n in names)]
    return [
        f"**Latency distributions**{_conditions(panel, items)}",
        units.table([*headings, "Flags"], rows, alike=True),
        "Each figure is the median over rounds of that quantile; `max` is the largest of all "
        "rounds. A distribution gets no ratio: a mean of ratios would hide its tail.",
    ]


def _no_count(panel: Panel, item: Item) -> list[str]:
    why = panel.inexact.get(item.name)
    return [f"no exact count: {why}"] if why else []


def _quantile(panel: Panel, item: Item, name: str) -> units.Figures | str:
    both = [pair.quantiles[name] for pair in item.pairs if name in pair.quantiles]
    if not both:
        return NOTHING
    condense = max if name == "max" else statistics.median
    natives = [native for native, _ in both if native is not None]
    native = condense(natives) if natives else None
    return units.Figures([native, condense(g for _, g in both)], _clock(panel))


def boots(panel: Panel) -> list[Block]:
    """Boot times of each variant by what was timed."""
    names = sorted({phase.name for launch in panel.launches for phase in launch.phases})
    rows = []
    for variant in panel.launched():
        cell = []
        for name in names:
            times = boot_times(panel, variant, name)
            of = (statistics.median(times), times[0], times[-1]) if times else ()
            cell.append(units.spread([_boot(name, s) for s in of]) if of else NOTHING)
        if any(text != NOTHING for text in cell):
            count = sum(launch.variant == variant for launch in panel.launches)
            rows.append([code(variant), str(count), *cell])
    if not rows:
        return []
    return [
        Table(["Variant", "Boots", *(f"{plain(name)}, s" for name in names)], rows),
        "Userspace: the kernel starts its first process. Ready: the guest listens for SSH. "
        "Command: the first command over SSH has ended. From the kernel's start by the guest's "
        "clock, from the launch by the host's. In brackets: the least and the most of the boots, "
        "where they differ.",
    ]


def _boot(name: str, seconds: float) -> str:
    """The guest's own clock, by which it times its kernel, has a step of 10 ms."""
    return f"{seconds:.2f}" if name.startswith("kernel ") else number(seconds)


def flags(gathered: Gathered) -> list[Block]:
    """The meaning of each flag that occurs."""
    found = sorted(
        {
            flag
            for panel in gathered.panels
            for own in (*panel.flags.values(), *panel.conditions.values())
            for flag in own
        }
    )
    if not found:
        return ["No round and no item carries a flag."]
    rows = [[f"**{plain(flag)}**", cells.FLAGS.get(flag, "set by a plugin")] for flag in found]
    return [Table(["Flag", "Meaning"], rows)]
