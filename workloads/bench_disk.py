"""The scratch disk, by direct I/O, so that only the device and the way to it are measured."""

import pytest

from vbench.measure import parsers
from vbench.measure.engine import Measure

pytestmark = pytest.mark.workload(category="disk", unit="operation")
# No exact count: a request has as many pieces as its buffer has in physical memory.
_throughput = pytest.mark.workload(unit="MiB", counted=False)


def _disk(measure: Measure, pattern: str, block_kib: int = 4, depth: int = 1) -> None:
    measure(
        lambda operations, endpoint: (
            f"vbench-probe disk {endpoint.scratch} {endpoint.scratch_offset_mib} "
            f"{endpoint.scratch_size_mib} {pattern} {block_kib} {depth} {operations}"
        ),
        read=parsers.probe,
        initial_units=max(64 // block_kib, 4 * depth),
    )


@pytest.mark.workload(representative=True)
def bench_disk_randread_qd1(measure: Measure) -> None:
    """4 KiB random reads, one outstanding."""
    _disk(measure, "randread")


def bench_disk_randread_qd16(measure: Measure) -> None:
    """4 KiB random reads, sixteen outstanding."""
    _disk(measure, "randread", depth=16)


def bench_disk_randwrite_qd1(measure: Measure) -> None:
    """4 KiB random writes, one outstanding."""
    _disk(measure, "randwrite")


@_throughput
def bench_disk_read_1m(measure: Measure) -> None:
    """1 MiB reads in order."""
    _disk(measure, "read", block_kib=1024)


@_throughput
def bench_disk_write_1m(measure: Measure) -> None:
    """1 MiB writes in order."""
    _disk(measure, "write", block_kib=1024)
