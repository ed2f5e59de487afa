# ruff: noqa: RUF001 - the report shows a multiplication sign
"""What the report says: cells against numbers computed here; rules kept."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sample_results import full_run, item, launch, pairs, result

from vbench import report
from vbench.model import (
    Item,
    Pair,
    Result,
    Status,
)
from vbench.records import (
    Capabilities,
    NativeReference,
    NetworkPath,
    Observed,
)
from vbench.report import reference


def markdown(*results: Result) -> str:
    return report.render(results or full_run(), plots_dir="plots").markdown


def cell(text: str, heading: str, row: str, column: int) -> str:
    """A cell of the first table below `heading` whose row begins with `row`."""
    below = text[text.index(heading) :]
    line = next(x for x in below.splitlines() if x.startswith(f"| {row}"))
    return re.split(r"(?<!\\)\|", line)[column + 1].strip()


WALL, COUNTED = "local:myserver, by the clock", "testbed:myserver, counted"
TECHNIQUES = "## Techniques"  # with one panel; with several: their parts


def wall(row: str, technique: int = 1) -> str:
    """A cell of the techniques or of disk and network, of the panel by the clock."""
    text = markdown()
    title = "Techniques" if f"**{row}**" in chapter(text, TECHNIQUES) else "Disk and network"
    return cell(text, f"### {title}: {WALL}", f"**{row}**", technique)


def chapter(text: str, heading: str) -> str:
    """From a heading to the next of its level."""
    below = text[text.index(heading) + len(heading) :]
    level = heading.split(" ", maxsplit=1)[0]
    return re.split(rf"^{level} ", below, flags=re.M)[0]


def overhead_by_hand(sample: Item) -> tuple[float, float, float]:
    """Ratio and interval, without vbench: 5 boots, t(4) at 97.5 % = 2.776445."""
    boots: dict[int, list[float]] = {}
    for pair in sample.pairs:
        assert pair.native_s
        boots.setdefault(pair.boot, []).append(math.log(pair.guest_s / pair.native_s))
    means = [statistics.mean(logs) for logs in boots.values()]
    assert len(means) == 5
    half = 2.7764451052 * statistics.stdev(means) / math.sqrt(5)
    middle = statistics.mean(means)
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def test_machine_in_one_sentence() -> None:
    first = markdown().split("## ")[0]
    assert "Intel(R) Xeon(R) Processor @ 2.60GHz, 2 CPUs, Linux 6.1.0-37-amd64" in first
    assert "itself a virtual machine" in first
    bare = replace(full_run()[0].host, facts={"virtualization": "none"})
    assert "on bare hardware" in markdown(replace(full_run()[0], host=bare))
    unknown = replace(bare, facts={})
    assert "itself virtualized is unknown" in markdown(replace(full_run()[0], host=unknown))


def test_overhead_cells_hold_the_numbers() -> None:
    disk = next(i for i in full_run()[0].items if i.workload == "disk-randread-qd1")
    ratio, low, high = overhead_by_hand(disk)
    assert f"`tcg` ×{ratio:.2f} [{low:.2f}, {high:.2f}]" in wall("Disk time per operation")
    sequential = next(i for i in full_run()[0].items if i.workload == "disk-read-1m")
    ratio, low, high = overhead_by_hand(sequential)
    shown = wall("Disk throughput, % of native")
    assert f"`tcg` {100 / ratio:.1f} [{100 / high:.1f}, {100 / low:.1f}]" in shown


def test_geometric_mean_with_extremes() -> None:
    cpu = [overhead_by_hand(i)[0] for i in full_run()[0].items if i.category == "cpu"]
    shown = wall("CPU overhead: computing")
    assert f"`tcg` ×{math.sqrt(cpu[0] * cpu[1]):.2f} [" in shown
    assert f"×{min(cpu):.2f} to ×{max(cpu):.2f} over 2 of 4 workloads" in shown
    assert "**medium**" in shown


def test_a_mean_does_not_depend_on_what_else_was_measured() -> None:
    one, other, _ = full_run()
    own = item("cpu-spin", pairs(90.0))
    alone = cell(markdown(one), TECHNIQUES, "**CPU overhead: computing**", 1)
    fewer = replace(other, items=tuple(i for i in other.items if i.workload != "cpu-sha256"))
    more = replace(one, items=(*one.items, own))
    shown = cell(markdown(more, fewer), TECHNIQUES, "**CPU overhead: computing**", 1)
    first, second = shown.split("<br>`tcg-virtio` ")
    assert first == alone  # neither a variant with fewer workloads nor a user's own changes it
    assert second.endswith("1 of 4 workloads</sub>")
    assert "×89.9" in cell(markdown(more), "**Computing**", "cpu-spin", 2)


def test_the_reference_workloads_are_those_that_vbench_has() -> None:
    folder = Path(report.__file__).parents[1] / "workloads"
    defined = {
        name.replace("_", "-")
        for path in folder.glob("bench_*.py")
        for name in re.findall(r"^def bench_(\w+)", path.read_text(), flags=re.M)
    }
    for each in reference.ALL:
        assert set(each.workloads) <= defined


def test_words_are_withheld_where_kernels_differ() -> None:
    text = markdown()
    for row in ("CPU overhead: memory", "Disk time per operation", "CPU overhead: system calls"):
        shown = wall(row)
        assert "kernels differ" in shown, row
        assert "**" not in shown, row
    assert "*kernels differ*: no word, because" in text
    assert "Where the file of the host's kernel is installed, `--kernel host` removes" in text
    settled = [
        replace(r, items=tuple(replace(i, flags=()) for i in r.items)) for r in full_run()[:2]
    ]
    text = markdown(*settled)
    assert "kernels differ" not in text
    assert "**high**" in cell(text, TECHNIQUES, "**CPU overhead: memory**", 1)


def test_memory_without_faults_keeps_its_word() -> None:
    flagged = item("memory-random", pairs(3.0), category="memory", flags=("kernel_differs",))
    shown = cell(markdown(result(flagged)), TECHNIQUES, "**CPU overhead: memory**", 1)
    assert "**high**" in shown


def test_no_ratio_over_a_nat_even_with_native_partners() -> None:
    assert "no ratio: NAT" in wall("Network time per operation")
    assert "the guest alone: [Every workload]" in wall("Network time per operation")
    assert "— (no ratio: NAT)" in cell(markdown(), "**Network**", "network-rr", 2)
    nat = item("network-rr", pairs(2.0), category="network", flags=("nat",))
    text = markdown(result(nat))
    assert "network passes QEMU's user-mode stack." in text
    can = Capabilities(NativeReference.LAUNCHING_HOST, NetworkPath.NAT, "VirtualBox's NAT")
    other = markdown(result(nat, launches=(launch("tcg", 0, capabilities=can),)))
    assert "network passes VirtualBox's NAT." in other
    assert "QEMU's user-mode" not in other
    assert "×2.0" not in chapter(text, "## Every workload")
    assert report.render([result(nat)], plots_dir="p").plots.keys() == {"boot-1-local-myserver.svg"}


def test_columns_say_why_they_are_empty() -> None:
    assert "not available here: /dev/kvm interprets \\| 1.3 M" in wall("Measured as", 3)
    assert wall("CPU overhead: computing", 3) == "not measured"
    assert wall("Measured as", 2) == "no backend was asked for"
    assert "`tcg` not measured: 1 workload failed" in wall("CPU overhead: system calls")


def test_stated_facts_are_marked_and_shared_between_panels() -> None:
    assert wall("Windows support") == "yes<br><sub>stated: QEMU documentation</sub>"
    assert wall("Windows support", 3) == "yes<br><sub>stated: KVM documentation</sub>"
    assert wall("Windows support", 2) == "—"


def test_technology_is_attested() -> None:
    assert "attested: QEMU TCG; ata\\_piix on sda" in wall("Key technology")


def test_evidence_from_the_guest() -> None:
    seen = Observed("6.1.0-37-amd64", clocksource="kvm-clock", cpuid_hypervisor=True,
                    hypervisor="KVM")  # fmt: skip
    made = result(item("a", pairs(1.0)), launches=(launch("tcg", 0, observed=seen),))
    shown = cell(markdown(made), TECHNIQUES, "**Guest OS modification**", 1)
    assert (
        "observed in `tcg`: 6.1.0-37-amd64 booted; CPUID hypervisor bit yes; clocksource" in shown
    )
    assert "clocksource kvm-clock; hypervisor interface KVM<" in shown


def test_host_cpu_per_operation() -> None:
    assert "`tcg`, `tcg-virtio` 200" in wall("Host CPU per disk operation, µs")
    assert "`tcg`, `tcg-virtio` not counted" in wall("Host CPU per network operation")


def test_a_variant_with_nothing_to_say_is_left_out_beside_one_that_has() -> None:
    one = item("cpu-aes", pairs(2.0))
    other = item("memory-random", pairs(3.0), variant="tcg,vcpus=2")
    other = replace(other, category="memory")
    text = markdown(result(one), result(other, variant="tcg,vcpus=2"))
    computing = cell(text, TECHNIQUES, "**CPU overhead: computing**", 1)
    assert computing.startswith("`tcg` ")
    assert "vcpus=2" not in computing
    assert cell(text, TECHNIQUES, "**CPU overhead: system calls**", 1) == "not measured"


def test_one_boot_is_labelled() -> None:
    text = markdown(result(item("cpu-aes", pairs(1.5, boots=1, rounds=5))))
    assert "this boot only" in cell(text, TECHNIQUES, "**CPU overhead: computing**", 1)
    assert "**Computing**; in all rounds: one\\_boot" in text
    single = markdown(result(item("a", [Pair(1.0, 1.5, 0)])))
    assert "one pair: no interval" in single


def test_a_word_needs_more_than_one_boot() -> None:
    slow = item("cpu-prime", pairs(9.0, boots=1, rounds=5))
    shown = cell(markdown(result(slow)), TECHNIQUES, "**CPU overhead: computing**", 1)
    assert "×8.80" in shown
    assert "**" not in shown


def test_network_and_interrupts_get_no_word_where_kernels_differ() -> None:
    for category in ("network", "interrupt", "syscall", "disk", "app", "smp"):
        made = item("x", pairs(9.0), category=category, flags=("kernel_differs",))
        shown = cell(markdown(result(made)), "## Every workload", "x<br>", 2)
        assert "kernels differ" in shown, category
        assert "high" not in shown


def test_what_an_interval_around_one_proves() -> None:
    def shown(sample: Sequence[Pair]) -> str:
        return cell(markdown(result(item("a", sample))), "**Computing**", "a<br>", 2)

    assert "**low**, near native" in shown(pairs(1.0))  # by two one-sided tests against 1.10
    assert "not decided" in shown(pairs(1.1, spread=0.4))
    assert "too few boots to tell" in shown([Pair(1.0, 1.06, 0), Pair(1.0, 1.09, 1)])
    wild = [Pair(1.0, 25.0, 0), Pair(1.0, 70.0, 1)]
    # no figure in whose interval all is, but what differed
    assert shown(wild) == "**undecided**: in the guest 25.0 s to 70.0 s between boots"
    both = [Pair(1.0, 2.0, 0), Pair(40.0, 2.1, 1)]
    row = markdown(result(item("a", both)))
    assert cell(row, "**Computing**", "a<br>", 2).startswith("**undecided**: natively 1.00 s to")
    line = next(line for line in row.splitlines() if line.startswith("| a<br>"))
    assert "→" not in line  # the mean of these is no boot's
    few = [Pair(1.0, 0.8, 0), Pair(1.0, 1.5, 1)]
    assert shown(few) == "**undecided**, ×0.02 to ×59.4"
    assert "near native" not in shown(pairs(1.0, spread=0.4))


# ---------------------------------------------------------------- instruction counts


def test_instructions_have_a_panel_of_their_own() -> None:
    text = markdown()
    counted = chapter(text, f"### Techniques: {COUNTED}")
    counted += chapter(text, f"### Disk and network: {COUNTED}")
    assert "×1.010 [1.010, 1.010] **low**, near native<br>" in counted
    of_devices = chapter(text, f"### Disk and network: {COUNTED}")
    assert not re.search(r"\*\*(low|medium|high)\*\*", of_devices)  # no device's time is counted
    assert "+35,000 per read (disk-randread-qd1)" in counted  # (4.5e-5 - 1e-5) s at 1 ns each
    assert "says nothing about time" in counted
    clock = chapter(text, f"### Techniques: {WALL}")
    assert "instr." not in clock
    assert "kvm-virtio`, 2 boots" not in clock


def test_a_cost_that_nobody_counted_is_not_explained_by_another_workload() -> None:
    """The network of a guest without a disk was measured, but not what it costs the host."""
    common: dict[str, object] = {"variant": "uml", "backend": "uml", "unit": "read"}
    disk = {"category": "disk", "status": Status.UNSUPPORTED, "reason": "no direct I/O"}
    measured = item("network-rr", pairs(9.0, 1e-4), **{**common, "category": "network"})
    one = result(measured, item("disk-read", (), **common, **disk), variant="uml")
    (row,) = (line for line in markdown(one).splitlines() if "Host CPU per network" in line)
    assert "not counted" in row
    assert "unsupported" not in row
