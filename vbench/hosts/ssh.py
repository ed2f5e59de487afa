"""SSH as vbench needs it: one pinned, kept connection. The only importer of paramiko."""

from __future__ import annotations

import io
import logging
import os
import select
import shutil
import socket
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol, cast
from urllib.parse import urlsplit

import paramiko

from vbench.errors import ConnectionLost, UsageError, WorkloadError, WorkloadTimeout
from vbench.hosts.keys import KeyPair
from vbench.model import Output
from vbench.system.process import OUTPUT_LIMIT_BYTES

# What it has to say comes to us as exceptions; unhandled it would go to standard error.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

SILENCE_LIMIT_S = 30.0
# What paramiko raises when a connection is lost or refused.
_BROKEN = (paramiko.SSHException, OSError, EOFError)


def paramiko_key(pair: KeyPair) -> paramiko.PKey:
    return paramiko.Ed25519Key.from_private_key(io.StringIO(pair.openssh_private()))


class Stream(Protocol):
    """A connection that carries bytes: a socket, or a channel inside an SSH connection."""

    def send(self, data: bytes, /) -> int: ...

    def recv(self, size: int, /) -> bytes: ...

    def settimeout(self, timeout_s: float | None, /) -> None: ...

    def close(self) -> None: ...


class _Wake(threading.Event):
    """Set when either stream of a channel has something; cleared by its reader only.

    Not paramiko's own `fileno()`: its pipe loses a wake-up when one stream empties while the
    other fills, and closing it under a flood ends the whole connection with EBADF.
    """

    def clear(self) -> None:
        """paramiko's: one of the streams is empty. That says nothing about the other."""

    def rest(self) -> None:
        super().clear()


class SshConnection:
    """A kept connection on which commands run one after another."""

    def __init__(
        self, transport: paramiko.Transport, name: str, owner: paramiko.SSHClient | None = None
    ) -> None:
        self._transport = transport
        self._owner = owner  # its end would be the transport's
        self.name = name

    @classmethod
    def open(
        cls,
        stream: Stream,
        *,
        name: str,
        user: str,
        key: KeyPair,
        host_key: KeyPair,
        timeout_s: float,
    ) -> SshConnection:
        """Log in over `stream`, accepting exactly `host_key`.

        Raises ConnectionLost; `name` says in messages who did not answer.
        """
        # A channel of another connection will do, says paramiko.
        transport = paramiko.Transport(cast(socket.socket, stream))
        # Fewer bytes and fewer rounds of key exchange where the other end is translated code.
        transport.banner_timeout = timeout_s
        transport.handshake_timeout = timeout_s
        transport.auth_timeout = timeout_s
        try:
            transport.start_client(timeout=timeout_s)
            seen = transport.get_remote_server_key().asbytes()
            if seen != host_key.public_blob:
                raise ConnectionLost(f"{name} shows another host key than it was given")
            transport.auth_publickey(user, paramiko_key(key))
        except _BROKEN as error:
            transport.close()
            raise ConnectionLost(f"no SSH login to {name}: {error or type(error).__name__}") from (
                error
            )
        except BaseException:
            transport.close()
            raise
        return cls(transport, name)

    @classmethod
    def login(cls, address: str, timeout_s: float) -> SshConnection:
        """Log in at `ssh://[user@]host[:port]` as the user's own ssh would: ~/.ssh/config (host
        name, port, user, identity file), agent, keys, known hosts.

        Raises UsageError for a malformed address, ConnectionLost with a remedy.
        """
        host, port, user, keys = _target(address)
        client = paramiko.SSHClient()
        client.load_system_host_keys()
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            stream = socket.create_connection((host, port), timeout_s)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A silent network is noticed: unanswered data for so long ends the connection.
            stream.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENCE_LIMIT_S * 1e3)
            )
            client.connect(
                host,
                port,
                username=user,
                key_filename=cast(str, keys or None),  # a list will do, unlike what its types say
                timeout=timeout_s,
                banner_timeout=timeout_s,
                auth_timeout=timeout_s,
                sock=stream,
            )
        except _BROKEN as error:
            client.close()
            raise ConnectionLost(
                f"no SSH login to {address}: {error or type(error).__name__}",
                remedy=f"connect once by hand: ssh -p {port} {f'{user}@' if user else ''}{host}",
            ) from error
        transport = client.get_transport()
        assert transport is not None  # noqa: S101 - it has just connected
        transport.set_keepalive(int(SILENCE_LIMIT_S / 2))
        return cls(transport, address, client)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """What breaks inside is the connection; a deadline that passes is not."""
        try:
            yield
        except TimeoutError:
            raise
        except _BROKEN as error:
            raise ConnectionLost(f"the SSH connection to {self.name} is gone: {error}") from error

    def channel(self, timeout_s: float = 20.0) -> paramiko.Channel:
        """A new session channel. Raises ConnectionLost."""
        with self._kept():
            return self._transport.open_session(timeout=timeout_s)

    def run(self, command: str, *, timeout_s: float, stdin: bytes = b"") -> Output:
        """Run a shell command to its end.

        One deadline covers the whole command. Raises WorkloadTimeout when it passes,
        WorkloadError when the output exceeds OUTPUT_LIMIT_BYTES, ConnectionLost when the
        channel dies without an exit status.
        """
        return self.upload(command, lambda pipe: pipe.write(stdin), timeout_s=timeout_s)

    def upload(
        self, command: str, fill: Callable[[BinaryIO], object], *, timeout_s: float
    ) -> Output:
        """Run a shell command whose standard input is what `fill` writes. Raises as `run`."""
        deadline = time.monotonic() + timeout_s
        channel = self.channel()
        try:
            with self._kept():
                channel.settimeout(timeout_s)
                channel.exec_command(command)
                self._feed(channel, fill)
                stdout, stderr = self._drain(channel, command, deadline)
                status = channel.recv_exit_status() if channel.exit_status_ready() else -1
        except TimeoutError:
            raise WorkloadTimeout(
                f"a command on {self.name} did not end within {timeout_s:g} s", evidence=command
            ) from None
        finally:
            channel.close()
        if status == -1:  # paramiko: the channel closed before an exit status came
            raise ConnectionLost(
                f"{self.name} closed the connection during a command", evidence=command
            )
        return Output(status, stdout.decode(errors="replace"), stderr.decode(errors="replace"))

    def _feed(self, channel: paramiko.Channel, fill: Callable[[BinaryIO], object]) -> None:
        try:
            with channel.makefile_stdin("wb", 1 << 18) as pipe:
                fill(cast(BinaryIO, pipe))
            channel.shutdown_write()
        except OSError:
            if not self.alive:
                raise
            # The command ended without reading all: its status says why.

    def _drain(
        self, channel: paramiko.Channel, command: str, deadline: float
    ) -> tuple[bytes, bytes]:
        """Read both streams together: waiting for one alone lets the other fill and hang."""
        out, err = bytearray(), bytearray()
        wake = _Wake()
        channel.in_buffer.set_event(wake)
        channel.in_stderr_buffer.set_event(wake)
        out_ended = err_ended = False
        while not (out_ended and err_ended):
            wake.rest()
            if channel.recv_ready() or channel.eof_received or channel.closed:
                piece = channel.recv(1 << 20)
                out += piece
                out_ended = not piece
            if channel.recv_stderr_ready() or channel.eof_received or channel.closed:
                piece = channel.recv_stderr(1 << 20)
                err += piece
                err_ended = not piece
            if len(out) + len(err) > OUTPUT_LIMIT_BYTES:
                raise WorkloadError(
                    f"a command wrote more than {OUTPUT_LIMIT_BYTES >> 20} MiB",
                    evidence=command,
                    remedy="let it print its result only",
                )
            if out_ended and err_ended:
                break
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if not (channel.eof_received or channel.closed):  # then nothing more wakes us
                wake.wait(left)
        # The exit status may follow the end of the streams by a packet.
        if not channel.status_event.wait(max(0.0, min(5.0, deadline - time.monotonic()))):
            raise TimeoutError
        return bytes(out), bytes(err)

    def start(self, command: str) -> RunningCommand:
        """A command that goes on while others run. Raises ConnectionLost."""
        channel = self.channel()
        with self._kept():
            channel.exec_command(command)
        return RunningCommand(channel)

    def interact(self, terminal: str, command: str = "") -> int:
        """A shell, or `command`, on our own terminal, which is raw meanwhile; returns its exit
        status."""
        size = shutil.get_terminal_size()
        channel = self.channel()
        keys = sys.stdin.fileno()
        before = termios.tcgetattr(keys)
        try:
            with self._kept():
                channel.get_pty(terminal, size.columns, size.lines)
                if command:
                    channel.exec_command(command)
                else:
                    channel.invoke_shell()
                tty.setraw(keys)
                while True:
                    ready, _, _ = select.select([channel, keys], [], [])
                    if channel in ready:
                        piece = channel.recv(65536)
                        if not piece:
                            break
                        os.write(sys.stdout.fileno(), piece)
                    if keys in ready:
                        channel.sendall(os.read(keys, 1024))
                return channel.recv_exit_status()
        finally:
            termios.tcsetattr(keys, termios.TCSADRAIN, before)
            channel.close()

    def forward(self, address: str, port: int, timeout_s: float) -> Stream:
        """A TCP connection made from the other end (direct-tcpip, RFC 4254 section 7.2)."""
        try:
            return self._transport.open_channel(
                "direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=timeout_s
            )
        except _BROKEN as error:
            raise ConnectionLost(f"{self.name} cannot reach {address}:{port}: {error}") from error

    @property
    def alive(self) -> bool:
        return self._transport.is_active()

    def ended(self, timeout_s: float) -> bool:
        """Whether the connection is dead, or dies within `timeout_s`."""
        self._transport.join(timeout_s)
        return not self._transport.is_alive()

    def close(self) -> None:
        self._transport.close()


class RunningCommand:
    """The three streams of a command at the other end, as they come."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def read(self, limit: int = 65536) -> bytes:
        """The next piece of standard output, b"" at its end."""
        return self._channel.recv(limit)

    def read_error(self) -> bytes:
        """The next piece of standard error, b"" at its end."""
        return self._channel.recv_stderr(65536)

    def write(self, data: bytes) -> None:
        """To standard input. Raises OSError if the command or the connection has ended."""
        self._channel.sendall(data)

    def end_input(self) -> None:
        if not self._channel.closed:
            self._channel.shutdown_write()

    def status(self, timeout_s: float = 0.0) -> int | None:
        """Its exit status, None if it still runs after `timeout_s`, -1 if it was killed by a
        signal or the connection is gone."""
        if not (self._channel.closed or self._channel.status_event.wait(timeout_s)):
            return None
        return self._channel.recv_exit_status()

    def close(self) -> None:
        self._channel.close()


def _target(address: str) -> tuple[str, int, str | None, list[str]]:
    """Host name, port, user and key files for an ssh:// address, with ~/.ssh/config."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{address}: {error}", remedy="--host ssh://user@host[:port]") from error
    if not host or parts.path.strip("/") or parts.password:
        raise UsageError(f"{address} is no ssh address", remedy="--host ssh://user@host[:port]")
    config = paramiko.SSHConfig()
    own = os.path.expanduser("~/.ssh/config")
    if os.path.exists(own):
        config = paramiko.SSHConfig.from_path(own)
    said = config.lookup(host)
    keys = [path for path in said.get("identityfile", []) if os.path.exists(path)]
    return (
        str(said.get("hostname", host)),
        port or int(str(said.get("port", 22))),
        parts.username or (str(said["user"]) if "user" in said else None),
        keys,
    )
