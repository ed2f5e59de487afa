"""A migration without QEMU: what it says of itself is made up."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vbench.contract.guest import Terms
from vbench.errors import GuestLost, HostError
from vbench.guest import life as going_on
from vbench.guest.booted import BootedGuest
from vbench.hypervisors.qemu import life


class Qmp:
    def __init__(self, *statuses: str) -> None:
        self.statuses = list(statuses)  # the last one stays
        self.said: list[str] = []

    def execute(self, command: str, arguments: Any = None) -> Any:
        self.said.append(command)
        if command == "query-migrate":
            first, *rest = self.statuses
            self.statuses = rest or [first]
            return {"status": first}
        return {}


def machine(clock: Any, *statuses: str) -> Any:
    host = SimpleNamespace(clock=clock, deadline_clock=clock, timeout_scale=1.0)
    return SimpleNamespace(host=host, qmp=Qmp(*statuses), evidence=lambda: "its argv")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        assert now[0] < 1000, "it never ends"

    monkeypatch.setattr(life.time, "sleep", sleep)
    return lambda: now[0]


@pytest.mark.parametrize("status", ["setup", "device", "pre-switchover"])
def test_a_migration_that_hangs_ends(clock: Any, status: str) -> None:
    one, other = machine(clock, "active", status), machine(clock)
    with pytest.raises(GuestLost, match=status):
        life._migrated(one, other, "unix:/x", Terms(bandwidth_mib_s=1, limit_s=10))


def test_one_that_does_not_converge_is_given_up(clock: Any) -> None:
    one, other = machine(clock, *["active"] * 502, "cancelled"), machine(clock)
    state = life._migrated(one, other, "unix:/x", Terms(bandwidth_mib_s=1, limit_s=10))
    assert state["status"] == "active"
    assert "migrate_cancel" in one.qmp.said


def test_a_guest_that_has_moved_ends_where_the_old_one_cannot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = []

    def broken() -> None:
        raise HostError("the connection is gone")

    @contextmanager
    def workdir() -> Iterator[str]:
        yield "/x"
        ended.append("folder")

    host: Any = SimpleNamespace(name="here", workdir=workdir, clock=lambda: 0.0)
    target = SimpleNamespace(close=lambda: ended.append("target"), alive=False)
    guest = BootedGuest(
        **dict.fromkeys((each.name for each in dataclasses.fields(BootedGuest)), cast(Any, None))
        | {"host": host, "cleanup": ExitStack()}
    )
    guest.cleanup.callback(broken)
    monkeypatch.setattr(going_on, "first_command", lambda *_, **__: None)
    for name, made in {
        "_machine": lambda guest: None,
        "_migrated": lambda *_: {"status": "completed"},
        "_until_running": lambda machine: None,
    }.items():
        monkeypatch.setattr(life, name, made)

    class Life(life.QemuLife):
        def __init__(self) -> None: ...
        def _kept(self, host: Any, folder: str) -> Any:
            return self

        def _at(self, host: Any) -> Any:
            return self

        def _start(self, host: Any, *how: str) -> Any:
            return target

        def _logged_in(self, *_: Any) -> Any: ...

        timeout_s = 1.0

    with pytest.raises(HostError):
        Life().migrate(guest, host, Terms(bandwidth_mib_s=1, limit_s=10))
    assert ended == ["target", "folder"]
