"""How long the rest of a run takes, by the plan and by what it took so far."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest
from test_schedule import workload

from vbench.contract.backend import CountedRun
from vbench.contract.registry import Variant
from vbench.model import TimeBase
from vbench.run.estimate import Estimate, expected_s, in_lanes
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


def test_tasks_take_what_others_took(series: Series) -> None:
    planned = tasks(on(series, "here"), *(f"cpu-{n}" for n in range(40)))
    made = Estimate(planned)
    slow = 50 * expected_s(planned[0])
    for task in planned[:20]:
        made.took(task, 0.0, slow, 0.0)
    assert made.left(0.0) == pytest.approx(20 * slow, rel=0.25)


def test_a_task_takes_what_it_took_on_other_boots(series: Series) -> None:
    planned = tasks(on(series, "here"), "cpu-a", "cpu-b", boots=2)
    made = Estimate(planned)
    made.took(planned[0], 5.0, 20.0, 0.0)
    made.took(planned[1], 0.0, 200.0, 0.0)
    made.took(planned[2], 5.0, 14.0, 0.0)
    # the first is not mixed up with the second; a later boot does not calibrate
    assert 100 < made.left(0.0) < 160
    made.took(planned[3], 0.0, 140.0, 0.0)
    assert made.left(0.0) == 0.0


def test_a_boot_of_a_guest_counts_once(series: Series) -> None:
    planned = tasks(on(series, "here"), "boot-a", "boot-b", boots=3)
    made = Estimate(planned)
    made.took(planned[0], 60.0, 0.0, 0.0)
    assert 60 < made.left(0.0) < 2 * 60  # not quite believed after one
    for task in planned[1:3]:
        made.took(task, 60.0 if task.boot else 0.0, 0.0, 0.0)
    assert 45 < made.left(0.0) < 65


def test_a_boot_that_had_to_wait_is_no_measure_of_others(series: Series) -> None:
    """One of 197 s more than doubled what was said to be left of a run."""
    planned = [
        task
        for name in ("one", "two", "three")
        for task in tasks(
            dataclasses.replace(on(series, "here"), variant=Variant(name, None, None)),  # type: ignore[arg-type]
            "cpu-a",
        )
    ]
    usual, waited = Estimate(planned), Estimate(planned)
    usual.took(planned[0], 5.0, 2.0, 0.0)
    waited.took(planned[0], 200.0, 2.0, 0.0)
    assert waited.left(0.0) < 2 * usual.left(0.0)


def test_boots_that_may_decide_nothing_count_in_part(series: Series) -> None:
    planned = tasks(on(series, "here"), *(f"cpu-{n}" for n in range(20)), boots=5)
    made = Estimate(planned)
    for task in planned[:60]:
        made.took(task, 5.0, 10.0, 0.0)
    before = made.left(0.0)
    assert before < 0.5 * 2 * (5 + 20 * 10)
    for task in planned[60:80]:
        made.skip(task)
    assert made.left(0.0) < 0.3 * before  # of those after them hardly any is made
    for task in planned[80:]:
        made.skip(task)
    assert made.left(0.0) == 0


def test_what_is_known_of_an_item_is_no_guess(series: Series) -> None:
    """At the end of a run 97 s were said to be left, of 58."""
    planned = tasks(on(series, "here"), "cpu-a", "cpu-b", boots=5)
    made = Estimate(planned)
    for task in planned[:6]:
        made.took(task, 5.0, 10.0, 0.0)
    a, b = planned[4], planned[5]
    made.decides(a, enough=True)
    made.decides(b, enough=False)
    fourth = made.left(0.0)
    assert 14 < fourth < 22  # a boot and cpu-b, and something of a fifth
    made.took(planned[7], 5.0, 10.0, 0.0)
    made.decides(planned[7], enough=True)
    assert made.left(0.0) == 0
    for task in planned:
        made.skip(task)  # as the loop does when it comes by
    assert made.left(0.0) == 0


def test_boots_that_the_user_asked_for_are_made(series: Series) -> None:
    planned = tasks(on(series, "here"), "cpu-a", "cpu-b", boots=10)
    made = Estimate(planned, fixed_boots=True)
    for task in planned[:6]:
        made.took(task, 5.0, 10.0, 0.0)
    assert made.left(0.0) == pytest.approx(7 * (5 + 2 * 10), rel=0.2)


def lanes_of(series: Series, *counts: int) -> list[list[Task]]:
    base = TimeBase.INSTRUCTIONS
    return [
        tasks(
            dataclasses.replace(on(series, "testbed", base), variant=Variant(str(n), None, None)),  # type: ignore[arg-type]
            *(f"cpu-{n}" for n in range(count)),
        )
        for n, count in enumerate(counts)
    ]


def test_lanes_take_as_long_as_the_longest(series: Series) -> None:
    alone = Estimate(lanes_of(series, 100)[0]).left(0.0)
    half = Estimate(lanes_of(series, 50)[0]).left(0.0)
    lanes = lanes_of(series, 100, 50, 50)
    planned = [task for lane in lanes for task in lane]
    assert Estimate(planned, lanes=1).left(0.0) == pytest.approx(alone + 2 * half)
    assert Estimate(planned, lanes=2).left(0.0) == pytest.approx(2 * half)
    assert Estimate(planned, lanes=3).left(0.0) == pytest.approx(alone)
    # what is timed begins when all that is counted has ended
    timed = tasks(on(series, "here"), "cpu-a")
    rest = Estimate(timed).left(0.0)
    assert Estimate([*planned, *timed], lanes=3).left(0.0) == pytest.approx(alone + rest)


def test_what_a_first_table_needs_is_in_the_first_lanes(series: Series) -> None:
    long, short, early = lanes_of(series, 50, 20, 5)
    first = dataclasses.replace(early[0].series, part=CountedRun(quick=True))
    early = [dataclasses.replace(task, series=first) for task in early]
    assert in_lanes([*short, *long, *early]) == [early, long, short]
    # by how long they take: a boot of a guest is more than a workload
    lane = lanes_of(series, 4, 4)[0]
    booting = [dataclasses.replace(task, boot=n) for n, task in enumerate(lane)]
    assert in_lanes([*lanes_of(series, 6, 4)[0], *booting])[0] == booting


def test_time_passes_while_a_lane_is_busy(series: Series) -> None:
    (lane,) = lanes_of(series, 10)
    made = Estimate(lane)
    made.comes_up(lane[0].series.host, 100.0)
    before = made.left(100.0)
    assert made.left(107.0) == pytest.approx(before - 7)
    made.is_up(lane[0].series.host, 130.0)
    assert made.left(130.0) < before
    made.took(lane[0], 1.0, 1.0, 132.0)
    assert made.left(10_000.0) == 0.0  # never less


def test_a_lane_that_failed_takes_no_more_time(series: Series) -> None:
    one, two = lanes_of(series, 50, 20)
    made = Estimate([*one, *two], lanes=2)
    made.over(one[0].series.host)
    assert made.left(0.0) == pytest.approx(Estimate(two, lanes=2).left(0.0))


def test_what_cannot_run_tells_nothing_of_boots_that_may_decide_nothing(series: Series) -> None:
    planned = tasks(on(series, "here"), *(f"cpu-{n}" for n in range(9)), boots=5)
    cannot = tasks(on(series, "there"), *(f"cpu-{n}" for n in range(40)), boots=1)
    made = Estimate([*planned, *cannot])
    for task in cannot:
        made.skip(task)
    assert made.left(0.0) == pytest.approx(Estimate(planned).left(0.0))
