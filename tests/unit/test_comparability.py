"""What is made alike between a guest and what runs beside it, and how often."""

from __future__ import annotations

from typing import Any, cast

import pytest
from fake_targets import FakeTarget

from vbench.measure import comparability


def test_tcp_is_set_once_for_a_guest_and_again_after_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def align(guest: FakeTarget, others: list[FakeTarget]) -> tuple[str, str]:
        del others
        asked.append(guest.name)
        return guest.name, ""

    monkeypatch.setattr(comparability.tcp, "align", align)
    one, other = (cast(Any, FakeTarget(name, 1e-6, [])) for name in ("one", "other"))
    native, client, new = (cast(Any, FakeTarget(name, 1e-6, [])) for name in "nct")
    for guest in (one, one, other, other, one):
        assert comparability._aligned(guest, [native, client]) == (guest.name, "")
    assert asked == ["one", "other", "one"]
    comparability._aligned(one, [native, client, new])  # that one has nobody's yet
    assert asked == ["one", "other", "one", "one"]
    del guest, one  # it has ended
    assert comparability._aligned(other, [native, client]) == ("other", "")
