"""Xen, for real: the testbed booted as dom0, PV guests in it, and what happens when they die."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.conftest import Vbench
from tests.integration.ssh_server import reached_by_ssh
from vbench import image
from vbench.contract.guest import Guest, Saved, Target
from vbench.contract.host import Host
from vbench.errors import AttestationError, GuestError, GuestLost, LaunchError, Unsupported
from vbench.guest.native import Native
from vbench.guest.target import succeed
from vbench.hosts.local import LocalHost
from vbench.hosts.remote import SshHost
from vbench.hypervisors.xen.backend import XenOptions
from vbench.hypervisors.xen.dom0 import LAYER, is_dom0
from vbench.hypervisors.xen.machine import XlMachine
from vbench.plugins import xen_pvh
from vbench.plugins.xen_exits import vbench_exit_histogram
from vbench.plugins.xen_pv import BACKEND
from vbench.records import Place
from vbench.testbed import TestbedHost

pytestmark = pytest.mark.xen
# All memory of a domain that is saved has to fit into dom0's, which is its disk.
SMALL = XenOptions(memory=256)


@pytest.fixture(scope="module")
def dom0(testbed: TestbedHost) -> TestbedHost:
    return testbed.with_layer(LAYER)


@pytest.fixture(scope="module")
def guest(testbed: TestbedHost) -> Iterator[Guest]:
    """Destroyed by one of the last tests."""
    with BACKEND.launch(testbed, image.ensure(), BACKEND.options) as each:
        yield each


def domains(dom0: Host) -> set[str]:
    lines = dom0.run(["xl", "list"], timeout_s=20).stdout.splitlines()
    return {line.split()[0] for line in lines[1:]}


def ns_per_unit(target: Target, command: str) -> float:
    said = json.loads(succeed(target, f"vbench-probe {command}", timeout_s=30))
    return float(said["elapsed_ns"]) / float(said["units"])


def test_this_machine_is_no_dom0() -> None:
    if is_dom0(LocalHost()):
        pytest.skip("it is one")
    found = BACKEND.probe(LocalHost(), BACKEND.options)
    assert not found.ok
    assert "not a Xen dom0" in found.reason
    assert "--host testbed" in found.remedy


def test_the_testbed_is_one(testbed: TestbedHost, dom0: Host) -> None:
    assert BACKEND.probe(testbed, BACKEND.options).ok
    assert dom0 is not testbed
    assert testbed.with_layer(LAYER) is dom0
    assert is_dom0(dom0)


def test_attested(guest: Guest) -> None:
    seen = BACKEND.attest(guest)
    assert "PV domain" in seen.summary
    assert seen.place is Place.BENEATH
    assert seen.ring == 3  # on x86-64 there is no ring 1 that pages would protect
    assert guest.observed.sys_hypervisor == "xen PV"
    assert guest.observed.hypervisor == "Xen PV"
    assert guest.observed.disks == {"xvda": "vbd"}
    assert guest.observed.nics == {"eth0": "vif"}
    assert guest.versions["xen"].startswith("4.")


def test_a_wrong_label_is_refused(guest: Guest) -> None:
    other = dataclasses.replace(BACKEND, name="xen-pvh", type="pvh")
    with pytest.raises(AttestationError, match="/sys/hypervisor says 'xen PV'"):
        other.attest(guest)


def test_commands_and_the_scratch_disk(guest: Guest, dom0: Host) -> None:
    assert guest.run("exit 3", timeout_s=20).status == 3
    write = f"echo vbench | dd of={guest.endpoint.scratch} bs=512 conv=sync oflag=direct"
    assert guest.run(write, timeout_s=20).status == 0
    assert dom0.run(["head", "-c", "6", "/dev/ram0"], timeout_s=20).stdout == "vbench"


def test_a_paused_domain_does_nothing(guest: Guest) -> None:
    spin = "(while :; do :; done) >/dev/null 2>&1 & echo $! > /tmp/spin"
    assert guest.run(spin, timeout_s=20).status == 0
    guest.pause()
    try:
        before = guest.usage()["vcpu_cpu_s"]
        threading.Event().wait(0.5)
        assert guest.usage()["vcpu_cpu_s"] == before
    finally:  # the tests after this one use it too
        guest.resume()
        assert guest.run("kill $(cat /tmp/spin)", timeout_s=20).status == 0
    assert guest.usage()["vcpu_cpu_s"] > before


def test_cpu_time_is_told_to_the_nanosecond(guest: Guest, dom0: Host) -> None:
    """By Xen itself, as xl rounds it."""
    assert isinstance(guest.machine, XlMachine)
    before = guest.usage()
    spun_s = json.loads(succeed(guest, "vbench-probe spin 40000000", timeout_s=30))["elapsed_ns"]
    after = guest.usage()
    assert after["vcpu_cpu_s"] - before["vcpu_cpu_s"] == pytest.approx(spun_s / 1e9, rel=0.2)
    assert after["host_cpu_s"] - before["host_cpu_s"] > after["vcpu_cpu_s"] - before["vcpu_cpu_s"]

    told = dom0.run(["xl", "list", str(guest.machine.domid)], timeout_s=20).stdout.split()[-1]
    assert float(told) == pytest.approx(guest.usage()["vcpu_cpu_s"], abs=0.2)


def counted(guest: Guest, command: str, few: int, many: int) -> dict[str, int]:
    """How many more entries `many` units of a probe cause than `few`. Starting it cancels out."""
    histogram = vbench_exit_histogram(guest)
    assert histogram is not None
    looks: list[Mapping[str, int]] = []
    with histogram as look:
        for units in (few, few, many):
            succeed(guest, f"vbench-probe {command.format(units)}", timeout_s=30)
            looks.append(look())
    start, middle, end = looks
    return {name: n - 2 * middle.get(name, 0) + start.get(name, 0) for name, n in end.items()}


def test_entries_into_xen_are_counted_by_name(guest: Guest) -> None:
    # a system call returns through the hypercall iret
    assert counted(guest, "getppid {}", 100, 5100)["hypercall iret"] == pytest.approx(5000, rel=0.1)
    grew = counted(guest, "pagefault {}", 100, 1100)
    assert grew["page fault"] == pytest.approx(1000, rel=0.1)
    assert grew["hypercall mmu_update"] == pytest.approx(1000, rel=0.2)


def test_native_is_the_machine_without_xen(guest: Guest, testbed: TestbedHost) -> None:
    native = Native(testbed, testbed.upload_image(image.ensure()), scratch=testbed.scratch())
    assert not is_dom0(testbed)
    # Plain computation costs the same; a system call goes through Xen, a new page too.
    assert ns_per_unit(guest, "spin 20000000") == pytest.approx(
        ns_per_unit(native, "spin 20000000"), rel=0.05
    )
    for command in ("getppid 100000", "pagefault 16384", "switch 1000"):
        assert ns_per_unit(guest, command) > 1.3 * ns_per_unit(native, command), command


def test_time_stamps_are_not_emulated(guest: Guest) -> None:
    """The domain's default clock is a system call; by the TSC a reading costs what it does
    natively, so RDTSC does not trap."""
    clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    try:
        succeed(guest, f"echo tsc >{clock}", timeout_s=20)
        said = json.loads(succeed(guest, "vbench-probe empty 1000", timeout_s=20))
    finally:
        succeed(guest, f"echo xen >{clock}", timeout_s=20)
    assert said["p50_ns"] < 200


def test_a_full_disk_while_saving_leaves_the_domain_and_no_file(guest: Guest, dom0: Host) -> None:
    with dom0.workdir() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=20M", "tmpfs", folder]
        assert dom0.run(mount, timeout_s=20).status == 0
        try:
            assert guest.life is not None
            with pytest.raises(GuestError, match="xl save failed") as caught:
                guest.life.save(guest, folder)
            assert "No space left" in caught.value.evidence
            assert "100%" in caught.value.evidence
            assert dom0.run(["ls", folder], timeout_s=20).stdout == ""
        finally:
            assert dom0.run(["umount", folder], timeout_s=20).status == 0
    assert guest.run("exit 3", timeout_s=20).status == 3


def test_destroyed_in_mid_round(guest: Guest, dom0: Host) -> None:
    assert isinstance(guest.machine, XlMachine)
    destroy = ["xl", "destroy", str(guest.machine.domid)]
    timer = threading.Timer(2.0, lambda: dom0.run(destroy, timeout_s=30))
    timer.start()
    with pytest.raises(GuestLost, match="machine ended") as caught:
        guest.run("while :; do :; done", timeout_s=20)
    timer.join()
    assert "xl create" in caught.value.evidence
    assert not guest.alive


def test_a_pvh_domain_is_attested_and_its_exits_counted(testbed: TestbedHost) -> None:
    with contextlib.ExitStack() as stack:
        pvh = stack.enter_context(xen_pvh.BACKEND.launch(testbed, image.ensure(), SMALL))
        assert "PVH domain" in xen_pvh.BACKEND.attest(pvh).summary
        assert pvh.observed.sys_hypervisor == "xen PVH"
        assert pvh.observed.disks == {"xvda": "vbd"}
        with pytest.raises(AttestationError, match="/sys/hypervisor says 'xen PVH'"):
            BACKEND.attest(pvh)

        grew = counted(pvh, "getppid {0}0; vbench-probe cpuid {0}", 100, 5100)

        folder = stack.enter_context(pvh.host.workdir())
        again = restored(pvh, saved(pvh, folder))
        stack.callback(again.close)
        assert "PVH domain" in xen_pvh.BACKEND.attest(again).summary
    assert grew["CPUID"] == pytest.approx(5000, rel=0.05)
    assert sum(grew.values()) < 6000  # its system calls leave for nothing


def saved(guest: Guest, folder: str) -> Saved:
    """It goes on, and has a file since that only its memory holds."""
    assert guest.life is not None
    assert guest.run("echo mine >/tmp/whose", timeout_s=30).status == 0
    state = guest.life.save(guest, folder)
    assert guest.run("rm /tmp/whose", timeout_s=30).status == 0
    assert state.counts["state_mib"] > SMALL.memory  # xl writes all of it
    return state


@contextlib.contextmanager
def of_another_version(dom0: Host, path: str) -> Iterator[None]:
    """libxl's stream begins with its name and a version of 32 bits, high byte first."""
    head = dom0.run(["sh", "-c", f"head -c 65536 {path} | base64"], timeout_s=30).stdout
    place = base64.b64decode(head).index(b"LibxlFmt") + 11
    version = base64.b64decode(head)[place]
    for each in (version + 1, version):
        write = f"printf '\\{each:03o}' | dd of={path} bs=1 seek={place} conv=notrunc"
        assert dom0.run(["sh", "-c", write], timeout_s=30).status == 0
        if each != version:
            yield


def restored(guest: Guest, state: Saved) -> Guest:
    """The domain as it was when it was saved, after it has ended."""
    assert guest.life is not None
    with pytest.raises(Unsupported, match="only one of them can run"):
        guest.life.restore(state, guest.host)
    guest.close()
    with of_another_version(guest.host, f"{state.folder}/state"):
        with pytest.raises(LaunchError, match="cannot be loaded") as caught:
            guest.life.restore(state, guest.host)
        assert "Unexpected Version" in caught.value.evidence
    again = guest.life.restore(state, guest.host)
    assert again.run("cat /tmp/whose", timeout_s=30).stdout == "mine\n"
    assert [phase.phase for phase in again.phases] == ["loaded", "command"]
    print([(each.operation, each.phase, each.seconds) for each in (*state.phases, *again.phases)])
    return again


def test_a_crashed_domain_is_restored_as_it_was_saved(testbed: TestbedHost, dom0: Host) -> None:
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(BACKEND.launch(testbed, image.ensure(), SMALL))
        folder = stack.enter_context(dom0.workdir())
        state = saved(other, folder)
        with pytest.raises(GuestLost, match="panicked") as caught:
            other.run("echo c >/proc/sysrq-trigger", timeout_s=30)
        assert "xl create" in caught.value.evidence
        assert "sysrq" in other.machine.console()
        other.close()
        assert other.life is not None
        again = other.life.restore(state, dom0)
        stack.callback(again.close)
        assert again.run("cat /tmp/whose", timeout_s=30).stdout == "mine\n"
        assert "PV domain" in BACKEND.attest(again).summary
    assert domains(dom0) == {"Domain-0"}


def test_too_little_memory(testbed: TestbedHost, dom0: Host) -> None:
    with pytest.raises(LaunchError, match="xl created no domain") as caught:
        BACKEND.launch(testbed, image.ensure(), XenOptions(memory=8192))
    assert "memory" in caught.value.evidence.replace("memory = 8192", "")
    assert domains(dom0) == {"Domain-0"}


def test_xl_fails(dom0: Host) -> None:
    config = 'name = "vbench-x"\ntype = "pv"\nkernel = "/nowhere"\nmemory = 64\n'
    with dom0.workdir() as folder, pytest.raises(LaunchError) as caught:
        XlMachine(dom0, "vbench-x", config, f"{folder}/config")
    assert "/nowhere" in caught.value.evidence
    assert domains(dom0) == {"Domain-0"}


def test_no_domain_outlives_its_owner(dom0: Host) -> None:
    """As when vbench is killed: nobody calls close, our end of standard input closes."""
    kernel = "/run/vbench/vmlinux"
    config = f'name = "vbench-y"\ntype = "pv"\nkernel = "{kernel}"\nmemory = 128\n'
    with dom0.workdir() as folder:
        machine = XlMachine(dom0, "vbench-y", config, f"{folder}/config")
        assert "vbench-y" in domains(dom0)
        machine.process.kill()
        deadline = time.monotonic() + 60
        while "vbench-y" in domains(dom0) and time.monotonic() < deadline:
            time.sleep(0.2)
    assert domains(dom0) == {"Domain-0"}


@pytest.mark.skipif(shutil.which("ssh") is None, reason="openssh-client is not installed")
def test_a_dom0_reached_by_ssh(
    testbed: TestbedHost, dom0: TestbedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user's own Xen machine: logged in once by hand, then measured as any other host."""
    address, path = reached_by_ssh(dom0, tmp_path)
    files = image.ensure()
    monkeypatch.setenv("PATH", path)

    remote = SshHost(address)
    remote.timeout_scale = testbed.timeout_scale  # it is emulated all the same
    try:
        assert BACKEND.probe(remote, BACKEND.options).ok
        with BACKEND.launch(remote, files, BACKEND.options) as each:
            assert "PV domain" in BACKEND.attest(each).summary
            assert len(domains(dom0)) == 2
        assert domains(dom0) == {"Domain-0"}
    finally:
        remote.close()


def test_a_cache_and_a_tmp_with_blanks_in_their_paths(vbench: Vbench) -> None:
    """QEMU takes the name of a multiboot module to end at the first blank."""
    cache, tmp = vbench.root / "a cache", vbench.root / "a tmp"
    cache.symlink_to(image.cache_dir())
    tmp.mkdir()
    done = vbench.run(
        *("exec", "--host", "testbed", "xen-pv", "--", "cat", "/sys/hypervisor/type"),
        VBENCH_CACHE=str(cache),
        VBENCH_TMP=str(tmp),
    )
    assert (done.returncode, done.stdout) == (0, "xen\n"), done.stderr
