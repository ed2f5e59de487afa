"""A migration without QEMU: what it says of itself is made up."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vbench.contract.guest import Terms
from vbench.errors import GuestError, GuestLost, HostError, HostTimeout
from vbench.guest import life as going_on
from vbench.guest.booted import BootedGuest
from vbench.hypervisors.qemu import life, migration


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
    host = SimpleNamespace(name="a", clock=clock, deadline_clock=clock, timeout_scale=1.0)
    host.run = lambda argv, timeout_s: None
    return SimpleNamespace(host=host, qmp=Qmp(*statuses), evidence=lambda: "its argv")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        assert now[0] < 1000, "it never ends"

    monkeypatch.setattr(migration.time, "sleep", sleep)
    return lambda: now[0]


@pytest.mark.parametrize("status", ["setup", "device", "pre-switchover"])
def test_a_migration_that_hangs_ends(clock: Any, status: str) -> None:
    one, other = machine(clock, "active", status), machine(clock)
    with pytest.raises(GuestLost, match=status):
        migration.migrated(one, other, "unix:/x", Terms(bandwidth_mib_s=1, limit_s=10))


def test_one_that_does_not_converge_is_given_up(clock: Any) -> None:
    one, other = machine(clock, *["active"] * 502, "cancelled"), machine(clock)
    state = migration.migrated(one, other, "unix:/x", Terms(bandwidth_mib_s=1, limit_s=10))
    assert state["status"] == "active"
    assert "migrate_cancel" in one.qmp.said


def test_a_destination_that_cannot_be_reached_loses_no_guest(clock: Any) -> None:
    one, other = machine(clock, *["setup"] * 502, "cancelled"), machine(clock)
    with pytest.raises(GuestError, match="a got no connection to unix:/x; the guest goes on"):
        migration.migrated(one, other, "unix:/x", Terms(bandwidth_mib_s=1, limit_s=10))


def test_a_destination_that_does_not_answer_any_more_is_told(clock: Any) -> None:
    one, other = machine(clock, *["active"] * 502, "cancelled"), machine(clock)

    def gone(argv: Any, timeout_s: float) -> None:
        raise HostTimeout("true did not end")

    other.host.run = gone
    with pytest.raises(GuestError, match="a does not answer any more; the guest goes on"):
        migration.migrated(one, other, "unix:/x", Terms(bandwidth_mib_s=1, limit_s=10))


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
        "migrated": lambda *_: {"status": "completed"},
        "figures": lambda machine: {"status": "completed"},
        "until_running": lambda machine: None,
    }.items():
        monkeypatch.setattr(migration, name, made)
    monkeypatch.setattr(life, "_machine", lambda guest: None)

    class Life(life.QemuLife):
        def __init__(self) -> None: ...
        def _kept(self, host: Any, folder: str) -> Any:
            return self

        def _at(self, host: Any) -> Any:
            return self

        def _endpoint(self, *_: Any) -> Any:
            return SimpleNamespace(port=1)

        def _start(self, host: Any, *how: str) -> Any:
            return target

        def _logged_in(self, *_: Any) -> Any: ...

        timeout_s = 1.0
        _tap = True

    with pytest.raises(HostError):
        Life().migrate(guest, host, Terms(bandwidth_mib_s=1, limit_s=10))
    assert ended == ["target", "folder"]
