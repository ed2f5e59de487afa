"""A machine reached over SSH as a host. Nothing listens there for us but on its loopback."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType

from vbench.contract.host import SCRATCH_MIB, Network, Scratch, Stream
from vbench.contract.layer import Layer
from vbench.errors import (
    ConnectionLost,
    HostError,
    HostFlood,
    HostTimeout,
    WorkloadError,
    WorkloadTimeout,
)
from vbench.hosts.connection import Connection, RunningCommand, read_line, relay
from vbench.hosts.openssh import OpenSshConnection
from vbench.hosts.private_directory import JANITOR, REMEDY
from vbench.hosts.stream_log import StreamLog
from vbench.hosts.upload import upload_image
from vbench.model import HostFacts, HostKind, ImageFiles, Output, TimeBase
from vbench.system.facts import facts as host_facts
from vbench.system.process import KILLED_STATUSES

CONNECT_TIMEOUT_S = 20.0
# Beside a command's own deadline, which the far end keeps: for the way there and back.
_GRACE_S = 15.0

# What follows ends with the SSH server's process of this connection, for that is the parent. By its
# path, as a busybox shell would prefer its own setpriv, which cannot do it.
SETPRIV = "/usr/bin/setpriv"
_FIND_SETPRIV = f"""
for each in {SETPRIV} "$(command -v setpriv)"; do
  "$each" --pdeathsig KILL true && echo "$each" && exit
done
exit 1
"""

# Says its pid, then becomes "$@", leader of its process group. OpenSSH makes standard error a
# socket, which cannot be opened by name as QEMU does with its console's /dev/stderr; a FIFO can.
_START = """
read -r _ _ _ _ group _ </proc/$$/stat
[ "$group" = $$ ] && lead= || lead=setsid
fifo=$(mktemp -u) && mkfifo -m 600 "$fifo" || exit 125
cat "$fifo" >&2 &
exec 2>"$fifo"
rm "$fifo"
echo $$
exec $lead "$@"
"""


def tied_by(setpriv: str) -> tuple[str, ...]:
    return (setpriv, "--pdeathsig", "KILL", "--")


def _script(text: str, *arguments: str) -> str:
    """A command line for whatever the login shell is."""
    return "exec " + shlex.join(["sh", "-c", text.strip(), "vbench", *arguments])


class RemoteProcess:
    """A process at the other end of the connection; it ends with the connection."""

    def __init__(
        self,
        connection: Connection,
        command: RunningCommand,
        argv: Sequence[str],
        timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        """`command` is _START with `argv`. Raises HostError if it has not started within
        `timeout_s`, ConnectionLost."""
        self._connection = connection
        self._command = command
        line = read_line(command, timeout_s)
        if not line.endswith(b"\n"):
            ended = self._command.status() is not None
            errors = self._command.read_error().decode(errors="replace") if ended else ""
            self._command.close()
            if connection.ended(1.0):
                raise ConnectionLost(f"the connection to {connection.name} is gone")
            raise HostError(
                f"cannot start {argv[0]} on {connection.name}", evidence=errors or " ".join(argv)
            )
        self.pid = int(line)
        self._log = StreamLog(self._command.read_error, clock)
        self.stream, relayed = socket.socketpair()
        self._pumps = [
            threading.Thread(target=pump, args=(relayed,), daemon=True)
            for pump in (self._pump_out, self._pump_in)
        ]
        for pump in self._pumps:
            pump.start()

    def _pump_out(self, relayed: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := self._command.read():
                relayed.sendall(piece)
        with contextlib.suppress(OSError):
            relayed.shutdown(socket.SHUT_WR)

    def _pump_in(self, relayed: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := relayed.recv(65536):
                self._command.write(piece)
        with contextlib.suppress(OSError, EOFError):
            self._command.end_input()
        self._pumps[0].join()
        relayed.close()

    def log(self) -> str:
        return self._log.text()

    def wait_for(self, wanted: Callable[[str], bool], timeout_s: float) -> str | None:
        return self._log.wait_for(wanted, timeout_s)

    def status(self) -> int | None:
        return self._command.status()

    def wait(self, timeout_s: float) -> int | None:
        return self._command.status(timeout_s)

    def kill(self) -> None:
        """SIGKILL to its group; with the connection gone it was killed there already."""
        if self.status() is None and self._connection.alive:
            end = 'kill -KILL -- "-$1" 2>/dev/null || kill -KILL "$1"'
            with contextlib.suppress(ConnectionLost, WorkloadError):
                self._connection.run(_script(end, str(self.pid)), timeout_s=_GRACE_S)
                self._command.status(_GRACE_S)
        self._command.close()
        self._log.finish(1.0)
        self.stream.close()


class SshHost:
    """A host at the other end of an SSH connection, made at first use.

    A lost connection is reported once, with what was lost; the next use makes a new one.
    """

    kind = HostKind.REMOTE
    time_base = TimeBase.WALL
    timeout_scale = 1.0
    sees_idle = True
    launch_hints: Mapping[str, str] = MappingProxyType({})

    def __init__(self, name: str) -> None:
        """`name`: "ssh://user@host[:port]"."""
        self.name = name
        self._connection: Connection | None = None
        self._opening = threading.RLock()  # of threads that need it at once
        self.tied = tied_by(SETPRIV)  # argv prefix: what follows ends with the connection
        self._facts: HostFacts | None = None
        self._scratch: Scratch | None = None
        self._scratch_filled = False
        self._base: str | None = None
        self._stack = ExitStack()

    def _open(self, stack: ExitStack) -> Connection:
        """Connect; what must be ended later goes on `stack`."""
        connection = OpenSshConnection(self.name, CONNECT_TIMEOUT_S)
        stack.callback(connection.close)
        setpriv = connection.run(_script(_FIND_SETPRIV), timeout_s=CONNECT_TIMEOUT_S)
        if setpriv.status != 0:
            raise HostError(
                f"{self.name} has no setpriv that knows --pdeathsig: guests could outlive vbench",
                evidence=setpriv.stderr,
                remedy="install util-linux 2.33 or later there",
            )
        self.tied = tied_by(setpriv.stdout.strip())
        return connection

    def _why_lost(self) -> ConnectionLost:
        return ConnectionLost(
            f"the connection to {self.name} is gone, and with it all that ran there",
            remedy="check the network and the remote machine, then run again",
        )

    @property
    def connection(self) -> Connection:
        """Raises ConnectionLost."""
        with self._opening:
            if self._connection is None:
                with ExitStack() as stack:
                    self._connection = self._open(stack)
                    self._stack.push(stack.pop_all())
            elif not self._connection.alive:
                error = self._why_lost()
                self.close()
                raise error
            return self._connection

    def with_layer(self, layer: Layer) -> SshHost:
        return self

    def clock(self) -> float:
        return time.monotonic()

    def deadline_clock(self) -> float:
        return time.monotonic()

    def facts(self) -> HostFacts:
        if self._facts is None:
            known = host_facts(self)
            identity = f"{self.kind.value}:{self.read('/proc/sys/kernel/hostname').strip()}"
            self._facts = HostFacts(identity, self.kind, self.time_base, known)
        return self._facts

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Output:
        limit = ("timeout", "-s", "KILL", f"{max(1.0, timeout_s):.0f}")
        command = self._kept_by_a_shell([*limit, *self._tied(argv)])
        output = self._shell(command, timeout_s=timeout_s, stdin=stdin)
        if output.status in KILLED_STATUSES:
            raise HostTimeout(
                f"{argv[0]} was ended on {self.name}, probably after {timeout_s:g} s",
                evidence=" ".join(argv),
            )
        return output

    def _shell(self, command: str, *, timeout_s: float, stdin: bytes = b"") -> Output:
        scaled_timeout_s = timeout_s * self.timeout_scale + _GRACE_S
        connection = self.connection
        try:
            return connection.run(command, timeout_s=scaled_timeout_s, stdin=stdin)
        except ConnectionLost as error:
            if not connection.ended(1.0):
                raise
            lost = self._why_lost()
            self.close()
            raise lost from error
        except WorkloadTimeout as error:
            raise HostTimeout(error.what, evidence=error.evidence) from error
        except WorkloadError as error:
            raise HostFlood(error.what, evidence=error.evidence, remedy=error.remedy) from error

    def start(self, argv: Sequence[str], *, network: Network | None = None) -> RemoteProcess:
        if network and network.tap_fd is not None:
            raise HostError(f"an open tap cannot be handed on to {self.name}")
        timeout_s = CONNECT_TIMEOUT_S * self.timeout_scale
        command = self._start(_script(_START, *self._tied(argv)))
        return RemoteProcess(self.connection, command, argv, timeout_s, self.deadline_clock)

    def _start(self, command: str) -> RunningCommand:
        try:
            return self.connection.start(command)
        except WorkloadTimeout as error:
            raise HostTimeout(error.what, evidence=error.evidence) from error

    def interact(self, argv: Sequence[str], terminal: str) -> int:
        return self.connection.interact(terminal, shlex.join(self._tied(argv)))

    def pass_through(self, argv: Sequence[str]) -> int:
        command = self._start(self._kept_by_a_shell(self._tied(argv)))
        try:
            status = relay(command, _GRACE_S * self.timeout_scale)
        finally:
            command.close()
        if status is None or status < 0:
            lost = self._why_lost()
            self.close()
            raise lost
        return status

    def _tied(self, argv: Sequence[str]) -> list[str]:
        """`argv` so that it ends with the connection."""
        return [*self.tied, *argv]

    def _kept_by_a_shell(self, argv: Sequence[str]) -> str:
        """What runs `argv` under a shell that stays: SSH has no exit status for what a signal
        ended, and the shell makes one of it."""
        shell = self._tied(["sh", "-c", '"$@"; exit $?', "vbench", *self._tied(argv)])
        return f"exec {shlex.join(shell)}"

    def connect(self, address: str, port: int, timeout_s: float) -> Stream:
        return self.connection.forward(address, port, timeout_s * self.timeout_scale)

    @contextmanager
    def workdir(self) -> Iterator[str]:
        connection = self.connection
        if self._base is None:
            self._base = self._janitor(connection)
        path = self._must("mktemp", "-d", f"{self._base}/XXXXXX").removesuffix("\n")
        try:
            yield path
        finally:
            if connection.alive:
                with contextlib.suppress(HostError, ConnectionLost):
                    self.run(["rm", "-rf", "--", path], timeout_s=20)

    def _janitor(self, connection: Connection) -> str:
        janitor = self._start(_script(JANITOR))
        path = read_line(janitor, CONNECT_TIMEOUT_S * self.timeout_scale)
        if not path.endswith(b"\n"):
            ended = janitor.status() is not None
            errors = janitor.read_error().decode(errors="replace") if ended else ""
            janitor.close()
            raise HostError(
                f"cannot make a temporary directory on {self.name}", evidence=errors, remedy=REMEDY
            )

        def clean() -> None:
            with contextlib.suppress(OSError, EOFError):
                janitor.end_input()
                janitor.status(20.0 * self.timeout_scale)
            janitor.close()

        self._stack.callback(clean)
        return os.fsdecode(path).removesuffix("\n")

    def _must(self, *argv: str, timeout_s: float = 20.0) -> str:
        """The standard output of a command that must succeed. Raises HostError."""
        output = self.run(argv, timeout_s=timeout_s)
        if output.status != 0:
            raise HostError(
                f"{argv[0]} failed on {self.name}",
                evidence="\n".join([shlex.join(argv), output.stderr]),
            )
        return output.stdout

    def write(self, path: str, data: bytes) -> None:
        script = _script('umask 077; cat >"$1"', path)
        output = self._shell(script, timeout_s=60.0, stdin=data)
        if output.status != 0:
            raise HostError(f"cannot write {path} on {self.name}", evidence=output.stderr)

    def read(self, path: str) -> str:
        output = self._shell(f"exec cat -- {shlex.quote(path)}", timeout_s=20.0)
        if output.status != 0:
            raise HostError(f"cannot read {path} on {self.name}", evidence=output.stderr)
        return output.stdout

    def program(self, path: str, pack: Callable[[], bytes]) -> str:
        del pack
        return path

    def upload_image(self, image: ImageFiles) -> ImageFiles:
        try:
            return upload_image(image, self.connection, self.timeout_scale)
        except WorkloadTimeout as error:
            raise HostTimeout(error.what, evidence=error.evidence) from error

    def scratch(self) -> Scratch:
        if self._scratch is None:
            path = f"{self._stack.enter_context(self.workdir())}/scratch"
            self._must("truncate", "-s", f"{SCRATCH_MIB}M", path)
            self._scratch = Scratch(path, SCRATCH_MIB)
        return self._scratch

    def fill_scratch(self) -> None:
        path = self.scratch().path
        if not self._scratch_filled:
            fill = ("dd", "if=/dev/urandom", f"of={path}", "bs=1M", f"count={SCRATCH_MIB}")
            # nocache: out of the page cache, where direct I/O would have to look first
            output = self.run([*fill, "conv=notrunc,fsync", "oflag=nocache"], timeout_s=120.0)
            if output.status != 0:
                reason = output.stderr.partition("\n")[0].rpartition(": ")[2]
                raise HostError(
                    f"cannot write the scratch disk {path} on {self.name}: {reason}",
                    evidence=output.stderr,
                    remedy=f"free {SCRATCH_MIB} MiB there, or set VBENCH_TMP there to another disk",
                )
            self._scratch_filled = True

    def network(self) -> Network | None:
        return None  # a tap's descriptor cannot travel through SSH

    @contextmanager
    def bridge(self, ports: int) -> Iterator[Sequence[Network]]:
        del ports
        yield ()  # for the same reason

    def close(self) -> None:
        stack, self._stack = self._stack, ExitStack()
        stack.close()
        self._connection = None
        self._scratch, self._scratch_filled = None, False
        self._base = None
