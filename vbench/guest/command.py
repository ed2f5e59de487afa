"""Machines that are one process of their host."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from vbench.contract.console import wait_ready
from vbench.contract.host import Host, HostProcess
from vbench.errors import GuestLost, HostError, LaunchError


class ProcessMachine:
    """What machines have in common that live as long as a process of their host: `process`, whose
    standard error is the guest's console."""

    argv: tuple[str, ...]
    process: HostProcess

    def evidence(self, lines: int = 15) -> str:
        """The command line, and the last `lines` of the console."""
        return "\n".join([shlex.join(self.argv), *self.console().splitlines()[-lines:]])

    def console(self) -> str:
        return self.process.log()

    def wait_ready(self, timeout_s: float) -> Mapping[str, float]:
        """Wait for the guest's ready line. Raises LaunchError, LaunchTimeout."""
        return wait_ready(self.process, timeout_s, self.evidence)

    @property
    def alive(self) -> bool:
        return self.process.status() is None

    def close(self) -> None:
        self.process.kill()


class CommandMachine(ProcessMachine):
    """A VMM that is driven by a command line alone: started by `argv`, ended by SIGKILL.

    It cannot be paused: a guest that it runs declares `pausable=False`.
    """

    def __init__(self, host: Host, argv: Sequence[str]) -> None:
        """Raises LaunchError where the program cannot be started."""
        self.argv = tuple(argv)
        try:
            self.process = host.start(argv)
        except HostError as error:
            raise LaunchError(error.what, evidence=error.evidence) from error

    def silence(self) -> str:
        return "its process runs, and can be asked nothing"

    def pause(self) -> None:
        raise GuestLost("a machine that is a plain command cannot be paused")

    def resume(self) -> None:
        raise GuestLost("a machine that is a plain command cannot be resumed")

    def usage(self) -> Mapping[str, float]:
        return {}
