"""Whether `vbench history` finds a planted change of level, and how often it finds one where there
is none.

Made-up histories of 60 runs with 20 series each. In some a series becomes slower by 10 % at a run
of its own. The noise of a run is like the run before it to 0.3, and one run of 40 is wild.

Run: python benchmarks/history.py [HISTORIES]. Exits 1 unless each planted change is found within
one run of its place, and no more than one of 20 histories has a change that was not planted.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import made_up

from vbench.model import Pair, Result, Technique
from vbench.report.timeline import Timeline

RUNS, BOOTS = 60, 3
VARIANTS = {"tcg": Technique.FULL, "kvm-virtio": Technique.HARDWARE}
WORKLOADS = [f"workload-{letter}" for letter in "abcdefghij"]
# Standard deviations of logarithms between runs and boots; likeness of a run to the one before
BETWEEN_RUNS, BETWEEN_BOOTS, LIKE = 0.01, 0.02, 0.3
WILD, WILD_SHARE = 0.15, 1 / 40
HOST = made_up.host("node", {"kernel": "6.1", "cpu_model": "any"})


@dataclass(frozen=True)
class Planted:
    """A series that becomes slower at a run."""

    variant: str
    workload: str
    at: int
    share: float = 0.10


def history(rng: random.Random, planted: Planted | None) -> Iterator[Result]:
    """Sixty runs, a file for each variant."""
    drift = {(v, w): rng.gauss(0, BETWEEN_RUNS) for v in VARIANTS for w in WORKLOADS}
    for run in range(RUNS):
        for variant, technique in VARIANTS.items():
            items = []
            for place, workload in enumerate(WORKLOADS):
                key = variant, workload
                fresh = rng.gauss(0, BETWEEN_RUNS * math.sqrt(1 - LIKE**2))
                drift[key] = LIKE * drift[key] + fresh
                level = math.log(1.2 + place / 4) + drift[key]
                if rng.random() < WILD_SHARE:
                    level += rng.choice((-1, 1)) * WILD
                if planted and key == (planted.variant, planted.workload) and run >= planted.at:
                    level += math.log1p(planted.share)
                logs = [level + rng.gauss(0, BETWEEN_BOOTS) for _ in range(BOOTS)]
                pairs = [Pair(1e-6, 1e-6 * math.exp(log), boot) for boot, log in enumerate(logs)]
                items.append(made_up.item(HOST, variant, technique, workload, pairs, "cpu"))
            started = f"2026-{1 + run // 28:02}-{1 + run % 28:02}T00:00:00Z"
            yield made_up.result(HOST, variant, items, started)


def turns(results: Iterator[Result]) -> list[tuple[str, str, int]]:
    """Variant, workload and place of each change that is found."""
    return [
        (line.name.variant, line.name.workload, turn.at)
        for line in Timeline(results).lines
        for turn in line.turns
    ]


def main() -> int:
    histories = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    began = time.process_time()
    found = wrong = false = 0
    for number in range(histories):
        rng = random.Random(number)  # noqa: S311 - made-up results
        series = rng.choice(list(VARIANTS)), rng.choice(WORKLOADS)
        planted = Planted(*series, at=rng.randint(10, RUNS - 8))
        made = turns(history(rng, planted))
        near = [one for one in made if one[:2] == series and abs(one[2] - planted.at) <= 1]
        found += bool(near)
        wrong += len(made) > len(near)
        false += bool(turns(history(rng, None)))
    each_s = (time.process_time() - began) / histories / 2
    print(f"a change of 10 % in one of 20 series of {RUNS} runs: found in {found} of {histories} "
          f"histories; another one was found as well in {wrong}")  # fmt: skip
    print(f"histories without a change: one was found in {false} of {histories}")
    print(f"CPU time of a history, its making included: {each_s:.2f} s")
    return int(found < histories or false + wrong > histories / 10)


if __name__ == "__main__":
    sys.exit(main())
