"""Rounds that a CPU quota held back are flagged: a real quota on a real group above ours."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Runs in a group of its own: loads one CPU for a while between two samples, prints the flags.
BUSY = """
import json, time
from vbench.hosts.local import LocalHost
from vbench.measure.interference import InterferenceMonitor
monitor = InterferenceMonitor(LocalHost())
before = monitor.sample()
end = time.process_time() + 0.3
while time.process_time() < end: pass
print(json.dumps(monitor.flags_since(before)))
"""
HIERARCHIES = {
    "version 1": (Path("/sys/fs/cgroup/cpu"), "cpu.cfs_quota_us", "20000"),
    "version 2": (Path("/sys/fs/cgroup"), "cpu.max", "20000 100000"),
}


@pytest.fixture(params=HIERARCHIES)
def quota(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A group within a group that may use a fifth of a CPU."""
    root, name, value = HIERARCHIES[request.param]
    upper = root / f"vbench-test-{os.getpid()}"
    try:
        if request.param == "version 2" and not (root / "cgroup.controllers").exists():
            raise FileNotFoundError(root)
        upper.mkdir()
        (upper / name).write_text(value)
        if request.param == "version 2":
            (upper / "cgroup.subtree_control").write_text("+cpu")
        (upper / "own").mkdir()
    except OSError:
        with contextlib.suppress(OSError):
            upper.rmdir()
        pytest.skip(f"no group with a CPU quota can be made in {root}")
    yield upper / "own"
    (upper / "own").rmdir()
    upper.rmdir()


def flags(group: Path | None) -> list[str]:
    enter = f"echo $$ >{group}/cgroup.procs; " if group else ""
    done = subprocess.run(
        ["sh", "-c", f'{enter}exec "$@"', "sh", sys.executable, "-c", BUSY],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: list[str] = json.loads(done.stdout)
    return found


def test_a_quota_of_a_group_above_our_own_is_flagged(quota: Path) -> None:
    assert "throttled" in flags(quota)


def test_without_a_quota_nothing_is_throttled() -> None:
    assert "throttled" not in flags(None)
