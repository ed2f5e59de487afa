"""Where a run's wall time goes."""

from __future__ import annotations

import time
from collections.abc import Mapping

PHASES = ("booting", "calibrating", "measuring", "other")


class Phases:
    """A stopwatch that is always in exactly one phase."""

    def __init__(self) -> None:
        self._spent = dict.fromkeys(PHASES, 0.0)
        self._now = "other"
        self._since = time.monotonic()

    def enter(self, phase: str) -> None:
        """What follows counts as `phase` (one of PHASES)."""
        at = time.monotonic()
        if self._now:
            self._spent[self._now] += at - self._since
        self._now, self._since = phase, at

    def pause(self) -> None:
        """What follows, until another phase begins, counts as none: others measure."""
        self.enter(self._now)
        self._now = ""

    def seconds(self) -> Mapping[str, float]:
        """Seconds spent in each phase so far."""
        self.enter(self._now)
        return dict(self._spent)

    def add(self, other: Phases) -> None:
        """What another one has spent counts as well."""
        for phase, seconds in other.seconds().items():
            self._spent[phase] += seconds

    def describe(self) -> str:
        """One line: "booting 40 s (33 %), ..."."""
        spent = self.seconds()
        total = sum(spent.values()) or 1.0
        return ", ".join(
            f"{phase} {seconds:.0f} s ({seconds / total:.0%})" for phase, seconds in spent.items()
        )
