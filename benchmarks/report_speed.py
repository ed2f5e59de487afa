"""How long a report takes from 100,000 samples, reading, statistics and plots included.

Run: python benchmarks/report_speed.py. Exits 1 above the target.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vbench.model import (
    CATEGORIES,
    HostFacts,
    HostKind,
    Item,
    Pair,
    Result,
    Statistic,
    Status,
    Technique,
    TimeBase,
)
from vbench.results import store

TARGET_S = 2.0
VARIANTS = ("tcg", "tcg-virtio", "kvm-emulated", "kvm-virtio", "xen-pv")
WORKLOADS, BOOTS, ROUNDS = 20, 5, 200  # 5 variants x 20 x 5 x 200 = 100,000 samples

# a fresh interpreter each time: the user waits for its imports as well
SCRIPT = """
import sys
from pathlib import Path
from vbench.results import loading
from vbench import report
report.write(loading.load_all([Path(sys.argv[1])]), Path(sys.argv[1]) / "report.md")
"""


def result(variant: str, rng: random.Random) -> Result:
    """One variant's share of the samples."""
    host = HostFacts("local:benchmark", HostKind.LOCAL, TimeBase.WALL, {"cpu_model": "any"})
    items = []
    for number in range(WORKLOADS):
        pairs = [
            Pair(
                rng.lognormvariate(-14, 0.02),
                rng.lognormvariate(-13, 0.02),
                boot,
                counters={"host_cpu_s": rng.random(), "vcpu_wait_s": rng.random()},
            )
            for boot in range(BOOTS)
            for _ in range(ROUNDS)
        ]
        items.append(
            Item(
                workload=f"workload-{number}",
                category=CATEGORIES[number % len(CATEGORIES)],
                unit="event",
                statistic=Statistic.RATIO,
                definition=str(number),
                backend=variant,
                variant=variant,
                technique=list(Technique)[VARIANTS.index(variant) // 2],
                host=host.identity,
                host_kind=host.kind,
                time_base=host.time_base,
                status=Status.OK,
                pairs=tuple(pairs),
            )
        )
    return Result(host, variant, tuple(items), (), "0", "image", "2026-01-01T00:00:00Z")


def main() -> int:
    rng = random.Random(1)  # noqa: S311 - made-up samples
    with tempfile.TemporaryDirectory() as name:
        for variant in VARIANTS:
            document = store.document(result(variant, rng))
            (Path(name) / f"{variant}.json").write_bytes(store.dumps(document))
        times = []
        for _ in range(5):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", SCRIPT, name], check=True)
            times.append(time.perf_counter() - began)
    samples = len(VARIANTS) * WORKLOADS * BOOTS * ROUNDS
    median = sorted(times)[2]
    print(f"report from {samples:,} samples: {median:.2f} s (median of 5), target {TARGET_S:g} s")
    return int(median > TARGET_S)


if __name__ == "__main__":
    sys.exit(main())
