"""The two programs that watch a guest's life, side by side on this machine."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vbench.measure.watcher import Observation

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Pair:
    """`live` with 16 MiB of which 50 MiB/s are touched, and a `watch` of it."""

    def __init__(self, probe: Path) -> None:
        port, ticks = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
        self.live = self._start(probe, "live", port, "127.0.0.1", ticks, 16, 50)
        self.watch = self._start(probe, "watch", "127.0.0.1", port, ticks)

    def _start(self, *argv: object) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        made = subprocess.Popen(list(map(str, argv)), stdin=pipe, stdout=pipe, text=True)
        assert made.stdout
        json.loads(made.stdout.readline())  # it is ready
        return made

    def tell(self, letters: str) -> None:
        assert self.watch.stdin
        self.watch.stdin.write(letters)
        self.watch.stdin.flush()

    def observe(self) -> Observation:
        self.tell("?")
        assert self.watch.stdout
        values: dict[str, Any] = json.loads(self.watch.stdout.readline())
        return Observation.of(values)

    def until(self, seen: Callable[[Observation], bool]) -> Observation:
        deadline = time.monotonic() + 20
        while not seen(observation := self.observe()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return observation

    def close(self) -> None:
        for each in (self.live, self.watch):
            each.kill()
            each.communicate()


@pytest.fixture
def pair(probe: Path) -> Iterator[Pair]:
    made = Pair(probe)
    made.until(lambda observation: observation.ticks > 0)  # a gap needs a tick before it
    yield made
    made.close()


def test_a_guest_at_work_answers_ticks_and_touches_its_memory(pair: Pair) -> None:
    pair.tell("g")
    pair.observe()
    time.sleep(1)
    observation = pair.observe()
    assert observation.connected
    assert observation.answers > 20  # a thousand on a machine that does nothing else
    assert observation.ticks > 20
    assert observation.missing == 0
    assert observation.dirtied_mib_s == pytest.approx(50, rel=0.2)
    assert abs(observation.lost_s) < 0.2
    assert abs(observation.lost_real_s) < 0.2


def test_a_pause_is_a_gap_a_wait_and_no_lost_tick(pair: Pair) -> None:
    pair.tell("g")
    pair.observe()
    pair.live.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    pair.live.send_signal(signal.SIGCONT)
    time.sleep(0.2)
    observation = pair.observe()
    assert 0.4 < observation.gap_s < 10
    assert 0.4 < observation.wait_s < 10
    assert observation.missing == 0
    calm = pair.observe()
    assert calm.gap_s < observation.gap_s  # it is told once


def test_an_unanswered_question_counts_while_it_lasts(pair: Pair) -> None:
    pair.tell("g")
    time.sleep(0.1)
    pair.live.send_signal(signal.SIGSTOP)
    time.sleep(0.4)
    pair.observe()
    time.sleep(0.4)
    assert 0.3 < pair.observe().wait_s < 10
    pair.live.send_signal(signal.SIGCONT)


def test_memory_is_walked_through_and_known_by_its_token(pair: Pair) -> None:
    pair.tell("g")
    time.sleep(0.1)
    pair.tell("sm")
    observation = pair.until(lambda observation: observation.walks > 0)
    assert observation.intact_mib == 16  # what is touched keeps its token
    assert observation.stale_mib == 0
    assert observation.token
    assert observation.walk_s > 0
    pair.tell("r")
    again = pair.until(lambda observation: observation.answers > 0)
    assert again.token == observation.token


def test_a_guest_that_is_gone_leaves_no_connection(pair: Pair) -> None:
    pair.tell("g")
    pair.live.kill()
    pair.live.wait()
    time.sleep(0.4)
    observation = pair.observe()
    assert not observation.connected
    assert observation.gap_s > 0.3  # the ticks stopped, which is a gap that lasts
    time.sleep(0.1)
    later = pair.observe()
    assert (later.answers, later.connected) == (0, False)
