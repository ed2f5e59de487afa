"""How vbench and the image's first process talk: the kernel's command line, and one ready line.

The other side of it is vbench/image/init.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from vbench.contract.host import HostProcess
from vbench.errors import LaunchError, LaunchTimeout

READY = "VBENCH-READY "
FAILED = "VBENCH-FAILED "


def kernel_arguments(
    console: str,
    addresses: Sequence[str],
    *,
    modules: Sequence[str] = (),
    hostname: str = "",
    devices: str = "eth",
) -> tuple[str, ...]:
    """The kernel's command line. `addresses`, with prefix length, go to eth0, eth1..., or what
    the guest calls its `devices`; `modules` are loaded besides those of present devices."""
    return (
        *(f"console={console}", "quiet", "panic=-1", "net.ifnames=0"),
        # The kernel counts ten ticks at boot, and panics if a busy host delivers fewer. Under KVM,
        # Xen and Hyper-V it does not check; one that is translated, or is not told, would.
        "no_timer_check",
        "cryptomgr.notests",  # a tenth of a second of self-tests, and nothing measured
        *(f"vbench.{devices}{number}={address}" for number, address in enumerate(addresses)),
        *([f"vbench.modules={','.join(modules)}"] if modules else []),
        *([f"vbench.hostname={hostname}"] if hostname else []),
    )


def wait_ready(
    process: HostProcess, timeout_s: float, evidence: Callable[[], str]
) -> Mapping[str, float]:
    """Wait for the line on the process' standard error; its seconds since the kernel started.

    Raises LaunchError, with `evidence()`, if the guest fails or ends, LaunchTimeout if it is late.
    """
    line = process.wait_for(lambda text: READY in text or FAILED in text, timeout_s)
    if line is None:
        status = process.status()
        if status is None:
            remedy = "give it no more vCPUs than the host has CPUs, or let less run beside it"
            raise LaunchTimeout(
                f"the guest did not become ready within {timeout_s:g} s",
                evidence=evidence(),
                remedy=remedy,
            )
        raise LaunchError(
            f"the guest ended while booting (exit status {status})", evidence=evidence()
        )
    if FAILED in line:
        reason = line.split(FAILED, 1)[1]
        raise LaunchError(f"the guest's init failed: {reason}", evidence=evidence())
    times = line.split(READY)[1]
    return {key: float(value) for key, value in re.findall(r"(\w+)=([\d.]+)", times)}
