"""What a QEMU really uses, asked of real ones: paused before their first instruction."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vbench import image
from vbench.hosts.disk import disk_path, guest_problem
from vbench.hosts.local import LocalHost
from vbench.hosts.pinning import UNPINNED, Placement, placement
from vbench.hypervisors.qemu import truth
from vbench.hypervisors.qemu.cmdline import Disk, GuestSpec, Nic, argv
from vbench.hypervisors.qemu.machine import QemuMachine
from vbench.plugins.kvm_virtio import BACKEND as KVM_VIRTIO
from vbench.testbed import TestbedHost

IO_URING = Path("/proc/sys/kernel/io_uring_disabled")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHost]:
    # on a disk: direct I/O is asked for
    monkeypatch.setenv("VBENCH_TMP", "/var/tmp")
    made = LocalHost()
    yield made
    made.close()


@contextmanager
def paused(
    host: LocalHost, disk: Disk, nics: tuple[Nic, ...] = (), places: Placement = UNPINNED
) -> Iterator[QemuMachine]:
    """A QEMU with this disk, or one of a MiB."""
    network = host.network() if nics else None
    with host.workdir() as folder:
        path = disk.path or f"{folder}/disk"
        if not disk.path:
            host.write(path, b"x" * (1 << 20))
        spec = GuestSpec(
            "tcg",
            "max",
            kernel="",
            initrd="",
            append=(),
            vcpus=len(places.vcpus) or 1,
            memory_mib=64,
            disks=(dataclasses.replace(disk, path=path),),
            nics=nics,
            extra=("-S",),
        )
        # no kernel: it never begins to boot
        line = argv(spec)
        for option in ("-kernel", "-initrd", "-append"):
            at = line.index(option)
            del line[at : at + 2]
        machine = QemuMachine(host, line, network, places)
        try:
            yield machine
        finally:
            machine.close()


def problems(machine: QemuMachine, asked: Disk, *, vhost: bool = False) -> list[str]:
    process = truth.Process.of(machine.host, machine.pid)
    _, found = truth.look(
        asked,
        "disk0",
        vhost=vhost,
        process=process,
        query=machine.query,
        log=machine.console(),
    )
    return found


AS_ASKED = {
    "emulated": Disk("", "ide"),
    "page cache": Disk("", "virtio", cache="writeback"),
    "no flush": Disk("", "virtio", cache="unsafe"),
    "I/O thread, queues": Disk("", "virtio", iothread=True, queues=2),
    "Linux AIO": Disk("", "virtio", aio="native"),
}


@pytest.mark.parametrize("name", AS_ASKED)
def test_what_is_as_asked_for_is_no_problem(host: LocalHost, name: str) -> None:
    with paused(host, AS_ASKED[name]) as machine:
        assert problems(machine, AS_ASKED[name]) == []


REPLACED = [
    (Disk("", "virtio"), Disk("", "virtio", cache="writeback"), "cache.direct is on, not off"),
    (Disk("", "virtio", cache="writeback"), Disk("", "virtio"), "cache.direct is off, not on"),
    (Disk("", "ide"), Disk("", "ide", cache="unsafe"), "cache.no-flush is off, not on"),
    (Disk("", "virtio"), Disk("", "virtio", iothread=True), "I/O thread is off, not on"),
    (Disk("", "virtio"), Disk("", "virtio", queues=2), "has 1 queues, not 2"),
    (Disk("", "virtio"), Disk("", "virtio", aio="io_uring"), "aio=io_uring was not set up"),
    (Disk("", "virtio"), Disk("", "virtio", aio="native"), "aio=native was not set up"),
]


@pytest.mark.parametrize(("real", "label", "problem"), REPLACED)
def test_what_the_label_claims_and_qemu_does_not_use_is_named(
    host: LocalHost, real: Disk, label: Disk, problem: str
) -> None:
    with paused(host, real) as machine:
        assert problem in " ".join(problems(machine, label))


def test_an_engine_that_fell_back_to_threads_is_named() -> None:
    """As QEMU 9 and later says it on standard error, and then goes on."""
    log = "Unable to use linux io_uring, falling back to thread pool: Operation not permitted"
    process = truth.Process(("anon_inode:[io_uring]",), "", {})
    nodes = [{"node-name": "disk0", "cache": {"direct": True, "no-flush": False}}]

    def query(command: str, arguments: object) -> object:
        return nodes if command == "query-named-block-nodes" else []

    asked = Disk("", "virtio", aio="io_uring")
    evidence, found = truth.look(
        asked, "disk0", vhost=False, process=process, query=query, log=f"boot\n{log}\n"
    )
    assert found == [log]
    assert evidence["disk: I/O engines set up"] == "io_uring"


def test_vhost_that_is_not_there_is_named(host: LocalHost) -> None:
    network = host.network()
    if network is None or network.tap_fd is None:
        pytest.skip("no tap can be made here")
    card = Nic("virtio-net-pci", f"tap,fd={network.tap_fd}", "52:54:00:76:62:01")
    with paused(host, Disk("", "virtio"), (card,)) as machine:
        assert "vhost is off, not on" in problems(machine, Disk("", "virtio"), vhost=True)


def test_vhost_is_unavailable_where_its_device_is_missing(host: LocalHost) -> None:
    if os.access("/dev/vhost-net", os.R_OK | os.W_OK):
        pytest.skip("vhost can be used here")
    available = truth.vhost(host, "virtio-net-pci")
    assert not available.ok
    assert "vhost=off" in available.remedy


def test_an_engine_that_the_kernel_forbids_is_unavailable(host: LocalHost) -> None:
    if os.geteuid() != 0 or not IO_URING.exists():
        pytest.skip("needs root and the kernel's switch for io_uring")
    assert truth.engine(LocalHost(), "threads").ok
    assert truth.engine(LocalHost(), "native").ok
    before = IO_URING.read_text()
    try:
        IO_URING.write_text("0")
        assert truth.engine(LocalHost(), "io_uring").ok
        IO_URING.write_text("2")
        forbidden = truth.engine(LocalHost(), "io_uring")
        done = subprocess.run(
            [sys.executable, "-m", "vbench.cli", "exec", "tcg-virtio,aio=io_uring", "--", "true"],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        IO_URING.write_text(before)
    assert not forbidden.ok
    assert "io_uring" in forbidden.reason
    assert "kernel.io_uring_disabled" in forbidden.remedy
    assert done.returncode == 3, done.stderr
    assert "kernel.io_uring_disabled" in done.stderr


@pytest.mark.parametrize(("cache", "direct"), [("none", True), ("writeback", False)])
def test_a_cache_of_the_host_before_a_guest_s_disk_is_found_out(
    host: LocalHost, cache: str, direct: bool
) -> None:
    host.fill_scratch()
    if disk_path(host).problem:
        pytest.skip(disk_path(host).problem)
    with paused(host, Disk(host.scratch().path, "virtio", cache=cache)) as machine:

        def read(mebibytes: int) -> None:
            # -q: what it printed would be in the middle of QMP
            line = f'qemu-io disk0 "read -q 0 {mebibytes}M"'
            machine.query("human-monitor-command", {"command-line": line})

        found = guest_problem(host, read)
    assert (found == "") is direct
    assert direct or "did not reach a device" in found


@pytest.mark.parametrize("vcpus", [1, 2])
def test_vcpus_are_where_native_is_and_other_threads_elsewhere(host: LocalHost, vcpus: int) -> None:
    places = placement(host, vcpus)
    if not places.vcpus:
        pytest.skip(places.why)
    with paused(host, Disk("", "virtio", iothread=True), places=places) as machine:
        process = truth.Process.of(host, machine.pid)
        evidence, found = truth.pinned(process, places, machine.vcpu_threads)
        assert found == []
        assert evidence["CPUs"].startswith(f"vCPUs {' '.join(map(str, places.vcpus))};")
        for cpu, thread in zip(places.vcpus, machine.vcpu_threads, strict=True):
            assert os.sched_getaffinity(thread) == {cpu}
        if places.io:
            assert os.sched_getaffinity(machine.pid) == set(places.io)
        # somebody moves a vCPU
        os.sched_setaffinity(machine.vcpu_threads[0], os.sched_getaffinity(0))
        process = truth.Process.of(host, machine.pid)
        assert "vCPUs are on CPUs" in truth.pinned(process, places, machine.vcpu_threads)[1][0]


def test_a_thread_of_the_kernel_that_serves_the_network_is_kept_off_the_vcpus(
    host: LocalHost,
) -> None:
    """Played by a process: before Linux 6.4 vhost's thread is none of QEMU's."""
    places = placement(host, 1)
    if not places.io:
        pytest.skip(places.why)
    with (
        subprocess.Popen(["sleep", "60"]) as thread,
        paused(host, Disk("", "virtio"), places=places) as machine,
    ):
        try:
            asked = (host, machine.pid, places)
            assert "vhost's thread may run on CPUs" in truth.floating(*asked, [thread.pid])
            os.sched_setaffinity(thread.pid, places.io)
            assert truth.floating(*asked, [thread.pid]) == ""
            assert truth.floating(*asked, []) == ""
            process = truth.Process.of(host, machine.pid, [thread.pid])
            told, found = truth.pinned(process, places, machine.vcpu_threads, [thread.pid])
            io = ",".join(map(str, places.io))
            assert (found, told["CPUs"].endswith(f"the kernel's for vhost {io}")) == ([], True)
        finally:
            thread.kill()


@pytest.mark.testbed
def test_vhost_s_thread_is_found_pinned_and_counted(testbed: TestbedHost) -> None:
    """On a microvm, which comes up under KVM on a slow host, too."""
    options = dataclasses.replace(KVM_VIRTIO.options, vhost=True, machine="microvm")
    assert KVM_VIRTIO.probe(testbed, options).ok
    with KVM_VIRTIO.launch(testbed, image.ensure(), options) as guest:
        machine = guest.machine
        assert isinstance(machine, QemuMachine)
        (thread,) = machine.kernel_threads
        assert testbed.read(f"/proc/{thread}/comm") == f"vhost-{machine.pid}\n"
        assert testbed.run(["taskset", "-p", "-c", "0", str(thread)], timeout_s=30).status == 0
        said = testbed.read(f"/proc/{thread}/schedstat").split()[0]
        machine.usage()
        assert machine._times._spent[thread] >= int(said)
        assert KVM_VIRTIO.attest(guest).evidence["network: devices served by vhost"] == "1"
        assert guest.observed.clocksource == "kvm-clock"
