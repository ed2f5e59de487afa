"""What went wrong in a run: each cause is said once, whatever it took along."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vbench.errors import VbenchError, named

_TRACEBACK_LINES = 6  # of code that is not ours, the innermost last
_Error = TypeVar("_Error", bound=VbenchError)


def fault(kind: type[_Error], whose: str, error: BaseException) -> _Error:
    """The error of that kind for what the code of a workload or plugin raised."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    made = kind(
        f"{whose} raised {named(error)}",
        evidence="\n".join(lines[-_TRACEBACK_LINES:]),
        remedy=f"mend {whose}",
    )
    made.__cause__ = error
    return made


@dataclass(frozen=True)
class Failure:
    """A task that failed; without a workload: the guest itself, at its launch or its end."""

    series: str  # its label
    variant: str
    workload: str
    boot: int  # 0-based
    error: VbenchError

    @property
    def where(self) -> str:
        boot = f"boot {self.boot + 1}"
        if not self.workload:
            return f"{self.series} {boot}"
        return f"{self.workload}[{self.variant}] {boot}"


class Failures:
    """All failures of a run, in their order."""

    def __init__(self) -> None:
        self._all: list[Failure] = []
        self._printed = 0

    def __len__(self) -> int:
        return len(self._all)

    def add(self, failure: Failure) -> None:
        self._all.append(failure)

    def new(self) -> Iterator[str]:
        """The causes that came up since the last call, each with its evidence and remedy, and
        with how much more it took along."""
        printed = self._printed
        self._printed = len(self._all)  # not what another lane adds meanwhile
        for cause in _causes(self._all[: self._printed]):
            if cause[0] not in self._all[:printed]:
                yield _text(cause)

    def summary(self) -> list[str]:
        """A line for each cause, without evidence."""
        return [
            f"{first.where}: {first.error.what}" + (f" (and {len(others)} more)" if others else "")
            for first, *others in _causes(self._all)
        ]


def _causes(failures: Sequence[Failure]) -> list[list[Failure]]:
    """Failures that one thing caused, together."""
    causes: list[list[Failure]] = []
    for failure in failures:
        for cause in causes:
            if _alike(cause[0], failure):
                cause.append(failure)
                break
        else:
            causes.append([failure])
    return causes


def _alike(a: Failure, b: Failure) -> bool:
    """Whether one thing caused both: a boot that did not come up raises one error for all of its
    workloads, a workload of a series fails on each boot for the same reason, and what a guest
    lacks fails several workloads with the same evidence."""
    if not (a.workload and b.workload):
        return a.error is b.error
    return a.series == b.series and (
        str(a.error) == str(b.error) or (a.workload == b.workload and a.error.what == b.error.what)
    )


def _text(failures: list[Failure]) -> str:
    first, *others = failures
    what, *rest = str(first.error).splitlines()
    if others and not first.workload:
        count = len(others)
        what += f": {count} further workload{'s' * (count > 1)} of this boot"
    elif boots := [f"boot {each.boot + 1}" for each in others if each.workload == first.workload]:
        what += "; also on " + ", ".join(boots)
    if also := dict.fromkeys(each.workload for each in others if each.workload != first.workload):
        what += "; also " + ", ".join(also)
    return "\n".join([f"{first.where}: {what}", *rest])
