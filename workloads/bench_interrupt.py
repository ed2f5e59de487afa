"""How late a timer is."""

import pytest

from vbench.measure import parsers
from vbench.measure.engine import Measure

pytestmark = pytest.mark.workload(category="interrupt")


@pytest.mark.workload(unit="wake-up", statistic="quantiles", counted=False)
def bench_interrupt_timer(measure: Measure) -> None:
    """Lateness of a thread that sleeps until absolute times 200 us apart."""
    measure(
        lambda wakes, endpoint: f"vbench-probe timer {wakes}", read=parsers.probe, initial_units=500
    )
