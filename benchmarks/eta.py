"""How right the time left was: .venv/bin/python benchmarks/eta.py DIR

Replays the journal of a run that is complete (`journal.jsonl` in DIR) through the estimate of the
progress line. Prints what it said at each tenth of the run, and by how much it was wrong. Ends with
1 if it was wrong by more than 25 % of what was left after a third of the run and before the last
tenth.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vbench.model import TimeBase
from vbench.results.journal import Journal
from vbench.run.estimate import Estimate
from vbench.run.schedule import Task

LIMIT, FROM, TO = 0.25, 1 / 3, 0.9


@dataclass(eq=False)
class Place:
    name: str
    time_base: TimeBase


@dataclass(frozen=True)
class Step:
    """A task that ended `at_s`, of which booting took `booting_s` and the rest `rest_s`."""

    task: Any
    at_s: float
    booting_s: float = 0.0
    rest_s: float = 0.0
    skipped: bool = False


def steps(records: list[dict[str, Any]]) -> list[Step]:
    hosts: dict[tuple[str, str], Any] = {}
    series: dict[str, Any] = {}
    last: dict[Any, float] = {}  # by lane: when its last task ended
    launched: dict[Any, float] = {}
    options: dict[str, str] = {}  # of the guest that is up, by series
    found = []
    for record in records:
        label, at_s = record.get("series", ""), record.get("at_s", 0.0)
        if record["event"] == "series":
            made = record["result"]
            hypervisor = (made["declaration"]["hypervisor"] or {}).get("name", "")
            base = TimeBase(made["host"]["time_base"])
            name = label.removesuffix("-" + made["variant"])
            lane = (name, hypervisor if base is TimeBase.INSTRUCTIONS else "")
            host = hosts.setdefault(lane, Place(name, base))
            series[label] = SimpleNamespace(label=label, host=host)
            options[label] = ""
        elif record["event"] == "launch":
            launched[series[label].host] = at_s
            text = record["launch"]["variant"]
            options[label] = text.removeprefix(label.removeprefix(series[label].host.name + "-"))
        elif record["event"] in ("end", "enough"):
            host = series[label].host
            began = last.get(host, _began(series[label].host, last, at_s))
            name = record["workload"] if record["event"] == "enough" else record["item"]["workload"]
            info = SimpleNamespace(name=name, options=options[label])
            task = SimpleNamespace(
                series=series[label],
                workload=SimpleNamespace(info=info),
                boot=record["boot"],
                key=(label, name, record["boot"]),
                guest=(label, record["boot"], options[label]),
            )
            if record["event"] == "enough":
                found.append(Step(task, at_s, skipped=True))
                continue
            booting_s = max(0.0, launched.pop(host, began) - began)
            found.append(Step(task, at_s, booting_s, at_s - began - booting_s))
            last[host] = at_s
    return found


def _began(host: Any, last: dict[Any, float], at_s: float) -> float:
    """When a lane began: as the wall-clock part before it ended."""
    return 0.0 if host.time_base is TimeBase.WALL or not last else min(at_s, max(last.values()))


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("directory", type=Path)
    asked.add_argument("--lanes", type=int, default=2)
    options = asked.parse_args()
    made = steps(Journal.read(options.directory))
    tasks: list[Task] = [step.task for step in made]
    estimate = Estimate(tasks, options.lanes)
    end_s, worst, shown = made[-1].at_s, 0.0, 0.0
    print("     at   said   true   wrong by")
    for step in made:
        if step.skipped:
            estimate.skip(step.task)
        else:
            estimate.took(step.task, step.booting_s, step.rest_s)
        said_s, complete = estimate.left()
        left_s, part = end_s - step.at_s, step.at_s / end_s
        wrong = abs(said_s - left_s) / left_s if left_s else 0.0
        if FROM <= part <= TO:
            worst = max(worst, wrong)
        if part >= shown:
            shown += 0.1
            more = "" if complete else " (and what is not known)"
            print(f"{part:7.0%} {said_s:6.0f} {left_s:6.0f} {wrong:9.0%}{more}")
    print(f"from a third of the run on it was wrong by at most {worst:.0%}")
    return 1 if worst > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
