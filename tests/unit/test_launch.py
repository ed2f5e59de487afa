"""Steps of a launch that need no guest."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from vbench.guest.launch import hang_up_at_its_end


def shell(**machine: object) -> Any:
    ssh = SimpleNamespace(alive=True)

    def close() -> None:
        ssh.alive = False

    ssh.close = close
    return SimpleNamespace(ssh=ssh, machine=SimpleNamespace(**machine))


def test_the_connection_to_a_machine_that_has_ended_is_closed() -> None:
    guest = shell(alive=True)
    hang_up_at_its_end(guest)
    time.sleep(0.3)
    assert guest.ssh.alive
    guest.machine.alive = False
    deadline = time.monotonic() + 5
    while guest.ssh.alive and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not guest.ssh.alive
