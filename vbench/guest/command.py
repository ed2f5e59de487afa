"""A machine that is one process of the host: a VMM that is driven by a command line alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from vbench.contract.console import wait_ready
from vbench.contract.host import Host
from vbench.errors import GuestLost, HostError, LaunchError


class CommandMachine:
    """Started by `argv`, ended by SIGKILL. The guest's console is the process' standard error.

    It cannot be paused: a guest that it runs declares `pausable=False`.
    """

    def __init__(self, host: Host, argv: Sequence[str]) -> None:
        """Raises LaunchError where the program cannot be started."""
        self.argv = tuple(argv)
        try:
            self._process = host.start(argv)
        except HostError as error:
            raise LaunchError(error.what, evidence=error.evidence) from error

    def evidence(self) -> str:
        return "\n".join([shlex.join(self.argv), *self.console().splitlines()[-15:]])

    def console(self) -> str:
        return self._process.log()

    def silence(self) -> str:
        return "its process runs, and can be asked nothing"

    def wait_ready(self, timeout_s: float) -> Mapping[str, float]:
        """Wait for the guest's ready line. Raises LaunchError, LaunchTimeout."""
        return wait_ready(self._process, timeout_s, self.evidence)

    def pause(self) -> None:
        raise GuestLost("a machine that is a plain command cannot be paused")

    def resume(self) -> None:
        raise GuestLost("a machine that is a plain command cannot be resumed")

    def usage(self) -> Mapping[str, float]:
        return {}

    @property
    def alive(self) -> bool:
        return self._process.status() is None

    def close(self) -> None:
        self._process.kill()
