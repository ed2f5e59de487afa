from __future__ import annotations

import math
import random

import pytest

from vbench.results.outlying import crowd


def noise(count: int, seed: int = 1) -> list[float]:
    rng = random.Random(seed)  # noqa: S311
    return [rng.gauss(0, 0.02) for _ in range(count)]


def far(values: list[float], level: float = 0.05) -> set[int]:
    return set(crowd(values, [0.0] * len(values), level).p)


def test_a_value_far_from_the_others_is_found() -> None:
    values = noise(10)
    values[3] += 0.3
    found = crowd(values, [0.0] * 10, 0.05)
    assert set(found.p) == {3}
    assert found.p[3] < 1e-4
    assert found.centre == pytest.approx(0, abs=0.02)
    assert 0.01 < found.spread < 0.03, "the spread is that of the others"


def test_the_probability_is_that_of_students_t_times_the_number_of_values() -> None:
    scipy = pytest.importorskip("scipy.stats")
    values = [0.1, 0.2, -0.1, 0.05, 2.0]
    others = values[:4]
    mean = sum(others) / 4
    sd = math.sqrt(sum((value - mean) ** 2 for value in others) / 3)
    t = (2.0 - mean) / (sd * math.sqrt(1 + 1 / 4))
    assert crowd(values, [0.0] * 5, 0.05).p[4] == pytest.approx(5 * 2 * scipy.t.sf(t, 3))


def test_several_values_do_not_hide_each_other() -> None:
    values = noise(40)
    for i in range(7):
        values[i] += 0.4
    assert far(values) == set(range(7))


def test_both_ends_are_looked_at() -> None:
    values = noise(30)
    values[0] += 0.3
    values[1] -= 0.3
    assert far(values) == {0, 1}


def test_a_value_of_which_less_is_known_must_lie_further() -> None:
    values = noise(20)
    values[0] += 0.2
    assert far(values) == {0}
    assert not crowd(values, [0.15**2, *[0.0] * 19], 0.05).p


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 9.0], [1.0, 1.01, 9.0], [2.0] * 7])
def test_nothing_is_far_among_too_few_or_equal_ones(values: list[float]) -> None:
    if values:
        assert far(values) == set()


def test_one_that_differs_from_equal_ones_is_far() -> None:
    assert far([1.0] * 6 + [1.5]) == {6}


@pytest.mark.parametrize("count", [5, 7, 8, 12, 20, 60])
def test_false_alarms_are_about_as_many_as_asked_for(count: int) -> None:
    """`level` is 5 %, and what is found among few is a little more: up to 7.5 %."""
    alarms = sum(bool(far(noise(count, seed))) for seed in range(400))
    assert alarms / 400 < 0.11
