"""A client that asks a guest, and connects anew where it went on: the guest is a process here."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.unit.test_watcher import free_port
from vbench.errors import GuestError
from vbench.hosts.local import LocalHost
from vbench.measure.client import Client

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


class Live:
    """`vbench-probe live` with 16 MiB of which 50 MiB/s are touched."""

    def __init__(self, probe: Path) -> None:
        self.port = free_port(socket.SOCK_STREAM)
        words = ("live", self.port, "127.0.0.1", free_port(socket.SOCK_DGRAM), 16, 50)
        self.process = subprocess.Popen([probe, *map(str, words)], stdout=subprocess.PIPE)
        assert self.process.stdout
        json.loads(self.process.stdout.readline())  # it is ready

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def lives(probe: Path) -> Iterator[list[Live]]:
    with ExitStack() as stack:
        made = [Live(probe), Live(probe)]
        for each in made:
            stack.callback(each.close)
        yield made


@pytest.fixture
def client(lives: list[Live]) -> Iterator[Client]:
    with Client(LocalHost(), lives[0].port) as made:
        yield made


def test_a_guest_at_work_is_asked_on(client: Client) -> None:
    client.asked()
    time.sleep(1)
    seen = client.asked()
    assert seen.elapsed_s > 0.5
    assert seen.ticks > 100
    assert seen.touched_mib_s == pytest.approx(50, rel=0.2)
    assert abs(seen.lost_s) < 0.2
    assert abs(seen.lost_real_s) < 0.2


def test_all_of_its_memory_is_looked_at(client: Client) -> None:
    answer = client.walked()
    assert (answer.intact_mib, answer.stale_mib) == (16, 0)


def test_the_open_question_is_asked_anew_where_the_guest_went_on(
    client: Client, lives: list[Live]
) -> None:
    before = client.walked().token
    client.asked()
    lives[0].process.send_signal(signal.SIGSTOP)  # as a hypervisor that has handed its guest on
    time.sleep(0.5)
    client.moved(LocalHost(), lives[1].port)
    assert client.walked().token != before  # it is the other one
    assert client.asked().wait_s > 0.45
    assert client.asked().wait_s < 0.4


def test_a_guest_that_ends_is_lost_to_it(client: Client, lives: list[Live]) -> None:
    lives[0].process.kill()
    with pytest.raises(GuestError, match="has lost it"):
        client.walked()
    with pytest.raises(GuestError, match="has lost it"):
        client.asked()


def test_a_guest_that_hangs_ends_with_it(probe: Path) -> None:
    with ExitStack() as stack:
        live = Live(probe)
        stack.callback(live.close)
        client = stack.enter_context(Client(LocalHost(), live.port))
        live.process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        began = time.monotonic()
        client.close()
        assert time.monotonic() - began < 5
