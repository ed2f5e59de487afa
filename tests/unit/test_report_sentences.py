"""The sentences that open a chapter: one measure each, and no more than its interval says."""

from __future__ import annotations

from typing import Any

from sample_results import item, pairs, result

from vbench.model import Item, Pair, Result
from vbench.report import sections, sentences
from vbench.report.gather import Panel, gather


def panel(*results: Result) -> Panel:
    return gather(results).panels[0]


def disk(workload: str, sample: tuple[Pair, ...], variant: str = "tcg", **changes: Any) -> Item:
    changes = {"category": "disk", "variant": variant, "backend": variant, **changes}
    return item(workload, sample, **changes)


def test_the_sentence_of_operations_has_no_throughput_in_it() -> None:
    made = [
        result(
            disk("disk-read-1m", pairs(throughput), variant, unit="byte"),
            disk("disk-randread-qd1", pairs(operation, spread=0.001), variant),
        )
        for variant, throughput, operation in (("tcg", 1.5, 7.3), ("tcg-virtio", 1.2, 4.5))
    ]
    assert sentences.io(panel(*made)) == (
        "Disk operations cost 4.50 times native's time under `tcg-virtio` and 7.30 times "
        "under `tcg`."
    )
    alone = result(disk("disk-read-1m", pairs(1.2), unit="byte"))
    assert sentences.io(panel(alone)) == "No operation of disk or network has a ratio to native."


def test_the_sentence_of_operations_compares_means_of_as_many_workloads() -> None:
    both = result(
        disk("disk-randread-qd1", pairs(4.0, spread=0.001)),
        disk("disk-randread-qd16", pairs(4.0, spread=0.001)),
    )
    one = result(disk("disk-randread-qd1", pairs(1.5), "tcg-virtio"))
    text = sentences.io(panel(both, one))
    assert text == "Disk operations cost 4.00 times native's time under `tcg`."


def test_the_sentence_of_operations_says_its_doubt() -> None:
    wild = (Pair(1.0, 3.4, 0), Pair(1.0, 21.0, 1))
    text = sentences.io(panel(result(disk("disk-randread-qd1", wild))))
    assert text == "Disk operations are undecided under `tcg`."
    doubtful = (Pair(1.0, 1.0, 0), Pair(1.0, 1.1, 1))
    text = sentences.io(panel(result(disk("disk-randread-qd1", doubtful))))
    assert text.startswith(
        "Disk operations cost 1.05 times native's time under `tcg` (not certain: "
    )
    once = result(disk("disk-randread-qd1", pairs(3.0, boots=1)))
    assert sentences.io(panel(once)).endswith("under `tcg` (one boot: not certain).")


def test_the_largest_overhead_is_one_of_those_with_a_ratio() -> None:
    rated = item("cpu-prime", pairs(7.0, spread=0.001))
    unrated = item("cpu-own", pairs(1.0, None))
    assert sections.sentence(panel(result(rated, unrated))).startswith(
        "Of 1 workload with a ratio to native, cpu-prime under `tcg` has the largest overhead"
    )
    near = item("cpu-aes", pairs(7.0, spread=0.5))
    assert "(1 more may be as large)" in sections.sentence(panel(result(rated, near)))
    far = item("cpu-aes", pairs(2.0, spread=0.001))
    assert "as large" not in sections.sentence(panel(result(rated, far)))
    text = sections.sentence(panel(result(unrated)))
    assert text == "1 workload measured, none with a ratio to native."


def test_the_sentence_of_boots_is_about_the_first_command() -> None:
    text = sentences.boots(panel(result(item("cpu-prime", pairs(1.0)))), {"uml": 2.76, "tcg": 10.2})
    assert text == "`uml` has run a command 2.76 s after its launch, `tcg` after 10.2 s."


def test_equal_figures_are_not_said_to_differ() -> None:
    text = sentences.techniques(panel(result(item("cpu-prime", pairs(1.0, spread=0.0)))))
    assert text.startswith("Under `tcg` computing takes the same time (within 0.05 %)")
