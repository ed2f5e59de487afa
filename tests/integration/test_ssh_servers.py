"""Servers, accounts and configurations as users have them: each works, or is one true sentence."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.conftest import until
from tests.integration.ssh_server import SSHD, Server, key_pair, ssh_program, ssh_server
from vbench import image
from vbench.errors import ConnectionLost, HostError, HostTimeout, ImageError, VbenchError
from vbench.hosts import openssh, remote
from vbench.hosts.remote import SshHost
from vbench.plugins.tcg_virtio import BACKEND

pytestmark = pytest.mark.skipif(SSHD is None, reason="openssh-server is not installed")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "server"
    path.mkdir()
    return path


@contextmanager
def host_on(
    server: Server, monkeypatch: pytest.MonkeyPatch, config: str = "", address: str = ""
) -> Iterator[SshHost]:
    """A host whose user has `config` (default: what is needed); nothing is left behind there."""
    monkeypatch.setenv("PATH", ssh_program(server.root, config or server.config))
    with contextlib.closing(SshHost(address or server.address)) as host:
        yield host
    assert until(lambda: not server.left(), 5), server.left()


def works(host: SshHost) -> None:
    """All ways in which a host is used, with bytes that a careless way would change."""
    text = "a 'b' \"c\" $d \\e `f` !g ~h\nünd * [x]"
    done = host.run(["sh", "-c", 'cat; printf %s "$1" >&2; exit 7', "x", text], timeout_s=30,
                    stdin=b"in\n")  # fmt: skip
    assert (done.status, done.stdout) == (7, "in\n")
    assert done.stderr.endswith(text)
    with host.workdir() as folder:
        host.write(f"{folder}/a file", b"secret\n")
        assert host.read(f"{folder}/a file") == "secret\n"
        process = host.start(["sh", "-c", "read line; echo got $line; echo log >&2; exec sleep 60"])
        process.stream.sendall(b"hello\n")
        assert process.stream.recv(100) == b"got hello\n"
        assert process.wait_for("log".__eq__, 20) == "log"
        assert host.run(["true"], timeout_s=30).status == 0
        process.kill()
    with pytest.raises(HostTimeout):
        host.run(["sleep", "60"], timeout_s=1)


# ------------------------------------------------------------------ accounts


def shell(program: str) -> str:
    """As if `program` were the account's login shell: sshd runs it with -c and the line."""
    return f'ForceCommand exec {program} -c "$SSH_ORIGINAL_COMMAND"'


@pytest.mark.parametrize("program", ["dash", "bash", "rbash", "tcsh", "fish", "zsh", "busybox sh"])
def test_any_login_shell(root: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    if shutil.which(program.split(maxsplit=1)[0]) is None:
        pytest.skip(f"{program} is not installed")
    with ssh_server(root, shell(program)) as server, host_on(server, monkeypatch) as host:
        works(host)


@pytest.mark.parametrize("greeting", ["echo Welcome; ", "echo /etc/passwd; echo 42 >&2; "])
def test_a_greeting_is_no_result(
    root: Path, monkeypatch: pytest.MonkeyPatch, greeting: str
) -> None:
    force = f'ForceCommand {greeting} exec sh -c "$SSH_ORIGINAL_COMMAND"'
    with ssh_server(root, force) as server, host_on(server, monkeypatch) as host:
        works(host)
        assert host.facts().facts["cpu_model"] not in {"Welcome", "/etc/passwd"}


@pytest.mark.parametrize(
    ("force", "words"),
    [
        ("/usr/sbin/nologin", "not available"),
        ("internal-sftp", "runs no commands"),
        ("echo Only backups here; exit 1", "Only backups here"),
        # a shell that echoes what it is told is not the command itself
        ('echo "$SSH_ORIGINAL_COMMAND"', "runs no commands"),
    ],
)
def test_an_account_that_runs_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, force: str, words: str
) -> None:
    with ssh_server(root, f"ForceCommand {force}") as server, host_on(server, monkeypatch) as host:
        with pytest.raises(HostError) as caught:
            host.run(["true"], timeout_s=10)
        assert words in caught.value.what
        assert "login shell must run" in caught.value.remedy


def test_an_account_that_hangs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "CONNECT_TIMEOUT_S", 3.0)
    with (
        ssh_server(root, "ForceCommand sleep 60") as server,
        host_on(server, monkeypatch) as host,
        pytest.raises(HostError, match="no end within 3 s"),
    ):
        host.run(["true"], timeout_s=10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide a program")
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/usr/bin/setpriv", "util-linux 2.33"),
        ("/usr/bin/base64", "base64"),
        (os.path.realpath("/bin/sh"), "login shell must run"),
    ],
)
def test_a_missing_tool(root: Path, monkeypatch: pytest.MonkeyPatch, path: str, words: str) -> None:
    hide = f'mount --bind /dev/null {path}; exec bash -c "$SSH_ORIGINAL_COMMAND"'
    force = f"ForceCommand exec unshare -m bash -c '{hide}'"
    with ssh_server(root, force) as server, host_on(server, monkeypatch) as host:
        with pytest.raises(HostError) as caught:
            host.run(["true"], timeout_s=10)
        assert words in caught.value.remedy


# ------------------------------------------------------------------ the server's limits


@pytest.mark.parametrize("sessions", [1, 2])
def test_few_sessions(root: Path, monkeypatch: pytest.MonkeyPatch, sessions: int) -> None:
    limit = f"MaxSessions {sessions}"
    with ssh_server(root, limit) as server, host_on(server, monkeypatch) as host:
        works(host)


def test_a_client_that_falls_silent_leaves_nothing_running(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine lost its power: the server is told nothing."""
    monkeypatch.setattr(openssh, "_BEAT", "while echo beat; do sleep 0.5; done")
    quick = openssh._WATCH.replace(str(openssh.SILENCE_S), "2")
    assert quick != openssh._WATCH
    monkeypatch.setattr(openssh, "_WATCH", quick)
    with ssh_server(root) as server, host_on(server, monkeypatch) as host, host.workdir():
        process = host.start(["sleep", "600"])
        there = Path(f"/proc/{process.pid}/comm")
        assert not until(lambda: not there.exists(), 4), "beats come"
        connection = host.connection
        assert isinstance(connection, openssh.OpenSshConnection)
        client = connection._master.pid
        os.kill(client, signal.SIGSTOP)
        try:
            assert until(lambda: not there.exists(), 10)
            assert until(lambda: not server.left(), 10)
        finally:
            os.kill(client, signal.SIGCONT)


def test_no_sessions(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        ssh_server(root, "MaxSessions 0") as server,
        host_on(server, monkeypatch) as host,
        pytest.raises(HostError, match="runs no commands"),
    ):
        host.run(["true"], timeout_s=10)


@pytest.mark.tcg
@pytest.mark.parametrize("setting", ["AllowTcpForwarding no", "PermitOpen 127.0.0.1:1"])
def test_no_forwarding(root: Path, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    with ssh_server(root, setting) as server, host_on(server, monkeypatch) as host:
        with pytest.raises(VbenchError, match="forbids TCP forwarding") as caught:
            BACKEND.launch(host, image.ensure(), BACKEND.options)
        assert "AllowTcpForwarding" in caught.value.remedy


@pytest.mark.tcg
def test_a_guest_with_one_session_and_blanks_in_paths(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = f'SetEnv SHLVL=2 "VBENCH_CACHE={root}/a cache" "VBENCH_TMP={root}/tmp"'
    limits = ("MaxSessions 1", places)
    with ssh_server(root, *limits) as server, host_on(server, monkeypatch) as host:
        with BACKEND.launch(host, image.ensure(), BACKEND.options) as guest:
            assert guest.run("echo $((6*7))", timeout_s=20).stdout == "42\n"
        assert (root / "a cache/placed").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small file system")
def test_no_room_for_the_image(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = f"mount -t tmpfs -o size=16m none {root}/cache; mkdir {root}/cache/placed"
    force = f"""ForceCommand exec unshare -m sh -c '{small}; exec sh -c "$SSH_ORIGINAL_COMMAND"'"""
    with ssh_server(root, force) as server, host_on(server, monkeypatch) as host:
        with pytest.raises(ImageError, match="did not arrive whole") as caught:
            host.upload_image(image.ensure())
        assert "No space left" in caught.value.evidence
        assert "make room" in caught.value.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small file system")
def test_no_room_for_the_scratch_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = 'mount -t tmpfs -o size=9m none "$0" && exec "$@"'
    within = ("unshare", "-m", "sh", "-c", small, str(root / "tmp"))
    with ssh_server(root, within=within) as server, host_on(server, monkeypatch) as host:
        with pytest.raises(HostError, match="No space left on device") as caught:
            host.fill_scratch()
        assert "cannot write the scratch disk" in caught.value.what
        assert "free 256 MiB there" in caught.value.remedy
        host.close()
        with contextlib.closing(SshHost(server.address)) as again:
            listed = again.run(["find", str(root / "tmp"), "-name", "scratch"], timeout_s=20)
            assert listed.stdout == ""


def test_a_cache_that_cannot_be_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = f"SetEnv SHLVL=2 VBENCH_CACHE=/proc/nowhere VBENCH_TMP={root}/tmp"
    with ssh_server(root, places) as server, host_on(server, monkeypatch) as host:
        files = host.upload_image(image.ensure())
        own = root / "tmp" / f"vbench-{os.getuid()}"
        assert Path(files.kernel).is_relative_to(own)
        shutil.rmtree(own)


# ------------------------------------------------------------------ the user's configuration


def test_match_include_and_an_alias(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ssh_server(root) as server:
        included = root / "included"
        included.write_text(f"Host box\n  HostName 127.0.0.1\n  Port {server.port}\n")
        config = (
            "Match host another.example\n  User nobody\n  Port 1\n"
            f'Match all\nInclude "{included}"\nHost *\n  ForwardAgent yes\n  RequestTTY force\n'
            "  RemoteCommand echo configured\n  LocalForward 1 127.0.0.1:1\n"
            "  ForkAfterAuthentication yes\n  StdinNull yes\n"
            f"  ControlMaster auto\n  ControlPath {root}/mux\n  ControlPersist 60\n{server.config}"
        )
        # the key is known by the alias, not by the name that is typed
        with host_on(server, monkeypatch, config, "ssh://box") as host:
            works(host)
        assert not (root / "mux").exists()


@pytest.mark.parametrize("way", ["ProxyJump jump", "ProxyCommand {ssh} -W %h:%p jump"])
def test_through_another_machine(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    other = tmp_path / "jump"
    other.mkdir()
    with ssh_server(root) as server, ssh_server(other) as jump:
        with (root / "known_hosts").open("a") as known:
            known.write(jump.known_hosts.read_text())
        shutil.copy(jump.key, root / "jump_key")
        way = way.format(ssh=f'ssh -F "{root}/ssh_config"')
        config = (
            f"Host jump\n  HostName 127.0.0.1\n  Port {jump.port}\n"
            f'  IdentityFile "{root}/jump_key"\n'
            f"Host target\n  HostName 127.0.0.1\n  Port {server.port}\n  {way}\n"
            f"Host *\n  {server.config}"
        )
        with host_on(server, monkeypatch, config, "ssh://target") as host:
            works(host)


def test_a_certificate_authority(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, other = key_pair(root / "authority"), key_pair(root / "other")
    key_pair(root / "host_key")
    sign = ["ssh-keygen", "-q", "-s", root / "authority", "-I", "x", "-h", "-n", "127.0.0.1"]
    subprocess.run([*sign, root / "host_key.pub"], check=True)
    with ssh_server(root, f"HostCertificate {root}/host_key-cert.pub") as server:
        server.known_hosts.write_text(f"@cert-authority * {authority}")
        with host_on(server, monkeypatch) as host:
            works(host)
        server.known_hosts.write_text(f"@cert-authority * {other}")
        with (
            host_on(server, monkeypatch) as host,
            pytest.raises(ConnectionLost, match="verification failed"),
        ):
            host.run(["true"], timeout_s=10)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("Port abc\n", "line 3: Bad port"),
        ("ForwardAgent\n", "line 3: no argument"),
        ("Nonsense yes\n", "Bad configuration option"),
        ("Host caf\xe9\n  Port 1\n", ""),  # Latin-1 is well
    ],
)
def test_a_damaged_configuration_is_said_in_opensshs_words(
    root: Path, monkeypatch: pytest.MonkeyPatch, config: str, words: str
) -> None:
    with (
        ssh_server(root) as server,
        host_on(server, monkeypatch, f"{server.config}{config}") as host,
    ):
        if not words:
            works(host)
            return
        with pytest.raises(ConnectionLost) as caught:
            host.run(["true"], timeout_s=10)
        assert words in caught.value.what
        assert "connect once by hand: ssh -p" in caught.value.remedy


def test_damaged_lines_among_the_known_hosts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ssh_server(root) as server:
        good = server.known_hosts.read_text()
        damaged = b"127.0.0.1 ssh-ed25519 AAAA!\n@cert-authority\n|1|x| y z\n\xff\xfe\n"
        server.known_hosts.write_bytes(damaged + good.encode())
        with host_on(server, monkeypatch) as host:
            works(host)
        server.known_hosts.write_bytes(damaged)
        with (
            host_on(server, monkeypatch) as host,
            pytest.raises(ConnectionLost, match="verification failed"),
        ):
            host.run(["true"], timeout_s=10)


def test_a_host_that_is_not_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ssh_server(root) as server:
        pass
    shutil.rmtree(root / "tmp")
    monkeypatch.setenv("PATH", ssh_program(root, server.config))
    with pytest.raises(ConnectionLost, match="Connection refused") as caught:
        SshHost(server.address).run(["true"], timeout_s=10)
    assert "connect once by hand" in caught.value.remedy
    assert shutil.which("ssh")


def test_no_ssh_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VbenchError, match="ssh is not installed") as caught:
        SshHost("ssh://nowhere").run(["true"], timeout_s=10)
    assert "vbench setup" in caught.value.remedy


# ------------------------------------------------------------------ doctor


def test_the_doctor_asks_a_remote_host_for_what_it_needs(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ssh_server(root) as server, host_on(server, monkeypatch):
        command = [sys.executable, "-m", "vbench.cli", "doctor", "--json", "--host", server.address]
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONIOENCODING": "latin-1"},
            capture_output=True,
            timeout=120,
            check=False,
        )
    found = {each["name"]: each for each in json.loads(done.stdout.decode("latin-1"))}
    assert done.returncode in {0, 3}, done.stderr
    assert (done.returncode == 3) == any(each["state"] == "bad" for each in found.values())
    assert found["kernel"]["finding"].startswith(os.uname().release)
    assert not {"mmdebstrap", "gcc", "lz4"} & set(found)
