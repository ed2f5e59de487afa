"""Ansible measures several hosts: sshd's of this machine, one of which is lost in mid-run."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.conftest import until
from tests.integration.fleets import (
    ANSIBLE,
    ROOT,
    VBENCH,
    Fleet,
    reached_by,
    recap,
    write_inventory,
)
from tests.integration.ssh_server import SSHD, ssh_server
from vbench import image
from vbench.results import loading

# Of guests that are shells (shell_backend.py), so that a boot takes no time.
SPIN = '''
import pytest
from vbench.measure import parsers

@pytest.mark.workload(category="cpu", unit="x")
def bench_cpu_spin(measure):
    """Says how long it took."""
    command = "sleep 0.3; echo '{\\"elapsed_ns\\": 300000000}'"
    measure(lambda units, endpoint: command, read=parsers.probe)
'''

pytestmark = [
    pytest.mark.skipif(SSHD is None, reason="openssh-server is not installed"),
    pytest.mark.skipif(ANSIBLE is None, reason="ansible is not installed: vbench setup --fleet"),
]


@dataclass
class Relay:
    """A port that leads to another one, and can be cut."""

    to: int
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    open: list[socket.socket] = field(default_factory=list)
    down: bool = False

    def __post_init__(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                client, _ = self.listener.accept()
                if self.down:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self.to))
                self.open += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        self.down = True
        for each in self.open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.open.clear()

    def close(self) -> None:
        self.cut()
        self.listener.close()


@dataclass
class RelayedFleet(Fleet):
    """Three hosts, the last of which is reached through a relay."""

    relay: Relay = field(kw_only=True)


def arguments(folder: Path, *, rounds: int, boots: int) -> list[str]:
    """Of `vbench run`, in this test."""
    return [
        *("--plugin", str(ROOT / "tests/unit/shell_backend.py")),
        *("--rounds", str(rounds), "--boots", str(boots)),
        str(folder / "bench_spin.py"),
    ]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[RelayedFleet]:
    with ExitStack() as stack:
        servers = []
        for number in (1, 2, 3):
            root = tmp_path / f"node{number}"
            root.mkdir()
            servers.append(stack.enter_context(ssh_server(root)))
        relay = Relay(servers[2].port)
        stack.callback(relay.close)
        hosts = {}
        for number, server in enumerate(servers, 1):
            port = relay.port if number == 3 else server.port
            given = arguments(tmp_path, rounds=2, boots=2 if number == 3 else 1)
            hosts[f"node{number}"] = reached_by(server, port, vbench_arguments=given)
        (tmp_path / "bench_spin.py").write_text(SPIN)
        write_inventory(tmp_path, hosts)
        yield RelayedFleet(tmp_path, servers, relay=relay)


def test_a_host_that_is_lost_stops_no_other_and_is_completed_later(fleet: RelayedFleet) -> None:
    image.ensure()
    status, said = fleet.play("--check")
    assert status == 0, said
    assert not fleet.results.exists(), "check mode measures nothing"

    process = fleet.start("--forks", "3")
    assert until(lambda: fleet.ended("node3"), 300), process.poll()
    fleet.relay.cut()
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 2, said
    counted = recap(said)
    assert {host: of["failed"] for host, of in counted.items()} == {
        "node1": 0, "node2": 0, "node3": 1,
    }, said  # fmt: skip
    assert "a connection was lost" in said
    results = {each.name: loading.load_all([each]) for each in fleet.results.glob("node?")}
    assert {name: of[0].partial for name, of in results.items()} == {
        "node1": False, "node2": False, "node3": True,
    }  # fmt: skip
    assert until(lambda: not fleet.left(), 10), "nothing is left on any host"
    assert "1 machine in 1 class" in (fleet.results / "fleet.md").read_text()

    fleet.relay.down = False
    before = len(fleet.journal("node1"))
    status, said = fleet.play("--forks", "3")
    assert status == 0, said
    assert {host: of["changed"] for host, of in recap(said).items()} == {
        "node1": 0, "node2": 0, "node3": 1,
    }, said  # fmt: skip
    assert len(fleet.journal("node1")) == before, "what is complete is not measured again"
    (result,) = loading.load_all([fleet.results / "node3"])
    assert not result.partial
    assert {pair.boot for item in result.items for pair in item.pairs} == {0, 1}
    kept = [each for each in fleet.journal("node3") if each["event"] == "launch"]
    assert len(kept) >= 2
    assert len(result.sittings) == 1


def test_what_ansible_started_ends_with_it(fleet: RelayedFleet) -> None:
    """On a guest, whose physical host is locked meanwhile."""
    image.ensure()
    long = arguments(fleet.folder, rounds=500, boots=1)
    process = fleet.start("--limit", "node1", vbench_arguments=long, physical_host="rack1")
    try:
        assert until(lambda: any(e["event"] == "pair" for e in fleet.journal("node1")), 300)
        assert running(fleet.results), "the look finds it"
    finally:
        process.kill()  # it can end nothing itself
        process.wait()  # its output stays open in what it started
        assert process.stdout is not None
        process.stdout.close()
    assert until(lambda: not running(fleet.results), 20), running(fleet.results)
    assert until(lambda: not fleet.left(), 10), "nothing is left on the host"
    (result,) = loading.load_all([fleet.results / "node1"])
    assert result.partial
    assert result.items[0].pairs, "what was measured is kept"


def test_on_the_host_with_what_is_brought_there(fleet: RelayedFleet) -> None:
    """Ansible is killed in mid-run there, and its next run completes it."""
    here, there = fleet.folder, fleet.folder / "there"
    subprocess.run([sys.executable, "-m", "venv", here / "pip"], check=True)
    wheel = [here / "pip/bin/pip", "wheel", "--quiet", "--wheel-dir", here / "wheels", ROOT]
    subprocess.run(wheel, check=True)
    subprocess.run([VBENCH, "image", "export", here / "image"], check=True)
    variables: dict[str, object] = {
        "way": "on_host",
        "vbench_wheels": str(here / "wheels"),
        "vbench_image": str(here / "image"),
        "vbench_home": str(there),
        "vbench_python": sys.executable,
        "vbench_arguments": arguments(here, rounds=10, boots=2),
    }
    process = fleet.start("--limit", "node1", **variables)
    try:
        assert until(lambda: '"event": "end"' in read(there), 240), process.poll()
        assert running(there / "results"), "the look finds it"
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert until(lambda: not running(there / "results"), 20), running(there / "results")
    assert until(lambda: not fleet.left(), 10), "nothing is left on the host"

    status, said = fleet.play("--limit", "node1", **variables)
    assert status == 0, said
    (result,) = loading.load_all([fleet.results / "node1"])
    assert not result.partial
    assert {pair.boot for item in result.items for pair in item.pairs} == {0, 1}
    assert result.host.identity.startswith("local:")
    assert result.host.facts["inventory_name"] == "node1"
    assert len(result.sittings) == 1


def read(home: Path) -> str:
    """The journals on a host."""
    return "".join(path.read_text() for path in home.glob("results-*/journal.jsonl"))


def running(results: Path) -> list[str]:
    """Command lines that measure into this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if f"vbench run --out {results}" in line:
                found.append(line)
    return found
