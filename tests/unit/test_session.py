"""The books of a run, with shells for guests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shell_backend
from shell_backend import GUESTS

from vbench.contract.guest import Endpoint
from vbench.contract.registry import Registry
from vbench.contract.workload import Workload
from vbench.errors import (
    AttestationError,
    ConnectionLost,
    GuestLost,
    GuestSilent,
    HostError,
    Unsupported,
    VbenchError,
    WorkloadError,
    WorkloadTimeout,
)
from vbench.measure.engine import Measure
from vbench.measure.parsers import probe
from vbench.measure.plan import Plan
from vbench.model import ImageFiles, Item, Statistic, Status, WorkloadInfo
from vbench.results import recovery, stats
from vbench.results.journal import JOURNAL_NAME, Journal
from vbench.run.book import Book
from vbench.run.schedule import Task
from vbench.run.series import Series
from vbench.run.session import Session

INFO = WorkloadInfo("cpu-x", "cpu", "step", Statistic.RATIO, "x", "d1", "bench_x.py")
BOOT = WorkloadInfo("boot-x", "boot", "boot", Statistic.ABSOLUTE, "x", "d2", "bench_x.py")


def journal(out: Path) -> list[dict[str, object]]:
    return Journal.read(out)


SPIN = """echo '{"elapsed_ns": 1000000}'"""


def called(
    session: Session,
    series: Series,
    call: Callable[[Measure], object],
    info: WorkloadInfo = INFO,
    boot: int = 0,
) -> VbenchError | None:
    return session.measure(Task(series, Workload(info, lambda measure: None), boot), call)


def measured(
    session: Session, series: Series, in_guest: str = SPIN, boot: int = 0
) -> VbenchError | None:
    """One item; natively it always does well."""

    def command(units: int, endpoint: Endpoint) -> str:
        return in_guest if endpoint.scratch == "/dev/null" else SPIN

    return called(session, series, lambda measure: measure(command, read=probe), boot=boot)


def item_of(session: Session, series: Series, workload: str) -> Item:
    return next(item for item in session.book.items(series) if item.workload == workload)


def raising(error: BaseException) -> Callable[[Measure], object]:
    def call(measure: Measure) -> None:
        raise error

    return call


# ------------------------------------------------------------------ the guest of an item


def test_a_workload_may_ask_for_another_guest(session: Session, series: Series) -> None:
    info = dataclasses.replace(BOOT, options="vcpus=3")
    default = session.broker.guest(series, 0)

    def call(measure: Measure) -> None:
        assert measure.guest.endpoint.vcpus == 3
        measure.absolute(1.0)

    assert called(session, series, call, info) is None
    assert GUESTS.closed == [default]
    assert session.broker.guest(series, 0) is not GUESTS.made[1]
    launches = session.book.result(series).launches
    assert [launch.variant for launch in launches] == ["shell", "shell,vcpus=3", "shell"]
    assert item_of(session, series, BOOT.name).launches == (launches[1].id,)
    assert item_of(session, series, BOOT.name).variant == "shell"


def test_options_that_a_backend_does_not_have_are_unsupported(
    session: Session, series: Series
) -> None:
    info = dataclasses.replace(BOOT, options="firmware=on")
    error = called(session, series, raising(AssertionError()), info)
    assert isinstance(error, Unsupported)
    assert "no option 'firmware'" in error.what
    item = item_of(session, series, BOOT.name)
    assert item.status is Status.UNSUPPORTED
    assert "firmware" in item.reason
    assert GUESTS.made == []


def test_a_failure_with_its_options_is_not_the_variants(session: Session, series: Series) -> None:
    info = dataclasses.replace(BOOT, options="vcpus=3")
    for boot in range(2):
        GUESTS.launches[:] = [shell_backend.NO_BOOT]
        error = called(session, series, raising(AssertionError()), info, boot)
        assert error is shell_backend.NO_BOOT
    assert session.broker.guest(series, 0).alive


def test_a_mislabelled_guest_is_ended_and_not_measured(session: Session, series: Series) -> None:
    GUESTS.attests[:] = [shell_backend.MISLABELLED]
    assert isinstance(measured(session, series), AttestationError)
    assert GUESTS.closed == GUESTS.made
    item = item_of(session, series, "cpu-x")
    assert (item.status, item.pairs, item.launches) == (Status.FAILED, (), ())
    assert "is not shell" in item.reason


# ------------------------------------------------------------------ items


def test_a_good_item(session: Session, series: Series, out: Path) -> None:
    measured(session, series)
    item = item_of(session, series, "cpu-x")
    assert item.status is Status.OK
    assert len(item.pairs) == 2
    assert item.reason == ""
    assert "kernel_differs" in item.flags  # the shell says another kernel than this machine
    assert item.launches == ("local-shell#1",)
    assert set(item.commands) == {"guest", "native"}
    events = [record["event"] for record in journal(out)]
    assert events == ["run", "series", "launch", "begin", "pair", "pair", "end"]
    assert recovery.read(out / JOURNAL_NAME).items(series.label) == [item]
    assert len(session.failures) == 0
    overhead = stats.overhead_of(item)
    assert overhead is not None
    assert overhead.ratio == pytest.approx(1.0)


def test_later_boots_join_the_same_item(session: Session, series: Series) -> None:
    for boot in range(3):
        measured(session, series, boot=boot)
    (item,) = session.book.items(series)
    assert [pair.boot for pair in item.pairs] == [0, 0, 1, 1, 2, 2]
    assert item.launches == ("local-shell#1", "local-shell#2", "local-shell#3")


def test_absolute_items_run_nothing_natively(session: Session, series: Series) -> None:

    def call(measure: Measure) -> None:
        measure.absolute(measure.phase_s("launch", "command"))

    assert called(session, series, call, BOOT) is None
    item = item_of(session, series, "boot-x")
    assert [(pair.native_s, pair.guest_s) for pair in item.pairs] == [(None, 0.5)]
    assert "kernel_differs" not in item.flags


def test_a_failed_workload(session: Session, series: Series) -> None:
    assert isinstance(measured(session, series, "echo why >&2; exit 7"), WorkloadError)
    item = item_of(session, series, "cpu-x")
    assert item.status is Status.FAILED
    assert item.reason == "boot 1: a command ended with status 7"
    (told,) = session.failures.new()
    assert told.startswith("cpu-x[shell] boot 1: a command ended with status 7")
    assert "why" in told
    assert session.broker.guest(series, 0) is GUESTS.made[0]  # the guest is not to blame


def test_a_failure_on_a_later_boot_keeps_the_item(session: Session, series: Series) -> None:
    measured(session, series)
    assert isinstance(measured(session, series, "echo nonsense", 1), WorkloadError)
    item = item_of(session, series, "cpu-x")
    assert item.status is Status.OK
    assert len(item.pairs) == 2
    assert "boot 2: the workload's output cannot be read" in item.reason
    assert len(session.failures) == 1


def test_a_hanging_workload(session: Session, series: Series) -> None:
    session._plan = Plan(boots=1, target_s=0.001, command_timeout_s=1.0)
    error = measured(session, series, "sleep 60")
    assert isinstance(error, WorkloadTimeout)
    assert "did not end within 1 s" in error.what
    assert session.broker.guest(series, 0) is GUESTS.made[0]


def test_a_lost_guest_is_replaced_for_the_next_item(session: Session, series: Series) -> None:
    error = measured(session, series, "die")
    assert isinstance(error, GuestLost)
    assert "the guest's machine ended" in error.what
    assert error.remedy
    assert GUESTS.closed == GUESTS.made
    measured(session, series)
    item = item_of(session, series, "cpu-x")
    assert item.status is Status.OK
    assert "the guest's machine ended" in item.reason
    assert item.launches == ("local-shell#1", "local-shell#2")


@pytest.mark.parametrize("kind", [GuestSilent, GuestLost])
@pytest.mark.parametrize(("emulated", "calls"), [(True, 2), (False, 1)])
def test_a_lost_guest_of_an_emulated_host_is_measured_again(
    session: Session, series: Series, out: Path, monkeypatch: pytest.MonkeyPatch,
    emulated: bool, calls: int, kind: type[GuestLost],
) -> None:  # fmt: skip
    """Once, and nothing of the first time counts, in a run that is continued neither."""
    if emulated:
        monkeypatch.setattr(series.host, "timeout_scale", 10.0)
    made = []

    def call(measure: Measure) -> None:
        measure(lambda units, endpoint: SPIN, read=probe)
        made.append(measure)
        if len(made) == 1:
            raise kind("the guest does not answer", evidence="RIP=0")

    error = called(session, series, call)
    assert len(made) == calls
    assert (error is None) == emulated
    item = item_of(session, series, "cpu-x")
    assert [pair.boot for pair in item.pairs] == [0, 0]
    assert GUESTS.closed == GUESTS.made[: calls if not emulated else 1]
    (kept,) = recovery.read(out / JOURNAL_NAME).items("local-shell")
    assert kept.pairs == item.pairs
    assert any(each["event"] == "again" for each in journal(out)) == emulated


def test_a_guest_that_stays_silent_is_a_failure(
    session: Session, series: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series.host, "timeout_scale", 10.0)
    silent = GuestSilent("the guest does not answer", evidence="RIP=0")
    assert called(session, series, raising(silent)) is silent
    assert item_of(session, series, "cpu-x").status is Status.FAILED


def test_a_death_that_only_qmp_noticed_has_evidence_too(session: Session, series: Series) -> None:

    def call(measure: Measure) -> None:
        measure.guest.machine.alive = False  # type: ignore[attr-defined]
        raise GuestLost("the QMP connection ended")

    error = called(session, series, call)
    assert item_of(session, series, "cpu-x").reason == "boot 1: the guest's machine ended"
    assert error is not None
    assert "last line of the console" in error.evidence


def test_a_guest_that_ends_with_its_host_is_not_to_blame(
    session: Session, series: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = ConnectionLost("no SSH login to ssh://far: no answer")

    def no_answer(*_: object, **__: object) -> Any:
        raise gone

    def call(measure: Measure) -> None:
        measure.guest.machine.alive = False  # type: ignore[attr-defined]
        monkeypatch.setattr(series.host, "run", no_answer)
        raise GuestLost("the QMP connection ended")

    assert called(session, series, call) is gone
    assert item_of(session, series, "cpu-x").reason == f"boot 1: {gone.what}"
    assert next(iter(session.failures.new())) == f"cpu-x[shell] boot 1: {gone.what}"


def test_a_panic_is_told_from_a_death(session: Session, series: Series) -> None:
    guest = session.broker.guest(series, 0)
    guest.machine.text = "Kernel panic - not syncing"  # type: ignore[attr-defined]
    error = measured(session, series, "die")
    assert isinstance(error, GuestLost)
    assert "panicked" in error.what
    assert "last line of the console" in error.evidence


def test_unsupported_is_a_result_for_all_boots(session: Session, series: Series) -> None:
    called(session, series, raising(Unsupported("this CPU has no RDRAND")))
    assert isinstance(measured(session, series, boot=1), Unsupported)
    item = item_of(session, series, "cpu-x")
    assert (item.status, item.reason) == (Status.UNSUPPORTED, "this CPU has no RDRAND")
    assert len(session.failures) == 0
    assert len(GUESTS.made) == 1  # nothing was booted to find out again


def test_any_other_error_is_recorded_too(session: Session, series: Series, out: Path) -> None:
    error = called(session, series, lambda measure: 1 / 0)
    assert isinstance(error, WorkloadError)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert item_of(session, series, "cpu-x").status is Status.FAILED
    assert "ZeroDivisionError: division by zero" in error.what
    assert "1 / 0" in error.evidence
    assert "ZeroDivisionError" in str(journal(out)[-1]["problems"])


def test_an_interrupt_keeps_the_pairs(session: Session, series: Series, out: Path) -> None:

    def call(measure: Measure) -> None:
        measure.absolute(1.5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        called(session, series, call)
    item = item_of(session, series, "cpu-x")
    assert item.status is Status.OK
    assert item.reason == "boot 1: interrupted"
    assert len(item.pairs) == 1
    assert [record["event"] for record in journal(out)][-2:] == ["pair", "end"]
    assert recovery.read(out / JOURNAL_NAME).items(series.label) == [item]
    assert len(session.failures) == 0


def test_a_guest_that_cannot_be_ended_is_no_fault_of_the_next(
    session: Session, series: Series
) -> None:
    def broken() -> None:
        raise HostError("nested paging cannot be switched back on", remedy="reload kvm_amd")

    session.broker.guest(series, 0).cleanup.callback(broken)  # type: ignore[attr-defined]
    other = session.book.series["local-shell,vcpus=2"]
    assert measured(session, other) is None
    assert item_of(session, other, "cpu-x").reason == ""
    (told,) = session.failures.new()
    assert told.startswith("local-shell boot 1: nested paging cannot be switched back on")
    assert "reload kvm_amd" in told


# ------------------------------------------------------------------ results, the end


def test_the_result_says_all(session: Session, series: Series) -> None:
    measured(session, series)
    result = session.book.result(series)
    assert (result.variant, result.image, result.argv) == ("shell", "d1935c", ("vbench", "run"))
    assert result.facts == {"windows": {"text": "no", "source": "a test"}}
    assert result.unavailable == (("kvm", "hardware-assisted", "no", "buy"),)
    (launch,) = result.launches
    assert launch.attestation.summary == "a shell of this machine"
    assert launch.versions["sh"] == "1"
    assert session.book.result(session.book.series["local-shell,vcpus=2"]).items == ()


def test_the_variants_of_a_host_share_what_native_needs(session: Session, series: Series) -> None:
    measured(session, series)
    other = session.book.series["local-shell,vcpus=2"]
    measured(session, other)
    sizes = [item_of(session, each, "cpu-x").native_work for each in (series, other)]
    assert sizes[0] == sizes[1] > 0


def test_close_ends_all_and_may_be_repeated(session: Session, series: Series) -> None:
    guest = session.broker.guest(series, 0)
    session.close()
    session.close()
    assert GUESTS.closed == [guest]


def test_phases_know_where_the_time_went(session: Session, series: Series) -> None:
    measured(session, series)
    spent = session.phases.seconds()
    assert spent["measuring"] > 0
    assert spent["calibrating"] > 0


def test_nothing_is_written_without_a_folder(series: Series, image: ImageFiles) -> None:
    book = Book([series], image=image.digest)
    with Session(registry=Registry(), book=book, image=image, plan=Plan()) as session:
        measured(session, series)
        assert len(item_of(session, series, "cpu-x").pairs) == 1


def test_a_series_of_fewer_boots_has_two_rounds(session: Session, series: Series) -> None:
    plan = session.plan(series)
    assert session.plan(dataclasses.replace(series, boots=9)) == plan
    fewer = session.plan(dataclasses.replace(series, boots=1))
    assert (fewer.boots, fewer.quantile_boots) == (1, 1)
    assert fewer.rounds == 2
