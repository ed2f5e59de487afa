"""One side of an item: runs its command there and reads what it prints."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from vbench.contract.guest import SERVER_PORT, Endpoint, Guest, Target
from vbench.contract.undo import paused
from vbench.errors import ClientRefused, WorkloadError
from vbench.guest.native import Native
from vbench.guest.target import succeed
from vbench.measure.parsers import Reader, checked
from vbench.measure.plan import NATIVE
from vbench.model import Reading, TimeBase

Command = Callable[[int, Endpoint], str]
Server = Callable[[Endpoint], str]

# A clock is wrong when a program claims more time than passed around it (1 %, 10 ms). It may be
# slow when the claim is less than half of that time beside 2 s for starting a program. What a
# program does before it times itself takes time as well, so then a second of that clock is timed.
_CLOCK_FAST, _CLOCK_FAST_S = 1.01, 0.01
_CLOCK_SLOW, _CLOCK_SLOW_S = 2.0, 2.0
_SECOND = "sleep 1"
# A second with the start of its command; late wake-ups only lengthen it, so the shortest counts.
_SECOND_MIN_S, _SECOND_MAX_S, _SECONDS = 0.99, 1.5, 3

# Between two clients iperf3's server closes its socket and opens it anew (iperf_run_server in
# iperf 3.12): a client that comes before that is turned away.
_CLIENTS, _NEXT_CLIENT_S = 3, 0.5


class Execution:
    """Runs a workload's command on one side, as often as it is asked to."""

    def __init__(
        self,
        side: str,
        target: Target,
        command: Command,
        read: Reader,
        *,
        guest: Guest,
        timeout_s: float,
        client: Native | None = None,
    ) -> None:
        """`guest` is paused while native runs, but for a guest of another machine where
        instructions are counted. With `client`, the command runs there and `target` is what it
        connects to."""
        self._side = side
        self._target = target
        self._runs_on: Target = client or target
        self._command = command
        self._read = read
        self._guest = guest
        beside = isinstance(target, Native) and target.host is guest.host
        wall = guest.host.time_base is TimeBase.WALL
        self._pauses = side == NATIVE and (beside or wall)
        self._timeout_s = timeout_s
        self._clock: bool | None = True  # right in the last run; None: not known
        self.line = ""  # the last command

    def take(self, units: int, *, first_half: bool) -> Reading:
        """Run `units` of work once, in one half of the scratch disk.

        The reading's `units` is what was done: a program may round up to a whole group. Raises
        WorkloadError, GuestLost.
        """
        for _ in range(_CLIENTS - 1):
            try:
                return self._take(units, first_half=first_half)
            except ClientRefused:
                time.sleep(_NEXT_CLIENT_S)
        return self._take(units, first_half=first_half)

    def _take(self, units: int, *, first_half: bool) -> Reading:
        self.line = self._command(units, self._endpoint(first_half))
        began = time.monotonic()
        with paused(*[self._guest] * self._pauses):
            text = self._run()
        lasted_s = time.monotonic() - began
        reading = checked(self._read, text, self.line)
        if self._guest.host.time_base is TimeBase.WALL:
            self._clock = self._claim(reading.elapsed_s, lasted_s)
        return reading if reading.units else dataclasses.replace(reading, units=units)

    def _run(self) -> str:
        return succeed(self._runs_on, self.line, timeout_s=self._timeout_s)

    def _endpoint(self, first_half: bool) -> Endpoint:
        endpoint = self._target.endpoint
        half = endpoint.scratch_size_mib // 2
        return dataclasses.replace(
            endpoint, scratch_offset_mib=0 if first_half else half, scratch_size_mib=half
        )

    def _claim(self, claimed_s: float, lasted_s: float) -> bool | None:
        """Whether a program that was right about its time can have claimed so much."""
        if claimed_s > lasted_s * _CLOCK_FAST + _CLOCK_FAST_S:
            return False
        return None if lasted_s > claimed_s * _CLOCK_SLOW + _CLOCK_SLOW_S else True

    def flags(self) -> set[str]:
        """ "clock" if the clock was wrong in the last run. May take seconds: call it after all else
        of a round was looked at."""
        if self._clock is None:
            self._clock = any(self._second_is_right() for _ in range(_SECONDS))
        return set() if self._clock else {"clock"}

    def _second_is_right(self) -> bool:
        began = time.monotonic()
        succeed(self._runs_on, _SECOND, timeout_s=self._timeout_s)
        return _SECOND_MIN_S <= time.monotonic() - began <= _SECOND_MAX_S


@contextmanager
def serving(target: Target, server: Server | None) -> Iterator[None]:
    """The workload's server, if it has one, runs on `target` and listens."""
    if server is None:
        yield
        return
    command = server(target.endpoint)
    program = command.partition(" ")[0]
    status = target.run(startable(program), timeout_s=30).status
    if status == _NO_PROGRAM:
        raise WorkloadError(
            f"the image has no program {program}",
            evidence=command,
            remedy="build an image with this version of vbench, or export one with it",
        )
    if status != 0:
        raise WorkloadError(
            f"another program listens on port {SERVER_PORT}",
            evidence=command,
            remedy="end it: `netstat -ltnp` there shows who it is",
        )
    with target.server(command):
        if target.run(LISTENING, timeout_s=30).status != 0:
            raise WorkloadError(
                f"the workload's server does not listen on port {SERVER_PORT}",
                evidence=command,
                remedy="run this command with `vbench exec`, which shows what it says",
            )
        yield


def client_of(side: str, clients: Mapping[str, Native], server: Server | None) -> Native | None:
    """Who runs the client of a `server` on that side. Raises WorkloadError without a network."""
    if server is None:
        return None
    if side not in clients:
        raise WorkloadError("this workload needs a network, and this host has none")
    return clients[side]


# Whether somebody listens on SERVER_PORT: the state column of proc(5) net/tcp says 0A.
_LISTENS = f"cat /proc/net/tcp /proc/net/tcp6 | grep -q ':{SERVER_PORT:04X} [0-9A-F:]* 0A'"
# Until that is so; status 1 where it takes too long.
LISTENING = f"for i in $(seq 200); do if {_LISTENS}; then exit 0; fi; sleep 0.05; done; exit 1"
_NO_PROGRAM = 127


def startable(program: str) -> str:
    """What says whether a server can be started: the program is there, and nobody listens on its
    port. One that was killed may take a moment to end."""
    return (
        f"command -v {program} >/dev/null || exit {_NO_PROGRAM}; "
        f"for i in $(seq 40); do if ! {_LISTENS}; then exit 0; fi; sleep 0.05; done; exit 1"
    )
