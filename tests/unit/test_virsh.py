"""Why libvirt may not answer, and whose domains are ended, by a made-up virsh."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vbench.errors import HostError
from vbench.hosts.local import LocalHost
from vbench.hypervisors.libvirt.doctor import checks, validated
from vbench.hypervisors.libvirt.virsh import SESSION, SYSTEM, Virsh

Script = Callable[[str], None]
WORKS = """
case "$*" in
*version*) echo "Using library: libvirt 9.0.0"; echo "Running hypervisor: QEMU 7.2.22";;
*domcapabilities*) [ "$6" = qemu ] || { echo "error: KVM is not supported by QEMU" >&2; exit 1; };;
esac
"""
REFUSED = "error: failed to connect to the hypervisor\nerror: "


@pytest.fixture
def virsh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    def write(script: str) -> None:
        program = tmp_path / "bin" / "virsh"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return write


def able(script: Script, said: str, uri: str = SYSTEM) -> tuple[str, str]:
    script(f"cat >&2 <<'END'\n{said}\nEND\nexit 1\n")
    found = Virsh(LocalHost(), uri).able("qemu")
    assert not found.ok
    return found.reason, found.remedy


def test_a_daemon_that_does_not_run(virsh: Script) -> None:
    why = "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory"
    reason, remedy = able(virsh, REFUSED + why)
    assert reason == f"libvirt does not answer at {SYSTEM}: {why}"
    assert "systemctl start libvirtd" in remedy
    assert "vbench setup --libvirt" in able(virsh, REFUSED + why, SESSION)[1]


@pytest.mark.parametrize(
    "why",
    [
        "Failed to connect socket to '/run/libvirt/libvirt-sock': Permission denied",
        "authentication unavailable: no polkit agent available to authenticate action "
        "'org.libvirt.unix.manage'",
    ],
)
def test_a_user_who_may_not(virsh: Script, why: str) -> None:
    reason, remedy = able(virsh, REFUSED + why)
    assert reason == f"this user may not use {SYSTEM}: {why}"
    assert "usermod -aG libvirt" in remedy
    assert f"uri={SESSION}" in remedy


def test_no_virsh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in ("sh", "id", "env", "setpriv"):
        path = next(p for p in (Path("/bin", tool), Path("/usr/bin", tool)) if p.exists())
        (tmp_path / tool).symlink_to(path)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = Virsh(LocalHost()).able("qemu")
    assert (found.reason, found.remedy) == (
        "virsh is not installed",
        "run `vbench setup --libvirt`",
    )
    (check,) = checks(LocalHost())
    assert (check.state, check.finding) == ("info", "virsh is not installed")


def test_a_daemon_that_hangs(virsh: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vbench.hypervisors.libvirt.virsh.TIMEOUT_S", 0.2)
    virsh("exec sleep 100")
    found = Virsh(LocalHost()).able("qemu")
    assert "libvirt at qemu:///" in found.reason
    assert "hangs" in found.reason
    assert "virtqemud" in found.remedy
    with pytest.raises(HostError, match="virsh list: no answer of libvirt") as caught:
        Virsh(LocalHost()).ask("list", timeout_s=0.2)
    assert "virtqemud" in caught.value.remedy


def test_a_type_that_the_host_has_not(virsh: Script) -> None:
    virsh(WORKS)
    asked = Virsh(LocalHost())
    assert asked.able("qemu").ok
    assert asked.version() == "9.0.0"
    found = asked.able("kvm")
    assert found.reason == "libvirt starts no domains of type kvm: KVM is not supported by QEMU"
    assert "doctor" in found.remedy


def test_a_connection_to_something_else(virsh: Script) -> None:
    virsh("echo 'Running hypervisor: Xen 4.17'")
    assert "is no connection to QEMU" in Virsh(LocalHost(), "xen:///system").able("qemu").reason


def test_root_has_the_systems_daemon_and_others_their_own(virsh: Script) -> None:
    virsh(WORKS)
    uri = SYSTEM if os.getuid() == 0 else SESSION
    assert Virsh(LocalHost()).uri == uri
    assert Virsh(LocalHost(), SESSION).privileged is False


def test_an_error_has_virshs_words(virsh: Script) -> None:
    virsh("echo 'error: Domain not found' >&2; echo 'error: more' >&2; exit 1")
    with pytest.raises(HostError, match="virsh suspend: Domain not found"):
        Virsh(LocalHost()).ask("suspend", "vbench-1")


def test_only_what_a_killed_vbench_of_this_user_left_is_ended(
    virsh: Script, tmp_path: Path
) -> None:
    me, here = os.getuid(), tmp_path
    folders = {
        "vbench-left": (me, tmp_path / "gone"),
        "vbench-runs": (me, here),
        "vbench-another-users": (me + 1, tmp_path / "gone"),
    }
    for name, (user, folder) in folders.items():
        (tmp_path / name).write_text(
            "<domain><metadata><v:launch xmlns:v='urn:vbench:launch' "
            f"user='{user}' folder='{folder}'/></metadata></domain>"
        )
    (tmp_path / "vbench-not-ours").write_text("<domain/>")
    # virsh -q -c URI COMMAND NAME
    virsh(f"""
case $4 in
list) echo web; ls {tmp_path} | grep ^vbench-;;
dumpxml) cat {tmp_path}/$5;;
destroy) echo "$5" >> {tmp_path}/destroyed;;
esac
""")
    assert Virsh(LocalHost()).end_left() == ["vbench-left"]
    assert set((tmp_path / "destroyed").read_text().split()) == {"vbench-left"}


def test_what_virt_host_validate_says_in_one_line() -> None:
    found = [("device /dev/kvm exists", "PASS"), ("IOMMU support", "WARN"), ("CPUs", "FAIL")]
    assert validated(found) == "1 of 3 checks pass; WARN IOMMU support; FAIL CPUs"
