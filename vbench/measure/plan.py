"""How much is measured: boots, rounds, the size of a sample, who goes first."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

from vbench.errors import UsageError
from vbench.model import Statistic, WorkloadInfo

GUEST, NATIVE = "guest", "native"
# From one calibration step to the next the work grows at most so much: a first step that was
# too short to time must not lead to a second one that takes minutes.
_MAX_GROWTH = 32


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    `target_s` is the wished length of one sample; `rounds` pairs are taken on a boot (boots differ
    by more than rounds do: a second took a fifth of the time and narrowed intervals by a tenth);
    `budget_s` bounds the item by the wall clock, `command_timeout_s` one command. Without
    `own_guests` a workload that wants a guest of its own (`options`) is measured only if it was
    named. `fixed_boots` and `fixed_rounds`: the user said how many. Of `boots`, those are not made
    that decide nothing, or with a `precision` (a share) those after it was reached. `exits`: once
    for each workload it is counted why a guest left for its hypervisor, which takes longer than
    a sample in the testbed.
    """

    boots: int = 5
    quantile_boots: int = 2
    rounds: int = 1
    target_s: float = 0.2
    budget_s: float = 60.0
    command_timeout_s: float = 60.0
    own_guests: bool = True
    fixed_boots: bool = False
    fixed_rounds: bool = False
    precision: float | None = None
    exits: bool = True

    def at_most(self, boots: int) -> Plan:
        """This plan with fewer boots, unless the user fixed them; 0 bounds nothing. Of one boot
        two rounds at least, for an interval, if only over rounds."""
        if self.fixed_boots or not 0 < boots < self.boots:
            return self
        rounds = self.rounds if self.fixed_rounds else max(2, self.rounds)
        quantile_boots = min(boots, self.quantile_boots)
        return replace(self, boots=boots, quantile_boots=quantile_boots, rounds=rounds)

    def boots_of(self, info: WorkloadInfo) -> int:
        """Boots of a workload: a distribution of thousands of events is told by fewer."""
        boots = self.quantile_boots if info.statistic is Statistic.QUANTILES else self.boots
        return min(boots, info.boots or boots)

    def __post_init__(self) -> None:
        if self.boots < 1:
            raise UsageError("--boots is at least 1")
        if self.rounds < 1:
            raise UsageError("--rounds is at least 1")


# To reach a precision that the user asks for, so many boots are made if need be.
PRECISE_BOOTS = 10
QUICK = Plan(boots=3, quantile_boots=1, rounds=1, target_s=0.1, budget_s=20.0, own_guests=False)
# Where a second is 10^9 instructions. 50 million are hundreds of groups of units, whose median is
# exact. One round of a boot does, and the second boot proves it. A command's time-out is in the
# target's seconds, which last several of ours.
COUNTING = Plan(boots=2, rounds=1, target_s=0.05, budget_s=300.0, command_timeout_s=20.0)


def calibrate(first: int, target_s: float, most: int, least: int = 1) -> Generator[int, float, int]:
    """Yields units of work to run, receives seconds; returns the units for `target_s`, from
    `least` to `most`.

    Stops at the first run that took at least half of the target. It is no smaller than a sample
    will be, so that it is the warm-up as well.
    """
    units = min(first, most)
    while True:
        elapsed_s = yield units
        growth = target_s / elapsed_s if elapsed_s > 0 else float(_MAX_GROWTH)
        wanted = max(least, min(most, round(units * min(growth, _MAX_GROWTH))))
        if elapsed_s >= target_s / 2 or units in {wanted, most}:
            return min(units, wanted)
        units = wanted


def order(round_number: int, boot: int) -> tuple[str, str]:
    """Which side goes first: alternating, so that a drift inside a pair cancels."""
    return (NATIVE, GUEST) if (round_number + boot) % 2 == 0 else (GUEST, NATIVE)
