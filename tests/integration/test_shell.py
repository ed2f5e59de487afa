"""`vbench shell` on a real terminal: a pseudo terminal with a user who types."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

import pytest

from tests.integration.conftest import Vbench

ROWS, COLUMNS = 33, 97


def take_terminal() -> None:
    """In the child: a session of its own, with standard input as its terminal."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def typed(vbench: Vbench, variant: str, line: str, timeout_s: float = 60) -> tuple[int, str]:
    """Exit status and screen of a shell into which `line` is typed once it prompts."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        [sys.executable, "-m", "vbench.cli", "shell", variant],
        cwd=vbench.root,
        env={**os.environ, "VBENCH_TMP": str(vbench.tmp), "TERM": "vt100"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=take_terminal,  # noqa: PLW1509 - nothing else runs here
    )
    screen = b""
    sent = False
    deadline = time.monotonic() + timeout_s
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                screen += os.read(ours, 65536)
            # busybox asks the terminal where its cursor is
            if not sent and screen.removesuffix(b"\x1b[6n").endswith(b"# "):
                os.write(ours, line.encode() + b"\n")
                sent = True
        with contextlib.suppress(OSError):
            while select.select([ours], [], [], 0.2)[0]:
                screen += os.read(ours, 65536)
        assert termios.tcgetattr(theirs) == before  # no longer raw
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
    return process.returncode, screen.decode(errors="replace")


@pytest.mark.parametrize("variant", ["tcg-virtio", "native"])
def test_a_shell_has_a_terminal_and_an_exit_status(vbench: Vbench, variant: str) -> None:
    # the answer cannot be mistaken for the echo of what was typed
    status, screen = typed(vbench, variant, "stty size; echo vbench-$((40 + 2)); exit 7")
    assert "vbench-42" in screen
    assert f"{ROWS} {COLUMNS}" in screen
    assert status == 7


def test_without_a_terminal_it_says_what_to_do_instead(vbench: Vbench) -> None:
    done = vbench.run("shell", "tcg-virtio")
    assert done.returncode == 2
    assert "vbench exec VARIANT -- CMD" in done.stderr
