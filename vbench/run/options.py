"""What a run was asked for."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vbench.measure.plan import COUNTING, PRECISE_BOOTS, QUICK, Plan


def say(text: str) -> None:
    """A line for the user. Where nobody can read it any more (a terminal that was closed), it is
    dropped: what was measured must still be kept."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        return


@dataclass(frozen=True)
class RunOptions:
    """What `vbench run` was asked for; None and empty mean the default."""

    variants: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    rounds: int | None = None
    boots: int | None = None
    precision: float | None = None  # a share: 0.02 is 2 %
    quick: bool = False
    out: Path | None = None
    plugins: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    kernel: str = "debian"
    modules: str | None = None
    argv: tuple[str, ...] = ()
    seed: int | None = None  # of the order of variants and workloads; None: a random one
    # the two variants are compared in the end, and what is slower by so many per cent fails
    ab: bool = False
    fail_above: float | None = None
    allow_missing: bool = False

    def record(self) -> dict[str, Any]:
        """For the journal; relative paths are made absolute."""
        record = dataclasses.asdict(self)
        del record["out"]
        for key in ("plugins", "files"):
            record[key] = [str(path.resolve()) for path in record[key]]
        return record

    def plan(self) -> Plan:
        """The plan these options ask for. Raises UsageError."""
        plan = QUICK if self.quick else Plan()
        if self.precision is not None:
            plan = dataclasses.replace(plan, boots=PRECISE_BOOTS, precision=self.precision)
        if self.ab:
            # As many of each, also of a distribution: boots alone tell what differs between two.
            plan = dataclasses.replace(plan, quantile_boots=plan.boots, fixed_boots=True)

        if self.boots == 1:
            plan = dataclasses.replace(plan, rounds=2)  # for an interval, if only over rounds
        return self._fixed(plan)

    def counting_plan(self) -> Plan:
        """The same where instructions are counted: samples repeat, so few and short ones do."""
        # one boot does, but only a second proves to `ab` that a count repeats
        quick = dataclasses.replace(
            COUNTING, boots=2 if self.ab else 1, own_guests=False, exits=self.ab
        )
        return self._fixed(quick if self.quick else COUNTING)

    def _fixed(self, plan: Plan) -> Plan:
        if self.rounds is not None:
            plan = dataclasses.replace(plan, rounds=self.rounds, fixed_rounds=True)
        if self.boots is not None:
            plan = dataclasses.replace(
                plan, boots=self.boots, quantile_boots=self.boots, fixed_boots=True
            )
        return plan
