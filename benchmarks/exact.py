"""Are counts exact? python benchmarks/exact.py [--out DIR] [--backend VARIANT] [--workload GLOB]

Measures in the testbed twice: once as the machine is, once with a spinning loop on each CPU. The
two runs share no boot. Prints a table of both, and ends with 1 if a figure that the report calls a
count differs by more than 0.1 %.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vbench.model import Item, Statistic, Status
from vbench.results.exactness import reasons
from vbench.results.formatting import table
from vbench.results.loading import load_all

LIMIT_PERCENT = 0.1
BACKENDS = ("kvm-virtio", "xen-pv")
WORKLOADS = ("cpu/*", "memory/*", "syscall/*", "interrupt/*", "exit/*", "disk/*", "network/*")


@dataclass(frozen=True)
class Figure:
    """Instructions per unit of work on one side of an item, in both runs, and in which range."""

    name: str
    side: str
    counted: bool
    quiet: float
    loaded: float
    equal: float | None  # least share of groups within 0.1 % of the median

    @property
    def percent(self) -> float:
        return 100 * abs(self.loaded - self.quiet) / self.quiet


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("exact-results"))
    parser.add_argument("--backend", action="append")
    parser.add_argument("--workload", action="append")
    options = parser.parse_args()
    runs = []
    for name, load in (("quiet", contextlib.nullcontext()), ("loaded", spinning())):
        with load:
            words = [
                *(w for each in options.backend or BACKENDS for w in ("--backend", each)),
                *(w for each in options.workload or WORKLOADS for w in ("--workload", each)),
            ]
            runs.append(measured(options.out / name, words))
    figures = compared(*runs)
    print(report(figures))
    wrong = [each for each in figures if each.counted and each.percent > LIMIT_PERCENT]
    print(f"{len(figures)} figures, {sum(each.counted for each in figures)} of them counts; "
          f"{len(wrong)} counts differ by more than {LIMIT_PERCENT} %")  # fmt: skip
    return 1 if wrong else 0


@contextlib.contextmanager
def spinning() -> Iterator[None]:
    """A loop on each CPU, as long as the context lasts."""
    loop = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", "while :; do :; done"]
    loops = [subprocess.Popen(loop) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for each in loops:
            each.kill()
            each.wait()


def measured(out: Path, words: list[str]) -> dict[str, Item]:
    """The items of a run in the testbed, by their series' name. A folder that is there is read."""
    if not out.exists():
        command = [sys.executable, "-m", "vbench.cli", "run", "--host", "testbed"]
        subprocess.run([*command, "--out", str(out), *words], check=False, stdout=sys.stderr)
    return {item.name: item for result in load_all([out]) for item in result.items}


def compared(quiet: dict[str, Item], loaded: dict[str, Item]) -> list[Figure]:
    found = []
    marked = reasons(quiet.values()).keys() | reasons(loaded.values()).keys()
    for name, item in quiet.items():
        other = loaded.get(name)
        if item.status is not Status.OK or other is None or other.status is not Status.OK:
            continue
        for side, index in (("guest", 1), ("native", 0)):
            before, after = figure(item, index), figure(other, index)
            if before and after:
                shares = [
                    share
                    for pair in (*item.pairs, *other.pairs)
                    if pair.equal and (share := pair.equal[index]) is not None
                ]
                least = min(shares, default=None)
                found.append(Figure(name, side, name not in marked, before, after, least))
    return found


def figure(item: Item, index: int) -> float | None:
    """Instructions per unit of work: the median over boots of samples, or of medians."""
    values = [
        (pair.quantiles.get("p50", (None, 0.0)) if item.statistic is Statistic.QUANTILES
         else (pair.native_s, pair.guest_s))[index]
        for pair in item.pairs
    ]  # fmt: skip
    known = [value * 1e9 for value in values if value]
    return statistics.median(known) if known else None


def report(figures: list[Figure]) -> str:
    rows = [
        [
            each.name,
            each.side,
            f"{each.quiet:,.2f}",
            f"{each.loaded:,.2f}",
            f"{each.percent:.3f} %" if each.percent else "0",
            "" if each.equal is None else f"{each.equal:.0%}",
            "" if each.counted else "no count",
        ]
        for each in sorted(figures, key=lambda each: (not each.counted, -each.percent))
    ]
    headings = ["Figure", "Side", "Quiet", "Loaded", "Difference", "Equal groups", "Marked"]
    return table(headings, rows)


if __name__ == "__main__":
    sys.exit(main())
