"""The time stamp counter of a translated guest whose machine has nothing to calibrate it by."""

from __future__ import annotations

import json

from vbench.contract.host import Host
from vbench.errors import LaunchError
from vbench.model import ImageFiles

_SLEEPS, _SLEEP_US = 200, 1000


def kernel_words(host: Host, files: ImageFiles) -> tuple[str, ...]:
    """What tells the kernel the counter's frequency. QEMU's translator hands on the host's own.

    A microvm has no HPET and no PM timer. By the PIT alone a busy host is too slow: the kernel
    gives up and hangs ("Unable to calibrate against PIT"). Raises LaunchError.
    """
    probe = [f"{files.root}/usr/bin/vbench-probe", "timer", str(_SLEEPS), str(_SLEEP_US)]
    done = host.run(probe, timeout_s=20)
    try:
        counted = json.loads(done.stdout)
        khz = round(counted["tsc_ticks"] / counted["elapsed_ns"] * 1e6)
    except (ValueError, KeyError, ZeroDivisionError) as error:
        raise LaunchError(
            f"the frequency of the time stamp counter of {host.name} is unknown",
            evidence="\n".join([" ".join(probe), done.stdout, done.stderr]),
            remedy="use machine=pc or machine=q35",
        ) from error
    return (f"tsc_early_khz={khz}", "tsc=reliable")
