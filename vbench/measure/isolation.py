"""Neighbours on a host, guests or plain processes: what they see of each other, what one that takes
all it can get costs the other."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from vbench.contract.guest import USAGE, Guest
from vbench.contract.host import HostProcess
from vbench.errors import GuestError, GuestLost, HostTimeout, WorkloadError, WorkloadTimeout
from vbench.guest.native import Native
from vbench.guest.target import succeed
from vbench.hosts.limits import limited
from vbench.model import Output
from vbench.records import DiskPath

# What a victim does, and about how long it takes alone: some hundred time slices of a scheduler.
WORK = {"computing": "prime", "system calls": "getppid"}
_ALONE_S, _FIRST = 0.5, {"prime": 300, "getppid": 30_000}
HOGS, PROCESSES = 16, 500
# The limit that no process reaches; the bomb has one of its own, in guests as well.
PROCESSES_MAX = 1000
_MEMORY_MIB = 512  # of a process, where a guest does not say how much it has
_TIMEOUT_S = 60.0
GIVEN_UP_S = _TIMEOUT_S  # a victim's work that takes longer is stopped
_ANSWER_S = 5.0
# A disruptor ends itself after so long, whatever becomes of its victim and of us.
_DISRUPTS_MS = 30_000
# A disruptor that works takes at least so much of a CPU of the host.
_AT_WORK = 0.02
# A port below those that Linux gives to clients, and above those of known services.
_PORTS = range(20_000, 30_000)
_LOOPBACK = "127.0.0.1"

_START = (
    "rm -f /tmp/disrupt; setsid {command} >/tmp/disrupt 2>&1 </dev/null & echo $!; "
    "until grep -qs disrupting /tmp/disrupt; do "
    "kill -0 $! 2>/dev/null || {{ cat /tmp/disrupt >&2; exit 1; }}; sleep 0.02; done"
)
# A process that has a word on its command line, and a socket that listens.
_LIVE = (
    "setsid sh -c 'sleep 20; :' {token} >/dev/null 2>&1 </dev/null & a=$!; "
    "setsid vbench-probe rr-server {port} >/tmp/{token} 2>&1 </dev/null & "
    "until grep -qs listening /tmp/{token}; do "
    "kill -0 $! 2>/dev/null || {{ cat /tmp/{token} >&2; exit 1; }}; sleep 0.02; done; echo -$a -$!"
)
# What is searched for stands in it in a form that does not match itself. Three numbers.
_LOOK = (
    "grep -ls '{pattern}' /proc/[0-9]*/cmdline | wc -l; "
    "[ -e /tmp/{pattern} ] && echo 1 || echo 0; "
    "grep -c ':{port:04X} 0*:0000 0A' /proc/net/tcp"
)
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


# How long the disruptor's own side takes to answer, in seconds; None: too long, or nobody knows.
Answer = Callable[[], float | None]


class Neighbours(Protocol):
    """A victim and a disruptor that share a CPU."""

    def run(self, command: str) -> str:
        """What a command of the victim says. Raises as `succeed`."""

    def disruptor(self, kind: str) -> str | None:
        """The command of the disruptor; None where it may not or cannot be started."""

    def disrupting(self, command: str) -> AbstractContextManager[Answer]:
        """It disrupts while the context lasts. Raises WorkloadError if it does not work."""


@dataclass(frozen=True)
class Disturbed:
    """What a victim's work took, in seconds by its name; `stopped`: it did not come to its end.
    `answer_s`: how long the disruptor's own side then took to answer; None: it did not."""

    work_s: Mapping[str, float]
    stopped: bool
    answer_s: float | None


@dataclass(frozen=True)
class TwoGuests:
    """`floods` is an address that the other's network reaches."""

    victim: Guest
    other: Guest
    floods: str

    def run(self, command: str) -> str:
        return succeed(self.victim, command, timeout_s=_TIMEOUT_S)

    def disruptor(self, kind: str) -> str | None:
        at, disk = self.other.endpoint, self.other.capabilities.disk
        file = "" if disk is DiskPath.NONE else at.scratch
        return _command(kind, file, at.scratch_offset_mib, at.scratch_size_mib, self.floods)

    @contextmanager
    def disrupting(self, command: str) -> Iterator[Answer]:
        """Afterwards its guest may be lost."""
        line = _START.format(command=command)
        pid = succeed(self.other, line, timeout_s=_TIMEOUT_S).split()[0]
        began, used_s = self.other.host.clock(), self._used()
        try:
            yield self._answer
            if used_s is not None and (now_s := self._used()) is not None:
                share = (now_s - used_s) / max(self.other.host.clock() - began, 1e-3)
                if share < _AT_WORK:
                    raise WorkloadError(f"the disruptor {command!r} took {share:.1%} of a CPU")
        finally:
            with suppress(GuestError, WorkloadError):  # else it ends by itself, or with its guest
                self.other.run(f"kill -KILL -{pid}", timeout_s=_ANSWER_S)

    def _used(self) -> float | None:
        with suppress(GuestLost):
            return self.other.usage().get(USAGE[0])
        return None

    def _answer(self) -> float | None:
        began = self.other.host.clock()
        try:
            done = self.other.run("true", timeout_s=_ANSWER_S)
        except (GuestLost, WorkloadTimeout):
            return None
        return self.other.host.clock() - began if done.status == 0 else None


@dataclass(frozen=True)
class TwoProcesses:
    """`victim_in` and `other_in` are argv prefixes that enter limits of their own; None: there are
    no limits, and nothing is started that only they would stop."""

    native: Native
    victim_in: tuple[str, ...] | None
    other_in: tuple[str, ...] | None

    @property
    def limited(self) -> bool:
        return None not in (self.victim_in, self.other_in)

    def run(self, command: str) -> str:
        argv = [*(self.victim_in or ()), *self.native.argv(command)]
        try:
            return _said(self.native.host.run(argv, timeout_s=_TIMEOUT_S), command)
        except HostTimeout as error:
            raise WorkloadTimeout(error.what, evidence=command) from error

    def disruptor(self, kind: str) -> str | None:
        if kind in ("memory", "fork") and not self.limited:
            return None
        at = self.native.endpoint
        return _command(kind, at.scratch, 0, at.scratch_size_mib, _LOOPBACK)

    @contextmanager
    def disrupting(self, command: str) -> Iterator[Answer]:
        argv = [*(self.other_in or ()), *self.native.argv(f"exec {command}")]
        process = self.native.host.start(argv)
        try:
            _wait_for(process, b"disrupting", self.native.host.timeout_scale)
            yield lambda: None
            if process.status() is not None:
                raise WorkloadError(f"{command!r} has ended", evidence=process.log())
        finally:
            process.kill()


@contextmanager
def two_processes(native: Native, memory_mib: int | None) -> Iterator[TwoProcesses]:
    """Each within the memory that a guest has, if this host lets us set limits."""
    with ExitStack() as stack:
        inside = [
            stack.enter_context(limited(native.host, memory_mib or _MEMORY_MIB, PROCESSES_MAX))
            for _ in range(2)
        ]
        yield TwoProcesses(native, inside[0], inside[1])


def work_of(neighbours: Neighbours) -> dict[str, str]:
    """What the victim is to do, by its name: what takes it half a second alone. Raises as
    `succeed`."""
    commands = {}
    for name, program in WORK.items():
        said = json.loads(neighbours.run(f"vbench-probe {program} {_FIRST[program]}"))
        units = said["units"] * _ALONE_S / max(said["elapsed_ns"] / 1e9, 1e-6)
        commands[name] = f"vbench-probe {program} {max(1, round(units))}"
    return commands


def work_s(neighbours: Neighbours, work: Mapping[str, str]) -> dict[str, float]:
    """Seconds that it takes now, by the clock of who does it."""
    return {
        name: json.loads(neighbours.run(command))["elapsed_ns"] / 1e9
        for name, command in work.items()
    }


def disturbed(neighbours: Neighbours, work: Mapping[str, str], kind: str) -> Disturbed | None:
    """The same beside a disruptor; None where there can be none of the kind."""
    command = neighbours.disruptor(kind)
    if command is None:
        return None
    with neighbours.disrupting(command) as answer:
        try:
            took_s, stopped = work_s(neighbours, work), False
        except WorkloadTimeout:
            took_s, stopped = {}, True
        return Disturbed(took_s, stopped, answer())


def search(token: str, port: int) -> str:
    """A command that says, in three lines, how many processes have `token` on their command line,
    and whether a file in /tmp and a socket have that name and that port."""
    return _LOOK.format(pattern=f"[{token[0]}]{token[1:]}", port=port)


def sights(guest: Guest, other: Guest, native: Native | None) -> dict[str, float]:
    """What a guest has, and how much of it the neighbour and the host see, as counts by name."""
    token, port, host = secrets.token_hex(8), secrets.choice(_PORTS), guest.host
    look = search(token, port)
    ids = [succeed(each, _BOOT_ID, timeout_s=_TIMEOUT_S) for each in (guest, other)]
    ids.append(_said(host.run(["sh", "-c", _BOOT_ID], timeout_s=_TIMEOUT_S), _BOOT_ID))
    found: dict[str, float] = {"kernels": len(set(ids))}
    groups = succeed(guest, _LIVE.format(token=token, port=port), timeout_s=_TIMEOUT_S).strip()
    said = {
        "itself": guest.run(look, timeout_s=_TIMEOUT_S),
        "neighbour": other.run(look, timeout_s=_TIMEOUT_S),
        "host": host.run(["sh", "-c", look], timeout_s=_TIMEOUT_S),
    }
    guest.run(f"kill -KILL {groups}; rm -f /tmp/{token}", timeout_s=_TIMEOUT_S)
    if native is not None:  # the control: what two plain processes see
        process = host.start(native.argv(f"vbench-probe rr-server {port}; : {token}"))
        try:
            _wait_for(process, b"listening", host.timeout_scale)
            said["plain process"] = native.run(look, timeout_s=_TIMEOUT_S)
        finally:
            process.kill()
    for who, output in said.items():
        numbers = [int(word) for word in output.stdout.split()]
        if len(numbers) != len(_SIGHTS):
            raise WorkloadError("the search failed", evidence=f"{look}\n{output.stderr}")
        found |= {f"{what}: {who}": n for what, n in zip(_SIGHTS, numbers, strict=True)}
    return found


_SIGHTS = ("processes", "files", "ports")


def overheard(guest: Guest, other: Guest, to: str) -> dict[str, float]:
    """Frames of a guest that sends as fast as it can, and how many of them its neighbour hears.
    Raises Unsupported where it has no raw sockets."""
    line = _START.format(command=f"vbench-probe disrupt network {_DISRUPTS_MS} {to}")
    pid = succeed(guest, line, timeout_s=_TIMEOUT_S).split()[0]
    try:
        theirs = json.loads(succeed(other, "vbench-probe overhear 500", timeout_s=_TIMEOUT_S))
        own = json.loads(succeed(guest, "vbench-probe overhear 500", timeout_s=_TIMEOUT_S))
    finally:
        guest.run(f"kill -KILL -{pid}", timeout_s=_TIMEOUT_S)
    return {"frames: itself": own["own"], "frames: neighbour": theirs["others"]}


def _command(kind: str, file: str, offset_mib: int, size_mib: int, address: str) -> str | None:
    words: Mapping[str, Sequence[object] | None] = {
        "cpu": (HOGS,),
        "fork": (PROCESSES,),
        "memory": (),
        "disk": (file, offset_mib, size_mib) if file else None,
        "network": (address,),
    }
    given = words[kind]
    if given is None:
        return None
    return " ".join(map(str, ("vbench-probe disrupt", kind, _DISRUPTS_MS, *given)))


def _said(output: Output, command: str) -> str:
    if output.status != 0:
        raise WorkloadError(
            f"a command ended with status {output.status}", evidence=f"{command}\n{output.stderr}"
        )
    return output.stdout


def _wait_for(process: HostProcess, word: bytes, timeout_scale: float) -> None:
    """Until it has said so. Raises WorkloadError."""
    deadline, said = time.monotonic() + 20 * timeout_scale, b""
    process.stream.settimeout(1.0)
    while word not in said:
        with suppress(TimeoutError):
            piece = process.stream.recv(4096)
            said += piece
            if not piece:
                process.wait(1.0)
                raise WorkloadError("a native command has ended", evidence=process.log())
        if time.monotonic() > deadline:
            raise WorkloadError("a native command did not begin", evidence=process.log())
