"""How much is measured: calibration, the order of a round, boots and rounds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbench.errors import UsageError
from vbench.measure import plan
from vbench.measure.plan import GUEST, NATIVE, Plan


def calibrated(
    cost: Callable[[int], float], first: int = 1, target_s: float = 0.3, most: int = 1 << 40
) -> tuple[int, list[int]]:
    """The units chosen for a program of that cost, and the steps that led there."""
    steps = []
    generator = plan.calibrate(first, target_s, most)
    units = next(generator)
    while True:
        steps.append(units)
        try:
            units = generator.send(cost(units))
        except StopIteration as stop:
            return stop.value, steps


def test_calibration_of_a_linear_program() -> None:
    units, steps = calibrated(lambda units: units * 1e-6)
    assert units == 300_000
    assert steps == [1, 32, 1024, 32768, 300_000]


def test_a_first_step_that_is_long_enough_is_the_only_one() -> None:
    units, steps = calibrated(lambda units: units * 0.01, first=20)
    assert (units, steps) == (20, [20])  # it is the warm-up, so no sample is larger


def test_a_first_step_that_is_much_too_long_is_shortened() -> None:
    units, steps = calibrated(lambda units: units * 0.1, first=100)
    assert (units, steps) == (3, [100])


def test_one_unit_is_the_least() -> None:
    assert calibrated(lambda _: 60.0) == (1, [1])


def test_most_is_the_most() -> None:
    assert calibrated(lambda units: units * 1e-9, most=1000) == (1000, [1, 32, 1000])
    assert calibrated(lambda units: units * 1e-9, first=50, most=10) == (10, [10])


def test_startup_cost_does_not_fool_it() -> None:
    """A program with a constant part of its own time still ends near the target."""
    units, _ = calibrated(lambda units: 0.02 + units * 1e-6)
    assert 0.15 <= 0.02 + units * 1e-6 <= 0.4


def test_a_clock_that_stands_still_ends_at_most() -> None:
    units, steps = calibrated(lambda _: 0.0, most=10_000)
    assert units == 10_000
    assert steps == [1, 32, 1024, 10_000]


@given(
    first=st.integers(1, 1 << 20),
    target_s=st.floats(0.01, 10),
    most=st.integers(1, 1 << 40),
    costs=st.lists(st.floats(0, 100), min_size=1),
)
def test_calibration_always_ends_within_bounds(
    first: int, target_s: float, most: int, costs: list[float]
) -> None:
    """Whatever a program says, no step asks for more than 32 times the one before."""
    said = itertools.chain(costs, itertools.repeat(costs[-1]))
    units, steps = calibrated(lambda _: next(said), first, target_s, most)
    for before, after in itertools.pairwise([*steps, units]):
        assert 1 <= after <= min(most, 32 * before)
    assert steps[0] == min(first, most)
    assert len(steps) < 1000


@given(st.integers(0, 100), st.integers(0, 100))
def test_order_alternates(number: int, boot: int) -> None:
    here = plan.order(number, boot)
    assert set(here) == {GUEST, NATIVE}
    assert plan.order(number + 1, boot) == here[::-1]
    assert plan.order(number, boot + 1) == here[::-1]


@pytest.mark.parametrize("changes", [{"boots": 0}, {"rounds": 0}])
def test_impossible_plans(changes: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Plan(**changes)  # type: ignore[arg-type]


def test_fewer_boots_have_rounds_for_an_interval_unless_the_user_said_how_many() -> None:
    plan = Plan(boots=5, quantile_boots=2, rounds=1)
    assert plan.at_most(0) == plan
    assert plan.at_most(7) == plan
    one = plan.at_most(1)
    assert (one.boots, one.quantile_boots, one.rounds) == (1, 1, 2)
    assert replace(plan, fixed_rounds=True).at_most(1).rounds == 1
    assert replace(plan, fixed_boots=True).at_most(1).boots == 5
