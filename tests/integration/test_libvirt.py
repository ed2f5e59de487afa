"""libvirt, for real: domains of ours and of the user's, and what is left when somebody dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from xml.etree.ElementTree import tostring

import pytest

from tests.integration.conftest import Vbench, until
from tests.integration.libvirt_daemon import daemons, of_another_version
from tests.integration.ssh_server import SSHD, ssh_program, ssh_server
from vbench import image
from vbench.contract.registry import Registry
from vbench.errors import AttestationError, GuestError, GuestLost, LaunchError, Unsupported
from vbench.guest.booted import BootedGuest
from vbench.guest.target import succeed
from vbench.hosts.local import LocalHost
from vbench.hosts.pinning import Placement, placement
from vbench.hosts.remote import SshHost
from vbench.hypervisors.libvirt import tuning
from vbench.hypervisors.libvirt.backend import LibvirtOptions
from vbench.hypervisors.libvirt.doctor import checks
from vbench.hypervisors.libvirt.machine import LibvirtMachine
from vbench.hypervisors.libvirt.virsh import Virsh
from vbench.hypervisors.qemu.truth import engine
from vbench.measure.comparability import check
from vbench.model import Statistic, WorkloadInfo
from vbench.plugins.libvirt import BACKENDS
from vbench.plugins.tcg_virtio import BACKEND as TCG_VIRTIO
from vbench.run.measuring import MeasureFactory
from vbench.run.phases import Phases
from vbench.system.cgroups import cpu_group

pytestmark = pytest.mark.libvirt
QEMU = next(each for each in BACKENDS if each.type == "qemu")
CPU = WorkloadInfo("cpu-x", "cpu", "event", Statistic.RATIO, "x", "d", "bench_x.py")
VIRT_INSTALL = Path(__file__).parents[1] / "data/virt-install.xml"


@pytest.fixture(scope="module", autouse=True)
def virsh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Virsh]:
    """libvirt; each test with it proves that it leaves no domain, no QEMU, no log."""
    with daemons(tmp_path_factory.mktemp("libvirt")) as able:
        if not able.ok:
            pytest.skip(able.reason)
        yield Virsh(LocalHost())


@pytest.fixture
def host() -> Iterator[LocalHost]:
    """With a scratch disk of its own: QEMU locks it for one domain."""
    with closing(LocalHost()) as host:
        yield host


@pytest.fixture(scope="module")
def guest() -> Iterator[BootedGuest]:
    host = LocalHost()
    with closing(host), QEMU.launch(host, image.ensure(), QEMU.options) as each:
        yield each


def names(virsh: Virsh) -> set[str]:
    """Domains of vbench that libvirt knows."""
    return {name for name in virsh.ask("list", "--all", "--name").split() if "vbench-" in name}


def qemus(name: str = "vbench-") -> list[int]:
    """Processes that run domains of vbench."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if line.startswith(b"/") and f"\0guest={name}".encode() in line:
            found.append(int(path.parent.name))
    return found


def logs() -> set[Path]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folders = (Path("/var/log/libvirt/qemu"), cache / "libvirt/qemu/log")
    return {path for folder in folders for path in folder.glob("vbench-*")}


def machine(guest: BootedGuest) -> LibvirtMachine:
    assert isinstance(guest.machine, LibvirtMachine)
    return guest.machine


def test_it_is_what_it_says(guest: BootedGuest, virsh: Virsh) -> None:
    attestation = QEMU.attest(guest)
    assert "QEMU TCG (binary translation) by libvirt" in attestation.summary
    assert "virtio_blk" in attestation.summary
    assert attestation.evidence["query-kvm"].startswith("enabled=False")
    assert "direct=on" in attestation.evidence["disk: cache"]
    assert attestation.ring in (0, None)
    assert guest.versions["libvirt"] == virsh.version()
    assert {phase.phase for phase in guest.phases} >= {"ready", "command", "userspace"}
    assert machine(guest).name in names(virsh)


def test_its_essentials_are_those_of_the_qemu_backend(guest: BootedGuest, host: LocalHost) -> None:
    with TCG_VIRTIO.launch(host, image.ensure(), TCG_VIRTIO.options) as other:
        assert other.observed.disks == guest.observed.disks
        assert set(other.observed.nics.values()) == set(guest.observed.nics.values())
        assert other.observed.cpu_model == guest.observed.cpu_model
        assert other.observed.memory_kib == guest.observed.memory_kib
        assert other.observed.clocksource == guest.observed.clocksource
        assert other.endpoint.pinned == guest.endpoint.pinned
        with pytest.raises(AttestationError, match="libvirt does not run it"):
            QEMU.attest(other)


def test_it_stands_still_and_goes_on(guest: BootedGuest) -> None:
    guest.pause()
    before = guest.usage()
    state = machine(guest).virsh.ask("domstate", machine(guest).name)
    guest.resume()
    assert state.strip() == "paused"
    succeed(guest, "vbench-probe prime 200", timeout_s=60)
    after = guest.usage()
    assert set(after) == {"host_cpu_s", "vcpu_cpu_s", "vcpu_wait_s"}
    assert after["vcpu_cpu_s"] > before["vcpu_cpu_s"]


def test_a_domain_is_restored_as_it_was_saved(host: LocalHost, virsh: Virsh) -> None:
    with ExitStack() as stack:
        small = LibvirtOptions(memory=256)
        guest = stack.enter_context(QEMU.launch(host, image.ensure(), small))
        folder = stack.enter_context(host.workdir())
        life = guest.life
        assert life is not None
        succeed(guest, "echo mine >/tmp/whose", timeout_s=30)
        saved = life.save(guest, folder)
        succeed(guest, "rm /tmp/whose", timeout_s=30)  # it goes on
        assert 30 < saved.counts["state_mib"] < 300
        with pytest.raises(Unsupported, match="one domain of a name"):
            life.restore(saved, host)
        guest.close()
        with of_another_version(Path(folder, "state")), pytest.raises(LaunchError, match="version"):
            life.restore(saved, host)
        again = life.restore(saved, host)
        stack.callback(again.close)
        assert again.run("cat /tmp/whose", timeout_s=30).stdout == "mine\n"
        assert "by libvirt" in QEMU.attest(again).summary
        assert [phase.phase for phase in again.phases] == ["loaded", "command"]
    assert machine(guest).name not in names(virsh)


def test_a_full_disk_while_saving_leaves_the_domain_and_no_file(
    guest: BootedGuest, host: LocalHost, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root mounts a small disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60M", "tmpfs", tmp_path], check=True)
    try:
        assert guest.life is not None
        with pytest.raises(GuestError, match="virsh snapshot-create-as") as caught:
            guest.life.save(guest, str(tmp_path))
        assert "No space left" in caught.value.evidence or "100%" in caught.value.evidence
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    succeed(guest, "true", timeout_s=30)


def test_its_network_is_the_measuring_network_where_root_may_have_one(
    guest: BootedGuest, host: LocalHost
) -> None:
    if not guest.client_prefix:
        assert guest.capabilities.network.value == "NAT"
        return
    probe = f"{guest.image.root}/usr/bin/busybox"
    argv = [*guest.client_prefix, probe, "ping", "-c", "1", guest.endpoint.address]
    assert host.run(argv, timeout_s=20).status == 0
    assert not Path("/sys/class/net", machine(guest).name).exists()


def test_a_domain_of_virt_installs_with_its_tuning(host: LocalHost) -> None:
    """The file is what virt-install printed; its pins, cache, I/O engine and thread are there."""
    if not engine(host, "io_uring").ok or (os.cpu_count() or 1) < 2:
        pytest.skip("its domain wants io_uring and two CPUs")
    with QEMU.launch(host, image.ensure(), LibvirtOptions(xml=str(VIRT_INSTALL))) as tuned:
        evidence = QEMU.attest(tuned).evidence
        assert evidence["libvirt: machine"].startswith("pc-q35")
        assert evidence["CPUs"] == "vCPUs 0 1"
        assert "io_uring" in evidence["disk: I/O engines set up"]
        assert tuned.endpoint.vcpus == 2
        assert "iothread1" in " ".join(tuned.argv)
        assert tuned.device.further["iothread"] == "on"
        assert "graphics" in tuned.device.further["left out"]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_native_runs_on_the_cpus_that_the_file_gives_the_guest(
    host: LocalHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vbench itself takes the first core last, so it would choose another."""
    first = min(os.sched_getaffinity(0))
    assert placement(host, 1).vcpus != (first,)
    made = tuning.own(
        "qemu", vcpus=1, memory_mib=256, cache="none", aio="threads", places=Placement((first,))
    )
    file = tmp_path / "pinned.xml"
    file.write_bytes(tostring(made.root))
    factory = MeasureFactory(Registry(), image.ensure(), Phases())
    with QEMU.launch(host, image.ensure(), LibvirtOptions(xml=str(file))) as pinned:
        assert pinned.endpoint.cpus == (first,)
        native = factory._native(host, pinned.endpoint)
        ask = "sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status"
        assert succeed(native, ask, timeout_s=20).strip() == str(first)
        assert "cpus_differ" not in check(CPU, pinned, native, [], [])
        own = cpu_group(Path("/proc/self/cgroup").read_text())
        there = pinned.endpoint.cpu_group != own
        assert ("cpu_group" in check(CPU, pinned, native, [], [])) is there
        monkeypatch.setattr(native, "cpus", (first + 1,))
        assert "cpus_differ" in check(CPU, pinned, native, [], [])


def test_what_virt_install_prints_here_boots(host: LocalHost, tmp_path: Path) -> None:
    if not shutil.which("virt-install"):
        pytest.skip("virt-install is not installed")
    words = ["--import", "--disk", "none", "--memory", "512", "--network", "none"]
    printed = subprocess.run(
        [
            *("virt-install", "--connect", Virsh(host).uri, "--virt-type", "qemu"),
            *("--name", "given", "--osinfo", "detect=on,require=off", "--print-xml", *words),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert printed.returncode == 0, printed.stderr
    file = tmp_path / "given.xml"
    file.write_text(printed.stdout)
    options = LibvirtOptions(xml=str(file))
    assert QEMU.probe(host, options).ok
    with QEMU.launch(host, image.ensure(), options) as given:
        QEMU.attest(given)
        assert succeed(given, "echo hello", timeout_s=30).strip() == "hello"


def test_a_feature_that_qemu_drops_is_no_tuning(host: LocalHost, tmp_path: Path) -> None:
    """TCG has no AVX-512, and QEMU only warns."""
    file = tmp_path / "cpu.xml"
    file.write_text(
        "<domain type='qemu'><memory unit='MiB'>512</memory><features><acpi/></features>"
        "<os><type machine='pc'>hvm</type></os>"
        "<cpu mode='custom' match='exact' check='partial'><model>qemu64</model>"
        "<feature name='avx512f' policy='force'/></cpu></domain>"
    )
    with (
        QEMU.launch(host, image.ensure(), LibvirtOptions(xml=str(file))) as other,
        pytest.raises(AttestationError, match=r"the CPU lacks .*avx512f"),
    ):
        QEMU.attest(other)


def test_what_libvirt_refuses_is_told_in_its_words(
    host: LocalHost, tmp_path: Path, virsh: Virsh
) -> None:
    file = tmp_path / "odd.xml"
    file.write_text(
        "<domain type='qemu'><memory unit='MiB'>512</memory>"
        "<os><type machine='pc-0.0'>hvm</type></os></domain>"
    )
    before = names(virsh)
    with pytest.raises(LaunchError, match=r"libvirt did not start the domain: .*pc-0\.0"):
        QEMU.launch(host, image.ensure(), LibvirtOptions(xml=str(file)))
    assert names(virsh) == before


def test_a_connection_where_nobody_listens(host: LocalHost, tmp_path: Path) -> None:
    options = LibvirtOptions(uri=f"qemu+unix:///system?socket={tmp_path}/none")
    able = QEMU.probe(host, options)
    assert able.reason.startswith("libvirt does not answer at qemu+unix:///system")
    assert "systemctl start libvirtd" in able.remedy


def test_kvm_without_hardware_is_refused(host: LocalHost) -> None:
    kvm = next(each for each in BACKENDS if each.type == "kvm")
    able = kvm.probe(host, kvm.options)
    assert able.ok or (able.reason and able.remedy)


def test_a_guest_that_is_killed_is_lost_and_leaves_nothing(host: LocalHost, virsh: Virsh) -> None:
    with QEMU.launch(host, image.ensure(), QEMU.options) as doomed:
        name = machine(doomed).name
        os.kill(machine(doomed).pid, signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(GuestLost, match="machine ended"):
            doomed.run("sleep 60", timeout_s=90)
        assert time.monotonic() - began < 20
    assert name not in names(virsh)
    assert qemus(name) == []
    assert name not in {path.stem for path in logs()}


def test_what_a_killed_run_left_is_ended_and_nobody_elses(
    host: LocalHost, tmp_path: Path, virsh: Virsh
) -> None:
    """Left by a run that was killed while libvirt did not see it end."""
    who, gone = virsh.user, tmp_path / "gone"
    domains = {
        "vbench-left": f"user='{who}' folder='{gone}'",
        "vbench-runs": f"user='{who}' folder='{tmp_path}'",
        "vbench-others": f"user='{int(who) + 1}' folder='{gone}'",
    }
    try:
        for name, mark in domains.items():
            file = tmp_path / f"{name}.xml"
            file.write_text(
                f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory>"
                f"<metadata><v:launch xmlns:v='urn:vbench:launch' {mark}/></metadata>"
                "<os><type arch='x86_64'>hvm</type></os></domain>"
            )
            virsh.ask("create", str(file), "--paused")
        QEMU.launch(host, image.ensure(), QEMU.options).close()
        assert names(virsh) & set(domains) == {"vbench-runs", "vbench-others"}
        assert qemus("vbench-left") == []
    finally:
        for name in domains:
            virsh.end(name)


def test_vbench_killed_leaves_no_domain_and_no_qemu(vbench: Vbench, virsh: Virsh) -> None:
    before = names(virsh)
    process = vbench.start("exec", "libvirt-tcg", "--", "sleep", "600")
    assert until(lambda: bool(names(virsh) - before), 60)
    (name,) = names(virsh) - before
    assert until(lambda: bool(qemus(name)), 20)
    process.kill()
    process.communicate()
    assert until(lambda: name not in names(virsh) and not qemus(name), 20)
    assert until(lambda: name not in {path.stem for path in logs()}, 10)


@pytest.mark.skipif(SSHD is None, reason="openssh-server is not installed")
def test_a_host_over_ssh_has_domains_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, virsh: Virsh
) -> None:
    with ssh_server(tmp_path) as server:
        monkeypatch.setenv("PATH", ssh_program(tmp_path, server.config))
        there = SshHost(server.address)
        try:
            before = names(virsh)
            with QEMU.launch(there, image.ensure(), QEMU.options) as far:
                QEMU.attest(far)
                assert far.capabilities.network.value == "NAT"
                assert succeed(far, "echo hello", timeout_s=30).strip() == "hello"
                assert len(names(virsh) - before) == 1
            assert names(virsh) == before
        finally:
            there.close()


def test_doctor_creates_a_guest(host: LocalHost, virsh: Virsh) -> None:
    before = names(virsh)
    found = {check.name: check for check in checks(host)}
    assert found["libvirt"].finding == f"{virsh.version()} at {virsh.uri}"
    assert found["libvirt creates a guest"].state == "ok"
    assert "checks pass" in found["virt-host-validate"].finding
    assert names(virsh) == before


def test_a_run(vbench: Vbench) -> None:
    done = vbench.run(
        *("run", "--backend", "libvirt-tcg", "--boots", "1", "--rounds", "1"),
        *("--workload", "syscall-getppid", "--workload", "network-rr"),
        *("--workload", "disk-randread-qd1", "--out", vbench.out),
    )
    assert done.returncode == 0, done.stderr
    (file,) = vbench.out.glob("*.json")
    items = json.loads(file.read_text())["vbench"]["items"]
    assert {each["workload"]: each["status"] for each in items} == {
        "syscall-getppid": "ok",
        "network-rr": "ok",
        "disk-randread-qd1": "ok",
    }


def test_a_file_that_cannot_be_taken_over_is_a_usage_error(vbench: Vbench) -> None:
    file = vbench.root / "mine.xml"
    file.write_text("<domain type='qemu'><devices><hostdev/></devices></domain>")
    done = vbench.run("exec", f"libvirt-tcg,xml={file}", "--", "true")
    assert done.returncode == 2
    assert "<hostdev> cannot be taken over or swapped" in done.stderr
    assert "remove <hostdev> from a copy" in done.stderr
