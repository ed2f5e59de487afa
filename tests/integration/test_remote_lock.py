"""One run at a time on a machine reached by SSH: the lock lies there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.integration.ssh_server import ssh_server
from tests.integration.test_ssh_servers import host_on, root
from vbench.errors import HostError, UsageError
from vbench.run.lock import measuring_alone

__all__ = ["root"]  # a fixture


def test_a_second_run_is_told_who_measures_there(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    entered, waits = threading.Event(), threading.Event()

    def say(text: str) -> None:
        said.append(text)
        waits.set()

    def second(address: str) -> None:
        monkeypatch.setattr(sys, "argv", ["vbench", "run", "second"])
        with measuring_alone((address,), say):
            entered.set()

    with ssh_server(root) as server, host_on(server, monkeypatch):
        (root / "lock").symlink_to(root / "known_hosts")  # not followed
        before = server.known_hosts.read_text()
        with measuring_alone((server.address,), pytest.fail):
            pass
        assert server.known_hosts.read_text() == before
        (root / "lock").unlink()
        monkeypatch.setattr(sys, "argv", ["vbench", "run", "first"])
        with measuring_alone((server.address,), pytest.fail):
            assert "vbench run first" in (root / "lock").read_text()
            thread = threading.Thread(target=second, args=(server.address,))
            thread.start()
            assert waits.wait(30)
            assert not entered.wait(0.5)
            assert f"pid {os.getpid()}: vbench run first in {os.getcwd()}" in said[0]
        assert entered.wait(30)
        thread.join()
        assert (root / "lock").read_text() == ""


def test_a_machine_that_cannot_be_locked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was said that another vbench had measured there for an hour."""
    tools = root / "tools"
    tools.mkdir()
    for program in Path("/usr/bin").iterdir():
        if program.name != "flock":
            (tools / program.name).symlink_to(program)
    with (
        ssh_server(root, f"SetEnv PATH={tools}") as server,
        host_on(server, monkeypatch),
        pytest.raises(HostError, match="cannot lock") as caught,
    ):
        measuring_alone((server.address,), pytest.fail).__enter__()
    assert "flock: not found" in caught.value.evidence
    assert "util-linux" in caught.value.remedy


def test_two_names_of_one_machine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ssh_server(root) as server:
        config = f"Host box\n  HostName 127.0.0.1\n  Port {server.port}\nHost *\n{server.config}"
        with (
            host_on(server, monkeypatch, config),
            pytest.raises(UsageError, match="same machine by another name"),
        ):
            measuring_alone((server.address, "ssh://box"), print).__enter__()


def test_a_lost_connection_frees_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ssh_server(root) as server, host_on(server, monkeypatch):
        holding = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, server.address], stdout=subprocess.PIPE, text=True
        )
        assert holding.stdout is not None
        assert holding.stdout.readline() == "holds\n"
        holding.kill()
        holding.wait()
        holding.stdout.close()
        with measuring_alone((server.address,), print):
            pass


_HOLDER = """
import sys, time
from vbench.run.lock import measuring_alone
with measuring_alone((sys.argv[1],), print):
    print("holds", flush=True)
    time.sleep(600)
"""
