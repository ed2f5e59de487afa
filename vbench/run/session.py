"""One task at a time: its guest, its `Measure`, and what came of it.

A session may have lanes, each a session of its own for the tasks on one host, in another thread.
They share the book and the failures.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from vbench.contract.guest import Guest
from vbench.contract.host import Host
from vbench.contract.registry import Registry
from vbench.errors import (
    ConnectionLost,
    GuestLost,
    Interrupted,
    StoreError,
    Unsupported,
    VbenchError,
    WorkloadError,
)
from vbench.measure.lab import Lab
from vbench.measure.plan import Plan
from vbench.measure.recorder import Recorder
from vbench.model import ImageFiles, TimeBase
from vbench.results import stats
from vbench.run.book import Book
from vbench.run.failures import Failure, Failures, fault
from vbench.run.guests import Broker
from vbench.run.measuring import MeasureFactory, State
from vbench.run.phases import Phases
from vbench.run.schedule import Task
from vbench.run.series import Series
from vbench.system.interrupts import asked_to_end


class Session(AbstractContextManager["Session"]):
    """A context manager that ends guests and hosts."""

    def __init__(
        self,
        *,
        registry: Registry,
        book: Book,
        image: ImageFiles,
        plan: Plan,
        plans: Mapping[TimeBase, Plan] | None = None,
        seed: int = 0,
        image_s: float | None = None,
    ) -> None:
        """`plans` overrides `plan` for a time base; `seed` is that of the order; `image_s` is how
        long it took until the image was there."""
        self.registry = registry
        self.book = book
        self.phases = Phases()
        self._before = self.phases.seconds()  # when the task began that is measured
        self.seed = seed
        self.failures = Failures()
        self.stopped = threading.Event()  # no further task: it is to end
        self.lost: dict[Host, str] = {}  # connections that broke, by what they said
        self.gone: set[Host] = set()  # hosts that could not be reached again
        self._image, self._image_s = image, image_s
        self._plan = plan
        self._plans = dict(plans or {})
        self._hosts: tuple[Host, ...] | None = None  # of a lane
        self.broker = Broker(image, self.phases, book, self._not_ended)
        self._factory = MeasureFactory(registry, image, image_s)

    def lane(self, host: Host) -> Session:
        """A session for the tasks on `host`, whose guests come up beside those of this one. Its
        end closes the host and leaves the book open."""
        lane = Session(
            registry=self.registry,
            book=self.book,
            image=self._image,
            plan=self._plan,
            plans=self._plans,
            seed=self.seed,
            image_s=self._image_s,
        )
        lane.failures = self.failures
        lane.lost, lane.gone = self.lost, self.gone
        lane._hosts = (host,)
        return lane

    @property
    def series(self) -> tuple[Series, ...]:
        return tuple(self.book.series.values())

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Those that end with it."""
        if self._hosts is not None:
            return self._hosts
        return tuple(dict.fromkeys(series.host for series in self.series))

    def plan(self, series: Series) -> Plan:
        return self._plans.get(series.host.time_base, self._plan).at_most(series.boots)

    def enough(self, task: Task) -> bool:
        """Whether the boots so far decide about the task's item, and it is not measured again."""
        plan, state = self.plan(task.series), self.book.states.get(task.key[:2])
        if plan.fixed_boots or task.boot < stats.MIN_BOOTS or state is None:
            return False
        most = plan.boots_of(task.workload.info)
        return stats.settled(self.book.item(task), most, plan.precision)

    def measure(
        self, task: Task, call: Callable[[Any], object], *, again: bool = False
    ) -> VbenchError | None:
        """Measure one task: its guest comes up, then `call` is given its `Measure`; for a scenario,
        its `Lab`.

        A guest of an emulated host that was lost is launched `again` for it, once: where
        instructions are counted a second sample is as good. The journal keeps why.

        Returns what went wrong, Unsupported included; it is recorded. Whatever ends it, Ctrl-C
        included, the pairs taken so far stay. Raises StoreError: nothing more can be kept.
        """
        state = self.book.state(task)
        self._before = self._before if again else self.phases.seconds()
        launched = False
        try:
            if state.unsupported:
                raise Unsupported(state.unsupported)
            before = len(state.outcome.pairs)
            if task.workload.info.scenario:
                launched = True  # what fails to be launched is in the scenario
                with self._lab(task, state) as lab:
                    call(lab)
            else:
                guest = self.broker.guest(task.series, task.boot, task.workload.info.options)
                launched = True
                launch = self.book.launches[task.series.label][-1]
                measure = self._factory.make(guest, state, self._recorder(task, state, launch.boot))
                self.book.begin(task, launch.id)
                call(measure)
            if len(state.outcome.pairs) == before:
                raise _nothing_measured(task)
        except Unsupported as error:
            state.unsupported = "; ".join(filter(None, (error.what, error.remedy)))
            return self._ended(task, error)
        except StoreError as error:
            self._broken_off(task, error.what)
            raise
        except BaseException as error:
            if asked_to_end(error):
                self._broken_off(task, "interrupted")
                raise
            if self.stopped.is_set():  # its host was cut off
                self._broken_off(task, "interrupted")
                raise Interrupted from error
            failure = self._failure(error)
            if isinstance(failure, GuestLost) and task.series.host.timeout_scale > 1 and not again:
                self.broker.drop()
                self.book.again(task, failure)
                return self.measure(task, call, again=True)
            lost = self._host_lost(task.series.host, error)
            failure = lost or failure  # a guest ends with its host
            state.problems.append(f"boot {task.boot + 1}: {failure.what}")
            self._failed(task, failure, launched=launched)
            if isinstance(error, GuestLost):
                self.broker.drop()
            if lost is not None:
                self._broken_off(task, "")
                return failure
            return self._ended(task, failure)
        return self._ended(task, None)

    def _host_lost(self, host: Host, error: BaseException) -> ConnectionLost | None:
        """How the connection to a task's host broke, if it did: then the task did not fail, and is
        measured when the run is continued."""
        why = error if isinstance(error, ConnectionLost) else None
        if why is None and host.timeout_scale == 1:  # an emulated one ends with its guests
            why = _unreachable(host)
        if why is None:
            return None
        self.lost[host] = why.what
        if _unreachable(host):  # the next use makes a new connection
            self.gone.add(host)
        return why

    def _lab(self, task: Task, state: State) -> Lab:
        """The lab of a scenario. No other guest is up beside those of it."""
        self.broker.drop()

        def launch(at: Host, options: str) -> Guest:
            guest, launched = self.broker.another(task.series, task.boot, at, options)
            if not guest.capabilities.relaunchable:
                guest.close()
                raise Unsupported("vbench does not launch its guests")
            self.book.begin(task, launched.id)
            return guest

        options = task.workload.info.options
        return self._factory.lab(
            task.series.host,
            self._recorder(task, state, task.boot),
            lambda at, more: launch(at, ",".join(filter(None, (options, more)))),
            task.series.variant.backend.attest,
            task.series.variant.declaration.destination,
        )

    def _recorder(self, task: Task, state: State, boot: int) -> Recorder:
        return Recorder(
            boot,
            self.plan(task.series),
            state.outcome,
            lambda pair: self.book.pair(task, pair),
            self.phases.enter,
        )

    def _ended(self, task: Task, error: VbenchError | None) -> VbenchError | None:
        self.phases.enter("other")
        spent = self.phases.seconds()
        took = {phase: round(spent[phase] - before, 2) for phase, before in self._before.items()}
        self.book.end(task, complete=True, error=error, took=took)
        return error

    def _broken_off(self, task: Task, why: str) -> None:
        self.phases.enter("other")
        if why:  # else it is known
            self.book.states[task.key[:2]].problems.append(f"boot {task.boot + 1}: {why}")
        with contextlib.suppress(StoreError):  # the same one
            self.book.end(task, complete=False)

    def _failure(self, error: BaseException) -> VbenchError:
        """What went wrong as a VbenchError, with all that is known."""
        if not isinstance(error, VbenchError):
            return fault(WorkloadError, "the workload", error)
        guest = self.broker.current
        if isinstance(error, GuestLost) and not error.evidence and guest is not None:
            return guest.lost(error.what)  # QMP noticed it: the machine knows more
        return error

    def _failed(self, task: Task, error: VbenchError, *, launched: bool) -> None:
        workload = task.workload.info.name if launched else ""
        series = task.series
        self.failures.add(Failure(series.label, series.variant.text, workload, task.boot, error))

    def _not_ended(self, series: Series, boot: int, error: VbenchError) -> None:
        if not self.stopped.is_set():  # else its host was cut off
            self.failures.add(Failure(series.label, series.variant.text, "", boot, error))

    def close(self) -> None:
        """End the guest, the hosts and the journal. Safe to repeat."""
        with contextlib.ExitStack() as stack:
            if self._hosts is None:
                stack.callback(self.book.close)
            for host in self.hosts:
                stack.callback(host.close)
            stack.callback(self.broker.drop)
        self.phases.enter("other")

    def __exit__(self, *_: object) -> None:
        self.close()


def _unreachable(host: Host) -> ConnectionLost | None:
    try:
        host.run(["true"], timeout_s=20.0)
    except ConnectionLost as error:
        return error
    except VbenchError:
        pass
    return None


def _nothing_measured(task: Task) -> WorkloadError:
    if task.workload.info.scenario:
        return WorkloadError(
            "it took no sample: it never called `lab.record`",
            remedy="call `lab.record(...)` in the scenario",
        )
    return WorkloadError(
        "it took no sample: it never called `measure`",
        remedy="call `measure(...)` or `measure.absolute(...)` in the workload",
    )
