"""The journal of a run back to results: of a run that was killed, or is to be continued.

Records, in their order; `series` is a series' label:
    run       once: the version, the plan, the options; `resume` compares them
    sitting   the run was continued at this time
    series    before its first task: the top-level object of its result file, without items
    up        the testbed of a lane came up; nothing of it is read back
    launch    a guest came up
    begin     a task begins: `item` is all that is known of the item but its samples
    pair      a pair was taken
    again     the task is measured once more: its pairs of this boot do not count
    end       the task is over: `item` again, `exits`, and what a later boot needs to know
    unavailable  when the host of a series came up it could not run there: its tasks are over
    retried   it is asked again whether the series can run: what `unavailable` said is over
    enough    a task is not measured, because the boots before it decide: it is over as well
    dropped   a boot that was not complete when the run was continued: nothing of it counts
    stopped   the run ended in order; `why` is empty if all was measured
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vbench.errors import UnreadableError
from vbench.model import Item, Launch, Pair, Result, Status
from vbench.results.history import SCHEMA_VERSION
from vbench.results.journal import Journal
from vbench.results.reading import item_of, run_of
from vbench.results.shapes import RECORDS
from vbench.results.typed import from_json

Record = Mapping[str, Any]
Unavailable = tuple[str, str, str, str]  # backend, technique, reason, remedy
_NOT_READ = ("up", "launched again")  # for who reads the journal by eye
NO_END = "it was killed or still goes on"


@dataclass
class Recovered:
    """A run as its journal tells it. Keys are the label of a series, workload, boot (0-based)."""

    head: Record  # of the event "run"
    sittings: list[str] = field(default_factory=list)
    series: dict[str, Record] = field(default_factory=dict)
    launches: list[tuple[str, Launch]] = field(default_factory=list)
    pairs: list[tuple[str, str, Pair]] = field(default_factory=list)
    # the last record of each task, "begin" or "end"
    tasks: dict[tuple[str, str, int], Record] = field(default_factory=dict)
    enough: set[tuple[str, str, int]] = field(default_factory=set)  # tasks not worth their time
    unavailable: dict[str, Unavailable] = field(default_factory=dict)
    # of those, which series have it in their results: all of its host
    beside: dict[str, tuple[str, ...]] = field(default_factory=dict)
    withdrawn: set[Unavailable] = field(default_factory=set)  # what `retried` series had said
    stopped: str | None = None  # why it ended; None: not in order
    rounds: Counter[tuple[str, str, int]] = field(default_factory=Counter)  # pairs of each task

    def cannot(self, label: str, record: Record) -> None:
        """A series whose host turned out not to run it."""
        self.unavailable[label] = record["entry"]
        self.beside[label] = record.get("beside", ())
        self.enough |= {(label, workload, boot) for workload, boot in record["tasks"]}

    def retry(self, label: str) -> None:
        """Forget that a series cannot run. All its tasks ended by that."""
        if label in self.unavailable:
            self.withdrawn.add(self.unavailable.pop(label))
            self.beside.pop(label)
        self.enough = {key for key in self.enough if key[0] != label}

    def drop(self, label: str, boot: int) -> None:
        """Forget all of a boot."""
        self.launches = [each for each in self.launches if (each[0], each[1].boot) != (label, boot)]
        self.pairs = [each for each in self.pairs if (each[0], each[2].boot) != (label, boot)]
        self.tasks = {key: task for key, task in self.tasks.items() if key[::2] != (label, boot)}
        self.enough = {key for key in self.enough if key[::2] != (label, boot)}
        self.rounds = Counter({k: n for k, n in self.rounds.items() if k[::2] != (label, boot)})

    def drop_pairs(self, label: str, workload: str, boot: int) -> None:
        """Nothing of this task counts so far."""
        self.pairs = [
            each for each in self.pairs if (*each[:2], each[2].boot) != (label, workload, boot)
        ]
        self.rounds.pop((label, workload, boot), None)

    def ended(self) -> set[tuple[str, str, int]]:
        """The tasks that are over; one that was interrupted is not."""
        return self.enough | {key for key, task in self.tasks.items() if task.get("complete")}

    def failed(self) -> set[tuple[str, str, int]]:
        """The tasks that are over because they failed; what is unsupported did not fail."""
        return {key for key, task in self.tasks.items() if task.get("failed")}

    def last(self, label: str, workload: str) -> Record:
        """The newest record of an item's tasks."""
        return [task for key, task in self.tasks.items() if key[:2] == (label, workload)][-1]

    def items(self, label: str) -> list[Item]:
        """The items of a series."""
        names = dict.fromkeys(key[1] for key in self.tasks if key[0] == label)
        return [self._item(label, name) for name in names]

    def _item(self, label: str, workload: str) -> Item:
        task = self.last(label, workload)
        pairs = [pair for where, name, pair in self.pairs if (where, name) == (label, workload)]
        item = item_of(task["item"], pairs, task.get("exits", {}))
        if task["event"] == "end":
            return item
        broken_off = f"boot {task['boot'] + 1}: the run ended here"
        return dataclasses.replace(
            item,
            status=Status.OK if pairs else Status.FAILED,
            reason="; ".join(filter(None, (item.reason, broken_off))),
        )

    @property
    def results(self) -> dict[str, Result]:
        """By label of the series, as the run itself would write them."""
        return {label: self._result(label) for label in self.series}

    def _result(self, label: str) -> Result:
        launches = [launch for where, launch in self.launches if where == label]
        result = run_of(self.series[label], self.items(label), launches)
        known = [each for each in result.unavailable if each not in self.withdrawn]
        # what the series did not know yet when it began
        entries = [self.unavailable[one] for one, all_of in self.beside.items() if label in all_of]
        return dataclasses.replace(
            result,
            unavailable=tuple(dict.fromkeys([*known, *entries])),
            sittings=tuple(self.sittings),
            done=len(self.ended()),
            stopped=NO_END if self.stopped is None else self.stopped,
        )


def read(path: Path) -> Recovered:
    """Raises UnreadableError if the journal cannot be read, or is damaged."""
    lines = Journal.read(path)
    if not lines:
        raise UnreadableError(
            f"{path} has no whole line: the run ended before its first, or the file is cut",
            remedy="measure anew",
        )
    if lines[0]["event"] != "run":
        raise UnreadableError(
            f"{path} is of an older vbench, which wrote no journal that can be read back",
            remedy="read its result files",
        )
    if (version := lines[0].get("schema_version")) != SCHEMA_VERSION:
        raise UnreadableError(
            f"{path} has schema version {version}; this vbench reads journals of "
            f"version {SCHEMA_VERSION}",
            remedy="read it with the vbench that wrote it",
        )
    head, *records = [_typed(path, number, line) for number, line in enumerate(lines, 1)]
    run = Recovered(head)
    for number, record in enumerate(records, 2):
        _expect_sense(path, number, record, run)
        run.stopped = None  # whatever comes after an end: the run was continued
        if record["event"] in ("sitting", "stopped"):
            _of_run(run, record)
        else:
            _of_series(run, record, record.get("series", ""))
    return run


def _of_run(run: Recovered, record: Record) -> None:
    if record["event"] == "sitting":
        run.sittings.append(record["at"])
    else:
        run.stopped = record["why"]


def _of_series(run: Recovered, record: Record, label: str) -> None:
    event = record["event"]
    if event == "series":
        run.series[label] = record["result"]
    elif event == "launch":
        run.launches.append((label, record["launch"]))
    elif event == "pair":
        pair = _pair(record["pair"])
        run.pairs.append((label, record["workload"], pair))
        run.rounds[label, record["workload"], pair.boot] += 1
    elif event == "again":
        run.drop_pairs(label, record["workload"], record["boot"])
    elif event in ("begin", "end"):
        key = (label, record["item"]["workload"], record["boot"])
        run.tasks.pop(key, None)  # so that the newest is last
        run.tasks[key] = record
    elif event == "enough":
        run.enough.add((label, record["workload"], record["boot"]))
    elif event == "unavailable":
        run.cannot(label, record)
    elif event == "retried":
        run.retry(label)
    elif event == "dropped":
        run.drop(label, record["boot"])


def _expect_sense(path: Path, number: int, record: Record, run: Recovered) -> None:
    """Raises UnreadableError for an event that nothing writes, for a task of a series that no
    record before it made known, and for a round that does not follow the one before it."""
    event = record["event"]
    if event not in (*RECORDS, *_NOT_READ):
        raise _damaged(path, number, f"there is no event {event!r}")
    if event in ("begin", "pair", "again", "end") and record["series"] not in run.series:
        raise _damaged(path, number, f"nothing before it is of a series {record['series']!r}")
    if event == "pair" and "round" in record:
        before = run.rounds[record["series"], record["workload"], record["pair"]["boot"]]
        if record["round"] != before + 1:
            raise _damaged(path, number, f"round {record['round']} follows round {before}")


def _damaged(path: Path, number: int, why: object) -> UnreadableError:
    return UnreadableError(
        f"{path} is damaged",
        evidence=f"line {number}: {why}",
        remedy="the run's result files may be whole; else measure anew",
    )


def _typed(path: Path, number: int, line: Record) -> Record:
    """A record as its event has it. Raises UnreadableError, which names the line and the key."""
    try:
        record: Record = from_json(line, RECORDS.get(line["event"], object))
    except ValueError as error:
        raise _damaged(path, number, error) from error
    return record


def unfinished(path: Path) -> bool:
    """Whether a journal is one that can be read back and has no end. Raises UnreadableError."""
    records = Journal.read(path)
    return _is_ours(records) and records[-1]["event"] != "stopped"


def readable(path: Path) -> bool:
    """Whether a journal is one that can be read back. Raises UnreadableError."""
    return _is_ours(Journal.read(path))


def _is_ours(records: Sequence[Record]) -> bool:
    return bool(records) and records[0]["event"] == "run"


def _pair(record: Record) -> Pair:
    # what was not finite is null
    counters = {name: value for name, value in record["counters"].items() if value is not None}
    quantiles = {
        name: shares for name, shares in record["quantiles"].items() if shares[1] is not None
    }
    return Pair(**{**record, "counters": counters, "quantiles": quantiles})
