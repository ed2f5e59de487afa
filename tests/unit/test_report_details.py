# ruff: noqa: RUF001 - the report shows a multiplication sign
"""The report's chapters of detail, and its form whatever the text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace

from sample_results import LOCAL, TESTBED, full_run, item, launch, pairs, result
from test_report import TECHNIQUES, cell, chapter, markdown

from vbench import report
from vbench.model import (
    NO_EXITS,
    ON_DEVICES,
    HostFacts,
    Launch,
    Pair,
    Statistic,
    Status,
    Technique,
)
from vbench.records import (
    Attestation,
    Clock,
    DeviceSettings,
    Observed,
    Phase,
)
from vbench.report import cells, sections
from vbench.report.document import Table
from vbench.report.gather import gather


def test_absolute_times_and_counters_in_detail() -> None:
    text = markdown()
    head = [cell(text, "**Disk**", "Workload", at) for at in range(5, 8)]
    assert head == [f"Native → guest, {unit}" for unit in ("µs", "GiB/s", "per s")]
    seconds, rate, operations = (
        cell(text, "**Disk**", "disk-randread-qd1", at) for at in range(5, 8)
    )
    assert re.fullmatch(r"8?9\d?\.\d → 19\d", seconds), seconds
    assert (rate, cell(text, "**Disk**", "disk-read-1m", 6)[0]) == ("—", "1")
    assert re.fullmatch(r"1\d,\d00 → \d,\d\d0", operations), operations
    assert cell(text, "**Disk**", "disk-randread-qd1", 4) == "5 × 3"
    assert "<b>Counters per unit of work</b>" in text
    for word in ("Host CPU", "vCPU wait", "native → guest", "equal groups"):
        assert f"**{word}**" in text  # in the glossary
    assert "exits" in text


def test_boots_of_unlike_numbers_of_rounds_are_counted_in_words() -> None:
    assert cells.rounds((Pair(1.0, 2.0, 0), Pair(1.0, 2.0, 0), Pair(1.0, 2.0, 1))) == (
        "2 boots, 3 pairs"
    )


def test_one_boot_has_no_range() -> None:
    def boot(number: int, seconds: float) -> Launch:
        timed = (Phase("launch", "command", Clock.CLIENT, seconds),)
        return replace(launch("tcg", number), phases=timed)

    def shown(*launches: Launch) -> str:
        made = result(item("cpu-prime", pairs(1.0)))
        panel = gather([replace(made, launches=launches)]).panels[0]
        table = next(block for block in sections.boots(panel) if isinstance(block, Table))
        return next(iter(table.cells()))[-1].text

    assert shown(boot(0, 3.0)) == "3.00"
    assert shown(boot(0, 3.0), boot(1, 4.0)) == "3.50 (3.00 to 4.00)"


def test_quantiles_have_no_ratio() -> None:
    text = markdown()
    # max: the largest of all rounds, 4e-4 + 4 boots x 1e-4
    assert cell(text, "**Latency distributions**", "cyclictest", 3) == "4.00 → 7.00"
    assert cell(text, "**Latency distributions**", "cyclictest", 4) == "60.0 → 800"
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


def test_guests_with_one_cpu_say_how_to_measure_several() -> None:
    whole = [item(f"{c}-a", pairs(2.0), category=c) for c in ("cpu", "memory", "syscall")]
    one = launch("tcg", 0, device=DeviceSettings(vcpus=1))
    two = launch("tcg", 0, device=DeviceSettings(vcpus=2))
    how = "`vbench run --backend tcg,vcpus=2 --workload 'smp/*'`"
    assert how in chapter(markdown(result(*whole, launches=(one,))), "## Not measured")
    assert how not in markdown(result(*whole, launches=(two,)))
    assert how not in markdown(result(whole[0], launches=(one,)))  # a part was asked for
    of_several = item("smp-lock", pairs(2.0), category="smp")
    assert how not in markdown(result(*whole, of_several, launches=(one,)))


def test_workloads_that_lack_one_thing_share_a_line() -> None:
    of = [
        item(name, (), status=Status.UNSUPPORTED, reason=why)
        for name, why in (("disk-a", "no disk"), ("disk-b", "no disk"), ("net-a", "no tap"))
    ]
    below = chapter(markdown(result(*of)), "## Not measured")
    assert "| disk-a, disk-b on `tcg` |" in " ".join(below.split())
    assert "| net-a on `tcg` |" in " ".join(below.split())
    assert "3 workloads are not possible" in below


def test_flags_are_counted_and_explained() -> None:
    sample = pairs(2.0)
    odd = (replace(sample[0], flags=("steal", "mine")), *sample[1:14], Pair(1e-6, 9e-5, 4))
    text = markdown(result(item("a", odd)))
    shown = cell(text, "**Computing**", "a<br>", 6)
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
    assert "boot 3 died" in cell(text, "**Computing**", "a<br>", 6)


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

    many = markdown(result(host=TESTBED, reduced_to=tuple(f"cpu-{i}" for i in range(16))))
    assert "`tcg`: all but 16 workloads that stand for the others" in many


def test_why_a_set_was_reduced() -> None:
    def below(globs: Sequence[str], host: HostFacts = LOCAL) -> str:
        text = markdown(result(item("a", pairs(2.0)), host=host, reduced_to=globs))
        return text.partition("## Not measured")[2].partition("\n## ")[0]

    older = tuple(glob for glob in ON_DEVICES if glob != "app/*")
    for globs in (ON_DEVICES, older):
        kept = ", ".join(f"`{glob}`" for glob in globs)
        assert f"| `tcg`: all but {kept} | only its devices differ" in below(globs)
        assert "| `vbench run --backend tcg` |" in below(globs)
    for globs, lacks in ((NO_EXITS, " and real programs"), ((*NO_EXITS, "app/*"), "")):
        assert f"`tcg`: `exit/*`{lacks} | none of these events" in below(globs)
        assert ("programs are measured in" in below(globs)) is bool(lacks)
        assert "testbed" not in below(globs)

    quick = below(("cpu-prime", "disk-read-1m"))
    assert (
        "or one that names no backend, takes what is representative | `vbench run --backend"
        in quick
    )
    assert "`vbench run --host testbed --backend tcg`" in below(("cpu-prime",), TESTBED)


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


def test_more_memory_for_one_workload_is_no_other_start() -> None:
    start = DeviceSettings(start="PVH, vmlinux")
    plain = launch("tcg", 0, device=start)
    more = [replace(launch("tcg,memory=640", n, device=start), id=f"more{n}") for n in range(3)]
    cold = replace(item("memory-cold", pairs(2.0)), launches=tuple(each.id for each in more))
    text = markdown(result(item("a", pairs(2.0)), cold, launches=(plain, *more)))
    assert "booted by" not in text[: text.index("## Disk and network")]


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
