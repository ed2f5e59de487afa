# ruff: noqa: RUF001
"""What people ask first has an answer in the report, and it is that of its tables."""

from __future__ import annotations

from sample_results import TESTBED, full_run, item, pairs, result

from vbench import report
from vbench.model import Result, TimeBase
from vbench.records import Declaration, Hypervisor, HypervisorType

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
    assert "| `a` | ×2.00‡ | — | — | ×5.00‡ | ×3.00 |" in " ".join(text.split())
    assert "- `a` costs most in small disk operations (×5.00) and least in computing" in text


def test_the_cheapest_for_each_kind_of_work_is_what_to_use() -> None:
    text = answers(
        timed("a", computing=2.0, disk=5.0, net=3.0), timed("b", computing=3.0, disk=2.0, net=4.0)
    )
    advice = text.partition("**What should I use on this machine?**")[2]
    assert "`a` for computing ×2.00, network round trips ×3.00" in advice
    assert "`b` for small disk operations ×2.00" in advice


def test_a_machine_without_kvm_is_told_what_kvm_would_cost() -> None:
    assert "take one with KVM, and measure there. Counted, `kvm-virtio` †" in answers(*full_run())


def test_evidence_says_how_often_it_was_measured_and_what_repeats() -> None:
    steady = item(
        "cpu-prime", pairs(1.5, spread=0.0), host=TESTBED.identity, time_base=TimeBase.INSTRUCTIONS
    )
    shaky = item("cpu-aes", pairs(1.5), host=TESTBED.identity, time_base=TimeBase.INSTRUCTIONS)
    text = answers(result(steady, shaky, host=TESTBED)).partition("**Can I trust it?**")[2]
    assert "2 ratios, from 5 boots each; of 2 counted on several boots, 1 repeats" in text


def test_without_a_ratio_there_is_nothing_to_answer() -> None:
    assert answers(result(item("cpu-prime"))) == ""
