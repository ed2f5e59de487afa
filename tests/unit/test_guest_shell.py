"""How a guest's shell ends what it started."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from vbench.guest.shell import GuestShell
from vbench.model import Output


class Running:
    """A command at the other end of a connection."""

    def __init__(self, log: list[str]) -> None:
        self._log = log
        self._output = b"77\n"

    def has_output(self, timeout_s: float) -> bool:
        return True

    def read(self, limit: int = 65536) -> bytes:
        piece, self._output = self._output[:limit], self._output[limit:]
        return piece

    def status(self, timeout_s: float = 0.0) -> int:
        self._log.append("waited for its end")
        return 0

    def close(self) -> None:
        self._log.append("closed")


def test_a_server_s_channel_is_closed_after_its_end_only() -> None:
    """Else dropbear 2022.83 closed the next channel, too, once in a hundred times: "the SSH
    connection to the guest is gone: Channel is not open"."""
    log: list[str] = []

    def run(command: str, **_: Any) -> Output:
        log.append("killed" if "kill -- -77" in command else command)
        return Output(0, "", "")

    machine: Any = SimpleNamespace(alive=True)
    ssh: Any = SimpleNamespace(alive=True, start=lambda _: Running(log), run=run)
    host: Any = SimpleNamespace(timeout_scale=1.0)
    with GuestShell(machine, ssh, host).server("iperf3 -s"):
        assert log == []
    assert log == ["killed", "waited for its end", "closed"]
