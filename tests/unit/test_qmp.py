"""QMP against a server on a socket pair that misbehaves on order."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from vbench.errors import GuestLost
from vbench.hypervisors.qemu.qmp import Qmp, Refused

GREETING = {"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": []}}


class Server:
    """QEMU's side of the conversation."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self.text = ""
        self.seen: list[str] = []

    def say(self, message: object) -> None:
        self.stream.sendall(json.dumps(message).encode() + b"\r\n")

    def hear(self) -> dict[str, object]:
        while True:  # clients put nothing between their objects
            try:
                message, end = json.JSONDecoder().raw_decode(self.text)
                break
            except ValueError:
                piece = self.stream.recv(65536).decode()
                if not piece:
                    raise EOFError from None
                self.text += piece
        self.text = self.text[end:]
        self.seen.append(message["execute"])
        return dict(message)

    def hang_up(self) -> None:
        self.stream.shutdown(socket.SHUT_RDWR)

    def obey(self) -> None:
        """Greet and answer every command with its own name."""
        self.greet()
        while True:
            message = self.hear()
            self.say({"return": {"did": message["execute"]}, "id": message["id"]})

    def greet(self) -> None:
        self.say(GREETING)
        message = self.hear()
        assert message["execute"] == "qmp_capabilities"
        self.say({"return": {}})  # the client negotiates without an id


@contextlib.contextmanager
def served(act: Callable[[Server], None]) -> Iterator[tuple[socket.socket, Server]]:
    """Our end of a stream whose other end is served by `act`."""
    ours, theirs = socket.socketpair()
    server = Server(theirs)

    def serve() -> None:
        with contextlib.suppress(OSError, EOFError):
            act(server)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield ours, server
    finally:
        with contextlib.suppress(OSError):
            theirs.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        theirs.close()
        ours.close()
    assert not thread.is_alive()


def loops() -> int:
    """Threads that run an event loop of ours."""
    return sum("run_forever" in thread.name for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = loops()
    yield
    assert loops() == before


def test_commands_and_arguments() -> None:
    heard: list[dict[str, object]] = []

    def act(server: Server) -> None:
        server.greet()
        while True:
            heard.append(server.hear())
            server.say({"return": [1, 2], "id": heard[-1]["id"]})

    with served(act) as (stream, _):
        qmp = Qmp(stream)
        assert qmp.execute("query-cpus-fast") == [1, 2]
        qmp.execute("human-monitor-command", {"command-line": "info usernet"})
        qmp.close()
    assert [message.get("arguments") for message in heard] == [
        None,
        {"command-line": "info usernet"},
    ]


@pytest.mark.parametrize(
    "act",
    [
        Server.hang_up,
        lambda server: server.stream.sendall(b"qemu: could not open disk\n"),
        lambda server: server.say({"hello": 1}),
        lambda server: (server.say(GREETING), server.hang_up()),
        lambda server: (server.say(GREETING), server.hear(), server.hang_up()),
    ],
    ids=["nothing", "text", "other json", "only a greeting", "no capabilities"],
)
def test_no_proper_greeting_is_a_lost_guest(act: Callable[[Server], None]) -> None:
    with served(act) as (stream, _), pytest.raises(GuestLost, match="the QMP connection ended"):
        Qmp(stream, timeout_s=5)


def test_silence_instead_of_a_greeting() -> None:
    done = threading.Event()
    with served(lambda _: done.wait(10) and None) as (stream, _):
        began = time.monotonic()
        with pytest.raises(GuestLost, match=r"did not answer on QMP within 0\.2 s"):
            Qmp(stream, timeout_s=0.2)
        assert time.monotonic() - began < 4
        done.set()


def test_death_during_a_command() -> None:
    def act(server: Server) -> None:
        server.greet()
        server.hear()
        server.hang_up()

    with served(act) as (stream, _):
        qmp = Qmp(stream)
        with pytest.raises(GuestLost, match="the QMP connection ended"):
            qmp.execute("stop")
        with pytest.raises(GuestLost):  # and it stays lost
            qmp.execute("cont")
        qmp.close()


def test_a_command_that_is_never_answered() -> None:
    def act(server: Server) -> None:
        server.greet()
        while True:
            server.hear()

    with served(act) as (stream, _):
        qmp = Qmp(stream, timeout_s=0.2)
        with pytest.raises(GuestLost, match="did not answer"):
            qmp.execute("stop")
        began = time.monotonic()
        qmp.close()
        assert time.monotonic() - began < 3


def test_a_refusal_is_not_a_death() -> None:
    def act(server: Server) -> None:
        server.greet()
        while True:
            message = server.hear()
            error = {"class": "CommandNotFound", "desc": "The command x has not been found"}
            server.say({"error": error, "id": message["id"]})

    with served(act) as (stream, _):
        qmp = Qmp(stream)
        with pytest.raises(Refused) as caught:
            qmp.execute("x")
        assert caught.value.error_class == "CommandNotFound"
        qmp.close()


def test_events_before_a_reply_are_passed_over() -> None:
    event = {"event": "STOP", "data": {}, "timestamp": {"seconds": 1, "microseconds": 2}}

    def act(server: Server) -> None:
        server.greet()
        message = server.hear()
        server.say(event)
        server.say({"return": {"status": "paused"}, "id": message["id"]})
        while True:
            server.hear()

    with served(act) as (stream, _):
        qmp = Qmp(stream)
        assert qmp.execute("query-status") == {"status": "paused"}
        qmp.close()


@pytest.mark.parametrize("reply", [True, False])
def test_quit_may_lose_its_reply(reply: bool) -> None:
    def act(server: Server) -> None:
        server.greet()
        message = server.hear()
        if reply:
            server.say({"return": {}, "id": message["id"]})
        server.hang_up()

    with served(act) as (stream, server):
        qmp = Qmp(stream)
        qmp.quit(5)
        qmp.close()
        assert server.seen == ["qmp_capabilities", "quit"]


def test_close_is_safe_to_repeat() -> None:
    with served(Server.obey) as (stream, _):
        qmp = Qmp(stream)
        qmp.close()
        qmp.close()


def test_a_garbled_reply_is_a_lost_guest() -> None:
    def act(server: Server) -> None:
        server.greet()
        server.hear()
        server.stream.sendall(b'{"return": [1, 2\n')
        server.hear()

    with served(act) as (stream, _):
        qmp = Qmp(stream)
        with pytest.raises(GuestLost):
            qmp.execute("stop")
        qmp.close()
