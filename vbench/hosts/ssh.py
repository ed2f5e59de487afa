"""The one connection into a guest, pinned to its key. The only importer of paramiko."""

from __future__ import annotations

import io
import logging
import os
import select
import socket
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

import paramiko

from vbench.contract.host import Stream
from vbench.errors import ConnectionLost, WorkloadError, WorkloadTimeout
from vbench.hosts.keys import KeyPair
from vbench.model import Output
from vbench.system.process import OUTPUT_LIMIT_BYTES

# What it has to say comes to us as exceptions; unhandled it would go to standard error.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

# What paramiko raises when a connection is lost or refused.
_BROKEN = (paramiko.SSHException, OSError, EOFError)
_TICK_S = 1.0  # so often a deadline is looked at, whose clock may be slower than ours
_PIECE_BYTES = 1 << 18


def paramiko_key(pair: KeyPair) -> paramiko.PKey:
    return paramiko.Ed25519Key.from_private_key(io.StringIO(pair.openssh_private()))


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
    """A kept Connection by paramiko."""

    def __init__(
        self,
        transport: paramiko.Transport,
        name: str,
        timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._clock = clock
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
        clock: Callable[[], float] = time.monotonic,
    ) -> SshConnection:
        """Log in over `stream`, accepting exactly `host_key`.

        `timeout_s` bounds the login, and each start of a command. Deadlines are kept on `clock`,
        which may run slower than ours. Raises ConnectionLost; `name` says in messages who did not
        answer.
        """
        # A channel of another connection will do, says paramiko.
        transport = paramiko.Transport(cast(socket.socket, stream))
        # Fewer bytes and fewer rounds of key exchange where the other end is translated code.
        transport.banner_timeout = timeout_s
        transport.handshake_timeout = timeout_s
        transport.auth_timeout = timeout_s
        try:
            transport.start_client(timeout=timeout_s)
            shown_key = transport.get_remote_server_key().asbytes()
            if shown_key != host_key.public_blob:
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
        return cls(transport, name, timeout_s, clock)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """What breaks inside is the connection; a deadline that passes is not."""
        try:
            yield
        except TimeoutError:
            raise
        except _BROKEN as error:
            raise ConnectionLost(f"the SSH connection to {self.name} is gone: {error}") from error

    def _channel(self, deadline: float) -> paramiko.Channel:
        """A new session channel. Raises TimeoutError at the deadline, ConnectionLost."""
        with self._kept():
            while True:
                left = max(_TICK_S, deadline - self._clock())
                try:
                    return self._transport.open_session(timeout=left)
                except paramiko.SSHException:
                    # paramiko raises the same for silence and for the end of the connection
                    if not self.alive:
                        raise
                if self._clock() >= deadline:
                    raise TimeoutError

    @contextmanager
    def _ends_at(self, deadline: float, channel: paramiko.Channel) -> Iterator[None]:
        """Close the channel at the deadline, which ends all waits for it: some of paramiko's have
        no time-out. Raises TimeoutError then."""
        over, late = threading.Event(), threading.Event()

        def watch() -> None:
            while (left := deadline - self._clock()) > 0:
                if over.wait(min(left, _TICK_S)):
                    return
            late.set()
            channel.close()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        except Exception:
            if not late.is_set():
                raise
        finally:
            over.set()
            watcher.join(_TICK_S)
        if late.is_set():
            raise TimeoutError

    def run(self, command: str, *, timeout_s: float, stdin: bytes = b"") -> Output:
        """As Connection.run."""
        return self.upload(command, io.BytesIO(stdin), timeout_s=timeout_s)

    def upload(self, command: str, source: BinaryIO, *, timeout_s: float) -> Output:
        """As Connection.upload."""
        deadline = self._clock() + timeout_s
        try:
            channel = self._channel(deadline)
            try:
                with self._ends_at(deadline, channel), self._kept():
                    channel.exec_command(command)
                    self._feed(channel, source)
                    stdout, stderr = self._drain(channel, command)
                    # it may follow the end of the streams by a packet
                    status = channel.recv_exit_status()
            finally:
                channel.close()
        except TimeoutError:
            raise WorkloadTimeout(
                f"a command on {self.name} did not end within {timeout_s:g} s", evidence=command
            ) from None
        if status == -1:  # paramiko: the channel closed before an exit status came
            raise ConnectionLost(
                f"{self.name} closed the connection during a command", evidence=command
            )
        return Output(status, stdout.decode(errors="replace"), stderr.decode(errors="replace"))

    def _feed(self, channel: paramiko.Channel, source: BinaryIO) -> None:
        try:
            while piece := source.read(_PIECE_BYTES):
                channel.sendall(piece)
            channel.shutdown_write()
        except OSError:
            if not self.alive:
                raise
            # The command ended without reading all: its status says why.

    def _drain(self, channel: paramiko.Channel, command: str) -> tuple[bytes, bytes]:
        """Read both streams together: waiting for one alone lets the other fill and hang."""
        out, err = bytearray(), bytearray()
        wake = _Wake()
        channel.in_buffer.set_event(wake)
        channel.in_stderr_buffer.set_event(wake)
        out_ended = err_ended = False
        while True:
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
                return bytes(out), bytes(err)
            if not (channel.eof_received or channel.closed):  # then nothing more wakes us
                wake.wait()

    def start(self, command: str) -> ChannelCommand:
        """As Connection.start."""
        return ChannelCommand(self._started(lambda channel: channel.exec_command(command)))

    def _started(self, request: Callable[[paramiko.Channel], None]) -> paramiko.Channel:
        """A channel on which `request` was granted. Raises WorkloadTimeout, ConnectionLost."""
        deadline = self._clock() + self._timeout_s
        try:
            channel = self._channel(deadline)
            with self._ends_at(deadline, channel), self._kept():
                request(channel)
        except TimeoutError:
            raise WorkloadTimeout(
                f"{self.name} started no command within {self._timeout_s:g} s"
            ) from None
        return channel

    def interact(self, terminal: str, command: str = "") -> int:
        """A shell, or `command`, on our own terminal, which is raw meanwhile; returns its exit
        status."""
        keys = sys.stdin.fileno()
        size = os.get_terminal_size(keys)

        def request(channel: paramiko.Channel) -> None:
            channel.get_pty(terminal, size.columns, size.lines)
            if command:
                channel.exec_command(command)
            else:
                channel.invoke_shell()

        channel = self._started(request)
        before = termios.tcgetattr(keys)
        try:
            with self._kept():
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


class ChannelCommand:
    """A RunningCommand: an SSH channel."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def has_output(self, timeout_s: float) -> bool:
        channel = self._channel
        deadline = time.monotonic() + timeout_s
        while not (channel.recv_ready() or channel.eof_received or channel.closed):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.002)
        return True

    def read(self, limit: int = 65536) -> bytes:
        return self._channel.recv(limit)

    def read_error(self) -> bytes:
        return self._channel.recv_stderr(65536)

    def write(self, data: bytes) -> None:
        self._channel.sendall(data)

    def end_input(self) -> None:
        if not self._channel.closed:
            self._channel.shutdown_write()

    def status(self, timeout_s: float = 0.0) -> int | None:
        if not (self._channel.closed or self._channel.status_event.wait(timeout_s)):
            return None
        return self._channel.recv_exit_status()

    def close(self) -> None:
        self._channel.close()
