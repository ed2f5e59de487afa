"""A clock for the deadlines of an emulated machine: the time that it was given, not the wall's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from vbench.errors import LaunchTimeout

T = TypeVar("T")


class GivenTime:
    """Seconds of ours, without those in which a thread of `pid` was ready to run and had no CPU.

    An emulated machine that is starved by other work is waited for; one that hangs, or that was
    stopped, waits for no CPU, and its deadline passes as on the wall. Of several threads the one
    that waited longest counts. The kernel adds a wait when it is over, so the clock may step back.
    """

    def __init__(self, pid: int, threads: Sequence[int]) -> None:
        # ns on a CPU, ns waiting for one (Documentation/scheduler/sched-stats.rst)
        self._files = [Path(f"/proc/{pid}/task/{thread}/schedstat") for thread in threads]
        self._waited_s = 0.0

    def __call__(self) -> float:
        with suppress(OSError):  # it has ended: nobody waits any more
            waits = [int(file.read_text(encoding="ascii").split()[1]) for file in self._files]
            self._waited_s = max(waits, default=0) / 1e9
        return time.monotonic() - self._waited_s

    def within(self, limit_s: float, wait: Callable[[float], T]) -> T:
        """What `wait` returns, which takes seconds of the wall and raises LaunchTimeout. It waits
        again until `limit_s` of this clock have passed: only then LaunchTimeout is raised."""
        deadline = self() + limit_s
        while True:
            try:
                return wait(max(deadline - self(), 1.0))
            except LaunchTimeout as late:
                if self() >= deadline:
                    raise LaunchTimeout(
                        f"not ready within {limit_s:g} s in which a CPU was to be had",
                        evidence=late.evidence,
                    ) from late
