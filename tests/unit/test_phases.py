"""Every second of a run belongs to one phase."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbench.run import phases
from vbench.run.phases import PHASES, Phases


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(phases, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_time_goes_to_the_phase_that_is_on(clock: list[float]) -> None:
    made = Phases()
    clock[0] += 1
    made.enter("booting")
    clock[0] += 40
    made.enter("measuring")
    clock[0] += 50
    assert made.seconds() == {"booting": 40, "calibrating": 0, "measuring": 50, "other": 1}
    clock[0] += 9
    made.enter("booting")
    assert made.seconds()["measuring"] == 59
    assert made.describe() == (
        "booting 40 s (40%), calibrating 0 s (0%), measuring 59 s (59%), other 1 s (1%)"
    )


def test_asking_changes_nothing(clock: list[float]) -> None:
    made = Phases()
    clock[0] += 2
    before = made.seconds()
    assert made.seconds() == before
    clock[0] += 3
    assert made.seconds()["other"] == 5
    assert before["other"] == 2


def test_nothing_spent_yet(clock: list[float]) -> None:
    assert "0 s (0%)" in Phases().describe()


@given(st.lists(st.tuples(st.sampled_from(PHASES), st.integers(0, 1000))))
def test_nothing_is_lost(steps: list[tuple[str, int]]) -> None:
    now = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phases, "time", SimpleNamespace(monotonic=lambda: now[0]))
        made = Phases()
        for phase, seconds in steps:
            made.enter(phase)
            now[0] += seconds
        assert sum(made.seconds().values()) == now[0]
