"""Several CPUs that wake, wait for, interrupt and help each other."""

import pytest

from vbench.measure import parsers
from vbench.measure.engine import Measure

pytestmark = pytest.mark.workload(category="smp", cpus=2, counted=False)


def _probe(measure: Measure, what: str, units: int) -> None:
    """Natively as many threads as the guest has vCPUs, on the same CPUs."""
    measure(
        lambda count, endpoint: f"vbench-probe {what} {count} {endpoint.vcpus}",
        read=parsers.probe,
        initial_units=units,
    )


@pytest.mark.workload(unit="round trip")
def bench_smp_wakeup(measure: Measure) -> None:
    """A thread on another CPU is woken by a futex, and wakes the first one."""
    measure(
        lambda count, endpoint: f"vbench-probe wakeup {count}",
        read=parsers.probe,
        initial_units=500,
    )


@pytest.mark.workload(unit="acquisition")
def bench_smp_lock(measure: Measure) -> None:
    """A spinning lock that a thread of each vCPU wants, first come, first served.

    Who has waited for ten microseconds lets others have its CPU."""
    _probe(measure, "lock", 100)


@pytest.mark.workload(unit="file")
def bench_smp_kernel_lock(measure: Measure) -> None:
    """A spinning lock of the kernel, for each file that a thread of each vCPU opens and closes."""
    _probe(measure, "kernel-lock", 1000)


@pytest.mark.workload(unit="change")
def bench_smp_shootdown(measure: Measure) -> None:
    """A right to a page that every vCPU must forget: mprotect, there and back."""
    _probe(measure, "shootdown", 500)


@pytest.mark.workload(unit="step")
def bench_smp_parallel(measure: Measure) -> None:
    """A loop dealt out to all vCPUs; it ends with the last of them."""
    _probe(measure, "parallel", 1_000_000)


@pytest.mark.workload(unit="message")
def bench_smp_messages(measure: Measure) -> None:
    """Four processes send to four others, on any CPU, as hackbench does."""
    _probe(measure, "messages", 2_000)
