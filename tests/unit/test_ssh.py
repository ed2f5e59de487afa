"""The SSH connection against a real server in this process that misbehaves on order."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator

import paramiko
import pytest

from vbench.errors import ConnectionLost, WorkloadError, WorkloadTimeout
from vbench.hosts import ssh as ssh_module
from vbench.hosts.keys import KeyPair
from vbench.hosts.ssh import SshConnection, paramiko_key

Act = Callable[[paramiko.Channel, str], None]
OURS, THEIRS = KeyPair.generate(), KeyPair.generate()


class Interface(paramiko.ServerInterface):
    """Lets `root` in with OURS, and hands each command to `act` in a thread."""

    def __init__(self, act: Act) -> None:
        self.act = act
        self.threads: list[threading.Thread] = []

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = username == "root" and key.asbytes() == OURS.public_blob
        return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        def serve() -> None:
            # Input or its end comes once the client knows that its command was accepted.
            ready = threading.Event()
            channel.in_buffer.set_event(ready)
            ready.wait(10)
            with contextlib.suppress(OSError, EOFError):  # the client may have gone
                self.act(channel, command.decode())

        self.threads.append(threading.Thread(target=serve, daemon=True))
        self.threads[-1].start()
        return True


@contextlib.contextmanager
def connection(
    act: Act,
    *,
    key: KeyPair = OURS,
    host_key: KeyPair = THEIRS,
    user: str = "root",
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[SshConnection]:
    """A client logged in to a server that answers commands by `act`."""
    ours, theirs = socket.socketpair()
    server = paramiko.Transport(theirs)
    server.add_server_key(paramiko_key(THEIRS))
    interface = Interface(act)
    server.start_server(server=interface, event=threading.Event())
    try:
        ssh = SshConnection.open(
            ours, name="the guest", user=user, key=key, host_key=host_key, timeout_s=10, clock=clock
        )
        try:
            yield ssh
        finally:
            ssh.close()
    finally:
        server.close()
        for thread in interface.threads:
            thread.join(5)


def answer(out: bytes = b"", err: bytes = b"", status: int = 0) -> Act:
    def act(channel: paramiko.Channel, command: str) -> None:
        channel.sendall_stderr(err)
        channel.sendall(out)
        channel.send_exit_status(status)
        channel.close()

    return act


# ------------------------------------------------------------------ commands


def test_status_and_both_streams() -> None:
    with connection(answer(b"out\n", b"err\n", 3)) as ssh:
        output = ssh.run("true", timeout_s=10)
    assert (output.status, output.stdout, output.stderr) == (3, "out\n", "err\n")


def test_the_command_arrives_as_it_is() -> None:
    seen: list[str] = []

    def act(channel: paramiko.Channel, command: str) -> None:
        seen.append(command)
        answer()(channel, command)

    with connection(act) as ssh:
        for command in ("a 'b' \"c\" $d", "Zürich\nline two"):
            ssh.run(command, timeout_s=10)
    assert seen == ["a 'b' \"c\" $d", "Zürich\nline two"]


def test_many_commands_on_one_connection() -> None:
    def act(channel: paramiko.Channel, command: str) -> None:
        answer(command.encode())(channel, command)

    with connection(act) as ssh:
        assert [ssh.run(str(n), timeout_s=10).stdout for n in range(20)] == [
            str(n) for n in range(20)
        ]


def test_bytes_that_are_no_text_are_replaced() -> None:
    with connection(answer(b"\xff\xfe ok")) as ssh:
        assert ssh.run("x", timeout_s=10).stdout.endswith(" ok")


def test_stdin_reaches_the_command_and_ends() -> None:
    def act(channel: paramiko.Channel, command: str) -> None:
        said = channel.makefile("rb").read()
        answer(said[::-1])(channel, command)

    with connection(act) as ssh:
        assert ssh.run("rev", timeout_s=10, stdin=b"abc").stdout == "cba"
        assert ssh.run("rev", timeout_s=10).stdout == ""


def test_a_flood_on_stderr_does_not_block_stdout() -> None:
    with connection(answer(b"result", b"e" * (8 << 20))) as ssh:
        output = ssh.run("x", timeout_s=30)
    assert output.stdout == "result"
    assert len(output.stderr) == 8 << 20


def test_large_streams_are_whole() -> None:
    def act(channel: paramiko.Channel, command: str) -> None:
        for _ in range(64):  # in turns, so that neither may wait for the other
            channel.sendall(b"o" * 65536)
            channel.sendall_stderr(b"e" * 65536)
        channel.send_exit_status(0)
        channel.close()

    with connection(act) as ssh:
        output = ssh.run("x", timeout_s=30)
    assert (len(output.stdout), len(output.stderr)) == (64 * 65536, 64 * 65536)
    assert set(output.stdout) == {"o"}


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes that are allowed, less than usual: each of them is enciphered twice."""
    monkeypatch.setattr(ssh_module, "OUTPUT_LIMIT_BYTES", 4 << 20)
    return 4 << 20


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_flood_beyond_the_limit_is_the_workloads_fault(stream: str) -> None:
    stopped = threading.Event()

    def act(channel: paramiko.Channel, command: str) -> None:
        if command == "true":
            answer(b"well")(channel, command)
            return
        send = channel.sendall if stream == "stdout" else channel.sendall_stderr
        try:
            while True:
                send(b"y\n" * 32768)
        except OSError:
            stopped.set()

    with connection(act) as ssh:
        with pytest.raises(WorkloadError, match="wrote more than 4 MiB") as caught:
            ssh.run("yes", timeout_s=60)
        assert caught.value.evidence == "yes"
        assert ssh.run("true", timeout_s=10).stdout == "well"
        assert stopped.wait(10)  # its channel is closed: it ends


def test_the_limit_itself_is_allowed(limit: int) -> None:
    with connection(answer(b"x" * limit)) as ssh:
        assert len(ssh.run("x", timeout_s=60).stdout) == limit


# ------------------------------------------------------------------ deadlines and deaths


@pytest.mark.parametrize("busy", [False, True])
def test_a_late_command_is_a_timeout_and_the_connection_lives(busy: bool) -> None:
    over = threading.Event()

    def act(channel: paramiko.Channel, command: str) -> None:
        if command == "true":
            answer(b"well")(channel, command)
            return
        while not over.wait(0.01):
            if busy:  # a trickle must not push the deadline on
                channel.sendall(b".")

    with connection(act) as ssh:
        began = time.monotonic()
        with pytest.raises(WorkloadTimeout, match=r"did not end within 0\.3 s"):
            ssh.run("sleep", timeout_s=0.3)
        assert time.monotonic() - began < 3
        over.set()
        assert ssh.run("true", timeout_s=10).stdout == "well"


@pytest.mark.parametrize("answer_to", ["check_channel_request", "check_channel_exec_request"])
def test_a_server_that_answers_no_request_is_a_timeout(
    answer_to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a guest whose CPU hangs: the connection is there, and nothing comes."""
    over = threading.Event()

    def silent(*words: object) -> int:
        over.wait(10)
        return paramiko.OPEN_FAILED_CONNECT_FAILED

    monkeypatch.setattr(Interface, answer_to, silent)
    with connection(answer()) as ssh:
        began = time.monotonic()
        with pytest.raises(WorkloadTimeout, match=r"did not end within 0\.3 s"):
            ssh.run("true", timeout_s=0.3)
        assert time.monotonic() - began < 5
        assert ssh.alive
        over.set()


def test_deadlines_are_kept_by_the_clock_that_was_given() -> None:
    def act(channel: paramiko.Channel, command: str) -> None:
        time.sleep(1.0)
        answer(b"late")(channel, command)

    with connection(act, clock=lambda: time.monotonic() / 10) as ssh:
        assert ssh.run("x", timeout_s=0.5).stdout == "late"


def test_ended_streams_without_a_status_are_a_timeout() -> None:
    over = threading.Event()

    def act(channel: paramiko.Channel, command: str) -> None:
        channel.shutdown_write()
        over.wait(10)

    with connection(act) as ssh:
        with pytest.raises(WorkloadTimeout):
            ssh.run("x", timeout_s=0.3)
        over.set()


def test_a_channel_that_closes_without_a_status_is_a_lost_connection() -> None:
    with (
        connection(lambda channel, _: channel.close()) as ssh,
        pytest.raises(ConnectionLost, match="closed the connection during a command") as caught,
    ):
        ssh.run("x", timeout_s=10)
    assert caught.value.evidence == "x"


@pytest.mark.parametrize("said", [b"", b"half of the out"])
def test_a_server_that_dies_in_a_command(said: bytes) -> None:
    def act(channel: paramiko.Channel, command: str) -> None:
        channel.sendall(said)
        channel.get_transport().sock.shutdown(socket.SHUT_RDWR)

    with connection(act) as ssh:
        with pytest.raises(ConnectionLost, match="the guest"):
            ssh.run("x", timeout_s=10)
        assert not ssh.alive
        with pytest.raises(ConnectionLost, match="is gone"):
            ssh.run("x", timeout_s=10)


def test_a_lost_connection_is_said_once_by_us(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """paramiko's own tracebacks would stand in the middle of a run's lines."""

    def act(channel: paramiko.Channel, command: str) -> None:
        wire = channel.get_transport().sock
        wire.send(b"\0" * 4096)  # a packet that nobody can read
        wire.shutdown(socket.SHUT_WR)

    with connection(act) as ssh, pytest.raises(ConnectionLost):
        ssh.run("x", timeout_s=10)
    logger = logging.getLogger("paramiko")
    assert logger.handlers, "without a handler logging writes to standard error by itself"
    assert capfd.readouterr().err == ""


def test_close_is_safe_to_repeat() -> None:
    with connection(answer()) as ssh:
        ssh.close()
        ssh.close()
        assert not ssh.alive


# ------------------------------------------------------------------ logging in


def test_another_host_key_is_refused() -> None:
    with pytest.raises(ConnectionLost, match="shows another host key"):
        connection(answer(), host_key=KeyPair.generate()).__enter__()


def test_another_user_key_is_refused() -> None:
    with pytest.raises(ConnectionLost, match="no SSH login to the guest"):
        connection(answer(), key=KeyPair.generate()).__enter__()


def test_a_server_that_says_nothing() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        began = time.monotonic()
        with pytest.raises(ConnectionLost, match="no SSH login to the guest"):
            SshConnection.open(
                ours, name="the guest", user="root", key=OURS, host_key=THEIRS, timeout_s=0.5
            )
        assert time.monotonic() - began < 5
        assert theirs.recv(1 << 16)  # our banner
        theirs.settimeout(5)
        assert theirs.recv(1) == b""  # and then we hung up


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_that_is_none(said: bytes) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(said)
    theirs.close()
    with pytest.raises(ConnectionLost, match="no SSH login to the guest"):
        SshConnection.open(
            ours, name="the guest", user="root", key=OURS, host_key=THEIRS, timeout_s=5
        )


# ------------------------------------------------------------------ keys


def test_keys_differ_and_have_the_standard_forms() -> None:
    assert OURS.public_blob != THEIRS.public_blob
    kind, blob, comment = OURS.authorized_line.split()
    assert (kind, comment) == ("ssh-ed25519", "vbench")
    assert OURS.authorized_line.endswith("\n")
    assert paramiko.PKey.from_type_string("ssh-ed25519", OURS.public_blob).get_base64() == blob
    assert paramiko_key(OURS).asbytes() == OURS.public_blob
    # RFC 8709: 32 bytes public; dropbear: 32 private and 32 public behind the name
    assert len(OURS.public_blob) == 4 + 11 + 4 + 32
    assert len(OURS.dropbear_private()) == 4 + 11 + 4 + 64
    assert OURS.dropbear_private().endswith(OURS.public_blob[-32:])
