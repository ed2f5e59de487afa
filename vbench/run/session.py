"""One run: which series are measured, and what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import vbench
from vbench.contract.registry import Registry
from vbench.errors import GuestLost, StoreError, Unsupported, VbenchError, WorkloadError
from vbench.measure.engine import Measure
from vbench.measure.plan import Plan
from vbench.model import CATEGORIES, ImageFiles, Item, Pair, Result, Status, TimeBase
from vbench.results import store
from vbench.results.journal import Journal, write_atomic
from vbench.run.failures import Failure, Failures
from vbench.run.guests import Broker, Series
from vbench.run.measuring import MeasureFactory, State
from vbench.run.phases import Phases
from vbench.run.schedule import Task

_TRACEBACK_LINES = 6  # of a workload's own fault, the innermost last


class Session:
    """A context manager that ends guests and hosts."""

    def __init__(
        self,
        *,
        registry: Registry,
        series: Sequence[Series],
        image: ImageFiles,
        plan: Plan,
        plans: Mapping[TimeBase, Plan] | None = None,
        out: Path | None = None,
        argv: Sequence[str] = (),
        seed: int = 0,
        unavailable: Mapping[str, Sequence[tuple[str, str, str, str]]] | None = None,
    ) -> None:
        """`plans` overrides `plan` for a time base; `out` None keeps nothing on disk;
        `seed` is that of the order; `unavailable` is by the name of the host."""
        self.registry = registry
        self.series = {each.label: each for each in series}
        self.image = image
        self.out = out
        self.phases = Phases()
        self._plan = plan
        self._plans = dict(plans or {})
        self._argv = tuple(argv)
        self._unavailable = dict(unavailable or {})
        self._began = time.monotonic()
        self._started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._journal = Journal(out) if out else None
        self._states: dict[tuple[str, str], State] = {}
        self.broker = Broker(image, self.phases, self._note, self._not_ended)
        self._factory = MeasureFactory(registry, image, self.phases)
        self.failures = Failures()
        self.seed = seed

    def plan(self, series: Series) -> Plan:
        return self._plans.get(series.host.time_base, self._plan).at_most(series.boots)

    # ------------------------------------------------------------ measuring

    def measure(self, task: Task, call: Callable[[Measure], object]) -> VbenchError | None:
        """Measure one task: its guest comes up, then `call` is given its `Measure`.

        Returns what went wrong, Unsupported included; it is recorded. Whatever ends it, Ctrl-C
        included, the pairs taken so far stay. Raises StoreError: nothing more can be kept.
        """
        series, info, boot = task.series, task.workload.info, task.boot
        state = self._states.setdefault((series.label, info.name), State(info))
        if not state.sizes.native:  # another variant has calibrated native already
            state.sizes.native = self._native_size(series, info.name)
        launched = False
        try:
            if state.unsupported:
                raise Unsupported(state.unsupported)
            guest = self.broker.guest(series, boot, info.options)
            launched = True
            launch = self.broker.launches[series.label][-1]
            if launch.id not in state.launches:
                state.launches.append(launch.id)
            plan, on_pair = self.plan(series), self._on_pair(task)
            call(self._factory.make(guest, state, launch.boot, plan, on_pair))
        except Unsupported as error:
            state.unsupported = error.what
            return error
        except StoreError as error:
            state.problems.append(f"boot {boot + 1}: {error.what}")
            raise
        except Exception as error:
            failure = self._failure(error)
            state.problems.append(f"boot {boot + 1}: {failure.what}")
            self.failures.add(
                Failure(
                    series.label,
                    series.variant.text,
                    info.name if launched else "",
                    boot,
                    failure,
                )
            )
            if isinstance(error, GuestLost):
                self.broker.drop()
            return failure
        except BaseException:
            state.problems.append(f"boot {boot + 1}: interrupted")
            raise
        finally:
            self.phases.enter("other")
            self._note(
                {
                    "event": "item",
                    "series": series.label,
                    "workload": info.name,
                    "boot": boot,
                    "problems": state.problems,
                    "unsupported": state.unsupported,
                }
            )
        return None

    def _failure(self, error: Exception) -> VbenchError:
        """What went wrong as an error of ours, with all that is known."""
        if not isinstance(error, VbenchError):
            lines = "".join(traceback.format_exception(error)).splitlines()
            fault = WorkloadError(
                f"the workload raised {type(error).__name__}: {error}",
                evidence="\n".join(lines[-_TRACEBACK_LINES:]),
                remedy="mend the workload",
            )
            fault.__cause__ = error
            return fault
        guest = self.broker.current
        if isinstance(error, GuestLost) and not error.evidence and guest is not None:
            return guest.lost(error.what)  # QMP noticed it: the machine knows more
        return error

    def _not_ended(self, series: Series, boot: int, error: VbenchError) -> None:
        self.failures.add(Failure(series.label, series.variant.text, "", boot, error))

    def _native_size(self, series: Series, workload: str) -> int:
        """Units that make a native sample of this workload on this host, 0 if not known yet."""
        known = (
            state.sizes.native
            for (label, name), state in self._states.items()
            if name == workload and self.series[label].host is series.host
        )
        return next(filter(None, known), 0)

    def _on_pair(self, task: Task) -> Callable[[Pair], None]:
        def note(pair: Pair) -> None:
            self._note(
                {
                    "event": "pair",
                    "series": task.series.label,
                    "workload": task.workload.info.name,
                    **{each.name: getattr(pair, each.name) for each in dataclasses.fields(pair)},
                }
            )

        return note

    def _note(self, record: Mapping[str, Any]) -> None:
        """To the journal, with the seconds since this run began."""
        if self._journal:
            self._journal.append({"at_s": round(time.monotonic() - self._began, 2), **record})

    # ------------------------------------------------------------ results

    def items(self, series: Series) -> tuple[Item, ...]:
        """Everything known of a series so far, by category and name."""
        states = [state for (label, _), state in self._states.items() if label == series.label]
        states.sort(key=lambda each: (CATEGORIES.index(each.info.category), each.info.name))
        return tuple(self._item(series, state) for state in states)

    def item_of(self, series: Series, workload: str) -> Item:
        return self._item(series, self._states[series.label, workload])

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

    def result(self, series: Series) -> Result:
        """The series as it stands now."""
        items = self.items(series)
        backend = series.variant.backend
        return Result(
            host=series.host.facts(),
            variant=series.variant.text,
            items=items,
            launches=tuple(self.broker.launches.get(series.label, ())),
            vbench_version=vbench.__version__,
            image=self.image.digest,
            started=self._started,
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
        )

    def write(self, series: Series) -> None:
        """Replace the series' file by all that is known now. Raises StoreError."""
        if self.out is not None:
            document = store.document(self.result(series))
            write_atomic(self.out / f"{series.label}.json", store.dumps(document))

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """End the guest, the hosts and the journal. Safe to repeat."""
        with contextlib.ExitStack() as stack:
            if self._journal:
                stack.callback(self._journal.close)
            for host in {series.host.name: series.host for series in self.series.values()}.values():
                stack.callback(host.close)
            stack.callback(self.broker.drop)
        self.phases.enter("other")

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
