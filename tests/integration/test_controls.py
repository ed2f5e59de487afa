"""A/A comes out as 1.00 and a slowdown of 5 % is found, by the path that every result takes.

benchmarks/controls.py has the target for a quiet machine. Here boots are added until the interval
is narrow enough to tell 5 % from nothing; a machine too busy for that is said and skipped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.controls import SLOWDOWN_PERCENT, Control
from vbench import image
from vbench.contract.guest import Target
from vbench.contract.registry import Registry
from vbench.guest.native import Native
from vbench.hosts.local import LocalHost
from vbench.measure.plan import Plan

pytestmark = pytest.mark.alone

PLAN = Plan(rounds=2, target_s=0.1)
LEAST_BOOTS, HALF_WIDTH, PATIENCE_S = 6, 0.02, 45.0


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHost]:
    monkeypatch.setenv("VBENCH_TMP", str(tmp_path))
    made = LocalHost()
    yield made
    made.close()
    assert list(tmp_path.iterdir()) == []


def check(target: Target, host: LocalHost) -> None:
    """The target against itself, and against itself slowed down, in turns."""
    same, slower = Control(host, plan=PLAN), Control(host, SLOWDOWN_PERCENT, PLAN)
    began = time.monotonic()
    boot = 0
    while boot < LEAST_BOOTS or max(map(half_width, (same, slower))) > HALF_WIDTH:
        if boot >= LEAST_BOOTS and time.monotonic() - began > PATIENCE_S:
            break
        same.measure(target, boot)
        slower.measure(target, boot)
        boot += 1
    told = f"A/A {same.overhead}, slower {slower.overhead}"
    # A 95 % interval misses the truth once in twenty times; by a whole per cent it does not.
    assert same.overhead.low <= 1.01, told
    assert same.overhead.high >= 0.99, told
    assert slower.overhead.low <= 1 + SLOWDOWN_PERCENT / 100 + 0.01, told
    assert slower.overhead.high >= 1 + SLOWDOWN_PERCENT / 100 - 0.01, told
    if half_width(slower) > HALF_WIDTH:
        twice = Control(host, 100, PLAN)
        for number in range(LEAST_BOOTS):
            twice.measure(target, number)
        assert twice.overhead.low > 1, twice.overhead
        pytest.skip(f"this machine is too busy to tell {SLOWDOWN_PERCENT} % from nothing: {told}")
    assert slower.overhead.low > 1, told
    assert 1.03 <= slower.overhead.ratio <= 1.07, told


def half_width(control: Control) -> float:
    return (control.overhead.high - control.overhead.low) / 2


def test_native_against_native(host: LocalHost) -> None:
    check(Native(host, host.upload_image(image.ensure())), host)


@pytest.mark.tcg
def test_a_guest_against_the_same_guest(host: LocalHost) -> None:
    variant = Registry.load().variant("tcg-virtio")
    with variant.backend.launch(host, image.ensure(), variant.options) as guest:
        check(guest, host)
