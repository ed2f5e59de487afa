"""The books of a run, with shells for guests."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import pytest
import shell_backend
from shell_backend import GUESTS

from vbench.contract.registry import Registry
from vbench.errors import (
    AttestationError,
    GuestLost,
    LaunchError,
    Unsupported,
    WorkloadError,
    WorkloadTimeout,
)
from vbench.guest.target import Endpoint
from vbench.measure.parsers import probe
from vbench.measure.plan import Plan
from vbench.model import ImageFiles, Statistic, Status, WorkloadInfo
from vbench.results.journal import Journal
from vbench.run.guests import Series
from vbench.run.session import Session

INFO = WorkloadInfo("cpu-x", "cpu", "step", Statistic.RATIO, "x", "d1", "bench_x.py")
BOOT = WorkloadInfo("boot-x", "boot", "boot", Statistic.ABSOLUTE, "x", "d2", "bench_x.py")


def journal(out: Path) -> list[dict[str, object]]:
    return Journal.read(out)


SPIN = """echo '{"elapsed_ns": 1000000}'"""


def measured(session: Session, series: Series, in_guest: str = SPIN, boot: int = 0) -> None:
    """One item; natively it always does well."""

    def command(units: int, endpoint: Endpoint) -> str:
        return in_guest if endpoint.scratch == "/dev/null" else SPIN

    with session.item(series, INFO, boot) as make:
        make()(command, read=probe)


# ------------------------------------------------------------------ the guest of an item


def test_a_workload_may_ask_for_another_guest(session: Session, series: Series) -> None:
    info = dataclasses.replace(BOOT, options="vcpus=3")
    usual = session.broker.guest(series, 0)
    with session.item(series, info, 0) as make:
        measure = make()
        assert measure.guest.endpoint.vcpus == 3
        measure.absolute(1.0)
    assert GUESTS.closed == [usual]
    assert session.broker.guest(series, 0) is not measure.guest
    launches = session.result(series).launches
    assert [launch.variant for launch in launches] == ["shell", "shell,vcpus=3", "shell"]
    assert session.item_of(series, BOOT.name).launches == (launches[1].id,)
    assert session.item_of(series, BOOT.name).variant == "shell"


def test_options_that_a_backend_does_not_have_are_unsupported(
    session: Session, series: Series
) -> None:
    info = dataclasses.replace(BOOT, options="firmware=on")
    with (
        pytest.raises(Unsupported, match="no option 'firmware'"),
        session.item(series, info, 0) as make,
    ):
        make()
    item = session.item_of(series, BOOT.name)
    assert item.status is Status.UNSUPPORTED
    assert "firmware" in item.reason
    assert GUESTS.made == []


def test_a_failure_with_its_options_is_not_the_variants(session: Session, series: Series) -> None:
    info = dataclasses.replace(BOOT, options="vcpus=3")
    for boot in range(2):
        GUESTS.launches[:] = [shell_backend.NO_BOOT]
        with pytest.raises(LaunchError), session.item(series, info, boot) as make:
            make()
    assert session.broker.guest(series, 0).alive


def test_a_mislabelled_guest_is_ended_and_not_measured(session: Session, series: Series) -> None:
    GUESTS.attests[:] = [shell_backend.MISLABELLED]
    with pytest.raises(AttestationError):
        measured(session, series)
    assert GUESTS.closed == GUESTS.made
    item = session.item_of(series, "cpu-x")
    assert (item.status, item.pairs, item.launches) == (Status.FAILED, (), ())
    assert "is not shell" in item.reason


# ------------------------------------------------------------------ items


def test_a_good_item(session: Session, series: Series, out: Path) -> None:
    measured(session, series)
    item = session.item_of(series, "cpu-x")
    assert item.status is Status.OK
    assert len(item.pairs) == 2
    assert item.reason == ""
    assert "kernel_differs" in item.flags  # the shell says another kernel than this machine
    assert item.launches == ("local-shell#1",)
    assert set(item.commands) == {"guest", "native"}
    assert [record["event"] for record in journal(out)] == ["launch", "pair", "pair", "item"]
    assert journal(out)[1]["guest_s"] == item.pairs[0].guest_s
    assert session.failed == []
    overhead = session.overhead(item)
    assert overhead is not None
    assert overhead.ratio == pytest.approx(1.0)


def test_later_boots_join_the_same_item(session: Session, series: Series) -> None:
    for boot in range(3):
        measured(session, series, boot=boot)
    (item,) = session.items(series)
    assert [pair.boot for pair in item.pairs] == [0, 0, 1, 1, 2, 2]
    assert item.launches == ("local-shell#1", "local-shell#2", "local-shell#3")


def test_absolute_items_run_nothing_natively(session: Session, series: Series) -> None:
    with session.item(series, BOOT, 0) as make:
        measure = make()
        measure.absolute(measure.guest.boot_times_s["launch_to_command"])
    item = session.item_of(series, "boot-x")
    assert [(pair.native_s, pair.guest_s) for pair in item.pairs] == [(None, 0.5)]
    assert "kernel_differs" not in item.flags


def test_a_failed_workload(session: Session, series: Series) -> None:
    with pytest.raises(WorkloadError):
        measured(session, series, "echo why >&2; exit 7")
    item = session.item_of(series, "cpu-x")
    assert item.status is Status.FAILED
    assert item.reason == "boot 1: a command ended with status 7"
    assert "cpu-x[shell] boot 1" in session.failed[0]
    assert "why" in session.failed[0]
    assert session.broker.guest(series, 0) is GUESTS.made[0]  # the guest is not to blame


def test_a_failure_on_a_later_boot_keeps_the_item(session: Session, series: Series) -> None:
    measured(session, series)
    with pytest.raises(WorkloadError):
        measured(session, series, "echo nonsense", 1)
    item = session.item_of(series, "cpu-x")
    assert item.status is Status.OK
    assert len(item.pairs) == 2
    assert "boot 2: the workload's output cannot be read" in item.reason
    assert len(session.failed) == 1


def test_a_hanging_workload(session: Session, series: Series) -> None:
    session._plan = Plan(boots=1, target_s=0.001, command_timeout_s=1.0)
    with pytest.raises(WorkloadTimeout, match="did not end within 1 s"):
        measured(session, series, "sleep 60")
    assert session.broker.guest(series, 0) is GUESTS.made[0]


def test_a_lost_guest_is_replaced_for_the_next_item(session: Session, series: Series) -> None:
    with pytest.raises(GuestLost, match="the guest's machine ended"):
        measured(session, series, "die")
    assert GUESTS.closed == GUESTS.made
    measured(session, series)
    item = session.item_of(series, "cpu-x")
    assert item.status is Status.OK
    assert "the guest's machine ended" in item.reason
    assert item.launches == ("local-shell#1", "local-shell#2")


def test_a_death_that_only_qmp_noticed_has_evidence_too(session: Session, series: Series) -> None:
    with contextlib.suppress(GuestLost), session.item(series, INFO, 0) as make:
        make().guest.machine.alive = False  # type: ignore[misc]
        raise GuestLost("the QMP connection ended")
    assert session.item_of(series, "cpu-x").reason == "boot 1: the guest's machine ended"
    assert "last line of the console" in session.failed[0]


def test_a_panic_is_told_from_a_death(session: Session, series: Series) -> None:
    guest = session.broker.guest(series, 0)
    guest.machine.text = "Kernel panic - not syncing"  # type: ignore[attr-defined]
    with pytest.raises(GuestLost, match="panicked") as caught:
        measured(session, series, "die")
    assert "last line of the console" in caught.value.evidence


def test_unsupported_is_a_result_for_all_boots(session: Session, series: Series) -> None:
    with contextlib.suppress(Unsupported), session.item(series, INFO, 0):
        raise Unsupported("this CPU has no RDRAND")
    with pytest.raises(Unsupported):
        measured(session, series, boot=1)
    item = session.item_of(series, "cpu-x")
    assert (item.status, item.reason) == (Status.UNSUPPORTED, "this CPU has no RDRAND")
    assert session.failed == []
    assert GUESTS.made == []  # nothing was booted to find out again


def test_any_other_error_is_recorded_too(session: Session, series: Series, out: Path) -> None:
    with pytest.raises(ZeroDivisionError), session.item(series, INFO, 0):
        1 / 0  # noqa: B018
    assert session.item_of(series, "cpu-x").status is Status.FAILED
    assert "ZeroDivisionError: division by zero" in session.failed[0]
    assert "ZeroDivisionError" in str(journal(out)[-1]["problems"])


def test_an_interrupt_keeps_the_pairs(session: Session, series: Series, out: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), session.item(series, INFO, 0) as make:
        make().absolute(1.5)
        raise KeyboardInterrupt
    item = session.item_of(series, "cpu-x")
    assert item.status is Status.OK
    assert item.reason == "boot 1: interrupted"
    assert len(item.pairs) == 1
    assert [record["event"] for record in journal(out)][-2:] == ["pair", "item"]
    assert session.failed == []


# ------------------------------------------------------------------ results, the end


def test_the_result_says_all(session: Session, series: Series) -> None:
    measured(session, series)
    result = session.result(series)
    assert (result.variant, result.image, result.argv) == ("shell", "d1935c", ("vbench", "run"))
    assert result.facts == {"windows": {"text": "no", "source": "a test"}}
    assert result.unavailable == (("kvm", "hardware-assisted", "no", "buy"),)
    (launch,) = result.launches
    assert launch.attestation.summary == "a shell of this machine"
    assert launch.versions["sh"] == "1"
    assert session.result(session.series["local-shell,vcpus=2"]).items == ()


def test_the_variants_of_a_host_share_what_native_needs(session: Session, series: Series) -> None:
    measured(session, series)
    other = session.series["local-shell,vcpus=2"]
    measured(session, other)
    sizes = [session.item_of(each, "cpu-x").native_work for each in (series, other)]
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
    with Session(registry=Registry(), series=[series], image=image, plan=Plan()) as session:
        measured(session, series)
        assert len(session.item_of(series, "cpu-x").pairs) >= 2


def test_pairs_in_the_journal_come_back(session: Session, series: Series, out: Path) -> None:
    measured(session, series)
    for record, pair in zip(journal(out)[1:3], session.item_of(series, "cpu-x").pairs, strict=True):
        assert json.loads(json.dumps(record["native_s"])) == pair.native_s
        assert record["boot"] == pair.boot


def test_a_series_of_fewer_boots_has_two_rounds(session: Session, series: Series) -> None:
    plan = session.plan(series)
    assert session.plan(dataclasses.replace(series, boots=9)) == plan
    fewer = session.plan(dataclasses.replace(series, boots=1))
    assert (fewer.boots, fewer.quantile_boots) == (1, 1)
    assert fewer.rounds == 2
