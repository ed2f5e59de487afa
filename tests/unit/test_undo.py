"""What a run switched on is switched back: at its end, after an error, after SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vbench.contract.undo import undone
from vbench.errors import HostError
from vbench.hosts.local import LocalHost

# Switches something on and is killed.
KILLED = """
import os, signal, sys
from vbench.contract.undo import undone
from vbench.hosts.local import LocalHost
mark = sys.argv[1]
with undone(LocalHost(), f"rm {mark}"):
    open(mark, "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHost]:
    base = tmp_path / "base"
    base.mkdir()
    monkeypatch.setenv("VBENCH_TMP", str(base))
    made = LocalHost()
    yield made
    made.close()
    assert list(base.iterdir()) == []


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "on"


def test_it_is_undone_at_the_end(host: LocalHost, mark: Path) -> None:
    with undone(host, f"rm {mark}"):
        mark.touch()
    assert not mark.exists()


def test_it_is_undone_after_an_error_which_stays_the_error(host: LocalHost, mark: Path) -> None:
    def fail() -> None:
        mark.touch()
        mark.mkdir()

    with pytest.raises(FileExistsError), undone(host, f"rm {mark}; exit 1"):
        fail()
    assert not mark.exists()


def test_what_cannot_be_undone_is_an_error(host: LocalHost) -> None:
    with (
        pytest.raises(HostError, match="could not be switched back") as caught,
        undone(host, "echo no such switch >&2; exit 1"),
    ):
        pass
    assert "no such switch" in str(caught.value)


def test_it_is_undone_after_sigkill(tmp_path: Path, mark: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(mark)],
        env={**os.environ, "VBENCH_TMP": str(base)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while (mark.exists() or any(base.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not mark.exists()
    assert list(base.iterdir()) == []
