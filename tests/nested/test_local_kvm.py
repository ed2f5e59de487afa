"""Local KVM by the wall clock, as most users have it and most development machines do not."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from tests.nested.plain_debian import Machine

pytestmark = pytest.mark.nested
RUN_S = 1200  # 804 s on a busy machine
WORKLOADS = (
    *("cpu-prime", "syscall-getppid", "exit-cpuid"),
    *("disk-randread-qd1", "network-rr", "boot-command"),
)
KVM_BACKENDS = ("kvm-virtio", "kvm-emulated", "kvm-virtio-tuned", "libvirt")
LEFT = (
    "pgrep --list-full qemu; virsh list --all --name; ip -brief link | grep vbench; "
    "ls -d /tmp/vbench-* /var/tmp/vbench-* 2>/dev/null | grep -v run.lock"
)
# A user's domain, with another disk, card and machine type than vbench's own.
VIRT_INSTALL = (
    "virt-install --name web --virt-type kvm --machine q35 --memory 768 --vcpus 1 --import "
    "--graphics none --disk /root/web.raw,format=raw,size=1,bus=sata,cache=none "
    "--network bridge=br9,model=e1000 --osinfo detect=on,require=off --print-xml"
)


def measured(machine: Machine, backends: tuple[str, ...], workloads: tuple[str, ...]) -> Any:
    """Items by variant and workload, and the report, of a run that left nothing."""
    words = [f"--backend {each}" for each in backends]
    words += [f"--workload {each}" for each in workloads]
    began, out = time.monotonic(), machine.run("mktemp --directory --dry-run").stdout.strip()
    run = machine.run(f"vbench run --boots 1 {' '.join(words)} --out {out}", RUN_S)
    print(run.stdout, run.stderr, f"{time.monotonic() - began:.0f} s")
    assert run.returncode == 0, run.stderr
    items: dict[str, dict[str, Any]] = {}
    for name in machine.run(f"ls {out}/*.json").stdout.splitlines():
        for each in json.loads(machine.run(f"cat '{name}'").stdout)["benchmarks"]:
            item = each["extra_info"]["vbench"]
            items.setdefault(item["variant"], {})[item["workload"]] = item
            assert item["status"] == "ok", item
            assert (item["time_base"], item["host_kind"]) == ("wall", "local")
    assert all(set(of) == set(workloads) for of in items.values())
    assert machine.run(LEFT).stdout.strip() == ""
    report = machine.run(f"cat {out}/report.md").stdout.replace("\\_", "_")
    print(report)
    return items, report


def leaves_the_guest(cpuid: dict[str, Any]) -> None:
    assert cpuid["exits"]["CPUID"] == pytest.approx(1, abs=0.1)
    assert guest_s(cpuid) > 2 * min(native_s for native_s, _ in cpuid["quantiles"]["p50"])


def guest_s(item: dict[str, Any]) -> float:
    return min(float(seconds) for _, seconds in item["quantiles"]["p50"])


def test_doctor_and_backends_say_that_kvm_works(machine: Machine) -> None:
    assert "kvm_amd" in machine.run("test -c /dev/kvm && lsmod").stdout
    doctor = machine.run("vbench doctor", 300)
    assert doctor.returncode == 0, doctor
    assert re.search(r"✔ KVM runs code", doctor.stdout), doctor.stdout
    assert "a domain of type kvm was started" in doctor.stdout
    backends = machine.run("vbench backends", 300).stdout
    for backend in KVM_BACKENDS:
        assert re.search(rf"^{backend} +hardware-assisted +yes", backends, re.M), backends


def test_four_kvm_backends_are_measured_by_the_clock(machine: Machine) -> None:
    items, report = measured(machine, KVM_BACKENDS, WORKLOADS)
    assert set(items) == set(KVM_BACKENDS)
    for of in items.values():
        leaves_the_guest(of["exit-cpuid"])
    assert "Hardware-assisted" in report
    assert "KVM by libvirt; disk virtio_blk" in report
    ours, theirs = items["kvm-virtio"], items["libvirt"]
    for name in ("cpu-prime", "syscall-getppid", "exit-cpuid"):
        assert 1 / 3 < guest_s(theirs[name]) / guest_s(ours[name]) < 3, name


def test_a_domain_of_virt_installs_is_measured_with_its_tuning(machine: Machine) -> None:
    made = machine.run(f"{VIRT_INSTALL} >/root/web.xml")
    assert made.returncode == 0, made.stderr
    assert '<domain type="kvm">' in machine.run("cat /root/web.xml").stdout
    backends = ("libvirt,xml=/root/web.xml",)
    items, report = measured(machine, backends, ("exit-cpuid", "disk-randread-qd1", "network-rr"))
    leaves_the_guest(items[backends[0]]["exit-cpuid"])
    assert "KVM by libvirt; disk ahci; network e1000" in report


def test_an_ended_run_leaves_nothing(machine: Machine) -> None:
    begun = "until pgrep qemu-system >/dev/null; do sleep 1; done; sleep 5"
    command = "vbench run --backend kvm-virtio --boots 1 --out /root/cut"
    done = machine.run(
        f"{command} >/root/log 2>&1 & pid=$!; {begun}; kill -TERM $pid; wait $pid; echo $?", 300
    )
    assert done.stdout.split()[-1:] == ["130"], done
    assert machine.run(LEFT).stdout.strip() == ""
