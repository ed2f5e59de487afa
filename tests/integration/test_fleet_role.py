"""Ansible's role, with a stand-in for vbench: what it is called with, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ANSIBLE = shutil.which("ansible-playbook")
VBENCH = f"""#!{sys.executable}
import json, os, pathlib, shutil, sys
words = sys.argv[1:]
if words[0] == "report":
    pathlib.Path(words[words.index("-o") + 1]).touch()
elif words[1] == "--resume":
    print("there is nothing to continue", file=sys.stderr)
elif os.environ["VBENCH_INVENTORY_NAME"] == "a-down":
    sys.exit("it is down")
else:
    out = pathlib.Path(words[2])
    out.mkdir(parents=True)
    argv = ["vbench", "run", *words[3:]]
    head = {{"event": "run", "options": {{"argv": argv}}, "started": str(out)}}
    end = {{"event": "stopped", "why": ""}}
    (out / "journal.jsonl").write_text("".join(json.dumps(each) + "\\n" for each in (head, end)))
    (out / "ssh").write_text(str(shutil.which("ssh")))
"""

pytestmark = pytest.mark.skipif(ANSIBLE is None, reason="ansible is not installed")


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text(VBENCH)
    path.chmod(0o755)
    return path


def play(folder: Path, hosts: dict[str, Any], *words: str, **variables: object) -> tuple[int, str]:
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    done = subprocess.run(
        [
            *(str(ANSIBLE), "-i", inventory, ROOT / "fleet/measure.yml"),
            *("-e", json.dumps(variables), *words),
        ],
        env={**os.environ, "ANSIBLE_HOME": str(folder / "ansible"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_batch_that_fails_does_not_stop_the_others_and_a_request_is_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With names that stand in no PATH: they have colons and slashes."""
    monkeypatch.setenv("ANSIBLE_SSH_COMMON_ARGS", "-J jump")  # as ansible.cfg or the command line
    results = tmp_path / "r:1"
    own = {"ansible_ssh_common_args": "-J other"}
    hosts = {"a-down": {}, "fe80::1": {}, "node4": {"physical_host": "dc1/rack2", **own}}
    common = {"results": str(results), "vbench_command": str(program(tmp_path / "bin/vbench"))}
    status, said = play(tmp_path, hosts, batch=1, backend="tcg", **common)
    assert status == 2, said
    recap = said.partition("PLAY RECAP")[2]
    assert recap.count("failed=1") == 1, said
    assert f"non-zero return code: {results}/fleet.md says why" in said
    for name, jump in (("fe80::1", "jump"), ("node4", "other")):
        ssh = Path((results / name / "ssh").read_text())
        assert f"# Ansible's way to {name}." in ssh.read_text()
        assert f"exec ssh -J {jump} " in ssh.read_text()
    assert (results / "fleet.md").exists()

    hosts["node5"] = {}
    status, said = play(tmp_path, hosts, "--check", backend="tcg", **common)
    assert status == 0, said
    told = re.findall(r'ok: \[(\S+)\] => {\s+"msg": "(.*)"', said.replace("changed:", "ok:"))
    fresh = "would be measured: ssh://{} --backend tcg"
    assert sorted(told) == [
        ("a-down", fresh.format("a-down")),
        *((name, "complete, would not be measured") for name in ("fe80::1", "node4")),
        ("node5", fresh.format("node5")),
    ], said
    assert not (results / "node5").exists()

    del hosts["a-down"], hosts["node5"]
    status, said = play(tmp_path, hosts, backend="tcg", **common)
    assert status == 0, said
    status, said = play(tmp_path, hosts, backend="kvm", **common)
    assert status == 2, said
    assert "holds another request: vbench run --host ssh://node4 --backend tcg." in said


def test_two_folders_of_results_are_two_on_the_host_and_none_replaces_another(
    tmp_path: Path,
) -> None:
    """Nor do those of a host that has two names."""
    home = tmp_path / "there"
    program(home / "venv/bin/vbench")
    (home / "venv/bin/pip").touch()
    (tmp_path / "wheels").mkdir()
    (tmp_path / "image").touch()
    (home / "imported-da39a3ee5e6b4b0d3255bfef95601890afd80709").touch()  # SHA-1 of nothing
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {"node1": here, "alias": here}
    common = {
        "way": "on_host",
        "vbench_home": str(home),
        "vbench_wheels": str(tmp_path / "wheels"),
        "vbench_image": str(tmp_path / "image"),
        "vbench_command": str(home / "venv/bin/vbench"),
    }
    results = str(tmp_path / "none")
    status, said = play(tmp_path, hosts, "--check", backend="kvm", results=results, **common)
    assert status == 0, said
    assert said.count("would be measured: --backend kvm") == 2, said
    ran_in = set()
    for name in ("kvm", "tcg"):
        status, said = play(
            tmp_path, hosts, backend=name, results=str(tmp_path / name / "11"), **common
        )
        assert status == 0, said
        for host in hosts:
            journal = tmp_path / name / "11" / host / "journal.jsonl"
            head = json.loads(journal.read_text().splitlines()[0])
            assert head["options"]["argv"] == ["vbench", "run", "--backend", name]
            ran_in.add(head["started"])
    assert len(ran_in) == 4

    journal = tmp_path / "tcg/11/node1/journal.jsonl"
    journal.write_text('{"event": "run", "of": "another run"}\n')
    status, said = play(tmp_path, hosts, backend="tcg", results=str(tmp_path / "tcg/11"), **common)
    assert status == 2, said
    assert "holds the results of another run" in said
    assert "another run" in journal.read_text()
