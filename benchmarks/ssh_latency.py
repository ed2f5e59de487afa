"""One command on a kept connection: vbench's against OpenSSH's client, to one loopback sshd.

    python benchmarks/ssh_latency.py [ROUNDS]

Target: <= 1.3 x. The baseline is OpenSSH multiplexing (`ssh -S`), whose client is a fresh process
each time; raw OpenSSH has no other way to run a second command on a connection. The server is a
temporary sshd on 127.0.0.1 with keys of its own.
"""

from __future__ import annotations

import getpass
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vbench.hosts.keys import KeyPair
from vbench.hosts.local import LocalHost
from vbench.hosts.lock import local_lock
from vbench.hosts.ssh import SshConnection


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def private_file(path: Path, key: KeyPair) -> Path:
    path.write_text(key.openssh_private())
    path.chmod(0o600)
    return path


def ms(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return (time.monotonic() - began) * 1e3


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    host, own_key, host_key = LocalHost(), KeyPair.generate(), KeyPair.generate()
    port = free_port()
    with local_lock(print), tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "authorized").write_text(own_key.authorized_line)
        config = root / "config"
        config.write_text(
            f"Port {port}\nListenAddress 127.0.0.1\n"
            f"HostKey {private_file(root / 'host', host_key)}\n"
            f"AuthorizedKeysFile {root / 'authorized'}\nStrictModes no\nUsePAM no\nPidFile none\n"
            # bash reads ~/.bashrc for sshd's first shell only: that would be measured otherwise
            "SetEnv SHLVL=2\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", config])
        control = root / "mux"
        mux = [
            *("ssh", "-S", str(control), "-o", "StrictHostKeyChecking=no", "-p", str(port)),
            *("-o", "UserKnownHostsFile=/dev/null", "-i", str(private_file(root / "key", own_key))),
        ]
        target = f"{getpass.getuser()}@127.0.0.1"
        master = None
        try:
            scan = ["ssh-keyscan", "-p", str(port), "127.0.0.1"]
            while subprocess.call(scan, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
                time.sleep(0.05)
            connection = SshConnection.open(
                host.connect("127.0.0.1", port, 5),
                name="sshd", user=getpass.getuser(), key=own_key, host_key=host_key, timeout_s=10,
            )  # fmt: skip
            master = subprocess.Popen([*mux, "-M", "-N", "-q", target])
            while not control.exists():
                time.sleep(0.05)
            command = [*mux, "-q", target, "true"]
            times: dict[str, list[float]] = {"OpenSSH": [], "vbench": []}
            for _ in range(rounds):  # in turn, so that a busy machine slows both
                times["OpenSSH"].append(ms(lambda: subprocess.run(command, check=True)))
                times["vbench"].append(ms(lambda: connection.run("true", timeout_s=5)))
            base, kept = (statistics.median(each) for each in times.values())
            print(f"OpenSSH {base:.2f} ms, vbench {kept:.2f} ms, medians of {rounds}")
            print(f"vbench / OpenSSH: {kept / base:.2f}  (target <= 1.3)")
            connection.close()
        finally:
            if master:
                master.terminate()
                master.wait()
            server.terminate()
            server.wait()
            host.close()


if __name__ == "__main__":
    main()
