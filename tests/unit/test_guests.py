"""The guest broker, with shells for guests: one at a time, relaunched, given up."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import shell_backend
from shell_backend import GUESTS

from vbench.contract.registry import with_options
from vbench.errors import LaunchError, LaunchTimeout
from vbench.results.journal import Journal
from vbench.run.series import Series
from vbench.run.session import Session


def test_one_guest_for_a_boot_of_a_series(session: Session, series: Series) -> None:
    one = session.broker.guest(series, 0)
    assert session.broker.guest(series, 0) is one
    two = session.broker.guest(series, 1)
    assert GUESTS.closed == [one]  # before the other came up
    three = session.broker.guest(session.book.series["local-shell,vcpus=2"], 1)
    assert GUESTS.closed == [one, two]
    assert three.endpoint.vcpus == 2
    session.broker.drop()
    session.broker.drop()
    assert GUESTS.closed == [one, two, three]


def test_a_dead_guest_is_replaced(session: Session, series: Series) -> None:
    one = session.broker.guest(series, 0)
    one.machine.alive = False  # type: ignore[attr-defined]
    assert session.broker.guest(series, 0) is not one
    assert [launch.boot for launch in session.book.result(series).launches] == [0, 0]
    ids = [launch.id for launch in session.book.result(series).launches]
    assert len(set(ids)) == 2


def test_a_boot_that_failed_is_not_tried_for_each_item(session: Session, series: Series) -> None:
    GUESTS.launches[:] = [shell_backend.NO_BOOT]
    for _ in range(3):
        with pytest.raises(LaunchError, match="did not become ready"):
            session.broker.guest(series, 0)
    assert GUESTS.launches == GUESTS.made == []
    session.broker.guest(series, 1)  # another boot may do


@pytest.mark.parametrize(
    ("method", "kind"), [("launch", "Capabilities"), ("attest", "Attestation")]
)
def test_what_is_no_guest_or_no_attestation_is_the_backends_fault(
    session: Session, series: Series, monkeypatch: pytest.MonkeyPatch, method: str, kind: str
) -> None:
    monkeypatch.setattr(type(series.variant.backend), method, lambda *_: None)
    with pytest.raises(LaunchError, match=f"returned NoneType from {method}, and not {kind}"):
        session.broker.guest(series, 0)
    assert GUESTS.closed == GUESTS.made


def test_a_guest_that_was_late_is_launched_once_more(
    session: Session, series: Series, out: Path
) -> None:
    late = LaunchTimeout("the guest did not become ready within 40 s", evidence="its console")
    GUESTS.launches[:] = [late]
    assert session.broker.guest(series, 0).alive
    (again,) = [entry for entry in Journal.read(out) if entry["event"] == "launched again"]
    assert "its console" in str(again["why"])

    GUESTS.launches[:] = [late, late]
    with pytest.raises(LaunchTimeout):
        session.broker.guest(series, 1)
    assert GUESTS.launches == []


def test_a_variant_that_fails_twice_running_is_given_up(session: Session, series: Series) -> None:
    GUESTS.launches[:] = [shell_backend.NO_BOOT, shell_backend.NO_BOOT]
    for boot in range(2):
        with pytest.raises(LaunchError, match="did not become ready"):
            session.broker.guest(series, boot)
    with pytest.raises(LaunchError, match="is not launched any more in this run, because 2"):
        session.broker.guest(series, 2)
    assert GUESTS.made == []
    session.broker.guest(session.book.series["local-shell,vcpus=2"], 0)  # others are not


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(3)])
def test_a_fault_in_a_backend_is_a_launch_that_failed(
    session: Session, series: Series, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def launch(*_: object) -> None:
        launches.append(1)
        raise error

    launches: list[int] = []
    monkeypatch.setattr(shell_backend.ShellBackend, "launch", launch)
    for _ in range(2):
        with pytest.raises(LaunchError, match=f"the backend shell raised {type(error).__name__}"):
            session.broker.guest(series, 0)
    assert len(launches) == 1  # it is not tried for each item


def test_failures_apart_are_no_reason_to_give_up(session: Session, series: Series) -> None:
    GUESTS.launches[:] = [shell_backend.NO_BOOT, None, shell_backend.NO_BOOT]
    with pytest.raises(LaunchError):
        session.broker.guest(series, 0)
    session.broker.guest(series, 1).machine.alive = False  # type: ignore[misc]
    with pytest.raises(LaunchError):
        session.broker.guest(series, 1)
    session.broker.guest(series, 2)


def test_options_of_a_workload_that_its_variant_has_already(
    session: Session, series: Series
) -> None:
    variant = with_options(series.variant, "vcpus=3")
    assert variant.text == "shell,vcpus=3"
    own = dataclasses.replace(series, variant=variant)
    one = session.broker.guest(own, 0)
    assert session.broker.guest(own, 0, "vcpus=3") is one
    assert session.broker.guest(own, 0, "vcpus=1,speed=half").device.vcpus == 1
