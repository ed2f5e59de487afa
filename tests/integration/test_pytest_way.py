"""vbench as somebody's pytest, and as somebody's own workloads and backends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import Vbench, until

pytestmark = pytest.mark.tcg
CLONE = Path(__file__).parents[2]


def pytest_way(
    vbench: Vbench, *words: str, of: str = "workloads"
) -> subprocess.CompletedProcess[str]:
    # pytest-benchmark measures nothing in what xdist started, and takes these for the sign of it
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", of, "-p", "no:cacheprovider", *words],
        cwd=CLONE,
        env={
            **ours,
            "VBENCH_TMP": str(vbench.tmp),
            "VBENCH_LOCK": str(vbench.root / "lock"),
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_pytest_writes_a_file_for_both(vbench: Vbench, tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    done = pytest_way(
        vbench,
        *("--backend", "tcg-virtio", "--workload", "syscall-getppid"),
        *("--boots", "1", "--rounds", "2", "--benchmark-json", str(file)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    (entry,) = json.loads(file.read_text())["benchmarks"]
    assert entry["name"] == "syscall-getppid[tcg-virtio]"
    assert len(entry["stats"]["data"]) == 2

    copy = shutil.copy(file, tmp_path / "g.json")  # it cannot read one path twice
    compared = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", str(file), str(copy)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert compared.returncode == 0, compared.stderr
    assert compared.stdout.count("syscall-getppid[tcg-virtio]") == 2

    report = vbench.run("report", file)
    assert report.returncode == 0, report.stderr
    assert "syscall-getppid" in report.stdout
    again = vbench.run("report", file)
    assert again.stdout == report.stdout  # same file, same bytes


ENDS = """
import pytest, sys

pytestmark = pytest.mark.workload(category="cpu", unit="event")

def bench_cpu_skipped(measure):
    pytest.skip("no such CPU")

def bench_cpu_ended(measure):
    sys.exit(3)
"""


def test_skipped_is_unsupported_and_ended_is_failed(vbench: Vbench, tmp_path: Path) -> None:
    (tmp_path / "bench_mine.py").write_text(ENDS)
    done = pytest_way(
        vbench,
        *("-p", "vbench.pytest_plugin", "-o", "python_functions=bench_*", "-rs"),
        *("--backend", "tcg-virtio", "--boots", "1", "--rounds", "1"),
        of=str(tmp_path / "bench_mine.py"),
    )
    assert "1 failed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert "unsupported: no such CPU" in done.stdout
    assert "WorkloadError: the workload raised SystemExit: 3" in done.stdout


def test_xdist_is_refused(vbench: Vbench) -> None:
    done = pytest_way(vbench, "-n", "2", "--backend", "tcg-virtio")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "does not run under pytest-xdist" in done.stdout + done.stderr


BACKEND = """
import dataclasses
from vbench.contract.hookspecs import hookimpl
from vbench.plugins.tcg_virtio import BACKEND

@hookimpl
def vbench_backends():
    return [dataclasses.replace(BACKEND, name="mine", cpu="qemu64", summary="of my own")]

@hookimpl
def vbench_counters(guest):
    return {"asked": guest.machine.query("query-status") is not None}
"""
WORKLOAD = '''
def bench_cpu_mine(measure):
    """Counts."""
    measure(lambda n, endpoint: f"vbench-probe spin {n}", read=parsers.probe, initial_units=100000)
'''


def test_somebodys_own_backend_and_workload(vbench: Vbench, tmp_path: Path) -> None:
    """A third party's backend is launched, attested and measured like ours."""
    plugin = tmp_path / "mine.py"
    plugin.write_text(BACKEND)
    done = vbench.run(
        *("run", "--plugin", plugin, "--backend", "mine,vcpus=2", "--out", vbench.out),
        *("--boots", "1", "--rounds", "1", vbench.workload(WORKLOAD)),
    )
    assert done.returncode == 0, done.stderr
    entry = vbench.json()["benchmarks"][0]
    assert entry["name"] == "cpu-mine[mine,vcpus=2]"
    assert "asked" in entry["extra_info"]["vbench"]["counters"]
    (launch,) = vbench.json()["vbench"]["launches"]
    assert "qemu64" in launch["argv"]
    assert launch["argv"][launch["argv"].index("-smp") + 1] == "2"
    assert "mine,vcpus=2" in (vbench.out / "report.md").read_text()


HANGS_NATIVELY = '''
def bench_cpu_hang(measure):
    """Hangs."""
    measure(lambda n, endpoint: "sleep 985 & sleep 985; true", read=parsers.probe)
'''


def test_killed_in_a_native_round(vbench: Vbench) -> None:
    """What runs natively ends with us as well, and what that started."""
    process = vbench.start(
        *("run", "--backend", "tcg-virtio", "--out", vbench.out, vbench.workload(HANGS_NATIVELY))
    )

    try:
        assert until(lambda: sleeping() == 2, 120)
    finally:
        process.kill()
        process.communicate()
    assert until(lambda: sleeping() == 0, 2)


def sleeping() -> int:
    """How many of the workload's own processes there are on this machine."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += path.read_bytes() == b"sleep\0985\0"
        except OSError:
            continue
    return found
