"""vbench in pytest: the replay timer, and what pytest makes of our errors."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbench.pytest_plugin import Replay, SessionPlugin
from vbench.run.collecting import PYTEST_WAY, collect
from vbench.system.filelock import locked

# ------------------------------------------------------------------ the replay timer


@given(st.lists(st.floats(0, allow_nan=False, allow_infinity=False)))
def test_replayed_durations_are_the_same_bits(durations: list[float]) -> None:
    timer = Replay()
    timer.load(durations)
    seen = []
    for _ in durations:
        start = timer()
        seen.append(timer() - start)
    assert [one.hex() for one in seen] == [one.hex() for one in durations]
    with pytest.raises(IndexError):
        timer()


def test_pytest_benchmark_keeps_every_bit(tmp_path: Path) -> None:
    """Through the real plugin: what it writes is what was measured, odd numbers included."""
    odd = [0.1, 1 / 3, 5e-324, 1e-9, 123456.789, 2**-40, 7.000000000000001]
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(f"""
        import pytest
        from vbench.pytest_plugin import Replay
        timer = Replay()
        @pytest.mark.benchmark(timer=timer, disable_gc=False)
        def test_it(benchmark):
            timer.load({odd})
            benchmark.pedantic(lambda: None, rounds={len(odd)})
        """)
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull),
            *("--rootdir", tmp_path, f"--benchmark-json={tmp_path / 'f.json'}", tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (entry,) = json.loads((tmp_path / "f.json").read_text())["benchmarks"]
    assert entry["stats"]["data"] == odd


# ------------------------------------------------------------------ as somebody's own pytest


def pytest_way(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    workloads = Path(__file__).parents[2] / "workloads"
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(workloads), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_collecting_starts_nothing(tmp_path: Path) -> None:
    done = pytest_way(tmp_path, "--collect-only", "-q")
    assert done.returncode == 0, done.stdout
    assert "bench_syscall_getppid" in done.stdout


def test_what_vbench_run_refuses_pytest_collects(tmp_path: Path) -> None:
    """The command that `vbench run` advises."""
    (tmp_path / "bench_mine.py").write_text(
        "import pytest\n@pytest.mark.workload(unit='x')\ndef bench_a(measure, tmp_path): ...\n"
    )
    words = shlex.split(f"{PYTEST_WAY} bench_mine.py --collect-only -q")
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bench_mine.py::bench_a" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--backend", "tgc"), "did you mean 'tcg'?"),
        (("--backend", "tcg", "--rounds", "0"), "at least 1"),
        (("--host", "moon"), "there is no host 'moon'"),
    ],
)
def test_usage_errors_are_pytests(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = pytest_way(tmp_path, *words)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_is_probed_while_another_run_measures(tmp_path: Path) -> None:
    """A probe keeps a CPU busy, and so does the building of an image."""
    probed, file, taken = tmp_path / "probed", tmp_path / "mine.py", str(tmp_path / "lock")
    file.write_text(
        textwrap.dedent(f"""
        import dataclasses, pathlib
        from vbench.contract.hookspecs import hookimpl
        from vbench.plugins.tcg import BACKEND

        class Probed(type(BACKEND)):
            def probe(self, host, options):
                pathlib.Path({str(probed)!r}).touch()
                raise SystemExit(3)

        @hookimpl
        def vbench_backends():
            fields = {{f.name: getattr(BACKEND, f.name) for f in dataclasses.fields(BACKEND)}}
            return [Probed(**{{**fields, "name": "probed"}})]
        """)
    )
    words = ["-p", "no:cacheprovider", "--backend", "probed", "--plugin", str(file)]
    workloads = Path(__file__).parents[2] / "workloads"
    with locked(taken, mode=0o600, timeout_s=1, on_wait=print, holder="pid 1: somebody"):
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", str(workloads), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "VBENCH_LOCK": taken},
        )
        assert process.stdout is not None
        assert "pid 1: somebody" in process.stdout.readline()
        assert not probed.exists()
    with process:
        process.stdout.read()
    assert probed.exists()


@pytest.mark.workload(category="cpu", unit="x")
def bench_cpu_prime(measure: Any) -> None:
    """Somebody's own."""


class Item:
    """One call of it, as pytest has it."""

    function = staticmethod(bench_cpu_prime)

    def __init__(self) -> None:
        self.callspec = SimpleNamespace(params={"measure": (None, 0)})


def test_a_workload_of_one_s_own_takes_no_name_of_ours() -> None:
    known = collect([Path(__file__).parents[2] / "workloads/bench_cpu.py"])
    plugin = SessionPlugin(cast(Any, None), (), known)
    with pytest.raises(pytest.UsageError, match="two workloads are called cpu-prime"):
        plugin.pytest_collection_modifyitems(cast(Any, None), [cast(Any, Item())])
