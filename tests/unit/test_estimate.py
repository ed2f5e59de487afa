"""How long the rest of a run takes, by what it took so far."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest
from test_schedule import workload

from vbench.contract.registry import Variant
from vbench.model import TimeBase
from vbench.run.estimate import Estimate
from vbench.run.schedule import Task
from vbench.run.series import Series


@dataclass(eq=False)
class Place:
    name: str
    time_base: TimeBase = TimeBase.WALL


def on(series: Series, name: str, base: TimeBase = TimeBase.WALL) -> Series:
    host: Any = Place(name, base)
    return dataclasses.replace(series, host=host)


def tasks(series: Series, *names: str, boots: int = 1, options: str = "") -> list[Task]:
    return [
        Task(series, workload(name, options=options), boot)
        for boot in range(boots)
        for name in names
    ]


def test_a_task_takes_what_it_took_on_other_boots(series: Series) -> None:
    planned = tasks(on(series, "here"), "cpu-a", "cpu-b", boots=3)
    made = Estimate(planned)
    assert made.left() == (0, False)
    made.took(planned[0], 20.0, 100.0)
    assert made.left() == (pytest.approx(40 + 100 + 4 * 70), True)  # a first boot calibrates
    made.took(planned[1], 0.0, 10.0)
    assert made.left() == (pytest.approx(40 + 2 * 70 + 2 * 7), True)
    made.took(planned[2], 10.0, 50.0)
    assert made.left() == (pytest.approx(15 + 50 + 2 * 7), True)


def test_a_host_that_was_not_measured_is_not_guessed_at(series: Series) -> None:
    planned = tasks(on(series, "here"), "cpu-a") + tasks(on(series, "there"), "cpu-a")
    made = Estimate(planned)
    made.took(planned[0], 1.0, 10.0)
    assert made.left() == (0, False)


def test_boots_that_may_decide_nothing_count_in_part(series: Series) -> None:
    planned = tasks(on(series, "here"), "cpu-a", boots=5)
    made = Estimate(planned)
    for task in planned[:3]:
        made.took(task, 5.0, 10.0)
    assert made.left() == (pytest.approx(0.2 * (10 + 5) * 2), True)
    made.skip(planned[3])
    assert made.left() == (pytest.approx(0.4 / 3 * 15), True)
    made.skip(planned[4])
    assert made.left() == (0, True)


def test_lanes_take_as_long_as_the_longest(series: Series) -> None:
    base = TimeBase.INSTRUCTIONS
    lanes = [
        dataclasses.replace(on(series, "testbed", base), variant=Variant(name, None, None))  # type: ignore[arg-type]
        for name in ("one", "two", "three")
    ]
    planned = [tasks(lane, *(f"cpu-{n}" for n in range(count))) for lane, count in zip(
        lanes, (10, 2, 2), strict=True
    )]  # fmt: skip
    one, two = (Estimate([t for lane in planned for t in lane], lanes=n) for n in (1, 2))
    for made in (one, two):
        made.took(planned[0][0], 20.0, 10.0)
    # left: 9 tasks; 2 tasks and a boot; the same once more
    assert one.left() == (pytest.approx(90 + 2 * 40), True)
    assert two.left() == (pytest.approx(90), True)
