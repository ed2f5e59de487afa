"""Into the guest's own kernel and back."""

import pytest

from vbench.measure import parsers
from vbench.measure.engine import Measure

pytestmark = pytest.mark.workload(category="syscall")


@pytest.mark.workload(unit="call", representative=True)
def bench_syscall_getppid(measure: Measure) -> None:
    """The cheapest system call there is."""
    measure(
        lambda calls, endpoint: f"vbench-probe getppid {calls}",
        read=parsers.probe,
        initial_units=10_000,
    )


@pytest.mark.workload(unit="round trip", representative=True)
def bench_syscall_switch(measure: Measure) -> None:
    """A byte to another process on the same CPU and back, through two pipes."""
    measure(
        lambda trips, endpoint: f"vbench-probe switch {trips}",
        read=parsers.probe,
        initial_units=500,
    )
