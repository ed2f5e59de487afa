# ruff: noqa: RUF001 - the report shows a multiplication sign
"""The first screen: fits, answers, has the introduction's shape, and never says too much."""

from __future__ import annotations

import re
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sample_results import LOCAL, TESTBED, full_run, item, launch, pairs, result
from test_report_scenarios import gathered, migration, scenario

from vbench import report
from vbench.model import Pair, Result, Status, Technique, TimeBase
from vbench.records import (
    Declaration,
    DeviceModel,
    Hypervisor,
    HypervisorType,
    Observed,
)
from vbench.report import reference, sentences
from vbench.report.document import slug
from vbench.report.gather import gather
from vbench.results import loading, stats

BARE = replace(LOCAL, facts={**LOCAL.facts, "virtualization": "none"})
SHIPPED = Path(__file__).parents[2] / "reports" / "development-machine"


def screen(*results: Result) -> str:
    """From the title to the first chapter."""
    return report.render(results, plots_dir="p").markdown.split("\n## ")[0]


def table(text: str) -> list[list[str]]:
    rows = [line for line in text.splitlines() if line.startswith("| **")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def with_applications() -> list[Result]:
    """The shipped results, and all applications under two techniques."""
    shipped = loading.load_all([SHIPPED])
    like = next(each for each in shipped if each.host.kind is LOCAL.kind)
    made = []
    for variant, technique in (("tcg-virtio", Technique.FULL), ("kvm-virtio", Technique.HARDWARE)):
        of = [
            item(name, pairs(19.0), category="app", variant=variant, backend=variant,
                 technique=technique, host=like.host.identity)
            for name in reference.APPLICATIONS.workloads
        ]  # fmt: skip
        made.append(replace(like, variant=variant, items=tuple(of), launches=()))
    return [*shipped, *made]


@pytest.mark.parametrize("results", [full_run(), loading.load_all([SHIPPED]), with_applications()])
def test_it_fits_one_screen(results: list[Result]) -> None:
    shown, read_on, below = screen(*results).partition("**Read on:**")
    shown += read_on + below.splitlines()[0]
    lines = [line for part in shown.split("<br>") for line in part.splitlines()]
    wrapped = [part for line in lines for part in textwrap.wrap(line, 120) or [""]]
    assert len(wrapped) <= 40


def test_the_table_is_the_introduction_s() -> None:
    rows = table(screen(*full_run()))[:6]
    assert [row[0] for row in rows] == [
        f"**{name}**"
        for name in ("Guest OS modification", "CPU overhead", "I/O performance",
                     "Windows support", "Key technology", "Current usage")
    ]  # fmt: skip
    assert all(len(row) == 4 for row in rows)
    assert not any("<br>" in cell for row in rows for cell in row)


def test_a_machine_without_kvm_has_one_table_with_both_clocks_marked() -> None:
    text = screen(*full_run())
    assert text.count("| **CPU overhead**") == 1
    _, full, para, hardware = table(text)[1]
    assert re.fullmatch(r"\*\*medium\*\* ×1\.5\d‡ / ×14\.\d‡§ / ×3\.\d\d‡§ `tcg-virtio`", full)
    assert para == "not measured"
    assert hardware == "**low** ×1.01‡ / — / — `kvm-virtio` †"
    assert "† counted" in text
    assert "instructions in an emulated machine, not time" in text


def test_the_answer_names_cost_clock_and_what_cannot_run() -> None:
    text = sentences.answer(gather(full_run()))
    assert "computing under full virtualization (`tcg` ‡) takes 1.53 times" in text
    assert "Counted in instructions" in text
    assert "hardware-assisted virtualization (/dev/kvm interprets \\| 1.3 M instructions/s)" in text
    nothing = sentences.answer(gather([result(item("a", pairs(2.0)))]))
    assert "Nothing was measured that tells the CPU's cost" in nothing
    alone = sentences.answer(gather([gathered(scenario("migration", migration(0.2)))]))
    assert alone.startswith("Migrated guests moved in ")
    calls = sentences.answer(
        gather([result(item("syscall-switch", pairs(3.0), category="syscall"))])
    )
    assert "a mix of system calls under full virtualization (`tcg` ‡) takes" in calls


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (stats.Overhead(7.81, 7.4, 8.3, 10, 5), "takes 7.81 times as long"),
        (stats.Overhead(1.02, 1.01, 1.03, 10, 5), "takes 2 % longer"),
        (stats.Overhead(0.97, 0.95, 0.99, 10, 5), "takes 3 % less time"),
        (stats.Overhead(1.2, 0.8, 1.7, 4, 2), "takes 20 % longer (not certain: the interval "
         "holds ×1.00)"),
        (stats.Overhead(1.2, 1.1, 1.3, 4, 1), "takes 20 % longer (one boot: not certain)"),
        (stats.Overhead(24.6, 2.5, 238.8, 3, 3), "takes 24.6 times as long (not certain: "
         "×2.50 to ×239)"),
        (stats.Overhead(1.01, 0.99, 1.03, 9, 5), "takes 1 % longer"),  # equivalent: certain
        (stats.Overhead(42.0, 0.9, 2051.0, 2, 2), "is undecided (×0.90 to ×2,051)"),
    ],
)  # fmt: skip
def test_a_sentence_says_no_more_than_its_interval(value: stats.Overhead, told: str) -> None:
    assert sentences.cost(value, wall=True) == told


def test_a_cell_states_what_its_variant_is_and_not_its_opposite() -> None:
    def backend(name: str, windows: str, overhead: float) -> Result:
        made = item("cpu-aes", pairs(overhead), backend=name, variant=name,
                    technique=Technique.HARDWARE)  # fmt: skip
        return result(made, variant=name, facts={"windows": {"text": windows, "source": "s"}})

    rows = table(screen(backend("a", "yes", 1.1), backend("b", "no: it has no firmware", 1.2)))
    assert rows[1][3].endswith("`a`")
    assert rows[3][3] == "yes"


def test_a_remedy_that_is_a_command_looks_like_one() -> None:
    lacking = ("b", "paravirtualization", "not there", "vbench run --backend b")
    text = screen(result(item("cpu-aes", pairs(1.1)), unavailable=(lacking,)))
    assert "- `b`: `vbench run --backend b`." in text


def three(computing: tuple[Pair, ...], **calls: Any) -> Result:
    return result(
        item("cpu-aes", computing),
        item("memory-random", pairs(1.5), category="memory"),
        item("syscall-switch", pairs(9.0), category="syscall", **calls),
    )


def test_each_figure_has_its_own_word_if_it_may_have_one() -> None:
    of_all = "**low** ×1.02‡ / **medium** ×1.50‡ / **high** ×8.99‡ `tcg`"
    text = screen(three(pairs(1.02)))
    assert table(text)[1][1] == of_all
    assert "Words: low up to ×1.10, medium up to ×2, high above." in text
    assert "§" not in text
    differing = screen(three(pairs(1.02), flags=("kernel_differs",)))  # no word for the kernel's
    assert table(differing)[1][1] == of_all.replace("**high** ×8.99‡", "×8.99‡§")
    assert "§ no word: host and guest run different kernels" in differing
    wild = (Pair(1.0, 0.8, 0), Pair(1.0, 1.5, 1))  # too few boots to tell
    assert table(screen(three(wild)))[1][1].startswith("undecided / **medium**")
    once = screen(result(item("cpu-aes", pairs(1.0, boots=1))))
    assert "**low**" not in table(once)[1][1]
    assert "Words:" not in once


def test_a_word_that_all_figures_share_stands_once() -> None:
    made = result(
        item("cpu-aes", pairs(9.0, spread=0.0)),
        item("memory-random", pairs(5.0, spread=0.0), category="memory"),
        item("syscall-switch", pairs(3.0, spread=0.0), category="syscall"),
    )
    assert table(screen(made))[1][1] == "**high** ×9.00‡ / ×5.00‡ / ×3.00‡ `tcg`"


def test_a_figure_is_marked_with_what_it_lacks() -> None:
    once = screen(result(item("cpu-aes", pairs(9.0, boots=1))))
    assert table(once)[1][1] == "×8.80‡(?) / — / — `tcg`"
    assert "‡ over a part of its workloads." in once
    assert "(?) not certain: one boot, or an interval that holds ×1.00 or reaches" in once
    whole = screen(result(*(item(name, pairs(9.0)) for name in reference.COMPUTING.workloads)))
    assert re.fullmatch(r"\*\*high\*\* ×[89]\.\d\d / — / — `tcg`", table(whole)[1][1])
    assert "‡" not in whole
    assert "(?)" not in whole


def test_input_and_output_are_time_per_operation_by_every_clock() -> None:
    wild = (Pair(1.0, 3.4, 0), Pair(1.0, 21.0, 1))
    made = result(
        item("disk-read-1m", pairs(1.4), category="disk", unit="byte"),
        item("disk-randread-qd1", wild, category="disk"),
        item("network-send", pairs(20.0), category="network", unit="byte"),
        item("network-rr", pairs(3.0, spread=0.001), category="network"),
    )
    text = screen(made)
    assert table(text)[2][1] == "disk undecided, net ×3.00 `tcg`"
    assert "I/O: time per small operation" in text
    assert "undecided: the interval holds ×1.00 and a high overhead" in text
    assert table(screen(*full_run()))[2][3] == "disk ×4.50‡, net — `kvm-virtio` †"
    throughput = result(item("disk-read-1m", pairs(1.4), category="disk", unit="byte"))
    assert table(screen(throughput))[2][1] == "not measured"


def paravirtual(variant: str, interface: str, **changes: Any) -> Result:
    common = {"technique": Technique.PARA, "variant": variant, "backend": variant, **changes}
    made = item("cpu-prime", pairs(1.1), **common)
    seen = (launch(variant, 0, observed=Observed(hypervisor=interface)),)
    return result(made, variant=variant, launches=seen)


def test_the_guest_that_calls_its_hypervisor_stands_for_paravirtualization() -> None:
    port = paravirtual("uml", "")
    caller = paravirtual("xen-pv", "Xen PV", host=TESTBED.identity, host_kind=TESTBED.kind,
                         time_base=TESTBED.time_base)  # fmt: skip
    both = table(screen(port, replace(caller, host=TESTBED)))
    assert both[1][2].endswith("`xen-pv` †")  # counted, and all the same
    assert both[0][2].endswith("reports Xen PV `xen-pv`")
    assert both[4][2].endswith("`xen-pv`")
    alone = table(screen(port))
    assert alone[1][2].endswith("`uml`")


def of_type(name: str, kind: HypervisorType, overhead: float, **changes: Any) -> Result:
    made = item("cpu-prime", pairs(overhead, seed=name), variant=name, backend=name,
                technique=changes.pop("technique", Technique.HARDWARE))  # fmt: skip
    declared = Declaration(Hypervisor(name.upper(), "its vendor", kind, "its manual"))
    return result(made, host=BARE, declaration=declared, **changes)


def test_each_technique_is_shown_with_its_usual_devices() -> None:
    made = []
    for variant, devices in (
        ("tcg", DeviceModel.EMULATED),
        ("tcg-virtio", DeviceModel.PARAVIRTUAL),
    ):
        for technique in (Technique.FULL, Technique.HARDWARE):
            named = f"{variant}-{technique.name}".lower()
            of = item("disk-randread-qd1", pairs(2.0), category="disk", variant=named,
                      backend=named, technique=technique)  # fmt: skip
            made.append(result(of, declaration=Declaration(devices=devices)))
    row = table(screen(*made))[2]
    assert "`tcg-full`" in row[1]
    assert "`tcg-virtio-hardware`" in row[3]


def test_by_the_clock_goes_before_counted() -> None:
    counted = full_run()[2]
    timed = replace(
        counted,
        host=replace(LOCAL, identity="ssh://kvm"),
        items=(
            replace(
                item("cpu-prime", [Pair(1.0, 1.05, b) for b in range(3)], variant="kvm-virtio"),
                technique=Technique.HARDWARE,
                host="ssh://kvm",
            ),
        ),
    )
    assert "†" not in table(screen(counted, timed))[1][3]


def test_links_lead_to_chapters() -> None:
    text = report.render(full_run(), plots_dir="p").markdown
    titles = {slug(title) for title in re.findall(r"^#+ (.+)$", text, flags=re.M)}
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert links
    assert links <= titles


def test_what_to_do_next_is_said_once_for_each_remedy() -> None:
    text = screen(*full_run())
    assert text.count("use --host testbed") == 1
    assert "**To measure the rest (†: counted in the testbed, not timed):**" in text
    assert "- `kvm-virtio` †: use --host testbed." in text
    alone = screen(*(each for each in full_run() if each.host.time_base is TimeBase.WALL))
    assert "**To measure the rest:**" in alone
    assert "- `kvm-virtio`: use --host testbed." in alone


def test_only_what_was_measured_has_the_mark_of_what_was_counted() -> None:
    failed = item("cpu-prime", host=TESTBED.identity, backend="virtualbox", variant="virtualbox",
                  status=Status.FAILED, technique=Technique.HARDWARE)  # fmt: skip
    absent = (("virtualbox", Technique.HARDWARE.value, "absent", "install VirtualBox 7"),)
    timed = result(item("cpu-prime", pairs(7.0)), unavailable=absent)
    text = screen(timed, result(failed, host=TESTBED, variant="virtualbox"))
    assert "- `virtualbox`: install VirtualBox 7." in text


def test_a_terminal_shows_the_same_without_markdown() -> None:
    text = report.summary(full_run())
    assert "computing under full virtualization (tcg ‡) takes 1.53 times" in text
    assert all(len(line) <= 110 for line in text.splitlines())
    assert not re.search(r"[*`|\\]", text.replace("interprets | 1.3", "").replace("'app*'", ""))
    assert "were not measured: vbench run --workload 'app*'." in " ".join(text.split())
    assert "medium ×1.52‡" in text
    assert "×14.0‡§" in text
    assert "‡ over a part" in text


def test_several_machines_are_told_apart_on_the_first_screen() -> None:
    made = []
    for number in range(6):
        beneath = {**BARE.facts, "physical_host": "node4"}
        host = replace(BARE, identity=f"local:runner{number}", facts=beneath)
        refused = (("kvm-virtio", Technique.HARDWARE.value, "absent", "load the module"),)
        of = item("cpu-prime", pairs(7.0), host=host.identity)
        made.append(result(of, host=host, unavailable=refused))
    timed = of_type("kvm-virtio", HypervisorType.HYBRID, 1.02)
    timed = replace(timed, host=replace(BARE, identity="local:runner9"))
    text = screen(*made, timed)
    assert "full virtualization on local:runner0, hardware-assisted on local:runner9" in text
    assert "And 3 more machines." in text
    assert text.count(", on the physical machine node4") == 4
    assert "To measure the rest" not in text  # it was timed on one of them
