"""The one line by which the image's first process says on the console that the guest is ready."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from vbench.contract.host import HostProcess
from vbench.errors import LaunchError, LaunchTimeout

READY = "VBENCH-READY "
FAILED = "VBENCH-FAILED "


def wait_ready(
    process: HostProcess, timeout_s: float, evidence: Callable[[], str]
) -> Mapping[str, float]:
    """Wait for the line on the process' standard error; what it says (seconds since kernel start).

    Raises LaunchError, with `evidence()`, if the guest fails or ends, LaunchTimeout if it is late.
    """
    line = process.wait_for(lambda text: READY in text or FAILED in text, timeout_s)
    if line is None:
        status = process.status()
        how = (
            f"did not become ready within {timeout_s:g} s"
            if status is None
            else f"ended while booting (exit status {status})"
        )
        late = LaunchTimeout if status is None else LaunchError
        raise late(f"the guest {how}", evidence=evidence())
    if FAILED in line:
        reason = line.split(FAILED, 1)[1]
        raise LaunchError(f"the guest's init failed: {reason}", evidence=evidence())
    said = line.split(READY)[1]
    return {key: float(value) for key, value in re.findall(r"(\w+)=([\d.]+)", said)}
