"""Scenarios in whole runs, with shells for guests: they launch, record, and obey what a run is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from shell_runs import Runs

from vbench.contract.guest import Migration, Saved, Terms
from vbench.contract.workload import described
from vbench.errors import AttestationError, UsageError
from vbench.hosts.local import LocalHost
from vbench.measure.lab import Lab
from vbench.measure.plan import Plan
from vbench.measure.recorder import Outcome, Recorder
from vbench.model import Statistic
from vbench.records import Lifecycle, NetworkPath
from vbench.results import loading, recovery
from vbench.results.journal import JOURNAL_NAME
from vbench.run.collecting import collect

TWO = '''
from vbench.records import Clock

def scenario_migration_two(lab):
    """Two guests, two rounds."""
    one, other = lab.launch(), lab.launch()
    for number in lab.rounds:
        lab.took("migration", "downtime", 0.25, Clock.GUEST)
        lab.took("migration", "never timed", None, Clock.CLIENT)
        lab.counted(sent_mib=140 + number)
        lab.record(1.5)
'''


def scenario(run: Runs, text: str, **changes: Any) -> int:
    path = run.folder / "scenario_given.py"
    path.write_text(text)
    return run("", files=(path,), **changes)


def test_phases_and_counts_come_back_from_the_file_and_from_the_journal(run: Runs) -> None:
    assert scenario(run, TWO, boots=2) == 0
    (result,) = loading.load_all([run.out])
    (item,) = result.items
    assert (item.name, item.category, item.unit) == (
        "migration-two[shell]",
        "migration",
        "migration",
    )
    assert [pair.boot for pair in item.pairs] == [0, 0, 1, 1]
    first, second = item.pairs[:2]
    assert first.counters == {"sent_mib": 140}
    assert second.counters == {"sent_mib": 141}
    (phase,) = first.phases
    assert (phase.name, phase.clock, phase.seconds) == ("migration to downtime", "guest", 0.25)
    (recovered,) = recovery.read(run.out / JOURNAL_NAME).results.values()
    assert recovered.items == result.items
    assert [launch.boot for launch in result.launches] == [0, 0, 1, 1]
    assert set(item.launches) == {launch.id for launch in result.launches}


def test_its_guests_end_with_it(run: Runs) -> None:
    assert scenario(run, TWO) == 0
    assert len(run.guests.made) == 2
    assert run.guests.closed == run.guests.made[::-1]


def test_no_other_guest_is_up_beside_those_of_a_scenario(run: Runs) -> None:
    text = TWO + (
        "\ndef bench_x(measure):\n"
        """    measure(lambda n, e: 'echo \\'{"elapsed_ns": 300000000}\\'', read=parsers.probe)\n"""
        "import pytest\nfrom vbench.measure import parsers\n"
        "bench_x = pytest.mark.workload(category='cpu', unit='x')(bench_x)\n"
    )
    assert scenario(run, text) == 0
    assert [guest in run.guests.closed for guest in run.guests.made] == [True] * 3
    events = [json.loads(line) for line in (run.out / JOURNAL_NAME).read_text().splitlines()]
    ended = [each["item"]["workload"] for each in events if each["event"] == "end"]
    assert ended == ["x", "migration-two"]  # scenarios last


def test_what_a_guest_cannot_do_is_unsupported_with_the_reason(run: Runs) -> None:
    text = 'def scenario_snapshot_x(lab):\n    """Says."""\n    lab.save(lab.launch())\n'
    assert scenario(run, text) == 0
    (item,) = loading.load_all([run.out])[0].items
    assert item.status == "unsupported"
    assert item.reason == "its guests have no save: vbench does not drive it"
    assert run.guests.closed == run.guests.made


def test_what_a_user_can_do_about_an_unsupported_scenario_is_in_its_reason(run: Runs) -> None:
    text = 'def scenario_migration_x(lab):\n    """Says."""\n    lab.elsewhere()\n'
    assert scenario(run, text) == 0
    (item,) = loading.load_all([run.out])[0].items
    assert item.status == "unsupported"
    assert item.reason == (
        "no other host was named; name it in the variant: "
        "--backend VARIANT,destination=ssh://user@host"
    )


def test_a_guest_that_takes_no_port_of_a_bridge_is_unsupported(run: Runs) -> None:
    """The scenario failed where nothing answered on the bridge."""
    text = (
        'def scenario_migration_x(lab):\n    """Says."""\n'
        "    lab.watch(lab.launch())\n    lab.record(1)\n"
    )
    assert run.guests.capabilities.network is not NetworkPath.TAP
    assert scenario(run, text) == 0
    (item,) = loading.load_all([run.out])[0].items
    assert item.reason == "its guests have no card on a bridge of vbench"
    assert run.guests.closed == run.guests.made


def test_a_scenario_that_fails_loses_nothing_and_leaves_no_guest(run: Runs) -> None:
    text = TWO.replace("lab.record(1.5)", "lab.record(1.5)\n        assert number == 1")
    assert scenario(run, text) == 1
    (item,) = loading.load_all([run.out])[0].items
    assert len(item.pairs) == 1
    assert "AssertionError" in item.reason
    assert run.guests.closed == run.guests.made[::-1]


def test_a_scenario_that_records_nothing_has_failed(run: Runs) -> None:
    text = 'def scenario_snapshot_x(lab):\n    """Says."""\n    lab.launch()\n'
    assert scenario(run, text) == 1
    (item,) = loading.load_all([run.out])[0].items
    assert item.reason == "boot 1: it took no sample: it never called `lab.record`"


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("record(1.5)", "record(0)", "it took 0 s"),
        ("record(1.5)", "record(-1)", "it took -1 s"),
        ("record(1.5)", "record(1e9)", "it took 1000000000.0 s"),
        ("record(1.5)", "record('soon')", "it took soon s"),
        ("0.25", "float('nan')", "migration to downtime took nan s"),
        ("0.25", "float('inf')", "migration to downtime took inf s"),
        ("0.25", "-5", "migration to downtime took -5 s"),
        ("0.25", "'soon'", "migration to downtime took soon s"),
        ("0.25, Clock.GUEST", "0.25, 'sundial'", "by the clock sundial"),
        ("140 + number", "'yes'", "sent_mib is yes"),
        ("140 + number", "float('nan')", "sent_mib is nan"),
        ("140 + number", "10**400", "sent_mib is 1000"),
        ("140 + number", "None", "sent_mib is None"),
        ("140 + number", "object()", "sent_mib is <object"),
    ],
)
def test_what_is_no_figure_ends_the_scenario_and_not_the_run(
    run: Runs, right: str, wrong: str, said: str
) -> None:
    """What results cannot hold made the journal unreadable."""
    assert right in TWO
    assert scenario(run, TWO.replace(right, wrong)) == 1
    (item,) = loading.load_all([run.out])[0].items
    assert item.pairs == ()
    assert said in item.reason
    recovery.read(run.out / JOURNAL_NAME)
    failed = [json.loads(line) for line in (run.out / JOURNAL_NAME).read_text().splitlines()]
    assert "-> " in next(each["failed"] for each in failed if each["event"] == "end")


def test_whether_something_was_so_is_counted(run: Runs) -> None:
    assert scenario(run, TWO.replace("140 + number", "number == 1")) == 0
    (item,) = loading.load_all([run.out / JOURNAL_NAME])[0].items
    assert [pair.counters["sent_mib"] for pair in item.pairs] == [0, 1]


def test_a_quick_run_leaves_scenarios_out_unless_they_are_named(run: Runs) -> None:
    text = TWO + TWO.replace("scenario_migration_two", "scenario_snapshot_three")
    assert scenario(run, text, quick=True, workloads=("migration-two",)) == 0
    (item,) = loading.load_all([run.out])[0].items
    assert item.workload == "migration-two"


def test_an_interrupted_scenario_is_measured_anew(run: Runs) -> None:
    from vbench.run import runner  # noqa: PLC0415

    stop = TWO.replace(
        "    one, other",
        "    import os, pathlib\n"
        "    if lab.boot and not pathlib.Path('go-on').exists(): os.kill(os.getpid(), 2)\n"
        "    one, other",
    )
    assert scenario(run, stop, boots=2) == 130
    Path("go-on").touch()
    assert runner.resume(run.out) == 0
    (result,) = loading.load_all([run.out])
    assert [pair.boot for pair in result.items[0].pairs] == [0, 0, 1, 1]


def given(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scenario_given.py"
    path.write_text(text)
    return path


def test_a_name_says_all_that_a_scenario_must_state(tmp_path: Path) -> None:
    (workload,) = collect([given(tmp_path, TWO)])
    info = workload.info
    assert info.scenario
    assert (info.unit, info.statistic, info.boots) == ("migration", Statistic.ABSOLUTE, 0)
    assert described(workload.function).info == info


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def scenario_flight_x(lab): pass", "there is no kind of scenario 'flight'"),
        (
            "import pytest\n@pytest.mark.workload(category='cpu')\n"
            "def scenario_migration_x(lab): pass",
            "there is no category 'cpu'",
        ),
        ("def scenario_migration_x(lab, tmp_path): pass", "gives it `lab` alone"),
        (
            "import pytest\n@pytest.mark.workload(category='migration', unit='x')\n"
            "def bench_x(measure): pass",
            "there is no category 'migration'",
        ),
    ],
)
def test_a_scenario_that_cannot_be_is_named_before_anything_boots(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        collect([given(tmp_path, text)])


@pytest.mark.parametrize("workloads", [(), ("migration*",)])
def test_nobody_takes_the_name_of_a_scenario_of_ours(run: Runs, workloads: tuple[str, ...]) -> None:
    """Its made-up figures decided a claim."""
    with pytest.raises(UsageError, match="two workloads are called migration-idle") as caught:
        scenario(run, TWO.replace("migration_two", "migration_idle"), workloads=workloads)
    assert f"give the one in {run.folder / 'scenario_given.py'} another name" in caught.value.remedy
    assert not run.out.exists()


class Life:
    """Guests go on as others, and nobody moves anything."""

    def save(self, guest: Any, folder: str) -> Saved:
        return Saved(guest, folder, (), {})

    def restore(self, saved: Saved, host: Any) -> Any:
        return living()

    def migrate(self, guest: Any, host: Any, terms: Terms) -> Migration:
        return Migration(living(), (), {})


def living() -> Any:
    can = SimpleNamespace(lifecycle=Lifecycle(None, None, None, None))
    return SimpleNamespace(
        capabilities=can, life=Life(), host=LocalHost(), phases=(), close=lambda: None
    )


@pytest.mark.parametrize("way", ["restore", "migrate"])
@pytest.mark.parametrize("then", ["record", "end"])
def test_a_guest_that_went_on_elsewhere_is_attested_anew(way: str, then: str) -> None:
    """Its new machine may be another than its label says; nothing of that round is kept."""
    asked, kept, outcome = [], [], Outcome()

    def attest(guest: Any) -> None:
        asked.append(guest)
        if len(asked) == 2:
            raise AttestationError("this guest is not kvm-virtio")

    lab = Lab(
        host=LocalHost(),
        image=cast("Any", None),
        image_s=None,
        recorder=Recorder(0, Plan(), outcome, kept.append, lambda name: None),
        launch=lambda host, options: living(),
        attest=attest,
        native=lambda guest, client: None,
    )

    def go_on(guest: Any) -> Any:
        if way == "restore":
            return lab.restore(lab.save(guest), lab.host)
        return lab.migrate(guest, lab.host, Terms(1, 1))

    with lab:
        first = go_on(lab.launch())
        assert asked == []  # it takes time, and what comes next is timed
        lab.record(1.0)
        lab.record(1.0)
        assert (asked, len(kept)) == ([first], 2)
        second = go_on(first)
        with pytest.raises(AttestationError):
            lab.record(1.0) if then == "record" else lab.end(second)
        assert asked == [first, second]
    assert len(kept) == len(outcome.pairs) == 2
