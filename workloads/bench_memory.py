"""Memory: streaming, random access, and the first touch of a page."""

import pytest

from vbench.guest.target import Endpoint
from vbench.measure import parsers
from vbench.measure.engine import Measure

pytestmark = pytest.mark.workload(category="memory")

# A load takes some 100 ns on hardware, so this is a fifth of a second; where page walks are
# emulated it is some 4 instructions but a microsecond of the real machine.
_LOADS_MAX = 2_000_000


@pytest.mark.workload(unit="MiB")
def bench_memory_sysbench(measure: Measure) -> None:
    """Reading 1 MiB blocks in order (sysbench memory)."""

    def command(mebibytes: int, endpoint: Endpoint) -> str:
        return (
            "sysbench memory --memory-block-size=1M --memory-oper=read --time=0 "
            f"--memory-total-size={mebibytes}M run"
        )

    measure(command, read=parsers.sysbench, initial_units=16)


@pytest.mark.workload(unit="load")
def bench_memory_random(measure: Measure) -> None:
    """Dependent loads all over 64 MiB of small pages: caches and TLB."""
    measure(
        lambda loads, endpoint: f"vbench-probe memrandom {loads}",
        read=parsers.probe,
        initial_units=10_000,
        max_units=_LOADS_MAX,
    )


@pytest.mark.workload(unit="load")
def bench_memory_random_huge(measure: Measure) -> None:
    """The same in huge pages, where the kernel grants them: few TLB entries do."""
    measure(
        lambda loads, endpoint: f"vbench-probe memrandom {loads} --huge",
        read=parsers.probe,
        initial_units=10_000,
        max_units=_LOADS_MAX,
    )


@pytest.mark.workload(unit="fault")
def bench_memory_pagefault(measure: Measure) -> None:
    """First touch of fresh anonymous 4 KiB pages."""
    measure(
        lambda pages, endpoint: f"vbench-probe pagefault {pages}",
        read=parsers.probe,
        initial_units=1000,
    )
