"""What is measured, in which order."""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vbench.contract.host import Host
from vbench.contract.workload import Workload
from vbench.errors import UsageError
from vbench.measure.plan import Plan
from vbench.model import ON_DEVICES, TimeBase, WorkloadInfo
from vbench.run.series import Series

_T = TypeVar("_T")


@dataclass(frozen=True)
class Task:
    """One workload of one series on one boot."""

    series: Series
    workload: Workload
    boot: int  # 0-based

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.series.label, self.workload.info.name, self.boot)

    @property
    def guest(self) -> tuple[str, int, str]:
        """Tasks of equal ones share a guest."""
        info = self.workload.info
        return (self.series.label, self.boot, info.name if info.scenario else info.options)


def check_names(globs: Sequence[str], infos: Iterable[WorkloadInfo]) -> None:
    """Raises UsageError for a glob that no workload has, with the nearest name."""
    known = list(infos)
    for glob in globs:
        if not any(info.matches(glob) for info in known):
            names = sorted(info.name for info in known)
            near = difflib.get_close_matches(glob, names, 1)
            raise UsageError(
                f"no workload is called {glob!r}; "
                + (f"did you mean {near[0]!r}? " if near else "")
                + f"there are: {', '.join(names)}"
            )


def schedule(
    series: Sequence[Series],
    workloads: Sequence[Workload],
    globs: Sequence[str],
    plan_of: Callable[[Series], Plan],
    seed: int,
) -> list[Task]:
    """All tasks whose workload matches one of `globs` (empty: all), in the order of measuring.

    Host by host, so that the testbed is not up while this machine is timed. There boot by boot,
    so that boots of all variants interleave and a slow drift of the machine meets all of them
    alike. Within a boot variants and workloads follow `seed`, so that none has always the same
    one before it; but a count of instructions does not drift, and is the more exact the more
    alike its boots are, so there the order is fixed: what has the most to measure and what is
    representative come first.

    Where some are counted and some are timed, a first table is to stand early: of those that are
    timed, one boot of what is representative, then all counts, then the rest. What only differs
    from another variant in its devices is not in that table. Raises UsageError.
    """
    check_names(globs, (workload.info for workload in workloads))
    tasks: list[Task] = []
    for host in dict.fromkeys(each.host.name for each in series):
        there = [each for each in series if each.host.name == host]
        if counts(there[0]):
            there.sort(key=lambda one: -len(list(_chosen(one, workloads, globs, plan_of(one), 0))))
        for boot in range(max(plan_of(each).boots for each in there)):
            mixed = _mixed(there, there[0].host, f"{seed} {host} {boot}")
            for each in mixed:
                chosen = list(_chosen(each, workloads, globs, plan_of(each), boot))
                chosen = _mixed(chosen, each.host, f"{seed} {each.label} {boot}")
                if counts(each):
                    chosen.sort(key=lambda workload: not workload.info.representative)
                # those that share a guest together, the plain one first; scenarios share none
                chosen.sort(
                    key=lambda one: (one.info.scenario, one.info.options, not one.info.fresh)
                )
                tasks += [Task(each, workload, boot) for workload in chosen]
    return _table_first(tasks)


def _table_first(tasks: Sequence[Task]) -> list[Task]:
    counted = [task for task in tasks if counts(task.series)]
    early = [
        task
        for task in tasks
        if counted and not counts(task.series) and task.boot == 0
        if task.workload.info.representative and not task.workload.info.options
        if task.series.workloads != ON_DEVICES
    ]
    first = [*early, *counted]
    known = {task.key for task in first}
    return first + [task for task in tasks if task.key not in known]


def counts(series: Series) -> bool:
    """Whether it needs no quiet machine: instructions are counted."""
    return series.host.time_base is TimeBase.INSTRUCTIONS


def _mixed(things: Sequence[_T], host: Host, seed: str) -> list[_T]:
    if host.time_base is TimeBase.INSTRUCTIONS:
        return list(things)
    return random.Random(seed).sample(things, len(things))  # noqa: S311 - no secret


def _chosen(
    series: Series, workloads: Sequence[Workload], globs: Sequence[str], plan: Plan, boot: int
) -> Iterator[Workload]:
    for workload in workloads:
        info = workload.info
        wanted = series.takes(info) and (not globs or any(map(info.matches, globs)))
        if not globs:
            wanted = wanted and (plan.own_guests or not (info.options or info.scenario))
            # of a guest whose CPUs are not an option's the workload itself finds out
            wanted = wanted and getattr(series.variant.options, "vcpus", info.cpus) >= info.cpus
        if info.named:  # "*" names none
            wanted = wanted and any(info.matches(glob) for glob in globs if glob != "*")
        if wanted and boot < plan.boots_of(info):
            yield workload
