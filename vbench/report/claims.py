"""What the source document says, and what was measured: a verdict for every claim.

The thresholds that turn a number into a verdict are here and in stats.py (high, medium, low),
and are stated in the report. Pure: the same results give the same verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vbench import exits as words
from vbench import stats
from vbench.model import Item, Technique
from vbench.report import attribution, cells, exits
from vbench.report.gather import Gathered, Panel
from vbench.report.overview import BOOT_KEYS, boot_times
from vbench.text import NOTHING, TIMES, code, duration, interval, number, plain, table, times

TITLE = "What the document says, and what we measured"

# E1: an event makes the guest leave if it was counted at least so often per event.
EXITS_PER_EVENT = 0.9
# E2: "hundreds to thousands of cycles".
EXIT_CYCLES = (100.0, 10_000.0)
# W3: "within minutes".
PROVISIONED_S = 300.0


@dataclass(frozen=True)
class Finding:
    """Whether a claim holds on one host, and by which number; None: the number decides nothing.

    `timed` False: an observation or a count, which is as good where nothing is timed.
    """

    holds: bool | None
    told: str
    timed: bool = True


Judge = Callable[[Panel], Finding | str]  # a text: why it was not measured here


@dataclass(frozen=True)
class Claim:
    key: str
    statement: str
    judge: Judge


def section(gathered: Gathered) -> list[str]:
    """The table of all claims over all panels, and the thresholds behind the verdicts."""
    rows = []
    for claim in CLAIMS:
        found: list[tuple[str, str, str]] = []
        why: list[str] = []
        for panel in gathered.panels:
            said = claim.judge(panel)
            if isinstance(said, str):
                why.append(said)
            else:
                found.append((verdict(panel, said), said.told, code(panel.host.identity)))
        if not found:
            reasons = "; ".join(dict.fromkeys(why))
            found = [(f"not measured here ({reasons})", NOTHING, NOTHING)]
        for number_, (judged, told, where) in enumerate(found):
            first = number_ == 0
            rows.append([claim.key if first else "", claim.statement if first else "",
                         judged, told, where])  # fmt: skip
    return [
        table(["", "The document", "Verdict", "Number [95 % interval]", "Where"], rows),
        f"Thresholds: high is above {stats.MEDIUM_MAX:g}, near native at or below "
        f"{stats.LOW_MAX:.2f}, by the whole interval; an event leaves the guest if it was counted "
        f"{EXITS_PER_EVENT:g} times or more per event; hundreds to thousands of cycles are "
        f"{EXIT_CYCLES[0]:g} to {EXIT_CYCLES[1]:,.0f}; overhead depends on exits if it rises with "
        f"them (Kendall's rank correlation above 0, p < {1 - stats.CONFIDENCE:.2g}); within "
        f"minutes is {PROVISIONED_S / 60:g} minutes. *Counted, not timed*: instructions in an "
        "emulated machine, which decide nothing about time. *Nested*: the host is itself a virtual "
        "machine.",
    ]


def verdict(panel: Panel, finding: Finding) -> str:
    """The words of the document's claim check; in time only on hardware of its own."""
    plainly = {True: "confirmed", False: "refuted", None: "undecided"}[finding.holds]
    if not finding.timed:
        return plainly
    agrees = {True: "agrees", False: "disagrees", None: "decides nothing"}[finding.holds]
    if not panel.wall:
        return f"counted, not timed (the count {agrees})"
    if panel.host.facts.get("virtualization", "unknown") not in ("none", ""):
        return f"nested (the figure {agrees})"
    return plainly


# ---------------------------------------------------------------- techniques


def _usual(panel: Panel, technique: Technique) -> list[str]:
    """A technique's variants without those made to show what it would be like otherwise."""
    return [v for v in panel.variants(technique) if "nested_paging=off" not in v]


def _rated(panel: Panel, variant: str, *categories: str) -> list[Item]:
    return [item for item in panel.of(variant, *categories) if item.name in panel.overheads]


def _computing(panel: Panel, technique: Technique) -> list[tuple[str, stats.GeometricMean]]:
    means = [
        (variant, stats.geometric_mean(_rated(panel, variant, "cpu")))
        for variant in _usual(panel, technique)
    ]
    return [(variant, mean) for variant, mean in means if mean is not None]


def _shown(means: Sequence[tuple[str, stats.GeometricMean]]) -> str:
    return "computing: " + "; ".join(
        f"{code(v)} {times(m.overhead.ratio)} {interval(m.overhead)}" for v, m in means
    )


def _all_hold(found: Sequence[bool | None]) -> bool | None:
    """True if all hold, False if one does not, None if one is undecided."""
    if False in found:
        return False
    return None if None in found else True


def _translation(panel: Panel) -> Finding | str:
    means = _computing(panel, Technique.FULL)
    if not means:
        return "no computing was measured under binary translation"
    return Finding(_all_hold([_above(m.overhead, stats.MEDIUM_MAX) for _, m in means]),
                   _shown(means))  # fmt: skip


def _above(value: stats.Overhead, bound: float) -> bool | None:
    if value.low is None or value.high is None:
        return None
    return True if value.low > bound else False if value.high <= bound else None


def _paravirtual(panel: Panel) -> Finding | str:
    para, full = _usual(panel, Technique.PARA), _usual(panel, Technique.FULL)
    if not para or not full:
        return "needs a paravirtual and a translated guest on one host"
    orders = [
        (
            a,
            b,
            stats.ordering(_rated(panel, a, "cpu", "syscall"), _rated(panel, b, "cpu", "syscall")),
        )
        for a in para
        for b in full
    ]
    told = [(a, b, o) for a, b, o in orders if o is not None]
    if not told:
        return "no workload of computing or system calls was measured on both"
    return Finding(
        _all_hold([_below(o) for _, _, o in told]),
        "computing and system calls: "
        + "; ".join(f"{code(a)} / {code(b)} {_ordered(o)}" for a, b, o in told)
        + _hypercalls(panel, para),
    )


def _hypercalls(panel: Panel, variants: Sequence[str]) -> str:
    counted = [
        f"{plain(item.workload)} {number(calls)} per {item.unit}"
        for variant in variants
        for item in panel.of(variant, "syscall", "memory")
        if (calls := sum(n for name, n in item.exits.items() if name.startswith("hypercall")))
    ]
    return f"; hypercalls: {', '.join(counted)}" if counted else ""


def _below(order: stats.Ordering) -> bool | None:
    if order.low is None or order.high is None:
        return None
    return True if order.high < 1 else False if order.low > 1 else None


def _ordered(order: stats.Ordering) -> str:
    bounds = "" if order.low is None or order.high is None else (
        f" [{number(order.low)}, {number(order.high)}]"
    )  # fmt: skip
    return f"{number(order.ratio)}{bounds}"


def _hardware(panel: Panel) -> Finding | str:
    means = _computing(panel, Technique.HARDWARE)
    if not means:
        return "no computing was measured in a hardware-assisted guest"
    near = [_above(m.overhead, stats.LOW_MAX) for _, m in means]
    return Finding(_all_hold([None if n is None else not n for n in near]), _shown(means))


def _nested_paging(panel: Panel) -> Finding | str:
    found = []
    for variant in panel.variants(Technique.HARDWARE):
        if "nested_paging=off" not in variant:
            continue
        with_it = ",".join(p for p in variant.split(",") if p != "nested_paging=off")
        nested, shadow = _memory(panel, with_it), _memory(panel, variant)
        order = stats.ordering(nested, shadow)
        if order is not None:
            found.append((order, _fault_costs(panel, with_it, variant)))
    if not found:
        return "needs a variant with nested_paging=off beside the same with it"
    return Finding(
        _all_hold([_below(order) for order, _ in found]),
        "; ".join(
            f"memory workloads ({', '.join(order.workloads)}), nested paging / shadow paging: "
            f"{_ordered(order)}{faults}"
            for order, faults in found
        ),
    )


def _memory(panel: Panel, variant: str) -> list[Item]:
    """Memory workloads that can tell the two apart: loads cost no instruction more or less."""
    return [i for i in _rated(panel, variant, "memory") if panel.wall or "fault" in i.unit]


def _fault_costs(panel: Panel, with_it: str, without: str) -> str:
    told = []
    for variant in (with_it, without):
        for item in panel.of(variant, "memory"):
            guest = cells.guest_s(item)
            if "fault" in item.unit and guest is not None:
                told.append(f"{duration(guest, panel.host.time_base)} in {code(variant)}")
    return f"; one page fault {', '.join(told)}" if told else ""


def _kernel_module(panel: Panel) -> Finding | str:
    for launch in panel.launches:
        provider = launch.attestation.evidence.get("host: KVM provider", "")
        if provider:
            told = f"module {code(provider)}; {plain(launch.attestation.summary)}"
            return Finding(True, f"attested in {code(launch.variant)}: {told}", timed=False)
    return "no KVM guest ran"


# ---------------------------------------------------------------- exits


def _triggers(panel: Panel) -> Finding | str:
    told: list[str] = []
    holds: list[bool | None] = []
    shadow = False
    wanted = ("exit-port-qemu", "exit-rdmsr", "exit-wrmsr", "exit-cpuid", "exit-interrupt-timer")
    missing = list(wanted)
    counted = {
        variant: {i.workload: i for i in panel.of(variant, "exit") if i.exits}
        for variant in _usual(panel, Technique.HARDWARE)
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
    return Finding(_all_hold(holds), ", ".join(told), timed=False)


def _exit_cost(panel: Panel) -> Finding | str:
    told: list[str] = []
    holds: list[bool | None] = []
    for variant in _usual(panel, Technique.HARDWARE):
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
    return Finding(_all_hold(holds), ", ".join(told))


def _frequency(panel: Panel) -> Finding | str:
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


def _drivers(panel: Panel) -> Finding | str:
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


# ---------------------------------------------------------------- the rest


def _provisioning(panel: Panel) -> Finding | str:
    if not panel.wall:
        return "launches of an emulated host are not timed"
    told, holds = [], []
    for variant in panel.variants():
        seconds = next((s for k in BOOT_KEYS if (s := boot_times(panel, variant, k))), [])
        if seconds:
            holds.append(seconds[-1] <= PROVISIONED_S)
            told.append(f"{code(variant)} {number(seconds[0])} to {number(seconds[-1])} s")
    if not told:
        return "no launch was timed"
    return Finding(all(holds), "launch to first command: " + "; ".join(told))


def _boots(panel: Panel) -> Finding | str:
    count = {
        variant: sum(launch.variant == variant for launch in panel.launches)
        for variant in panel.variants(Technique.HARDWARE)
    }
    if not any(count.values()):
        return "no hardware-assisted guest was launched"
    told = ", ".join(f"{code(variant)} {n}" for variant, n in count.items() if n)
    return Finding(True, f"guests booted: {told}", timed=False)


def _flags(panel: Panel) -> Finding | str:
    if isinstance(_kernel_module(panel), str):
        return "`vbench doctor` looks at them; no KVM guest ran"
    providers = {launch.attestation.evidence.get("host: KVM provider") for launch in panel.launches}
    told = ", ".join(sorted(code(p) for p in providers if p))
    return Finding(True, f"{told} loads only where the CPU shows its flag", timed=False)


def _not(why: str) -> Judge:
    return lambda panel: why


_YET = _not("not measured yet")

CLAIMS = (
    Claim("T1", "Binary translation runs an unmodified system, at a high cost for the CPU.",
          _translation),
    Claim("T2", "A paravirtual guest calls its hypervisor instead, which is cheaper than "
          "translation.", _paravirtual),
    Claim("T3", "With VT-x or AMD-V a guest computes at nearly native speed.", _hardware),
    Claim("T4", "EPT and NPT make a guest's memory cheap; shadow page tables do not.",
          _nested_paging),
    Claim("T5", "KVM is a module that makes Linux the hypervisor; QEMU brings the devices.",
          _kernel_module),
    Claim("E1", "Port I/O, some MSRs, interrupts, CPUID, and without EPT page faults make a guest "
          "leave.", _triggers),
    Claim("E2", "One exit costs hundreds to thousands of cycles.", _exit_cost),
    Claim("E3", "How fast a guest is depends on how often it leaves.", _frequency),
    Claim("E4", "Paravirtual drivers such as VirtIO leave less often for the same I/O.", _drivers),
    Claim("W1", "Consolidation lifts utilization from 15-20 % to 60-80 %.", _YET),
    Claim("W2", "Guests are isolated: each has its kernel, file system and network stack.", _YET),
    Claim("W3", "A machine is provisioned within minutes.", _provisioning),
    Claim("W4", "Snapshots allow recovery, and migration without downtime.", _YET),
    Claim("H1", "ESXi, Hyper-V, Xen and KVM are of type 1: fast, for servers.",
          _not("needs guests of several of them on one machine")),
    Claim("H2", "VirtualBox, VMware Workstation and Fusion, Parallels are of type 2: medium, for "
          "desktops.", _not("needs guests of several of them on one machine")),
    Claim("H3", "KVM is a hybrid of both types.",
          _not("a definition: its module makes Linux the hypervisor, and guests are processes")),
    Claim("D1", "The CPU shows vmx or svm.", _flags),
    Claim("D2", "KVM's modules are loaded.", _kernel_module),
    Claim("D3", "A virtual machine can be created.", _boots),
)  # fmt: skip
