"""Controls of the whole path, from the probe to the interval.

    python benchmarks/controls.py [VARIANT]

A/A: one side measured against itself must come out as 1.00 (target: the interval holds 1.00, its
half-width is at most 2 %). Positive control: a slowdown of 5 % put into one side must be found.
Natively against natively, and a guest of VARIANT (tcg-virtio) against the same guest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from typing import NamedTuple, cast

from vbench import image
from vbench.contract.guest import Endpoint, Guest, Target
from vbench.contract.host import Host
from vbench.contract.registry import Registry
from vbench.guest.native import Native
from vbench.hosts.local import LocalHost
from vbench.hosts.lock import local_lock
from vbench.measure import parsers
from vbench.measure.engine import Measure, Sizes
from vbench.measure.plan import Plan
from vbench.measure.recorder import Outcome, Recorder
from vbench.model import ImageFiles, Output, Pair
from vbench.records import Capabilities, NativeReference, NetworkPath
from vbench.results import stats

SLOWDOWN_PERCENT = 5
HALF_WIDTH = 0.02
PLAN = Plan(boots=5, rounds=6, target_s=0.2)


class Side:
    """A target in the stead of guest or native, slowed down by so much."""

    def __init__(self, target: Target, host: Host, slow_percent: int = 0) -> None:
        self._target = target
        self._slow = f" --slow-percent {slow_percent}" if slow_percent else ""
        self.host = host
        # never paused: the other side is the same guest, or there is none
        self.capabilities = Capabilities(NativeReference.NONE, NetworkPath.NONE)

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def usage(self) -> dict[str, float]:
        return {}

    @property
    def endpoint(self) -> Endpoint:
        return self._target.endpoint

    def run(self, command: str, *, timeout_s: float) -> Output:
        return self._target.run(command + self._slow, timeout_s=timeout_s)

    def server(self, command: str) -> AbstractContextManager[None]:
        return self._target.server(command)


class Interval(NamedTuple):
    """An overhead with its 95 % interval."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.4f} [{self.low:.4f}, {self.high:.4f}]"


class Control:
    """A target against itself, over boots; `pairs` grows by those of one boot a call."""

    def __init__(self, host: Host, slow_percent: int = 0, plan: Plan = PLAN) -> None:
        self._host = host
        self._slow_percent = slow_percent
        self._plan = plan
        self._sizes = Sizes()
        self.pairs: list[Pair] = []

    def measure(self, target: Target, boot: int) -> None:
        Measure(
            guest=cast(Guest, Side(target, self._host, self._slow_percent)),
            native=cast(Native, Side(target, self._host)),
            clients={},
            recorder=Recorder(boot, self._plan, Outcome(), self.pairs.append, lambda _: None),
            sizes=self._sizes,
            counters=lambda _: {},
        )(lambda steps, _: f"vbench-probe spin {steps}", read=parsers.probe, initial_units=100_000)

    @property
    def overhead(self) -> Interval:
        """Of two pairs at least: one has no interval."""
        found = stats.overhead(self.pairs)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        return Interval(found.ratio, found.low, found.high)


def native_boots(host: Host, files: ImageFiles, boots: int) -> Iterator[Target]:
    """Native has no boots: the same, again and again."""
    native = Native(host, host.upload_image(files))
    for _ in range(boots):
        yield native


def guest_boots(host: Host, files: ImageFiles, boots: int, text: str) -> Iterator[Target]:
    """A fresh guest for each boot."""
    variant = Registry.load().variant(text)
    for _ in range(boots):
        with closing(variant.backend.launch(host, files, variant.options)) as guest:
            variant.backend.attest(guest)
            yield guest


def main(words: Sequence[str]) -> int:
    variant = words[0] if words else "tcg-virtio"
    met = True
    with ExitStack() as stack:
        stack.enter_context(local_lock(print))
        host = LocalHost()
        stack.callback(host.close)
        files = image.ensure()
        for name, targets in (
            ("native", native_boots(host, files, PLAN.boots)),
            (variant, guest_boots(host, files, PLAN.boots, variant)),
        ):
            same, slower = Control(host), Control(host, SLOWDOWN_PERCENT)
            for boot, target in enumerate(targets):
                same.measure(target, boot)
                slower.measure(target, boot)
            one, more = same.overhead, slower.overhead
            half = (one.high - one.low) / 2
            holds = one.low <= 1 <= one.high and half <= HALF_WIDTH
            finds = more.low > 1 and more.low <= 1 + SLOWDOWN_PERCENT / 100 <= more.high
            met = met and holds and more.low > 1
            print(
                f"{name}: A/A {one}, half-width {half:.2%} "
                f"({'met' if holds else 'MISSED'}: 1.00 inside, at most {HALF_WIDTH:.0%}); "
                f"{SLOWDOWN_PERCENT} % slower {more} "
                f"({'found' if finds else 'found, but not as 5 %' if more.low > 1 else 'MISSED'})",
                flush=True,
            )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
