"""./bench and ./test on a copy of the clone whose Python packages are fakes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with a .venv that is there already; pip and vbench only record their calls."""
    root = tmp_path / "a clone"
    for name in ("bench", "test", "tools/bootstrap.sh", "pyproject.toml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    (root / "vbench/system").mkdir(parents=True)
    (root / "vbench/__init__.py").touch()
    (root / "vbench/system/__init__.py").touch()
    (root / "vbench/system/__main__.py").write_text("print('system packages are there')\n")
    fake(root, "python", "")
    fake(root, "vbench", "")
    return root


def fake(root: Path, name: str, script: str) -> None:
    path = root / ".venv/bin" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "{name} $*" >>"{root}/calls"\n{script}\n')
    path.chmod(0o755)


def calls(root: Path, word: str) -> list[str]:
    return [line for line in (root / "calls").read_text().splitlines() if word in line]


def bench(root: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [root / "bench", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, **environment},
    )


# `vbench run --out DIR`: DIR is the third word.
REPORT = 'mkdir -p "$3"; echo "# Report" >"$3/report.md"'


def test_a_report_becomes_the_latest(clone: Path) -> None:
    fake(clone, "vbench", f"echo measured; {REPORT}")
    done = bench(clone, "--quick", "a b.py")
    assert done.returncode == 0
    assert done.stdout == "measured\n", "standard output is vbench's alone"
    assert calls(clone, "vbench run")[0].endswith("--quick a b.py")
    latest = clone / "reports/latest"
    assert latest.is_symlink()
    assert (latest / "report.md").read_text() == "# Report\n"

    first = latest.resolve()
    time.sleep(1)
    assert bench(clone).returncode == 0
    assert latest.resolve() != first, "a run never overwrites another"
    assert (first / "report.md").exists()


def test_a_partial_report_counts_and_the_status_is_vbenchs(clone: Path) -> None:
    fake(clone, "vbench", f"{REPORT}; exit 1")
    assert bench(clone).returncode == 1
    assert (clone / "reports/latest/report.md").exists()


PARTIAL = f"{REPORT}; echo '**Partial report.** 1 of 2' >>\"$3/report.md\""


def test_a_partial_report_takes_no_complete_ones_place(clone: Path) -> None:
    fake(clone, "vbench", f"{PARTIAL}; exit 130")
    assert bench(clone).returncode == 130
    partial = (clone / "reports/latest").resolve()  # better than none
    time.sleep(1)
    fake(clone, "vbench", REPORT)
    bench(clone)
    complete = (clone / "reports/latest").resolve()
    assert complete != partial
    time.sleep(1)
    fake(clone, "vbench", f"{PARTIAL}; exit 130")
    done = bench(clone)
    assert "partial report: " in done.stderr
    assert (clone / "reports/latest").resolve() == complete


def test_a_run_is_resumed_where_it_is(clone: Path, tmp_path: Path) -> None:
    fake(clone, "vbench", ":")
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "report.md").write_text("# Report\n")
    bench(clone, "--resume", str(folder))
    assert calls(clone, "vbench run")[-1].endswith(f"run --resume {folder}")
    assert (clone / "reports/latest").resolve() == folder


def test_the_latest_run_is_resumed_by_its_link(clone: Path) -> None:
    fake(clone, "vbench", f"{PARTIAL}; exit 130")
    bench(clone)
    folder = (clone / "reports/latest").resolve()
    fake(clone, "vbench", ":")
    bench(clone, "--resume", "reports/latest/")
    assert (clone / "reports/latest").resolve() == folder
    assert (clone / "reports/latest/report.md").is_file()


def test_no_report_leaves_the_latest_as_it_was(clone: Path) -> None:
    fake(clone, "vbench", REPORT)
    bench(clone)
    before = (clone / "reports/latest").resolve()
    fake(clone, "vbench", "exit 3")
    assert bench(clone).returncode == 3
    assert (clone / "reports/latest").resolve() == before
    assert [p.name for p in (clone / "reports").iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_what_ends_bench_reaches_vbench_which_may_still_write(
    clone: Path, ending: signal.Signals
) -> None:
    fake(
        clone,
        "vbench",
        f"trap '{REPORT}; exit 130' TERM; : >\"{clone}/ready\"; while :; do sleep 0.05; done",
    )
    # of the four none is ignored, however the tests were started: a shell cannot trap what is
    bench = ["env", "--default-signal=INT,TERM,HUP,QUIT", clone / "bench"]
    process = subprocess.Popen(bench, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        end = time.monotonic() + 20
        while not (clone / "ready").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(ending)
        assert process.wait(20) == 130
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
    assert (clone / "reports/latest/report.md").exists()


def test_pip_runs_once_and_again_when_the_project_changes(clone: Path) -> None:
    bench(clone)
    bench(clone)
    assert len(calls(clone, "pip install")) == 1
    with (clone / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    bench(clone)
    assert len(calls(clone, "pip install")) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PYTHONSAFEPATH", "1"),
        ("PYTHONHOME", "/nonexistent"),
        ("PYTHONPATH", "/nonexistent"),
        ("PYTHONIOENCODING", "latin-1"),
        ("PYTHONWARNINGS", "error"),
        ("PIP_USER", "1"),
        ("PIP_TARGET", "/nonexistent"),
        ("PIP_NO_DEPS", "1"),
        ("HOME", ""),
    ],
)
def test_the_users_python_settings_do_no_harm(clone: Path, name: str, value: str) -> None:
    for program in ("python", "vbench"):
        fake(
            clone, program, f'env >>"{clone}/environment"; {REPORT if program == "vbench" else ""}'
        )
    done = bench(clone, **{name: value})
    assert done.returncode == 0, done.stderr
    environment = (clone / "environment").read_text().splitlines()
    assert [line for line in environment if line.startswith(f"{name}=")] == []
    assert "--no-user" in calls(clone, "pip install")[0]


def test_where_packages_come_from_stays_the_users_choice(clone: Path) -> None:
    fake(clone, "python", f'env >>"{clone}/environment"')
    kept = {
        "PIP_INDEX_URL": "http://index.example/simple",
        "PIP_EXTRA_INDEX_URL": "http://other.example/simple",
        "PIP_FIND_LINKS": "/wheels",
        "PIP_CERT": "/ca.pem",
        "PIP_DEFAULT_TIMEOUT": "9",
    }
    bench(clone, **kept)
    environment = (clone / "environment").read_text().splitlines()
    assert {f"{name}={value}" for name, value in kept.items()} <= set(environment)


def test_bench_is_found_from_anywhere(clone: Path) -> None:
    """CDPATH makes `cd` go elsewhere, and print where."""
    (clone.parent / "elsewhere" / clone.name).mkdir(parents=True)
    done = subprocess.run(
        [f"{clone.name}/bench"],
        cwd=clone.parent,
        env={**os.environ, "CDPATH": str(clone.parent / "elsewhere")},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr


def test_a_failing_pip_is_tried_again(clone: Path) -> None:
    fake(clone, "python", 'case "$*" in *install*) exit 1 ;; esac')
    assert bench(clone).returncode == 1
    assert bench(clone).returncode == 1
    assert len(calls(clone, "pip install")) == 2
    assert calls(clone, "vbench run") == []


def test_setup_that_cannot_ends_it(clone: Path) -> None:
    (clone / "vbench/system/__main__.py").write_text(
        "import sys; print('install x'); sys.exit(3)\n"
    )
    done = bench(clone)
    assert done.returncode == 3
    assert "install x" in done.stderr


def test_test_is_tox_with_its_options(clone: Path) -> None:
    fake(clone, "python", 'case "$*" in *"-m tox"*) exit 7 ;; esac')
    done = subprocess.run(
        [clone / "test", "-e", "unit"], capture_output=True, check=False, timeout=30
    )
    assert done.returncode == 7
    assert calls(clone, "-m tox") == ["python -m tox -e unit"]
    assert ".[test]" in calls(clone, "pip install")[0]
