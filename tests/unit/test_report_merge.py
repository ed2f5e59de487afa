# ruff: noqa: RUF001 - the report shows a multiplication sign
"""Several files in one report: like things add up, unlike things are named and kept apart."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from sample_results import LOCAL, TESTBED, full_run, item, launch, pairs, result
from test_report import cell, markdown

from vbench.model import HostFacts, Status
from vbench.records import DeviceSettings
from vbench.report.gather import gather
from vbench.results.merge import distinct


def test_boots_of_several_files_add_up() -> None:
    first = result(item("a", pairs(1.5, seed=1, boots=2)))
    later = result(item("a", pairs(1.5, seed=2, boots=2)), started="2026-03-03T00:00:00Z")
    text = markdown(later, first)
    assert "`tcg`, 4 boots" in cell(text, "## Techniques", "**Measured as**", 1)
    assert cell(text, "**Computing**", "a<br>", 4) == "4 × 3"
    assert "<code>tcg</code>: 4 boots" in text


def test_a_measured_item_beats_a_failed_one() -> None:
    failed = result(item("a", (), status=Status.FAILED, reason="died"))
    later = result(item("a", pairs(1.5)), started="2026-03-03T00:00:00Z")
    for order in ((failed, later), (later, failed)):
        assert cell(markdown(*order), "**Computing**", "a<br>", 4) == "5 × 3"


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
            "CPU model",
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
    assert "## Results that were not merged" in text
    assert key in text
    assert "## Results that were not merged" not in markdown(one)


def test_another_workload_definition_is_refused_by_name() -> None:
    one = result(item("a", pairs(1.5)))
    other = result(item("a", pairs(3.0), variant="tcg-virtio", definition="sha256:changed"))
    text = markdown(other, one)
    assert "×3.0" not in text
    assert "`a[tcg-virtio]`" in text
    assert "definition (`sha256:changed` against `sha256:a`)" in text


def test_hosts_are_never_merged() -> None:
    here = result(item("a", pairs(1.5)))
    there = replace(here.host, identity="ssh://other")
    gathered = gather([here, result(item("a", pairs(1.5), host="ssh://other"), host=there)])
    assert len(gathered.panels) == 2
    assert not gathered.refused
    assert "**ssh://other**" in markdown(here, result(*here.items, host=there)).split("## ")[0]


def clone(machine_id: str = "aaaa", **facts: str) -> HostFacts:
    known = {**LOCAL.facts, "machine_id": machine_id, "address": "0000", "memory_mib": "24105"}
    return replace(LOCAL, facts={**known, **facts})


@pytest.mark.parametrize(
    ("other", "key"),
    [
        (clone("bbbb"), "machine id (`aaaa` against `bbbb`)"),
        (clone(address="1111"), "network address (`0000` against `1111`)"),
        (clone(memory_mib="48210"), "memory (`24 GiB` against `47 GiB`)"),
        (clone(cpus="4"), "CPUs (`2` against `4`)"),
        (LOCAL, "machine id (unknown against `aaaa`)"),
    ],
)
def test_machines_of_one_name_are_told_apart(other: HostFacts, key: str) -> None:
    results = [
        result(item("a", pairs(1.5, seed=1)), host=clone()),
        result(item("a", pairs(4.5, seed=2)), host=other, started="2026-03-03T00:00:00Z"),
    ]
    for order in (results, results[::-1]):
        gathered = gather(order)
        assert [len(panel.items[0].pairs) for panel in gathered.panels] == [15, 15]
        (note,) = gathered.refused
        assert key in note or key.replace("(unknown", "(`aaaa`") in note


def test_a_little_less_memory_is_the_same_machine() -> None:
    results = [
        result(item("a", pairs(1.5)), host=clone()),
        result(item("a", pairs(1.6)), host=clone(memory_mib="24101"), started="2026-03-03"),
    ]
    assert len(gather(results).panels) == 1


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"versions": {"qemu": "9.0", "vbench": "0.1.0"}}, "version of qemu"),
        ({"digests": {"qemu": "f00d"}}, "digest of qemu"),
        ({"device": DeviceSettings("q35", further={"cache": "none"})}, "device setting machine"),
        ({"image": "sha256:other"}, "image"),
    ],
)
def test_guests_that_were_built_otherwise_are_not_pooled(
    change: dict[str, object], key: str
) -> None:
    launches = (launch("tcg", 0, **change),)
    results = [
        result(item("a", pairs(1.5))),
        result(item("a", pairs(4.5)), launches=launches, started="2026-03-03T00:00:00Z"),
    ]
    gathered = gather(results)
    assert [len(panel.items[0].pairs) for panel in gathered.panels] == [15, 15]
    (note,) = gathered.refused
    assert f"{key} (" in note


def test_another_vbench_alone_is_no_other_guest() -> None:
    launches = (launch("tcg", 0, versions={"qemu": "7.2.22", "vbench": "9"}),)
    later = result(item("a", pairs(1.5)), launches=launches, started="2026-03-03T00:00:00Z")
    assert len(gather([result(item("a", pairs(1.5))), later]).panels) == 1


def test_the_time_of_many_variants_does_not_run_away() -> None:
    """A walk through all items for each cell took 14 s; benchmarks/report_speed.py has more."""
    results = []
    for number in range(100):
        variant = f"tcg,vcpus={number}"
        items = [
            item(f"cpu-{i}", pairs(1.5, boots=2, rounds=1), variant=variant) for i in range(20)
        ]
        results.append(result(*items, launches=()))
    before = time.process_time()
    markdown(*results)
    assert time.process_time() - before < 5


def test_a_boot_that_was_launched_twice_is_one_boot() -> None:
    """Its first guest was lost. "3 boots" would contradict the tables."""
    launches = (launch("tcg", 0), launch("tcg", 0, id="again"), launch("tcg", 1))
    text = markdown(result(item("cpu-x", pairs(2.0)), launches=launches))
    assert "<code>tcg</code>: 2 boots, 3 launches" in text
    assert "launches" not in markdown(result(item("cpu-x", pairs(2.0))))


def test_a_run_that_was_read_twice_counts_once() -> None:
    """A copy of an early state beside the whole: its samples are in both."""
    many = pairs(1.5, boots=4)
    early = result(item("a", many[:6]), planned=12, done=6, stopped="it was interrupted")
    whole = result(item("a", many), planned=12, done=12)
    for order in ((early, whole), (whole, early)):
        (kept,) = distinct(order)
        assert kept == whole
    other = replace(whole, started="2026-03-03T00:00:00Z")
    assert len(distinct((early, whole, other))) == 2
