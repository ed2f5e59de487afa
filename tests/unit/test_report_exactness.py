"""What the report says of how exact a count is."""

from __future__ import annotations

from dataclasses import replace

from sample_results import item, pairs

from vbench.model import Pair, TimeBase
from vbench.report import cells


def test_a_count_says_how_exact_it_is() -> None:
    grouped = [
        Pair(2e-7, 2e-7, boot, quantiles={"mean": (2e-7, 2.01e-7)}, equal=(0.99, share))
        for boot, share in enumerate((0.875, 0.95))
    ]
    counted = item("x", grouped, time_base=TimeBase.INSTRUCTIONS)
    assert cells.exactness(counted) == ("88", "+0.5")
    assert cells.exactness(replace(counted, counted=False)) == ("no exact count", "—")
    assert cells.exactness(replace(counted, pairs=pairs(1.0)))[0].startswith("a total")
    assert cells.exactness(item("x", grouped)) == ("—", "—")
