"""What the document says about VM exits (claims E1 to E4), and what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vbench.model import Technique
from vbench.report import attribution, exits
from vbench.report.gather import Panel
from vbench.report.verdicts import Finding, all_hold, default_variants
from vbench.results import exit_reasons as words
from vbench.results import stats
from vbench.results.formatting import TIMES, code, number

# E2: "hundreds to thousands of cycles".
EXIT_CYCLES = (100.0, 10_000.0)
THRESHOLDS = (
    f"an event leaves the guest if it was counted {exits.PER_EVENT:g} times or more per event, and "
    f"does not if {1 - exits.PER_EVENT:.1g} times or less; "
    f"hundreds to thousands of cycles are {EXIT_CYCLES[0]:g} to {EXIT_CYCLES[1]:,.0f}; overhead "
    "depends on exits if it rises with them (Kendall's rank correlation above 0, "
    f"p < {1 - stats.CONFIDENCE:.2g}, by permuting workloads)"
)


# What E1 names, and the workloads that show it: one of them that leaves is enough for "port I/O"
# and "some MSRs".
_KINDS = (
    ("exit-port-kernel", "exit-port-qemu"),
    ("exit-rdmsr", "exit-wrmsr"),
    ("exit-cpuid",),
    ("exit-interrupt-timer",),
)


def triggers(panel: Panel) -> Finding | str:
    counted = {
        variant: {i.workload: i for i in panel.of(variant, "exit") if i.exits}
        for variant in default_variants(panel, Technique.HARDWARE)
    }
    variant = max(counted, key=lambda name: len(counted[name]), default="")
    items = counted.get(variant, {})
    told: list[str] = []
    missing: list[str] = []
    holds: list[bool | None] = []
    for kind in _KINDS:
        found = {workload: exits.left(items[workload]) for workload in kind if workload in items}
        told += [f"{words.TRIGGERS[name].title} {count:.2f}" for name, count in found.items()]
        most = max(found.values(), default=0.0)
        # that these ports, or this MSR, stay inside says nothing of others
        stays = len(kind) == 1 and bool(found) and most <= 1 - exits.PER_EVENT
        holds.append(True if most >= exits.PER_EVENT else False if stays else None)
        if not found:
            missing.append(" or ".join(words.TRIGGERS[name].title for name in kind))
    if not told:
        return "no exits were counted"
    told[0] = f"exits per event in {code(variant)}: {told[0]}"
    shadow = False
    for other in panel.variants(Technique.HARDWARE):
        for item in panel.of(other, "memory"):
            if "fault" in item.unit and item.exits:
                told.append(f"page fault in {code(other)} {number(exits.total(item))}")
                if "nested_paging=off" in other:
                    holds.append(exits.total(item) >= exits.PER_EVENT)
                    shadow = True
    missing += [] if shadow else ["page fault without nested paging"]
    if missing:
        holds.append(None)
        told.append(f"not measured: {', '.join(missing)}")
    return Finding(all_hold(holds), "; ".join(told), timed=False)


def exit_cost(panel: Panel) -> Finding | str:
    """Of events that did leave the guest, and for which nothing else comes with the exit."""
    told: list[str] = []
    holds: list[bool | None] = []
    for variant in default_variants(panel, Technique.HARDWARE):
        costs = []
        for workload, trigger in words.TRIGGERS.items():
            found = exits.cost(panel, variant, workload) if trigger.alone else None
            if found is None or exits.left(found.item) < exits.PER_EVENT:
                continue
            value = found.net * 1e9 if not panel.wall else found.ticks
            if value is None:
                holds.append(None)
                continue
            holds.append(EXIT_CYCLES[0] <= value < EXIT_CYCLES[1])
            costs.append(f"{trigger.title} {value:,.0f}")
        if costs:
            told.append(f"{code(variant)}: {', '.join(costs)}")
    if not told:
        return "no exit was counted and measured together with the control that is taken off it"
    unit = "cycles" if panel.wall else "instructions, in place of cycles"
    return Finding(all_hold(holds), f"{'; '.join(told)} ({unit})")


def frequency(panel: Panel) -> Finding | str:
    """Undecided unless the correlation is significant: a few workloads prove no absence."""
    found = attribution.worth_explaining(panel)
    dependence = attribution.dependence(panel)
    if not found or dependence is None:
        return "too few overheads beside exits that were counted and priced"
    correlation, workloads = dependence

    def span(shares: Sequence[float]) -> str:
        return f"{min(shares):.0%} to {max(shares):.0%}"

    return Finding(
        correlation.tau > 0 if correlation.significant else None,
        f"overhead against exits {TIMES} cost: rank correlation {correlation.tau:.2f} "
        f"(p = {correlation.p:.1g}) over {workloads} workloads; exits explain "
        f"{span([one.share(one.predicted) for one in found])} of it where there is one, with what "
        f"runs beside the vCPU {span([one.share(one.explained) for one in found])}",
    )


def drivers(panel: Panel) -> Finding | str:
    """Device models are told apart by what the launches say of their disk."""
    disk = {launch.variant: launch.device.get("disk", "") for launch in panel.launches}
    told: list[str] = []
    logs: list[float] = []
    counted = [i for i in panel.items if i.exits and i.category in ("disk", "network")]
    for workload in dict.fromkeys(item.workload for item in counted):
        of = {disk.get(i.variant, ""): i for i in reversed(counted) if i.workload == workload}
        if "virtio" not in of or "ide" not in of:
            continue
        emulated, virtio = exits.total(of["ide"]), exits.total(of["virtio"])
        if emulated > 0 and virtio > 0:
            logs.append(math.log(virtio / emulated))
            told.append(f"{workload} {number(emulated)} → {number(virtio)} per {of['ide'].unit}")
    if not told:
        return "needs exits counted in an emulated and a virtio guest"
    return Finding(all(log < 0 for log in logs), "exits, emulated → virtio: " + "; ".join(told),
                   timed=False)  # fmt: skip
