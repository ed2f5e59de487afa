"""What figures of /proc in hundredths of a second tell: idle time of the testbed, stolen time."""

from __future__ import annotations

import pytest
from fake_targets import FakeHost

from vbench.errors import HostError
from vbench.measure import interference
from vbench.measure.interference import IdleMonitor, InterferenceMonitor
from vbench.model import TimeBase


class Host(FakeHost):
    def __init__(self, time_base: TimeBase, *, sees_idle: bool = True) -> None:
        super().__init__(time_base)
        self.uptime = "0.00 0.00"
        self.sees_idle = sees_idle

    def read(self, path: str) -> str:
        if path == "/proc/uptime":
            return self.uptime + "\n"
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
    "host",
    [Host(TimeBase.WALL), Host(TimeBase.INSTRUCTIONS, sees_idle=False)],
    ids=["wall", "hypervisor beneath"],
)
def test_by_the_wall_and_above_a_hypervisor_idle_time_says_nothing(host: Host) -> None:
    assert flags(host, "100.50 40.50", 0.2) == ()


@pytest.mark.parametrize(
    ("stolen", "lasted_s", "flagged"),
    [
        (1, 0.1, False),  # a moment of it is enough for the next hundredth
        (3, 0.1, True),
        (2, 2.0, False),
        (4, 2.0, True),
    ],
)
def test_stolen_time_is_flagged_where_it_is_more_than_the_resolution(
    stolen: int, lasted_s: float, flagged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = FakeHost(TimeBase.WALL)
    texts = {"/proc/stat": "cpu  1 2 3 4 5 6 7 100 0 0\n"}
    monkeypatch.setattr(host, "read", lambda path: texts.get(path, ""), raising=False)
    now = iter((10.0, 10.0 + lasted_s))
    monkeypatch.setattr(interference.time, "monotonic", lambda: next(now))
    monitor = InterferenceMonitor(host)  # type: ignore[arg-type]
    before = monitor.sample()
    texts["/proc/stat"] = f"cpu  1 2 3 4 5 6 7 {100 + stolen} 0 0\n"
    assert monitor.flags_since(before) == (("steal",) if flagged else ())
