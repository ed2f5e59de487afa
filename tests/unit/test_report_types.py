# ruff: noqa: RUF001 - the report shows a multiplication sign
"""Type 1 against type 2: the second table, its chapter, and the claims about types."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from sample_results import LOCAL, TESTBED, item, launch, pairs, result
from test_report_exits import event, judged
from test_report_first import BARE, screen, table

from vbench import report
from vbench.model import HostFacts, Launch, Pair, Result, Status, Technique
from vbench.records import (
    Access,
    Attestation,
    Clock,
    Declaration,
    DeviceSettings,
    Hypervisor,
    HypervisorType,
    Installation,
    Phase,
    Place,
)
from vbench.report import types_table
from vbench.results import reading, store

ONE, HYBRID, TWO = HypervisorType.ONE, HypervisorType.HYBRID, HypervisorType.TWO


def of_type(
    name: str,
    kind: HypervisorType,
    overhead: float = 1.02,
    *,
    place: Place | None = None,
    **changes: Any,
) -> Result:
    technique = changes.pop("technique", Technique.HARDWARE)
    module = changes.pop("module", "")
    made = item("cpu-prime", pairs(overhead, seed=name), variant=name, backend=name,
                technique=technique)  # fmt: skip
    declared = Declaration(Hypervisor(name.upper(), "its vendor", kind, "its manual"))
    if place is not None:
        seen = Attestation(name, module=module, place=place)
        phase = Phase("launch", "command", Clock.CLIENT, 4.0)
        changes["launches"] = (launch(name, 0, attestation=seen, phases=(phase,)),)
    return result(made, host=changes.pop("host", BARE), declaration=declared, **changes)


def installed(packages: int, mib: float) -> Installation:
    return Installation("bookworm", ("it",), packages, mib, "2026-01-31")


def chapter(*results: Result) -> str:
    text = report.render(results, plots_dir=None).markdown
    return text.partition("\n## Type 1 and type 2\n")[2].partition("\n## ")[0]


# ---------------------------------------------------------------- the first screen


def test_the_table_of_types_is_the_introduction_s() -> None:
    xen = of_type("xen", ONE, place=Place.BENEATH)
    kvm = of_type("kvm", HYBRID, place=Place.MODULE, module="kvm_amd")
    rows = table(screen(xen, kvm, of_type("box", TWO, 1.4)))[6:]
    names = ("Installation", "Performance: computing / memory / system calls, guest ÷ native",
             "Primary use", "Management complexity: packages / MiB / s from launch to first "
             "command; what it takes", "Key products")  # fmt: skip
    assert [row[0] for row in rows] == [f"**{name}**" for name in names]
    install, performance, _, effort, products = rows
    assert install[1] == "directly on hardware; XEN: beneath the host's kernel"
    assert install[2].endswith("KVM: module `kvm_amd`")
    assert install[3] == "on top of a host OS"  # nobody saw where it is
    assert [cell[:6] for cell in performance[1:]] == ["XEN ×1", "KVM ×1", "BOX ×1"]
    assert effort[1:] == ["XEN — / — / 4.00, a reboot", "KVM — / — / 4.00", "not measured"]
    assert products[1].endswith("measured here: XEN")


def test_a_hypervisor_whose_guests_all_failed_is_not_measured() -> None:
    made = of_type("box", TWO)
    failed = tuple(
        replace(i, status=Status.FAILED, reason="it broke", pairs=()) for i in made.items
    )
    lost = replace(made, items=failed, launches=())
    kvm = of_type("kvm", HYBRID)
    assert table(screen(kvm, lost))[10][3].endswith("measured here: none")
    assert "Measured here: KVM (hybrid)." in chapter(kvm, lost)


def test_all_hypervisors_of_a_type_are_shown_hardware_assisted_before_others() -> None:
    translating = of_type("abc", TWO, 7.0, technique=Technique.FULL, installation=installed(57, 9))
    assisted = of_type("box", TWO, installation=installed(1, 2.0))
    rows = table(screen(translating, assisted))
    assert re.fullmatch(r"BOX ×1\S+ / — / —<br>ABC, translating ×\d\S+ / — / —", rows[7][3])
    assert rows[9][3] == "BOX 1 / 2.00 / —<br>ABC 57 / 9.00 / —"
    assert rows[10][3].endswith("measured here: BOX, ABC")


def test_seconds_of_the_testbed_s_clock_are_marked() -> None:
    counted = of_type("xen", ONE, place=Place.BENEATH, host=TESTBED)
    items = tuple(replace(i, host=TESTBED.identity, host_kind=TESTBED.kind,
                          time_base=TESTBED.time_base) for i in counted.items)  # fmt: skip
    row = table(screen(replace(counted, items=items)))[9]
    assert row[1] == "XEN — / — / 4.00†, a reboot"


def test_seconds_to_a_first_command_stand_apart_by_how_guests_start() -> None:
    def started(start: str, seconds: float, variant: str = "kvm") -> Launch:
        phase = Phase("launch", "command", Clock.CLIENT, seconds)
        return launch(variant, 0, phases=(phase,), device=DeviceSettings(start=start))

    # the second one was launched for a workload with options of its own
    both = started("PVH, vmlinux", 1.8), started("firmware, bzImage", 8.6, "kvm,firmware=on")
    kvm = of_type("kvm", HYBRID, launches=both)
    box = of_type("box", TWO, launches=(started("BIOS, ISO", 8.2, "box"),))
    row = table(screen(kvm, box))[9]
    assert row[2:] == ["KVM — / — / 1.80 (PVH) or 8.60 (firmware)", "BOX — / — / 8.20 (BIOS)"]
    assert "Compare like starts" in screen(kvm, box)
    assert "Compare like starts" not in screen(of_type("kvm", HYBRID, place=Place.MODULE))
    assert "8.60 `kvm,firmware=on`<br><sub>by firmware, bzImage</sub>" in chapter(kvm, box)


def test_what_the_introduction_says_twice_of_kvm_is_said_alike_everywhere() -> None:
    made = of_type("kvm", HYBRID), of_type("box", TWO, 1.4)
    assert screen(*made).count(types_table.HYBRID) == chapter(*made).count(types_table.HYBRID) == 1
    rows = judged(*made)
    assert "hybrid" in rows["H1"][1]
    assert "hybrid" in rows["Q1"][1]
    assert "type 1" in rows["H3"][1]


def test_what_was_counted_is_in_the_table_and_what_was_not_is_no_number() -> None:
    counted = of_type("xen", ONE, installation=installed(34, 66.7))
    not_counted = replace(installed(0, 0), packages=None, disk_mib=None, reason="no network | here")
    other = of_type("box", TWO, place=Place.PROCESS, installation=not_counted)
    effort = table(screen(counted, other))[9]
    assert effort[1] == "XEN 34 / 66.7 / —"
    assert effort[3] == "BOX — / — / 4.00"
    text = chapter(counted, other)
    assert "`it` of Debian bookworm<br><sub>on 2026-01-31</sub> | 34 | 66.7 | — |" in text
    assert "<sub>not counted: no network \\| here</sub> | — | — | no |" in text


def test_of_two_ways_to_one_hypervisor_the_smaller_is_its_own() -> None:
    large = of_type("kvm", HYBRID, installation=installed(171, 245.3))
    small = replace(large, variant="kvm,x", installation=installed(57, 123.0),
                    items=tuple(replace(i, variant="kvm,x") for i in large.items))  # fmt: skip
    assert table(screen(large, small))[9][2] == "KVM 57 / 123 / —"


def test_the_machine_that_most_ran_on_fills_the_row_of_performance() -> None:
    here = [of_type("kvm", HYBRID), of_type("box", TWO)]
    fast = of_type("kvm", HYBRID, 9.0, host=replace(BARE, identity="local:other"))
    row = table(screen(*here, fast))[7]
    assert row[2].startswith("KVM ×1.0")
    assert row[3].startswith("BOX ×1.0")


# ---------------------------------------------------------------- the chapter


def test_every_hypervisor_has_a_row_with_the_source_of_its_type() -> None:
    text = chapter(of_type("xen", ONE, place=Place.BENEATH), of_type("odd", HypervisorType.UNKNOWN))
    assert text.strip().startswith("Measured here: XEN (type 1), ODD (of a type unknown).")
    assert "beneath the host's kernel<br><sub>by launches of `xen`</sub>" in text
    assert "type 1<br><sub>its manual</sub>" in text
    assert "not seen from here" in text
    assert "not counted: no packages are declared | — | — | yes |" in text
    assert "not timed" in text


@pytest.mark.parametrize(
    ("who", "host", "stated", "told"),
    [
        ("group kvm", BARE, None, ", launched by group kvm"),
        ("group kvm", BARE, "any user: so they say", ", launched by group kvm"),
        ("root", TESTBED, "group kvm: by udev", ", launched by group kvm (stated)"),
        ("root", TESTBED, "root", ", launched by root"),
        ("root", TESTBED, None, ", launched by root in the testbed"),
    ],
)
def test_who_may_launch_is_seen_on_a_machine_with_a_distribution_or_stated(
    who: str, host: HostFacts, stated: str | None, told: str
) -> None:
    made = of_type("box", TWO, place=Place.MODULE, host=host)
    (one,) = made.launches
    seen = replace(one.attestation, access=Access(who, "crw-rw---- root kvm /dev/kvm"))
    facts = {"access": {"text": stated, "source": "its manual"}} if stated else {}
    items = tuple(replace(i, host=host.identity, host_kind=host.kind, time_base=host.time_base)
                  for i in made.items)  # fmt: skip
    made = replace(made, launches=(replace(one, attestation=seen),), facts=facts, items=items)
    assert table(screen(made))[9][3].endswith(told)
    text = chapter(made)
    assert f"{who}<br><sub>seen on `{host.identity}`: crw-rw---- root kvm /dev/kvm</sub>" in text
    assert ("<sub>stated: " in text) is (stated is not None)


def test_root_is_not_needed_only_where_somebody_did_without() -> None:
    def on(user: str) -> str:
        host = replace(BARE, facts={**BARE.facts, "user": user})
        return chapter(of_type("box", TWO, place=Place.PROCESS, host=host))

    assert "launched without root on `local:myserver`" in on("not root")
    assert "launched by root here" in on("root")
    assert "not recorded" in chapter(of_type("box", TWO, place=Place.PROCESS))


@pytest.mark.parametrize("user", ["root", "not root"])
def test_who_logs_in_to_a_machine_that_was_there_did_not_launch_it(user: str) -> None:
    host = replace(BARE, facts={**BARE.facts, "user": user})
    cloud = of_type("cloud", ONE, host=host, launches=(launch("cloud", 0),))
    row = next(line for line in chapter(cloud).splitlines() if "**CLOUD**" in line)
    assert "not seen from here" in row
    assert "not recorded" in row
    assert "launched" not in row


def test_hypervisors_are_compared_on_one_machine_by_operation_and_event() -> None:
    declared = {
        "xen": Declaration(Hypervisor("Xen", "v", ONE, "s")),
        "kvm": Declaration(Hypervisor("KVM", "v", HYBRID, "s")),
        "kvm,off": Declaration(Hypervisor("KVM", "v", HYBRID, "s"), contrast_to="kvm",
                               shadow_paging=True),
    }  # fmt: skip
    made = []
    for variant, factor in (("xen", 1.5), ("kvm", 1.1), ("kvm,off", 3.0)):
        common: dict[str, Any] = {"variant": variant,
                                  "technique": Technique.HARDWARE}  # fmt: skip
        fault = item("memory-pagefault", [Pair(3e-6, factor * 3e-6, b) for b in (0, 1)],
                     category="memory", unit="fault", **common)  # fmt: skip
        events = [
            event("exit-control-empty", 100, **common),
            event("exit-cpuid", 100 + 1000 * factor, exits={"CPUID": 1.0}, **common),
        ]
        of = [replace(i, host=TESTBED.identity, host_kind=TESTBED.kind,
                      time_base=TESTBED.time_base) for i in (fault, *events)]  # fmt: skip
        made.append(result(*of, host=TESTBED, declaration=declared[variant]))
    text = chapter(*made)
    assert "The same work on `testbed:myserver`, counted in instructions" in text
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in text.splitlines()
            if line.startswith("| ")}  # fmt: skip
    xen, kvm = rows["Page fault"]
    assert "×1.50" in xen
    assert "3,000 → 3,300" in kvm
    xen, kvm = rows["Page fault without nested paging"]
    assert xen.strip() == "—"
    assert "×3.00" in kvm
    xen, kvm = rows["Event: CPUID"]
    assert "1,500<br><sub>1.00 exits for it</sub>" in xen
    assert "1,100<br>" in kvm
    assert "Task switch" not in rows  # nobody measured it


def test_a_hypervisor_has_a_line_and_a_column_for_each_technique() -> None:
    made = of_type("xen", ONE)
    para = replace(made, variant="xen-pv", items=tuple(
        replace(i, variant="xen-pv", technique=Technique.PARA) for i in made.items))  # fmt: skip
    cell = table(screen(made, para))[7][1]
    assert re.fullmatch(r"XEN ×1\S+ / — / —<br>XEN, paravirtual ×1\S+ / — / —", cell)
    lines = chapter(made, para).splitlines()
    (head,) = (line for line in lines if line.startswith("| Operation or event"))
    columns = [cell.strip() for cell in head.split("|")[2:-1]]
    assert columns == ["XEN (type 1)<br>`xen`, ns", "XEN (type 1, paravirtual)<br>`xen-pv`, ns"]


def test_hypervisors_are_compared_with_the_drivers_of_their_guests() -> None:
    made = []
    for name, kind, disk in (("kvm", HYBRID, "; disk virtio_blk"), ("box", TWO, "")):
        seen = Attestation(f"{name}{disk}; network virtio_net")
        made.append(of_type(name, kind, launches=(launch(name, 0, attestation=seen),)))
    text = chapter(*made)
    assert "| Driver of the disk in the guest, attested | virtio\\_blk | — |" in text
    assert "| Driver of the network in the guest, attested | virtio\\_net | virtio\\_net |" in text


def test_one_hypervisor_alone_is_compared_with_none() -> None:
    assert "The same work" not in chapter(of_type("kvm", HYBRID))


def test_counts_of_each_hypervisor_are_told_with_interrupts_too() -> None:
    grouped = [Pair(2e-7, 2e-7, boot, quantiles={"mean": (2e-7, 2.04e-7)}, equal=(0.99, 0.99))
               for boot in (0, 1)]  # fmt: skip
    one = item("cpu-prime", grouped, variant="xen", technique=Technique.HARDWARE,
               host=TESTBED.identity, host_kind=TESTBED.kind,
               time_base=TESTBED.time_base)  # fmt: skip
    declared = Declaration(Hypervisor("Xen", "v", ONE, "s"))
    text = chapter(result(one, host=TESTBED, declaration=declared))
    assert "computing costs ×1.00 under Xen (2 % more with interrupts), counted" in text
    assert "median groups" in text
    assert "median groups" not in chapter(of_type("xen", ONE))


# ---------------------------------------------------------------- claims


def test_types_are_compared_by_one_technique_only() -> None:
    xen, box = of_type("xen", ONE, 1.02), of_type("box", TWO, 1.4)
    assert judged(xen, box)["Q1"][2] == "confirmed"
    assert judged(xen, box)["Q1"][3].startswith("over cpu-prime: overhead of `xen` is ")
    assert "measured: only BOX; the use for desktops is stated" in judged(xen, box)["H2"][3]
    assert judged(of_type("kvm", HYBRID, 1.02), box)["Q1"][2] == "confirmed"  # counted as type 1
    assert judged(of_type("xen", ONE, 1.9), box)["Q1"][2] == "refuted"
    once = tuple(replace(i, pairs=tuple(p for p in i.pairs if p.boot == 0)) for i in box.items)
    _, _, verdict, why, _ = judged(xen, replace(box, items=once))["Q1"]
    assert verdict == "inconclusive"
    assert why.endswith("(one boot is not enough)")
    translated = of_type("box", TWO, 7.0, technique=Technique.FULL)
    assert judged(xen, translated)["Q1"][2].startswith("not measured here")
    elsewhere = of_type("box", TWO, 1.4, host=replace(BARE, identity="local:other"))
    assert judged(xen, elsewhere)["Q1"][2].startswith("not measured here")


@pytest.mark.parametrize(
    ("kind", "overhead", "verdict"),
    [(ONE, 1.02, "confirmed"), (ONE, 3.0, "refuted"), (ONE, 1.1, "inconclusive"),
     (HYBRID, 1.02, "confirmed"), (TWO, 1.4, "confirmed"), (TWO, 1.01, "refuted"),
     (TWO, 3.0, "refuted"), (TWO, 2.0, "inconclusive")],
)  # fmt: skip
def test_a_type_is_judged_by_its_speed(kind: HypervisorType, overhead: float, verdict: str) -> None:
    assert judged(of_type("it", kind, overhead))["H2" if kind is TWO else "H1"][2] == verdict


def test_a_type_is_judged_by_where_it_was_seen() -> None:
    def h1(kind: HypervisorType, place: Place) -> str:
        return judged(of_type("it", kind, place=place))["H1"][2]

    assert h1(ONE, Place.BENEATH) == h1(HYBRID, Place.MODULE) == "confirmed"
    assert h1(ONE, Place.PROCESS) == h1(HYBRID, Place.PROCESS) == "refuted"
    slow = of_type("box", TWO, 1.4, place=Place.BENEATH)
    assert judged(slow)["H2"][2] == "refuted"


def test_a_type_is_not_judged_by_its_technique_or_by_kernels_that_differ() -> None:
    translated = of_type("it", TWO, 1.4, technique=Technique.FULL)
    assert judged(translated)["H2"][2].startswith("not measured here")
    calls = item("syscall-getppid", pairs(9.0), category="syscall", variant="it", backend="it",
                 technique=Technique.HARDWARE, flags=("kernel_differs",))  # fmt: skip
    fast = of_type("it", ONE)
    both = replace(fast, items=(*fast.items, calls))
    assert judged(both)["H1"][2] == "confirmed"
    assert "not judged" in judged(both)["H1"][3]
    assert judged(replace(fast, items=(calls,)))["H1"][2] == "inconclusive"


def test_a_hybrid_is_a_module_and_a_process() -> None:
    kvm = of_type("kvm", HYBRID, place=Place.MODULE, module="kvm_amd")
    box = of_type("box", TWO, place=Place.MODULE, module="vboxdrv")
    assert judged(kvm)["H3"][2] == "confirmed"
    assert "called type 2, was seen to be the same" in judged(kvm, box)["H3"][3]
    assert judged(of_type("kvm", HYBRID, place=Place.PROCESS))["H3"][2] == "refuted"
    assert judged(of_type("kvm", HYBRID))["H3"][2].startswith("not measured here")
    assert judged(box)["T5"][2].startswith("not measured here")  # its module is not KVM


def test_a_hybrid_is_as_fast_as_one_type_and_as_convenient_as_the_other() -> None:
    xen = of_type("xen", ONE, 1.02, place=Place.BENEATH)

    def q2(overhead: float, mib: float, place: Place = Place.MODULE) -> str:
        kvm = of_type("kvm", HYBRID, overhead, place=place, installation=installed(60, mib))
        box = of_type("box", TWO, installation=installed(70, 100.0))
        return judged(xen, kvm, box)["Q2"][2]

    def against(*others: Result) -> list[str]:
        kvm = of_type("kvm", HYBRID, place=Place.MODULE, installation=installed(60, 90.0))
        return judged(xen, kvm, *others)["Q2"][2:4]

    large = of_type("box", TWO, installation=installed(70, 100.0))
    small = of_type("uml", TWO, 7.0, technique=Technique.PARA, installation=installed(1, 9.0))
    assert against(large, small)[0] == "confirmed"
    assert "UML 1 package of 9.00 MiB (Debian bookworm) (by another" in against(large, small)[1]
    assert against(small)[0] == "inconclusive"  # no type 2 is of its technique
    assert against(large, of_type("b", TWO, installation=installed(1, 80.0)))[0] == "refuted"
    assert q2(1.02, 90.0) == "confirmed"
    assert q2(1.5, 90.0) == "refuted"
    assert q2(1.02, 200.0) == "refuted"
    assert q2(1.02, 90.0, Place.BENEATH) == "refuted"
    assert judged(xen, of_type("kvm", HYBRID))["Q2"][2] == "inconclusive"  # nothing was counted
    nested = replace(LOCAL, facts={**LOCAL.facts, "virtualization": "kvm"})
    assert judged(of_type("kvm", HYBRID, host=nested))["Q2"][2].startswith("not measured here")


def test_what_the_table_needs_is_kept_in_the_file() -> None:
    made = of_type("xen", ONE, place=Place.BENEATH, installation=installed(34, 66.7))
    (one,) = made.launches
    seen = replace(one.attestation, access=Access("group kvm", "crw-rw---- root kvm /dev/kvm"))
    made = replace(made, launches=(replace(one, attestation=seen),))
    read = reading.result_of(json.loads(store.dumps(store.document(made))))
    assert read.installation == made.installation
    assert read.launches[0].attestation == seen
    assert read.declaration == made.declaration
