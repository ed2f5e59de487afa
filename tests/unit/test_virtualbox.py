"""VirtualBox without VirtualBox: commands, disks, and a machine's life with a made-up
VBoxManage."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from vbench.errors import GuestError, GuestLost, LaunchError
from vbench.hosts.local import LocalHost
from vbench.hypervisors.virtualbox import host as vbox
from vbench.hypervisors.virtualbox import machine
from vbench.hypervisors.virtualbox.backend import (
    VirtualBoxOptions,
    log_facts,
    log_problems,
    used_ports,
)
from vbench.hypervisors.virtualbox.config import VmSpec, commands, raw_disk
from vbench.hypervisors.virtualbox.machine import VirtualBoxMachine
from vbench.plugins.virtualbox import BACKEND

SPEC = VmSpec(
    name="vbench-1",
    folder="/tmp/w",
    medium="/tmp/w/medium.iso",
    disk="/tmp/w/scratch.vmdk",
    console="/dev/stderr",
    ports={22: 22222, 5201: 22223},
    mac="08:00:27:01:02:03",
)


def test_commands() -> None:
    made = [" ".join(each) for each in commands(SPEC)]
    assert made[0] == "createvm --name vbench-1 --ostype Linux_64 --basefolder /tmp/w --register"
    assert made[1].startswith("modifyvm vbench-1 --cpus 1 --memory 512 ")
    assert "--iocache off --nested-paging on " in made[1]
    assert "--nat-pf1 port22,tcp,127.0.0.1,22222,,22" in made[1]
    assert "--nat-pf1 port5201,tcp,127.0.0.1,22223,,5201" in made[1]
    assert "--nic-type1 virtio --mac-address1 080027010203 " in made[1]
    other = " ".join(commands(dataclasses.replace(SPEC, nic="e1000", ports={}, bridge="b0"))[1])
    assert (
        "--nic-type1 82540EM --mac-address1 080027010203 --nic1 bridged --bridge-adapter1 b0"
        in other
    )
    assert "--nat" not in other
    assert "--uart1 0x3F8 4 --uart-mode1 file /dev/stderr" in made[1]
    assert "--hostiocache off" in made[2]  # else the host's page cache answers
    assert made[3].endswith("--port 0 --device 0 --type hdd --medium /tmp/w/scratch.vmdk")
    assert made[4].endswith("--port 1 --device 0 --type dvddrive --medium /tmp/w/medium.iso")
    assert made[5:] == [
        "setextradata vbench-1 VBoxInternal/TM/TSCMode RealTSCOffset",
        "setextradata vbench-1 VBoxInternal/TM/HostHzMax 1000",
    ]


def test_virtualboxs_own_choices() -> None:
    spec = dataclasses.replace(SPEC, tsc_mode="", host_hz_max=0, nested_paging=False)
    made = [" ".join(each) for each in commands(spec)]
    assert "--nested-paging off" in made[1]
    assert len(made) == 5


def test_a_raw_disk() -> None:
    assert 'createType="monolithicFlat"\nRW 524288 FLAT "/d/scratch" 0\n' in raw_disk(
        "/d/scratch", 256, device=False
    )
    assert 'createType="fullDevice"\nRW 262144 FLAT "/dev/ram0" 0\n' in raw_disk(
        "/dev/ram0", 128, device=True
    )
    with pytest.raises(ValueError, match="cannot hold"):
        raw_disk('/a"b', 1, device=False)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"vcpus": 0}, "vcpus"),
        ({"memory": 128}, "memory"),
        ({"paravirt": "xen"}, "paravirt"),
        ({"nic": "82540EM"}, "nic"),
        ({"tsc_mode": "no"}, "tsc_mode"),
        ({"host_hz_max": 5}, "host_hz_max"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        VirtualBoxOptions(**options)


def test_shadow_paging_is_a_contrast() -> None:
    said = BACKEND.declare(VirtualBoxOptions(nested_paging=False))
    assert (said.shadow_paging, said.contrast_to) == (True, "virtualbox")
    assert BACKEND.declare(VirtualBoxOptions()).contrast_to == ""


# ------------------------------------------------------------------ its log, its ports

LOG = """
00:00.133480 HM: HMR3Init: AMD-V w/ nested paging
00:00.140728 TM: GIP - u32Mode=3 (Invariant) u32UpdateHz=62 u32UpdateIntervalNS=16000000
00:00.140774 TM:     cTSCTicksPerSecond=1 000 000 009 (0x3b9aca09) enmTSCMode=2 (RealTSCOffset) T=1
00:00.143488 GIM: Using provider 'KVM' (Implementation version: 0)
00:00.189706 HM: Enabled SVM
00:00.189707 HM:   Enabled nested paging
00:07.739340 GIM: KVM: VCPU  0: Enabled system-time struct. at 0xe001000 - fFlags=0x1 TscKHz=1000000
"""


def test_the_log() -> None:
    seen = log_facts(LOG)
    assert seen["VBox.log: processor"] == "AMD-V"
    assert seen["VBox.log: paravirtual interface"] == "KVM"
    assert log_problems(seen, SPEC) == []
    cached = log_facts(f"00:00.129774   BlockCache <integer> = 0x0000000000000001 (1)\n{LOG}")
    assert log_problems(cached, SPEC) == ["the disk goes through VirtualBox's own cache"]
    wrong = log_facts(LOG.replace("TscKHz=1000000", "TscKHz=995534"))
    assert log_problems(wrong, SPEC) == [
        "its clock is -0.45% wrong, as the host's TSC is not invariant"
    ]
    shadow = dataclasses.replace(SPEC, nested_paging=False, tsc_mode="VirtTSCEmulated")
    assert log_problems(seen, shadow) == [
        "nested paging is on",
        "its TSC is RealTSCOffset, not VirtTSCEmulated",
    ]
    assert log_problems(log_facts("NEM: Adjusting"), dataclasses.replace(SPEC, tsc_mode="")) == [
        "VirtualBox's log does not say that it uses AMD-V or VT-x",
        "nested paging is off",
    ]


def test_used_ports() -> None:
    table = "  sl  local_address rem_address\n   0: 0100007F:56CE 00000000:0000 0A 0\n"
    assert used_ports(table) == {22222}


# ------------------------------------------------------------------ a machine's life

MANAGE = r"""#!/bin/sh
[ "$VBOX_USER_HOME" ] || exit 9
echo "$*" >>"$VBOX/calls"
[ ! -f "$VBOX/hang" ] || sleep 60
[ "$2" != createvm ] || [ ! -f "$VBOX/refuse" ] || { echo "VBoxManage: error: no" >&2; exit 1; }
[ "$4" != savestate ] || [ ! -f "$VBOX/full" ] || { echo "VERR_DISK_FULL" >&2; exit 1; }
[ "$4" != savestate ] || touch "$VBOX/saved"
[ "$2" != createvm ] || { setsid sleep 300 & echo $! >"$VBOX/service"; }
"""
HEADLESS = r"""#!/bin/sh
echo "VBENCH-READY userspace=1.5 ready=2.25" >&2
while [ ! -f "$VBOX/saved" ]; do sleep 0.05; done
rm "$VBOX/saved"
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in (("VBoxManage", MANAGE), ("VBoxHeadless", HEADLESS)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("VBOX", str(tmp_path))
    return tmp_path


@pytest.fixture
def host() -> Iterator[LocalHost]:
    here = LocalHost()
    yield here
    here.close()


def start(host: LocalHost, stack: ExitStack) -> VirtualBoxMachine:
    folder = stack.enter_context(host.workdir())
    return VirtualBoxMachine(host, dataclasses.replace(SPEC, folder=folder), stack)


def ends(pid: str) -> bool:
    """Within a moment: a signal takes one to arrive."""
    for _ in range(500):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_from_its_making_to_its_end(host: LocalHost, programs: Path) -> None:
    with ExitStack() as stack:
        mine = start(host, stack)
        assert mine.wait_ready(10) == {"userspace": 1.5, "ready": 2.25}
        assert mine.alive
        mine.pause()
        mine.resume()
        service = (programs / "service").read_text().strip()
        assert Path(f"/proc/{service}").exists()
    assert not mine.alive
    assert ends(service)  # it has a session of its own
    calls = (programs / "calls").read_text().splitlines()
    assert calls[0].startswith("-q createvm")
    assert calls[-2:] == ["-q controlvm vbench-1 pause", "-q controlvm vbench-1 resume"]


def test_a_machine_that_is_saved_goes_on(host: LocalHost, programs: Path) -> None:
    with ExitStack() as stack:
        mine = start(host, stack)
        mine.wait_ready(10)
        before = mine.process.pid
        with mine.saved() as folder:
            assert not mine.alive
            assert folder == f"{mine.spec.folder}/vbench-1/Snapshots"
        assert mine.alive
        assert mine.process.pid != before
    assert ends(str(mine.process.pid))


def test_a_machine_that_cannot_be_saved_goes_on(host: LocalHost, programs: Path) -> None:
    (programs / "full").touch()
    with ExitStack() as stack:
        mine = start(host, stack)
        mine.wait_ready(10)
        with pytest.raises(GuestError, match="VERR_DISK_FULL") as caught, mine.saved():
            pass
        assert not isinstance(caught.value, GuestLost)
        assert mine.alive


def test_a_machine_adopts_the_state_before_it_starts(host: LocalHost, programs: Path) -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(host.workdir())
        spec = dataclasses.replace(SPEC, folder=folder)
        VirtualBoxMachine(host, spec, stack, "/tmp/state").wait_ready(10)
    assert "-q adoptstate vbench-1 /tmp/state" in (programs / "calls").read_text()


def test_it_refuses(host: LocalHost, programs: Path) -> None:
    (programs / "refuse").touch()
    with ExitStack() as stack, pytest.raises(LaunchError, match="did not make") as caught:
        start(host, stack)
    assert "error: no" in caught.value.evidence
    assert "createvm" in caught.value.evidence


def test_its_service_hangs(
    host: LocalHost, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (programs / "hang").touch()
    monkeypatch.setattr(machine, "MAKE_TIMEOUT_S", 0.5)
    with ExitStack() as stack, pytest.raises(LaunchError, match="does not answer") as caught:
        start(host, stack)
    assert "VBoxSVC" in caught.value.remedy


def test_a_machine_that_ended(host: LocalHost, programs: Path) -> None:
    with ExitStack() as stack:
        mine = start(host, stack)
        mine.close()
        assert not mine.alive
        (programs / "VBoxManage").write_text("#!/bin/sh\necho gone >&2; exit 1\n")
        with pytest.raises(GuestLost, match="controlvm failed: gone"):
            mine.pause()


def test_what_a_killed_run_left_is_ended_and_nothing_else(host: LocalHost, tmp_path: Path) -> None:
    """A machine of ours without its janitor, one of a run that lives, and somebody else's."""
    left, living = tmp_path / "vbench-left", tmp_path / "vbench-living"
    for folder in (left, living):
        folder.mkdir()
    janitor = sleeper(vbox.JANITOR, str(living))
    machines = [sleeper(f"{vbox.MARK}{each}/abc") for each in (left, living)]
    other = sleeper("--comment", "Windows")
    try:
        assert vbox.sweep(host) == [str(machines[0].pid)]
        assert machines[0].wait(5) == -9
        assert not left.exists()
        assert living.exists()
        assert [each.poll() for each in (machines[1], other, janitor)] == [None] * 3
    finally:
        for each in (*machines, other, janitor):
            each.kill()
            each.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user, too")
def test_another_users_process_removes_nothing_of_ours(host: LocalHost, tmp_path: Path) -> None:
    """Whoever wants root to remove a folder might call a program like a machine of ours."""
    folder = tmp_path / "vbench-results"
    folder.mkdir()
    foreign = sleeper(f"{vbox.MARK}{folder}/abc", user=65534)
    try:
        assert vbox.sweep(host) == []
        assert foreign.poll() is None
        assert folder.exists()
    finally:
        foreign.kill()
        foreign.wait()


def sleeper(*words: str, user: int | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sh", "-c", "while :; do sleep 0.05; done", *words], user=user)
