"""Ansible measures machines made of namespaces, with real guests; one is lost, one has no room."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.conftest import until
from tests.integration.fleets import ANSIBLE, ROOT, Fleet, reached_by, recap, write_inventory
from tests.integration.namespaces import Machine, connect, machine
from tests.integration.ssh_server import SSHD, ssh_server
from vbench import image
from vbench.model import Result
from vbench.results import loading
from vbench.results.formatting import TIMES, times

pytestmark = [
    pytest.mark.tcg,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes machines of namespaces"),
    pytest.mark.skipif(SSHD is None, reason="openssh-server is not installed"),
    pytest.mark.skipif(ANSIBLE is None, reason="ansible is not installed: vbench setup --fleet"),
]
ROOM_MIB = 8  # of the third machine's cache: the image takes more


@dataclass
class Machines(Fleet):
    nodes: list[Machine] = field(kw_only=True)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Machines]:
    with ExitStack() as stack:
        control = stack.enter_context(machine())
        nodes = [stack.enter_context(machine()) for _ in range(3)]
        connect(control, nodes)
        servers, hosts = [], {}
        for number, node in enumerate(nodes, 1):
            name = f"node{number}"
            (tmp_path / name).mkdir()
            server = stack.enter_context(
                ssh_server(tmp_path / name, ip=node.ip, within=node.within)
            )
            servers.append(server)
            boots = 2 if number == 2 else 1
            hosts[name] = reached_by(
                server,
                server.port,
                physical_host=name,  # one kernel: they would count as one machine
                vbench_arguments=["--rounds", "2", "--boots", str(boots)],
            )
        write_inventory(tmp_path, hosts)
        yield Machines(tmp_path, servers, control.within, nodes=nodes)


def overhead(result: Result) -> float:
    """From its samples alone."""
    (item,) = result.items
    boots: dict[int, list[float]] = {}
    for pair in item.pairs:
        assert pair.native_s is not None
        boots.setdefault(pair.boot, []).append(math.log(pair.guest_s / pair.native_s))
    return math.exp(statistics.fmean(map(statistics.fmean, boots.values())))


def failures(results: Path) -> dict[str, str]:
    """The hosts in the first table of the chapter on what failed, with what stands there."""
    chapter = (results / "fleet.md").read_text().partition("## Not measured")[2].partition("\n#")[0]
    rows = [line for line in chapter.splitlines() if line.startswith(("| `node", "| [`node"))]
    return {row.split("`")[1]: row for row in rows}


def test_a_host_that_crashes_and_one_without_room_are_completed_later(fleet: Machines) -> None:
    image.ensure()
    _, crashing, full = fleet.nodes
    cache = fleet.folder / "node3/cache"
    full.run("mount", "-t", "tmpfs", "-o", f"size={ROOM_MIB}M", "room", cache)
    asked: dict[str, object] = {"backend": "tcg-virtio", "workload": "cpu-prime"}
    process = fleet.start("--forks", "3", **asked)
    assert until(lambda: fleet.ended("node2"), 300), process.poll()
    crashing.crash()
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 2, said
    assert {host: of["failed"] for host, of in recap(said).items()} == {
        "node1": 0, "node2": 1, "node3": 1,
    }, said  # fmt: skip
    told = failures(fleet.results)
    assert told.keys() == {"node2", "node3"}
    assert "| some" in told["node2"]
    assert "| none" in told["node3"]
    assert "the image did not arrive whole" in told["node3"]
    assert "make room in its cache directory" in told["node3"]
    for node in fleet.nodes:
        assert until(lambda node=node: not node.processes(), 10), "nothing runs on any host"
    assert not fleet.servers[0].left()
    assert not fleet.servers[2].left()

    crashing.plug(into=True)
    full.run("umount", cache)
    status, said = fleet.play("--forks", "3", **asked)
    assert status == 0, said
    assert {host: of["changed"] for host, of in recap(said).items()} == {
        "node1": 0, "node2": 1, "node3": 1,
    }, said  # fmt: skip
    assert not failures(fleet.results)
    page = (fleet.results / "fleet.md").read_text()
    for name, boots in (("node1", 1), ("node2", 2), ("node3", 1)):
        (result,) = loading.load_all([fleet.results / name])
        assert not result.partial
        assert {pair.boot for pair in result.items[0].pairs} == set(range(boots))
        (row,) = [line for line in page.splitlines() if f"[`{name}`]" in line and TIMES in line]
        assert row.split("|")[2].strip() == times(overhead(result)), "as from its samples"
        assert f"({name}/report.md)" in row
        assert (fleet.results / name / "report.html").is_file()
    for node in fleet.nodes:
        assert not node.processes()


def test_a_host_whose_cable_is_out_is_noticed(fleet: Machines) -> None:
    """Nothing says so: Ansible's own ssh would wait for hours."""
    server, node = fleet.servers[0], fleet.nodes[0]
    alive = ROOT / "fleet/roles/vbench/files/alive"
    words = ["-F", "none", "-i", server.key, "-o", f"UserKnownHostsFile={server.known_hosts}"]
    to = ["-p", str(server.port), f"root@{node.ip}", "echo up; exec sleep 300"]
    with subprocess.Popen(
        [*fleet.within, alive, *words, *to], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            node.plug(into=False)
            assert process.wait(60) == 255
        finally:
            process.kill()
