"""One measuring run at a time: the second waits and says for whom."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vbench.cli import commands
from vbench.errors import UnavailableError
from vbench.hosts import lock
from vbench.run.lock import measuring_alone
from vbench.run.options import RunOptions

_HOLDER = """
import sys
from vbench.hosts import lock
lock.LOCK = sys.argv[1]
with lock.local_lock(lambda text: print("waits", flush=True)):
    print("holds", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock file of this test's own, so that no real run is waited for."""
    made = tmp_path / "run.lock"
    monkeypatch.setattr(lock, "LOCK", str(made))
    monkeypatch.delenv("VBENCH_LOCK", raising=False)
    return made


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    with process:
        yield process
        process.kill()


def test_alone_it_says_nothing(path: Path) -> None:
    said: list[str] = []
    with measuring_alone((), said.append):
        assert f"pid {os.getpid()}: " in path.read_text()
    with measuring_alone((), said.append):
        pass
    assert said == []
    assert path.read_text() == ""  # nobody is named who holds nothing


def test_the_second_waits_and_names_the_first(path: Path) -> None:
    said: list[str] = []
    entered, waiting = threading.Event(), threading.Event()

    def say(text: str) -> None:
        said.append(text)
        waiting.set()

    def second() -> None:
        with measuring_alone((), say):
            entered.set()

    with holder(path) as first:
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        assert not entered.wait(0.2)
        assert f"pid {first.pid}: " in said[0]
        assert str(path) in said[0]  # its command line
        assert f" in {os.getcwd()}" in said[0]
        assert first.stdin is not None
        first.stdin.close()  # it ends
        assert entered.wait(10)
        thread.join()
    assert len(said) == 1


def test_a_killed_holder_frees_it(path: Path) -> None:
    with holder(path) as first:
        first.kill()
        first.wait()
        said: list[str] = []
        with measuring_alone((), said.append):
            assert said == []
            assert str(os.getpid()) in path.read_text()
            assert str(path) not in path.read_text()  # nothing of the killed one's line is left


def test_an_error_frees_it(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), measuring_alone((), print):
        1 / 0  # noqa: B018
    with measuring_alone((), pytest.fail):
        pass


def test_every_user_can_lock_it(path: Path) -> None:
    before = os.umask(0o077)
    try:
        with measuring_alone((), print):
            assert path.stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


def test_it_is_not_inherited(path: Path) -> None:
    """A guest that outlived us for a moment must not keep the next run waiting."""
    with measuring_alone((), print):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with measuring_alone((), pytest.fail):
            pass
    finally:
        child.kill()
        child.wait()


def test_a_lock_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lock, "LOCK", str(tmp_path))
    with pytest.raises(UnavailableError, match="cannot open") as caught:
        measuring_alone((), print).__enter__()
    assert caught.value.exit_status == 3
    assert "regular file" in caught.value.remedy


def test_a_link_that_another_user_put_there_is_not_followed(path: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("content")
    path.symlink_to(precious)
    with pytest.raises(UnavailableError, match="cannot open"):
        measuring_alone((), print).__enter__()
    assert precious.read_text() == "content"


def test_the_wait_is_bounded_and_says_who_holds_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "TIMEOUT_S", 0.3)
    with holder(path) as first:
        with pytest.raises(UnavailableError, match="another vbench") as caught:
            measuring_alone((), lambda _: None).__enter__()
        assert f"pid {first.pid}: " in caught.value.evidence


def test_an_error_of_the_run_is_not_taken_for_the_locks() -> None:
    with pytest.raises(TimeoutError, match="of the run"), measuring_alone((), print):
        raise TimeoutError("of the run")


def test_the_testbed_is_a_part_of_this_machine(path: Path) -> None:
    with measuring_alone(("testbed", "local"), pytest.fail):
        assert f"pid {os.getpid()}: " in path.read_text()


def test_exec_waits_for_a_run_as_well(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be measured, whatever it does."""
    monkeypatch.setattr(lock, "TIMEOUT_S", 0.2)
    with holder(path) as first, pytest.raises(UnavailableError) as caught:
        commands.execute(RunOptions(), "native", ["true"])
    assert f"pid {first.pid}" in str(caught.value)
