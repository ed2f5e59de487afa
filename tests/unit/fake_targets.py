"""Targets whose every second is made up, and a Measure between two of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from vbench.contract.guest import Endpoint
from vbench.measure import execution, parsers
from vbench.measure.engine import Measure, Sizes
from vbench.measure.plan import GUEST, NATIVE, Plan
from vbench.measure.recorder import Outcome, Recorder
from vbench.model import Output, Pair, TimeBase
from vbench.records import Capabilities, NativeReference, NetworkPath, UsageScope


class FakeHost:
    """A host without the files that tell of disturbance, on any time base."""

    sees_idle = True

    def __init__(self, time_base: TimeBase = TimeBase.WALL) -> None:
        self.time_base = time_base

    def read(self, path: str) -> str:
        del path
        return ""


class FakeTarget:
    """Runs `N` of a command line ending in N at `cost_s` each, in no time at all."""

    def __init__(self, name: str, cost_s: float, log: list[str]) -> None:
        self.name = name
        self.cost_s = cost_s
        self.log = log
        self.endpoint = Endpoint("/dev/scratch", 0, 256, "10.0.0.1", 5201, 1)
        self.host = FakeHost()
        self.capabilities = Capabilities(
            NativeReference.LAUNCHING_HOST, NetworkPath.TAP, pausable=True, usage=UsageScope.GUEST
        )
        self.cpu_s = 0.0
        self.answer: Callable[[str], Output] = self.spin

    def pause(self) -> None:
        self.log.append("pause")

    def resume(self) -> None:
        self.log.append("resume")

    def usage(self) -> Mapping[str, float]:
        self.cpu_s += 1.0
        return {"host_cpu_s": self.cpu_s, "vcpu_wait_s": 0.0}

    def spin(self, command: str) -> Output:
        if command in (execution.LISTENING, execution.startable("serve")):
            return Output(0, "", "")
        units = int(command.rsplit(maxsplit=1)[-1])
        return Output(0, json.dumps({"elapsed_ns": round(units * self.cost_s * 1e9)}), "")

    def run(self, command: str, *, timeout_s: float) -> Output:
        self.log.append(f"{self.name}: {command}")
        return self.answer(command)

    @contextlib.contextmanager
    def server(self, command: str) -> Iterator[None]:
        self.log.append(f"{self.name} serves {command}")
        try:
            yield
        finally:
            self.log.append(f"{self.name} served")


class Bench:
    """A Measure between two fakes, and all that it said."""

    def __init__(self, **changes: Any) -> None:
        self.log: list[str] = []
        # milliseconds only: claims of more, made in no time, would be flagged as a wrong clock
        self.guest = FakeTarget(GUEST, 2e-6, self.log)
        self.native = FakeTarget(NATIVE, 1e-6, self.log)
        self.client = FakeTarget("client", 1e-6, self.log)
        self.pairs: list[Pair] = []
        self.outcome = Outcome()
        self.sizes = Sizes()
        self.phases: list[str] = []
        self.changes = changes

    def measure(self, boot: int = 0, **changes: Any) -> Measure:
        given: dict[str, Any] = {
            "guest": self.guest,
            "native": self.native,
            "clients": {NATIVE: self.client, GUEST: self.client},
            "boot": boot,
            "plan": Plan(target_s=1e-3, rounds=2),
            "sizes": self.sizes,
            "outcome": self.outcome,
            "on_pair": self.pairs.append,
            "counters": lambda _: {},
            "phase": self.phases.append,
            **self.changes,
            **changes,
        }
        recorder = Recorder(**{each.name: given.pop(each.name) for each in fields(Recorder)})
        return Measure(recorder=recorder, **given)

    def __call__(self, boot: int = 0, **changes: Any) -> None:
        self.measure(boot, **changes)(lambda units, _: f"spin {units}", read=parsers.probe)
