"""How often the workflow's gate finds a planted regression, and how often it raises a false alarm.

Runs the steps of .github/workflows/vbench.yml that lie between the runners' artefacts and the next
base, with the real `vbench`, on made-up results of four runners on each side.

Run: python benchmarks/gate.py [REPETITIONS [FACTOR [BASES]]]. The spreads are FACTOR times as
large. BASES runs on main came before; the default is 1.
Exits 1 unless each planted regression is found and nothing else ever fails.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import made_up
import yaml

from vbench.model import Pair, Result, Technique

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / ".github/workflows/vbench.yml"
RUNNERS = 4
VARIANTS = {
    "tcg": Technique.FULL,
    "tcg-virtio": Technique.PARA,
    "kvm-emulated": Technique.HARDWARE,
    "kvm-virtio": Technique.HARDWARE,
}
CATEGORIES = ("cpu", "memory", "syscall", "disk", "network")
WORKLOADS = [f"{category}-{letter}" for category in CATEGORIES for letter in "abcde"]
BOOTS, ROUNDS = 2, 2  # as the workflow has them


@dataclass(frozen=True)
class Planted:
    """Makes the series that it names slower by `share`."""

    share: float = 0.0
    variants: tuple[str, ...] = tuple(VARIANTS)
    workloads: tuple[str, ...] = tuple(WORKLOADS)
    wild: float = 1.0  # how many times as slow runner 1 is besides

    def factor(self, variant: str, workload: str) -> float:
        hit = variant in self.variants and workload in self.workloads
        return 1 + self.share if hit else 1.0


@dataclass(frozen=True)
class Spread:
    """Standard deviations of the logarithm of an overhead: how real runners differ.

    Medians; each workload has its own, up to some three times larger or smaller.
    """

    machines: float = 0.015
    boots: float = 0.02
    rounds: float = 0.005


def runner(
    number: int, seed: str, spread: Spread, planted: Planted, started: str = made_up.STARTED
) -> Iterator[Result]:
    """The result files of one runner: a file for each variant."""
    rng = random.Random(f"{seed} {number}")  # noqa: S311 - made-up results
    facts = {
        "machine_id": f"{seed}-{number}",
        "address": f"{seed}-{number}",
        "cpu_model": "AMD EPYC 7763 64-Core Processor",
        "cpus": "4",
        "memory_mib": "15989",
        "kernel": "6.11.0-1018-azure",
        "clocksource": "tsc",
    }
    host = made_up.host(f"{seed}-{number}", facts)
    for variant, technique in VARIANTS.items():
        items = []
        for workload in WORKLOADS:
            own = random.Random(workload)  # noqa: S311 - the same in every run
            overhead, wild = own.uniform(1, 20), own.lognormvariate(0, 0.4)
            overhead *= planted.factor(variant, workload)
            overhead *= planted.wild if number == 1 else 1
            level = math.log(overhead) + rng.gauss(0, spread.machines * wild)
            pairs = []
            for boot in range(BOOTS):
                shift = level + rng.gauss(0, spread.boots * wild)
                for _ in range(ROUNDS):
                    native = 1e-6 * math.exp(rng.gauss(0, 0.05))
                    guest = native * math.exp(shift + rng.gauss(0, spread.rounds))
                    pairs.append(Pair(native, guest, boot))
            items.append(made_up.item(host, variant, technique, workload, pairs))
        yield made_up.result(host, variant, items, started)


class Job:
    """The workflow's job `merge` in a folder, step by step, with the real `vbench`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output"
        self.runs = 0
        steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["merge"]["steps"]
        self.steps: dict[str, Any] = {step["name"]: step for step in steps if "run" in step}
        vbench = folder / "temp/vbench/bin/vbench"
        vbench.parent.mkdir(parents=True)
        vbench.write_text(f'#!/bin/sh\nexec {sys.executable} -m vbench.cli "$@"\n')
        vbench.chmod(0o755)

    def artefacts(self, side: str, spread: Spread, planted: Planted) -> None:
        """What the runners' jobs uploaded."""
        subprocess.run(["rm", "-rf", "artefacts", "results"], cwd=self.folder, check=True)
        self.runs += 1
        started = f"2026-01-{self.runs:02}T00:00:00Z"
        for number in range(1, RUNNERS + 1):
            folder = self.folder / f"artefacts/vbench-runner-{number}"
            for result in runner(number, side, spread, planted, started):
                made_up.write(result, folder / f"local-{result.variant}.json")

    def run(self, name: str, env: Mapping[str, str] | None = None) -> int:
        """The exit status of a step."""
        self.output.write_text("")
        script = self.folder / "step.sh"
        script.write_text(self.steps[name]["run"])
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "RUNNER_TEMP": str(self.folder / "temp"),
                "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
                "GITHUB_OUTPUT": str(self.output),
                "GITHUB_RUN_ID": str(self.runs),
                "GITHUB_EVENT_NAME": "push",
                "FAIL_ABOVE": "10",
                "ALLOW_MISSING": "false",
                **(env or {}),
            },
            stdout=subprocess.DEVNULL,
            check=False,
            timeout=300,
        )
        return done.returncode

    def gate(self, *, measured: str = "success") -> tuple[int, bool]:
        """(the gate's exit status, whether these results became the base), by all steps that lie
        between artefacts and base."""
        assert self.run("Gather the JSON of all runners") == 0
        assert self.run("Write the report") == 0
        status = self.run("Compare with the base")
        written = dict(line.split("=") for line in self.output.read_text().split())
        env = {"MEASURED": measured, "STATUS": written.get("status", "")}
        assert self.run("Make this the base", env) == 0
        return status, "made=yes" in self.output.read_text()


CASES = {
    "nothing changed": Planted(),
    "15 % in all of kvm-virtio": Planted(0.15, variants=("kvm-virtio",)),
    "15 % in one series of 100": Planted(0.15, ("kvm-virtio",), ("disk-b",)),
    "15 % everywhere, and one of four runners ten times as slow": Planted(0.15, wild=10),
}


def main() -> int:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    factor = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    bases = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    spread = Spread(*(factor * value for value in astuple(Spread())))
    rates = {}
    for case, planted in CASES.items():
        failed = undecided = 0
        for i in range(repetitions):
            with tempfile.TemporaryDirectory() as name:
                job = Job(Path(name))
                for run in range(bases):
                    job.artefacts(f"base{i}-{run}", spread, Planted())
                    job.gate()
                job.artefacts(f"new{i}", spread, planted)
                status, based = job.gate()
                assert status in (0, 1, 6), (Path(name) / "compare.txt").read_text()
                assert based == (status == 0)
                failed += status != 0
                undecided += status == 6
        rates[case] = failed
        print(
            f"{case}: the gate failed {failed} of {repetitions} times, "
            f"{undecided} of them undecided",
            flush=True,
        )
    print(json.dumps(rates))
    wanted = {case: repetitions if planted.share else 0 for case, planted in CASES.items()}
    return int(rates != wanted)


if __name__ == "__main__":
    sys.exit(main())
