"""What a workload is: its function, its marks, its definition, as they are collected."""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from vbench.contract.workload import describe
from vbench.errors import UsageError
from vbench.measure.plan import Plan
from vbench.model import CATEGORIES, Statistic, WorkloadInfo
from vbench.run.collecting import collect

HEAD = "import pytest\nfrom vbench.measure import parsers\nworkload = pytest.mark.workload\n"


@pytest.fixture
def infos(tmp_path: Path) -> Callable[[str], dict[str, WorkloadInfo]]:
    numbers = itertools.count()

    def write(text: str) -> dict[str, WorkloadInfo]:
        """The workloads of a file with that text."""
        path = tmp_path / f"bench_{next(numbers)}.py"
        path.write_text(HEAD + textwrap.dedent(text))
        return {each.info.name: each.info for each in collect([path])}

    return write


Infos = Callable[[str], dict[str, WorkloadInfo]]


def test_a_workload_from_its_function(infos: Infos) -> None:
    (info,) = infos('''
        pytestmark = workload(category="disk", unit="operation")
        @workload(unit="MiB", statistic="quantiles")
        def bench_disk_read_1m(measure):
            """1 MiB reads.

            More words.
            """
        ''').values()
    assert info.name == "disk-read-1m"
    assert (info.category, info.unit) == ("disk", "MiB")  # the function's own mark wins
    assert info.statistic is Statistic.QUANTILES
    assert info.summary == "1 MiB reads."
    assert Path(info.path).name == "bench_0.py"


def test_defaults(infos: Infos) -> None:
    (info,) = infos("@workload(unit='x')\ndef bench_a(measure): ...\n").values()
    assert (info.category, info.statistic, info.summary) == ("cpu", Statistic.RATIO, "")


def test_a_workload_may_ask_for_options_and_fewer_boots(infos: Infos) -> None:
    (info,) = infos(
        "@workload(unit='x', options='vcpus=2', boots=1)\ndef bench_a(measure): ...\n"
    ).values()
    assert (info.options, info.boots) == ("vcpus=2", 1)
    assert Plan(boots=5).boots_of(info) == 1
    assert Plan(boots=5).boots_of(dataclasses.replace(info, boots=0)) == 5


def test_only_functions_that_measure_are_workloads(infos: Infos) -> None:
    found = infos("""
        pytestmark = workload(unit="x")
        def bench_b(measure): ...
        def helper(measure): ...
        def bench_a(measure): ...
        """)
    assert set(found) == {"a", "b"}


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("", "its unit is not stated"),
        ("@workload(category='cpu')\n", "its unit is not stated"),
        ("@workload(unit='x', kind='y')\n", "unknown kind"),
        ("@workload(unit='x', category='gpu')\n", "no category 'gpu'"),
        ("@workload(unit='x', statistic='mean')\n", "no statistic 'mean'"),
        ("@workload(unit='x', boots='one')\n", "boots is a number, not 'one'"),
    ],
)
def test_workloads_that_say_too_little_or_wrong(infos: Infos, mark: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        infos(f"{mark}def bench_a(measure): ...\n")
    assert said in str(caught.value)
    assert "bench_0.py" in str(caught.value)


def test_a_file_without_a_workload_is_an_error(infos: Infos) -> None:
    with pytest.raises(UsageError, match=r"bench_0\.py holds no workload"):
        infos("def spin(measure): ...\n")


def test_a_function_that_would_never_be_called_is_named(infos: Infos) -> None:
    good = "@workload(unit='x')\ndef bench_a(measure): ...\n"
    with pytest.raises(UsageError, match=r"bench_b in .*bench_0\.py takes no `measure`"):
        infos(good + "@workload(unit='x')\ndef bench_b(meassure): ...\n")
    with pytest.raises(UsageError, match="takes no `lab`"):
        infos(good + "def scenario_migration_x(): ...\n")
    # one that another module has, and is only imported
    assert set(infos(good + "from vbench.workloads.bench_cpu import *\n")) >= {"a"}


def test_a_file_that_cannot_be_loaded(infos: Infos) -> None:
    with pytest.raises(UsageError, match=r"bench_0\.py cannot be loaded") as caught:
        infos("import no_such_module_at_all\n")
    assert "ModuleNotFoundError" in caught.value.what
    assert "no_such_module_at_all" in caught.value.what
    with pytest.raises(UsageError, match="SyntaxError"):
        infos("def bench_x(:\n")
    with pytest.raises(UsageError, match="SystemExit"):
        infos("raise SystemExit(0)\n")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no workload file .*absent\.py"):
        collect([tmp_path / "absent.py"])


def test_two_workloads_of_one_name_are_refused(infos: Infos, tmp_path: Path) -> None:
    """Their samples would be one series."""
    infos("@workload(unit='x')\ndef bench_a(measure): ...\n")
    infos("@workload(unit='x')\ndef bench_a(measure): ...\n")
    with pytest.raises(UsageError, match=r"called a: in .*bench_0\.py and in .*bench_1\.py"):
        collect([tmp_path / "bench_0.py", tmp_path / "bench_1.py"])


def test_names_of_files_beside_are_taken_and_their_workloads_left_out(
    infos: Infos, tmp_path: Path
) -> None:
    infos("@workload(unit='x')\ndef bench_a(measure): ...\n")
    infos("@workload(unit='y')\ndef bench_a(measure): ...\n")
    infos("@workload(unit='x')\ndef bench_b(measure): ...\n")
    shipped, same, other = (tmp_path / f"bench_{number}.py" for number in range(3))
    with pytest.raises(UsageError, match="two workloads are called a") as caught:
        collect([same], beside=[shipped])
    assert caught.value.remedy == f"give the one in {same} another name"
    assert [each.info.name for each in collect([other], beside=[shipped])] == ["b"]
    assert [each.info.name for each in collect([shipped], beside=[shipped])] == ["a"]


def test_a_workload_that_another_file_imports_is_the_same(
    infos: Infos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infos("@workload(unit='x')\ndef bench_a(measure): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    importing = tmp_path / "bench_more.py"
    importing.write_text("from bench_0 import bench_a\n")
    (found,) = collect([importing], beside=[tmp_path / "bench_0.py"])
    assert found.info.path == str(tmp_path / "bench_0.py")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def bench_a(measure, tmp_path): ...\n", "the fixture tmp_path"),
        ("@pytest.mark.parametrize('n', [1])\ndef bench_a(measure, n=0): ...\n", "the mark"),
    ],
)
def test_what_only_pytest_can_call_is_refused(infos: Infos, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        infos(f"pytestmark = workload(unit='x')\n{text}")
    assert "pytest -p vbench.pytest_plugin" in caught.value.remedy


BASE = """
    SIZE = 16
    def _helper(measure, n):
        measure(lambda units, endpoint: f"x {n} {units}", read=parsers.probe)
    @workload(unit="x")
    def bench_a(measure):
        '''One.'''
        _helper(measure, SIZE)
    @workload(unit="x")
    def bench_b(measure):
        '''Two.'''
        _helper(measure, 2 * SIZE)
    """


def test_the_definition_is_the_source(infos: Infos) -> None:
    base = infos(BASE)
    assert base["a"].definition != base["b"].definition
    assert {name: each.definition for name, each in infos(BASE).items()} == {
        name: each.definition for name, each in base.items()
    }


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("_helper(measure, SIZE)", "_helper(measure, SIZE + 1)", {"a"}),
        ("_helper(measure, 2 *", "_helper(measure, 3 *", {"b"}),
        ("'''Two.'''", "'''Second.'''", {"b"}),
        ("SIZE = 16", "SIZE = 17", {"a", "b"}),  # what both use
        ('f"x {n}', 'f"y {n}', {"a", "b"}),
        ('@workload(unit="x")\n    def bench_a', '@workload(unit="y")\n    def bench_a', {"a"}),
    ],
)
def test_a_change_changes_the_definitions_that_it_concerns(
    infos: Infos, old: str, new: str, changed: set[str]
) -> None:
    assert BASE.count(old) == 1
    before, after = infos(BASE), infos(BASE.replace(old, new))
    assert {name for name in before if before[name].definition != after[name].definition} == changed


def test_what_a_workload_needs_is_its_category_s_or_stated(infos: Infos) -> None:
    found = infos("""
        @workload(unit="x", category="disk")
        def bench_a(measure): ...
        @workload(unit="x", category="app", needs="network")
        def bench_b(measure): ...
        @workload(unit="x", category="app")
        def bench_c(measure): ...
        """)
    assert {name: each.device for name, each in found.items()} == {
        "a": "disk", "b": "network", "c": ""
    }  # fmt: skip
    with pytest.raises(UsageError, match="it cannot need 'money'"):
        infos("@workload(unit='x', needs='money')\ndef bench_a(measure): ...")


def test_built_in_workloads() -> None:
    files = sorted((Path(__file__).parents[2] / "workloads").glob("bench_*.py"))
    found = [each.info for each in collect(files)]
    assert [CATEGORIES.index(info.category) for info in found] == sorted(
        CATEGORIES.index(info.category) for info in found
    )
    for info in found:
        assert info.name.startswith(f"{info.category}-")
        assert info.summary.endswith(".")
    assert len({info.definition for info in found}) == len(found)


def test_a_workload_without_its_mark_is_a_usage_error() -> None:
    def bench_x(measure: object) -> None: ...

    with pytest.raises(UsageError, match="workload x in"):
        describe(bench_x, {})
