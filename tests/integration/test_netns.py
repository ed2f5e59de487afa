"""The network for measuring, made on this machine: as root, or in a user namespace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vbench.system.doctor import LocalReader, checks

# Makes the network and sends a byte through it, from the clients' namespace to native's.
THROUGH = """
import subprocess, sys
from vbench.hosts.netns import local_network
SERVE = "import socket; s = socket.create_server(('', 7)); print(flush=True); "
SERVE += "s.accept()[0].send(b'x')"
ASK = "import socket, sys; print(socket.create_connection((sys.argv[1], 7), 10).recv(1).decode())"
with local_network() as network:
    if network is None:
        sys.exit("there is no network")
    server = subprocess.Popen(
        [*network.native_prefix, sys.executable, "-c", SERVE], stdout=subprocess.PIPE
    )
    server.stdout.readline()
    ask = [*network.peer_prefix, sys.executable, "-c", ASK, network.native_address]
    print(subprocess.run(ask, capture_output=True, text=True, check=True, timeout=20).stdout)
    assert "tap0" in subprocess.run(
        [*network.peer_prefix, "ip", "link"], capture_output=True, text=True, check=True
    ).stdout
    server.wait(20)
"""
IN_A_USER_NAMESPACE = ("unshare", "-Ur", "--")
# Root, where nobody may make a user namespace: the limit is that of the namespace we are in.
ROOT_WITHOUT = (
    *IN_A_USER_NAMESPACE,
    *("sh", "-c", 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"', "sh"),
)


ROOT = Path(__file__).parents[2]


def through(*within: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*within, python, "-c", THROUGH],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(autouse=True)
def _allowed() -> None:
    found = {check.name: check for check in checks(LocalReader(), ())}["measuring network"]
    if found.state != "ok":
        pytest.skip(f"measuring network: {found.finding}")
    if subprocess.run([*ROOT_WITHOUT, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces are forbidden here")


def test_root_needs_no_user_namespace() -> None:
    done = through(*ROOT_WITHOUT)
    assert done.stdout.strip() == "x", done.stderr
    refused = subprocess.run([*ROOT_WITHOUT, "unshare", "-U", "true"], check=False)
    assert refused.returncode != 0  # so that is what was tested


def test_a_plain_user_has_it_by_a_user_namespace() -> None:
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
    within, python = (user, "/usr/bin/python3") if os.getuid() == 0 else ((), sys.executable)
    for needed in ((python, "-c", "import vbench"), ("test", "-w", "/dev/net/tun")):
        asked = subprocess.run([*within, *needed], cwd=ROOT, capture_output=True, check=False)
        if asked.returncode:
            pytest.skip(f"a plain user may not: {' '.join(needed)}")
    done = through(*within, python=python)
    assert done.stdout.strip() == "x", done.stderr


def test_where_neither_is_allowed_there_is_none() -> None:
    done = through(*ROOT_WITHOUT, "setpriv", "--bounding-set=-all", "--inh-caps=-all")
    assert done.stderr == "there is no network\n"
