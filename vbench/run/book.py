"""What a run has measured so far: items and results, in files and in the journal."""

from __future__ import annotations

import dataclasses
import datetime
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import vbench
from vbench.errors import StoreError, Unsupported, VbenchError
from vbench.measure.engine import Sizes
from vbench.measure.recorder import Outcome
from vbench.model import CATEGORIES, Availability, Item, Launch, Pair, Result, Status, WorkloadInfo
from vbench.records import Installation
from vbench.results import identity, recovery, stats, store
from vbench.results.journal import Journal, write_atomic
from vbench.results.typed import to_json
from vbench.run.measuring import State
from vbench.run.schedule import Task
from vbench.run.series import Series


def now() -> str:
    """The time as results have it: ISO 8601, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


Unavailable = tuple[str, str, str, str]  # backend, technique, reason, remedy
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _alone(method: Callable[Concatenate[Book, _P], _R]) -> Callable[Concatenate[Book, _P], _R]:
    """One thread at a time: lanes write in one book."""

    def locked(self: Book, /, *args: _P.args, **more: _P.kwargs) -> _R:
        with self.lock:
            return method(self, *args, **more)

    locked.__doc__ = method.__doc__
    return locked


class Book:
    """Keeps all of a run. Everything is in the journal at once; files are written when asked."""

    def __init__(
        self,
        series: Sequence[Series],
        *,
        image: str,
        out: Path | None = None,
        argv: Sequence[str] = (),
        seed: int | None = None,
        unavailable: Mapping[str, Sequence[Unavailable]] | None = None,
        installations: Mapping[str, Installation] | None = None,
    ) -> None:
        """`image` is its digest; `out` None keeps nothing on disk; `unavailable` is by the name
        of the host, `installations` by the label of the series."""
        self.lock = threading.RLock()
        self.series = {each.label: each for each in series}
        self.out = out
        self.launches: dict[str, list[Launch]] = {}
        self.states: dict[tuple[str, str], State] = {}
        self.planned = 0  # tasks of the whole run
        self._ended: set[tuple[str, str, int]] = set()
        self._stopped = recovery.NO_END
        self._seed = seed
        self.image = image
        self._argv = tuple(argv)
        self._unavailable = {host: tuple(entries) for host, entries in (unavailable or {}).items()}
        self._installations = dict(installations or {})
        self._began = time.monotonic()
        self.started = now()
        self._sittings: list[str] = []
        self._earlier: dict[tuple[str, str], Launch] = {}  # by label and variant, of a resumed run
        self._journal = Journal(out) if out else None
        self._known: set[str] = set()  # labels that the journal knows

    # ------------------------------------------------------------ while it is measured

    def note(self, event: str, **record: Any) -> None:
        """To the journal, with the seconds since this sitting began. Raises StoreError."""
        with self.lock:
            if self._journal:
                at_s = round(time.monotonic() - self._began, 2)
                self._journal.append({"event": event, "at_s": at_s, **record})

    @_alone
    def state(self, task: Task) -> State:
        """What is known of the task's item; the first task of a series makes the series known."""
        label, info = task.series.label, task.workload.info
        if label not in self._known:
            self._known.add(label)
            bare = dataclasses.replace(self.result(task.series), items=(), launches=())
            self.note("series", series=label, result=store.top_level(bare))
        state = self.states.setdefault(task.key[:2], State(info))
        if not state.sizes.native:  # another variant has calibrated native already
            state.sizes.native = self._native_size(task.series, info.name)
        return state

    def _native_size(self, series: Series, workload: str) -> int:
        """Units that make a native sample of this workload on this host, 0 if not known yet."""
        known = (
            state.sizes.native
            for (label, name), state in self.states.items()
            if name == workload and self.series[label].host is series.host
        )
        return next(filter(None, known), 0)

    def next_launch_id(self, series: Series) -> str:
        """Unique within the result."""
        numbers = [int(each.id.rpartition("#")[2]) for each in self.launches.get(series.label, ())]
        return f"{series.label}#{max(numbers, default=0) + 1}"

    @_alone
    def launched(self, series: Series, launch: Launch) -> None:
        """A guest is up. Raises StoreError if the run is a continued one, and its hypervisor is
        not that of the earlier sitting."""
        earlier = self._earlier.get((series.label, launch.variant))
        if earlier is not None:
            differing = identity.differing(*map(identity.programs, (earlier, launch)))
            if differing:
                raise StoreError(
                    f"{launch.variant} is not what it was when this run began: "
                    f"{', '.join(differing)}",
                    remedy="measure anew, in another folder",
                )
        self.launches.setdefault(series.label, []).append(launch)
        self.note("launch", series=series.label, launch=store.launched(launch))

    @_alone
    def begin(self, task: Task, launch: str) -> None:
        """The guest of `task` is up, and everything but the samples is known."""
        state = self.states[task.key[:2]]
        if launch not in state.launches:
            state.launches.append(launch)
        item = store.item_head(self._item(task.series, state))
        self.note("begin", series=task.series.label, boot=task.boot, item=item)

    def pair(self, task: Task, pair: Pair) -> None:
        """A pair was taken; the state has it already."""
        taken = self.states[task.key[:2]].outcome.pairs
        self.note(
            "pair",
            series=task.series.label,
            workload=task.workload.info.name,
            round=sum(each.boot == pair.boot for each in taken),
            pair={
                **{each.name: getattr(pair, each.name) for each in dataclasses.fields(pair)},
                "phases": to_json(pair.phases),
            },
        )

    @_alone
    def again(self, task: Task, why: VbenchError) -> None:
        """`task` is measured once more: nothing of its boot so far counts."""
        state = self.states[task.key[:2]]
        state.outcome.pairs[:] = [each for each in state.outcome.pairs if each.boot != task.boot]
        self.note(
            "again",
            series=task.series.label,
            workload=task.workload.info.name,
            boot=task.boot,
            why=str(why),
        )

    @_alone
    def end(
        self,
        task: Task,
        *,
        complete: bool,
        error: VbenchError | None = None,
        took: Mapping[str, float] | None = None,
    ) -> None:
        """`task` is over; not `complete`: it was broken off. `took`: seconds by phase."""
        state = self.states[task.key[:2]]
        if complete:
            self._ended.add(task.key)
        self.note(
            "end",
            series=task.series.label,
            boot=task.boot,
            complete=complete,
            item=store.item_head(self._item(task.series, state)),
            exits=state.outcome.exits,
            sizes=dataclasses.asdict(state.sizes),
            notes=sorted(state.outcome.notes),
            problems=state.problems,
            unsupported=state.unsupported,
            failed="" if error is None or isinstance(error, Unsupported) else str(error),
            took=took or {},
        )

    @_alone
    def enough(self, task: Task) -> None:
        """`task` is not measured: the boots before it decide."""
        self._ended.add(task.key)
        overhead = stats.overhead_of(self.item(task))
        self.note(
            "enough",
            series=task.series.label,
            workload=task.workload.info.name,
            boot=task.boot,
            half_width=overhead and overhead.half_width,
        )

    @_alone
    def cannot(self, series: Series, tasks: Sequence[Task], why: Availability) -> None:
        """Its `tasks` are over: when its host came up, it turned out that it cannot run there."""
        backend = series.variant.backend
        entry = (series.variant.text, backend.technique.value, why.reason, why.remedy)
        self._is_unavailable(series.host.name, entry)
        self._ended |= {task.key for task in tasks}
        over = [task.key[1:] for task in tasks]
        beside = [each.label for each in self.series.values() if each.host.name == series.host.name]
        self.note("unavailable", series=series.label, entry=entry, tasks=over, beside=beside)

    def _is_unavailable(self, host: str, entry: Unavailable) -> None:
        self._unavailable[host] = (*self._unavailable.get(host, ()), entry)

    def stop(self, why: str) -> None:
        """The run ends in order, because of `why`; empty: all was measured."""
        self._stopped = why
        for label in {label for label, _ in self.states}:
            self.write(self.series[label])
        self.note("stopped", why=why)

    # ------------------------------------------------------------ a run that is continued

    def resume(
        self,
        run: recovery.Recovered,
        keep: set[tuple[str, str, int]],
        infos: Mapping[str, WorkloadInfo],
    ) -> None:
        """Go on with `run`, of which the boots of the tasks `keep` are complete; `infos` are the
        workloads by name."""
        boots = {(label, boot) for label, _, boot in keep}
        recorded = {(label, boot) for label, _, boot in run.tasks}
        recorded |= {(label, launch.boot) for label, launch in run.launches}
        self._sittings = [*run.sittings, now()]
        self.note("sitting", at=self._sittings[-1])
        for label in sorted(run.unavailable):
            run.retry(label)
            self.note("retried", series=label)
        dropped = sorted(recorded - boots)
        for label, boot in dropped:
            run.drop(label, boot)
            self.note("dropped", series=label, boot=boot)
        self._known = set(run.series)
        self._ended = set(keep)
        self.started = run.head["started"]
        for label, launch in run.launches:
            self.launches.setdefault(label, []).append(launch)
            self._earlier[label, launch.variant] = launch
        for label in run.series:
            for item in run.items(label):
                last = run.last(label, item.workload)
                state = _state(infos[item.workload], item, last)
                # a later boot knew of a problem of one that is dropped now
                of = tuple(f"boot {boot + 1}: " for other, boot in dropped if other == label)
                state.problems = [each for each in state.problems if not each.startswith(of)]
                self.states[label, item.workload] = state

    # ------------------------------------------------------------ results

    @_alone
    def items(self, series: Series) -> tuple[Item, ...]:
        """Everything known of a series so far, by category and name."""
        states = [state for (label, _), state in self.states.items() if label == series.label]
        states.sort(key=lambda each: (CATEGORIES.index(each.info.category), each.info.name))
        return tuple(self._item(series, state) for state in states)

    @_alone
    def item(self, task: Task) -> Item:
        """The task's item, over all boots so far."""
        return self._item(task.series, self.states[task.key[:2]])

    def _item(self, series: Series, state: State) -> Item:
        pairs = tuple(state.outcome.pairs)
        status = Status.OK if pairs else Status.FAILED
        if state.unsupported and not pairs:
            status = Status.UNSUPPORTED
        facts = series.host.facts()
        info = state.info
        return Item(
            workload=info.name,
            category=info.category,
            unit=info.unit,
            statistic=info.statistic,
            definition=info.definition,
            backend=series.variant.backend.name,
            variant=series.variant.text,
            technique=series.variant.backend.technique,
            host=facts.identity,
            host_kind=facts.kind,
            time_base=facts.time_base,
            status=status,
            reason="; ".join(
                [state.unsupported]
                if state.unsupported
                else [*sorted(state.outcome.notes), *state.problems]
            ),
            work=state.sizes.guest,
            native_work=state.sizes.native,
            pairs=pairs,
            flags=tuple(sorted(state.outcome.flags)),
            launches=tuple(state.launches),
            commands=dict(state.outcome.commands),
            exits=dict(state.outcome.exits),
            counted=info.counted,
            cause=info.cause,
        )

    @_alone
    def result(self, series: Series) -> Result:
        """The series as it stands now."""
        backend = series.variant.backend
        items = self.items(series)
        return Result(
            host=series.host.facts(),
            variant=series.variant.text,
            items=items,
            launches=tuple(self.launches.get(series.label, ())),
            vbench_version=vbench.__version__,
            image=self.image,
            started=self.started,
            argv=self._argv,
            facts={
                row: {"text": fact.text, "source": fact.source}
                for row, fact in backend.facts.items()
            },
            declaration=series.variant.declaration,
            unavailable=tuple(self._unavailable.get(series.host.name, ())),
            reduced_to=tuple(sorted(each.workload for each in items))
            if series.part
            else series.workloads,
            seed=self._seed,
            side=series.side,
            sittings=tuple(self._sittings),
            planned=self.planned,
            done=len(self._ended),
            stopped="" if len(self._ended) >= self.planned else self._stopped,
            installation=self._installations.get(series.label),
        )

    @_alone
    def results(self) -> list[Result]:
        """All series of which something is known."""
        labels = dict.fromkeys(label for label, _ in self.states)
        return [self.result(self.series[label]) for label in labels]

    @_alone
    def write(self, series: Series) -> None:
        """Replace the series' file by all that is known now. Raises StoreError."""
        if self.out is not None:
            document = store.document(self.result(series))
            write_atomic(self.out / f"{series.label}.json", store.dumps(document))

    @_alone
    def close(self) -> None:
        """Close the journal. Safe to repeat."""
        if self._journal:
            self._journal.close()


def _state(info: WorkloadInfo, item: Item, last: Mapping[str, Any]) -> State:
    """An item as it was when its last complete boot ended; `last` is the record of that."""
    return State(
        info,
        Sizes(**last["sizes"]),
        Outcome(
            pairs=list(item.pairs),
            flags=set(item.flags),
            commands=dict(item.commands),
            notes=set(last["notes"]),
            exits=dict(item.exits),
        ),
        list(last["problems"]),
        last["unsupported"],
        list(item.launches),
    )
