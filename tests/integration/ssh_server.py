"""A real sshd of a test's own, and the `ssh` that knows it."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.conftest import until
from vbench.testbed import TestbedHost

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")


@dataclass(frozen=True)
class Server:
    """A running sshd. `root` holds its keys, and what the remote side keeps."""

    port: int
    root: Path
    ip: str = "127.0.0.1"

    @property
    def address(self) -> str:
        return f"ssh://{getpass.getuser()}@{self.ip}:{self.port}"

    @property
    def key(self) -> Path:
        """The user's own."""
        return self.root / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.root / "known_hosts"

    @property
    def config(self) -> str:
        """What the user's ~/.ssh/config has to say for a login."""
        return f'IdentityFile "{self.key}"\nUserKnownHostsFile "{self.known_hosts}"\n'

    def left(self) -> list[str]:
        """Temporary directories on the remote side."""
        return sorted(path.name for path in (self.root / "tmp").iterdir())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def key_pair(path: Path) -> str:
    """A fresh key; its public line."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_name(f"{path.name}.pub").read_text()


def ssh_program(folder: Path, config: str) -> str:
    """A PATH whose `ssh` is the real one with `config` in place of this user's configuration:
    OpenSSH looks for that in the password file's home, whatever HOME says."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (folder / "ssh_config").write_bytes(config.encode("latin-1"))
    program = programs / "ssh"
    real = shutil.which("ssh", path="/usr/bin:/bin")
    program.write_text(f'#!/bin/sh\nexec {real} -F "{folder}/ssh_config" "$@"\n')
    program.chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"


def reached_by_ssh(testbed: TestbedHost, folder: Path) -> tuple[str, str]:
    """A running testbed as a machine of the user's own, who logged in once by hand: its address,
    and a PATH whose `ssh` knows it."""
    keys = folder / ".ssh"
    keys.mkdir(mode=0o700)
    public = key_pair(keys / "id_ed25519").encode()
    add = "echo >> /root/.ssh/authorized_keys; cat >> /root/.ssh/authorized_keys; mkdir -p /var/tmp"
    assert testbed.run(["sh", "-c", add], timeout_s=20, stdin=public).status == 0
    assert testbed._guest is not None
    port = testbed._guest.machine.forwarded_port(22)
    config = f"IdentityFile {keys}/id_ed25519\nUserKnownHostsFile {keys}/known_hosts\n"
    path = ssh_program(folder, config)
    by_hand = ("ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new")
    subprocess.run(
        [*by_hand, "-p", str(port), "root@127.0.0.1", "true"],
        env={**os.environ, "PATH": path},
        check=True,
        capture_output=True,
        timeout=60,
    )
    return f"ssh://root@127.0.0.1:{port}", path


@contextmanager
def ssh_server(
    root: Path, *settings: str, ip: str = "127.0.0.1", within: Sequence[str] = ()
) -> Iterator[Server]:
    """An sshd on a port of its own with further lines of sshd_config, and `root`'s host_key if
    there is one. `within` is what enters the namespaces that have the address `ip`."""
    for folder in ("tmp", "cache"):
        (root / folder).mkdir(mode=0o700)
    if not (root / "host_key").exists():
        key_pair(root / "host_key")
    host_key = (root / "host_key.pub").read_text()
    server = Server(free_port(), root, ip)
    key_pair(server.key)
    server.known_hosts.write_text(f"[{ip}]:{server.port} {host_key}")
    lines = [
        f"Port {server.port}\nListenAddress {ip}\nHostKey {root}/host_key\nPidFile none",
        f"AuthorizedKeysFile {server.key}.pub\nStrictModes no\nUsePAM no",
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes",
        *settings,
    ]
    if not any(line.startswith("SetEnv") for line in settings):  # the first one wins
        lines.append(
            # SHLVL: bash reads ~/.bashrc in the first shell of sshd only, which may take long
            f"SetEnv SHLVL=2 VBENCH_CACHE={root}/cache VBENCH_TMP={root}/tmp "
            f"VBENCH_LOCK={root}/lock"
        )
    (root / "sshd_config").write_text("\n".join(lines) + "\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    process = subprocess.Popen(
        [*within, str(SSHD), "-D", "-e", "-f", str(root / "sshd_config")], stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        with contextlib.suppress(OSError):  # of the process's own namespace
            table = Path(f"/proc/{process.pid}/net/tcp").read_text()
            return f":{server.port:04X} 00000000:0000 0A" in table  # 0A: it listens
        return False

    try:
        assert until(answers, 10)
        yield server
    finally:
        process.kill()
        process.wait()
