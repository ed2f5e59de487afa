"""The order of measuring: hosts apart, boots interleaved, the rest by a seed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from vbench.contract.registry import Variant
from vbench.contract.workload import Workload
from vbench.errors import UsageError
from vbench.measure.plan import Plan
from vbench.model import ON_DEVICES, Statistic, TimeBase, WorkloadInfo
from vbench.run.schedule import Task, check_names, schedule
from vbench.run.series import Series


def workload(name: str, **changes: Any) -> Workload:
    category = name.partition("-")[0]
    info = WorkloadInfo(name, category, "x", Statistic.RATIO, "x", "d", "bench_x.py")
    return Workload(dataclasses.replace(info, **changes), lambda measure: None)


@dataclasses.dataclass(frozen=True)
class Place:
    name: str
    time_base: TimeBase = TimeBase.WALL


def series(host: Any, text: str = "tcg", **changes: Any) -> Series:
    backend: Any = None
    return dataclasses.replace(Series(host, Variant(text, backend, None)), **changes)


WORKLOADS = [workload(f"cpu-{letter}") for letter in "abcdefgh"]


def planned(
    *of: Series, globs: tuple[str, ...] = (), plan: Plan | None = None, seed: int = 1, **more: Any
) -> list[Task]:
    made = plan or Plan(boots=2)
    return schedule(of, more.get("workloads", WORKLOADS), globs, lambda _: made, seed)


def names(tasks: list[Task]) -> list[str]:
    return [task.workload.info.name for task in tasks]


def test_host_by_host_then_boot_by_boot_then_series_by_series() -> None:
    here, there = Place("local"), Place("testbed")
    tasks = planned(series(here), series(there), series(here, "uml"))
    assert [task.series.host.name for task in tasks] == ["local"] * 32 + ["testbed"] * 16
    assert [task.boot for task in tasks] == [0] * 16 + [1] * 16 + [0] * 8 + [1] * 8
    for start in range(0, 32, 8):
        assert len({task.guest for task in tasks[start : start + 8]}) == 1
    assert len({task.key for task in tasks}) == len(tasks) == 48


@dataclasses.dataclass(frozen=True)
class Options:
    vcpus: int


def test_a_guest_with_too_few_cpus_is_left_out_unless_it_is_named() -> None:
    backend: Any = None
    of = [workload("cpu-a"), workload("smp-b", cpus=2)]
    for vcpus, expected in ((1, ["cpu-a"]), (2, ["cpu-a", "smp-b"])):
        there = Series(Place("local"), Variant("kvm", backend, Options(vcpus)))
        assert sorted(set(names(planned(there, workloads=of)))) == expected
        assert set(names(planned(there, workloads=of, globs=("smp/*",)))) == {"smp-b"}


def test_the_seed_decides_and_repeats() -> None:
    here = Place("local")
    one = planned(series(here), series(here, "uml"))
    assert one == planned(series(here), series(here, "uml"))
    other = planned(series(here), series(here, "uml"), seed=2)
    assert names(other) != names(one)
    assert {task.key for task in other} == {task.key for task in one}
    boots = [names([t for t in one if t.guest[:2] == ("local-tcg", boot)]) for boot in (0, 1)]
    assert boots[0] != boots[1]  # nothing has always the same before it
    firsts = {
        planned(series(here), series(here, "uml"), seed=seed)[0].series.label for seed in range(9)
    }
    assert firsts == {"local-tcg", "local-uml"}


def test_a_count_keeps_its_order() -> None:
    counting = Place("testbed", TimeBase.INSTRUCTIONS)
    assert names(planned(series(counting))) == names([
        Task(series(counting), each, 0) for each in WORKLOADS * 2
    ])  # fmt: skip


def test_a_first_table_comes_early_where_some_are_counted_and_some_timed() -> None:
    some = [
        workload("cpu-rare"),
        workload("cpu-often", representative=True),
        workload("boot-own", representative=True, options="firmware=on"),
    ]
    here, there = series(Place("local")), series(Place("testbed", TimeBase.INSTRUCTIONS))
    tasks = planned(here, there, workloads=some)
    told = [(t.series.host.name, t.workload.info.name, t.boot) for t in tasks]
    assert told[0] == ("local", "cpu-often", 0)
    assert told[1:7] == [
        ("testbed", name, boot) for boot in (0, 1) for name in ("cpu-often", "cpu-rare", "boot-own")
    ]
    assert {host for host, _, _ in told[7:]} == {"local"}
    assert len(set(told)) == len(told) == 12
    assert [task.boot for task in planned(here, workloads=some)] == [0] * 3 + [1] * 3


def test_what_only_differs_in_its_devices_is_not_in_the_first_table() -> None:
    some = [workload("disk-often", representative=True)]
    here, there = Place("local"), Place("testbed", TimeBase.INSTRUCTIONS)
    devices = series(here, "b", workloads=ON_DEVICES)
    tasks = planned(series(here, "a"), devices, series(there), workloads=some)
    assert [task.series.label for task in tasks][:2] == ["local-a", "testbed-tcg"]
    assert devices in [task.series for task in tasks]


def test_of_counted_series_the_one_with_most_to_measure_comes_first() -> None:
    place = Place("testbed", TimeBase.INSTRUCTIONS)
    tasks = planned(series(place, "a", workloads=("cpu-a",)), series(place, "b"))
    assert [task.series.variant.text for task in tasks] == (["b"] * 8 + ["a"]) * 2


def test_those_with_options_of_their_own_come_after_those_of_the_plain_guest() -> None:
    mixed = [workload("boot-own", options="firmware=on"), *WORKLOADS]
    for seed in range(5):
        tasks = planned(series(Place("local")), workloads=mixed, seed=seed)
        assert names(tasks)[8] == names(tasks)[17] == "boot-own"
    # it costs a boot of its own, so a quick plan has it only if it is named
    quick = Plan(boots=1, own_guests=False)
    assert len(planned(series(Place("local")), workloads=mixed, plan=quick)) == 8
    chosen = planned(series(Place("local")), workloads=mixed, plan=quick, globs=("boot-*",))
    assert names(chosen) == ["boot-own"]


def test_one_that_needs_a_fresh_guest_is_the_first_of_each_boot() -> None:
    some = [*WORKLOADS, workload("memory-cold", fresh=True)]
    for base in TimeBase:
        tasks = planned(series(Place("somewhere", base)), workloads=some)
        assert names(tasks)[::9] == ["memory-cold"] * 2


def test_globs_and_the_series_own_set() -> None:
    here = Place("local")
    assert set(names(planned(series(here), globs=("cpu-[ab]",)))) == {"cpu-a", "cpu-b"}
    assert set(names(planned(series(here), globs=("cpu/cpu-a",)))) == {"cpu-a"}
    assert set(names(planned(series(here, workloads=("cpu-h",))))) == {"cpu-h"}
    assert planned(series(here, workloads=("cpu-h",)), globs=("cpu-a",)) == []


def test_fewer_boots_of_a_workload() -> None:
    once = [workload("cpu-once", boots=1), workload("cpu-more")]
    tasks = planned(series(Place("local")), workloads=once, plan=Plan(boots=3))
    assert sorted(names(tasks)) == ["cpu-more"] * 3 + ["cpu-once"]


def test_a_name_that_nothing_has() -> None:
    infos = [each.info for each in WORKLOADS]
    check_names(("cpu-*", "cpu/*"), infos)
    with pytest.raises(UsageError, match=r"'cpu-aa'; did you mean 'cpu-a'\? there are: cpu-a, "):
        check_names(("cpu-aa",), infos)


def test_any_variant_names_a_file_of_its_own() -> None:
    long = "tcg,extra=" + "-device usb-tablet " * 40
    texts = ["tcg,qemu=/opt/qemu", "tcg,qemu=_opt_qemu", "tcg,qemu=../opt/qemu", long, long + "x"]
    labels = [series(Place("ssh://root@box:22"), text).label for text in texts]
    assert len(set(labels)) == len(texts)
    assert all(label.isprintable() and "/" not in label for label in labels)
    assert max(map(len, labels)) < 250  # the longest name of a file is 255
