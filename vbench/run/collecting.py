"""pytest in this process, cut off from the user's own set-up, and the workloads that files hold."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from vbench.contract.workload import describe
from vbench.errors import PluginError
from vbench.model import CATEGORIES, WorkloadInfo


def arguments(files: Sequence[Path]) -> list[str]:
    """pytest's own arguments for running `files` cut off from the user's pytest set-up."""
    ini = Path(__file__).parents[1] / "workloads" / "pytest.ini"
    return [
        *("-c", str(ini)),
        f"--rootdir={ini.parent}",
        "--noconftest",
        *("-p", "pytest_benchmark.plugin", "-p", "no:cacheprovider"),
        "--continue-on-collection-errors",
        *("--capture=no", "-qq", "--no-header", "--no-summary", "--benchmark-quiet"),
        *map(str, files),
    ]


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """No plugin and no option of the user's other pytest projects."""
    ours = {"PYTEST_ADDOPTS": None, "PYTEST_PLUGINS": None, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    before = {key: os.environ.get(key) for key in ours}
    _set_environment(ours)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(values: Mapping[str, str | None]) -> None:
    for key, value in values.items():
        os.environ.pop(key, None)
        if value is not None:
            os.environ[key] = value


class _Collector:
    def __init__(self) -> None:
        self.infos: dict[str, WorkloadInfo] = {}
        self.problems: list[str] = []

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "measure" in metafunc.fixturenames:
            info = described(metafunc.function, metafunc.definition)
            self.infos[info.name] = info

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.problems.append(report.longreprtext)


def collect(files: Sequence[Path]) -> list[WorkloadInfo]:
    """Every workload of `files`, by category, then as found. Raises PluginError."""
    collector = _Collector()
    with isolated(), contextlib.redirect_stdout(io.StringIO()):
        pytest.main([*arguments(files), "--collect-only"], plugins=[collector])
    if collector.problems:
        raise PluginError(
            "a workload file cannot be loaded", evidence="\n".join(collector.problems)
        )
    return sorted(collector.infos.values(), key=lambda info: CATEGORIES.index(info.category))


def described(function: Callable[..., object], node: pytest.Item) -> WorkloadInfo:
    """What the function and its marks say: its own mark wins over its file's."""
    stated: dict[str, object] = {}
    for mark in reversed(list(node.iter_markers("workload"))):
        stated.update(mark.kwargs)
    return describe(function, stated)
