"""This machine as a host."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from vbench.contract.host import SCRATCH_MIB, Network, Scratch
from vbench.contract.layer import Layer
from vbench.errors import ConnectionLost, HostError, HostFlood, HostTimeout
from vbench.hosts.netns import local_bridge, local_network
from vbench.hosts.private_directory import private_directory
from vbench.hosts.stream_log import StreamLog
from vbench.model import HostFacts, HostKind, ImageFiles, Output, TimeBase
from vbench.system import process
from vbench.system.facts import facts as host_facts
from vbench.system.process import TIED


class LocalProcess:
    """A child in a process group of its own, killed by the kernel when we die."""

    def __init__(self, argv: Sequence[str], pass_fds: Sequence[int] = ()) -> None:
        self.stream, childs_end = socket.socketpair()
        try:
            self._child: subprocess.Popen[bytes] = subprocess.Popen(
                [*TIED, *argv],
                stdin=childs_end.fileno(),
                stdout=childs_end.fileno(),
                stderr=subprocess.PIPE,
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )
        except OSError as error:
            self.stream.close()
            raise _cannot_start(argv, error) from error
        finally:
            childs_end.close()
        self.pid = self._child.pid
        stderr = self._child.stderr
        assert stderr is not None  # noqa: S101 - PIPE was asked for
        self._log = StreamLog(lambda: os.read(stderr.fileno(), 65536))

    def log(self) -> str:
        return self._log.text()

    def wait_for(self, wanted: Callable[[str], bool], timeout_s: float) -> str | None:
        return self._log.wait_for(wanted, timeout_s)

    def status(self) -> int | None:
        return self.wait(0)

    def wait(self, timeout_s: float) -> int | None:
        return process.wait(self._child, timeout_s)

    def kill(self) -> None:
        """SIGKILL to the whole group, so that what the process started ends too."""
        process.kill_group(self._child)
        self._log.finish(1.0)
        process.end_group(self._child)
        self.stream.close()


# What a host has no more of, and where that is set.
_LIMITS = {
    errno.EMFILE: "raise the limit of open files: ulimit -n 1024",
    errno.ENFILE: "the system has too many open files: end what holds them, or raise fs.file-max",
    errno.EAGAIN: "raise the limit of processes: ulimit -u, or pids.max of the control group",
    errno.ENOMEM: "free some memory, or raise its limit: ulimit -v",
}


def _cannot_start(argv: Sequence[str], error: OSError) -> HostError:
    if error.errno == errno.E2BIG:
        return HostError(
            f"a command of {sum(map(len, argv)):,} characters is longer than the kernel takes",
            remedy="shorten it: the text of a workload's command, or its environment",
        )
    if error.errno in _LIMITS:
        return HostError(
            f"no program can be started: {error.strerror}",
            evidence=" ".join([*TIED, *argv]),
            remedy=_LIMITS[error.errno],
        )
    # setpriv is what we start; a missing argv[0] is its to report, with exit status 127
    return HostError(
        f"cannot start {TIED[0]}: {error.strerror}",
        evidence=" ".join([*TIED, *argv]),
        remedy="run `vbench setup`",
    )


class LocalHost:
    """The machine vbench runs on."""

    name = "local"
    kind = HostKind.LOCAL
    time_base = TimeBase.WALL
    timeout_scale = 1.0
    sees_idle = True
    launch_hints: Mapping[str, str] = MappingProxyType({})

    def __init__(self) -> None:
        self._facts: HostFacts | None = None
        self._scratch: Scratch | None = None
        self._scratch_filled = False
        self._network: Network | None = None
        self._network_tried = False
        self._base: str | None = None
        self._stack = ExitStack()

    def with_layer(self, layer: Layer) -> LocalHost:
        return self

    def clock(self) -> float:
        return time.monotonic()

    def deadline_clock(self) -> float:
        return time.monotonic()

    def facts(self) -> HostFacts:
        if self._facts is None:
            identity = f"local:{socket.gethostname()}"
            self._facts = HostFacts(identity, self.kind, self.time_base, host_facts(self))
        return self._facts

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Output:
        try:
            done = process.run(argv, timeout_s=timeout_s, stdin=stdin)
        except TimeoutError as error:
            raise HostTimeout(
                f"{argv[0]} did not end within {timeout_s:g} s", evidence=" ".join(argv)
            ) from error
        except OSError as error:
            raise _cannot_start(argv, error) from error
        except BufferError as error:
            raise HostFlood(f"{argv[0]} {error}", evidence=" ".join(argv)) from error
        return done.text()

    def start(self, argv: Sequence[str], *, network: Network | None = None) -> LocalProcess:
        tap = network.tap_fd if network else None
        return LocalProcess(argv, () if tap is None else (tap,))

    def interact(self, argv: Sequence[str], terminal: str) -> int:
        return self._with_our_streams(argv, {**os.environ, "TERM": terminal})

    def pass_through(self, argv: Sequence[str]) -> int:
        return self._with_our_streams(argv, None)

    def _with_our_streams(self, argv: Sequence[str], env: Mapping[str, str] | None) -> int:
        # In our own process group, for a terminal gives its input to that one only.
        try:
            child = subprocess.Popen([*TIED, *argv], env=env)
        except OSError as error:
            raise _cannot_start(argv, error) from error
        try:
            status = child.wait()
        finally:
            child.kill()
            child.wait()
        return status if status >= 0 else 128 - status

    def connect(self, address: str, port: int, timeout_s: float) -> socket.socket:
        try:
            connection = socket.create_connection((address, port), timeout_s)
        except OSError as error:
            raise ConnectionLost(f"cannot connect to {address}:{port}: {error}") from error
        # Without it a command over SSH takes 48 ms instead of 5 (Nagle against delayed ACKs).
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    @contextmanager
    def workdir(self) -> Iterator[str]:
        if self._base is None:
            self._base = self._stack.enter_context(private_directory())
        path = tempfile.mkdtemp(dir=self._base)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def write(self, path: str, data: bytes) -> None:
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
                f.write(data)
        except OSError as error:
            raise HostError(f"cannot write {path}: {error.strerror}") from error

    def read(self, path: str) -> str:
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise HostError(f"cannot read {path}: {error.strerror}") from error

    def program(self, path: str, pack: Callable[[], bytes]) -> str:
        del pack
        return path

    def upload_image(self, image: ImageFiles) -> ImageFiles:
        return image

    def scratch(self) -> Scratch:
        if self._scratch is None:
            path = f"{self._stack.enter_context(self.workdir())}/scratch"
            self._write_scratch(
                path, os.O_CREAT | os.O_EXCL, lambda f: f.truncate(SCRATCH_MIB << 20)
            )
            self._scratch, self._scratch_filled = Scratch(path, SCRATCH_MIB), False
        return self._scratch

    def fill_scratch(self) -> None:
        scratch = self.scratch()
        if not self._scratch_filled:
            self._write_scratch(scratch.path, 0, _fill)
            self._scratch_filled = True

    def _write_scratch(self, path: str, flags: int, write: Callable[[BinaryIO], object]) -> None:
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | flags, 0o600), "wb") as file:
                write(file)
        except OSError as error:
            raise HostError(
                f"cannot write the scratch disk {path}: {error.strerror}",
                remedy=f"free {SCRATCH_MIB} MiB there, or set VBENCH_TMP to another disk",
            ) from error

    def network(self) -> Network | None:
        if not self._network_tried:
            self._network_tried = True
            self._network = self._stack.enter_context(local_network())
        return self._network

    def bridge(self, ports: int) -> AbstractContextManager[Sequence[Network]]:
        return local_bridge(ports)

    def close(self) -> None:
        self._stack.close()
        self._scratch = None
        self._network, self._network_tried = None, False
        self._base = None


def _fill(file: BinaryIO) -> None:
    for _ in range(SCRATCH_MIB):
        file.write(os.urandom(1 << 20))
    file.flush()
    os.fsync(file.fileno())
    # out of the page cache, where direct I/O would have to look first
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
