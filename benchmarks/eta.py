"""How right the time left was: .venv/bin/python benchmarks/eta.py JOURNAL...

Replays journals of runs that are complete (`journal.jsonl`) through the estimate of the progress
line. Prints what it said in the course of a run, by how much of what was left it was wrong, and
what tasks took against what is expected of them. Ends with 1 if, from a third
of the run on, fewer than nine of ten estimates were right within 25 % of what was left, or 15 s.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vbench.contract.workload import Workload
from vbench.model import Statistic, TimeBase, WorkloadInfo
from vbench.results.stats import MIN_BOOTS
from vbench.run.estimate import Estimate, expected_s
from vbench.run.schedule import Task

LIMIT, FREE_S, FROM, RIGHT = 0.25, 15.0, 1 / 3, 0.9


@dataclass(eq=False)
class Place:
    name: str
    time_base: TimeBase


@dataclass(frozen=True)
class Step:
    """`at_s` the lane of `host` begins, is up, or its `task` ended or was skipped."""

    what: str
    at_s: float
    host: Any
    task: Any = None
    booting_s: float = 0.0
    rest_s: float = 0.0


class Replay:
    """The steps of a run, as its journal tells them."""

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        self._series: dict[str, Any] = {}
        self._options: dict[str, str] = {}  # of the guest that was launched last, by series
        self._infos: dict[str, WorkloadInfo] = {}
        self._enough: set[tuple[str, str, int]] = set()  # keys of tasks
        self.fixed_boots = False
        self.steps = [step for record in self._known(records) for step in self._of(record)]
        self.steps.sort(key=lambda step: step.at_s)
        self.tasks: list[Task] = [step.task for step in self.steps if step.task]

    def _known(self, records: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """First which series are on one host: a lane is up before its series are named."""
        lanes = [record["lane"] for record in records if record["event"] == "up"]
        for record in records:
            if record["event"] == "series":
                made, label = record["result"], record["series"]
                name = label.removesuffix("-" + made["variant"])
                place = Place(name, TimeBase(made["host"]["time_base"]))
                beside: list[str] = next((lane for lane in lanes if label in lane), [])
                known = [s.host for other, s in self._series.items() if other in beside]
                if place.time_base is TimeBase.WALL:
                    known = [s.host for s in self._series.values() if s.host.name == name]
                host = known[0] if known else place
                self._series[label] = SimpleNamespace(label=label, host=host, part=None)
        yield from records

    def _of(self, record: Mapping[str, Any]) -> Iterator[Step]:
        label, at_s, event = record.get("series", ""), record.get("at_s", 0.0), record["event"]
        if event == "run":
            self.fixed_boots = record["options"]["boots"] is not None or record["options"]["ab"]
        elif event == "up":
            hosts = [self._series[one].host for one in record["lane"] if one in self._series]
            for host in hosts[:1]:
                yield Step("comes up", at_s - record["took_s"], host)
                yield Step("up", at_s, host)
        elif event == "launch":
            name = label.removeprefix(self._series[label].host.name + "-")
            self._options[label] = record["launch"]["variant"].removeprefix(name)
        elif event == "end":
            item, took = record["item"], record["took"]
            info = WorkloadInfo(
                item["workload"], item["category"], "x", Statistic.RATIO, "", "", "",
                options=self._options.get(label, "") if item["category"] == "boot" else "",
            )  # fmt: skip
            self._infos[info.name] = info
            task = self._task(label, info, record["boot"])
            rest_s = sum(took.values()) - took["booting"]
            yield Step("took", at_s, task.series.host, task, took["booting"], rest_s)
        elif event == "enough":
            task = self._task(label, self._infos[record["workload"]], record["boot"])
            self._enough.add(task.key)
            yield Step("skip", at_s, task.series.host, task)

    def _task(self, label: str, info: WorkloadInfo, boot: int) -> Task:
        return Task(self._series[label], Workload(info, lambda: None), boot)  # type: ignore[arg-type]

    def said(self, lanes: int) -> Iterator[tuple[float, float]]:
        """When something happened, and how much was said to be left."""
        estimate = Estimate(self.tasks, lanes, fixed_boots=self.fixed_boots)
        for step in self.steps:
            if step.what == "comes up":
                estimate.comes_up(step.host, step.at_s)
            elif step.what == "up":
                estimate.is_up(step.host, step.at_s)
            elif step.what == "skip":
                estimate.skip(step.task)
            else:
                following = replace(step.task, boot=step.task.boot + 1)
                if following.boot >= MIN_BOOTS:
                    estimate.decides(step.task, enough=following.key in self._enough)
                estimate.took(step.task, step.booting_s, step.rest_s, step.at_s)
            yield step.at_s, estimate.left(step.at_s)


def read(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    text = gzip.decompress(content) if path.suffix == ".gz" else content
    return [json.loads(line) for line in text.splitlines()]


def errors(replay: Replay, lanes: int) -> Iterator[tuple[float, float, float, float]]:
    """Which part of the run was over, how much was said to be left, how much was left, and by which
    share that was wrong."""
    end_s = replay.steps[-1].at_s
    for at_s, said_s in replay.said(lanes):
        left_s = end_s - at_s
        if left_s:
            yield at_s / end_s, said_s, left_s, abs(said_s - left_s) / left_s


def right(found: Sequence[tuple[float, float, float, float]]) -> float:
    """Which share of them was, from FROM on."""
    late = [each for each in found if each[0] >= FROM]
    return sum(wrong <= LIMIT or abs(said - left) <= FREE_S for _, said, left, wrong in late) / len(
        late
    )


def worst(found: Sequence[tuple[float, float, float, float]]) -> float:
    """From FROM on; 0 where none was wrong by more than FREE_S."""
    return max(
        (wrong for part, said, left, wrong in found if part >= FROM and abs(said - left) > FREE_S),
        default=0.0,
    )


def show(replay: Replay, lanes: int) -> float:
    found = list(errors(replay, lanes))
    print(f"{replay.steps[-1].at_s:.0f} s\n     at   said   true   wrong by")
    for mark in (0.05, 0.1, 0.2, 1 / 3, 1 / 2, 2 / 3, 0.8, 0.9):
        part, said_s, left_s, wrong = next(each for each in found if each[0] >= mark)
        print(f"{part:7.0%} {said_s:6.0f} {left_s:6.0f} {wrong:9.0%}")
    print(
        f"from a third of the run on {right(found):.0%} were right within {LIMIT:.0%} or "
        f"{FREE_S:.0f} s; of the others the worst was wrong by {worst(found):.0%}"
    )
    return right(found)


def show_expected(replay: Replay) -> None:
    took: dict[tuple[str, ...], list[float]] = defaultdict(list)
    meant: dict[tuple[str, ...], float] = {}
    for step in replay.steps:
        if step.what == "took" and step.rest_s > 0.2:
            of = step.task.workload.info.category
            key = (step.host.time_base.value, of, "first" if step.task.boot == 0 else "later")
            took[key].append(step.rest_s)
            meant[key] = expected_s(step.task)
    for of, times in sorted(took.items()):
        middle, mean = statistics.median(times), statistics.fmean(times)
        print(f"{' '.join(of):30} {len(times):4} tasks: median {middle:6.2f} s, mean {mean:6.2f} s,"
              f" expected {meant[of]:6.2f} s")  # fmt: skip


def reduced(records: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What a replay needs of them."""
    for record in records:
        less = {key: record[key] for key in _KEPT if key in record}
        if record["event"] == "series":
            result = record["result"]
            base = {"time_base": result["host"]["time_base"]}
            less["result"] = {"variant": result["variant"], "host": base}
        elif record["event"] == "launch":
            less["launch"] = {"variant": record["launch"]["variant"]}
        elif record["event"] == "end":
            item = record["item"]
            less["item"] = {key: item[key] for key in ("workload", "category")}
        elif record["event"] == "run":
            less["options"] = {key: record["options"][key] for key in ("boots", "ab")}
        elif record["event"] not in ("up", "enough"):
            continue
        yield less


_KEPT = ("event", "at_s", "series", "lane", "took_s", "boot", "workload", "took")


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("journals", type=Path, nargs="+")
    asked.add_argument("--lanes", type=int, default=2)
    asked.add_argument("--expected", action="store_true", help="show what tasks took, by category")
    asked.add_argument("--reduce", type=Path, help="write what a replay needs to this .gz file")
    options = asked.parse_args()
    shares = []
    for path in options.journals:
        records = read(path)
        replay = Replay(records)
        print(f"{path}:", end=" ")
        shares.append(show(replay, options.lanes))
        if options.expected:
            show_expected(replay)
        if options.reduce:
            lines = "".join(f"{json.dumps(each)}\n" for each in reduced(records))
            options.reduce.write_bytes(gzip.compress(lines.encode(), mtime=0))
    return 1 if min(shares) < RIGHT else 0


if __name__ == "__main__":
    sys.exit(main())
