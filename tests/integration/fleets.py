"""Ansible, and a fleet of sshd's that it measures."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.ssh_server import Server

ROOT = Path(__file__).parents[2]
VBENCH = f"{Path(sys.executable).parent}/vbench"
ANSIBLE = shutil.which("ansible-playbook")


@dataclass
class Fleet:
    """Hosts that Ansible measures, and the control node's command `within` its namespace."""

    folder: Path
    servers: list[Server]
    within: Sequence[str] = ()

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def journal(self, host: str) -> list[dict[str, Any]]:
        path = self.results / host / "journal.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def ended(self, host: str) -> bool:
        """Whether a boot's workload has ended there."""
        return any(each["event"] == "end" for each in self.journal(host))

    def start(self, *words: str, **variables: object) -> subprocess.Popen[str]:
        variables = {
            "backend": "shell",
            "results": str(self.results),
            "vbench_command": VBENCH,
            **variables,
        }
        environment = {
            **os.environ,
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "ansible/there"),
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
            "VBENCH_LOCK": str(self.folder / "lock"),
        }
        inventory, playbook = self.folder / "inventory.json", ROOT / "fleet/measure.yml"
        return subprocess.Popen(
            [
                *self.within,
                str(ANSIBLE),
                "-i",
                inventory,
                playbook,
                "-e",
                json.dumps(variables),
                *words,
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def play(self, *words: str, **variables: object) -> tuple[int, str]:
        process = self.start(*words, **variables)
        said, _ = process.communicate(timeout=600)
        return process.returncode, said

    def left(self) -> list[str]:
        return [name for server in self.servers for name in server.left()]


def reached_by(server: Server, port: int, **further: object) -> Mapping[str, object]:
    """Of a host in the inventory, which knows its key under `port`."""
    key = (server.root / "host_key.pub").read_text()
    known = server.root / "known"
    known.write_text(f"[{server.ip}]:{port} {key}")
    return {
        "ansible_host": server.ip,
        "ansible_port": port,
        "ansible_user": getpass.getuser(),
        "ansible_ssh_private_key_file": str(server.key),
        "ansible_ssh_common_args": f'-F none -o "UserKnownHostsFile={known}"',
        **further,
    }


def write_inventory(folder: Path, hosts: Mapping[str, Mapping[str, object]]) -> None:
    (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts}}))


def recap(said: str) -> dict[str, dict[str, int]]:
    """What Ansible counts of each host."""
    lines = said.partition("PLAY RECAP")[2].splitlines()
    return {
        line.split()[0]: {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", line)}
        for line in lines
        if ":" in line
    }
