"""What the source document says, and what was measured: a verdict for every claim.

The thresholds that turn a number into a verdict are here, in exit_claims.py and in stats.py (high,
medium, low), and are stated in the report. Pure: the same results give the same verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vbench.model import Item, Technique
from vbench.report import cells, exit_claims
from vbench.report.gather import Gathered, Panel
from vbench.report.overview import BOOT_KEYS, boot_times
from vbench.report.verdicts import (
    Finding,
    Judge,
    above,
    all_hold,
    below,
    default_variants,
    ordered,
    rated,
    verdict,
)
from vbench.results import significance, stats
from vbench.results.formatting import NOTHING, code, duration, interval, number, plain, table, times

TITLE = "What the document says, and what we measured"

# W3: "within minutes".
PROVISIONED_S = 300.0


@dataclass(frozen=True)
class Claim:
    """`everywhere`: of each host, measured there or not."""

    key: str
    statement: str
    judge: Judge
    everywhere: bool = False


def section(gathered: Gathered) -> list[str]:
    """The table of all claims over all panels, and the thresholds behind the verdicts."""
    rows = []
    for claim in CLAIMS:
        found: list[tuple[str, str, str]] = []
        why: list[str] = []
        for panel in gathered.panels:
            said = claim.judge(panel)
            if isinstance(said, str) and claim.everywhere:
                found.append(("not seen here", said, code(panel.host.identity)))
            elif isinstance(said, str):
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
        f"{stats.LOW_MAX:.2f}, by the whole interval; {exit_claims.THRESHOLDS}; within minutes is "
        f"{PROVISIONED_S / 60:g} minutes. *Counted, not timed*: instructions in an emulated "
        "machine, which decide nothing about time. *Nested*: the host is itself a virtual machine.",
    ]


# ---------------------------------------------------------------- techniques


def _computing(panel: Panel, technique: Technique) -> list[tuple[str, stats.GeometricMean]]:
    means = [
        (variant, stats.geometric_mean(rated(panel, variant, "cpu")))
        for variant in default_variants(panel, technique)
    ]
    return [(variant, mean) for variant, mean in means if mean is not None]


def _shown(means: Sequence[tuple[str, stats.GeometricMean]]) -> str:
    return "computing: " + "; ".join(
        f"{code(v)} {times(m.overhead.ratio)} {interval(m.overhead)}" for v, m in means
    )


def _translation(panel: Panel) -> Finding | str:
    means = _computing(panel, Technique.FULL)
    if not means:
        return "no computing was measured under binary translation"
    return Finding(all_hold([above(m.overhead, stats.MEDIUM_MAX) for _, m in means]),
                   _shown(means))  # fmt: skip


def _paravirtual(panel: Panel) -> Finding | str:
    para, full = default_variants(panel, Technique.PARA), default_variants(panel, Technique.FULL)
    if not para or not full:
        return "needs a paravirtual and a translated guest on one host"
    orders = [
        (
            a,
            b,
            significance.ordering(
                rated(panel, a, "cpu", "syscall"), rated(panel, b, "cpu", "syscall")
            ),
        )
        for a in para
        for b in full
    ]
    told = [(a, b, o) for a, b, o in orders if o is not None]
    if not told:
        return "no workload of computing or system calls was measured on both"
    return Finding(
        all_hold([below(o) for _, _, o in told]),
        "computing and system calls: "
        + "; ".join(f"overhead of {code(a)} is {ordered(o)} of {code(b)}'s" for a, b, o in told)
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


def _hardware(panel: Panel) -> Finding | str:
    means = _computing(panel, Technique.HARDWARE)
    if not means:
        return "no computing was measured in a hardware-assisted guest"
    near = [above(m.overhead, stats.LOW_MAX) for _, m in means]
    return Finding(all_hold([None if n is None else not n for n in near]), _shown(means))


def _nested_paging(panel: Panel) -> Finding | str:
    found = []
    for variant in panel.variants(Technique.HARDWARE):
        if "nested_paging=off" not in variant:
            continue
        with_it = ",".join(p for p in variant.split(",") if p != "nested_paging=off")
        nested, shadow = _memory(panel, with_it), _memory(panel, variant)
        order = significance.ordering(nested, shadow)
        if order is not None:
            found.append((order, _fault_costs(panel, with_it, variant)))
    if not found:
        return "needs a variant with nested_paging=off beside the same with it"
    return Finding(
        all_hold([below(order) for order, _ in found]),
        "; ".join(
            f"memory workloads ({', '.join(order.workloads)}), nested paging / shadow paging: "
            f"{ordered(order)}{faults}"
            for order, faults in found
        ),
    )


def _memory(panel: Panel, variant: str) -> list[Item]:
    """Memory workloads that can tell the two apart: loads cost no instruction more or less."""
    return [i for i in rated(panel, variant, "memory") if panel.wall or "fault" in i.unit]


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
    return _no_guest(panel)


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
        return _no_guest(panel)
    told = ", ".join(f"{code(variant)} {n}" for variant, n in count.items() if n)
    return Finding(True, f"guests booted: {told}", timed=False)


def _flags(panel: Panel) -> Finding | str:
    if isinstance(_kernel_module(panel), str):
        return _no_guest(panel)
    providers = {launch.attestation.evidence.get("host: KVM provider") for launch in panel.launches}
    told = ", ".join(sorted(code(p) for p in providers if p))
    return Finding(True, f"{told} loads only where the CPU shows its flag", timed=False)


def _no_guest(panel: Panel) -> str:
    """With the reason, where a backend gave one."""
    reasons = [
        entry.reason for entry in panel.unavailable if entry.technique == Technique.HARDWARE.value
    ]
    return "no hardware-assisted guest ran" + (f": {plain(reasons[0])}" if reasons else "")


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
          _kernel_module, everywhere=True),
    Claim("E1", "Port I/O, some MSRs, interrupts, CPUID, and without EPT page faults make a guest "
          "leave.", exit_claims.triggers),
    Claim("E2", "One exit costs hundreds to thousands of cycles.", exit_claims.exit_cost),
    Claim("E3", "How fast a guest is depends on how often it leaves.", exit_claims.frequency),
    Claim("E4", "Paravirtual drivers such as VirtIO leave less often for the same I/O.",
          exit_claims.drivers),
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
    Claim("D1", "The CPU shows vmx or svm.", _flags, everywhere=True),
    Claim("D2", "KVM's modules are loaded.", _kernel_module, everywhere=True),
    Claim("D3", "A virtual machine can be created.", _boots, everywhere=True),
)  # fmt: skip
