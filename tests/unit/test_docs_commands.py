"""Commands of vbench in the pages are ones that its command line reads."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import textwrap
from pathlib import Path

import pytest

from vbench.cli.parser import parser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# A command in a block of its own, without a placeholder.
COMMAND = re.compile(r"^    (?:[A-Z_]+=\S+ )*(vbench [^\n<…]*(?:\\\n[^\n]*)*)$", re.M)


def commands(page: Path) -> list[list[str]]:
    found = [match.group(1) for match in COMMAND.finditer(page.read_text(encoding="utf-8"))]
    return [shlex.split(line.partition(" | ")[0], comments=True) for line in found]


def accepted(words: list[str]) -> None:
    """SystemExit where an option does not exist."""
    assert words[0] == "vbench"
    end = words.index("--") if "--" in words else None  # what follows is the guest's command
    parser().parse_args(words[1:end])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page(page: Path) -> None:
    for words in commands(page):
        accepted(words)


def test_there_are_such_commands() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 20


def block(after: str, start: str) -> str:
    """The code that begins with `start`, in the page on many hosts after some words."""
    text = (ROOT / "docs/fleet.md").read_text(encoding="utf-8").partition(after)[2]
    text = text[text.index(f"    {start}") :]
    lines = iter(text.splitlines())
    kept = []
    for line in lines:
        if line and not line.startswith("    "):
            break
        kept.append(line)
    return textwrap.dedent("\n".join(kept))


def test_the_slurm_job_measures_and_then_continues(tmp_path: Path) -> None:
    """With an `srun` that runs one task here."""
    for name, does in (("srun", 'exec "$@"'), ("vbench", 'printf "%s\\n" vbench "$@" >called')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "job").write_text(block("**Slurm.**", "#!/bin/sh"))
    calls = []
    for _ in range(2):
        environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        subprocess.run(["sh", tmp_path / "job"], env=environment, cwd=tmp_path, check=True)
        calls.append((tmp_path / "called").read_text().split())
        accepted(calls[-1])
        folder = Path(calls[-1][-1])
        assert folder.parent == tmp_path / "vbench-results/2026-11"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "journal.jsonl").touch()
    assert calls[0][1:4] == ["run", "--backend", "kvm-virtio"]
    assert calls[1][1:3] == ["run", "--resume"]
    assert calls[0][-1] == calls[1][-1]


def test_the_check_for_reframe() -> None:
    tree = ast.parse(block("**ReFrame.**", "import json"))
    values = {
        target.id: ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and not isinstance(node.value, ast.Subscript)
    }
    accepted([values["executable"], *values["executable_opts"]])
    for line in values["postrun_cmds"]:
        accepted(shlex.split(line))
