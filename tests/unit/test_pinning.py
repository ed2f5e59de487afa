"""Which CPUs serve a guest, native and clients: chosen from what sysfs says."""

from __future__ import annotations

import os

import pytest

from vbench.hosts.local import LocalHost
from vbench.hosts.pinning import Cpu, overcommitted, parse_list, place, placement


def machine(cores: int, threads: int = 1, nodes: int = 1, slow: int = 0) -> list[Cpu]:
    """CPUs as Linux numbers them: first threads first; the last `slow` cores are slow ones."""
    return [
        Cpu(
            number=thread * cores + core,
            node=core * nodes // cores,
            core=f"core{core}",
            speed=500 if core >= cores - slow else 1000,
        )
        for thread in range(threads)
        for core in range(cores)
    ]


def test_two_cpus_keep_the_vcpu_apart_from_what_works_for_it() -> None:
    places = place(machine(2), 1)
    assert (places.vcpus, places.io, places.clients) == ((1,), (0,), (0,))


def test_four_cpus_keep_clients_apart_from_io_as_well() -> None:
    places = place(machine(4), 1)
    assert (places.vcpus, places.io, places.clients) == ((1,), (0, 2), (3,))


def test_the_other_thread_of_a_vcpu_s_core_stays_idle() -> None:
    cpus = machine(4, threads=2)
    places = place(cpus, 2)
    assert places.vcpus == (1, 2)
    cores = {cpu.number: cpu.core for cpu in cpus}
    used = {cores[number] for number in places.vcpus}
    assert used.isdisjoint(cores[number] for number in (*places.io, *places.clients))


def test_one_node_where_it_is_large_enough() -> None:
    cpus = machine(8, nodes=2)
    nodes = {cpu.number: cpu.node for cpu in cpus}
    places = place(cpus, 2)
    assert len({nodes[number] for number in (*places.vcpus, *places.io, *places.clients)}) == 1


def test_more_than_a_node_spans_nodes_on_whole_cores() -> None:
    assert len(set(place(machine(8, threads=2, nodes=2), 6).vcpus)) == 6
    assert max(place(machine(8, threads=2, nodes=2), 6).vcpus) < 8  # first threads only


def test_fast_cores_of_a_hybrid_machine_are_taken_first() -> None:
    assert set(place(machine(6, slow=4), 2).vcpus) == {0, 1}


@pytest.mark.parametrize("vcpus", [1, 2, 3, 4, 7, 8])
def test_every_vcpu_has_a_cpu_of_its_own(vcpus: int) -> None:
    places = place(machine(4, threads=2), vcpus)
    assert len(set(places.vcpus)) == vcpus
    assert set(places.vcpus).isdisjoint(places.io)
    assert bool(places.io) == (vcpus < 8)


def test_what_cannot_be_pinned_says_why() -> None:
    assert place(machine(1), 1).why == "the host has one CPU"
    assert place(machine(2), 3).why == "3 vCPUs, but the host has 2 CPUs"
    assert place(machine(2), 2).why == "all CPUs are taken by vCPUs"


def test_the_kernel_s_list_format() -> None:
    assert parse_list("0-2,7\n") == [0, 1, 2, 7]
    assert parse_list("") == []


def test_this_machine() -> None:
    places = placement(LocalHost(), 1)
    allowed = os.sched_getaffinity(0)
    assert allowed.issuperset((*places.vcpus, *places.io, *places.clients))
    assert bool(places.vcpus) == (len(allowed) > 1)


def test_more_vcpus_than_cpus_are_told_and_not_pinned() -> None:
    host, count = LocalHost(), len(os.sched_getaffinity(0))
    assert overcommitted(host, count) == ""
    assert overcommitted(host, count + 1).startswith(f"{count + 1} vCPUs share {count} CPU")
    assert placement(host, count + 1).vcpus == ()
