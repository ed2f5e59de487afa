"""A machine that was measured without a reference: absolute values, and what they say."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from sample_results import LOCAL, item, launch, pairs, result
from test_report_exits import event
from test_report_first import screen, table

from vbench import report
from vbench.model import Item, Result, Technique
from vbench.records import (
    Attestation,
    Capabilities,
    Declaration,
    Hypervisor,
    HypervisorType,
    NativeReference,
    NetworkPath,
)

VARIANT = "machine,address=me@vm"
KVM = Declaration(Hypervisor("KVM", "Linux", HypervisorType.HYBRID, "its manual"))


def of_machine(*more: Item, native_s: float | None = None) -> Result:
    common: dict[str, Any] = {"variant": VARIANT, "backend": "machine", "host": "ssh://me@vm",
                              "technique": Technique.HARDWARE}  # fmt: skip
    events = [
        replace(event(name, cost), **common)
        for name, cost in (("exit-control-empty", 100), ("exit-cpuid", 1100))
    ]
    items = (
        item("cpu-prime", pairs(2.2e-5, native_s, boots=1, spread=0.0), **common),
        item("syscall-getppid", pairs(2e-7, native_s, boots=1, spread=0.0), category="syscall",
             **common),
        *(replace(e, pairs=tuple(replace(p, native_s=None) for p in e.pairs)) for e in events),
        *more,
    )  # fmt: skip
    host = replace(LOCAL, identity="ssh://me@vm")
    native = NativeReference.NONE if native_s is None else NativeReference.OTHER_HOST
    seen = launch(VARIANT, 0, attestation=Attestation("KVM (Linux), type hybrid, by CPUID"),
                  capabilities=Capabilities(native, NetworkPath.NONE))  # fmt: skip
    return result(*items, host=host, launches=(seen,), declaration=KVM)


def test_it_opens_with_what_was_attested_and_what_was_measured() -> None:
    text = screen(of_machine())
    answer = text.split("\n\n")[1]
    assert f"`{VARIANT}`, seen to run under KVM (Linux), type hybrid, by CPUID" in answer
    assert "there is no ratio" in answer
    assert "computing (primes) 22.0 µs, system call (getppid) 200 ns" in answer
    rows = table(text)
    assert rows[1][3] == f"no reference: `{VARIANT}`"
    assert rows[1][1] == "not measured"
    assert rows[7][2] == "KVM no reference"
    assert "**a virtual machine** (kvm), measured as it is" in text
    assert "native is not bare metal" not in text


def test_its_values_and_exits_are_on_the_first_screen_with_what_they_say() -> None:
    text = re.sub(" +", " ", screen(of_machine()))
    values = next(line for line in text.splitlines() if line.startswith(f"| `{VARIANT}`"))
    assert [cell.strip() for cell in values.split("|")[2:4]] == ["22.0", "200"]
    assert "| Absolute values | Computing (primes), µs | System call (getppid), ns |" in text
    assert "| Cost of one exit | CPUID, µs |" in text
    assert f"| `{VARIANT}` | 1.00 |" in text
    assert "`reference=ssh://USER@HOST`" in text


def test_a_terminal_has_a_line_for_each_value() -> None:
    lines = report.summary([of_machine()]).splitlines()
    assert "  Computing (primes), µs: 22.0" in lines
    assert "  CPUID, µs: 1.00" in lines


def test_with_a_reference_there_are_ratios_and_no_such_table() -> None:
    text = screen(of_machine(native_s=1.0))
    assert "Absolute values" not in text
    assert "native is not bare metal" in text


def test_a_workload_without_a_native_half_makes_no_machine_without_a_reference() -> None:
    boot = result(item("boot-command", pairs(4.0, None), category="boot"))
    assert "reference" not in screen(boot).split("\n\n")[1]
    assert "Absolute values" not in screen(boot)
