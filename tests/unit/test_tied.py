"""What Ansible started on a host ends with it, however Ansible was started."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import pytest

TIED = Path(__file__).parents[2] / "fleet/roles/vbench/files/tied"
# as Ansible: a worker starts the task, and lives on when the process above it is killed
MAIN = f"""#!{sys.executable}
import os, subprocess
if os.fork():
    os.wait()
else:
    subprocess.run(["sh", {str(TIED)!r}, "last", "ansible-playboo", "cat", os.environ["PIPE"]])
"""


def module(folder: Path) -> list[str]:
    (folder / "ansible").mkdir()
    (folder / "ansible/__main__.py").write_text(MAIN)
    return [sys.executable, "-m", "ansible", "playbook"]


def program(folder: Path) -> list[str]:
    (folder / "ansible-playbook").write_text(MAIN)
    (folder / "ansible-playbook").chmod(0o755)
    return [str(folder / "ansible-playbook")]


def script(folder: Path) -> list[str]:
    return [sys.executable, "-I", *program(folder)]


@pytest.mark.parametrize("how", [module, program, script])
def test_a_command_ends_with_the_ansible_that_started_it(
    tmp_path: Path, how: Callable[[Path], list[str]]
) -> None:
    pipe = tmp_path / "pipe"
    subprocess.run(["mkfifo", pipe], check=True)
    # a step of a CI lives on as well, and has the words of Ansible in its own
    step = ["sh", "-c", '"$@"; exec sleep 60', "sh", *how(tmp_path)]
    started = subprocess.Popen(
        step,
        cwd=tmp_path,
        env={"PIPE": str(pipe), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL,
    )
    try:
        with pipe.open("wb", buffering=0) as writes:  # cat reads
            (ansible,) = children(started.pid)
            subprocess.run(["kill", "-KILL", str(ansible)], check=True)
            assert ends(writes), "the command goes on"
    finally:
        started.kill()
        started.wait()


def ends(pipe: FileIO, within_s: float = 20) -> bool:
    """Whether who reads the pipe ends."""
    deadline = time.monotonic() + within_s
    with contextlib.suppress(BrokenPipeError):
        while time.monotonic() < deadline:
            pipe.write(b"x")
            time.sleep(0.1)
        return False
    return True


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
