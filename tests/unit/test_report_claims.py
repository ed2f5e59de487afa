"""Verdicts: each claim is judged by its own workloads, in all its parts, and can come out either
way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from sample_results import LOCAL, TESTBED, item, launch, pairs, result
from test_report_exits import event, judged, kvm_result, panel_of, shown

from vbench import report
from vbench.model import TAKEN_OFF, HostFacts, Item, Pair, Result, Technique, TimeBase
from vbench.records import (
    Attestation,
    Declaration,
    DeviceModel,
    Hypervisor,
    HypervisorType,
    Observed,
)
from vbench.report import exits, sections
from vbench.results.stats import LOW_MAX

KVM = Hypervisor("KVM", "Linux", HypervisorType.HYBRID, "a test")
BARE = replace(LOCAL, facts={**LOCAL.facts, "virtualization": "none"})


def kvm(*items: Item, host: HostFacts = BARE, module: str = "") -> Result:
    """Items as of kvm-virtio on `host`, whose launch attested `module`."""
    made = [
        replace(i, variant="kvm-virtio", backend="kvm-virtio", technique=Technique.HARDWARE,
                host=host.identity, host_kind=host.kind, time_base=host.time_base)
        for i in items
    ]  # fmt: skip
    seen = Attestation("KVM; disk virtio_blk", module=module)
    return result(*made, host=host, launches=(launch("kvm-virtio", 0, attestation=seen),))


def unaware(*items: Item, interface: str = "") -> Result:
    seen = Observed(hypervisor=interface)
    return result(*items, host=BARE, launches=(launch("tcg", 0, observed=seen),))


def verdict(key: str, *results: Result) -> str:
    return judged(*results)[key][2]


def test_translation_is_judged_by_the_workloads_named_for_it() -> None:
    slow = item("cpu-prime", pairs(7.0))
    assert verdict("T1", unaware(slow)) == "confirmed"
    assert verdict("T1", unaware(slow, item("cpu-spin", pairs(1.0)))) == "confirmed"
    assert verdict("T1", unaware(item("cpu-spin", pairs(7.0)))).startswith("not measured here")


def test_translation_needs_both_an_unaware_guest_and_a_cost() -> None:
    assert verdict("T1", unaware(item("cpu-prime", pairs(1.05)))) == "refuted"
    slow = item("cpu-prime", pairs(7.0))
    assert verdict("T1", unaware(slow, interface="KVM")) == "refuted"
    assert verdict("T1", result(slow, host=BARE)) == "inconclusive"  # nothing observed
    once = item("cpu-prime", pairs(7.0, boots=1))
    assert verdict("T1", unaware(once)) == "inconclusive"


def pv(overhead: float, calls: Mapping[str, float], **changes: Any) -> Result:
    seen = Observed(hypervisor="Xen PV")
    common: dict[str, Any] = {
        "variant": "xen-pv", "backend": "xen-pv", "technique": Technique.PARA, **changes,
    }  # fmt: skip
    made = item("syscall-getppid", pairs(overhead), category="syscall", exits=calls, **common)
    return result(made, host=BARE, launches=(launch("xen-pv", 0, observed=seen),))


def test_a_paravirtual_guest_is_judged_in_three_parts() -> None:
    translated = unaware(item("syscall-getppid", pairs(20.0), category="syscall"))
    calls = {"hypercall iret": 1.0}
    assert verdict("T2", pv(3.0, calls), translated) == "confirmed"
    assert verdict("T2", pv(30.0, calls), translated) == "refuted"
    assert verdict("T2", pv(3.0, {"page fault": 1.0}), translated) == "refuted"
    assert verdict("T2", pv(3.0, {}), translated) == "inconclusive"  # nothing was counted
    assert verdict("T2", pv(3.0, calls)) == "inconclusive"  # nothing to compare it with


def uml(overhead: float) -> Result:
    """A paravirtual guest whose kernel reports no interface, because it calls none."""
    made = item("syscall-getppid", pairs(overhead), category="syscall", variant="uml",
                backend="uml", technique=Technique.PARA)  # fmt: skip
    seen = (launch("uml", 0, observed=Observed(hypervisor="")),)
    return result(made, variant="uml", host=BARE, launches=seen)


def test_a_guest_without_hypercalls_stands_beside_one_that_has_some() -> None:
    translated = unaware(item("syscall-getppid", pairs(20.0), category="syscall"))
    calls = {"hypercall iret": 1.0}
    row = judged(pv(3.0, calls), uml(90.0), translated)["T2"]
    assert row[2] == "confirmed"
    assert "beside, without hypercalls: system calls: overhead of `uml` is 4." in row[3]
    assert verdict("T2", uml(90.0), translated) == "refuted"  # alone it stands for the column
    assert verdict("T2", pv(3.0, {"page fault": 1.0}), uml(90.0), translated) == "refuted"


def test_a_guest_without_hypercalls_is_not_judged_where_another_host_has_one_that_calls() -> None:
    there = replace(BARE, identity="local:other")
    para = pv(3.0, {"hypercall iret": 1.0}, host=there.identity)
    text = report.render([uml(90.0), replace(para, host=there)], plots_dir=None).markdown
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("| T2"))
    assert "`xen-pv`" in lines[at]
    assert (
        "not measured here (the claim is about hypercalls, and this guest's kernel reports nothing "
        "to call; one that calls stands above)" in (lines[at + 1])
    )


def test_what_nothing_can_decide_stands_once_for_all_hosts() -> None:
    made = []
    for name in ("a", "b"):
        of = item("cpu-prime", pairs(1.0), technique=Technique.PARA, host=f"local:{name}")
        where = (launch("tcg", 0, attestation=Attestation("seen", ring=3)),)
        host = replace(BARE, identity=f"local:{name}")
        made.append(result(of, host=host, launches=where))
    text = report.render(made, plots_dir=None).markdown
    assert text.count("not testable on x86-64") == 1
    assert (
        "| ring 3: the kernel of `tcg`; ring 3: the kernel of `tcg` | `local:a`, `local:b` |"
        in (" ".join(text.split()))
    )


def test_a_dear_kind_of_work_does_not_hide_behind_a_cheap_one() -> None:
    def of(computing: float, calls: float) -> list[Item]:
        return [
            item("cpu-prime", pairs(computing)),
            item("syscall-getppid", pairs(calls), category="syscall", exits={"hypercall a": 1.0}),
        ]

    common: dict[str, Any] = {"variant": "uml", "backend": "uml", "technique": Technique.PARA}
    seen = launch("uml", 0, observed=Observed(hypervisor="User-mode Linux"))
    para = result(*(replace(i, **common) for i in of(1.01, 80.0)), host=BARE, launches=(seen,))
    row = judged(para, unaware(*of(7.0, 6.0)))["T2"]
    assert row[2] == "refuted"
    assert re.search(r"computing: overhead of `uml` is 0\.14\d", row[3])
    assert re.search(r"system calls: overhead of `uml` is 13\.\d", row[3])


def test_one_boot_of_one_variant_leaves_the_others_to_judge() -> None:
    near = kvm(item("cpu-prime", pairs(1.02)))
    single = result(
        item(
            "cpu-prime",
            pairs(1.02, boots=1),
            variant="virtualbox",
            backend="virtualbox",
            technique=Technique.HARDWARE,
        ),
        host=BARE,
        variant="virtualbox",
    )
    row = judged(near, single)["T3"]
    assert row[2] == "confirmed"
    assert "not judged, because of one boot: `virtualbox`" in row[3]


def test_nested_paging_is_judged_by_those_with_several_boots() -> None:
    def of(name: str, boots: int) -> list[Result]:
        hypervisor = Hypervisor(name, "v", HypervisorType.HYBRID, "s")
        made = []
        for variant, overhead in ((name, 1.0), (f"{name},nested_paging=off", 6.0)):
            off = variant != name
            fault = item("memory-pagefault", pairs(overhead, boots=boots), category="memory",
                         unit="fault", variant=variant, technique=Technique.HARDWARE)  # fmt: skip
            declared = Declaration(hypervisor, contrast_to=name if off else "", shadow_paging=off)
            made.append(result(fault, host=BARE, variant=variant, declaration=declared))
        return made

    row = judged(*of("one", 5), *of("other", 1))["T4"]
    assert row[2] == "confirmed"
    assert row[3].count("nested paging / shadow paging") == 2
    assert row[3].count("(not judged, because of one boot)") == 1
    row = judged(*of("other", 1))["T4"]
    assert row[2] == "inconclusive"
    assert "(not judged, because of one boot)" in row[3]


def test_near_native_is_an_equivalence_test() -> None:
    def of(overhead: float, **changes: Any) -> str:
        return verdict("T3", kvm(item("cpu-prime", pairs(overhead, **changes))))

    assert of(1.02) == "confirmed"
    assert of(1.5) == "refuted"
    assert of(LOW_MAX) == "inconclusive"
    assert of(1.02, spread=0.5) == "inconclusive"  # no difference was found: that proves nothing
    assert of(1.02, boots=1) == "inconclusive"


def test_a_kernel_module_can_be_another_than_hardware_s() -> None:
    near = item("cpu-prime", pairs(1.01))
    assert verdict("T5", kvm(near)).startswith("not measured here")
    assert verdict("T5", kvm(near, module="kvm_amd")) == "confirmed"
    assert verdict("T5", kvm(near, module="kvm_pvm")) == "refuted"
    assert verdict("T5", kvm(item("cpu-prime", pairs(9.0)), module="kvm_amd")) == "refuted"
    assert verdict("T5", kvm(item("cpu-aes", ()), module="kvm_amd")) == "inconclusive"


def test_the_cpu_s_flag_and_the_modules_are_observed_not_inferred() -> None:
    def on(**facts: str) -> dict[str, list[str]]:
        return judged(
            result(item("a", pairs(2.0)), host=replace(BARE, facts={**BARE.facts, **facts}))
        )

    assert on(virtualization_flag="svm")["D1"][2] == "confirmed"
    assert on(virtualization_flag="none")["D1"][2] == "refuted"
    assert on()["D1"][2].startswith("not measured here (the flags")
    assert on(kvm_modules="kvm kvm_amd")["D2"][2] == "confirmed"
    assert on(kvm_modules="none")["D2"][2] == "refuted"


def test_a_virtual_machine_that_cannot_be_created_refutes_d3() -> None:
    why = (("kvm-virtio", Technique.HARDWARE.value, "/dev/kvm interprets", "use the testbed"),)
    refused = result(item("a", pairs(2.0)), host=BARE, unavailable=why)
    assert verdict("D3", refused) == "refuted"
    assert "interprets" in judged(refused)["D3"][3]
    assert verdict("D3", kvm(item("cpu-aes", pairs(1.0)))) == "confirmed"
    assert verdict("D3", result(item("a", pairs(2.0)))).startswith("not measured here")


@pytest.mark.parametrize(
    ("of_boots", "expected"),
    [((800, 900), "confirmed"), ((60, 900), "inconclusive"), ((20, 30), "refuted"),
     ((30_000, 40_000), "refuted"), ((800,), "inconclusive")],
)  # fmt: skip
def test_the_cost_of_an_exit_is_judged_by_its_boots(
    of_boots: tuple[int, ...], expected: str
) -> None:
    template = event("exit-cpuid", 100, exits={"CPUID": 1.0})
    one = template.pairs[0]
    made = tuple(
        replace(
            one,
            boot=boot,
            guest_s=1e-6,
            counters={"tsc_ticks": 1000.0},  # one tick a nanosecond
            quantiles={
                "p50": (None, (50 + cycles) / 1e9),
                "p99": (None, (51 + cycles) / 1e9),  # the clock's step is 1 ns
            },
        )
        for boot, cycles in enumerate(of_boots)
    )
    control = event("exit-control-empty", 50)
    if len(of_boots) == 1:
        control = replace(control, pairs=control.pairs[:1])
    assert verdict("E2", kvm(replace(template, pairs=made), control)) == expected


def devices(emulated: tuple[float, ...], virtio: tuple[float, ...]) -> list[Result]:
    out = []
    for variant, model, counts in (
        ("kvm-emulated", DeviceModel.EMULATED, emulated),
        ("kvm-virtio", DeviceModel.PARAVIRTUAL, virtio),
    ):
        made = item(
            "disk-randread-qd1",
            [Pair(1e-5, 2e-5, boot, (), {"exits": n}) for boot, n in enumerate(counts)],
            category="disk",
            unit="operation",
            exits={"IOIO": counts[0]},
            variant=variant,
            backend=variant,
            technique=Technique.HARDWARE,
        )
        declared = Declaration(hypervisor=KVM, devices=model)
        out.append(result(made, host=BARE, declaration=declared))
    return out


def test_fewer_exits_need_a_threshold_and_a_repetition() -> None:
    assert verdict("E4", *devices((28.0, 29.0), (3.0, 3.2))) == "confirmed"
    assert verdict("E4", *devices((28.0, 29.0), (27.0, 27.5))) == "refuted"  # fewer, but hardly
    assert verdict("E4", *devices((28.0, 29.0), (3.0, 40.0))) == "inconclusive"
    assert verdict("E4", *devices((28.0,), (3.0,))) == "inconclusive"
    assert "counted once" in judged(*devices((28.0,), (3.0,)))["E4"][3]


def test_counts_decide_counts_and_are_consistent_about_time() -> None:
    rows = judged(kvm_result())
    assert rows["E2"][2] == "consistent (counted, not timed)"
    exits_of = [
        replace(i, exits={"INTR": 1.0}) for i in kvm_result().items if "cpuid" in i.workload
    ]
    assert judged(result(*exits_of, host=TESTBED))["E1"][2] == "refuted by count"


def test_a_time_in_an_emulated_machine_confirms_nothing() -> None:
    clocked = replace(TESTBED, time_base=TimeBase.WALL)
    near = kvm(item("cpu-prime", pairs(1.02)), host=clocked)
    assert verdict("T3", near) == "consistent (timed in an emulated machine)"


def test_a_hypercall_is_compared_with_each_trapped_instruction() -> None:
    def with_call(ns: float) -> str:
        made = kvm_result(BARE)
        call = event("exit-hypercall", ns, None, exits={"VMMCALL": 1.0})
        others = [i for i in made.items if i.workload != "exit-hypercall"]
        return verdict("Q3", result(*others, call, host=BARE))

    assert with_call(600) == "confirmed"  # CPUID is 1,100, the port 5,700
    assert with_call(2000) == "refuted"


def test_a_paravirtual_guest_s_hypercall_is_compared_with_what_its_kernel_may_not_do() -> None:
    common: dict[str, Any] = {"variant": "xen-pv", "technique": Technique.PARA}
    port = event("exit-port-kernel", 5000, exits={"privileged instruction": 1.0}, **common)
    free = event("exit-cpuid", 120, exits={"privileged instruction": 0.0}, **common)
    made = [
        event("exit-control-hypercall", 700, **common),
        event("exit-hypercall", 1200, exits={"hypercall xen_version": 1.0}, **common),
        event("exit-control-empty", 100, **common),
        event("exit-control-read", 800, **common),
        free,
        port,
    ]
    row = judged(result(*made, host=BARE))["Q3"]
    assert row[2] == "confirmed"
    assert "in `xen-pv` a hypercall (500 ns) costs less than port 0x21" in row[3]
    assert "CPUID" not in row[3]  # a program's CPUID does not leave


def test_nothing_that_a_subtraction_drowns_is_shown() -> None:
    def one(*medians: float, workload: str = "exit-cpuid") -> Item:
        made = event(workload, 100)
        of = [
            replace(
                made.pairs[0],
                boot=boot,
                quantiles={"min": (None, (p50 - 10) / 1e9), "p50": (None, p50 / 1e9)},
            )
            for boot, p50 in enumerate(medians)
        ]
        return replace(made, pairs=tuple(of))

    def cost(*medians: float) -> str:
        empty = one(80, 80, workload="exit-control-empty")
        return shown(exits.costs(panel_of(result(empty, one(*medians)))))

    assert "below the clock's step |" in cost(82, 84)
    assert "not above its control" in cost(75, 100)
    assert "| 20.0 " in cost(100, 100)
    assert "| 2.50 " not in cost(75, 90)


def test_counters_that_drown_in_the_program_s_start_are_not_shown() -> None:
    negative = item("a", [Pair(1.0, 2.0, b, (), {"host_cpu_s": n, "vm": n})
                          for b, n in ((0, -1.0), (1, 3.0))])  # fmt: skip
    panel = panel_of(result(negative))
    assert "Host CPU" not in shown(sections.workloads(panel))


@pytest.mark.parametrize(("taken_off", "told"), [(0.5, True), (1.5, False)])
def test_what_is_less_than_what_was_taken_off_is_not_shown(taken_off: float, told: bool) -> None:
    """On the wall clock: a tenth more or less of the one would be all of the other."""
    counted = {"host_cpu_s": 1.0, "host_cpu_s" + TAKEN_OFF: taken_off}
    panel = panel_of(result(item("a", [Pair(1.0, 2.0, boot, (), counted) for boot in (0, 1)])))
    assert ("Host CPU" in shown(sections.workloads(panel))) is told
    assert TAKEN_OFF not in shown(sections.counters(panel))


def test_rings_are_those_in_which_kernels_were_seen() -> None:
    def seen(technique: Technique, ring: int | None) -> dict[str, list[str]]:
        made = item("cpu-prime", pairs(1.0), technique=technique)
        where = (launch("tcg", 0, attestation=Attestation("seen", ring=ring)),)
        return judged(result(made, host=BARE, launches=where))

    assert seen(Technique.HARDWARE, 0)["R2"][2] == "confirmed"
    assert seen(Technique.HARDWARE, 3)["R2"][2] == "refuted"
    there = seen(Technique.PARA, 3)["R1"]
    assert there[2].startswith("not measured here (not testable on x86-64: ")
    assert there[3] == "ring 3: the kernel of `tcg`"
    assert seen(Technique.PARA, 0)["R1"][2] == "refuted"
    assert seen(Technique.PARA, 1)["R1"][2] == "confirmed"
    assert seen(Technique.PARA, None)["R1"][2].startswith("not measured here")


def test_a_port_that_reports_no_interface_refutes_nothing() -> None:
    made = pv(3.0, {})
    quiet = replace(made, launches=(launch("xen-pv", 0, observed=Observed(hypervisor="")),))
    translated = unaware(item("syscall-getppid", pairs(20.0), category="syscall"))
    assert verdict("T2", quiet, translated) == "inconclusive"
    assert "reports nothing" in judged(quiet, translated)["T2"][3]
