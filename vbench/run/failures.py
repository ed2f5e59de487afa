"""What went wrong in a run: each cause is said once, whatever it took along."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
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
        before = {_cause(failure) for failure in self._all[: self._printed]}
        since = self._all[self._printed :]
        self._printed += len(since)  # not what another lane has added since
        for cause in dict.fromkeys(map(_cause, since)):
            if cause not in before:
                yield _text([failure for failure in since if _cause(failure) == cause])

    def summary(self) -> list[str]:
        """A line for each cause, without evidence."""
        lines = []
        for cause in dict.fromkeys(map(_cause, self._all)):
            first, *others = (failure for failure in self._all if _cause(failure) == cause)
            more = f" (and {len(others)} more)" if others else ""
            lines.append(f"{first.where}: {first.error.what}{more}")
        return lines


def _cause(failure: Failure) -> object:
    """Equal for failures that one thing caused: a boot that did not come up raises one error for
    all of its workloads, and a workload of a series fails on each boot for the same reason."""
    if not failure.workload:
        return id(failure.error)
    return (failure.series, failure.workload, failure.error.what)


def _text(failures: list[Failure]) -> str:
    first, *others = failures
    what, *rest = str(first.error).splitlines()
    if others and not first.workload:
        count = len(others)
        what += f": {count} further workload{'s' * (count > 1)} of this boot"
    elif others:
        what += "; also on " + ", ".join(f"boot {each.boot + 1}" for each in others)
    return "\n".join([f"{first.where}: {what}", *rest])
