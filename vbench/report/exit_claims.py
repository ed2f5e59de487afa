"""What the document says about VM exits (claims E1 to E4), and what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vbench import exits as words
from vbench import stats
from vbench.model import Technique
from vbench.report import attribution, exits
from vbench.report.gather import Panel
from vbench.report.verdicts import Finding, all_hold, usual
from vbench.text import TIMES, code, number

# E1: an event makes the guest leave if it was counted at least so often per event.
EXITS_PER_EVENT = 0.9
# E2: "hundreds to thousands of cycles".
EXIT_CYCLES = (100.0, 10_000.0)
THRESHOLDS = (
    f"an event leaves the guest if it was counted {EXITS_PER_EVENT:g} times or more per event; "
    f"hundreds to thousands of cycles are {EXIT_CYCLES[0]:g} to {EXIT_CYCLES[1]:,.0f}; overhead "
    "depends on exits if it rises with them (Kendall's rank correlation above 0, "
    f"p < {1 - stats.CONFIDENCE:.2g})"
)


def triggers(panel: Panel) -> Finding | str:
    told: list[str] = []
    holds: list[bool | None] = []
    shadow = False
    wanted = ("exit-port-qemu", "exit-rdmsr", "exit-wrmsr", "exit-cpuid", "exit-interrupt-timer")
    missing = list(wanted)
    counted = {
        variant: {i.workload: i for i in panel.of(variant, "exit") if i.exits}
        for variant in usual(panel, Technique.HARDWARE)
    }
    variant = max(counted, key=lambda name: len(set(wanted) & set(counted[name])), default="")
    for workload, item in sorted(counted.get(variant, {}).items()):
        if workload in wanted:
            count = exits.total(item)
            holds.append(count >= EXITS_PER_EVENT)
            told.append(f"{words.TRIGGERS[workload].title} {count:.2f}")
            missing.remove(workload)
    if not told:
        return "no exits were counted"
    told[0] = f"exits per event in {code(variant)}: {told[0]}"
    for variant in panel.variants(Technique.HARDWARE):
        for item in panel.of(variant, "memory"):
            if "fault" in item.unit and item.exits:
                told.append(f"page fault in {code(variant)} {number(exits.total(item))}")
                if "nested_paging=off" in variant:
                    holds.append(exits.total(item) >= EXITS_PER_EVENT)
                    shadow = True
    left = [words.TRIGGERS[workload].title for workload in missing]
    left += [] if shadow else ["page fault without nested paging"]
    if left:
        holds.append(None)
        told.append(f"not measured: {', '.join(left)}")
    return Finding(all_hold(holds), ", ".join(told), timed=False)


def exit_cost(panel: Panel) -> Finding | str:
    told: list[str] = []
    holds: list[bool | None] = []
    for variant in usual(panel, Technique.HARDWARE):
        for workload in ("exit-cpuid", "exit-rdmsr", "exit-port-kernel", "exit-port-qemu"):
            found = exits.cost(panel, variant, workload)
            if found is None:
                continue
            value = found.net * 1e9 if not panel.wall else found.ticks
            if value is None:
                holds.append(None)
                continue
            holds.append(EXIT_CYCLES[0] <= value < EXIT_CYCLES[1])
            unit = "cycles" if panel.wall else "instr."
            title = words.TRIGGERS[workload].title
            told.append(f"{title} {value:,.0f} {unit} in {code(variant)}")
    if not told:
        return "no exit was measured together with the control that is taken off it"
    return Finding(all_hold(holds), ", ".join(told))


def frequency(panel: Panel) -> Finding | str:
    found = attribution.worth_explaining(panel)
    dependence = attribution.dependence(panel)
    if not found or dependence is None:
        return "too few overheads beside exits that were counted and priced"
    correlation, number_ = dependence
    rises = correlation.significant and correlation.tau > 0

    def span(shares: Sequence[float]) -> str:
        return f"{min(shares):.0%} to {max(shares):.0%}"

    return Finding(
        rises,
        f"overhead {'rises' if rises else 'does not rise'} with exits {TIMES} cost: rank "
        f"correlation {correlation.tau:.2f} (p = {correlation.p:.1g}) over {number_} workloads and "
        f"variants; exits explain {span([one.share(one.predicted) for one in found])} of it where "
        "there is one, with what runs beside the vCPU "
        f"{span([one.share(one.predicted + one.beside) for one in found])}",
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
