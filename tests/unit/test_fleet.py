"""The report of many machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.sample_results import LOCAL, item, pairs, result
from vbench import report
from vbench.cli.main import main
from vbench.errors import StoreError
from vbench.model import HostFacts, Result, Statistic, Status, TimeBase
from vbench.report import html, markdown
from vbench.report.fleet import Fleet, Kind
from vbench.results import store
from vbench.system import facts


def host(number: int, **changed: str) -> HostFacts:
    own = {
        "machine_id": f"m{number}",
        "address": f"a{number}",
        "governor": "performance",
        "nested": "on",
    }
    return replace(
        LOCAL, identity=f"local:node{number}", facts={**LOCAL.facts, **own, **changed}
    )  # fmt: skip


def measured(where: HostFacts, *, overhead: float = 2.0, native_s: float = 1e-6) -> Result:
    common: dict[str, object] = {"host": where.identity}
    seed = where.identity
    return result(
        item("cpu-prime", pairs(overhead, native_s, seed=seed, spread=0.01), **common),
        item("cpu-sha256", pairs(1.5 * overhead, native_s, seed=seed + "2", spread=0.01), **common),
        item(
            "boot",
            pairs(6.0, None, rounds=1, seed=seed, spread=0.01),
            category="boot",
            statistic=Statistic.ABSOLUTE,
            **common,
        ),
        host=where,
    )


def some(count: int, *further: Result) -> Iterator[Result]:
    yield from (measured(host(number)) for number in range(count))
    yield from further


def deviating(fleet: Fleet) -> set[tuple[str, str, Kind]]:
    return {
        (each.machine.name, each.quantity.category, each.quantity.kind)
        for of in fleet.classes
        for each in of.deviations
    }


def text(results: Iterator[Result]) -> str:
    return markdown.render(report.fleet(results), plots=None)


def test_a_machine_that_deviates_is_found_with_its_setting_by_how_much_and_how_sure() -> None:
    slow = measured(host(99, governor="powersave", nested="off"), native_s=1.3e-6)
    fleet = Fleet(some(12, slow))
    assert deviating(fleet) == {("local:node99", "cpu", Kind.NATIVE)}
    (found,) = fleet.classes[0].deviations
    assert found.percent == pytest.approx(30, abs=3)
    assert found.p < 0.001
    page = text(some(12, slow))
    assert "**1 deviates from its class:** `local:node99`" in page
    row = next(line for line in page.splitlines() if line.startswith("| `local:node99`"))
    assert "cpu: native's time" in row
    assert "governor: `powersave`" in row
    assert "nested: `off`" in row
    assert "most: `performance`" in row
    assert "| 1 | 1 | `performance` | 12 | 0 |" in page


def test_an_overhead_that_deviates_is_no_matter_of_native() -> None:
    fleet = Fleet(some(12, measured(host(99), overhead=2.4)))
    assert deviating(fleet) == {("local:node99", "cpu", Kind.OVERHEAD)}


def test_among_alike_machines_none_deviates() -> None:
    assert deviating(Fleet(some(15))) == set()
    assert "**No machine deviates from its class.**" in text(some(15))


def test_machines_of_another_class_are_not_compared() -> None:
    other = measured(host(99, cpu_model="another"), native_s=9e-6)
    fleet = Fleet(some(12, other))
    assert [len(each.machines) for each in fleet.classes] == [12, 1]
    assert deviating(fleet) == set()
    assert "1 machine cannot be judged" in text(some(12, other))


def test_too_few_machines_are_not_judged() -> None:
    slow = measured(host(99), native_s=9e-6)
    assert deviating(Fleet(some(2, slow))) == set()
    assert "too few machines to tell" in text(some(2, slow))
    page = text(some(2, measured(host(99, governor="powersave"))))
    assert "3 machines: too few to tell which deviate." in page
    assert "| `powersave` | 1 | — | `performance` | 2 | — |" in page
    assert "0 of 3" not in page


def test_seconds_of_unknown_cpus_are_not_compared() -> None:
    unknown = {"cpu_model": "unknown"}
    results = [measured(host(n, **unknown)) for n in range(8)]
    results.append(measured(host(99, **unknown), native_s=9e-6))
    fleet = Fleet(results)
    assert {one.quantity.kind for one in fleet.classes[0].compared} == {Kind.OVERHEAD}


def test_two_names_of_one_machine_are_one_machine() -> None:
    again = replace(host(3), identity="local:alias")
    fleet = Fleet(some(8, measured(again)))
    assert fleet.machines == 8
    assert "`local:alias, local:node3`" in text(some(8, measured(again)))


def test_guests_of_one_physical_host_are_one_machine() -> None:
    guests = [measured(host(n, physical_host="rack1")) for n in (20, 21, 22)]
    assert Fleet(some(5, *guests)).machines == 6


def test_what_the_user_says_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    assert facts.told() == {}
    monkeypatch.setenv("VBENCH_PHYSICAL_HOST", "rack1")
    monkeypatch.setenv("VBENCH_INVENTORY_NAME", "node1")
    found = facts.facts(facts.LocalReader())
    assert (found["physical_host"], found["inventory_name"]) == ("rack1", "node1")


def test_a_machine_is_called_as_in_the_inventory() -> None:
    """Machines of one template may all be called localhost."""
    (one,) = Fleet([measured(host(3, inventory_name="node1"))]).classes[0].machines
    assert one.name == "node1"


def test_nothing_is_minus_nought() -> None:
    assert "-0.0" not in text(some(8))


def test_a_machine_that_lacks_a_workload_is_compared_by_the_others() -> None:
    less = measured(host(99))
    less = replace(less, items=less.items[:1])
    fleet = Fleet(some(9, less))
    assert deviating(fleet) == set()
    assert {len(one.machines) for one in fleet.classes[0].compared} == {9, 10}


def test_workloads_of_another_definition_are_not_compared() -> None:
    changed = measured(host(99), overhead=9.0)
    changed = replace(changed, items=tuple(replace(i, definition="new") for i in changed.items))
    assert deviating(Fleet(some(9, changed))) == set()


def test_a_copy_of_a_result_counts_once() -> None:
    twice = measured(host(3))
    assert Fleet([twice, twice]).classes[0].machines[0].logs == (
        Fleet([twice]).classes[0].machines[0].logs
    )


def test_counts_are_left_out_and_said() -> None:
    counted = replace(host(99), time_base=TimeBase.INSTRUCTIONS)
    made = replace(measured(counted), items=())
    assert "1 result of counted instructions left out" in text(some(5, made))
    with pytest.raises(StoreError, match="no result by the wall clock"):
        report.fleet([made])


def test_failures_and_partial_runs_are_named() -> None:
    failed = item("disk-read", (), status=Status.FAILED, reason="the disk | is full")
    cut = replace(measured(host(99)), planned=9, done=2)
    cut = replace(cut, items=(*cut.items, replace(failed, host=cut.host.identity)))
    page = " ".join(text(some(5, cut)).split())
    assert "| the disk \\| is full | 1 | `local:node99` |" in page
    assert "did not measure all that they planned: `local:node99`" in page


def test_the_command_reads_a_folder_of_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, each in enumerate(some(6, measured(host(99), overhead=3.0))):
        folder = tmp_path / "results" / f"host{number}"
        folder.mkdir(parents=True)
        (folder / "tcg.json").write_bytes(store.dumps(store.document(each)))
    files = [tmp_path / "fleet.md", tmp_path / "fleet.html"]
    words = ["report", "--fleet", str(tmp_path / "results")]
    assert main([*words, "-o", str(files[0]), "--html", str(files[1])]) == 0
    written = files[0].read_text()
    assert written == text(some(6, measured(host(99), overhead=3.0)))
    assert "local:node99" in files[1].read_text()
    assert main(words) == 0
    assert capsys.readouterr().out == written
    assert main([*words, "--format", "csv"]) == 2


def test_the_page_is_as_readable_as_the_markdown() -> None:
    page = html.render(report.fleet(some(5)), {})
    assert page.count("<details>") == 2, "native and one variant, each folded"
    assert '<table class="sortable">' in page
