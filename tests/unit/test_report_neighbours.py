"""Consolidation and isolation in the report, and the verdicts W1 and W2, from made-up scenarios."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from test_report_exits import judged
from test_report_scenarios import gathered, scenario

from vbench import report
from vbench.model import Item, Pair
from vbench.records import Clock, Phase
from vbench.report import consolidation
from vbench.report.gather import gather
from vbench.results.formatting import TIMES


def crowd(
    *points: tuple[int, float, float], foreign: float = 1.0, missed: float = 0.0, **counts: float
) -> Item:
    """Of (guests, 99th percentile in ms, per cent busy)."""
    phases, counters = [], {"slower_limit": 2.0, "load_percent": 18.0, "period_ms": 20.0, **counts}
    for count, p99_ms, busy in points:
        for who in ("guests", "natively"):
            for name, share in (("p50", 0.4), ("p95", 0.8), ("p99", 1.0)):
                seconds = p99_ms / 1000 * share
                phases.append(Phase(f"{count} {who}", name, Clock.GUEST, seconds))
            counters |= {
                f"{count} {who}: busy_percent": busy,
                f"{count} {who}: cpu_percent": 18.3 if who == "guests" else 4.0,
                f"{count} {who}: missed_percent": missed,
                f"{count} {who}: foreign_percent": foreign,
            }
    pair = Pair(None, points[0][1] / 1000, 0, counters=counters, phases=tuple(phases))
    return scenario("consolidation", pair)


def verdict(key: str, *items: Item) -> list[str]:
    return judged(gathered(*items))[key][2:4]


@pytest.mark.parametrize(
    ("item", "expected", "says"),
    [
        (crowd((1, 10, 20), (2, 12, 45), (3, 14, 66), (4, 30, 80)), "confirmed", "3 guests 66.0 %"),
        (crowd((1, 10, 20), (2, 12, 45), (3, 21, 66)), "refuted", "2 guests 45.0 %"),
        (crowd((1, 10, 20), (2, 20, 61)), "confirmed", "2 guests 61.0 %"),  # twice is kept
        (crowd((1, 10, 20), (2, 12, 45), ended_by_memory=1.0), "inconclusive", "no memory"),
        (crowd((1, 10, 20), (2, 12, 45), ended_by_budget=1.0), "inconclusive", "no time"),
        (crowd((1, 10, 20), (2, 12, 65), (3, 40, 80), foreign=9.0), "inconclusive", "9.00 %"),
        (crowd((1, 10, 20), (2, 12, 65), (3, 40, 80), missed=7), "inconclusive", "alone is late"),
    ],
)
def test_utilization_counts_only_as_long_as_response_time_is_kept(
    item: Item, expected: str, says: str
) -> None:
    found, number = verdict("W1", item)
    assert found == expected
    assert says in number


def test_what_was_not_asked_for_says_how_it_is_measured() -> None:
    assert "--workload 'consolidation*'" in verdict("W1", crowdless())[0]
    assert "--workload 'isolation*'" in verdict("W2", crowdless())[0]


def crowdless() -> Item:
    return scenario("migration", Pair(None, 1.0, 0))


def test_the_curve_is_a_table_and_a_plot() -> None:
    item = crowd((1, 10, 20), (2, 12, 45), (3, 30, 66))
    text = report.render([gathered(item)], plots_dir=None).markdown
    section = text.split("## Why virtualization matters\n")[1].split("\n## ")[0]
    assert f"stays below {TIMES}2 of one guest's with up to 2 guests" in section
    assert f"| 3 | 66.0 | 18.3 | 12.0 | 24.0 | 30.0 | {TIMES}3.00 |" in section
    assert section.strip().startswith(
        "With 2 guests of `tcg` the host is 45.0 % busy, and the 99th percentile"
    )
    assert "for 18.3 % of a CPU; natively the same requests take 4.00 %." in section
    assert "KSM" not in section
    text = report.render([gathered(crowd((1, 10, 20), **KSM))], plots_dir=None).markdown
    assert "After 3 scans by the host's KSM" in text
    assert "each of 2 guests takes 120 MiB in place of 300." in text
    curve = consolidation.curve(item, consolidation.GUESTS)
    assert curve is not None
    assert (curve.kept.count, curve.lost and curve.lost.count) == (2, 3)
    (panel,) = gather([gathered(item)]).panels
    drawn = consolidation.plot(panel) or ""
    assert drawn.count("too slow") == 1
    assert "3, host 66.0 % busy, too slow" in drawn
    assert drawn.count('class="ref"') == 1  # the limit
    (one,) = gathered(item).launches
    own = replace(one, id="own", variant="tcg,pin=off")
    made = replace(gathered(replace(item, launches=("own",))), launches=(one, own))
    assert "Its guests are `tcg,pin=off`." in report.render([made], plots_dir=None).markdown


@pytest.mark.parametrize(
    "points",
    [
        ((2, 12, 45), (3, 30, 66)),
        ((0, 12, 45), (2, 12, 45)),
        ((1, 0, 20), (2, 12, 45)),
        ((1, -10, 20), (2, 12, 45)),
    ],
)
def test_without_one_guest_there_is_nothing_to_compare_with(
    points: tuple[tuple[int, float, float], ...],
) -> None:
    """Two guests were called one, and a response time of no seconds was a traceback."""
    item = crowd(*points)
    assert "--workload 'consolidation*'" in verdict("W1", item)[0]
    plots = report.render([gathered(item)], plots_dir="plots").plots
    assert not [name for name in plots if "consolidation" in name]


def test_a_step_of_no_time_is_left_out() -> None:
    item = crowd((1, 10, 20), (2, 0, 45), (3, 12, 66))
    curve = consolidation.curve(item, consolidation.GUESTS)
    assert curve is not None
    assert [point.count for point in curve.points] == [1, 3]
    plots = report.render([gathered(item)], plots_dir="plots").plots
    assert [name for name in plots if "consolidation" in name]


def test_what_ksm_saves_is_told_where_all_of_it_was_counted() -> None:
    item = crowd((1, 10, 20), **{"ksm: pss_mib": 120})
    assert "KSM" not in report.render([gathered(item)], plots_dir=None).markdown


KSM = {"ksm: guests": 2, "ksm: scans": 3, "ksm: pss_before_mib": 300, "ksm: pss_mib": 120}
KINDS = ("cpu", "memory", "disk", "network", "fork")
OWN = {
    "kernels": 3.0, "limited": 1.0,
    **{f"{what}: itself": 1.0 for what in ("processes", "files", "ports", "frames")},
    **{f"{what}: {who}": 0.0 for what in ("processes", "files", "ports", "frames")
       for who in ("neighbour", "host")},
}  # fmt: skip


def neighbours(*, kinds: tuple[str, ...] = KINDS, without: str = "", **changes: float) -> Item:
    counters: dict[str, float] = {**OWN}
    for key, value in changes.items():
        counters[key.replace("__", ": ").replace("_AND_", ", ")] = value
    counters.pop(without, None)
    phases = []
    for kind, times in (("alone", 1.0), *((kind, 2.5) for kind in kinds)):
        for where in ("guests", "natively"):
            for work in ("computing", "system calls"):
                phases.append(Phase(f"{kind}, {where}", work, Clock.GUEST, 0.4 * times))
        if kind != "alone":
            counters.setdefault(f"{kind}, guests: finished", 1.0)
    pair = Pair(None, 1.0, 0, counters=counters, phases=tuple(phases))
    return scenario("isolation", pair)


@pytest.mark.parametrize(
    ("item", "expected", "says"),
    [
        (neighbours(), "confirmed", "5 of 5 disruptors beside it do not stop it"),
        (neighbours(kernels=2.0), "refuted", "its kernel is not its own"),
        (neighbours(processes__host=1.0), "refuted", "processes by the host"),
        (neighbours(frames__neighbour=3.0), "refuted", "frames by the neighbour"),
        (neighbours(cpu_AND_guests__finished=0.0), "refuted", "stopped by cpu"),
        # a search that does not find it where it is has shown nothing
        (neighbours(ports__itself=0.0), "inconclusive", "not shown: ports"),
        (neighbours(without="frames: itself"), "inconclusive", "not shown: frames"),
        (neighbours(kinds=("cpu",)), "inconclusive", "1 of 5 disruptors"),
    ],
)
def test_isolation_is_what_is_seen_and_who_is_stopped(item: Item, expected: str, says: str) -> None:
    found, number = verdict("W2", item)
    assert found == expected
    assert says in number


def test_slowdowns_of_guests_and_of_plain_processes_stand_side_by_side() -> None:
    text = report.render([gathered(neighbours())], plots_dir=None).markdown
    slow = f"{TIMES}2.50 | {TIMES}2.50"
    assert f"| writes to the disk | {slow} | no answer | {slow} |" in text
    assert "3 of 3 kernels are different ones" in text
    assert "There was no time" not in text
    assert f"work takes {TIMES}2.50 to {TIMES}2.50, as a plain process {TIMES}2.50" in text
    unlimited = neighbours(limited=0.0, ended_by_budget=1.0)
    text = report.render([gathered(unlimited)], plots_dir=None).markdown
    assert "this host lets vbench make no control groups" in text
    assert "There was no time for the other disruptors" in text
    assert "of the host's CPUs while" not in text
    crowded = neighbours(alone_AND_guests__foreign_percent=30.0)
    text = report.render([gathered(crowded)], plots_dir=None).markdown
    assert "Others used 30.0 % of the host's CPUs while the guest worked alone: these" in text


def test_the_attack_surface_is_a_table_and_decides_nothing() -> None:
    counters = {"events_lost": 0.0, "all, both: functions": 600.0}
    for kind, guests, natively in (("nothing", 700, 500), ("files", 720, 900), ("all", 810, 1900)):
        counters |= {
            f"{kind}, guests: functions": float(guests),
            f"{kind}, natively: functions": float(natively),
        }
    surface = scenario("isolation", Pair(None, 1.0, 0, counters=counters))
    text = report.render([gathered(surface)], plots_dir=None).markdown
    assert re.search(r"\| \*\*all of these\*\* +\| 810 +\| 1900 +\|", text)
    assert "the same work reaches 810 functions of the host's kernel from a guest, 1,900" in text
    assert "events were lost" not in text
    assert "--workload 'isolation*'" in verdict("W2", surface)[0]
    assert verdict("W2", surface, neighbours())[0] == "confirmed"
