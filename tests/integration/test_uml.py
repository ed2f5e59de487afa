"""User-mode Linux, for real: guests that are processes, and what happens when they die."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.conftest import Vbench
from vbench import image
from vbench.contract.guest import Guest
from vbench.errors import AttestationError, GuestLost
from vbench.guest.target import succeed
from vbench.hosts.local import LocalHost
from vbench.hypervisors.uml.machine import BINARY
from vbench.plugins.tcg import BACKEND as TCG
from vbench.plugins.uml import BACKEND
from vbench.records import Place

pytestmark = pytest.mark.uml


@pytest.fixture(scope="module")
def host() -> Iterator[LocalHost]:
    host = LocalHost()
    able = BACKEND.probe(host, BACKEND.options)
    if not able.ok:
        host.close()
        pytest.skip(able.reason)
    yield host
    host.close()


@pytest.fixture(scope="module")
def guest(host: LocalHost) -> Iterator[Guest]:
    with BACKEND.launch(host, image.ensure(), BACKEND.options) as each:
        yield each


def kernels() -> set[int]:
    """Processes whose program is User-mode Linux."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "exe").readlink().name == BINARY:
                found.add(int(folder.name))
        except OSError:
            continue
    return found


def test_it_is_what_it_says(guest: Guest) -> None:
    attestation = BACKEND.attest(guest)
    assert "User-mode Linux 6." in attestation.summary
    assert (attestation.place, attestation.ring) == (Place.PROCESS, 3)
    assert attestation.access is not None
    assert attestation.access.who == "any user"
    assert guest.observed.kernel != os.uname().release
    assert {phase.phase for phase in guest.phases} >= {"ready", "command", "userspace"}


def test_another_guest_is_not_taken_for_it(host: LocalHost) -> None:
    with (
        TCG.launch(host, image.ensure(), TCG.options) as other,
        pytest.raises(AttestationError, match="its CPU is"),
    ):
        BACKEND.attest(other)


def test_its_clock_is_the_hosts(guest: Guest) -> None:
    began = time.monotonic()
    before = float(succeed(guest, "cat /proc/uptime", timeout_s=20).split()[0])
    time.sleep(2)
    after = float(succeed(guest, "cat /proc/uptime", timeout_s=20).split()[0])
    assert 2.0 <= after - before <= time.monotonic() - began + 0.05


def test_user_code_runs_natively_and_system_calls_do_not(guest: Guest, host: LocalHost) -> None:
    """The median of many short groups, so that a busy machine matters little."""

    def probe(where: Guest | None, command: str, key: str = "p50_ns") -> float:
        if where is not None:
            text = succeed(where, f"vbench-probe {command}", timeout_s=60)
        else:
            program = f"{host.upload_image(image.ensure()).root}/usr/bin/vbench-probe"
            text = host.run([program, *command.split()], timeout_s=60).stdout
        return float(json.loads(text)[key])

    computing = probe(guest, "prime 2000") / probe(None, "prime 2000")
    calling = probe(guest, "getppid 20000") / probe(None, "getppid 20000")
    assert 0.7 < computing < 1.5
    assert calling > 5
    # Its clock costs as much as an event takes: what is taken off for it must not be the event.
    least = probe(guest, "prime 2000", "min_ns") / probe(None, "prime 2000", "min_ns")
    assert least > 0.93


def test_a_guest_that_is_killed_is_lost_and_leaves_nothing(host: LocalHost) -> None:
    del host  # its one tap is in use
    before, other = kernels(), LocalHost()
    with closing(other), BACKEND.launch(other, image.ensure(), BACKEND.options) as doomed:
        mine = kernels() - before
        assert mine
        os.kill(min(mine), 9)
        with pytest.raises(GuestLost, match="machine ended"):
            doomed.run("sleep 5", timeout_s=20)
    deadline = time.monotonic() + 10
    while kernels() - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert kernels() - before == set()


# The real program under a seccomp filter that refuses ptrace, as those of containers do:
# linux/filter.h loads a call's number, 101 is ptrace, 0x50001 is EPERM.
FORBIDDEN = """#!{python}
import ctypes, os, struct, sys
rules = (0x20, 0, 0, 0), (0x15, 0, 1, 101), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000)
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in rules))
header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(program)))
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
if libc.prctl(22, 2, header): sys.exit("no seccomp")
os.execv("{real}", sys.argv)
"""


def test_where_ptrace_is_forbidden_the_reason_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: LocalHost
) -> None:
    del host  # it is installed
    program = tmp_path / BINARY
    program.write_text(FORBIDDEN.format(python=sys.executable, real=shutil.which(BINARY)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with closing(LocalHost()) as other:
        found = BACKEND.probe(other, BACKEND.options)
    assert not found.ok
    assert "does not start: check_ptrace" in found.reason
    assert "needs ptrace" in found.remedy


def test_a_run_over_two_boots(vbench: Vbench, host: LocalHost) -> None:
    del host
    done = vbench.run(
        *("run", "--backend", "uml", "--boots", "2", "--rounds", "1", "--out", vbench.out),
        *("--workload", "syscall-getppid", "--workload", "network-rr"),
        *("--workload", "disk-randread-qd1"),
    )
    assert done.returncode == 0, done.stderr
    (file,) = vbench.out.glob("*.json")
    items = {each["workload"]: each for each in json.loads(file.read_text())["vbench"]["items"]}
    assert items["syscall-getppid"]["status"] == "ok"
    assert items["network-rr"]["status"] == "ok"
    assert items["disk-randread-qd1"]["status"] == "unsupported"
    assert "page cache" in items["disk-randread-qd1"]["reason"]
