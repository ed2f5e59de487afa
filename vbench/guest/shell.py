"""The shell of a guest that booted the image: commands over one SSH connection.

Its machine (QEMU, a Xen domain) knows more than the connection when something goes wrong.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from vbench.contract.host import Host
from vbench.errors import ConnectionLost, GuestLost, GuestSilent, WorkloadTimeout
from vbench.guest.target import clean_argv
from vbench.hosts.connection import read_line, relay
from vbench.hosts.ssh import SshConnection
from vbench.model import Output
from vbench.system.process import KILLED_STATUSES

# Added to a workload's own deadline for the guest's `timeout` to act and report.
_GRACE_S = 10.0
_SILENT = "the guest does not answer"
# Between the end of a machine's connections and its own.
_DYING_S = 1.0

# busybox' `timeout` ends one process only; what that started is in the same session, which has
# `timeout`'s number. The login shell stays: SSH has no exit status for what a signal ended.
# Standard input is handed on by number, since a shell gives its background /dev/null.
_TIMED = (
    "exec 3<&0; setsid timeout -s KILL {limit_s} {command} <&3 3<&- & "
    "wait $!; s=$?; case $s in 124|137|143) kill -KILL -- -$! 2>/dev/null;; esac; exit $s"
)


class Machine(Protocol):
    """What runs the guest: its life, its console, what it costs the host."""

    argv: tuple[str, ...]

    def evidence(self) -> str:
        """The command line and the last lines of the console."""

    def console(self) -> str: ...

    def silence(self) -> str:
        """What can be found out about a guest that does not answer. Never raises GuestError."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def usage(self) -> Mapping[str, float]:
        """Monotonic seconds: host_cpu_s, and what else is known. Raises GuestLost."""

    @property
    def alive(self) -> bool: ...

    def close(self) -> None: ...


class GuestShell:
    """Runs commands in a guest, and says how the guest was lost when it is."""

    def __init__(self, machine: Machine, ssh: SshConnection, host: Host) -> None:
        self.machine = machine
        self.ssh = ssh
        self._host = host

    def run(self, command: str, *, timeout_s: float, stdin: bytes = b"") -> Output:
        """Run a shell command to its end.

        The guest's own `timeout` ends what is late, so that nothing goes on behind our back.
        Raises WorkloadTimeout (the guest is well), GuestLost (it is not).
        """
        clean = shlex.join(clean_argv(command))
        wrapped = _TIMED.format(limit_s=max(1, round(timeout_s)), command=clean)
        began = time.monotonic()
        scaled_timeout_s = timeout_s * self._host.timeout_scale + _GRACE_S
        with self._answering():
            output = self.ssh.run(wrapped, timeout_s=scaled_timeout_s, stdin=stdin)
        if output.status in KILLED_STATUSES and time.monotonic() - began >= timeout_s - 1:
            raise WorkloadTimeout(
                f"a command in the guest did not end within {timeout_s:g} s", evidence=command
            )
        return output

    def pass_through(self, command: str) -> int:
        """Run a shell command with our own standard input, output and error, byte for byte and as
        they come; returns its exit status, 128 + n for signal n. Raises GuestLost."""
        with self._answering():
            # the shell stays: SSH has no exit status for what a signal ended
            running = self.ssh.start(f"{shlex.join(clean_argv(command))}; exit $?")
        try:
            status = relay(running, _GRACE_S * self._host.timeout_scale)
        finally:
            running.close()
        if status is None or status < 0:
            raise self.lost("the connection to the guest is gone")
        return status

    def interact(self, terminal: str) -> int:
        """A shell on our own terminal; returns its exit status."""
        with self._answering():
            return self.ssh.interact(terminal)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Where the connection ends or stays silent, says it of the guest. Raises GuestLost."""
        try:
            yield
        except ConnectionLost as error:
            raise self.lost(error.what) from error
        except WorkloadTimeout as error:
            raise self.silent() from error

    def lost(self, why: str) -> GuestLost:
        """The error that says how this guest was lost, with the console's last lines."""
        # A dying machine closes its connections first. Its log is whole once it has ended.
        deadline = time.monotonic() + _DYING_S
        while self.machine.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        text = self.machine.console()
        if "Kernel panic" in text:
            why = "the guest's kernel panicked"
        elif not self.machine.alive:
            why = "the guest's machine ended"
        return GuestLost(why, evidence=self.machine.evidence())

    def silent(self) -> GuestLost:
        """The error for a guest that did not answer in time, with what is known of it while it is
        still there."""
        lost = self.lost(_SILENT)
        if lost.what != _SILENT:
            return lost
        return GuestSilent(_SILENT, evidence=f"{self.machine.silence()}\n{lost.evidence}")

    @contextmanager
    def server(self, command: str) -> Iterator[None]:
        """Keep `command` running in the guest while the context lasts."""
        # a session of its own, so that all of it can be ended by one signal
        inner = shlex.join(clean_argv(f"echo $$; exec {command}"))
        with self._answering():
            running = self.ssh.start(f"exec setsid {inner}")
        pid = read_line(running, 20.0 * self._host.timeout_scale).decode(errors="replace").strip()
        if not pid:
            raise self.silent()
        try:
            yield
        finally:
            if self.alive:
                self.run(f"kill -- -{pid} 2>/dev/null || true", timeout_s=10)
                # dropbear closes the channel then. Where we do so at the same time, it closes the
                # next one, too, which has the number of this one.
                running.status(10.0 * self._host.timeout_scale)
            running.close()

    @property
    def alive(self) -> bool:
        return self.ssh.alive and self.machine.alive
