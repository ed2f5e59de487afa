"""Several CPUs that wake, wait for, interrupt and help each other."""

import pytest

from vbench.measure import parsers
from vbench.measure.engine import Measure

pytestmark = pytest.mark.workload(category="smp", cpus=2, counted=False)


def _probe(measure: Measure, what: str, units: int) -> None:
    measure(
        lambda count, endpoint: f"vbench-probe {what} {count}",
        read=parsers.probe,
        initial_units=units,
    )


@pytest.mark.workload(unit="round trip")
def bench_smp_wakeup(measure: Measure) -> None:
    """A thread on another CPU is woken by a futex, and wakes the first one."""
    _probe(measure, "wakeup", 500)


@pytest.mark.workload(unit="acquisition")
def bench_smp_lock(measure: Measure) -> None:
    """A spinning lock that a thread on every CPU wants: first come, first served."""
    _probe(measure, "lock", 10_000)


@pytest.mark.workload(unit="change")
def bench_smp_shootdown(measure: Measure) -> None:
    """A right to a page that every CPU must forget: mprotect, there and back."""
    _probe(measure, "shootdown", 500)


@pytest.mark.workload(unit="step")
def bench_smp_parallel(measure: Measure) -> None:
    """A loop dealt out to all CPUs; it ends with the last of them."""
    _probe(measure, "parallel", 1_000_000)


@pytest.mark.workload(unit="message")
def bench_smp_messages(measure: Measure) -> None:
    """Four processes send to four others, on any CPU, as hackbench does."""
    _probe(measure, "messages", 2_000)
