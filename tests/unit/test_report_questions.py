# ruff: noqa: RUF001
"""What people ask first has an answer in the report, and it is that of its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sample_results import TESTBED, full_run, item, launch, pairs, result
from test_report_exits import kvm_result

from vbench import report
from vbench.model import Item, Pair, Result, Technique, TimeBase
from vbench.records import Attestation, Declaration, Hypervisor, HypervisorType
from vbench.report import attribution
from vbench.report.gather import gather
from vbench.results.formatting import number

KVM = Declaration(hypervisor=Hypervisor("KVM", "kernel.org", HypervisorType.HYBRID, "test"))


def answers(*results: Result) -> str:
    text = report.render(results, plots_dir=None).markdown
    return text.partition("## Questions people ask")[2].partition("\n## ")[0]


def timed(variant: str, **ratios: float) -> Result:
    names = {"computing": "cpu-prime", "disk": "disk-randread-qd1", "net": "network-rr"}
    category = {"computing": "cpu", "disk": "disk", "net": "network"}
    of = [
        item(
            names[what],
            pairs(ratio, spread=0.0),
            variant=variant,
            backend=variant,
            category=category[what],
        )
        for what, ratio in ratios.items()
    ]
    return result(*of, variant=variant, declaration=KVM)


def test_an_application_finds_its_kinds_of_work_and_the_dearest() -> None:
    text = answers(timed("a", computing=2.0, disk=5.0, net=3.0))
    assert "| KVM, translating `a` | ×2.00‡ | — | — | ×5.00‡ | ×3.00 |" in " ".join(text.split())
    assert (
        "- KVM, translating `a` costs most in small disk operations (×5.00) and least in computing"
        in text
    )


def test_the_dearest_disk_operation_names_the_driver_it_went_through() -> None:
    seen = launch("a", 0, attestation=Attestation("QEMU; disk ahci; network e1000"))
    made = replace(timed("a", computing=2.0, disk=5.0), launches=(seen,))
    assert "small disk operations in KVM, translating `a` (×5.00, disk ahci)." in answers(made)


def test_time_and_counts_are_never_ranked_together() -> None:
    counted = {
        "host": TESTBED.identity,
        "host_kind": TESTBED.kind,
        "time_base": TESTBED.time_base,
        "counted": True,
        "technique": Technique.HARDWARE,
        "variant": "b",
        "backend": "b",
    }
    works = (("cpu-prime", "cpu", 1.0), ("disk-randread-qd1", "disk", 9.0))
    of = [item(name, pairs(x, spread=0.0), category=kind, **counted) for name, kind, x in works]
    text = answers(
        timed("a", computing=2.0, disk=5.0),
        result(*of, variant="b", declaration=KVM, host=TESTBED),
    )
    timed_one, _, counted_one = text.partition("In counted instructions the cheapest is")
    assert "By the clock the cheapest is computing in KVM, translating `a` (×2.00)" in timed_one
    assert "most expensive is small disk operations in KVM, translating `a` (×5.00)." in timed_one
    assert counted_one.split(".\n")[0].count("`b` †") == 2


def unlike(variant: str, workload: str, ratios: Sequence[float]) -> Result:
    """One disk workload whose boots have these ratios."""
    of = [Pair(1e-3, 1e-3 * ratio, boot) for boot, ratio in enumerate(ratios)]
    made = item(workload, of, variant=variant, backend=variant, category="disk")
    return result(made, variant=variant, declaration=KVM)


def test_the_cheapest_is_named_only_where_intervals_part() -> None:
    disk = "disk-randread-qd1"
    clear = unlike("a", disk, (2.0, 2.1, 1.9)), unlike("b", disk, (5.0, 5.1, 4.9))
    assert "the cheapest is `a` for small disk operations ×2.00" in answers(*clear)
    # three boots that say nothing: the estimate is lower, and may be anything
    for ratios in ((1.0, 9.0, 0.6), (1.5, 2.5, 2.0), (2.2, 2.4, 2.3)):
        text = answers(clear[0], unlike("b", disk, ratios))
        assert "the cheapest is" not in text
        assert "do not decide which is cheapest for small disk operations" in text


def test_the_cheapest_is_that_of_the_work_that_all_of_them_measured() -> None:
    def one(variant: str, **ratios: float) -> Result:
        of = [
            item(name.replace("_", "-"), pairs(ratio, spread=0.0), variant=variant, backend=variant)
            for name, ratio in ratios.items()
        ]
        return result(*of, variant=variant, declaration=KVM)

    text = answers(one("a", cpu_prime=3.0, cpu_sha256=6.0), one("b", cpu_prime=1.03))
    assert "the cheapest is `b` for computing ×1.03‡" in text
    text = answers(one("a", cpu_prime=2.0, cpu_sha256=8.0), one("b", cpu_prime=3.0))
    assert "the cheapest is `a` for computing ×2.00‡ in what all measured" in text
    # the less in the mean, but nine times as much in one of two
    text = answers(
        one("a", cpu_prime=1.0, cpu_sha256=9.0), one("b", cpu_prime=20.0, cpu_sha256=2.0)
    )
    assert "the cheapest is" not in text.partition("**What should I use")[2]
    assert "do not decide which is cheapest for computing (`a`, `b`): they overlap, or each" in text


def test_what_ran_one_boot_is_ranked_with_nothing_and_named() -> None:
    once = item("disk-randread-qd1", pairs(9.0, boots=1), variant="b", category="disk",
                technique=Technique.HARDWARE)  # fmt: skip
    both = timed("a", computing=2.0, disk=5.0), result(once, variant="b", declaration=KVM)
    text = answers(*both)
    assert "the most expensive is small disk operations in KVM, translating `a` (×5.00)." in text
    assert "the variants of the table below, without KVM `b` (one boot)." in text
    assert "the variants of the table" not in answers(both[0])


def test_wide_intervals_are_told_as_a_factor() -> None:
    disk = "disk-randread-qd1"
    assert "reach factor 3.56 or less to either" in answers(unlike("a", disk, (9.0, 15.0, 25.0)))
    text = answers(unlike("a", disk, (9.0, 9.1, 9.2)))
    assert "% or less to either side" in text
    assert "there is only `a` for small disk operations" in text


def test_one_kind_of_work_is_the_dearest_only_where_intervals_part() -> None:
    def line(**ratios: Sequence[float]) -> str:
        names = {"disk": "disk-randread-qd1", "computing": "cpu-prime"}
        of = [
            item(
                names[what],
                [Pair(1e-3, 1e-3 * ratio, boot) for boot, ratio in enumerate(each)],
                variant="a",
                backend="a",
                category={"computing": "cpu"}.get(what, what),
            )
            for what, each in ratios.items()
        ]
        text = answers(result(*of, variant="a", declaration=KVM))
        return next(line for line in text.splitlines() if line.startswith("- KVM"))

    assert "costs most in small disk" in line(disk=(5.0, 5.1, 4.9), computing=(2.0, 2.1, 1.9))
    assert "intervals overlap" in line(disk=(5.0, 3.0, 7.0), computing=(3.5, 4.0, 4.5))
    assert "one boot decides no order" in line(disk=(5.0,), computing=(2.0,))


def programs(**changes: Any) -> Result:
    common = {"variant": "a", "backend": "a", "category": "app", **changes}
    of = (("redis", 3.0), ("sqlite", 2.0), ("compile", 9.0))
    made = [item(f"app-{name}", pairs(x, 1e-3, spread=0.0), **common) for name, x in of]
    return result(*made, variant="a", declaration=KVM)


def test_databases_that_were_measured_answer_for_themselves() -> None:
    text = " ".join(answers(programs()).split())
    asked = text.partition("**How much slower is my database in a guest?**")[2]
    told = "In KVM, translating `a` redis takes 3.00 times as long, SQLite takes 2.00 times as long"
    assert asked.startswith(f" {told} ([Applications](#applications)).")
    assert "No application was measured in a hardware-assisted guest." in asked
    assert "No application" not in answers(programs(technique=Technique.HARDWARE))


def test_applications_have_a_line_on_the_first_screen_and_a_chapter() -> None:
    text = report.render([programs()], plots_dir=None).markdown
    first, _, rest = text.partition("\n## ")
    assert (
        "**Applications** (guest ÷ native): redis ×3.00, SQLite ×2.00, tcc (C compiler) ×9.00 `a`."
        in first
    )
    assert "were not measured: `vbench run" not in first
    assert "an application under full virtualization (`a` ‡) takes" in first
    assert "‡ over a part of its workloads." in first
    chapter = rest.partition("## Applications\n")[2].partition("\n## ")[0]
    assert "Under `a` tcc (C compiler) takes 9.00 times as long, redis takes 3.00" not in chapter
    assert "Under `a` tcc (C compiler) takes 9.00 times as long, SQLite takes 2.00" in chapter
    head, _, row = [line for line in chapter.splitlines() if line.startswith("|")]
    titles = ("redis", "SQLite", "tcc (C compiler)")
    assert head == f"| Variant | {' | '.join(f'{title}, per event, ms' for title in titles)} |"
    assert row.startswith("| `a` | ×3.00 [3.00, 3.00]<br><sub>1.00 → 3.00</sub> |")


def test_without_applications_operations_of_a_database_answer() -> None:
    made = [
        item(name, pairs(x, spread=0.0), technique=Technique.HARDWARE, variant="a", backend="a",
             category=category)
        for name, category, x in (("disk-randread-qd1", "disk", 5.0),
                                  ("syscall-getppid", "syscall", 1.03))
    ]  # fmt: skip
    text = answers(result(*made, variant="a", declaration=KVM))
    assert "No application was measured (`vbench run --workload 'app*'` does it)." in text
    assert "in KVM `a` a small disk operation takes 5.00 times as long, a mix of" in text
    assert "a mix of system calls takes 3 % longer" in text


def test_without_applications_the_report_says_how_to_get_them() -> None:
    made = timed("a", computing=2.0)
    assert "No application was measured (`vbench run --workload 'app*'` does it)" in answers(made)
    first = report.render([made], plots_dir=None).markdown.partition("\n## ")[0]
    assert "zstd) were not measured: `vbench run --workload 'app*'`." in first


def test_the_cheapest_for_each_kind_of_work_is_what_to_use() -> None:
    text = answers(
        timed("a", computing=2.0, disk=5.0, net=3.0), timed("b", computing=3.0, disk=2.0, net=4.0)
    )
    advice = text.partition("**What should I use on this machine?**")[2]
    assert "`a` for computing ×2.00‡, network round trips ×3.00" in advice
    assert "`b` for small disk operations ×2.00" in advice


def test_a_machine_without_kvm_is_told_what_kvm_would_cost() -> None:
    assert "take one with KVM, and measure there. Counted, `kvm-virtio` †" in answers(*full_run())


def test_evidence_says_how_often_it_was_measured_and_what_repeats() -> None:
    steady = item(
        "cpu-prime", pairs(1.5, spread=0.0), host=TESTBED.identity, time_base=TimeBase.INSTRUCTIONS
    )
    shaky = item("cpu-aes", pairs(1.5), host=TESTBED.identity, time_base=TimeBase.INSTRUCTIONS)
    text = answers(result(steady, shaky, host=TESTBED)).partition("**Can I trust it?**")[2]
    assert "2 ratios came from 5 boots each; of 2 counted on several boots, 1 repeats" in text


def test_evidence_says_how_wide_intervals_are() -> None:
    made = result(item("cpu-prime", pairs(1.5)), item("cpu-aes", pairs(1.5)))
    widths = sorted(o.half_width or 0 for o in gather([made]).panels[0].overheads.values())
    text = answers(made).partition("**Can I trust it?**")[2]
    assert f"half of their intervals reach {number(50 * sum(widths))} % or less" in text
    assert "half of" not in answers(result(item("cpu-prime", pairs(1.5, boots=1))))


def test_a_round_was_disturbed_where_all_rounds_were_too() -> None:
    def flagged(name: str, *flags: str, rounds: int) -> Item:
        made = pairs(1.5)
        changed = [replace(pair, flags=flags) for pair in made[:rounds]]
        return item(name, (*changed, *made[rounds:]))

    quiet = flagged("cpu-aes", "budget", rounds=15)
    some, always = flagged("cpu-a", "steal", rounds=2), flagged("cpu-b", "steal", rounds=15)
    for items, said in (
        ([quiet], "none of them had a disturbed round."),
        ([quiet, some], "1 of them had a disturbed round."),
        ([quiet, always], "1 of them had a disturbed round, 1 in every round."),
        ([quiet, some, always], "2 of them had a disturbed round, 1 in every round."),
    ):
        assert said in answers(result(*items)).partition("**Can I trust it?**")[2]


def test_what_exits_explain_is_what_the_chapter_says() -> None:
    (one,) = (a for a in attribution.attributions(gather([kvm_result()]).panels[0])
              if a.item.workload == "disk-randread-qd1")  # fmt: skip
    why = answers(kvm_result()).partition("**Why?**")[2]
    assert one.io_threads
    exits_are, threads = one.share(one.predicted), one.share(one.io_threads)
    assert f"exits explain {attribution.share(exits_are)} of the overhead of disk-" in why
    assert f"randread-qd1 (device threads: up to {attribution.share(threads)})" in why
    assert "explain" not in answers(timed("a", computing=2.0, disk=5.0, net=3.0))


def test_a_ratio_means_time_or_instructions_as_it_was_measured() -> None:
    def meaning(*results: Result) -> str:
        return report.render(results, plots_dir=None).markdown.partition("## How to read this")[2]

    counted = item("cpu-aes", pairs(1.5), host=TESTBED.identity, time_base=TimeBase.INSTRUCTIONS)
    timed_alone = result(item("cpu-prime", pairs(2.0)))
    counted_alone = result(counted, host=TESTBED)
    assert "takes twice as long" in meaning(timed_alone)
    assert "twice as many" not in meaning(timed_alone)
    assert "takes twice as long" not in meaning(counted_alone)
    assert "executes twice as many instructions" in meaning(counted_alone)
    assert "Where instructions were counted, it executes" in meaning(timed_alone, counted_alone)


def test_without_a_ratio_there_is_nothing_to_answer() -> None:
    assert answers(result(item("cpu-prime"))) == ""
