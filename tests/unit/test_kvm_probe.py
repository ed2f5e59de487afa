"""KVM is judged by code that ran, on this machine and by what others would show."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vbench.errors import HostError
from vbench.model import Output
from vbench.system import kvm_probe
from vbench.system.facts import LocalReader
from vbench.system.kvm_probe import KvmVerdict, judge

SOURCE = Path(kvm_probe.__file__)


class Answers:
    """A host whose python3 prints `stdout`, or that has no python3."""

    def __init__(self, stdout: str | None, stderr: str = "") -> None:
        self.stdout, self.stderr = stdout, stderr

    def run(self, argv: object, *, timeout_s: float, stdin: bytes = b"") -> Output:
        if self.stdout is None:
            raise HostError("cannot run python3: No such file or directory")
        assert stdin == SOURCE.read_bytes()
        return Output(0, self.stdout, self.stderr)

    def read(self, path: str) -> str:
        raise HostError(path)


def test_hardware_speed_is_usable() -> None:
    found = judge([(100_000, 1e-4), (100_000_000, 0.1)], "", "kvm_amd")
    assert found.usable
    assert found.state == "usable"
    assert found.rate_per_s == pytest.approx(2e9)
    assert found.reason == "runs 2000 M instructions/s (provider kvm_amd)"
    assert found.remedy == ""


def test_a_round_that_had_no_cpu_does_not_decide() -> None:
    """A busy machine took 60 ms for what takes a tenth of one."""
    found = judge([(100_000, 0.06), (100_000, 1e-4), (1_000_000, 1e-3)], "", "kvm_amd")
    assert found.usable
    assert found.rate_per_s == pytest.approx(2e9)


def test_an_interpreter_is_not_usable() -> None:
    found = judge([(100_000, 0.154)], "", "kvm_pvm")
    assert not found.usable
    assert found.state == "interprets"
    assert found.reason == (
        "present, but emulates each instruction, far too slowly "
        "(1.3 M instructions/s, provider kvm_pvm)"
    )
    assert "testbed" in found.remedy


def test_a_guest_that_never_ends_is_not_usable() -> None:
    found = judge([], "", "kvm_pvm")
    assert (found.usable, found.state, found.rate_per_s) == (False, "interprets", 0.0)


def test_an_error_is_told() -> None:
    found = judge([], "[Errno 16] Device or resource busy", "kvm_intel")
    assert found.state == "error"
    assert "Device or resource busy" in found.reason
    assert found.remedy


def test_no_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kvm_probe, "DEVICE", str(tmp_path / "kvm"))
    assert kvm_probe.probe().state == "absent"


def test_a_device_that_is_not_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm_probe, "DEVICE", "/dev/null")
    # probe() forks, which is for a process of its own: so ask its parts.
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        kvm_probe._count(-1)


def test_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm_probe, "DEVICE", "/dev/null")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may open anything
    monkeypatch.setattr(kvm_probe, "provider", lambda: "kvm_intel")
    found = kvm_probe.probe()
    assert found.state == "no-permission"
    assert "group" in found.remedy
    monkeypatch.setattr(kvm_probe, "provider", lambda: "kvm_pvm")
    assert "group" not in kvm_probe.probe().remedy, "no group helps where no hardware is"


def test_long_mode_registers_lie_where_linux_reads_them() -> None:
    sregs = bytearray(312)
    kvm_probe._long_mode(sregs)
    # <asm/kvm.h>: 8 segments of 24 bytes, 2 tables of 16, then cr0 cr2 cr3 cr4 cr8 efer
    cr0, _, cr3, cr4, _, efer = struct.unpack_from("<6Q", sregs, 8 * 24 + 2 * 16)
    assert cr0 >> 31 & 1, "paging"
    assert cr0 & 1, "protected mode"
    assert cr4 >> 5 & 1, "PAE"
    assert efer & 0x500 == 0x500, "LME and LMA"
    assert cr3 == kvm_probe.PML4
    base, limit, _, kind, present, _, big, _, long = struct.unpack_from("<QIH6B", sregs)
    assert (base, limit, kind, present, big, long) == (0, 2**32 - 1, 0xB, 1, 0, 1)


def test_the_real_machine_answers_by_file_and_by_standard_input() -> None:
    by_file = subprocess.run(
        [sys.executable, "-S", SOURCE], capture_output=True, text=True, check=True, timeout=30
    )
    start = time.monotonic()
    by_host = kvm_probe.verdict(LocalReader())
    assert time.monotonic() - start < kvm_probe.DEADLINE_S + 2
    verdict = KvmVerdict(**json.loads(by_file.stdout))
    assert verdict.state == by_host.state != "unknown"
    assert verdict.usable == (
        verdict.rate_per_s is not None and verdict.rate_per_s >= kvm_probe.THRESHOLD_PER_S
    )


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (Answers(None), "cannot run python3"),
        (Answers("", "Traceback\nSyntaxError: no"), "SyntaxError: no"),
        (Answers("gibberish"), "gibberish"),
        (Answers(""), "no output"),
        (Answers("{}"), "{}"),
        (Answers("[1]"), "[1]"),
    ],
)
def test_a_host_that_cannot_be_asked_is_unknown(host: Answers, words: str) -> None:
    found = kvm_probe.verdict(host)
    assert (found.usable, found.state, found.rate_per_s) == (False, "unknown", None)
    assert words in found.reason
    assert found.remedy
