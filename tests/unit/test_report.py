# ruff: noqa: RUF001 - the report shows a multiplication sign
"""What the report says: cells against numbers computed here; rules kept."""

from __future__ import annotations

import math
import re
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sample_results import TESTBED, full_run, item, launch, pairs, result

from vbench import report
from vbench.model import (
    ON_DEVICES,
    Item,
    Pair,
    Result,
    Statistic,
    Status,
    Technique,
)
from vbench.records import (
    Attestation,
    Capabilities,
    Clock,
    DeviceSettings,
    NativeReference,
    NetworkPath,
    Observed,
    Phase,
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


# ---------------------------------------------------------------- the first screen


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
    shown = wall("Disk throughput")
    assert f"`tcg` {100 / ratio:.1f} % of native [{100 / high:.1f}, {100 / low:.1f}]" in shown


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
        assert "<sup>k</sup>" in shown, row
        assert "**" not in shown, row
    assert "<sup>k</sup> No word" in text
    assert "Where the file of the host's kernel is installed, `--kernel host` removes" in text
    settled = [
        replace(r, items=tuple(replace(i, flags=()) for i in r.items)) for r in full_run()[:2]
    ]
    text = markdown(*settled)
    assert "<sup>k</sup>" not in text
    assert "**high**" in cell(text, TECHNIQUES, "**CPU overhead: memory**", 1)


def test_memory_without_faults_keeps_its_word() -> None:
    flagged = item("memory-random", pairs(3.0), category="memory", flags=("kernel_differs",))
    shown = cell(markdown(result(flagged)), TECHNIQUES, "**CPU overhead: memory**", 1)
    assert "**high**" in shown


def test_no_ratio_over_a_nat_even_with_native_partners() -> None:
    assert "no ratio <sup>s</sup>" in wall("Network time per operation")
    assert "guest: network-rr 91.0 µs" in wall("Network time per operation")
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
    seen = Observed("6.1.0-37-amd64", clocksource="kvm-clock", cpuid_hypervisor=True)
    made = result(item("a", pairs(1.0)), launches=(launch("tcg", 0, observed=seen),))
    shown = cell(markdown(made), TECHNIQUES, "**Guest OS modification**", 1)
    assert (
        "observed in `tcg`: 6.1.0-37-amd64 booted; CPUID hypervisor bit yes; clocksource" in shown
    )


def test_host_cpu_per_operation() -> None:
    assert "`tcg`, `tcg-virtio` disk: 200 µs" in wall("Host CPU per operation")


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
        assert "<sup>k</sup>" in shown, category
        assert "high" not in shown


def test_what_an_interval_around_one_proves() -> None:
    def shown(sample: Sequence[Pair]) -> str:
        return cell(markdown(result(item("a", sample))), "**Computing**", "a<br>", 2)

    assert "**low**, near native" in shown(pairs(1.0))  # by two one-sided tests against 1.10
    assert "not decided" in shown(pairs(1.1, spread=0.4))
    wild = [Pair(1.0, 25.0, 0), Pair(1.0, 70.0, 1)]
    assert "too few boots to tell" in shown(wild)
    assert "near native" not in shown(pairs(1.0, spread=0.4))


# ---------------------------------------------------------------- instruction counts


def test_instructions_have_a_panel_of_their_own() -> None:
    text = markdown()
    counted = chapter(text, f"### Techniques: {COUNTED}")
    counted += chapter(text, f"### Disk and network: {COUNTED}")
    assert "×1.010 [1.010, 1.010] near native<br>" in counted
    assert "**low**" not in counted
    assert "disk-randread-qd1 +35,000 per read" in counted  # (4.5e-5 - 1e-5) s at 1 ns each
    assert "says nothing about time" in counted
    clock = chapter(text, f"### Techniques: {WALL}")
    assert "instr." not in clock
    assert "kvm-virtio`, 2 boots" not in clock


# ---------------------------------------------------------------- details


def test_absolute_times_and_counters_in_detail() -> None:
    text = markdown()
    row = cell(text, "**Disk**", "disk-randread-qd1", 4)
    assert re.fullmatch(r"8?9\d?\.\d µs \(1\d,\d00/s\) → 19\d µs \(\d,\d\d0/s\)", row), row
    assert "GiB/s" in cell(text, "**Disk**", "disk-read-1m", 4)
    assert cell(text, "**Disk**", "disk-randread-qd1", 3) == "5 × 3"
    assert "<b>Counters per unit of work</b>" in text
    assert "exits" in text


def test_quantiles_have_no_ratio() -> None:
    text = markdown()
    # max: the largest of all rounds, 4e-4 + 4 boots x 1e-4
    assert cell(text, "**Latency distributions**", "cyclictest", 3) == "4.00 µs → 7.00 µs"
    assert cell(text, "**Latency distributions**", "cyclictest", 4) == "60.0 µs → 800 µs"
    assert "cyclictest" not in text[text.index("**Computing**") : text.index("**Latency")]


def test_what_has_no_native_counterpart_has_no_overhead() -> None:
    text = markdown()
    assert "## Boot times" in text
    assert "\n**Boot**" not in text


def test_what_could_not_be_measured_is_listed() -> None:
    text = markdown()
    below = chapter(text, "## Not measured")
    assert re.search(r"syscall-getppid on `tcg` +\| failed: exit 1 \\\| no", below)
    assert "`kvm-virtio` (hardware-assisted)" in below
    assert "use --host testbed" in below
    assert "Everything that was asked for was measured" in markdown(result(item("a", pairs(2.0))))


def test_flags_are_counted_and_explained() -> None:
    sample = pairs(2.0)
    odd = (replace(sample[0], flags=("steal", "mine")), *sample[1:14], Pair(1e-6, 9e-5, 4))
    text = markdown(result(item("a", odd)))
    shown = cell(text, "**Computing**", "a<br>", 5)
    assert "steal (1 of 15)" in shown
    assert "outlier (1 of 15)" in shown
    assert cell(text, "| Flag", "**steal**", 1).startswith("the host's own hypervisor")
    assert cell(text, "| Flag", "**mine**", 1) == "set by a plugin"
    assert "carries a flag" in markdown(result(item("a", pairs(2.0))))


def test_what_held_in_all_rounds_is_said_once_as_a_condition() -> None:
    busy = tuple(replace(p, flags=("cpu-pressure",)) for p in pairs(2.0))
    text = markdown(result(item("a", busy), item("b", pairs(2.0))))
    assert "**Computing**; in all rounds: cpu-pressure (a)" in text
    assert text.count("cpu-pressure") == 2  # there, and where its meaning is explained
    other = item("a", pairs(2.0), variant="tcg2", backend="tcg2")
    text = markdown(result(item("a", busy)), result(other))
    assert "in all rounds: cpu-pressure (`tcg`)" in text


def test_what_was_lost_on_the_way_is_said() -> None:
    text = markdown(result(item("a", pairs(2.0), reason="boot 3 died")))
    assert "boot 3 died" in cell(text, "**Computing**", "a<br>", 5)


def test_every_launch_can_be_replayed() -> None:
    text = markdown()
    argv = full_run()[0].launches[0].argv
    commands = report.render(full_run(), plots_dir=None).commands
    lines = [line for line in commands.splitlines() if line.startswith("qemu-system-x86_64")]
    assert list(argv) in [shlex.split(line) for line in lines]
    assert "# tcg, launched: boot 1, 2" in commands
    assert "probe cpu-prime --native" in commands
    assert "probe cpu-prime --native" not in text
    odd = (launch("tcg", 0), launch("tcg", 1, observed=Observed("6.2")))
    text = markdown(result(item("a", pairs(2.0)), launches=odd))
    assert "Boot 2 differs: kernel 6.2 instead of 6.1.0-37-amd64" in text


def test_a_reduced_set_is_said_until_the_rest_is_there() -> None:
    part = result(host=TESTBED, reduced_to=("cpu-*", "boot-command"))
    below = markdown(part)
    below = below[below.index("## Not measured") :]
    assert "all but `cpu-*`, `boot-command`" in below
    assert "`vbench run --host testbed --backend tcg`" in below
    assert "all but" not in markdown(part, result(host=TESTBED))

    devices = markdown(result(item("a", pairs(2.0)), reduced_to=ON_DEVICES))
    assert "all but `disk/*`, `network/*`, `boot/*`" in devices
    assert "| `--backend tcg` |" in devices


def test_another_start_for_one_workload_is_evidence_and_no_variant() -> None:
    start = DeviceSettings(start="firmware, bzImage")
    took = (Phase("launch", "command", Clock.CLIENT, 7.0),)
    other = launch("tcg,firmware=on", 0, device=start, phases=took)
    third = replace(other, id="third", variant="tcg,memory=256,firmware=on", phases=())
    boot = item("boot-firmware", [Pair(None, 7.0, 0)], category="boot", unit="boot")
    boot = replace(boot, statistic=Statistic.ABSOLUTE, launches=(other.id, third.id))
    launches = (launch("tcg", 0), other, third)
    text = markdown(result(item("a", pairs(2.0)), boot, launches=launches))
    seen = cell(text, TECHNIQUES, "**Guest OS modification**", 1)
    assert "observed in `tcg,firmware=on`, `tcg,memory=256,firmware=on`: 6.1.0-37-amd64" in seen
    assert "booted by firmware, bzImage" in seen
    assert "tcg,firmware=on" not in cell(text, TECHNIQUES, "**Measured as**", 1)
    assert "| `tcg,firmware=on` | 1 " in text[text.index("## Boot times") :]


# ---------------------------------------------------------------- form


def test_tables_keep_their_shape_whatever_the_text() -> None:
    nasty = "a|b `c` <script> *x* _y_ \n new line \\"
    odd = Attestation(nasty, {"k|": nasty})
    made = result(
        item("a", (), status=Status.FAILED, reason=nasty),
        item("b", pairs(2.0), reason=nasty, unit="x|y"),
        launches=(launch("tcg", 0, observed=Observed(nasty), attestation=odd),),
        unavailable=(("x|", Technique.PARA.value, nasty, nasty),),
        facts={"windows": {"text": nasty, "source": nasty}},
    )
    text = markdown(made, *full_run())
    assert "<script>" not in re.sub(r"```.*?```", "", text, flags=re.S).replace("`", "")
    widths: list[int] = []
    for line in text.splitlines():
        if line.startswith("|"):
            widths.append(len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)))
            assert widths[-1] == widths[0], line
        else:
            widths = []


def test_a_result_without_any_measured_item_still_reports() -> None:
    text = markdown(result(item("a", (), status=Status.UNSUPPORTED, reason="no AES"), launches=()))
    assert "not measured: 1 workload unsupported" in text
    assert "unsupported: no AES" in text
    nothing = replace(result(), launches=(), items=())
    assert "Not measured" in markdown(nothing)


def test_backends_of_a_technique_that_state_unlike_facts_are_named() -> None:
    one = result(item("cpu-a", pairs(1.5, 1e-3)))
    stated = {**one.facts, "windows": {"text": "no", "source": "its manual"}}
    other = result(
        item("cpu-a", pairs(1.5, 1e-3), variant="tcg2", backend="tcg2"),
        variant="tcg2",
        facts=stated,
    )
    row = cell(markdown(one, other), TECHNIQUES, "**Windows", 1)
    assert "`tcg`: yes" in row
    assert "`tcg2`: no" in row
    alone = cell(markdown(one), TECHNIQUES, "**Windows", 1)
    assert "`tcg`" not in alone
