"""What the lives of all hypervisors do alike: save, and let a guest go on in another machine.

with saving(guest, state, initrd):
    ... make both files ...

with GoingOn("restore", saved.guest, host, clone=LIFECYCLE.clone) as again:
    machine = ...  # goes on from the files of `saved`
    again.stack.callback(machine.close)
    again.watch.reached("loaded")
    return again.guest(machine, ssh, life, timeout_s=...)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

from vbench.contract.guest import Guest, Life
from vbench.contract.host import Host
from vbench.errors import ConnectionLost, GuestError, GuestLost, HostError, LaunchError, Unsupported
from vbench.guest.booted import BootedGuest
from vbench.guest.launch import Stopwatch
from vbench.guest.shell import GuestShell, Machine
from vbench.hosts.ssh import SshConnection


@contextmanager
def saving(guest: Guest, folder: str, *files: str) -> Iterator[None]:
    """`files`, which lie in `folder`, are removed if the context fails. Raises what failed, as a
    GuestError with what room that disk has if the guest goes on."""
    try:
        yield
    except (GuestError, HostError) as error:
        with suppress(HostError, ConnectionLost):
            room = guest.host.run(["df", "-h", folder], timeout_s=20).stdout
            guest.host.run(["rm", "-f", "--", *files], timeout_s=20)
            if guest.alive and not isinstance(error, GuestLost):
                raise GuestError(
                    error.what,
                    evidence=f"{error.evidence}\n{room}".lstrip(),
                    remedy="see whether that disk is full",
                ) from error
        raise


def first_command(shell: GuestShell, *, timeout_s: float) -> None:
    """Raises LaunchError, GuestLost."""
    first = shell.run("true", timeout_s=timeout_s)
    if first.status != 0:
        raise LaunchError("the guest's first command failed", evidence=first.stderr)


class GoingOn(AbstractContextManager["GoingOn"]):
    """A guest on its way into another machine. A context manager: what `stack` holds ends with it,
    unless it has become the guest's own.

    `folder` is one of `host`, for what that machine needs. `watch` times from `begin` on.
    """

    folder: str
    watch: Stopwatch

    def __init__(self, operation: str, was: Guest, host: Host, *, clone: str | None) -> None:
        """`clone`: why `was` must have ended; None: it need not. Raises Unsupported."""
        assert isinstance(was, BootedGuest)  # noqa: S101 - what backends with a life launch
        if clone is not None and was.alive:
            raise Unsupported(f"its guests have no clone: {clone}")
        self._operation, self.was, self.host = operation, was, host
        self.stack = ExitStack()

    def begin(self) -> None:
        """All is prepared: what is timed begins."""
        self.watch = Stopwatch(self.host.clock, self._operation)

    @contextmanager
    def loading(self, machine: Machine | None = None) -> Iterator[None]:
        """What fails while the context lasts is a state that cannot be loaded: a LaunchError with
        what its `machine` said."""
        try:
            yield
        except (GuestError, HostError) as error:
            ended = machine is not None and not machine.alive
            raise LaunchError(
                "the saved state cannot be loaded: "
                + ("what runs the guest has ended" if ended else error.what),
                evidence=error.evidence or (machine.evidence() if machine else ""),
                remedy="a state goes on only by the version, machine type and devices that it was "
                "saved with",
            ) from error

    def guest(
        self,
        machine: Machine,
        ssh: SshConnection,
        life: Life,
        *,
        timeout_s: float,
        **changes: Any,
    ) -> BootedGuest:
        """The guest, after its first command, with what else has changed of it. Raises
        LaunchError, GuestLost."""
        shell = GuestShell(machine, ssh, self.host)
        first_command(shell, timeout_s=timeout_s)
        self.watch.reached("command")
        return dataclasses.replace(
            self.was,
            shell=shell,
            host=self.host,
            phases=self.watch.phases,
            life=life,
            cleanup=self.stack.pop_all(),
            **changes,
        )

    def __enter__(self) -> GoingOn:
        self.folder = self.stack.enter_context(self.host.workdir())
        self.begin()
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.__exit__(*error)  # type: ignore[arg-type]
