"""A connection kept by the user's own `ssh`, so that a host is reached as the user reaches it.

One `ssh -M -N` (the master) logs in; each command is another `ssh` that goes through its control
socket. OpenSSH reads the configuration (Match, Include, ProxyJump, ...), checks known hosts
(certificate authorities, revoked keys) and says by itself what is wrong with them. Where the
server allows no further session on a connection (MaxSessions), `ssh` logs in once more.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import select
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, BinaryIO

from vbench.errors import (
    ConnectionLost,
    HostError,
    UnavailableError,
    Unreachable,
    UsageError,
    WorkloadError,
    WorkloadTimeout,
)
from vbench.hosts.address import FORM, parse
from vbench.hosts.connection import read_line, write_all
from vbench.hosts.private_directory import private_directory
from vbench.model import Output
from vbench.system import process

# The server is asked for a sign of life so often, and given up after so many without an answer.
ALIVE_INTERVAL_S, ALIVE_COUNT = 10, 3
# What the user's configuration may set and what would be in the way here. BatchMode: ask nothing.
_OPTIONS = (
    *("BatchMode=yes", "ClearAllForwardings=yes", "PermitLocalCommand=no", "RemoteCommand=none"),
    *("ForwardX11=no", "ForwardAgent=no", "ControlPersist=no", "LogLevel=INFO"),
    *(f"ServerAliveInterval={ALIVE_INTERVAL_S}", f"ServerAliveCountMax={ALIVE_COUNT}"),
)
# The same, of OpenSSH 8.7 and later: an earlier one ends for an option that it does not know, and
# cannot have it in its configuration.
_LATER_OPTIONS = ("ForkAfterAuthentication=no", "StdinNull=no")
# Both are relative to the connection's own folder: a socket's path may have 108 bytes only.
_SOCKET, _LOG = "ctl", "log"
_LOST = 255  # ssh: no exit status came

# A server does not notice a client that loses its power or its network: all that we started there
# would go on for hours, and hold the machine's lock. So it gets a line so often from us, and what
# reads them there ends the server's process for this connection, and with it all that is tied to
# it, when none has come for so long. A shell's `read` has no timeout.
BEAT_S, SILENCE_S = 20, 90
_BEAT = f"while echo beat; do sleep {BEAT_S}; done"
_WATCH = f"""
command -v timeout >/dev/null && command -v head >/dev/null || exit
while [ -n "$(timeout {SILENCE_S} head -n 1)" ]; do :; done
kill -KILL $PPID
"""


# What we start there ends with its parent: that must be the server, not a shell that stays.
_CHILD_OF_SSHD = (
    "read -r name </proc/$PPID/comm; case $name in *sshd*|dropbear*) exit 0; esac; exit 1"
)


class OpenSshConnection:
    """A Connection by the `ssh` program."""

    def __init__(self, address: str, timeout_s: float) -> None:
        """Log in at `ssh://[user@]host[:port]`.

        Raises UsageError for a malformed address, UnavailableError without an `ssh` program,
        ConnectionLost with OpenSSH's own words, HostError where the login shell runs nothing.
        """
        self.name = address
        self._destination, self._by_hand = _destination(address)
        self._timeout_s = timeout_s
        # A greeting of the login shell comes before it. In two parts in the command itself, so
        # that a shell which echoes that is not mistaken for the command.
        self._token = secrets.token_hex(8)
        self._marker = f"vbench-{self._token}\n".encode()
        self._shell = "exec "
        if not shutil.which("ssh"):
            raise UnavailableError(
                "the program ssh is not installed", remedy="run `vbench setup`, then try again"
            )
        self._options = (*_OPTIONS, *self._later_options())
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(private_directory()))
            self._master = self._log_in(timeout_s)
            stack.callback(process.end_group, self._master)
            self._find_shell()
            self._keep_watched(stack)
            self._stack = stack.pop_all()

    def _keep_watched(self, stack: ExitStack) -> None:
        """Whoever ends this process ends the beat."""
        beat = self._popen(["sh", "-c", _BEAT], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        stack.callback(process.end_group, beat)
        assert beat.stdout  # noqa: S101 - it is a pipe
        with beat.stdout as beats:
            argv = self._ssh("-T", *self._destination, self._line(_WATCH))
            watch = self._popen(argv, stdin=beats.fileno(), stdout=subprocess.DEVNULL)
        stack.callback(process.end_group, watch)

    def _later_options(self) -> list[str]:
        """Those that this `ssh` knows: `ssh -G` says all that it would go by."""
        try:
            done = process.run(["ssh", "-G", *self._destination], timeout_s=self._timeout_s)
        except (OSError, TimeoutError, BufferError):
            return []  # the login will say what is wrong
        lines = done.stdout.decode(errors="replace").splitlines()
        known = {line.partition(" ")[0] for line in lines}
        return [each for each in _LATER_OPTIONS if each.partition("=")[0].lower() in known]

    def _ssh(self, *words: str) -> list[str]:
        options = [word for option in self._options for word in ("-o", option)]
        options += ["-o", f"ConnectTimeout={self._timeout_s:.0f}", "-S", _SOCKET, "-E", _LOG]
        return ["ssh", *options, *words]

    def _log_in(self, timeout_s: float) -> subprocess.Popen[bytes]:
        # what it says before it has opened its log, or instead of it, goes there, too
        with (self._folder / _LOG).open("ab") as log:
            master = self._popen(
                self._ssh("-M", "-N", *self._destination),
                stdin=subprocess.DEVNULL,
                stdout=log.fileno(),
                stderr=log.fileno(),
            )
        deadline = time.monotonic() + timeout_s
        while not (self._folder / _SOCKET).exists():
            status = process.wait(master, 0.02)
            if status is not None or time.monotonic() > deadline:
                process.end_group(master)
                raise self._no_login(status, timeout_s)
        return master

    def _no_login(self, status: int | None, timeout_s: float) -> Unreachable:
        """Why the master has ended with `status`, or has not answered (None)."""
        log = self._logged(0)
        how = f"ssh ended with exit status {status}"
        if status is None:
            how = f"no answer within {timeout_s:g} s"
        # the last line, unless that only says that there was another
        words = [line for line in log if ": terminating, " not in line]
        evidence = [*(log if len(log) > 1 else ()), how] if words else log
        return Unreachable(
            f"no SSH login to {self.name}: {words[-1] if words else how}",
            evidence="\n".join(evidence),
            remedy=f"connect once by hand: {self._by_hand}",
        )

    def _popen(
        self,
        argv: Sequence[str],
        *,
        stdin: int,
        stdout: int,
        stderr: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*process.TIED, *argv],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=self._folder,
            bufsize=0,
            start_new_session=True,
        )

    def _log_end(self) -> int:
        with contextlib.suppress(OSError):
            return (self._folder / _LOG).stat().st_size
        return 0

    def _logged(self, since: int) -> list[str]:
        """The lines that OpenSSH has logged since then."""
        with contextlib.suppress(OSError):
            text = (self._folder / _LOG).read_bytes()[since:].decode(errors="replace")
            return [line.strip() for line in text.splitlines() if line.strip()]
        return []

    def _find_shell(self) -> None:
        """Whether the login shell becomes ours by `exec`, or runs it (a restricted shell)."""
        since = self._log_end()
        try:
            try:
                self.run("exit 0", timeout_s=self._timeout_s)
            except HostError:
                self._shell = ""
                if self.run(_CHILD_OF_SSHD, timeout_s=self._timeout_s).status != 0:
                    raise
        except WorkloadTimeout as error:
            raise self._not_run(f"no end within {self._timeout_s:g} s".encode(), since) from error

    def _line(self, command: str) -> str:
        """What runs `command` there, with the token before its output."""
        return self._coded(f"printf '%s%s\\n' vbench- {self._token}\n{command}")

    def _coded(self, script: str) -> str:
        """A script for `sh` as a line that means the same to every login shell: csh, fish and
        their like differ in quoting."""
        coded = base64.b64encode(script.encode()).decode()
        return f"""{self._shell}sh -c 'eval "$(printf %s "$1" | base64 -d)"' vbench {coded}"""

    def run(self, command: str, *, timeout_s: float, stdin: bytes = b"") -> Output:
        return self._run(command, timeout_s, stdin)

    def upload(self, command: str, source: BinaryIO, *, timeout_s: float) -> Output:
        return self._run(command, timeout_s, source)

    def _run(self, command: str, timeout_s: float, stdin: bytes | BinaryIO) -> Output:
        since = self._log_end()
        argv = self._ssh("-T", *self._destination, self._line(command))
        try:
            done = process.run(argv, timeout_s=timeout_s, stdin=stdin, cwd=self._folder)
        except TimeoutError:
            raise WorkloadTimeout(
                f"a command on {self.name} did not end within {timeout_s:g} s", evidence=command
            ) from None
        except BufferError as error:
            raise WorkloadError(
                f"a command {error}", evidence=command, remedy="let it print its result only"
            ) from error
        greeting, marker, output = done.stdout.partition(self._marker)
        if not marker:
            raise self._not_run(greeting + done.stderr, since)
        if done.status == _LOST and not self.alive:
            raise self._gone(since)
        return process.Completed(done.status, output, done.stderr).text()

    def _gone(self, since: int) -> ConnectionLost:
        return ConnectionLost(
            f"the SSH connection to {self.name} is gone", evidence="\n".join(self._logged(since))
        )

    def _not_run(self, output: bytes, since: int) -> HostError | ConnectionLost:
        """Why a command did not even begin."""
        if not self.alive:
            return self._gone(since)
        log = self._logged(since)
        words = output.decode(errors="replace").strip()
        return HostError(
            f"{self.name} runs no commands: {([*words.splitlines(), *log] or ['no output'])[-1]}",
            evidence="\n".join([words, *log]),
            remedy=f"its login shell must run this: {self._by_hand} sh -c true; it needs base64",
        )

    def start(self, command: str) -> SshCommand:
        since = self._log_end()
        child = self._popen(
            self._ssh("-T", *self._destination, self._line(command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started = SshCommand(child)
        output = b""
        while not output.endswith(self._marker):
            line = read_line(started, self._timeout_s)
            output += line
            if not line.endswith(b"\n"):
                if started.status(1.0) is not None:
                    output += started.read_error()
                started.close()
                raise self._not_run(output, since)
        return started

    def interact(self, terminal: str, command: str) -> int:
        return subprocess.call(
            self._ssh("-tt", *self._destination, self._coded(command)),
            cwd=self._folder,
            env={**os.environ, "TERM": terminal},
        )

    def forward(self, address: str, port: int, timeout_s: float) -> Forwarded:
        """As Connection.forward, to a server that speaks first, as those of SSH do."""
        own_end, childs_end = socket.socketpair()
        since = self._log_end()
        with childs_end:
            child = self._popen(
                self._ssh("-W", f"[{address}]:{port}", *self._destination),
                stdin=childs_end.fileno(),
                stdout=childs_end.fileno(),
            )
        stream = Forwarded(own_end, child)
        if not stream.speaks(timeout_s):
            stream.close()
            raise self._not_forwarded(f"{address}:{port}", since)
        return stream

    def _not_forwarded(self, where: str, since: int) -> HostError | ConnectionLost:
        log = "\n".join(self._logged(since))
        if self.alive and "prohibited" in log:
            return HostError(
                f"{self.name} forbids TCP forwarding, by which its guests are reached",
                evidence=log,
                remedy="set AllowTcpForwarding to yes or local in its sshd_config, at least "
                "for your user, and let PermitOpen allow 127.0.0.1",
            )
        return ConnectionLost(f"{self.name} has no answer from {where}", evidence=log)

    @property
    def alive(self) -> bool:
        return process.wait(self._master, 0) is None

    def ended(self, timeout_s: float) -> bool:
        return process.wait(self._master, timeout_s) is not None

    def close(self) -> None:
        self._stack.close()


class SshCommand:
    """A RunningCommand: the pipes of an `ssh`."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin and child.stdout and child.stderr  # noqa: S101, PT018 - all are pipes
        self._child = child
        self._stdin, self._stdout, self._stderr = child.stdin, child.stdout, child.stderr

    def has_output(self, timeout_s: float) -> bool:
        return bool(select.select([self._stdout], [], [], max(0.0, timeout_s))[0])

    def read(self, limit: int = 65536) -> bytes:
        return _read(self._stdout, limit)

    def read_error(self) -> bytes:
        return _read(self._stderr, 65536)

    def write(self, data: bytes) -> None:
        if self._stdin.closed:
            raise BrokenPipeError
        write_all(self._stdin.fileno(), data)

    def end_input(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()

    def status(self, timeout_s: float = 0.0) -> int | None:
        status = process.wait(self._child, timeout_s)
        return -1 if status == _LOST else status

    def close(self) -> None:
        process.end_group(self._child)


def _read(pipe: IO[bytes], limit: int) -> bytes:
    try:
        return os.read(pipe.fileno(), limit)
    except ValueError:  # closed meanwhile, by another thread
        return b""


class Forwarded(socket.socket):
    """A Stream through `ssh -W`: our end of a pair of sockets."""

    def __init__(self, stream: socket.socket, child: subprocess.Popen[bytes]) -> None:
        super().__init__(fileno=stream.detach())
        self._child = child

    def speaks(self, timeout_s: float) -> bool:
        """Whether a first byte comes within `timeout_s`; it stays to be read."""
        self.settimeout(timeout_s)
        try:
            return bool(self.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def close(self) -> None:
        super().close()
        process.end_group(self._child)


def _destination(address: str) -> tuple[list[str], str]:
    """What tells `ssh` where to go, and the same as a user types it. The command line wins over
    the user's configuration; what it leaves out is looked up there."""
    try:
        found = parse(address)
    except ValueError as error:
        raise UsageError(str(error), remedy=f"an address is {FORM}") from error
    words = ["-p", str(found.port)] if found.port else []
    words += ["-l", found.user] if found.user else []
    return [*words, "--", found.host], shlex.join(["ssh", *words, found.host])
