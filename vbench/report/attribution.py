"""Where a hardware-assisted guest's overhead goes: exits times their cost, the threads that
serve its devices, and the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vbench.model import Item, Statistic, Status, Technique
from vbench.report import cells, exits, units
from vbench.report.document import Block, Cell
from vbench.report.gather import Panel
from vbench.report.verdicts import default_variants
from vbench.results import exit_reasons as words
from vbench.results import significance
from vbench.results.formatting import NOTHING, TIMES, code, plain, small

# Below this ratio to native there is no overhead to explain: a share of it would be noise.
WORTH_EXPLAINING = 1.05
IO_THREAD_TIME = "device threads"


@dataclass(frozen=True)
class Attribution:
    """Where an item's overhead goes, in seconds per unit of work.

    `parts` are exit reasons with count times price, largest first; `io_threads` is the CPU time of
    what serves the guest's devices: QEMU's threads that are no vCPU, or dom0; None if it was not
    counted. `measured` is guest less native.
    """

    item: Item
    native: float
    parts: tuple[tuple[str, float], ...]
    io_threads: float | None
    measured: float

    @property
    def predicted(self) -> float:
        return sum(value for _, value in self.parts)

    @property
    def rest(self) -> float:
        """What neither explains; negative where they explain too much."""
        return self.measured - self.explained

    @property
    def explained(self) -> float:
        return self.predicted + (self.io_threads or 0.0)

    def share(self, seconds: float) -> float:
        """As a share of the measured overhead."""
        return seconds / self.measured


def attributions(panel: Panel) -> list[Attribution]:
    """Of each hardware-assisted item with counted exits and a native partner, where exits have a
    price."""
    out = []
    costs_by_variant = _costs(panel)
    for item in panel.items:
        if item.status is not Status.OK or item.statistic is not Statistic.RATIO or not item.exits:
            continue
        if item.technique is not Technique.HARDWARE:
            continue  # no price was measured for each of Xen's entries
        guest, native = cells.guest_s(item), cells.native_s(item)
        _, exit_costs = costs_by_variant[item.variant]
        if guest is None or native is None or not exit_costs or cells.no_ratio(item):
            continue
        parts = []
        for reason, count in words.split(dict(item.exits)).items():
            if reason.startswith(words.INSIDE):
                continue
            parts.append((reason, count * exit_costs.get(reason, min(exit_costs.values()))))
        parts.sort(key=lambda part: (-part[1], part[0]))
        out.append(Attribution(item, native, tuple(parts), _io_threads(item), guest - native))
    return out


def _costs(panel: Panel) -> dict[str, tuple[str, dict[str, float]]]:
    """By variant, what one exit costs by reason, and the variant that this was measured in. Where
    only the devices differ it is the same: a variant in which it was not measured has those of
    another one of its hypervisor, but for one that was made to show what a setting costs."""
    own = {variant: exits.exit_costs(panel, variant) for variant in panel.variants()}
    plain_ones = default_variants(panel, Technique.HARDWARE)
    out = {}
    for variant, costs in own.items():
        hypervisor, of = panel.declared(variant).hypervisor, variant
        if not costs and hypervisor is not None and variant in plain_ones:
            others = (
                v for v in plain_ones if own[v] and panel.declared(v).hypervisor == hypervisor
            )
            of = next(others, variant)
        out[variant] = (of, own[of])
    return out


def _io_threads(item: Item) -> float | None:
    """CPU time per unit of work on the host that was not the vCPUs', mean over boots. None if it
    was not counted, or drowns in what starting the program takes."""
    boots: dict[int, list[float]] = {}
    for pair in item.pairs:
        if {"host_cpu_s", "vcpu_cpu_s"} <= pair.counters.keys():
            more = pair.counters["host_cpu_s"] - pair.counters["vcpu_cpu_s"]
            boots.setdefault(pair.boot, []).append(more)
    means = [sum(found) / len(found) for found in boots.values()]
    return sum(means) / len(means) if means and min(means) >= 0 else None


def worth_explaining(panel: Panel) -> list[Attribution]:
    """Those with an overhead to explain."""
    return [one for one in attributions(panel) if _worth(panel, one)]


def _worth(panel: Panel, one: Attribution) -> bool:
    value = panel.overheads.get(one.item.name)
    if value is None:
        return False
    surely = value.ratio if value.low is None else value.low  # one pair has no interval
    return surely > WORTH_EXPLAINING


def dependence(panel: Panel) -> tuple[significance.Correlation, int] | None:
    """Whether overhead rises with exits times cost, both over native time, and over how many
    workloads; None where there are too few to tell. Variants of a workload go together: those that
    have all the workloads of the variant with the most."""
    points: dict[str, dict[str, tuple[float, float]]] = {}
    variants = default_variants(panel, Technique.HARDWARE)
    for one in attributions(panel):
        if one.item.variant in variants:
            of = points.setdefault(one.item.variant, {})
            of[one.item.workload] = (one.predicted / one.native, one.measured / one.native)
    shared = max((list(of) for of in points.values()), key=len, default=[])
    whole = [of for of in points.values() if of.keys() >= set(shared)]
    correlation = significance.rank_correlation(
        [[of[workload] for of in whole] for workload in shared]
    )
    return None if correlation is None else (correlation, len(shared))


def share(part: float, unit: str = " %") -> str:
    """A share of the overhead in per cent; what is more than all of it, as shown, is no share."""
    text = f"{100 * part:.0f}{unit}"
    return text if round(part, 2) <= 1 else f"more than all ({text})"


def _shares(one: Attribution) -> list[str]:
    """Per cent of the overhead: by exits; by exits and threads where those were counted."""
    both = NOTHING if one.io_threads is None else share(one.share(one.explained), unit="")
    return [share(one.share(one.predicted), unit=""), both]


def _left_out(panel: Panel, priced: Collection[str]) -> str:
    """Which variants have counted exits and no line in the table, and why."""
    counted: dict[Technique, list[str]] = {}
    for item in panel.items:
        names = counted.setdefault(item.technique, [])
        if item.exits and item.variant not in {*priced, *names}:
            names.append(item.variant)
    out = ""
    if hardware := counted.get(Technique.HARDWARE):
        out += f" Without a line: {_and(hardware)}, where no cost of an exit was measured."
    if para := counted.get(Technique.PARA):
        out += (
            f" Without a line: {_and(para)}, because few of its kinds of hypercalls "
            "and traps have a measured cost."
        )
    return out


def _and(names: Sequence[str]) -> str:
    return " and ".join(map(code, names))


def table(panel: Panel) -> list[Block]:
    """The table of all of them."""
    found, costs_of = attributions(panel), _costs(panel)
    if not found:
        return []
    worth = worth_explaining(panel)
    few = len(found) - len(worth)
    none = f"no overhead to explain: it is not surely above {100 * (WORTH_EXPLAINING - 1):.0f} %."
    if not worth:
        return [f"**Overhead explained by exits**: there is {none}"]
    scale = units.clock(panel.host.time_base)

    def largest(one: Attribution) -> units.Figures | str:
        parts = [(plain(name), seconds) for name, seconds in one.parts[:3] if seconds > 0]
        if not parts:
            return NOTHING
        return units.Figures(
            [seconds for _, seconds in parts],
            scale,
            lambda texts: "; ".join(
                f"{name} {text}" for (name, _), text in zip(parts, texts, strict=True)
            ),
        )

    rows: list[list[Cell | units.Figures | str]] = [
        [
            f"{plain(one.item.workload)}<br>{small('per ' + plain(one.item.unit))}",
            code(one.item.variant),
            units.Figures([one.measured], scale, series=panel.series(one.item)),
            units.Figures([one.predicted], scale),
            units.Figures([one.io_threads], scale),
            units.Figures([one.rest], scale) if one.rest >= 0 else "none: too much is explained",
            *_shares(one),
            largest(one),
        ]
        for one in worth
    ]
    headings = [
        "Workload",
        "Variant",
        "Measured overhead",
        f"Exits {TIMES} cost",
        f"{IO_THREAD_TIME[0].upper()}{IO_THREAD_TIME[1:]}",
        "Rest",
        "Explained by exits, %",
        "Explained by both, %",
        "Largest exits",
    ]
    body = units.table(headings, rows, alike=True)
    note = (
        "Measured is guest less native. Device threads: CPU time of QEMU's threads that are no "
        "vCPU, for Xen of dom0; they do the guest's input and output. This time can overlap with "
        "the vCPU's, and native I/O needs part of it as well, so it is an upper bound. Exit "
        "reasons without a measured cost are assumed to cost as much as the cheapest measured one. "
        "The rest is device models at work inside an exit, the host's kernel, waiting, caches and "
        "TLB."
    )
    of = {one.item.variant: costs_of[one.item.variant][0] for one in found}
    for variant in (each for each in of if of[each] != each):
        note += f" What one exit costs was measured in {code(of[variant])} for {code(variant)} too."
    if few:
        note += f" {few} other series with counted exits have {none}"
    note += _left_out(panel, {one.item.variant for one in found})
    if not panel.wall:
        note += " Measured overhead is of the median group of units, exits are of all groups."
    return ["**Overhead explained by exits**", body, note]
