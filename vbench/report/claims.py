"""What the source document says, and what was measured: a verdict for every claim.

The thresholds that turn a number into a verdict are here, in exit_claims.py and in stats.py (high,
medium, low), and are stated in the report. Pure: the same results give the same verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vbench.report import (
    consolidation,
    exit_claims,
    host_claims,
    isolation,
    paravirtual,
    ring_claims,
    scenario_claims,
    technique_claims,
    type_claims,
)
from vbench.report.document import Block, Table
from vbench.report.gather import Gathered, Panel
from vbench.report.verdicts import NOT_HERE, Finding, Judge, not_here, verdict
from vbench.results import stats
from vbench.results.formatting import NOTHING, code

TITLE = "The introduction's claims"
_DOCUMENT = (
    "vbench checks one text: an introduction to virtualization fundamentals and to hypervisors of "
    "type 1 and type 2. Its statements stand here in our words, with a verdict and its number. "
    "T are its techniques, R rings, E VM exits, Q its quiz, W why virtualization matters, H the "
    "hypervisors it names, D its checks by hand. Q4 says the same as R2, and Q5 the same as E4."
)


@dataclass(frozen=True)
class Claim:
    """`everywhere`: of each host, measured there or not. `typical`: whether a host has a guest that
    the statement is about; where one has, findings of the others stand beside, without a verdict
    but `beside`."""

    key: str
    statement: str
    judge: Judge
    everywhere: bool = False
    typical: Callable[[Panel], bool] | None = None
    beside: str = ""
    quiz: str = ""

    def findings(self, gathered: Gathered) -> list[tuple[Panel, Finding | str]]:
        """Of each panel; a text says why it was not measured there."""
        typical = [p for p in gathered.panels if self.typical is None or self.typical(p)]
        others = [p for p in gathered.panels if p.number not in {each.number for each in typical}]
        found = [(panel, self.judge(panel)) for panel in [*typical, *others]]
        if not typical:
            return found
        return [
            (panel, replace(finding, untested=self.beside))
            if isinstance(finding, Finding) and at >= len(typical)
            else (panel, finding)
            for at, (panel, finding) in enumerate(found)
        ]


def section(gathered: Gathered) -> list[Block]:
    """The table of all claims over all panels, and the thresholds behind the verdicts."""
    rows = []
    for claim in CLAIMS:
        found: list[tuple[str, str, str]] = []
        why: list[str] = []
        for panel, finding in claim.findings(gathered):
            where = code(panel.host.identity)
            if isinstance(finding, Finding):
                found.append((verdict(panel, finding), finding.evidence, where))
            elif claim.everywhere:
                found.append((not_here(finding), NOTHING, where))
            else:
                why.append(finding)
        if not found:
            found = [(not_here("; ".join(dict.fromkeys(why))), NOTHING, NOTHING)]
        key = f"{claim.key}, {claim.quiz}" if claim.quiz else claim.key
        statement = claim.statement
        for judged, evidence, where in _merged(found):
            rows.append([key, statement, judged, evidence, where])
            key = statement = ""
    return [
        f"{_count(rows)}{' A part of a run decides less than the whole.' * bool(gathered.partial)} "
        f"{_DOCUMENT}",
        Table(
            [
                "",
                "The introduction says",
                "Verdict",
                "Evidence [interval]",
                "Where",
            ],
            rows,
        ),
        f"Thresholds: high is above {stats.MEDIUM_MAX:g} by the whole interval; near native is an "
        f"interval within {1 / stats.LOW_MAX:.2f} and {stats.LOW_MAX:.2f} (two one-sided tests at "
        f"2.5 % each) and refuted above {stats.LOW_MAX:.2f}; {exit_claims.THRESHOLDS}; "
        f"{type_claims.THRESHOLDS}; {scenario_claims.THRESHOLDS}; {consolidation.THRESHOLDS}; "
        f"{isolation.THRESHOLDS}. A claim with several parts is "
        "confirmed if all of them are, and refuted if one is. One boot is not enough for a "
        "verdict on a ratio; W1 to W4 are judged by all that was seen, which may be one boot. *By "
        "count*: instructions and exits counted in an emulated machine decide which "
        "events exit, how often, and how much code runs; about time they are *consistent* with a "
        "claim or not. *Nested*: the host is itself a virtual machine.",
    ]


def _merged(found: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """What one reason keeps from a verdict on several hosts stands once."""
    alike: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for judged, evidence, where in found:
        apart = "" if judged.startswith(NOT_HERE) and evidence != NOTHING else where
        alike.setdefault((judged, apart), []).append((evidence, where))
    return [
        (judged, "; ".join(e for e, _ in of), ", ".join(where for _, where in of))
        for (judged, _), of in alike.items()
    ]


def _count(rows: Sequence[Sequence[str]]) -> str:
    """How many verdicts of each kind there are, in a sentence."""
    kinds = ("confirmed", "consistent", "refuted", "not consistent", "inconclusive")
    found = [row[2].removeprefix("nested: ") for row in rows]
    texts = [f"{n} {kind}" for kind in kinds if (n := sum(v.startswith(kind) for v in found))]
    missing = sum(verdict.startswith(NOT_HERE) for verdict in found)
    return f"Verdicts: {', '.join([*texts, f'{missing} not measured here'])}."


CLAIMS = (
    Claim("T1", "Binary translation runs an unmodified system, at a high cost for the CPU.",
          technique_claims.translation),
    Claim("T2", "A paravirtual guest calls its hypervisor instead, which is cheaper than "
          "translation.", paravirtual.claim, typical=paravirtual.typical,
          beside="the claim is about hypercalls, and this guest's kernel reports nothing to call; "
          "one that calls stands above"),
    Claim("T3", "With VT-x or AMD-V a guest computes at nearly native speed.",
          technique_claims.hardware),
    Claim("T4", "EPT and NPT make a guest's memory cheap; shadow page tables do not.",
          technique_claims.nested_paging),
    Claim("T5", "KVM is a module that makes Linux the hypervisor; QEMU brings the devices.",
          technique_claims.kernel_module),
    Claim("R1", "Before hardware support a guest's kernel ran in ring 1.",
          ring_claims.without_hardware),
    Claim("R2", "With hardware support it runs in ring 0, and the hypervisor below it.",
          ring_claims.with_hardware, quiz="Q4"),
    Claim("E1", "Port I/O, some MSRs, interrupts, CPUID, and without EPT page faults cause VM "
          "exits.", exit_claims.triggers),
    Claim("E2", "One exit costs hundreds to thousands of cycles.", exit_claims.exit_cost),
    Claim("E3", "How fast a guest is depends on how often it exits.", exit_claims.frequency),
    Claim("E4", "Paravirtual drivers such as VirtIO cause fewer exits for the same I/O.",
          exit_claims.drivers, quiz="Q5"),
    Claim("Q1", "A type 1 hypervisor (with KVM, the hybrid) has lower overhead than a type 2.",
          type_claims.lower_overhead),
    Claim("Q2", "KVM joins the speed of type 1 and the convenience of type 2.",
          type_claims.both_types),
    Claim("Q3", "A hypercall has less overhead than an instruction that is trapped and emulated.",
          exit_claims.hypercall),
    Claim("W1", "Consolidation lifts utilization from 15-20 % to 60-80 %.",
          consolidation.claim),
    Claim("W2", "Guests are isolated: each has its kernel, file system and network stack.",
          isolation.claim),
    Claim("W3", "A machine is provisioned within minutes.", scenario_claims.provisioning),
    Claim("W4", "Snapshots allow recovery, and migration without downtime.",
          scenario_claims.snapshots_and_migration),
    Claim("H1", "ESXi, Hyper-V, Xen and KVM (elsewhere called a hybrid: H3) are of type 1: fast, "
          "for servers.",
          type_claims.first_is_fast),
    Claim("H2", "VirtualBox, VMware Workstation and Fusion, Parallels are of type 2: medium, for "
          "desktops.", type_claims.second_is_medium),
    Claim("H3", "KVM is a hybrid of both types (counted as type 1 in H1 and Q1).",
          type_claims.hybrid),
    Claim("D1", "The CPU shows vmx or svm.", host_claims.cpu_flag, everywhere=True),
    Claim("D2", "KVM's modules are loaded.", host_claims.modules, everywhere=True),
    Claim("D3", "A hardware-assisted virtual machine can be created.", host_claims.created,
          everywhere=True),
)  # fmt: skip
