"""The report of many machines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import jsonschema
import pytest

from tests.unit.sample_results import LOCAL, item, pairs, result
from vbench import report
from vbench.cli.main import main
from vbench.errors import StoreError, Unreachable
from vbench.model import HostFacts, Result, Statistic, Status, TimeBase
from vbench.report import html, markdown
from vbench.report.document import Document
from vbench.report.fleet import Fleet, Kind
from vbench.results import store, unmeasured
from vbench.results.merge import distinct
from vbench.results.twins import Twins
from vbench.system import facts

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/failure.schema.json").read_text())


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


def compared(results: Iterable[Result]) -> Fleet:
    return report.fleet((None, each) for each in results)


def document(results: Iterable[Result]) -> Document:
    return report.fleet_document(compared(results))


def deviating(fleet: Fleet) -> set[tuple[str, str, Kind]]:
    return {
        (each.machine.name, each.quantity.category, each.quantity.kind)
        for of in fleet.classes
        for each in of.deviations
    }


def text(results: Iterator[Result]) -> str:
    return markdown.render(document(results), plots=None)


def test_a_machine_that_deviates_is_found_with_its_setting_by_how_much_and_how_sure() -> None:
    slow = measured(host(99, governor="powersave", nested="off"), native_s=1.3e-6)
    fleet = compared(some(12, slow))
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
    fleet = compared(some(12, measured(host(99), overhead=2.4)))
    assert deviating(fleet) == {("local:node99", "cpu", Kind.OVERHEAD)}


def test_among_alike_machines_none_deviates() -> None:
    assert deviating(compared(some(15))) == set()
    assert "**No machine deviates from its class.**" in text(some(15))


def test_machines_of_another_class_are_not_compared() -> None:
    other = measured(host(99, cpu_model="another"), native_s=9e-6)
    fleet = compared(some(12, other))
    assert [len(each.machines) for each in fleet.classes] == [12, 1]
    assert deviating(fleet) == set()
    assert "1 machine cannot be judged" in text(some(12, other))


def test_too_few_machines_are_not_judged() -> None:
    slow = measured(host(99), native_s=9e-6)
    assert deviating(compared(some(2, slow))) == set()
    assert "too few machines to tell" in text(some(2, slow))
    page = text(some(2, measured(host(99, governor="powersave"))))
    assert "3 machines: too few to tell which deviate." in page
    assert "| `powersave` | 1 | — | `performance` | 2 | — |" in page
    assert "0 of 3" not in page


def test_seconds_of_unknown_cpus_are_not_compared() -> None:
    unknown = {"cpu_model": "unknown"}
    results = [measured(host(n, **unknown)) for n in range(8)]
    results.append(measured(host(99, **unknown), native_s=9e-6))
    fleet = compared(results)
    assert {one.quantity.kind for one in fleet.classes[0].compared} == {Kind.OVERHEAD}


def test_two_names_of_one_machine_are_one_machine() -> None:
    again = replace(host(3), identity="local:alias")
    fleet = compared(some(8, measured(again)))
    assert fleet.machines == 8
    assert "`local:alias`, `local:node3`" in text(some(8, measured(again)))


def test_a_machine_whose_settings_changed_counts_with_the_last_and_the_page_says_so() -> None:
    earlier = host(3, inventory_name="alias", governor="powersave")
    slow = replace(measured(earlier, overhead=9.0), started="2025-01-01T00:00:00Z")
    fleet = compared(some(8, slow))
    assert fleet.machines == 8
    assert deviating(fleet) == set()
    page = text(some(8, slow))
    assert (
        "Left out, because the same machine was measured later with other settings: `alias`, "
        "being `local:node3`: governor (`powersave` against `performance`)."
    ) in page
    assert "Left out" not in text(some(8))


def test_guests_of_one_physical_host_are_one_machine() -> None:
    guests = [measured(host(n, physical_host="rack1")) for n in (20, 21, 22)]
    assert compared(some(5, *guests)).machines == 6


def test_what_the_user_says_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    assert facts.told() == {}
    monkeypatch.setenv("VBENCH_PHYSICAL_HOST", "rack1")
    monkeypatch.setenv("VBENCH_INVENTORY_NAME", "node1")
    found = facts.facts(facts.LocalReader())
    assert (found["physical_host"], found["inventory_name"]) == ("rack1", "node1")


def test_a_machine_is_called_as_in_the_inventory() -> None:
    """Machines of one template may all be called localhost."""
    (one,) = compared([measured(host(3, inventory_name="node1"))]).classes[0].machines
    assert one.name == "node1"


def test_nothing_is_minus_nought() -> None:
    assert "-0.0" not in text(some(8))


def test_a_machine_that_lacks_a_workload_is_compared_by_the_others() -> None:
    less = measured(host(99))
    less = replace(less, items=less.items[:1])
    fleet = compared(some(9, less))
    assert deviating(fleet) == set()
    assert {len(one.machines) for one in fleet.classes[0].compared} == {9, 10}


def test_workloads_of_another_definition_are_not_compared() -> None:
    changed = measured(host(99), overhead=9.0)
    changed = replace(changed, items=tuple(replace(i, definition="new") for i in changed.items))
    assert deviating(compared(some(9, changed))) == set()


def test_a_copy_of_a_result_counts_once() -> None:
    twice = measured(host(3))
    assert compared([twice, twice]).classes[0].machines[0].logs == (
        compared([twice]).classes[0].machines[0].logs
    )


def test_clones_that_began_in_one_second_are_as_many_machines() -> None:
    def clone(name: str, seed: int | None, overhead: float) -> Result:
        told = {"inventory_name": name, "physical_host": name} if name else {}
        made = measured(host(3, **told), overhead=overhead)
        return replace(made, planned=3, done=3, seed=seed)

    def boots(*results: Result) -> int:
        logs = [m.logs for of in compared(results).classes for m in of.machines]
        return sum(len(boots) for of in logs for w in of.values() for boots in w.values())

    for one, other in (
        (clone("node1", 1, 2.0), clone("node2", 1, 3.0)),
        (clone("", 1, 2.0), clone("", 2, 3.0)),
    ):
        twins = Twins()
        twins.add(Path("a"), one)
        twins.add(Path("b"), other)
        assert len(distinct([one, other])) == 2
        assert boots(one, other) == 2 * boots(one) == boots(one, other, one)


def test_counts_are_left_out_and_said() -> None:
    counted = replace(host(99), time_base=TimeBase.INSTRUCTIONS)
    made = replace(measured(counted), items=())
    assert "1 result of counted instructions left out" in text(some(5, made))
    with pytest.raises(StoreError, match="no result by the wall clock"):
        compared([made])


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
    page = html.render(document(some(5)), {})
    assert page.count("<details>") == 2, "native and one variant, each folded"
    assert '<table class="sortable">' in page


def failure(name: str, **changed: object) -> dict[str, object]:
    """The file that the role keeps of a host."""
    part = {
        "schema_version": 1,
        "host": name,
        "at": "2026-11-26T10:00:00Z",
        "message": "non-zero return code",
        "stderr": "",
        **changed,
    }
    return {"vbench_failure": part}


def test_a_host_that_could_not_be_measured_stands_in_the_report_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", "--fleet", str(tmp_path)]
    error = Unreachable("no SSH login to ssh://a|b", evidence="refused", remedy="ssh a by hand")
    said = f"vbench: measuring\n[1/2] so far\nvbench: {error}\nvbench: {tmp_path}/report.md"
    for file, content in (
        ("down", failure("down", stderr=said)),
        ("lost", failure("lost", message="Data could not be sent:\nlost")),
    ):
        (tmp_path / f"{file}.failed.json").write_text(json.dumps(content))
    assert main(words) == 0, "where no host was measured there is a report, too"
    page = capsys.readouterr().out
    assert "0 machines in 0 classes. **2 hosts failed:** `down`, `lost`; [why]" in page
    (tmp_path / "lost").mkdir()
    made = measured(host(1, inventory_name="lost"))
    (tmp_path / "lost/tcg.json").write_bytes(store.dumps(store.document(made)))
    assert main(words) == 0
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)][1:-1]
        for line in capsys.readouterr().out.partition("## Not measured")[2].splitlines()
        if line.startswith("| `")
    ]
    when = "2026-11-26T10:00:00Z"
    again = "run the same play again: it measures what is missing"
    assert rows == [
        ["`down`", when, "none", "no SSH login to ssh://a\\|b", "ssh a by hand"],
        ["`lost`", when, "some", "Data could not be sent: lost", again],
    ]


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        (
            "vbench: measuring x -> y\nvbench: failed: cpu-a[tcg] boot 1: it broke\n  | why\n"
            "  -> mend it\nvbench: failed:\n  cpu-a[tcg] boot 1: it broke\nvbench: y/report.md",
            "cpu-a[tcg] boot 1: it broke",
        ),
        ("sh: 1: vbench: not found", "sh: 1: vbench: not found"),
        ("vbench: interrupted", "interrupted"),
        ("\x1b[2Jodd\x07", "[2Jodd"),
        ("", "non-zero return code"),
    ],
)
def test_why_a_host_failed_is_what_vbench_said_or_who_spoke_in_its_place(
    stderr: str, reason: str
) -> None:
    assert unmeasured.of(failure("a", stderr=stderr)).reason == reason


def test_a_failure_is_no_result_and_a_newer_or_damaged_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.failed.json"
    path.write_text(json.dumps(failure("a")))
    jsonschema.validate(failure("a"), SCHEMA, jsonschema.Draft202012Validator)
    for command in (["report"], ["history"], ["report", "--fleet", "-o", str(path)]):
        assert main([*command, str(tmp_path)]) in (2, 5)
    assert "a was not measured: non-zero return code" in capsys.readouterr().err
    for wrong in ({"schema_version": 2}, {"host": None}):
        path.write_text(json.dumps(failure("a", **wrong)))
        assert main(["report", "--fleet", str(tmp_path)]) == 5


def test_a_name_leads_to_the_report_of_its_machine(tmp_path: Path) -> None:
    """From wherever the page is, and whatever the name."""
    names = ["node1", 'a "b"&c|<d>', "100%#?", "[x]: y)"]
    for number, name in enumerate(names):
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        made = measured(host(number, inventory_name=name))
        (folder / "tcg.json").write_bytes(store.dumps(store.document(made)))
        (folder / "report.md").touch()
        if number:
            (folder / "report.html").touch()
    pages = {suffix: tmp_path / f"else where/fleet.{suffix}" for suffix in ("md", "html")}
    pages["md"].parent.mkdir()
    words = ["report", "--fleet", str(tmp_path / "results")]
    assert main([*words, "-o", str(pages["md"]), "--html", str(pages["html"])]) == 0
    for suffix, pattern in (("md", r"\]\(([^#)]+)\)"), ("html", r'href="([^"#]+)"')):
        found = set(re.findall(pattern, pages[suffix].read_text()))
        there = {(pages[suffix].parent / unquote(link)).resolve() for link in found}
        suffixes = ["md", *["html" if suffix == "html" else "md"] * 3]
        assert there == {
            tmp_path / "results" / name / f"report.{of}"
            for name, of in zip(names, suffixes, strict=True)
        }
