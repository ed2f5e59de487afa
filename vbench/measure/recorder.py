"""Where the figures of a workload or scenario go, boot by boot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vbench.contract.guest import Guest
from vbench.errors import Unsupported, WorkloadError
from vbench.measure.plan import Plan
from vbench.model import Pair
from vbench.results.typed import Duration, from_json


@dataclass
class Outcome:
    """What one item brought, filled while it runs, so that an abort loses nothing."""

    pairs: list[Pair] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    commands: dict[str, str] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)  # what was lost on the way, in words
    exits: dict[str, float] = field(default_factory=dict)  # by reason, per unit of work


@dataclass(frozen=True)
class Recorder:
    """What `Measure` and `Lab` have in common: one item on one boot.

    `on_pair` is called at once for each pair (the journal); `phase` names what comes.
    """

    boot: int
    plan: Plan
    outcome: Outcome
    on_pair: Callable[[Pair], None]
    phase: Callable[[str], None]

    def record(self, pair: Pair) -> None:
        self.outcome.pairs.append(pair)
        self.on_pair(pair)


def duration(seconds: object, whose: str) -> float:
    """The seconds that `whose` code says it took. Raises WorkloadError for what is no duration."""
    return figure(seconds, f"the {whose} says it took {seconds} s", Duration)


def figure(value: object, says: str, shape: type = float) -> float:
    """What a workload or scenario gives as a figure of that `shape`. Raises WorkloadError, which
    `says` what it gave, for what results cannot hold."""
    try:
        return float(from_json(value, shape))
    except (TypeError, ValueError) as error:  # JSON has no such value at all, or another is asked
        raise WorkloadError(
            says, evidence=f"it {error}", remedy="mend the workload: give a finite number"
        ) from error


def phase_s(guest: Guest, operation: str, phase: str) -> float:
    """Seconds of a phase of a guest's life. Raises Unsupported where nobody timed it."""
    for each in guest.phases:
        if (each.operation, each.phase) == (operation, phase):
            return each.seconds
    raise Unsupported(f"nothing timed {operation} to {phase} of this guest")
