"""Idle time of the testbed, whose clock then counts no instructions."""

from __future__ import annotations

import pytest
from fake_targets import FakeHost

from vbench.errors import HostError
from vbench.measure.interference import IdleMonitor
from vbench.model import TimeBase


class Host(FakeHost):
    def __init__(self, time_base: TimeBase, hypervisor: str = "") -> None:
        super().__init__(time_base)
        self.uptime = "0.00 0.00"
        self.hypervisor = hypervisor

    def read(self, path: str) -> str:
        if path == "/proc/uptime":
            return self.uptime + "\n"
        if path == "/sys/hypervisor/type" and self.hypervisor:
            return self.hypervisor + "\n"
        raise HostError("no such file")


def flags(host: Host, uptime: str, measured_s: float) -> tuple[str, ...]:
    host.uptime = "100.00 40.00"
    monitor = IdleMonitor(host)  # type: ignore[arg-type]
    before = monitor.sample()
    host.uptime = uptime
    return monitor.flags_since(before, measured_s)


@pytest.mark.parametrize(
    ("uptime", "flagged"),
    [
        ("100.50 40.00", False),
        ("100.50 40.30", False),  # it may all have been before and after the loop
        ("100.50 40.32", False),  # within the resolution
        ("100.50 40.40", True),  # 0.10 s of the loop's 0.20 s
    ],
)
def test_idle_time_that_must_lie_in_the_loop_is_flagged(uptime: str, flagged: bool) -> None:
    host = Host(TimeBase.INSTRUCTIONS)
    assert flags(host, uptime, 0.2) == (("idle",) if flagged else ())


@pytest.mark.parametrize(
    "host", [Host(TimeBase.WALL), Host(TimeBase.INSTRUCTIONS, "xen")], ids=["wall", "xen"]
)
def test_by_the_wall_and_on_xen_idle_time_says_nothing(host: Host) -> None:
    assert flags(host, "100.50 40.50", 0.2) == ()
