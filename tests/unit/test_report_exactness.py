"""What the report says of how exact a count is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
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


@pytest.mark.parametrize(
    ("native_mean", "guest_mean", "told"),
    [
        (2e-7, 2.04e-7, "with interrupts 2 % more"),
        (2.02e-7, 2.02e-7, "with interrupts, too"),  # natively they take as much
        (2.04e-7, 2e-7, "with interrupts 2 % fewer"),
    ],
)
def test_a_sentence_says_how_interrupts_change_the_count_it_tells(
    native_mean: float, guest_mean: float, told: str
) -> None:
    grouped = [
        Pair(2e-7, 2e-7, boot, quantiles={"mean": (native_mean, guest_mean)}, equal=(0.99, 0.99))
        for boot in (0, 1)
    ]
    counted: dict[str, Any] = {
        "time_base": TESTBED.time_base,
        "host": TESTBED.identity,
        "host_kind": TESTBED.kind,
    }
    (panel,) = gather([result(item("cpu-prime", grouped, **counted), host=TESTBED)]).panels
    assert sentences.techniques(panel) == (
        f"Under `tcg` computing takes as many instructions as natively (within 0.05 %), {told}."
    )
