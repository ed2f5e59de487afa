"""Counts of exits in the report: one figure everywhere, boots that do not agree, and whose costs
explain an overhead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sample_results import TESTBED, item, result
from test_report_exits import kvm_result, panel_of, shown

from vbench.model import Pair, Technique
from vbench.records import Declaration, Hypervisor, HypervisorType
from vbench.report import attribution, cells, exit_counts
from vbench.report.document import Table
from vbench.report.gather import gather


def test_exits_of_an_operation_are_one_figure_everywhere() -> None:
    """What KVM counts in all rounds; the round by reason may have had another number."""
    made = [Pair(1e-6, 2e-6, boot, (), {"exits": n}) for boot, n in ((0, 9.9), (1, 10.1))]
    kvm: dict[str, Any] = {"technique": Technique.HARDWARE, "category": "network"}
    one = item("network-rr", made, exits={"MSR": 9.0, "NPF": 0.37}, **kvm)
    assert exit_counts.per_unit(one) == "10.0"
    (panel,) = gather([result(one, host=TESTBED)]).panels
    (_, table, _) = exit_counts.per_operation(panel)
    assert isinstance(table, Table)
    cell = str(table.rows[0][1])
    assert cell.startswith("10.0<br>")
    assert "of 9.37 by reason: MSR 9.00, NPF 0.370" in cell
    same = replace(one, exits={"MSR": 10.0})
    (panel,) = gather([result(same, host=TESTBED)]).panels
    assert "by reason" not in str(exit_counts.per_operation(panel)[1])
    alone = replace(one, pairs=tuple(replace(pair, counters={}) for pair in one.pairs))
    assert exit_counts.per_unit(alone) == "9.37"  # Xen keeps no counter


def test_boots_that_do_not_agree_about_exits_are_said_to_differ() -> None:
    """A mean of 0.19 and 0.45 is neither."""
    kvm: dict[str, Any] = {"technique": Technique.HARDWARE, "category": "cpu"}
    for counted, expected in (
        ((0.19, 0.452), "0.321<br><sub>boots differ: 0.190 to 0.452</sub>"),
        ((0.44, 0.452), "0.446"),
        ((0.001, 0.004), "0"),
    ):
        made = [Pair(1e-6, 2e-6, boot, (), {"exits": n}) for boot, n in enumerate(counted)]
        one = item("cpu-prime", made, exits={"INTR": 0.001}, **kvm)
        (panel,) = gather([result(one, host=TESTBED)]).panels
        (_, table, _) = exit_counts.per_operation(panel)
        assert isinstance(table, Table)
        assert str(table.rows[0][1]) == expected


def test_counts_are_means_of_boots_whatever_their_rounds() -> None:
    """One boot of three rounds weighs no more than one of a single round."""
    counters = [{"host_cpu_s": 3e-6, "vcpu_cpu_s": 2e-6}] * 3 + [
        {"host_cpu_s": 9e-6, "vcpu_cpu_s": 4e-6}
    ]
    made = [Pair(1e-6, 2e-6, int(i == 3), (), each) for i, each in enumerate(counters)]
    one = item("disk-read", made, category="disk")
    assert cells.counter(one, "host_cpu_s") == pytest.approx(6e-6)
    assert attribution._io_threads(one) == pytest.approx(3e-6)


def test_what_an_exit_costs_is_that_of_another_variant_where_only_devices_differ() -> None:
    kvm = Hypervisor("KVM", "Linux", HypervisorType.HYBRID, "a test")
    made = kvm_result(declaration=Declaration(kvm))
    disk = next(i for i in made.items if i.category == "disk")

    def table(variant: str, declared: Declaration) -> str:
        one = replace(disk, variant=variant, backend=variant)
        other = result(one, host=made.host, variant=variant, declaration=declared)
        return shown(attribution.table(panel_of(made, other)))

    text = table("kvm-emulated", Declaration(kvm))
    rows = [line for line in text.splitlines() if "disk-randread-qd1" in line]
    assert len({row.replace("kvm-virtio", "kvm-emulated") for row in rows}) == 1 < len(rows)
    assert "was measured in `kvm-virtio` for `kvm-emulated` too" in text
    xen = Hypervisor("Xen", "Xen Project", HypervisorType.ONE, "a test")
    for other in (Declaration(xen), Declaration(kvm, contrast_to="kvm-virtio")):
        assert "Without a line: `other`, where no cost" in table("other", other)
