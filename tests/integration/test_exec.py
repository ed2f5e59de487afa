"""`vbench exec` has its command's streams and exit status, as `ssh` has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import Vbench, until
from tests.integration.ssh_server import SSHD, ssh_program, ssh_server

# every byte, many times: none may be changed, dropped or held back
DATA = bytes(range(256)) * 4096


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "vbench.cli", "exec", *words]


def environment(vbench: Vbench) -> dict[str, str]:
    return {**os.environ, "VBENCH_TMP": str(vbench.tmp), "VBENCH_LOCK": str(vbench.root / "lock")}


@pytest.fixture(params=["native", pytest.param("tcg-virtio", marks=pytest.mark.tcg)])
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_bytes_go_through_unchanged(vbench: Vbench, variant: str, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_bytes(DATA)
    with given.open("rb") as file:
        done = subprocess.run(
            command(variant, "--", "cat; printf '\\377\\000e' >&2; exit 3"),
            env=environment(vbench),
            stdin=file,
            capture_output=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 3
    assert done.stdout == DATA
    assert done.stderr.endswith(b"\xff\x00e")


def test_they_come_when_they_are_written(vbench: Vbench, variant: str) -> None:
    """A dialogue: an answer to each line, before the next is sent."""
    process = subprocess.Popen(
        command(variant, "--", "while read -r line; do echo got $line; done; kill -9 $$"),
        env=environment(vbench),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for line in (b"one\n", b"two\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == b"got " + line
        process.stdin.close()
        assert process.wait(60) == 137
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_reader_that_went_away_ends_it(vbench: Vbench, variant: str) -> None:
    line = " ".join(command(variant, "--", "yes"))
    done = subprocess.run(
        ["bash", "-c", f"{line} | head -n 2; echo ${{PIPESTATUS[0]}}"],
        env=environment(vbench),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.stdout.split()[:2] == [b"y", b"y"]
    assert done.stdout.split()[2] != b"0"
    assert b"Traceback" not in done.stderr


def test_without_any_streams(vbench: Vbench, variant: str) -> None:
    line = " ".join(command(variant, "--", "'cat; exit 4'"))
    done = subprocess.run(
        ["bash", "-c", f"{line} <&- >&- 2>/dev/null"],
        env=environment(vbench),
        timeout=240,
        check=False,
    )
    assert done.returncode == 4


@pytest.mark.skipif(SSHD is None, reason="openssh-server is not installed")
def test_natively_on_another_machine_whose_shell_greets(vbench: Vbench, tmp_path: Path) -> None:
    root = tmp_path / "server"
    root.mkdir()
    greeting = 'ForceCommand echo Welcome; exec sh -c "$SSH_ORIGINAL_COMMAND"'
    with ssh_server(root, greeting) as server:
        done = subprocess.run(
            command("native", "--host", server.address, "--", "cat; kill -9 $$"),
            env={**environment(vbench), "PATH": ssh_program(root, server.config)},
            input=DATA,
            capture_output=True,
            timeout=240,
            check=False,
        )
        assert done.stdout == DATA
        assert done.returncode == 137, done.stderr
        assert until(lambda: not server.left(), 5)
