"""Whole runs that time on one host and count on another, with shells for guests."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from typing import Any

import pytest
from shell_runs import Runs, bench

from vbench.contract.host import Host
from vbench.errors import LaunchError
from vbench.hosts.local import LocalHost
from vbench.model import TimeBase
from vbench.results import loading
from vbench.results.journal import JOURNAL_NAME, Journal
from vbench.run import lanes, opening, runner
from vbench.run.selection import Selection, select

PLUGIN = """
from shell_backend import ShellBackend
from vbench.contract.hookspecs import hookimpl
from vbench.records import Declaration, Hypervisor, HypervisorType

class Backend(ShellBackend):
    def declare(self, options):
        return Declaration(Hypervisor(self.name, "nobody", HypervisorType.ONE, "a test"))

@hookimpl
def vbench_backends():
    return [Backend("one"), Backend("two")]
"""
ECHO = """measure(lambda n, e: "echo '{\\"elapsed_ns\\": 300000000}'", read=parsers.probe)"""
OFTEN = "@workload(representative=True)\n"
TEXT = OFTEN + bench("cpu_often", ECHO) + bench("cpu_rare", ECHO)
LABELS = [f"{host}-{name}" for host in ("local", "testbed") for name in ("one", "two")]


class CountingHost(LocalHost):
    name = "testbed"
    time_base = TimeBase.INSTRUCTIONS


@pytest.fixture
def both(run: Runs, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs two variants on a host that is timed, and where instructions are counted."""
    plugin = run.folder / "two_shells.py"
    plugin.write_text(PLUGIN)

    def find_host(text: str, options: object) -> Host:
        return {"local": LocalHost, "testbed": CountingHost}[text]()

    monkeypatch.setattr(opening, "find_host", find_host)
    monkeypatch.setattr(lanes, "at_once", lambda: 2)

    def measure(text: str, **changes: Any) -> int:
        asked = {"variants": ("one", "two"), "hosts": ("local", "testbed"), "boots": 2, "rounds": 1}
        return run(text, plugins=(plugin,), **{**asked, **changes})

    return measure


def events(run: Runs, event: str) -> list[tuple[str, str, int]]:
    return [
        (each["series"], each["item"]["workload"], each["boot"])
        for each in Journal.read(run.out)
        if each["event"] == event
    ]


def test_first_a_table_then_the_counts_then_the_rest(run: Runs, both: Any) -> None:
    assert both(TEXT) == 0
    told = events(run, "end")
    assert sorted(told[:2]) == [(label, "cpu-often", 0) for label in LABELS[:2]]
    assert {label for label, _, _ in told[2:10]} == set(LABELS[2:])
    assert {label for label, _, _ in told[10:]} == set(LABELS[:2])
    assert len(set(told)) == len(told) == 16
    results = loading.load_all([run.out])
    assert [(one.planned, one.done, one.partial) for one in results] == [(16, 16, False)] * 4
    boots = {
        (result.host.time_base, item.name): Counter(pair.boot for pair in item.pairs)
        for result in results
        for item in result.items
    }
    assert set(map(tuple, map(sorted, boots.values()))) == {(0, 1)}
    assert len(boots) == 8


def test_native_that_is_an_exact_count_is_run_once_in_each_lane(run: Runs, both: Any) -> None:
    text = OFTEN + bench(
        "cpu_often",
        "def command(n, e):\n"
        "        if e.scratch != '/dev/null':\n"
        "            with open('natives', 'a') as file:\n"
        "                file.write(measure.guest.device.further['speed'] + ' ')\n"
        """        return "echo '{\\"elapsed_ns\\": 300000000}'"\n"""
        "    measure(command, read=parsers.probe)",
    )
    assert both(text, hosts=("testbed",)) == 0
    for result in loading.load_all([run.out]):
        (item,) = result.items
        assert "native_once" in item.flags
        assert [pair.native_s for pair in item.pairs] == [pair.guest_s for pair in item.pairs]
    # the step that is long enough, and the sample
    assert len((run.folder / "natives").read_text().split()) == 2 * 2


def test_a_signal_in_a_lane_keeps_what_is_measured_and_the_rest_is_made_later(
    run: Runs, both: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    ask = (
        "import os, pathlib, signal\n"
        "    if measure.guest.host.name == 'testbed' and not pathlib.Path('go-on').exists():\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        f"    {ECHO}"
    )
    text = OFTEN + bench("cpu_often", ECHO) + bench("cpu_rare", ask)
    assert both(text) == 130
    assert "vbench run --resume" in capfd.readouterr().err
    assert "Partial report" in (run.out / "report.md").read_text()
    (run.folder / "go-on").touch()
    assert runner.resume(run.out) == 0
    results = loading.load_all([run.out])
    assert [(one.planned, one.done) for one in results] == [(16, 16)] * 4
    assert all(len(item.pairs) == 2 for result in results for item in result.items)


def test_what_could_not_run_is_tried_again_when_the_run_is_continued(
    run: Runs, both: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its host did not come up, or its image could not be built: that may be over."""

    class Broken(CountingHost):
        def facts(self) -> Any:
            if threading.current_thread() is not threading.main_thread():
                raise LaunchError("no memory for it", remedy="close some windows")
            return super().facts()

    def select_later(*given: Any, **more: Any) -> Selection:
        """As where no hypervisor is named: the hosts are asked when they come up, in the lanes."""
        chosen = select(*given, **more)
        series = tuple(dataclasses.replace(each, probed=False) for each in chosen.series)
        return dataclasses.replace(chosen, series=series)

    whole = CountingHost
    monkeypatch.setattr(opening, "select", select_later)
    monkeypatch.setitem(globals(), "CountingHost", Broken)
    assert both(TEXT, hosts=("testbed",), variants=("one",)) == 0
    monkeypatch.setitem(globals(), "CountingHost", whole)
    assert "testbed-one cannot run: no memory for it" in capfd.readouterr().err

    assert runner.resume(run.out) == 0
    said = capfd.readouterr().err
    assert "testbed-one could not run, and is tried again: no memory for it" in said
    for where in (run.out, run.out / JOURNAL_NAME):
        (result,) = loading.load_all([where])
        assert (result.planned, result.done, result.unavailable) == (4, 4, ())
        assert all(len(item.pairs) == 2 for item in result.items)
    assert runner.resume(run.out) == 0
    assert "is complete" in capfd.readouterr().err
