"""This machine as a host: nothing that it started or made outlives its purpose, or us."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vbench.contract.host import Network
from vbench.errors import ConnectionLost, HostError, HostTimeout
from vbench.hosts import local
from vbench.hosts.local import LocalHost


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the host makes its directories; must be empty when a test is over."""
    path = tmp_path / "base"
    path.mkdir()
    monkeypatch.setenv("VBENCH_TMP", str(path))
    return path


@pytest.fixture
def host(base: Path) -> Iterator[LocalHost]:
    made = LocalHost()
    yield made
    made.close()
    made.close()  # safe to repeat
    assert list(base.iterdir()) == []


def until(true: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    """Wait for something that only other processes can tell."""
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def processes(mark: str) -> list[int]:
    """Living processes whose command line holds `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


# ------------------------------------------------------------------ run


def test_run(host: LocalHost) -> None:
    output = host.run(["sh", "-c", "cat; echo err >&2; exit 3"], timeout_s=10, stdin=b"in\n")
    assert (output.status, output.stdout, output.stderr) == (3, "in\n", "err\n")


def test_a_signal_is_a_negative_status(host: LocalHost) -> None:
    assert host.run(["sh", "-c", "kill -9 $$"], timeout_s=10).status == -9


def test_arguments_are_never_a_shell_line(host: LocalHost) -> None:
    assert host.run(["printf", "%s|", "a b", "$HOME", ";"], timeout_s=10).stdout == "a b|$HOME|;|"


def test_bytes_that_are_no_text_are_replaced(host: LocalHost) -> None:
    assert host.run(["printf", r"\377 ok"], timeout_s=10).stdout.endswith(" ok")


def test_both_streams_are_drained(host: LocalHost) -> None:
    script = "head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero"
    output = host.run(["sh", "-c", script], timeout_s=30)
    assert (len(output.stdout), len(output.stderr)) == (3_000_000, 3_000_000)


def test_a_program_that_reads_no_stdin(host: LocalHost) -> None:
    assert host.run(["true"], timeout_s=10, stdin=b"x" * (1 << 20)).status == 0


@pytest.mark.parametrize("stream", [1, 2])
def test_a_flood_is_stopped_and_said(host: LocalHost, stream: int, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(HostError, match="wrote more than 32 MiB"):
        host.run(["sh", "-c", f"yes {tmp_path} >&{stream}"], timeout_s=60)
    assert time.monotonic() - began < 30
    assert until(lambda: not processes(str(tmp_path)))


def test_a_python_without_pidfds(host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv's and conda's have none; in some sandboxes the call is refused."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    assert host.run(["sh", "-c", "exit 3"], timeout_s=10).status == 3
    process = host.start(["sh", "-c", "sleep 0.2; exit 4"])
    assert process.wait(0.01) is None
    assert process.wait(10) == 4
    process.kill()
    with pytest.raises(HostTimeout):
        host.run(["sleep", "60"], timeout_s=0.2)


def test_a_program_that_is_not_there(host: LocalHost) -> None:
    output = host.run(["/no/such/program"], timeout_s=10)
    assert output.status == 127
    assert "/no/such/program" in output.stderr


def test_setpriv_missing_is_said(host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HostError, match="setpriv") as caught:
        host.run(["true"], timeout_s=10)
    assert "vbench setup" in caught.value.remedy
    with pytest.raises(HostError, match="setpriv"):
        host.start(["true"])


def test_a_timeout_ends_the_whole_group(host: LocalHost, tmp_path: Path) -> None:
    """A shell's own children too: they hold the pipes open."""
    mark = str(tmp_path)
    script = 'sh -c "sleep 1000; : $0" "$0" & sh -c "sleep 1000; : $0" "$0"'
    with pytest.raises(HostTimeout, match=r"sh did not end within 0\.5 s"):
        host.run(["sh", "-c", script, mark], timeout_s=0.5)
    assert until(lambda: not processes(mark))


def test_closed_streams_are_not_the_end(host: LocalHost) -> None:
    with pytest.raises(HostTimeout):
        host.run(["sh", "-c", "exec >&- 2>&-; sleep 1000"], timeout_s=0.5)
    assert host.run(["sh", "-c", "exec >&- 2>&-; sleep 0.1; exit 3"], timeout_s=10).status == 3


def test_nothing_is_left_in_the_background(host: LocalHost, tmp_path: Path) -> None:
    mark = str(tmp_path)
    script = 'sh -c "sleep 1000; : $0" "$0" >/dev/null 2>&1 & exit 0'
    assert host.run(["sh", "-c", script, mark], timeout_s=10).status == 0
    assert until(lambda: not processes(mark))


def test_a_child_left_behind_in_the_background_is_a_timeout(host: LocalHost) -> None:
    with pytest.raises(HostTimeout):
        host.run(["sh", "-c", "sleep 1000 & exit 0"], timeout_s=0.5)


def test_ctrl_c_ends_what_runs(host: LocalHost, tmp_path: Path) -> None:
    mark = str(tmp_path)

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            host.run(["sh", "-c", "sleep 1000; : $0", mark], timeout_s=60)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert until(lambda: not processes(mark))


# ------------------------------------------------------------------ start


def test_start_has_a_stream_and_a_log(host: LocalHost) -> None:
    process = host.start(["sh", "-c", "read line; echo got $line; echo said >&2; exit 4"])
    process.stream.sendall(b"hello\n")
    assert process.stream.makefile().readline() == "got hello\n"
    assert process.wait(10) == 4
    assert process.wait_for(lambda line: line == "said", 10) == "said"
    process.kill()
    assert process.log() == "said\n"
    assert process.status() == 4


def test_a_line_is_waited_for_and_found_once(host: LocalHost) -> None:
    process = host.start(["sh", "-c", "printf 'one\\r\\ntwo' >&2; read _; echo ' more' >&2; cat"])
    assert process.wait_for("one".__eq__, 10) == "one"
    assert process.wait_for(lambda line: "two" in line, 0.1) is None  # not a whole line yet
    process.stream.sendall(b"\n")
    assert process.wait_for(lambda line: "two" in line, 10) == "two more"
    assert process.wait_for(lambda line: "two" in line, 0.1) is None
    assert process.log() == "one\ntwo more\n"
    process.kill()


def test_waiting_ends_with_the_process(host: LocalHost) -> None:
    process = host.start(["true"])
    began = time.monotonic()
    assert process.wait_for(lambda _: True, 30) is None
    assert time.monotonic() - began < 10
    process.kill()


def test_a_flood_on_the_log_keeps_its_tail(host: LocalHost) -> None:
    process = host.start(["sh", "-c", "yes flood | head -c 6000000 >&2; echo END >&2"])
    assert process.wait_for("END".__eq__, 30) == "END"
    assert len(process.log()) <= 1 << 20
    assert process.log().endswith("END\n")
    process.kill()


def test_kill_ends_the_group_and_may_be_repeated(host: LocalHost, tmp_path: Path) -> None:
    mark = str(tmp_path)
    process = host.start(["sh", "-c", 'sh -c "sleep 1000; : $0" "$0" & echo up >&2; wait', mark])
    assert process.wait_for("up".__eq__, 10)
    assert process.wait(0.01) is None
    process.kill()
    process.kill()
    assert process.status() == -9
    assert until(lambda: not processes(mark))


def test_kill_after_the_leader_ended_still_ends_its_children(
    host: LocalHost, tmp_path: Path
) -> None:
    mark = str(tmp_path)
    process = host.start(["sh", "-c", 'sh -c "sleep 1000; : $0" "$0" & exit 0', mark])
    assert process.wait(10) == 0
    process.kill()
    assert until(lambda: not processes(mark))


def test_the_tap_is_inherited(host: LocalHost) -> None:
    read, write = os.pipe()
    tap = Network("tap0", write, (), (), "10.77.0.2/24", "10.78.0.2")
    process = host.start(["sh", "-c", f"echo through >/proc/self/fd/{write}"], network=tap)
    os.close(write)
    with os.fdopen(read) as file:
        assert file.read() == "through\n"
    process.kill()


def test_a_command_that_is_longer_than_the_kernel_takes(host: LocalHost) -> None:
    """It was said that setpriv cannot be started, and advised to run `vbench setup`."""
    with pytest.raises(HostError, match="is longer than the kernel takes") as caught:
        host.run(["sh", "-c", f": {'x' * 200_000}"], timeout_s=10)
    assert "shorten it" in caught.value.remedy


def test_a_started_program_that_is_not_there(host: LocalHost) -> None:
    process = host.start(["/no/such/program"])
    assert process.wait(10) == 127
    process.kill()
    assert "/no/such/program" in process.log()


# ------------------------------------------------------------------ files, sockets


def test_workdir(host: LocalHost, base: Path) -> None:
    with host.workdir() as one, host.workdir() as two:
        assert one != two
        assert Path(one).is_relative_to(base)
        for path in (Path(one), Path(one).parent):
            assert path.stat().st_mode & 0o777 == 0o700
        host.write(f"{one}/file", b"data")
        assert Path(one, "file").stat().st_mode & 0o777 == 0o600
        assert host.read(f"{one}/file") == "data"
    assert not Path(one).exists()
    assert not Path(two).exists()


def test_workdir_ends_with_an_error(host: LocalHost) -> None:
    with pytest.raises(ZeroDivisionError), host.workdir() as path:
        1 / 0  # noqa: B018
    assert not Path(path).exists()


def test_no_place_for_a_workdir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VBENCH_TMP", str(tmp_path / "absent"))
    host = LocalHost()
    with pytest.raises(HostError, match="absent") as caught, host.workdir():
        pass
    assert "VBENCH_TMP" in caught.value.remedy
    host.close()


def test_files_that_are_not_there(host: LocalHost, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot read"):
        host.read(str(tmp_path / "absent"))
    with pytest.raises(HostError, match="cannot write"):
        host.write(str(tmp_path / "absent" / "file"), b"")


def test_scratch_is_made_once_full_and_private(
    host: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "SCRATCH_MIB", 2)
    scratch = host.scratch()
    assert host.scratch() is scratch
    file = Path(scratch.path)
    assert file.stat().st_size == scratch.size_mib << 20 == 2 << 20
    host.fill_scratch()
    before = file.read_bytes()
    assert before.count(0) < len(before) / 100  # random, no holes
    host.fill_scratch()
    assert file.read_bytes() == before
    assert file.stat().st_mode & 0o777 == 0o600
    host.close()
    assert not file.exists()
    again = Path(host.scratch().path)  # a closed host may be used again
    assert again.exists()


def test_connect(host: LocalHost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with host.connect("127.0.0.1", port, 5) as connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    with pytest.raises(ConnectionLost, match=f"127.0.0.1:{port}"):
        host.connect("127.0.0.1", port, 5)


def test_facts_are_asked_once(host: LocalHost) -> None:
    facts = host.facts()
    assert host.facts() is facts
    assert facts.identity == f"local:{socket.gethostname()}"
    assert facts.facts["kernel"] == os.uname().release


# ------------------------------------------------------------------ our own death

_OWNER = """
import sys, threading
from vbench.hosts.local import LocalHost
host = LocalHost()
with host.workdir() as path:
    sleeper = [sys.executable, "-c", "import time; time.sleep(1000)", path]
    process = host.start(sleeper)
    print(path, flush=True)
    if sys.argv[1] == "running":
        host.run(sleeper, timeout_s=1000)
    threading.Event().wait()
"""


@pytest.mark.parametrize("busy", ["idle", "running"])
def test_sigkill_of_the_owner_leaves_nothing(base: Path, busy: str) -> None:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, busy], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    path = owner.stdout.readline().decode().strip()
    assert until(lambda: len(processes(path)) == (2 if busy == "running" else 1))
    assert Path(path).is_dir()
    owner.kill()
    owner.wait()
    began = time.monotonic()
    assert until(lambda: not processes(path))
    assert until(lambda: list(base.iterdir()) == [])
    assert time.monotonic() - began < 2
    owner.stdout.close()


def test_ctrl_c_does_not_reach_the_janitor(host: LocalHost) -> None:
    """It has a session of its own: the directory stays as long as we do."""
    with host.workdir() as path:
        base = str(Path(path).parent)
        assert until(lambda: len(processes(base)) == 1)  # a new process has no name at first
        (janitor,) = processes(base)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(janitor, number)
        assert os.getsid(janitor) == janitor
        assert Path(path).is_dir()
        assert Path(f"/proc/{janitor}").exists()


def test_a_limit_that_is_reached_is_told_with_its_remedy() -> None:
    """`vbench setup` would not help."""
    code = (
        "import resource\n"
        "from vbench.errors import HostError\n"
        "from vbench.hosts.local import LocalHost\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))\n"
        "try:\n    LocalHost().start(['true'])\n"
        "except HostError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Too many open files" in done.stdout
    assert "ulimit -n" in done.stdout
    assert "vbench setup" not in done.stdout
