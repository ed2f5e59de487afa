"""The scratch disk, by direct I/O, so that only the device and the way to it are measured."""

import pytest

from vbench.guest.target import Endpoint
from vbench.measure import parsers
from vbench.measure.engine import Measure

pytestmark = pytest.mark.workload(category="disk", unit="operation")
_throughput = pytest.mark.workload(unit="MiB")


def _fio(measure: Measure, pattern: str, block_kib: int = 4, depth: int = 1) -> None:
    def command(operations: int, endpoint: Endpoint) -> str:
        return (
            f"fio --name=disk --filename={endpoint.scratch} --rw={pattern} --bs={block_kib}k "
            f"--offset={endpoint.scratch_offset_mib}m --size={endpoint.scratch_size_mib}m "
            f"--io_size={operations * block_kib}k --norandommap --randrepeat=0 --direct=1 "
            f"--ioengine=libaio --iodepth={depth} --thread --output-format=json"
        )

    measure(command, read=parsers.fio, initial_units=max(64 // block_kib, 4 * depth))


def bench_disk_randread_qd1(measure: Measure) -> None:
    """4 KiB random reads, one outstanding."""
    _fio(measure, "randread")


def bench_disk_randread_qd16(measure: Measure) -> None:
    """4 KiB random reads, sixteen outstanding."""
    _fio(measure, "randread", depth=16)


def bench_disk_randwrite_qd1(measure: Measure) -> None:
    """4 KiB random writes, one outstanding."""
    _fio(measure, "randwrite")


@_throughput
def bench_disk_read_1m(measure: Measure) -> None:
    """1 MiB reads in order."""
    _fio(measure, "read", block_kib=1024)


@_throughput
def bench_disk_write_1m(measure: Measure) -> None:
    """1 MiB writes in order."""
    _fio(measure, "write", block_kib=1024)
