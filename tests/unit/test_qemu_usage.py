"""What QEMU's threads spent, from text as the kernel's schedstat files have it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from vbench.contract.host import Host
from vbench.errors import GuestLost
from vbench.hypervisors.qemu.machine import QemuMachine
from vbench.hypervisors.qemu.threads import ThreadTimes
from vbench.model import Output


def machine(*looks: str) -> QemuMachine:
    """One whose vCPU is thread 12, and whose files say each of `looks` in turn."""
    left = list(looks)
    host = SimpleNamespace(run=lambda argv, timeout_s: Output(0, left.pop(0), ""))
    made: Any = SimpleNamespace(
        _times=ThreadTimes(cast(Host, host), 10, [12]), evidence=lambda: "qemu -accel kvm"
    )
    return cast(QemuMachine, made)


def files(**threads: str) -> str:
    return "".join(f"/proc/10/task/{name[1:]}/schedstat:{s}\n" for name, s in threads.items())


def test_all_threads_the_vcpus_and_their_waiting() -> None:
    one = machine(files(t10="1000000000 7 3", t12="2000000000 500000000 9"))
    assert QemuMachine.usage(one) == {
        "host_cpu_s": 3.0,
        "vcpu_cpu_s": 2.0,
        "vcpu_wait_s": 0.5,
    }


def test_a_thread_that_ended_keeps_what_it_spent() -> None:
    one = machine(
        files(t10="1000000000 0 1", t12="1000000000 0 1", t15="500000000 0 1"),
        files(t10="1000000000 0 1", t12="1250000000 0 1"),
    )
    assert QemuMachine.usage(one)["host_cpu_s"] == 2.5
    assert QemuMachine.usage(one)["host_cpu_s"] == 2.75


def test_without_its_threads_qemu_is_gone() -> None:
    with pytest.raises(GuestLost, match="QEMU is gone") as caught:
        QemuMachine.usage(machine(""))
    assert "qemu -accel kvm" in caught.value.evidence
