"""A guest seen from beside it: its ticks stamped, its answers awaited, over a port of its bridge.

In the guest runs `vbench-probe live`, beside it `vbench-probe watch`: see workloads/probe_life.c.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from vbench.contract.guest import Guest
from vbench.errors import GuestError, WorkloadError
from vbench.guest.native import Native
from vbench.guest.target import succeed

_PORT, _TICK_PORT = 5301, 5302
_PAGE = 4096
_TIMEOUT_S = 30.0
# The program goes on when its SSH session has ended, and when the guest is another one's.
_LIVE = (
    "setsid vbench-probe live {port} {watcher} {tick_port} {mib} {rate} "
    ">/tmp/live 2>&1 </dev/null & "
    "until grep -q listening /tmp/live; do "
    "kill -0 $! 2>/dev/null || {{ cat /tmp/live >&2; exit 1; }}; sleep 0.02; done"
)


@dataclass(frozen=True)
class Observation:
    """What was observed since the one before. Seconds by the host's clock, but for what the
    guest's own clocks say.

    `wait_s` is the longest that a client waited for an answer, `gap_s` the longest between two
    ticks that came, `missing` how many never did. `lost_s`, `lost_real_s`: by how much the guest's
    monotonic and real-time clock fell behind, 0 where it was ahead.
    `dirtied_mib_s`: memory touched.
    """

    elapsed_s: float
    connected: bool
    answers: int
    walks: int  # answers of a guest that looked at each page of its memory before
    wait_s: float
    token: int  # a number that only the guest's memory holds
    intact_mib: float  # memory that still holds it, of the last walk through it
    stale_mib: float  # memory that does not hold what was written to it last
    walk_s: float
    ticks: int
    missing: int
    gap_s: float
    lost_s: float
    lost_real_s: float
    dirtied_mib_s: float

    @classmethod
    def of(cls, values: dict[str, Any]) -> Observation:
        host_s = values["host_ns"] / 1e9
        return cls(
            elapsed_s=values["elapsed_ns"] / 1e9,
            connected=bool(values["connected"]),
            answers=values["answers"],
            walks=values["walks"],
            wait_s=values["wait_ns"] / 1e9,
            token=values["token"],
            intact_mib=values["intact"] * _PAGE / 2**20,
            stale_mib=values["stale"] * _PAGE / 2**20,
            walk_s=values["walk_ns"] / 1e9,
            ticks=values["ticks"],
            missing=values["missing"],
            gap_s=values["gap_ns"] / 1e9,
            lost_s=max(0.0, host_s - values["monotonic_ns"] / 1e9),
            lost_real_s=max(0.0, host_s - values["real_ns"] / 1e9),
            dirtied_mib_s=values["pages"] * _PAGE / 2**20 / host_s if host_s > 0 else 0.0,
        )


def bring_to_life(guest: Guest, watcher: str, *, mib: int, mib_s: int, port: int = _PORT) -> None:
    """Start the guest's part: it ticks to the address `watcher`, keeps `mib` of memory and touches
    `mib_s` of it in a second. It answers on `port`. Raises WorkloadError, GuestLost."""
    line = _LIVE.format(port=port, watcher=watcher, tick_port=_TICK_PORT, mib=mib, rate=mib_s)
    succeed(guest, line, timeout_s=_TIMEOUT_S)


class Watcher:
    """The part beside the guest, connected to it. A context manager that ends it."""

    def __init__(self, client: Native, address: str) -> None:
        """`address` is the guest's. Raises GuestError if it does not answer."""
        self._host = client.host
        command = f"exec vbench-probe watch {address} {_PORT} {_TICK_PORT}"
        self._process = client.host.start(client.argv(command))
        self._held = b""
        try:
            self._line()
        except BaseException:
            self.close()
            raise

    def ask_on(self) -> None:
        """Question after question, a millisecond apart."""
        self._tell("g")

    def walked(self, timeout_s: float = _TIMEOUT_S) -> Observation:
        """What was observed until the guest had looked at each page of its memory and answered.
        Not `connected` where there will be no answer. Stops asking. Raises GuestError."""
        clock = self._host.deadline_clock
        deadline = clock() + timeout_s * self._host.timeout_scale
        self._tell("sm")
        while True:
            observation = self.observe()
            if observation.walks or not observation.connected:
                return observation
            if clock() > deadline:
                raise GuestError(f"no answer from the guest within {timeout_s:g} s")
            time.sleep(0.005)

    def observe(self) -> Observation:
        """What was observed since it was asked last. Raises GuestError, if the program ended."""
        self._tell("?")
        return Observation.of(json.loads(self._line()))

    def _tell(self, letter: str) -> None:
        try:
            self._process.stream.sendall(letter.encode())
        except OSError as error:
            raise self._ended() from error

    def _line(self) -> bytes:
        self._process.stream.settimeout(_TIMEOUT_S * self._host.timeout_scale)
        while b"\n" not in self._held:
            try:
                piece = self._process.stream.recv(65536)
            except TimeoutError:
                raise GuestError("the guest's program does not answer beside it") from None
            except OSError as error:
                raise self._ended() from error
            if not piece:
                raise self._ended()
            self._held += piece
        line, _, self._held = self._held.partition(b"\n")
        return line

    def _ended(self) -> WorkloadError:
        self._process.wait(1.0)
        return WorkloadError("what watches the guest has ended", evidence=self._process.log())

    def close(self) -> None:
        self._process.kill()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
