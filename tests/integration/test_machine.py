"""Machines that are already there: real guests, reached as a user would reach them."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import Vbench, until
from tests.integration.ssh_server import SSHD, ssh_program, ssh_server
from tests.integration.test_docs import example
from vbench import image
from vbench.contract.console import kernel_arguments
from vbench.contract.guest import SERVER_PORT
from vbench.contract.host import HINT_EARLY, Host
from vbench.guest.launch import LaunchKeys, log_in, write_initramfs
from vbench.guest.shell import GuestShell
from vbench.guest.target import parse_facts
from vbench.hosts.local import LocalHost
from vbench.hypervisors.machine import identify as known
from vbench.hypervisors.machine.identify import ASK, evidence, identify
from vbench.hypervisors.qemu.cmdline import GuestSpec, Nic, argv
from vbench.hypervisors.qemu.kvm import HINT_CPU
from vbench.hypervisors.qemu.machine import QemuMachine
from vbench.image.cpio import archive, file
from vbench.model import Output, Status
from vbench.plugins.kvm_virtio import BACKEND as KVM_VIRTIO
from vbench.plugins.machine import BACKENDS
from vbench.records import Hypervisor, NativeReference
from vbench.results.loading import load_all
from vbench.testbed import TestbedHost

MACHINE = BACKENDS[0]
FORWARDS = ",".join(f"hostfwd=tcp:127.0.0.1:0-:{port}" for port in (22, SERVER_PORT))
NIC = Nic("virtio-net-pci", f"user,restrict=on,{FORWARDS}", "52:54:00:76:62:07")


FLOCK = Path("/usr/bin/flock")


@dataclass
class Machine:
    """A guest that somebody else started, with the keys to it."""

    shell: GuestShell
    port: int  # that its SSH is forwarded to
    server_port: int  # likewise its SERVER_PORT
    keys: LaunchKeys


def shows(run: Callable[..., Output]) -> Hypervisor | None:
    found = identify(evidence(parse_facts(run(ASK, timeout_s=30).stdout)))
    return found.hypervisor if found else None


@contextmanager
def machine(cpu: str, *extra: str, reboots: bool = False) -> Iterator[Machine]:
    with closing(LocalHost()) as host, started(host, "tcg", cpu, *extra, reboots=reboots) as made:
        yield made


@contextmanager
def started(
    host: Host, accel: str, cpu: str, *extra: str, reboots: bool = False
) -> Iterator[Machine]:
    with ExitStack() as stack:
        files = host.upload_image(image.ensure())
        folder, keys = stack.enter_context(host.workdir()), LaunchKeys.generate()
        hint, early = (host.launch_hints.get(name, "") for name in (HINT_CPU, HINT_EARLY))
        initrd = write_initramfs(host, files, folder, keys, early)
        if accel == "tcg":  # a file of ours
            # What a machine that is locked must have, and our image has not.
            with open(initrd, "ab") as archives:
                archives.write(archive([file("usr/bin/flock", FLOCK.read_bytes(), 0o755)]))
        spec = GuestSpec(
            accel=accel,
            cpu=",".join(filter(None, [cpu, hint])),
            kernel=files.kernel,
            initrd=initrd,
            append=kernel_arguments("ttyS0", ["10.0.2.15/24"]),
            memory_mib=1024 if accel == "tcg" else 512,
            nics=(NIC,),
            extra=extra,
        )
        line = [word for word in argv(spec) if not (reboots and word == "-no-reboot")]
        qemu = QemuMachine(host, line)
        stack.callback(qemu.close)
        qemu.wait_ready(120 * host.timeout_scale)
        port = qemu.forwarded_port(22)
        ssh = log_in(host, "127.0.0.1", port, keys, timeout_s=60, machine=qemu)
        stack.callback(ssh.close)
        served = qemu.forwarded_port(SERVER_PORT)
        yield Machine(GuestShell(qemu, ssh, host), port, served, keys)


def smbios(vendor: str, product: str) -> tuple[str, str]:
    return ("-smbios", f"type=1,manufacturer={vendor},product={product}")


@pytest.mark.tcg
@pytest.mark.parametrize(
    ("cpu", "extra", "hypervisor"),
    [
        ("max", (), known.QEMU_TCG),
        ("max,-hypervisor", (), known.QEMU),
        ("max,-hypervisor", smbios("VMware,, Inc.", "VMware7"), known.VMWARE),
        ("max", smbios("innotek GmbH", "VirtualBox"), known.VIRTUALBOX),
        ("max", smbios("Parallels International GmbH.", "Parallels"), known.PARALLELS),
        # nothing but the firmware's tables is left to tell it by
        ("max,-hypervisor", smbios("A Maker", "A Server"), known.QEMU),
    ],
    ids=["tcg", "hidden", "vmware", "virtualbox", "parallels", "firmware"],
)
def test_a_guest_is_told_by_what_it_shows(
    cpu: str, extra: tuple[str, ...], hypervisor: Hypervisor
) -> None:
    with machine(cpu, *extra) as made:
        assert shows(made.shell.run) is hypervisor


@pytest.mark.testbed
@pytest.mark.parametrize(
    ("cpu", "signatures", "hypervisor"),
    [
        ("host,hv-relaxed,hv-vapic,hv-time", {"Microsoft Hv", "KVMKVMKVM"}, known.KVM),
        ("host,kvm=off", set(), known.QEMU),
        (
            "host,kvm=off,hv-relaxed,hv-vendor-id=VMwareVMware",
            {"VMwareVMware"},
            known.VMWARE,
        ),
        # another one's interface, with DMI that says QEMU
        ("host,kvm=off,hv-relaxed", {"Microsoft Hv"}, known.QEMU),
    ],
    ids=["enlightened", "hidden", "vmware", "interface"],
)
def test_kvm_is_told_whatever_it_plays(
    testbed: TestbedHost, cpu: str, signatures: set[str], hypervisor: Hypervisor
) -> None:
    options = dataclasses.replace(KVM_VIRTIO.options, cpu=cpu)
    with KVM_VIRTIO.launch(testbed, image.ensure(), options) as guest:
        seen = evidence(parse_facts(guest.run(ASK, timeout_s=30).stdout))
        assert {text.strip("\0") for text in seen.signatures.values()} == signatures
        assert shows(guest.run) is hypervisor


@pytest.mark.testbed
def test_hyper_v_is_told_by_its_interface_and_its_maker(testbed: TestbedHost) -> None:
    extra = smbios("Microsoft Corporation", "Virtual Machine")
    with started(testbed, "kvm", "host,kvm=off,hv-relaxed", *extra) as made:
        assert shows(made.shell.run) is known.HYPER_V


@pytest.mark.skipif(SSHD is None, reason="sshd is not installed")
@pytest.mark.parametrize(("says", "disputed"), [("", False), ("vmware", True), ("none", True)])
def test_what_systemd_says_of_this_machine_stands_beside_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, disputed: bool
) -> None:
    """The machine that the tests run on, over SSH; `says`: another systemd-detect-virt answers."""
    with closing(LocalHost()) as host:
        if host.facts().facts["virtualization"] != "kvm":
            pytest.skip("this machine is no guest of KVM")
    other = tmp_path / "systemd-detect-virt"
    if says:
        other.write_text(f"#!/bin/sh\necho {says}\n")
        other.chmod(0o755)
    environment = f"SetEnv PATH={tmp_path}:/usr/bin:/bin:/usr/sbin:/sbin SHLVL=2"
    folders = f"VBENCH_TMP={tmp_path}/tmp VBENCH_CACHE={tmp_path}/cache"
    with ssh_server(tmp_path, f"{environment} {folders}") as server:
        monkeypatch.setenv("PATH", ssh_program(tmp_path, server.config))
        options = dataclasses.replace(MACHINE.options, address=server.address)
        with (
            closing(LocalHost()) as host,
            closing(MACHINE.launch(host, image.ensure(), options)) as guest,
        ):
            seen = MACHINE.attest(guest)
    assert seen.hypervisor == known.KVM
    assert seen.evidence["systemd-detect-virt"] in ([says] if says else ["kvm", "not there"])
    assert ("disputed: systemd-detect-virt says" in seen.summary) is disputed


def by_ssh(made: Machine, folder: Path) -> str:
    """A PATH whose `ssh` knows the machine."""
    (folder / "key").write_text(made.keys.own.openssh_private())
    (folder / "key").chmod(0o600)
    (folder / "known").write_text(f"[127.0.0.1]:{made.port} {made.keys.host.authorized_line}")
    config = f"IdentityFile {folder}/key\nUserKnownHostsFile {folder}/known\n"
    return ssh_program(folder, config)


@pytest.mark.tcg
def test_the_example_of_a_machine_gives_absolute_values_of_one_boot(
    vbench: Vbench, tmp_path: Path
) -> None:
    with machine("max") as made:
        (tmp_path / "my_machine.py").write_text(example("writing-a-backend.md", "my_machine.py"))
        variant = f"my-cloud,address=root@127.0.0.1:{made.port}"
        out = tmp_path / "out"
        done = vbench.run(
            *("run", "--plugin", tmp_path / "my_machine.py", "--backend", variant),
            *("--boots", "2", "--rounds", "2", "--out", str(out)),
            *("--workload", "syscall-getppid", "--workload", "boot-command"),
            *("--workload", "network-rr"),
            PATH=by_ssh(made, tmp_path),
        )
    assert done.returncode == 0, done.stderr
    (result,) = load_all([out])
    items = {item.workload: item for item in result.items}
    assert items["boot-command"].status is items["network-rr"].status is Status.UNSUPPORTED
    assert "option network=ADDRESS allows it" in items["network-rr"].reason
    calls = items["syscall-getppid"]
    assert len(calls.pairs) == 4
    assert {(pair.native_s, pair.boot) for pair in calls.pairs} == {(None, 0)}
    (launch,) = result.launches
    assert launch.attestation.hypervisor == known.QEMU_TCG
    assert launch.capabilities is not None
    assert launch.capabilities.native is NativeReference.NONE
    assert "no native partner" in (out / "report.md").read_text()
    assert "`, seen to run under QEMU (TCG)" in (out / "report.md").read_text()
    assert "System call (getppid), ns: " in done.stdout


@pytest.mark.tcg
def test_a_reference_gives_a_ratio_and_a_reboot_is_a_boot(vbench: Vbench, tmp_path: Path) -> None:
    with machine("max", reboots=True) as made:
        address = f"address=root@127.0.0.1:{made.port},network=localhost:{made.server_port}"
        out = tmp_path / "out"
        done = vbench.run(
            *("run", "--backend", f"machine-translated,{address},reference=local,reboot=on"),
            *("--boots", "1", "--rounds", "1", "--out", out, "--workload", "syscall-getppid"),
            *("--workload", "network-rr", "--workload", "network-receive"),
            *("--workload", "network-send"),
            PATH=by_ssh(made, tmp_path),
        )
    assert done.returncode == 0, done.stderr
    (result,) = load_all([out])
    items = {item.workload: item for item in result.items}
    item = items.pop("syscall-getppid")
    assert len(items) == 3
    for each in items.values():  # nothing native is on its way
        assert each.status is Status.OK
        assert each.pairs[0].guest_s > 0
        assert each.pairs[0].native_s is None
        assert "own_network" in each.flags
    assert all(pair.native_s for pair in item.pairs)
    assert {"other_machine", "cpu_differs"} <= set(item.flags)
    with closing(LocalHost()) as host:
        nested = host.facts().facts["virtualization"] != "none"
    assert ("reference_is_guest" in item.flags) is nested
    assert result.host.identity.startswith("local:")
    (launch,) = result.launches
    assert [phase.name for phase in launch.phases] == ["launch to command"]
    assert launch.capabilities is not None
    assert launch.capabilities.relaunchable
    assert launch.capabilities.network_by == f"to 127.0.0.1:{made.server_port} from local, dev lo"


HANGS = '''
def bench_cpu_hang(measure):
    """Hangs."""
    measure(lambda n, endpoint: "sleep 986; true", read=parsers.probe)
'''


@pytest.mark.tcg
@pytest.mark.parametrize("reboot", ["on", "off"])
def test_a_machine_is_locked_while_it_is_measured(
    vbench: Vbench, tmp_path: Path, reboot: str
) -> None:
    """By a lock that lies on it, also after a reboot of ours."""
    free = "flock -n /var/tmp/vbench-run.lock true && echo free"
    with machine("max", reboots=True) as made:
        variant = f"machine-translated,address=root@127.0.0.1:{made.port},reboot={reboot}"
        path = by_ssh(made, tmp_path)

        def there(command: str) -> str:
            line = ["ssh", "-p", str(made.port), "root@127.0.0.1", command]
            env = {**os.environ, "PATH": path}
            done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
            return done.stdout.strip()

        process = vbench.start(
            *("run", "--backend", variant, "--out", tmp_path / "out", vbench.workload(HANGS)),
            PATH=path,
        )
        try:
            assert until(lambda: there("ps | grep '[s]leep 986'") != "", 120)
            assert there(free) == ""
        finally:
            process.kill()
            process.communicate()
        assert until(lambda: there(free) == "free", 20)
