"""What the report says of how exact a count is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sample_results import TESTBED, item, pairs, result

from vbench.model import Pair, TimeBase
from vbench.report import cells, sentences
from vbench.report.gather import gather


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


def test_a_sentence_says_what_interrupts_add_to_the_count_it_tells() -> None:
    grouped = [
        Pair(2e-7, 2e-7, boot, quantiles={"mean": (2e-7, mean)}, equal=(0.99, 0.99))
        for boot, mean in enumerate((2.04e-7, 2.04e-7))
    ]
    counted: dict[str, Any] = {
        "time_base": TESTBED.time_base,
        "host": TESTBED.identity,
        "host_kind": TESTBED.kind,
    }
    (panel,) = gather([result(item("cpu-prime", grouped, **counted), host=TESTBED)]).panels
    assert sentences.techniques(panel) == (
        "Under `tcg` computing executes the same number of instructions within 0.05 % (median "
        "group of units; interrupts add 2 % to the mean)."
    )
