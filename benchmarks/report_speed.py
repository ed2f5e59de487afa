"""How long a report takes, reading, statistics and plots included: of many samples, and of many
variants.

Run: python benchmarks/report_speed.py. Exits 1 above a target.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import made_up

from vbench.model import CATEGORIES, Pair, Result, Technique

WORKLOADS, BOOTS = 20, 5

# a fresh interpreter each time: the user waits for its imports as well
SCRIPT = """
import sys
from pathlib import Path
from vbench.results import loading
from vbench import report
report.write(loading.load_all([Path(sys.argv[1])]), Path(sys.argv[1]) / "report.md")
"""


@dataclass(frozen=True)
class Case:
    variants: int
    rounds: int
    target_s: float

    @property
    def samples(self) -> int:
        return self.variants * WORKLOADS * BOOTS * self.rounds


CASES = (Case(variants=5, rounds=200, target_s=2.0), Case(variants=300, rounds=2, target_s=10.0))


def result(number: int, case: Case, rng: random.Random) -> Result:
    """One variant's share of the samples."""
    variant = f"tcg-virtio,vcpus={number + 1}"
    host = made_up.host("benchmark", {"cpu_model": "any"})
    technique = list(Technique)[number % len(Technique)]
    items = []
    for workload in range(WORKLOADS):
        pairs = [
            Pair(
                rng.lognormvariate(-14, 0.02),
                rng.lognormvariate(-13, 0.02),
                boot,
                counters={"host_cpu_s": rng.random(), "vcpu_wait_s": rng.random()},
            )
            for boot in range(BOOTS)
            for _ in range(case.rounds)
        ]
        category = CATEGORIES[workload % len(CATEGORIES)]
        name = f"workload-{workload}"
        items.append(made_up.item(host, variant, technique, name, pairs, category))
    return made_up.result(host, variant, items)


def seconds(case: Case) -> float:
    """The median of five reports, each by a fresh interpreter."""
    rng = random.Random(1)  # noqa: S311 - made-up samples
    with tempfile.TemporaryDirectory() as name:
        for number in range(case.variants):
            made_up.write(result(number, case, rng), Path(name) / f"{number}.json")
        times = []
        for _ in range(5):
            before = _children_s()
            subprocess.run([sys.executable, "-c", SCRIPT, name], check=True)
            times.append(_children_s() - before)
    return sorted(times)[2]


def _children_s() -> float:
    """Processor time of ended children: of one thread, and not longer on a busy machine."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    passed = True
    for case in CASES:
        median = seconds(case)
        passed &= median <= case.target_s
        print(
            f"report from {case.samples:,} samples of {case.variants} variants: {median:.2f} s "
            f"(median of 5), target {case.target_s:g} s"
        )
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
