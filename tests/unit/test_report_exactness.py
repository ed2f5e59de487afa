"""What the report says of how exact a count is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sample_results import TESTBED, item, pairs, result

from vbench.model import Item, Pair, Statistic, TimeBase
from vbench.report import cells, render, sentences
from vbench.report.gather import gather
from vbench.results.exactness import inexact, reasons

COUNTED: dict[str, Any] = {
    "time_base": TESTBED.time_base,
    "host": TESTBED.identity,
    "host_kind": TESTBED.kind,
}


def test_a_count_says_how_exact_it_is() -> None:
    grouped = [
        Pair(2e-7, 2e-7, boot, quantiles={"mean": (2e-7, 2.01e-7)}, equal=(0.99, share))
        for boot, share in enumerate((0.875, 0.95))
    ]
    counted = item("x", grouped, time_base=TimeBase.INSTRUCTIONS)
    assert cells.exactness(counted) == ("88", "+0.5")
    waits = cells.exactness(replace(counted, counted=False))
    assert waits == ("no exact count: it waits, or its program gives a total", "—")
    assert cells.exactness(replace(counted, pairs=pairs(1.0, spread=0.0)))[0].startswith("a total")
    assert cells.exactness(item("x", grouped)) == ("—", "—")


@pytest.mark.parametrize(
    ("shares", "guests", "why"),
    [
        (((0.99, 0.04), (0.99, 0.9)), (2e-7, 2e-7), "few groups are equal"),
        (((0.1, 0.9), (None, 0.9)), (2e-7, 2e-7), "few groups are equal"),
        (((0.99, 1.0), (0.99, 1.0)), (1350e-9, 1356e-9), "boots differ"),
        (((0.99, 0.2), (0.99, 0.9)), (2e-7, 2.001e-7), ""),
        ((None, None), (2e-7, 2e-7), ""),
    ],
)
def test_what_few_groups_tell_or_boots_tell_apart_is_no_exact_count(
    shares: Any, guests: tuple[float, float], why: str
) -> None:
    made = [
        Pair(2e-7, guests[boot], boot, quantiles={"mean": (2e-7, 3e-7)}, equal=shares[boot])
        for boot in (0, 1)
    ]
    one = item("x", made, **COUNTED)
    assert inexact(one) == why
    assert ("not_exact" in cells.conditions(one)) == bool(why)
    assert ("no exact count" in cells.exactness(one)[0]) == bool(why)
    assert (cells.means([one]) is None) == (bool(why) or shares[0] is None)
    quantiles = tuple(
        replace(pair, native_s=None, guest_s=9.0, quantiles={"p50": (None, pair.guest_s)})
        for pair in made
    )
    assert inexact(replace(one, pairs=quantiles, statistic=Statistic.QUANTILES)) == why


def test_single_events_of_a_variant_share_their_clock() -> None:
    def event(name: str, second: float, **changes: Any) -> Item:
        made = [
            Pair(None, 1.0, boot, quantiles={"p50": (None, value)}, equal=(None, 1.0))
            for boot, value in enumerate((1310e-9, second))
        ]
        return item(name, made, **COUNTED, **changes, statistic=Statistic.QUANTILES)

    clock = event("exit-control-empty", 1316e-9)
    call, other = event("exit-hypercall", 1310e-9), event("exit-x", 1310e-9, variant="xen-pvh")
    assert reasons([call, other]) == {}
    assert set(reasons([clock, call, other])) == {clock.name}
    read = event("exit-control-read", 1316e-9)
    assert set(reasons([clock, read, call, other])) == {clock.name, read.name, call.name}
    text = render([result(clock, read, call, host=TESTBED)], plots_dir="plots").markdown
    (row,) = (each for each in text.splitlines() if each.startswith("| exit-hypercall "))
    assert "no exact count: boots differ in others of this variant" in row


def test_the_report_says_it_at_the_figure() -> None:
    quantiles = {"mean": (2e-7, 3e-7)}
    made = [Pair(2e-7, 2e-7, boot, quantiles=quantiles, equal=(0.99, 0.04)) for boot in (0, 1)]
    one = result(item("disk-randread", made, **COUNTED), host=TESTBED)
    text = render([one], plots_dir="plots").markdown
    (row,) = (each for each in text.splitlines() if each.startswith("| disk-randread<br>"))
    assert "4: no exact count, few groups are equal" in row


@pytest.mark.parametrize(
    ("native_mean", "guest_mean", "told"),
    [
        (2e-7, 2.04e-7, "2 % more with interrupts"),
        (2.02e-7, 2.02e-7, "also with interrupts"),  # natively they take as much
        (2.04e-7, 2e-7, "2 % fewer with interrupts"),
        (2e-7, 15e-7, "7.50 times with interrupts"),
    ],
)
def test_a_sentence_says_how_interrupts_change_the_count_it_tells(
    native_mean: float, guest_mean: float, told: str
) -> None:
    grouped = [
        Pair(2e-7, 2e-7, boot, quantiles={"mean": (native_mean, guest_mean)}, equal=(0.99, 0.99))
        for boot in (0, 1)
    ]
    (panel,) = gather([result(item("cpu-prime", grouped, **COUNTED), host=TESTBED)]).panels
    assert sentences.techniques(panel) == (
        f"Under `tcg` computing takes as many instructions as natively ({told})."
    )
