"""The report of 1,000 made-up machines: seconds, MiB, and whether it finds those that deviate.

Also how often the report of a smaller fleet, in which none deviates, names one.

Run: python benchmarks/fleet.py [HOSTS]. Exits 1 above a target, or where a planted machine is not
found or another one is.
"""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import made_up

from vbench.model import HostKind, Pair, Result, Technique
from vbench.report.fleet import Fleet

TARGET_S, TARGET_MIB = 30.0, 500.0
VARIANTS = {"tcg": Technique.FULL, "kvm-virtio": Technique.HARDWARE}
CATEGORIES = ("cpu", "memory", "syscall", "disk", "network")
WORKLOADS = [f"{category}-{letter}" for category in CATEGORIES for letter in "abc"]
BOOTS, ROUNDS = 3, 3
MODELS = ("AMD EPYC 7763 64-Core Processor", "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz")
# Standard deviations of logarithms: between machines, boots, rounds
MACHINES, BETWEEN_BOOTS, BETWEEN_ROUNDS = 0.015, 0.02, 0.005
SLOW = 1.12  # a machine with another governor


def machine(number: int, rng: random.Random, *, slow: bool) -> Iterator[Result]:
    """The result files of one machine; `slow`: its governor is powersave, and native is slower."""
    facts = {
        "machine_id": f"m{number}",
        "address": f"a{number}",
        "cpu_model": MODELS[number % len(MODELS)],
        "cpus": "64",
        "memory_mib": "257000",
        "kernel": "6.1.0-37-amd64",
        "clocksource": "tsc",
        "governor": "powersave" if slow else "performance",
        "smt": "on",
        "mitigations": "mitigated: spectre_v2",
    }
    host = made_up.host(f"node{number:04}", facts, HostKind.REMOTE)
    own = {name: rng.gauss(0, MACHINES) for name in WORKLOADS}
    for variant, technique in VARIANTS.items():
        items = []
        for place, workload in enumerate(WORKLOADS):
            overhead = math.exp(own[workload]) * (2 + place / 5)
            native_s = 1e-6 * math.exp(own[workload]) * (SLOW if slow else 1)
            pairs = []
            for boot in range(BOOTS):
                shifts = [math.exp(rng.gauss(0, BETWEEN_BOOTS)) for _ in range(2)]
                for _ in range(ROUNDS):
                    native = native_s * shifts[0] * math.exp(rng.gauss(0, BETWEEN_ROUNDS))
                    guest = native * overhead * shifts[1] * math.exp(rng.gauss(0, BETWEEN_ROUNDS))
                    pairs.append(Pair(native, guest, boot, counters={"host_cpu_s": guest}))
            items.append(made_up.item(host, variant, technique, workload, pairs))
        yield made_up.result(host, variant, items)


def fleet(hosts: int, seed: int, slow: set[int]) -> Iterator[Result]:
    rng = random.Random(seed)  # noqa: S311 - made-up results
    for number in range(hosts):
        yield from machine(number, rng, slow=number in slow)


def named(found: Fleet) -> set[str]:
    return {each.machine.name for of in found.classes for each in of.deviations}


# a fresh interpreter: the user waits for its imports as well
SCRIPT = """
import json, resource, sys
from vbench.cli.main import main
status = main(["report", "--fleet", sys.argv[1], "-o", sys.argv[2], "--html", sys.argv[3]])
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))
"""


def timed(hosts: int) -> bool:
    """A report of so many machines, of which one in 50 is slow."""
    slow = set(range(7, hosts, 50))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for result in fleet(hosts, 1, slow):
            name = result.host.identity.partition(":")[2]
            made_up.write(result, folder / "results" / name / f"{result.variant}.json")
        files = [folder / "fleet.md", folder / "fleet.html"]
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, folder / "results", *files],
            check=True,
            stdout=subprocess.PIPE,
        )
        wall_s = time.monotonic() - began
        status, cpu_s, mib = json.loads(done.stdout)
        text, page = (file.read_text(encoding="utf-8") for file in files)
        samples = hosts * len(VARIANTS) * len(WORKLOADS) * BOOTS * ROUNDS
        print(
            f"{hosts:,} machines, {samples:,} samples: {cpu_s:.1f} s of CPU time ({wall_s:.1f} s), "
            f"target {TARGET_S:g} s; {mib:.0f} MiB, target {TARGET_MIB:g} MiB; "
            f"Markdown {len(text) / 2**20:.1f} MiB, HTML {len(page) / 2**20:.1f} MiB"
        )
        chapter = text.partition("\n## Machines that deviate")[2].partition("\n## ")[0]
        found = set(re.findall(r"^\| `remote:(node\d+)`", chapter, re.M))
        wanted = {f"node{number:04}" for number in slow}
        print(f"planted {len(wanted)} slow machines, found {len(wanted & found)} of them, "
              f"and {len(found - wanted)} others")  # fmt: skip
        return status == 0 and cpu_s <= TARGET_S and mib <= TARGET_MIB and found == wanted


def false_alarms(hosts: int, fleets: int) -> bool:
    """Fleets in which no machine deviates."""
    wrong = sum(
        bool(named(Fleet((None, each) for each in fleet(hosts, 100 + seed, set()))))
        for seed in range(fleets)
    )
    print(f"{fleets} fleets of {hosts} machines of which none deviates: {wrong} named one")
    return wrong <= 0.2 * fleets  # 5 % are to be expected; more than 20 % of 20 has p < 0.003


def main() -> int:
    hosts = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    return int(not all([timed(hosts), false_alarms(12, 20), false_alarms(100, 20)]))


if __name__ == "__main__":
    sys.exit(main())
