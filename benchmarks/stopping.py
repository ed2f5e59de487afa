"""What boots that follow the interval leave of its 95 %: .venv/bin/python benchmarks/stopping.py

Simulates items with a true overhead and a spread between boots. After each boot from the third on
`vbench.results.stats.settled` says whether it is the last. Prints, for each true overhead and
spread, how often the interval that the report shows covers the truth, how many boots were made,
and how often the word is a wrong one. Takes a minute or two.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics

from vbench.measure.plan import Plan
from vbench.model import HostKind, Item, Pair, Statistic, Status, Technique, TimeBase
from vbench.results import stats

OVERHEADS = (1.0, 1.03, 1.06, 1.10, 1.15, 1.5, 1.9, 2.0, 2.2, 3.0, 8.0)
SPREADS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


def item(pairs: list[Pair]) -> Item:
    return Item(
        "x", "cpu", "x", Statistic.RATIO, "", "x", "x", Technique.FULL, "x", HostKind.LOCAL,
        TimeBase.WALL, Status.OK, pairs=tuple(pairs),
    )  # fmt: skip


def one(overhead: float, spread: float, boots: int, chance: random.Random) -> tuple[bool, int, str]:
    """Whether the truth is covered, boots made, the word."""
    pairs: list[Pair] = []
    while len(pairs) < boots and not (pairs and stats.settled(item(pairs), boots)):
        pairs.append(Pair(1.0, overhead * math.exp(chance.gauss(0, spread)), len(pairs)))
    value = stats.overhead(pairs)
    assert value is not None
    assert value.low is not None
    assert value.high is not None
    return value.low <= overhead <= value.high, len(pairs), stats.word(value) or ""


def true_word(overhead: float) -> str:
    if overhead <= stats.LOW_MAX:
        return "low"
    return "medium" if overhead <= stats.MEDIUM_MAX else "high"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--repeats", type=int, default=1000)
    repeats = asked.parse_args().repeats
    chance, boots = random.Random(1), Plan().boots  # noqa: S311 - no secret
    covered, made = [], []
    print("overhead  spread  covered  boots  wrong word")
    for overhead in OVERHEADS:
        for spread in SPREADS:
            runs = [one(overhead, spread, boots, chance) for _ in range(repeats)]
            covered.append(statistics.fmean(run[0] for run in runs))
            made.append(statistics.fmean(run[1] for run in runs))
            wrong = statistics.fmean(run[2] not in ("between", true_word(overhead)) for run in runs)
            print(f"{overhead:8.2f} {spread:7.3f} {covered[-1]:8.1%} {made[-1]:6.2f} {wrong:10.1%}")
    print(
        f"mean: covered {statistics.fmean(covered):.1%}, least {min(covered):.1%}, "
        f"{statistics.fmean(made):.2f} boots of {boots}"
    )


if __name__ == "__main__":
    main()
