"""Machines made of namespaces: each has its own network, mounts and address."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.conftest import until
from vbench.system.process import TIED


@dataclass
class Machine:
    """`pid` holds the namespaces. Its cable, `port`, ends at a switch in those of `switch`."""

    pid: int
    ip: str = ""
    port: str = ""
    switch: Machine | None = None

    @property
    def within(self) -> list[str]:
        """What a command begins with to run there."""
        return ["nsenter", "-t", str(self.pid), "-n", "-m"]

    def run(self, *command: str | Path) -> None:
        subprocess.run([*self.within, *command], check=True)

    def processes(self) -> list[int]:
        """All that run there, but not what this test started there itself."""
        here = os.readlink(f"/proc/{self.pid}/ns/net")
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = path.joinpath("stat").read_text().rpartition(")")[2].split()[1]
                if os.readlink(path / "ns/net") == here and int(parent) != os.getpid():
                    found.append(int(path.name))
        return found

    def crash(self) -> None:
        """All that runs there ends at once, and it can no longer be reached."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.plug(into=False)

    def plug(self, *, into: bool) -> None:
        """Its cable, in or out: nothing is said to either end."""
        assert self.switch is not None
        self.switch.run("ip", "link", "set", self.port, "up" if into else "down")


@contextmanager
def machine() -> Iterator[Machine]:
    ours = os.readlink("/proc/self/ns/mnt")
    holder = subprocess.Popen([*TIED, "unshare", "-n", "-m", "sleep", "infinity"])
    try:
        there = Path(f"/proc/{holder.pid}/ns/mnt")
        assert until(lambda: holder.poll() is not None or os.readlink(there) != ours, 10)
        made = Machine(holder.pid)
        made.run("ip", "link", "set", "lo", "up")
        yield made
    finally:
        holder.kill()
        holder.wait()


def connect(control: Machine, others: list[Machine]) -> None:
    """A network of them all; the switch is in `control`, which has the first address."""
    control.run("ip", "link", "add", "switch", "type", "bridge")
    control.run("ip", "addr", "add", "10.90.0.1/24", "dev", "switch")
    control.run("ip", "link", "set", "switch", "up")
    for number, each in enumerate(others, 1):
        each.ip, each.port, each.switch = f"10.90.0.{number + 1}", f"port{number}", control
        peer = ("peer", "name", "eth0", "netns", str(each.pid))
        control.run("ip", "link", "add", each.port, "type", "veth", *peer)
        control.run("ip", "link", "set", each.port, "master", "switch", "up")
        each.run("ip", "addr", "add", f"{each.ip}/24", "dev", "eth0")
        each.run("ip", "link", "set", "eth0", "up")
