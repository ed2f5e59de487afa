"""Exits in the report: what they cost, how much they explain, and the verdicts on all claims."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sample_results import TESTBED, item, pairs, result

from vbench.model import HostFacts, Item, Pair, Result, Statistic, Technique
from vbench.report import attribution, claims, exits, markdown, render, verdicts
from vbench.report.document import Block, Document, Table
from vbench.report.gather import Panel, gather
from vbench.report.published import likely_cause
from vbench.results import stats
from vbench.run.collecting import collect

CAUSES = {
    each.info.name: each.info.cause
    for each in collect([Path(__file__).parents[2] / "workloads/bench_exit.py"])
}


def event(workload: str, guest_ns: float, native_ns: float | None = 10.0, **changes: Any) -> Item:
    native = None if native_ns is None else native_ns / 1e9
    quantiles = dict.fromkeys(("min", "p50", "p99", "mean"), (native, guest_ns / 1000000000.0))
    made = [
        Pair(native, guest_ns / 1e9, boot, (), {"tsc_ticks": 1.5 * guest_ns}, quantiles)
        for boot in (0, 1)
    ]
    return item(
        workload,
        made,
        category="exit",
        statistic=Statistic.QUANTILES,
        backend="kvm-virtio",
        cause=CAUSES.get(workload),
        **{"variant": "kvm-virtio", "technique": Technique.HARDWARE, **changes},
    )


def kvm_result(host: HostFacts = TESTBED, **changes: Any) -> Result:
    """Empty loops of 100, CPUID of 1100, ports of 5700; 4 port exits explain 20,000 of 25,000."""
    common: dict[str, Any] = {
        "variant": "kvm-virtio",
        "backend": "kvm-virtio",
        "technique": Technique.HARDWARE,
    }
    items = [
        event("exit-control-empty", 100),
        event("exit-control-read", 700),
        event("exit-control-hypercall", 100),
        event("exit-cpuid", 1100, exits={"CPUID": 1.0}),
        event("exit-port-qemu", 5700, exits={"IOIO": 1.0, "to QEMU: IO": 1.0}),
        event("exit-hypercall", 1300, None),
        item(
            "disk-randread-qd1",
            pairs(3.5, 1e-5, spread=0.0, counters={"host_cpu_s": 3e-5, "vcpu_cpu_s": 2.8e-5}),
            category="disk",
            unit="read",
            exits={"IOIO": 4.0, "to QEMU: IO": 4.0, "INTR": 2.0},
            **common,
        ),
        item("cpu-prime", pairs(1.02, 1e-3, spread=0.0), **common),
    ]
    moved = [
        replace(i, host=host.identity, host_kind=host.kind, time_base=host.time_base) for i in items
    ]
    return result(*moved, host=host, **changes)


def shown(blocks: Sequence[Block]) -> str:
    return markdown.render(Document("", blocks), plots=None)


def panel_of(*results: Result) -> Panel:
    (panel,) = gather(results).panels
    return panel


def test_cost_is_the_median_less_its_control() -> None:
    panel = panel_of(kvm_result())

    cpuid = exits.cost(panel, "kvm-virtio", "exit-cpuid")
    port = exits.cost(panel, "kvm-virtio", "exit-port-qemu")
    assert cpuid is not None
    assert port is not None
    assert cpuid.net == pytest.approx(1000e-9)
    assert cpuid.ticks == pytest.approx(1500)
    assert port.net == pytest.approx(5000e-9)
    assert exits.cost(panel, "kvm-virtio", "exit-rdmsr") is None  # not measured


def test_a_cost_says_how_far_its_boots_are_apart() -> None:
    control, cpuid = event("exit-control-empty", 100), event("exit-cpuid", 1100)
    one, other = cpuid.pairs
    moved = replace(other, quantiles={**other.quantiles, "p50": (None, 1140e-9)})
    cpuid = replace(cpuid, pairs=(one, moved))

    rows = shown(exits.costs(panel_of(result(control, cpuid))))
    assert re.search(r"\| CPUID +\| `kvm-virtio` +\| 1,020 \(1,000 to 1,040\) \|", rows)
    rows = shown(exits.costs(panel_of(result(control, event("exit-cpuid", 1100)))))
    assert re.search(r"\| CPUID +\| `kvm-virtio` +\| 1,000 +\|", rows)


def test_an_event_that_stays_is_marked_and_a_variant_without_prices_is_named() -> None:
    def of(variant: str, **exits_of: float) -> Item:
        more: Any = {"variant": variant, "backend": variant, "exits": exits_of}
        return replace(kvm_result().items[-1], **more)

    stays = event("exit-cpuid", 104, exits={"INTR": 0.0})
    rows = shown(exits.costs(panel_of(result(event("exit-control-empty", 100), stays))))
    assert re.search(r"\| CPUID, no exit +\| `kvm-virtio` ", rows)
    assert "no exit" not in shown(exits.costs(panel_of(kvm_result())))

    made = kvm_result()
    text = shown(attribution.table(panel_of(made)))
    assert "Without a line" not in text
    other = result(of("xen-pvh", HLT=1.0), host=made.host, variant="xen-pvh")
    text = shown(attribution.table(panel_of(made, other)))
    assert "Without a line: `xen-pvh`, where no cost of an exit was measured." in text


def test_a_price_is_of_an_event_that_left_and_without_what_came_along() -> None:
    panel = panel_of(
        result(
            event("exit-control-empty", 100),
            event("exit-control-read", 700),
            event("exit-control-wrmsr", 1000),
            event("exit-cpuid", 3100, exits={"CPUID": 1.0}),
            event("exit-port-kernel", 2200, exits={"IOIO": 1.0}),
            event("exit-port-qemu", 1700),  # as Xen does it: it stays inside
            event("exit-wrmsr", 1400, exits={"MSR": 0.01}),
            event("exit-halt", 20_000, 2_000, exits={"HLT": 2.0, "CPUID": 1.0, "MSR": 2.0}),
            event("exit-interrupt-timer", 9_000, 2_000, exits={"INTR": 1.0, "CPUID": 2.0}),
        )
    )
    assert exits.exit_costs(panel, "kvm-virtio") == {
        "CPUID": pytest.approx(3000e-9),
        "port I/O in kernel": pytest.approx(1500e-9),
        "privileged instruction": pytest.approx(1500e-9),  # a port in a paravirtual kernel
        # less the dearer clock, two MSR exits at the cheapest price and one CPUID
        "HLT": pytest.approx((18_000 - 90 - 3000 - 2 * 1500) / 2 * 1e-9),
        # 7,000 less the clock and two CPUID would be 910, less than the cheapest
        **dict.fromkeys(("INTR", "EXTERNAL_INTERRUPT", "PREEMPTION_TIMER"), pytest.approx(1500e-9)),
    }


def test_boots_that_differ_give_no_price() -> None:
    slow = event("exit-halt", 30_000, 2_000, exits={"HLT": 1.0}).pairs[1]
    halt = event("exit-halt", 9_000, 2_000, exits={"HLT": 1.0})
    halt = replace(halt, pairs=(halt.pairs[0], slow))
    clock, port = event("exit-control-empty", 100), event("exit-port-kernel", 2200)
    read = event("exit-control-read", 700)
    port = replace(port, exits={"IOIO": 1.0})
    panel = panel_of(result(clock, read, port, halt))
    assert "boots differ: 6.91 to 27.9" in shown(exits.costs(panel))
    assert "HLT" not in exits.exit_costs(panel, "kvm-virtio")
    assert "HLT" in exits.exit_costs(
        panel_of(result(clock, read, port, replace(halt, pairs=halt.pairs[:1]))), "kvm-virtio"
    )


def test_a_control_that_leaves_for_the_same_reason_is_none() -> None:
    """Under Xen PV reading any MSR is emulated, the one that KVM leaves to the guest, too; and that
    one is written by a hypercall."""
    trapped = {"privileged instruction": 1.0, "hypercall iret": 3.0}
    called = {"hypercall set_segment_base": 1.0, "hypercall iret": 3.1}
    msr = event("exit-rdmsr", 3000, exits=trapped)
    for exits_of_control, known in ((trapped, False), (called, False), ({}, True)):
        control = event("exit-control-rdmsr", 2900, exits=exits_of_control)
        found = exits.cost(panel_of(result(control, msr)), "kvm-virtio", "exit-rdmsr")
        assert (found is not None) is known


def test_a_share_of_all_is_no_more_than_all() -> None:
    assert attribution.share(0.3) == "30 %"
    assert attribution.share(1.004) == "100 %"
    assert attribution.share(1.01) == "more than all (101 %)"


def test_attribution_adds_up_and_keeps_the_sign_of_the_rest() -> None:
    (one,) = attribution.attributions(panel_of(kvm_result()))

    assert one.measured == pytest.approx(25e-6)
    assert dict(one.parts) == {
        "port I/O in QEMU": pytest.approx(20e-6),
        "INTR": pytest.approx(2e-6),  # priced as the cheapest exit
    }
    assert one.io_threads == pytest.approx(2e-6)
    assert one.rest == pytest.approx(1e-6)
    assert one.predicted + one.io_threads + one.rest == pytest.approx(one.measured)


def test_a_result_without_the_vcpus_own_time_tells_nothing_of_other_threads() -> None:
    old = kvm_result()
    items = [
        replace(i, pairs=tuple(replace(p, counters={"host_cpu_s": 3e-5}) for p in i.pairs))
        if i.category == "disk"
        else i
        for i in old.items
    ]
    (one,) = attribution.attributions(panel_of(replace(old, items=tuple(items))))
    assert one.io_threads is None
    assert one.rest == pytest.approx(3e-6)


def test_the_report_tells_cost_count_and_share_and_draws_them() -> None:
    report = render([kvm_result()], plots_dir="plots")

    assert re.search(r"\| port 0x80 \(POST\) +\| `kvm-virtio` +\| 5,000 +\| 1.00 ", report.markdown)
    assert "| 88 | 96 |" in report.markdown  # by exits, and by device threads as well
    assert any(name.startswith("exits-") for name in report.plots)
    assert report == render([kvm_result()], plots_dir="plots")


def test_an_event_that_costs_less_than_its_control_has_no_cost() -> None:
    items = [
        event("exit-control-empty", 100),
        event("exit-cpuid", 90),
        event("exit-control-hypercall", 100),
        event("exit-hypercall", 150),
    ]
    text = render([result(*items)], plots_dir=None).markdown
    assert "No event that was measured here is known to have caused an exit" in text
    below = text[text.index("What one event costs") :]
    assert re.search(r"\| CPUID +\| `kvm-virtio` +\| not above its control \|", below)
    assert "-10" not in below.split("hypercall", maxsplit=1)[0]
    assert re.search(r"\| hypercall +\| `kvm-virtio` +\| 50", below)


# ---------------------------------------------------------------- claims


def test_an_event_that_stays_inside_decides_nothing_of_ports_and_msrs() -> None:
    quiet = [event("exit-port-qemu", 1700, exits={"INTR": 1.0}), event("exit-rdmsr", 1)]
    assert judged(result(*quiet))["E1"][2] == "inconclusive"
    stays = event("exit-cpuid", 100, exits={"INTR": 1.0})
    assert judged(result(*quiet, stays))["E1"][2] == "refuted (nested)"
    assert "CPUID 0.00" in judged(result(*quiet, stays))["E1"][3]


@pytest.mark.parametrize(
    ("loads", "verdict"),
    [
        (((1, 1.1), (2, 1.3), (4, 1.6), (8, 2.5), (16, 4.0)), "confirmed"),
        (((1, 1.1), (2, 1.3), (4, 1.6), (16, 2.5), (8, 4.0)), "inconclusive"),
        (((1, 4.0), (2, 1.3), (4, 2.6), (8, 1.5), (16, 2.0)), "inconclusive"),
        (((1, 4.0), (2, 3.0), (4, 2.6), (8, 1.5), (16, 1.2)), "refuted"),
        (((1, 1.1), (2, 1.3), (4, 1.6), (8, 2.5)), "not measured here"),
    ],
)
def test_overhead_depends_on_exits_if_it_rises_with_them(
    loads: Sequence[tuple[int, float]], verdict: str
) -> None:
    host = replace(result().host, facts={**result().host.facts, "virtualization": "none"})
    made = kvm_result(host)
    template = next(i for i in made.items if i.category == "disk")
    made = replace(
        made,
        items=(
            *(i for i in made.items if i.category == "exit"),
            *(
                replace(
                    template,
                    workload=f"disk-{number}",
                    pairs=tuple(pairs(ratio, 1e-5, spread=0.0)),
                    exits={"CPUID": float(exits_per_unit)},
                )
                for number, (exits_per_unit, ratio) in enumerate(loads)
            ),
        ),
    )
    # one with fewer workloads leaves none of them out
    few = [replace(i, variant="few") for i in made.items if i.workload != "disk-0"]
    row = judged(made, result(*few, host=host, variant="few"))["E3"]
    assert row[2].startswith(verdict)
    if verdict == "confirmed":
        assert "rank correlation 1.00" in row[3]
        assert "over 5 workloads; of the 9 overheads that are large enough to explain" in row[3]


def judged(*results: Result) -> dict[str, list[str]]:
    table = next(b for b in claims.section(gather(results)) if isinstance(b, Table))
    return {row[0].text.partition(",")[0]: [c.text for c in row] for row in table.cells()}


def test_every_claim_has_a_verdict_whatever_was_measured() -> None:
    keys = [claim.key for claim in claims.CLAIMS]
    counts = (("T", 5), ("R", 2), ("E", 4), ("Q", 3), ("W", 4), ("H", 3), ("D", 3))
    assert keys == [f"{group}{n + 1}" for group, count in counts for n in range(count)]

    quiz = {claim.quiz: claim.key for claim in claims.CLAIMS if claim.quiz}
    assert quiz == {"Q4": "R2", "Q5": "E4"}  # the statements of the quiz that say the same

    nothing = judged(result(item("cpu-prime", ())))
    assert sorted(nothing) == sorted(keys)
    assert all(row[2].startswith("not measured here") for key, row in nothing.items() if key in
               ("T1", "E1", "E2", "E4", "W1"))  # fmt: skip


@pytest.mark.parametrize(
    ("virtualization", "base", "verdict"),
    [
        ("none", TESTBED, "consistent (counted, not timed)"),
        ("none", None, "confirmed"),
        ("kvm", None, "nested: consistent"),
    ],
)
def test_a_verdict_in_time_needs_hardware_of_its_own(
    virtualization: str, base: HostFacts | None, verdict: str
) -> None:
    host = base or replace(
        result().host, facts={**result().host.facts, "virtualization": virtualization}
    )
    row = judged(kvm_result(host))["T3"]

    assert row[2] == verdict
    assert "1.02" in row[3]


def test_bounds_decide_by_the_whole_interval() -> None:
    value = stats.Overhead(1.5, 1.05, 2.2, 15, 5)
    assert verdicts.above(value, 2.0) is None
    assert verdicts.above(replace(value, low=2.01), 2.0) is True
    assert verdicts.above(replace(value, high=1.9), 2.0) is False
    assert verdicts.above(replace(value, low=None), 2.0) is None


def test_exit_cost_outside_the_stated_range_is_refuted() -> None:
    host = replace(result().host, facts={**result().host.facts, "virtualization": "none"})
    slow = kvm_result(host)
    slow = replace(
        slow,
        items=tuple(
            replace(event("exit-cpuid", 9000, exits=i.exits), host=i.host, host_kind=i.host_kind,
                    time_base=i.time_base)
            if i.workload == "exit-cpuid" else i
            for i in slow.items
        ),
    )  # fmt: skip

    assert judged(kvm_result(host))["E2"][2] == "confirmed"
    assert judged(slow)["E2"][2] == "refuted"


@pytest.mark.parametrize(
    ("cycles", "nested", "cause"),
    [(300, False, "did not leave"), (90_000, True, "emulates"), (13_000, True, "itself"),
     (5000, False, "tracing")],
)  # fmt: skip
def test_a_strange_cpuid_names_its_likely_cause(cycles: float, nested: bool, cause: str) -> None:
    assert cause in likely_cause(cycles, nested)


def test_a_count_does_not_drown_in_the_longest_of_its_rounds() -> None:
    """Most counts of a round are equal, so its one interrupted group is no step of a clock."""
    interrupted = [
        replace(
            each,
            pairs=tuple(
                replace(pair, quantiles={**pair.quantiles, "max": (None, pair.guest_s + 3e-5)})
                for pair in each.pairs
            ),
        )
        for each in kvm_result().items
    ]
    (panel,) = gather([replace(kvm_result(), items=tuple(interrupted))]).panels
    assert exits.clock_step(panel, "kvm-virtio") == 0
    assert exits.exit_costs(panel, "kvm-virtio")["CPUID"] == pytest.approx(1e-6)


def test_the_chapter_names_the_dearest_event_that_its_table_has() -> None:
    def opened(timer_ns: float) -> str:
        timer = event("exit-interrupt-timer", timer_ns, exits={"INTR": 1.1})
        timer = replace(
            timer, host=TESTBED.identity, host_kind=TESTBED.kind, time_base=TESTBED.time_base
        )
        made = kvm_result()
        return exits.sentence(panel_of(replace(made, items=(*made.items, timer))))

    alone = (
        "Of the events that are one exit each, the cheapest is CPUID in `kvm-virtio` (1,000 "
        "instr.), the most expensive port 0x80 (POST) in `kvm-virtio` (5,000 instr.)"
    )
    assert opened(1100) == f"{alone}."
    assert opened(9100) == (
        f"{alone}; timer interrupt in `kvm-virtio` (9,000 instr.) costs more: other exits "
        "come with it."
    )
