"""vbench in pytest, for `pytest workloads --backend VARIANT`.

An item of pytest is one call of `Session.measure`, which is what `vbench run` calls in a loop of
its own. The pairs are then *replayed* into pytest-benchmark through a timer, for its table: a live
loop inside pytest-benchmark would lose the samples of an item that fails, and could not stop when
it has enough. What is written to `--benchmark-json` is what `vbench run` writes.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from vbench.contract.workload import Workload, described
from vbench.errors import StoreError, Unsupported, VbenchError
from vbench.measure.engine import Measure
from vbench.results import store
from vbench.run.collecting import by_name, collect
from vbench.run.lock import machines, measuring_alone
from vbench.run.opening import check, open_session
from vbench.run.options import RunOptions, say
from vbench.run.schedule import Task, schedule
from vbench.run.session import Session


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


class SessionPlugin:
    """The pytest plugin of one session. `globs` choose workloads; empty means all. `known` are the
    workloads whose names are taken."""

    def __init__(self, session: Session, globs: Sequence[str], known: Sequence[Workload]) -> None:
        self.session = session
        self._known = tuple(known)
        self._globs = tuple(globs)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "measure" in metafunc.fixturenames:
            with _as_pytests():
                info = described(metafunc.function).info
            params = [
                pytest.param((series, boot), id=f"{series.label}-boot{boot + 1}")
                for series in self.session.series
                for boot in range(self.session.plan(series).boots_of(info))
            ]
            metafunc.parametrize("measure", params, indirect=True)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """What `vbench run` would measure, in its order."""
        tasks = {item: task for item in items if (task := _task(item)) is not None}
        with _as_pytests():
            by_name([*self._known, *(task.workload for task in tasks.values())])
            workloads = by_name(task.workload for task in tasks.values())
            planned = schedule(
                self.session.series,
                list(workloads.values()),
                self._globs,
                self.session.plan,
                self.session.seed,
            )
        self.session.book.planned = len(planned)
        order = {task.key: number for number, task in enumerate(planned)}
        dropped = [item for item, task in tasks.items() if task.key not in order]
        kept = [item for item, task in tasks.items() if task.key in order]
        items[:] = sorted(kept, key=lambda item: order[tasks[item].key])
        config.hook.pytest_deselected(items=dropped)

    @pytest.fixture
    def measure(self, request: pytest.FixtureRequest) -> Any:
        """Stands for the Measure that `pytest_pyfunc_call` passes: pytest-benchmark's fixture."""
        # It takes the timer from the marker when it is made.
        request.node.add_marker(pytest.mark.benchmark(timer=Replay(), disable_gc=False))
        return request.getfixturevalue("benchmark")

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        task = _task(pyfuncitem)
        if task is None:
            return None
        benchmark: Any = pyfuncitem.funcargs["measure"]

        def call(measure: Measure) -> None:
            pyfuncitem.funcargs["measure"] = measure
            asked = inspect.signature(pyfuncitem.obj).parameters
            try:
                pyfuncitem.obj(**{k: v for k, v in pyfuncitem.funcargs.items() if k in asked})
            except pytest.skip.Exception as skipped:
                raise Unsupported(skipped.msg or "skipped") from skipped

        known = len(self.session.book.state(task).outcome.pairs)
        try:
            error = self.session.measure(task, call)
        except StoreError:
            pyfuncitem.session.shouldfail = "results cannot be written"
            raise
        durations = [pair.guest_s for pair in self.session.book.item(task).pairs[known:]]
        if durations:
            benchmark._timer.load(durations)
            benchmark.pedantic(lambda: None, rounds=len(durations))
        if isinstance(error, Unsupported):
            pytest.skip(f"unsupported: {error.what}")
        if error is not None:
            raise error
        return True

    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        """vbench's own entries; a file that holds one series is a result file of vbench too."""
        self.session.book.stop("pytest ended before all was measured")
        results = [self.session.book.result(series) for series in self.session.series]
        output_json["benchmarks"] = [each for one in results for each in store.entries(one)]
        if len(results) == 1:
            output_json["vbench"] = store.top_level(results[0])


@contextlib.contextmanager
def _as_pytests() -> Iterator[None]:
    """Our usage errors as pytest's."""
    try:
        yield
    except VbenchError as error:
        raise pytest.UsageError(str(error)) from error


def _task(item: pytest.Item) -> Task | None:
    """What a pytest item measures; None for one that is no workload."""
    callspec = getattr(item, "callspec", None)
    if callspec is None or "measure" not in callspec.params:
        return None
    series, boot = callspec.params["measure"]
    return Task(series, described(item.function), boot)  # type: ignore[attr-defined]


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
    """Open the session."""
    config.addinivalue_line(
        "markers", "workload(category, unit, statistic): what a bench_* function measures"
    )
    if config.getoption("dist", "no") != "no" or hasattr(config, "workerinput"):
        raise pytest.UsageError(
            "vbench does not run under pytest-xdist: guests measured side by side disturb each "
            "other, and pytest-benchmark would write nothing. Use -p no:xdist."
        )
    if config.option.collectonly:
        return
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
    with _as_pytests():
        asked = check(options)
        known = collect(asked.registry.workload_files())
        alone = contextlib.ExitStack()
        config.add_cleanup(alone.close)
        alone.enter_context(measuring_alone(machines(options.hosts, asked.variants), say))
        session = open_session(options, asked)
        alone.callback(session.close)
    config.pluginmanager.register(SessionPlugin(session, config.getoption("workload"), known))
