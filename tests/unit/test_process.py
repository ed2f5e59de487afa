"""Children are ended with all that they started, whoever reaps them."""

from __future__ import annotations

import os
import subprocess

import pytest

from vbench.system import process


def test_a_child_that_another_thread_has_just_reaped() -> None:
    """Between our look at it and the signal: its process group is gone by then."""
    child = subprocess.Popen(["true"], start_new_session=True)
    os.waitpid(child.pid, 0)
    assert child.returncode is None
    process.kill_group(child)
    process.kill_group(child)
    assert child.returncode is not None


def test_a_child_that_another_thread_is_just_reaping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for its status finds no child, and its end is not known yet."""
    child = subprocess.Popen(["sh", "-c", "exit 3"], start_new_session=True)
    look = os.waitid

    def reaped(*arguments: int) -> object:
        child.wait()  # in the other thread
        return look(*arguments)

    monkeypatch.setattr(os, "waitid", reaped)
    assert process.wait(child, 0) == 3
