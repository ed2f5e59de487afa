"""From nothing to a guest that works; there is no native counterpart.

No exact count: a boot waits, and the kernel tells its own time in steps of 10 ms."""

import pytest

from vbench.measure.engine import Measure

pytestmark = pytest.mark.workload(category="boot", unit="boot", statistic="absolute", counted=False)


@pytest.mark.workload(representative=True)
def bench_boot_command(measure: Measure) -> None:
    """Launch to the end of the first command over SSH, by the host's clock."""
    measure.absolute(measure.phase_s("launch", "command"))


def bench_boot_userspace(measure: Measure) -> None:
    """Start of the kernel to its first process, by the guest's own clock."""
    measure.absolute(measure.phase_s("kernel", "userspace"))


@pytest.mark.workload(options="firmware=on", boots=1, representative=True)
def bench_boot_firmware(measure: Measure) -> None:
    """Launch to first command of an unmodified system: its own kernel file, through the BIOS.

    Evidence more than a figure: no paravirtual feature of the CPU is shown to this guest, while
    our usual way to boot is itself paravirtual (PVH entry, KVM's clock).
    """
    measure.absolute(measure.phase_s("launch", "command"))
