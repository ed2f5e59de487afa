"""Life and death of one QEMU process."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

from vbench.contract.host import Host, Network
from vbench.errors import ConnectionLost, GuestLost, HostError, LaunchError
from vbench.guest.command import ProcessMachine
from vbench.hosts.pinning import UNPINNED, Placement
from vbench.hypervisors.qemu.qmp import Qmp
from vbench.hypervisors.qemu.threads import ThreadTimes, kernel_threads

QMP_TIMEOUT_S = 10.0
# QEMU has nothing of ours to save: after `quit` it needs milliseconds; then SIGKILL.
QUIT_TIMEOUT_S = 3.0

_SILENCE_PAUSE_S = 0.5  # between two looks at a guest that does not answer
# of "info registers": where it is; RFL bit 9 (0x200) says whether it takes interrupts
_POSITION = re.compile(r"^[ER]IP=[^\r\n]*", re.MULTILINE)

# `info registers` of x86-64. The kernel's half of memory begins at 0xffff800000000000
# (Documentation/arch/x86/x86_64/mm.rst).
_IN_KERNEL = re.compile(r"RIP=ffff[89a-f][0-9a-f]{11}\b.*?\bCPL=([0-3])\b", re.DOTALL)
_LOOKS = 5


def ring_of(registers: str) -> int | None:
    """CPL of what `info registers` shows, if the vCPU is in the kernel."""
    found = _IN_KERNEL.search(registers)
    return int(found[1]) if found else None


def _vhost(argv: Sequence[str]) -> bool:
    return any(word.endswith(",vhost=on") or ",vhost=on," in word for word in argv)


class QemuProcess(ProcessMachine):
    """What is asked of a QEMU in the same words, whoever started it."""

    host: Host
    _times: ThreadTimes

    def query(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """A QMP command; None where QEMU refuses it or does not know it."""
        raise NotImplementedError

    def forwarded_port(self, guest_port: int) -> int:
        """The host port that QEMU chose to forward to `guest_port`. Raises LaunchError.

        There is no QMP command for it; HMP's `info usernet` has it in a table of fixed columns.
        """
        table = str(self.query("human-monitor-command", {"command-line": "info usernet"}))
        for line in table.splitlines():
            fields = line.split()
            if fields and fields[0] == "TCP[HOST_FORWARD]" and fields[5] == str(guest_port):
                return int(fields[3])
        raise LaunchError(f"QEMU forwards no port to the guest's {guest_port}", evidence=table)

    def kernel_ring(self) -> int | None:
        """The privilege level at which the guest's kernel runs: that of a vCPU which is at an
        address of the kernel's half of memory. None where it is not met there, as in a busy guest.
        """
        for _ in range(_LOOKS):
            registers = self.query("human-monitor-command", {"command-line": "info registers"})
            if (ring := ring_of(str(registers or ""))) is not None:
                return ring
        return None

    def usage(self) -> Mapping[str, float]:
        """See `ThreadTimes.usage`. Raises GuestLost."""
        try:
            return self._times.usage()
        except (HostError, ConnectionLost) as error:
            raise GuestLost("QEMU is gone", evidence=self.evidence()) from error


class QemuMachine(QemuProcess):
    """A running QEMU: its process, QMP and console."""

    def __init__(
        self,
        host: Host,
        argv: Sequence[str],
        network: Network | None = None,
        places: Placement = UNPINNED,
    ) -> None:
        """Start QEMU, which inherits the tap of `network`, greet it, and pin its threads.

        Raises LaunchError with QEMU's own words."""
        self.host = host
        self.places = places
        # All threads start where I/O is served, those made later as well; then vCPUs move.
        pinned = ("taskset", "-c", ",".join(map(str, places.io))) if places.io else ()
        self.argv = (*pinned, *argv)
        try:
            self.process = host.start(self.argv, network=network)
        except HostError as error:
            raise LaunchError(
                error.what,
                evidence=error.evidence,
                remedy="run `vbench setup`, then `vbench doctor`",
            ) from error
        try:
            self.qmp = Qmp(self.process.stream, QMP_TIMEOUT_S * host.timeout_scale)
            self.vcpu_threads = [
                int(cpu["thread-id"]) for cpu in self.qmp.execute("query-cpus-fast")
            ]
            self.kernel_threads = kernel_threads(host, self.pid) if _vhost(argv) else []
            self._times = ThreadTimes(host, self.pid, self.vcpu_threads, self.kernel_threads)
            self._pin()
        except GuestLost as error:
            status = self.process.wait(1.0)
            self.process.kill()
            raise LaunchError(
                f"QEMU did not start (exit status {status})" if status is not None else error.what,
                evidence=self.evidence(),
                remedy="try the argv above by hand",
            ) from error
        except BaseException:
            self.process.kill()
            raise

    def _pin(self) -> None:
        """Each vCPU to a CPU of its own; the kernel's threads, if we may, to those that serve I/O.
        Raises LaunchError."""
        for thread in self.kernel_threads if self.places.io else ():
            io = ",".join(map(str, self.places.io))
            self.host.run(["taskset", "-p", "-c", io, str(thread)], timeout_s=QMP_TIMEOUT_S)
        for cpu, thread in zip(self.places.vcpus, self.vcpu_threads, strict=False):
            move = ["taskset", "-p", "-c", str(cpu), str(thread)]
            done = self.host.run(move, timeout_s=QMP_TIMEOUT_S)
            if done.status != 0:
                raise LaunchError(
                    f"a vCPU cannot be pinned to CPU {cpu}",
                    evidence=f"{shlex.join(move)}\n{done.stderr}",
                    remedy="measure without pinning: option pin=off",
                )

    @property
    def pid(self) -> int:
        return self.process.pid

    def silence(self) -> str:
        """What is known of a guest that does not answer, twice: the clock of its host, QEMU's
        status, where its CPUs are, and how long they have run. As far as it can be had."""
        lines = []
        try:
            for _ in range(2):
                uptime_s = self.host.run(["cat", "/proc/uptime"], timeout_s=2.0).stdout.split()[0]
                status = self.qmp.execute("query-status")["status"]
                command = {"command-line": "info registers -a"}
                registers = self.qmp.execute("human-monitor-command", command)
                ran_s = self.usage()["vcpu_cpu_s"]
                lines.append(
                    f"host up {uptime_s} s: QEMU {status}, vCPUs ran {ran_s:.3f} s, "
                    + "; ".join(_POSITION.findall(registers))
                )
                time.sleep(_SILENCE_PAUSE_S)
        except (HostError, ConnectionLost, GuestLost) as error:
            lines.append(f"no more could be asked: {error.what}")
        return "\n".join(lines)

    def pause(self) -> None:
        self._tell("stop")

    def resume(self) -> None:
        self._tell("cont")

    def _tell(self, command: str) -> None:
        """A QMP command without a result. Raises GuestLost with QEMU's command line and console."""
        try:
            self.qmp.execute(command)
        except GuestLost as error:
            ended = self.process.wait(1.0) is not None
            what = "the guest's machine ended" if ended else error.what
            raise GuestLost(what, evidence=self.evidence()) from error

    def query(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        return self.qmp.query(command, arguments)

    def close(self) -> None:
        """The shutdown ladder: quit, a timed wait, SIGKILL. Never raises for a dead QEMU."""
        try:
            if self.alive:
                self.qmp.quit(QUIT_TIMEOUT_S)
                self.process.wait(QUIT_TIMEOUT_S * self.host.timeout_scale)
            self.qmp.close()
        finally:
            self.process.kill()
