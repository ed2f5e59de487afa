"""vbench in pytest: the only room that knows pytest.

An item is one workload on one variant on one boot. Its pairs are measured by `measure.py` and
then *replayed* into pytest-benchmark through a timer: a live loop inside pytest-benchmark would
lose the samples of an item that fails, and could not stop when it has enough.
"""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Callable, Generator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from vbench.errors import StoreError, Unsupported, UsageError, VbenchError
from vbench.measure.engine import Measure
from vbench.model import CATEGORIES, Item, WorkloadInfo
from vbench.results import journal, store
from vbench.run.collecting import described
from vbench.run.guests import Series
from vbench.run.lock import measuring_alone
from vbench.run.progress import Progress
from vbench.run.session import Session

PLUGIN_NAME = "vbench-run"


class Replay:
    """A timer that makes pytest-benchmark see durations measured before, bit for bit.

    It is read twice a round, before and after: 0.0, then the duration.
    """

    def __init__(self) -> None:
        self._readings: list[float] = []

    def load(self, durations: Sequence[float]) -> None:
        self._readings = [reading for each in durations for reading in (0.0, each)]
        self._readings.reverse()

    def __call__(self) -> float:
        return self._readings.pop()


class RunPlugin:
    """The pytest plugin of one session."""

    def __init__(
        self, session: Session, workloads: Sequence[str] = (), *, progress: bool = True
    ) -> None:
        """`workloads` are globs of names; empty means all."""
        self.session = session
        self._globs = tuple(workloads)
        self._progress = Progress(sys.stderr) if progress else None
        self._quiet = progress
        self._machine_info: dict[str, Any] | None = None
        self._failures = 0

    # ---------------------------------------------------------------- collection

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "measure" not in metafunc.fixturenames:
            return
        info = _info(metafunc.function, metafunc.definition)
        params = [
            pytest.param((series, boot), id=f"{series.label}-boot{boot + 1}")
            for series in self.session.series.values()
            for boot in range(self.session.plan(series).boots_of(info))
        ]
        metafunc.parametrize("measure", params, indirect=True)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep what was asked for, in the order of measuring: host by host, so that the testbed is
        not up while this machine is timed; there boot by boot, so that boots of all variants
        interleave and a slow drift of the machine meets all of them alike."""
        kept: list[pytest.Item] = []
        dropped: list[pytest.Item] = []
        infos: dict[str, WorkloadInfo] = {}
        for item in items:
            key = _key(item)
            if key is None:
                continue
            info, series, _ = key
            infos[info.name] = info
            wanted = all(
                not globs or any(_matches(info, glob) for glob in globs)
                for globs in (self._globs, series.workloads)
            )
            if info.options and not self._globs:
                wanted = wanted and self.session.plan(series).own_guests
            (kept if wanted else dropped).append(item)
        for glob in self._globs:
            if not any(_matches(info, glob) for info in infos.values()):
                near = difflib.get_close_matches(glob, infos, 1)
                raise pytest.UsageError(
                    f"no workload is called {glob!r}; "
                    + (f"did you mean {near[0]!r}? " if near else "")
                    + f"there are: {', '.join(sorted(infos))}"
                )
        labels = list(self.session.series)

        hosts = list(dict.fromkeys(series.host.name for series in self.session.series.values()))

        def rank(item: pytest.Item) -> tuple[int, int, int, int]:
            key = _key(item)
            assert key is not None  # noqa: S101 - only such items were kept
            info, series, boot = key
            return (
                hosts.index(series.host.name),
                boot,
                labels.index(series.label),
                CATEGORIES.index(info.category),
            )

        items[:] = sorted(kept, key=rank)
        if dropped:
            config.hook.pytest_deselected(items=dropped)
        if self._progress:
            self._progress.expect(len(items))

    # ---------------------------------------------------------------- measuring

    @pytest.fixture
    def measure(self, request: pytest.FixtureRequest) -> _Late:
        """What a workload calls; the guest comes up when it does."""
        # pytest-benchmark takes the timer from the marker when its fixture is made.
        request.node.add_marker(pytest.mark.benchmark(timer=Replay(), disable_gc=False))
        return _Late(request.getfixturevalue("benchmark"))

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
        key = _key(pyfuncitem)
        if key is None:
            return (yield)
        info, series, boot = key
        if self._progress:
            self._progress.begin(f"{series.label} boot {boot + 1}", info.name)
        late = pyfuncitem.funcargs["measure"]
        assert isinstance(late, _Late)  # noqa: S101 - our own fixture
        try:
            with self.session.item(series, info, boot) as make:
                late.bind(make)
                return (yield)
        except Unsupported as error:
            pytest.skip(f"unsupported: {error.what}")
        except StoreError:
            self._stop(pyfuncitem)
            raise
        finally:
            # also on failure and Ctrl-C: what was measured is kept
            item = self.session.item_of(series, info.name)
            if item.pairs:
                self._replay(pyfuncitem.config, late.benchmark, series, item)
            try:
                self._write(pyfuncitem.config, series, item)
            except StoreError as error:
                self._stop(pyfuncitem)
                self.session.failed.append(str(error))
                raise
            finally:
                if self._progress:
                    self._progress.end(item, self.session.overhead(item))

    def _stop(self, item: pytest.Item) -> None:
        """Nothing more can be kept, so nothing more is measured."""
        item.session.shouldfail = "results cannot be written"

    def _replay(self, config: pytest.Config, benchmark: Any, series: Series, item: Item) -> None:
        """Hand all pairs so far to pytest-benchmark, in place of those of earlier boots."""
        known = config._benchmarksession.benchmarks  # type: ignore[attr-defined]
        # unique among hosts while the session runs; in files it becomes `item.name`
        fullname = f"{series.label}/{item.workload}"
        known[:] = [entry for entry in known if entry.fullname != fullname]
        benchmark.name = item.name
        benchmark.fullname = fullname
        benchmark.group = item.workload
        benchmark.param = benchmark.params = None
        benchmark.extra_info["vbench"] = store.extra_info(item, self.session.overhead(item))
        durations = [pair.guest_s for pair in item.pairs]
        benchmark._timer.load(durations)
        benchmark.pedantic(_nothing, rounds=len(durations))

    def _write(self, config: pytest.Config, series: Series, item: Item) -> None:
        """Rewrite the series' file through pytest-benchmark's own hook, then tell observers."""
        if self.session.out is None:
            return
        benchmarks = config._benchmarksession  # type: ignore[attr-defined]
        if self._machine_info is None:
            self._machine_info = benchmarks.get_machine_info()
        document = config.hook.pytest_benchmark_generate_json(
            config=config,
            benchmarks=[
                entry
                for entry in benchmarks.benchmarks
                if entry.fullname.startswith(f"{series.label}/")
            ],
            include_data=True,
            machine_info=self._machine_info,
            commit_info={},  # the commit of the current folder says nothing about the guest
        )
        for entry in document["benchmarks"]:
            entry["fullname"] = entry["name"]
        document = store.attach(document, self.session.result(series))
        journal.write_atomic(self.session.out / f"{series.label}.json", store.dumps(document))
        self.session.registry.call("vbench_item_finished", item=item, out=self.session.out)

    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        machine_info.get("cpu", {}).pop("flags", None)  # two hundred words that nobody compares

    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        """A file of `--benchmark-json` that holds one series is a result file of ours too."""
        for entry in output_json["benchmarks"]:
            entry["fullname"] = entry["name"]
        if len(self.session.series) == 1:
            (series,) = self.session.series.values()
            output_json.update(store.attach(output_json, self.session.result(series)))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be loaded is a failure; the other files are measured."""
        if report.failed:
            self.session.failed.append(f"{report.nodeid or 'workloads'}:\n{report.longreprtext}")
            self._failures = len(self.session.failed)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A failure that no item recorded is a fault of ours or of a plugin: never hidden."""
        if report.failed and self._failures == len(self.session.failed):
            self.session.failed.append(f"{report.nodeid}:\n{report.longreprtext}")
        self._failures = len(self.session.failed)

    # ---------------------------------------------------------------- our own words on the screen

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self) -> tuple[str, str, str] | None:
        return ("", "", "") if self._quiet else None


class _Late:
    """The `measure` fixture's value: bound to a real Measure inside the item's own scope."""

    def __init__(self, benchmark: Any) -> None:
        self.benchmark = benchmark
        self._make: Callable[[], Measure] | None = None
        self._measure: Measure | None = None

    def bind(self, make: Callable[[], Measure]) -> None:
        self._make = make

    @property
    def now(self) -> Measure:
        if self._measure is None:
            assert self._make is not None  # noqa: S101 - pytest_pyfunc_call binds it first
            self._measure = self._make()
        return self._measure

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self.now(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.now, name)


def _nothing() -> None:
    """The work was done before."""


def _info(function: Callable[..., object], node: pytest.Item) -> WorkloadInfo:
    """`described`, with its error as pytest's."""
    try:
        return described(function, node)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error


def _matches(info: WorkloadInfo, glob: str) -> bool:
    """By name, or by category/name."""
    return any(fnmatchcase(text, glob) for text in (info.name, f"{info.category}/{info.name}"))


def _key(item: pytest.Item) -> tuple[WorkloadInfo, Series, int] | None:
    """Workload, series and boot of an item of ours."""
    callspec = getattr(item, "callspec", None)
    if callspec is None or "measure" not in callspec.params:
        return None
    series, boot = callspec.params["measure"]
    info = getattr(item, "_vbench_info", None)
    if info is None:
        assert isinstance(item, pytest.Function)  # noqa: S101 - it has a callspec
        info = _info(item.function, item)
        item._vbench_info = info  # type: ignore[attr-defined]
    return info, series, boot


# --------------------------------------------------------- `pytest -p vbench.pytest_plugin`


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vbench", "what to measure (as `vbench run`)")
    group.addoption("--backend", action="append", default=[], metavar="VARIANT")
    group.addoption("--workload", action="append", default=[], metavar="GLOB")
    group.addoption("--host", action="append", default=[], metavar="HOST")
    group.addoption("--rounds", type=int, default=None, metavar="N")
    group.addoption("--boots", type=int, default=None, metavar="N")
    group.addoption("--quick", action="store_true")
    group.addoption("--plugin", action="append", default=[], type=Path, metavar="FILE")


def pytest_configure(config: pytest.Config) -> None:
    """Make the session, unless `vbench run` brought its own."""
    config.addinivalue_line(
        "markers", "workload(category, unit, statistic): what a bench_* function measures"
    )
    if config.getoption("dist", "no") != "no" or hasattr(config, "workerinput"):
        raise pytest.UsageError(
            "vbench does not run under pytest-xdist: guests measured side by side disturb each "
            "other, and pytest-benchmark would write nothing. Use -p no:xdist."
        )
    if config.pluginmanager.has_plugin(PLUGIN_NAME) or config.option.collectonly:
        return
    from vbench.run.runner import RunOptions, open_session, say  # noqa: PLC0415 - it imports us

    options = RunOptions(
        variants=tuple(config.getoption("backend")),
        # pytest collects what its user wants; nothing is left out of that
        workloads=tuple(config.getoption("workload")) or ("*",),
        hosts=tuple(config.getoption("host")),
        rounds=config.getoption("rounds"),
        boots=config.getoption("boots"),
        quick=config.getoption("quick"),
        plugins=tuple(config.getoption("plugin")),
    )
    alone = contextlib.ExitStack()
    config.add_cleanup(alone.close)
    try:
        session = open_session(options)
        config.add_cleanup(session.close)
        alone.enter_context(measuring_alone(say))
    except VbenchError as error:
        raise pytest.UsageError(str(error)) from error
    plugin = RunPlugin(session, config.getoption("workload"), progress=False)
    config.pluginmanager.register(plugin, PLUGIN_NAME)
