"""The core asks a guest what it can: native partner, network, another boot."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from shell_backend import CAN, GUESTS

from vbench.contract.hookspecs import hookimpl
from vbench.contract.workload import Workload
from vbench.errors import Unsupported, VbenchError
from vbench.measure.engine import Measure
from vbench.measure.parsers import probe
from vbench.model import Item, Statistic, WorkloadInfo
from vbench.records import NativeReference, NetworkPath
from vbench.run.schedule import Task
from vbench.run.series import Series
from vbench.run.session import Session

INFO = WorkloadInfo("cpu-x", "cpu", "event", Statistic.RATIO, "x", "d1", "bench_x.py")


def spin(measure: Measure) -> None:
    measure(lambda units, _: """echo '{"elapsed_ns": 2000000}'""", read=probe)


def item_of(session: Session, series: Series) -> Item:
    (item,) = session.book.items(series)
    return item


def measured(
    session: Session,
    series: Series,
    boots: int = 1,
    category: str = "cpu",
    call: Callable[[Measure], None] = spin,
) -> VbenchError | None:
    info = dataclasses.replace(INFO, category=category)
    error = None
    for boot in range(boots):
        error = session.measure(Task(series, Workload(info, call), boot), call)
    return error


def test_without_a_native_partner_there_are_absolute_values_only(
    session: Session, series: Series
) -> None:
    GUESTS.capabilities = dataclasses.replace(CAN, native=NativeReference.NONE)
    assert measured(session, series) is None
    item = item_of(session, series)
    assert {pair.native_s for pair in item.pairs} == {None}
    assert "kernel_differs" not in item.flags


def test_a_guest_that_cannot_be_relaunched_has_one_boot(session: Session, series: Series) -> None:
    GUESTS.capabilities = dataclasses.replace(CAN, relaunchable=False)
    assert measured(session, series, boots=3) is None
    assert len(GUESTS.made) == 1
    assert {pair.boot for pair in item_of(session, series).pairs} == {0}
    assert [launch.boot for launch in session.book.result(series).launches] == [0]


def test_others_have_a_launch_for_each_boot(session: Session, series: Series) -> None:
    assert measured(session, series, boots=2) is None
    assert {pair.boot for pair in item_of(session, series).pairs} == {0, 1}
    assert len(GUESTS.made) == 2


def test_without_a_network_its_workloads_are_unsupported(session: Session, series: Series) -> None:
    GUESTS.capabilities = dataclasses.replace(CAN, network=NetworkPath.NONE)
    error = measured(session, series, category="network")
    assert isinstance(error, Unsupported)
    assert "no network" in error.what


def test_a_reference_of_the_users_is_flagged(session: Session, series: Series) -> None:
    GUESTS.capabilities = dataclasses.replace(CAN, native=NativeReference.OTHER_HOST)
    assert measured(session, series) is None
    flags = item_of(session, series).flags
    assert {"other_machine", "cpu_differs"} <= set(flags)


def test_what_nothing_timed_is_unsupported(session: Session, series: Series) -> None:
    def call(measure: Measure) -> None:
        measure.absolute(measure.phase_s("restore", "command"))

    error = measured(session, series, call=call)
    assert isinstance(error, Unsupported)
    with pytest.raises(Unsupported, match="nothing timed restore to command"):
        raise error


def test_two_plugins_cannot_count_by_one_name(session: Session, series: Series) -> None:
    for name in ("first", "second"):
        plugin = SimpleNamespace(
            vbench_counters=hookimpl(lambda guest: {"exits": 1, "host_cpu_s": 2})
        )
        session.registry._manager.register(plugin, name=name)
    assert measured(session, series) is None
    problems = list(map(str, session.registry.problems))
    assert any("first: something else counts host_cpu_s already" in text for text in problems)
    assert any("second: something else counts exits, host_cpu_s already" in t for t in problems)
