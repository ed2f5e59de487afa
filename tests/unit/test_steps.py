from __future__ import annotations

import random

import pytest

from vbench.results.steps import MIN_SIDE, steps


def noise(count: int, seed: int = 1) -> list[float]:
    rng = random.Random(seed)  # noqa: S311
    return [rng.gauss(0, 0.02) for _ in range(count)]


def places(values: list[float], least: float = 0.0) -> list[int]:
    return [step.at for step in steps(values, 0.01, least)]


@pytest.mark.parametrize("at", [MIN_SIDE, 10, 30, 60 - MIN_SIDE])
def test_a_change_of_level_is_found_where_it_is(at: int) -> None:
    values = [value + (0.2 if i >= at else 0) for i, value in enumerate(noise(60))]
    (found,) = steps(values, 0.01)
    assert found.at == at
    assert found.change == pytest.approx(0.2, abs=0.03)
    assert found.p < 0.01


def test_up_and_down_are_two_changes() -> None:
    values = [value + (0.2 if 20 <= i < 40 else 0) for i, value in enumerate(noise(60))]
    found = steps(values, 0.01)
    assert [step.at for step in found] == [20, 40]
    assert found[0].change == pytest.approx(-found[1].change, abs=0.03)


@pytest.mark.parametrize("wild", [[0], [30], [59], [58, 59], [57, 59], [0, 1]])
def test_wild_values_are_no_level(wild: list[int]) -> None:
    values = noise(60)
    for i in wild:
        values[i] += 0.5
    assert places(values) == []


def test_what_repeats_exactly_changes_once() -> None:
    assert places([1.0] * 10 + [1.1] * 10) == [10]
    assert places([1.0] * 20) == []


def test_a_change_that_is_too_small_is_none() -> None:
    values = [1.0] * 10 + [1.1] * 10
    assert places(values, least=0.2) == []


@pytest.mark.parametrize("count", [0, 1, 2 * MIN_SIDE - 1])
def test_too_few_values_have_no_change(count: int) -> None:
    assert places([float(i) for i in range(count)]) == []


def test_values_that_follow_the_one_before_say_less() -> None:
    """Each is half the one before it and half new. Taken as independent, 25 of 100 change."""
    false = 0
    for seed in range(100):
        rng, value, drifting = random.Random(seed), 0.0, []  # noqa: S311
        for _ in range(60):
            value = 0.5 * value + rng.gauss(0, 0.02)
            drifting.append(value)
        false += bool(places(drifting))
    assert false <= 10


def test_false_alarms_are_rare() -> None:
    assert sum(bool(places(noise(60, seed))) for seed in range(200)) <= 4
