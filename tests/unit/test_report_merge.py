# ruff: noqa: RUF001 - the report shows a multiplication sign
"""Several files in one report: like things add up, unlike things are named and kept apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sample_results import TESTBED, full_run, item, pairs, result
from test_report import cell, markdown

from vbench.model import Status
from vbench.report.gather import gather


def test_boots_of_several_files_add_up() -> None:
    first = result(item("a", pairs(1.5, seed=1, boots=2)))
    later = result(item("a", pairs(1.5, seed=2, boots=2)), started="2026-03-03T00:00:00Z")
    text = markdown(later, first)
    assert "`tcg`, 4 boots" in cell(text, "## By", "**Measured as**", 1)
    assert cell(text, "**Computing**", "a<br>", 3) == "4 × 3"
    assert "<code>tcg</code>: 4 boots" in text


def test_a_measured_item_beats_a_failed_one() -> None:
    failed = result(item("a", (), status=Status.FAILED, reason="died"))
    later = result(item("a", pairs(1.5)), started="2026-03-03T00:00:00Z")
    for order in ((failed, later), (later, failed)):
        assert cell(markdown(*order), "**Computing**", "a<br>", 3) == "5 × 3"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"image": "sha256:other"}, "image (`sha256:0123456789abcdef` against `sha256:other`)"),
        (
            {"host": replace(full_run()[0].host, time_base=TESTBED.time_base)},
            "time base (`wall` against `instructions`)",
        ),
        (
            {"host": replace(full_run()[0].host, facts={"cpu_model": "other"})},
            "host cpu_model",
        ),
    ],
)
def test_unlike_results_of_one_host_get_panels_of_their_own(
    change: dict[str, object], key: str
) -> None:
    one = result(item("a", pairs(1.5)))
    other = result(item("a", pairs(3.0), variant="tcg-virtio"), **change)
    gathered = gather([one, other])
    assert [panel.variants() for panel in gathered.panels] in (
        [["tcg"], ["tcg-virtio"]],
        [["tcg-virtio"], ["tcg"]],
    )
    text = markdown(one, other)
    assert "## What was not put together" in text
    assert key in text
    assert "## What was not put together" not in markdown(one)


def test_another_workload_definition_is_refused_by_name() -> None:
    one = result(item("a", pairs(1.5)))
    other = result(item("a", pairs(3.0), variant="tcg-virtio", definition="sha256:changed"))
    text = markdown(other, one)
    assert "×3.0" not in text
    assert "`a[tcg-virtio]`" in text
    assert "workload definition (`sha256:changed`)" in text


def test_hosts_are_never_merged() -> None:
    here = result(item("a", pairs(1.5)))
    there = replace(here.host, identity="ssh://other")
    gathered = gather([here, result(item("a", pairs(1.5), host="ssh://other"), host=there)])
    assert len(gathered.panels) == 2
    assert not gathered.refused
    assert "joins files of several hosts" in markdown(here, result(*here.items, host=there))
