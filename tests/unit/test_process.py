"""Children are ended with all that they started, whoever reaps them."""

from __future__ import annotations

import os
import subprocess

from vbench.system import process


def test_a_child_that_another_thread_has_just_reaped() -> None:
    """Between our look at it and the signal: its process group is gone by then."""
    child = subprocess.Popen(["true"], start_new_session=True)
    os.waitpid(child.pid, 0)
    assert child.returncode is None
    process.kill_group(child)
    process.kill_group(child)
    assert child.returncode is not None
