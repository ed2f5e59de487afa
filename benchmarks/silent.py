"""Is `vbench ab` silent where nothing changed, and does it find a small change?

    vbench run --host testbed --backend kvm-virtio --boots 8 --rounds 1 --out boots
    python benchmarks/silent.py boots

Real boots of one variant, drawn at random: two of them are A, two others are B. Each draw is
compared as `vbench ab --fail-above 1` compares, once as it is and once with 2 % more in B.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

from vbench.model import Result
from vbench.results import loading
from vbench.results.compare import compare

DRAWS, BOOTS, PLANTED = 20, 2, 1.02


def of_boots(result: Result, boots: list[int], factor: float = 1.0) -> Result:
    """The result of these boots alone, numbered from 0, each guest sample times `factor`."""
    place = {boot: number for number, boot in enumerate(boots)}
    items = []
    for item in result.items:
        pairs = tuple(
            replace(
                pair,
                boot=place[pair.boot],
                guest_s=pair.guest_s * factor,
                quantiles={k: (n, guest * factor) for k, (n, guest) in pair.quantiles.items()},
            )
            for pair in item.pairs
            if pair.boot in place
        )
        items.append(replace(item, pairs=pairs))
    return replace(result, items=tuple(items))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="results of `vbench run` with at least 4 boots")
    (result,) = loading.load_all([parser.parse_args().folder])
    boots = sorted({pair.boot for item in result.items for pair in item.pairs})
    rng = random.Random(1)  # noqa: S311
    for name, factor in (("nothing changed", 1.0), ("2 % planted", PLANTED)):
        silent, verdicts = 0, Counter[tuple[str, str]]()
        for _ in range(DRAWS):
            drawn = rng.sample(boots, 2 * BOOTS)
            a, b = of_boots(result, drawn[:BOOTS]), of_boots(result, drawn[BOOTS:], factor)
            comparison = compare([a], [b], 1.0, paired=True)
            silent += comparison.status == 0
            verdicts.update((row.workload, row.verdict.value) for row in comparison.rows)
        print(f"{name}: silent {silent} of {DRAWS}")
        for (workload, verdict), count in sorted(verdicts.items()):
            print(f"  {workload}: {verdict} {count}")


if __name__ == "__main__":
    main()
