"""The GitHub workflows and the composite action: each shell step is checked, and those that measure
are run with a `vbench` that records how it was called. The gate: test_workflow_gate.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from vbench.cli.parser import parser
from vbench.contract.registry import Registry
from vbench.run.collecting import collect

ROOT = Path(__file__).parents[2]
ACTION = ROOT / "action.yml"
WORKFLOW = ROOT / ".github/workflows/vbench.yml"
COUNTED = ROOT / ".github/workflows/counted.yml"
# What GitHub runs for `shell: bash`.
BASH = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def all_steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for step in load(ACTION)["runs"]["steps"]:
        yield "action", step
    for workflow in (WORKFLOW, COUNTED):
        for name, job in load(workflow)["jobs"].items():
            for step in job["steps"]:
                yield f"{workflow.stem} {name}", step


SHELL_STEPS = {
    f"{where}: {step['name']}": step["run"] for where, step in all_steps() if "run" in step
}


def shellcheck() -> str:
    beside = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("shellcheck")
    if not found:
        pytest.skip("shellcheck is not installed")
    return found


@pytest.mark.parametrize("name", SHELL_STEPS)
def test_shell_steps_are_sound(name: str) -> None:
    script = SHELL_STEPS[name]
    # Expressions go through `env`: pasted into a script they would be code.
    assert "${{" not in script
    assert len(script.splitlines()) <= 10
    subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=30)
    check = [shellcheck(), "-x", "--shell=bash", "-"]
    done = subprocess.run(
        check,
        input=f"set -eo pipefail\n{script}",
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.stdout == ""


@pytest.mark.parametrize("script", ["bench", "test", ".ci/run", "tools/bootstrap.sh"])
def test_scripts_parse(script: str) -> None:
    subprocess.run(["sh", "-n", ROOT / script], check=True, timeout=30)
    assert script == "tools/bootstrap.sh" or os.access(ROOT / script, os.X_OK)


def test_actionlint() -> None:
    if not shutil.which("actionlint"):
        pytest.skip("actionlint is not installed")
    subprocess.run(["actionlint", WORKFLOW, COUNTED], cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize("workflow", [WORKFLOW, COUNTED])
def test_jobs_end_and_may_not_write(workflow: Path) -> None:
    assert all("timeout-minutes" in job for job in load(workflow)["jobs"].values())
    assert load(workflow)["permissions"] == {"contents": "read"}


def test_every_runner_measures_every_backend() -> None:
    """Only so are there several machines for each series."""
    job = load(WORKFLOW)["jobs"]["measure"]
    assert len(job["strategy"]["matrix"]["runner"]) == 4
    assert job["strategy"]["fail-fast"] is False
    (used,) = [step["with"] for step in job["steps"] if step.get("uses") == "./"]
    assert used["backend"].split() == ["tcg", "tcg-virtio", "kvm-emulated", "kvm-virtio"]


def test_the_workflows_use_inputs_that_the_action_has() -> None:
    inputs = load(ACTION)["inputs"]
    used = [step["with"] for _, step in all_steps() if step.get("uses") == "./"]
    assert len(used) == 2
    assert all(set(each) <= set(inputs) for each in used)
    text = ACTION.read_text()
    assert all(f"inputs.{name} " in text for name in inputs)


def test_workloads_and_backends_that_workflows_name_are_there() -> None:
    registry = Registry.load()
    known = {workload.info.name for workload in collect(registry.workload_files())}
    for _, step in all_steps():
        if step.get("uses") == "./":
            assert set(step["with"].get("workloads", "").split()) <= known
            assert all(registry.variant(text) for text in step["with"]["backend"].split())


class Runner:
    """A GitHub runner's folders, with recording fakes for vbench and sudo."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.summary = folder / "summary.md"
        self.calls = folder / "calls"
        self.tools = folder / "tools"
        self.fake("temp/vbench/bin/vbench", "vbench")
        self.fake("tools/sudo", "sudo")

    def fake(self, path: str, name: str, script: str = "") -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        record = "import json, sys; print(json.dumps(sys.argv[1:]))"
        target.write_text(
            f'#!/bin/sh\n{sys.executable} -c "{record}" {name} "$@" >>{self.calls}\n{script}\n'
        )
        target.chmod(0o755)

    def run(self, step: str, env: Mapping[str, str] | None = None) -> int:
        script = self.folder / "step.sh"
        script.write_text(SHELL_STEPS[step])
        done = subprocess.run(
            [*BASH, script],
            cwd=self.folder,
            env={
                "PATH": f"{self.tools}:{os.environ['PATH']}",
                "RUNNER_TEMP": str(self.folder / "temp"),
                "GITHUB_STEP_SUMMARY": str(self.summary),
                "GITHUB_ACTION_PATH": str(self.folder),
                **(env or {}),
            },
            check=False,
            timeout=60,
        )
        return done.returncode

    def called(self) -> list[list[str]]:
        if not self.calls.exists():
            return []
        return [json.loads(line) for line in self.calls.read_text().splitlines()]


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.mark.parametrize("step", ["action: Install", "vbench merge: Install"])
def test_installing_goes_by_no_setting_of_the_jobs(runner: Runner, step: str) -> None:
    """Under PYTHONSAFEPATH `python3 -m` finds nothing of the clone, under PIP_USER pip refuses."""
    for path in ("vbench/system", "venv", "tools"):
        (runner.folder / path).mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "tools/bootstrap.sh", runner.folder / "tools")
    for path in ("vbench/system/__main__.py", "venv/__init__.py", "venv/__main__.py"):
        (runner.folder / path).touch()
    runner.fake("temp/vbench/bin/pip", "pip", 'exit "${PIP_USER-0}"')
    assert runner.run(step, {"PYTHONSAFEPATH": "1", "PIP_USER": "1", "HOME": "/"}) == 0
    assert runner.called() == [["pip", "install", "--quiet", "."]]


def accepted(call: list[str]) -> Any:
    """The call as vbench's own command line reads it; SystemExit if an option does not exist."""
    assert call[0] == "vbench"
    return parser().parse_args(call[1:])


def test_measure_passes_its_inputs_on(runner: Runner) -> None:
    env = {
        "BACKENDS": "tcg,vcpus=2  kvm-virtio",
        "WORKLOADS": "cpu-*\n  disk-*\n",
        "HOST": "testbed",
        "BOOTS": "2",
        "ROUNDS": "3",
        "OUT": "a folder",
    }
    assert runner.run("action: Measure", env) == 0
    (call,) = runner.called()
    read = accepted(call)
    assert read.variants == ["tcg,vcpus=2", "kvm-virtio"]
    assert read.workloads == ["cpu-*", "disk-*"]
    assert read.hosts == ["testbed"]
    assert (read.boots, read.rounds, read.out) == (2, 3, Path("a folder"))


DEFAULTS = {
    "BACKENDS": "tcg",
    "HOST": "local",
    "WORKLOADS": "",
    "BOOTS": "",
    "ROUNDS": "",
    "OUT": "out",
}


def test_measure_with_defaults_names_no_workload(runner: Runner) -> None:
    assert runner.run("action: Measure", DEFAULTS) == 0
    (call,) = runner.called()
    assert call == ["vbench", "run", "--host", "local", "--out", "out", "--backend", "tcg"]


def test_measure_fails_with_vbench(runner: Runner) -> None:
    runner.fake("temp/vbench/bin/vbench", "vbench", "exit 3")
    assert runner.run("action: Measure", DEFAULTS) == 3


def test_an_input_is_never_code(runner: Runner) -> None:
    env = {**DEFAULTS, "BACKENDS": "$(touch owned)", "WORKLOADS": "`touch owned`"}
    runner.run("action: Measure", env)
    assert not (runner.folder / "owned").exists()


def test_doctor_never_ends_a_job(runner: Runner) -> None:
    runner.fake("temp/vbench/bin/vbench", "vbench", "exit 3")
    assert runner.run("action: What this runner can do") == 0
    accepted(runner.called()[0])


def test_opening_kvm_survives_a_runner_without_it(runner: Runner) -> None:
    step = "action: Open /dev/kvm, user namespaces and taps to the runner's user"
    runner.fake(
        "tools/sudo", "sudo", 'case "$1 $2" in "tee "*) cat ;; *--name-match*) exit 1 ;; esac'
    )
    assert runner.run(step) == 0
    assert ["sudo", "udevadm", "control", "--reload-rules"] in runner.called()


def test_the_report_of_one_backend_reaches_the_summary(runner: Runner) -> None:
    assert runner.run("action: Show the report", {"OUT": "none"}) == 0
    assert not runner.summary.exists()
    (runner.folder / "out").mkdir()
    (runner.folder / "out/report.md").write_text("# Report\n")
    assert runner.run("action: Show the report", {"OUT": "out"}) == 0
    assert runner.summary.read_text() == "# Report\n"


@pytest.mark.parametrize("status", [0, 1, 4, 6])
@pytest.mark.parametrize("allow", ["", "false", "true"])
def test_the_actions_gate(runner: Runner, status: int, allow: str) -> None:
    runner.fake("temp/vbench/bin/vbench", "vbench", f"exit {status}")
    env = {"BASELINE": "base", "OUT": "new", "FAIL_ABOVE": "5", "ALLOW_MISSING": allow}
    assert runner.run("action: Compare", env) == status
    read = accepted(runner.called()[0])
    assert (read.bases, read.new, read.fail_above) == ([Path("base")], Path("new"), 5.0)
    assert read.allow_missing == (allow == "true")
