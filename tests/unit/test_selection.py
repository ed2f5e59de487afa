"""What a run measures where: with what the user named, and without."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from vbench.contract.backend import OnAskedHost
from vbench.contract.host import Host
from vbench.contract.registry import Registry
from vbench.errors import ConnectionLost, HostError, UnavailableError
from vbench.model import NO_EXITS, ON_DEVICES, Availability, TimeBase
from vbench.records import Declaration
from vbench.run.collecting import collect
from vbench.run.selection import Selection, in_testbed, select
from vbench.run.series import Series

FOLDER = Path(__file__).parents[2] / "workloads"
WORKLOADS = {each.info.name: each.info for each in collect(sorted(FOLDER.glob("bench_*.py")))}
REDUCED = {
    *("cpu-prime", "memory-pagefault", "syscall-getppid", "syscall-switch"),
    *("disk-randread-qd1", "network-rr", "boot-command", "boot-firmware"),
}
PRICED = {
    *("exit-control-empty", "exit-control-read", "exit-cpuid"),
    *("exit-control-hypercall", "exit-hypercall"),
    *("exit-port-kernel", "exit-port-qemu", "exit-mmio-qemu"),
}
APPLICATIONS = {name for name in WORKLOADS if name.startswith("app-")}
SHIPPED = Registry.load().backends
IN_TESTBED = [variant.text for variant, part in in_testbed(Registry.load()) if not part.left_out]
NAMES = ("kvm-emulated", "kvm-virtio", "tcg", "tcg-virtio", "virtualbox", "xen-pv", "xen-pvh")


@dataclass(frozen=True)
class Options:
    nested_paging: bool = True


@dataclass
class Backend(OnAskedHost):
    """One that can run on the hosts named."""

    name: str
    hosts: tuple[str, ...]
    options: Options = field(default_factory=Options)
    breaks_on: str = ""
    error: BaseException = field(default_factory=lambda: HostError("no memory for it"))

    def __getattr__(self, name: str) -> Any:
        """All else is the shipped backend's."""
        return getattr(SHIPPED[self.name], name)

    def declare(self, options: Options) -> Declaration:
        shipped = SHIPPED[self.name]
        return shipped.declare(shipped.options)

    def probe(self, host: Any, options: Options) -> Availability:
        if host.name == self.breaks_on:
            raise self.error
        return Availability(host.name in self.hosts, "no hardware", "buy some")


@dataclass
class Endpoint:
    name: str
    closed: int = 0

    @property
    def time_base(self) -> TimeBase:
        return TimeBase.INSTRUCTIONS if self.name == "testbed" else TimeBase.WALL

    def facts(self) -> None: ...

    def close(self) -> None:
        self.closed += 1


class Machine:
    """A machine with or without KVM, where `select` is asked."""

    def __init__(self, *, kvm: bool, broken: str = "") -> None:
        self.registry = Registry()
        for name in NAMES:
            local = name[0] == "t" or (kvm and name[0] == "k")
            hosts = ("local", "testbed") if local else ("testbed",)
            if name != broken:
                self.registry.backends[name] = cast(Any, Backend(name, hosts))
        self.hosts: dict[str, Endpoint] = {}
        self.said: list[str] = []

    def find(self, name: str) -> Host:
        return cast(Host, self.hosts.setdefault(name, Endpoint(name)))

    def __call__(self, *variants: str, hosts: tuple[str, ...] = (), **more: bool) -> Selection:
        named = list(map(self.registry.variant, variants))
        return select(hosts, named, self.registry, self.find, self.said.append, **more)


def names(series: Series) -> set[str]:
    return {name for name, info in WORKLOADS.items() if series.takes(info)}


def labels(chosen: Selection) -> list[str]:
    return [series.label for series in chosen.series]


def test_without_kvm_the_testbed_comes_along_with_all_techniques() -> None:
    machine = Machine(kvm=False)
    chosen = machine()
    assert labels(chosen) == ["local-tcg", "local-tcg-virtio"] + [
        f"testbed-{variant}" for variant in IN_TESTBED
    ]
    local, there = chosen.series[0], {one.variant.text: one for one in chosen.series[2:]}
    assert (local.workloads, local.boots) == (NO_EXITS, 0)
    assert {text: names(one) for text, one in there.items()} == {
        # its processor is that of kvm-virtio
        "kvm-emulated": {n for n in REDUCED if n.startswith(("disk", "network", "boot"))},
        "kvm-virtio": {*REDUCED, *APPLICATIONS, *(n for n in WORKLOADS if n.startswith("exit-"))}
        - {"boot-firmware"},  # kvm-emulated boots by firmware for both
        "kvm-virtio,nested_paging=off": {"memory-pagefault"},
        "xen-pv": {*REDUCED, *PRICED},
        "xen-pvh": {*REDUCED, *PRICED},
        "virtualbox": {*REDUCED, *PRICED},
        "virtualbox,nested_paging=off": {"memory-pagefault"},
    }
    once = {text for text, one in there.items() if one.boots == 1}
    assert once == {"virtualbox,nested_paging=off"}
    ((text, _, why, how),) = chosen.unavailable["testbed"]
    assert text == "tcg-virtio"
    assert "leaves it out" in why
    assert how == "vbench run --host testbed --backend tcg-virtio"
    assert {entry[0] for entry in chosen.unavailable["local"]} == {
        "kvm-emulated", "kvm-virtio", "virtualbox", "xen-pv", "xen-pvh"
    }  # fmt: skip
    assert machine.hosts["testbed"].closed > 0  # until its turn comes
    assert "the testbed is tried" in machine.said[0]
    assert "reduced set" in machine.said[1]


def test_a_quick_run_in_the_testbed_measures_a_part_of_any_variant() -> None:
    machine = Machine(kvm=False)
    chosen = machine("tcg", "kvm-emulated", "xen-pv", hosts=("testbed",), quick=True)
    assert all("syscall-getppid" in names(series) for series in chosen.series)
    assert "what is representative on testbed" in machine.said[0]

    assert machine("tcg", hosts=("testbed",)).series[0].workloads == ()
    assert machine("tcg", hosts=("local",), quick=True).series[0].workloads == ()


def test_what_only_differs_in_its_devices_measures_those() -> None:
    machine = Machine(kvm=True)
    of = {one.variant.text: one.workloads for one in machine().series}
    assert of["kvm-emulated"] == of["kvm-virtio"] == ()
    assert of["tcg"] == NO_EXITS
    assert of["tcg-virtio"] == ON_DEVICES
    devices = next(one for one in machine().series if one.variant.text == "tcg-virtio")
    assert devices.takes(WORKLOADS["boot-command"])
    assert not devices.takes(WORKLOADS["boot-firmware"])
    assert [one.workloads for one in machine("tcg", "tcg-virtio").series] == [(), ()]  # asked for
    assert {one.workloads for one in machine(all_workloads=True).series} == {()}

    alone = Machine(kvm=False, broken="tcg")
    assert alone(hosts=("local",)).series[0].workloads == NO_EXITS  # nothing else has its processor


def test_real_programs_are_measured_in_guests_that_people_have() -> None:
    def measure_some(chosen: Selection) -> set[str]:
        return {one.variant.text for one in chosen.series if APPLICATIONS & names(one)}

    without = Machine(kvm=False)
    assert measure_some(without()) == {"tcg-virtio", "kvm-virtio"}
    assert not measure_some(without(quick=True))
    assert not measure_some(without("kvm-virtio", hosts=("testbed",), quick=True))
    assert measure_some(without("tcg")) == {"tcg"}  # asked for
    assert "tcg" not in measure_some(Machine(kvm=True)())


def test_of_a_kernel_that_is_a_program_one_workload_stands_for_computing() -> None:
    machine = Machine(kvm=True)
    machine.registry.backends["uml"] = cast(Any, Backend("uml", ("local",)))
    (made,) = (one for one in machine().series if one.variant.text == "uml")
    assert {name for name in names(made) if WORKLOADS[name].category == "cpu"} == {"cpu-prime"}
    every = {name for name, info in WORKLOADS.items() if info.category in ("memory", "syscall")}
    assert names(made) >= every | {"boot-firmware", "network-send"}
    assert not any(name.startswith(("exit", "app")) for name in names(made))
    assert names(machine("uml").series[0]) == set(WORKLOADS)  # asked for


def test_with_kvm_there_is_no_testbed() -> None:
    machine = Machine(kvm=True)
    assert labels(machine()) == [f"local-{name}" for name in NAMES if name[0] not in "vx"]
    assert set(machine.hosts) == {"local"}


def test_a_named_host_is_the_only_one() -> None:
    machine = Machine(kvm=False)
    assert labels(machine(hosts=("local",))) == ["local-tcg", "local-tcg-virtio"]
    assert set(machine.hosts) == {"local"}


def test_a_named_variant_is_the_only_one_and_must_run() -> None:
    machine = Machine(kvm=False)
    assert labels(machine("tcg")) == ["local-tcg"]
    with pytest.raises(UnavailableError, match="kvm-virtio cannot run on local: no hardware"):
        machine("kvm-virtio")
    assert machine.hosts["local"].closed


def test_a_backend_that_is_not_there_takes_nothing_else_along() -> None:
    assert "testbed-xen-pv" not in labels(Machine(kvm=False, broken="xen-pv")())


def test_a_testbed_that_cannot_be_made_is_said() -> None:
    machine = Machine(kvm=False)
    cast(Any, machine.registry.backends["kvm-virtio"]).breaks_on = "testbed"
    assert labels(machine()) == ["local-tcg", "local-tcg-virtio"]
    assert "no testbed: no memory for it" in machine.said[1]


def test_a_connection_that_is_lost_on_the_way_takes_its_backend_alone() -> None:
    machine = Machine(kvm=False)
    xen = cast(Any, machine.registry.backends["xen-pv"])
    xen.breaks_on, xen.error = "testbed", ConnectionLost("dom0 is gone")
    assert labels(machine())[2:] == [f"testbed-{text}" for text in IN_TESTBED if text != "xen-pv"]
    assert ("xen-pv", "paravirtualization", "dom0 is gone", "") in machine().unavailable["testbed"]


def test_a_host_that_cannot_be_reached_ends_the_run() -> None:
    machine = Machine(kvm=False)
    for backend in machine.registry.backends.values():
        each = cast(Any, backend)
        each.breaks_on, each.error = "far", ConnectionLost("no SSH login to far")
    with pytest.raises(ConnectionLost, match="no SSH login"):
        machine(hosts=("local", "far"))
    assert machine.hosts["local"].closed


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(3)])
def test_a_fault_in_a_probe_takes_no_other_backend_along(error: BaseException) -> None:
    machine = Machine(kvm=True)
    broken = cast(Any, machine.registry.backends["tcg"])
    broken.breaks_on, broken.error = "local", error
    chosen = machine()
    assert labels(chosen) == ["local-kvm-emulated", "local-kvm-virtio", "local-tcg-virtio"]
    (reason,) = [each[2] for each in chosen.unavailable["local"] if each[0] == "tcg"]
    assert reason.startswith(f"its probe raised {type(error).__name__}")
    with pytest.raises(UnavailableError, match="its probe raised"):
        machine("tcg")


def test_where_instructions_are_counted_each_hypervisor_has_a_host() -> None:
    """They are measured side by side."""
    machine = Machine(kvm=False)
    made: list[Endpoint] = []

    def find(name: str) -> Host:
        made.append(Endpoint(name))
        return cast(Host, made[-1])

    chosen = select((), [], machine.registry, find, machine.said.append, lanes=True)
    there = {one.variant.text: one.host for one in chosen.series if one.host.name == "testbed"}
    # all of KVM in one lane would make it the longest
    assert there["kvm-virtio"] is not there["kvm-emulated"]
    assert there["kvm-virtio"] is there["kvm-virtio,nested_paging=off"]
    assert there["virtualbox"] is there["virtualbox,nested_paging=off"]
    assert there["xen-pv"] is there["xen-pvh"]
    assert len({id(host) for host in there.values()}) == 4  # KVM twice, VirtualBox, Xen
    (local,) = (host for host in made if host.name == "local")
    assert local.closed == 0


def test_what_the_testbed_can_run_may_be_asked_later() -> None:
    machine = Machine(kvm=False)
    cast(Any, machine.registry.backends["xen-pv"]).breaks_on = "testbed"
    chosen = machine(lanes=True)
    there = [series for series in chosen.series if series.host.name == "testbed"]
    assert len(there) == len(IN_TESTBED)
    assert not any(series.probed for series in there)
    assert all(one.probed for one in machine(hosts=("local",), lanes=True).series)


def test_a_quick_run_counts_what_is_representative_of_each_technique() -> None:
    machine = Machine(kvm=False)
    chosen = machine(quick=True)
    there = [series for series in chosen.series if series.host.name == "testbed"]
    assert [one.variant.text for one in there] == ["kvm-virtio", "xen-pv"]
    assert [one.boots for one in there] == [1, 1]
    assert [names(one) - {"boot-firmware"} for one in there] == [REDUCED - {"boot-firmware"}] * 2
    (left,) = [each for each in chosen.unavailable["local"] if each[0] == "tcg-virtio"]
    assert "quick run leaves it out" in left[2]
    assert left[3] == "vbench run --backend tcg-virtio"
    named = Machine(kvm=False)("tcg-virtio", quick=True)
    assert labels(named) == ["local-tcg-virtio"]
