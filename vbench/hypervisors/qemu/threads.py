"""What the threads of a QEMU process have spent, from the kernel's schedstat files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from vbench.contract.host import Host
from vbench.errors import HostError

_TIMEOUT_S = 10.0
# thread, nanoseconds that it ran, nanoseconds that it was ready and waited
_RAN = re.compile(r"/task/(\d+)/schedstat:(\d+) (\d+)")


def kernel_threads(host: Host, pid: int) -> list[int]:
    """Threads of the kernel that serve the network of process `pid`, outside of it: before Linux
    6.4 vhost's are called vhost-PID; since then they are threads of the process itself."""
    look = 'grep -lsx "vhost-$1" /proc/[0-9]*/comm'
    found = host.run(["sh", "-c", look, "look", str(pid)], timeout_s=_TIMEOUT_S).stdout
    return [int(path.split("/")[2]) for path in found.split()]


class ThreadTimes:
    """Of process `pid`, whose vCPUs are the threads `vcpus`, and of the kernel's that serve it."""

    def __init__(
        self, host: Host, pid: int, vcpus: Sequence[int], kernel: Sequence[int] = ()
    ) -> None:
        self._host = host
        self._files = " ".join(f"/proc/{each}/task/*/schedstat" for each in (pid, *kernel))
        self._vcpus = vcpus
        self._spent: dict[int, int] = {}  # by thread, nanoseconds

    def usage(self) -> Mapping[str, float]:
        """Seconds spent so far: `host_cpu_s` by all threads of the process and those of the kernel
        that serve it, `vcpu_cpu_s` by those that are vCPUs, `vcpu_wait_s` by vCPUs that were ready
        to run and did not. In nanoseconds, see Documentation/scheduler/sched-stats.rst. Raises
        HostError if the process is gone."""
        output = self._host.run(["sh", "-c", f"grep -Hs '' {self._files}"], timeout_s=_TIMEOUT_S)
        found = {int(t): (int(ran), int(waited)) for t, ran, waited in _RAN.findall(output.stdout)}
        if not set(self._vcpus) <= set(found):
            raise HostError("QEMU is gone")
        # threads that have ended keep what they had spent
        self._spent.update((thread, ran) for thread, (ran, _) in found.items())
        vcpus = [found[thread] for thread in self._vcpus]
        return {
            "host_cpu_s": sum(self._spent.values()) / 1e9,
            "vcpu_cpu_s": sum(ran for ran, _ in vcpus) / 1e9,
            "vcpu_wait_s": sum(waited for _, waited in vcpus) / 1e9,
        }
