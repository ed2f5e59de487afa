"""Memory: streaming, random access, and the first touch of a page."""

import pytest

from vbench.errors import Unsupported
from vbench.measure import parsers
from vbench.measure.engine import Measure

pytestmark = pytest.mark.workload(category="memory")

# A load takes some 100 ns on hardware, so this is a fifth of a second; where page walks are
# emulated it is some 4 instructions but a microsecond of the real machine.
_LOADS_MAX = 2_000_000
# The program's own faults, a hundred, must be few against these even in the eighth of a sample that
# tells what starting it costs: where a fault takes long (User-mode Linux), a sample has few.
_FAULTS_MIN = 4_800
# The median of 200 groups is exact. VirtualBox's shadow page tables cost 1 % less before they have
# settled, which so many faults of a warm-up do.
_FAULTS_COUNTED_MIN = 12_000
# Where it grants none, as to a machine with less than 512 MiB, this is memory-random again. 77 is
# "unsupported".
_GRANTS_HUGE_PAGES = (
    "grep -vq '[[]never]' /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null || "
    "{ echo its kernel grants no huge pages: give it more memory, if it knows them >&2; exit 77; }"
)


@pytest.mark.workload(unit="MiB")
def bench_memory_stream(measure: Measure) -> None:
    """Reading 1 MiB in order, again and again: it stays in the cache, so this is not the memory."""
    measure(
        lambda mebibytes, endpoint: f"vbench-probe memread {mebibytes}",
        read=parsers.probe,
        initial_units=100,
    )


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
    """The same in huge pages: few TLB entries do."""
    measure(
        lambda loads, endpoint: f"{_GRANTS_HUGE_PAGES}; vbench-probe memrandom {loads} --huge",
        read=parsers.probe,
        initial_units=10_000,
        max_units=_LOADS_MAX,
    )


@pytest.mark.workload(unit="fault", representative=True)
def bench_memory_pagefault(measure: Measure) -> None:
    """Touching a 4 KiB page and giving it back, in memory that the host has backed."""
    measure(
        lambda pages, endpoint: f"vbench-probe pagefault {pages}",
        read=parsers.probe,
        initial_units=6000,
        min_units=_FAULTS_COUNTED_MIN if measure.counts else _FAULTS_MIN,
    )


# The first of a boot: other workloads leave memory behind that is backed.
@pytest.mark.workload(unit="fault", counted=False, fresh=True)
def bench_memory_pagefault_cold(measure: Measure) -> None:
    """First touch of a 4 KiB page in memory that the host has not backed yet, 32 MiB a boot."""
    if not measure.guest.capabilities.relaunchable:
        raise Unsupported("its guest is not booted anew, so its memory is backed by now")
    measure(
        lambda pages, endpoint: f"vbench-probe pagefault-cold {pages}",
        read=parsers.probe,
        fixed_units=16 * 512,
    )
