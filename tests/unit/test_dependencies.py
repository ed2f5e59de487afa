"""What vbench imports is declared, is small, and runs on the oldest 64-bit processor."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from sample_results import full_run

from vbench.cli.main import main
from vbench.results import store

ROOT = Path(__file__).parents[2]
# The first x86-64 processors: what QEMU's default CPU model `qemu64` offers.
OLDEST_CPU = ["qemu-x86_64", "-cpu", "qemu64"]
REPORT = """
import sys
from vbench.cli.main import main
assert main(["report", sys.argv[1], "-o", sys.argv[2]]) == 0
"""


def imported() -> set[str]:
    """Top-level packages of all imports in the sources."""
    tops = set()
    for folder in ("vbench", "plugins", "workloads"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    tops |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    tops.add(node.module.partition(".")[0])
    return tops - set(sys.stdlib_module_names) - {"vbench"}


def test_imports_are_declared_and_nothing_else_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w.-]", line)[0].lower() for line in project["dependencies"]}
    owners = packages_distributions()
    used = {name.lower() for top in imported() for name in owners[top]}
    assert used == declared


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for i, result in enumerate(full_run()):
        (tmp_path / f"{i}.json").write_bytes(store.dumps(store.document(result)))
    return tmp_path


def test_a_report_loads_no_compiled_library(results: Path) -> None:
    script = f"""{REPORT}
files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
print([file for file in files if file.endswith(".so") and "site-packages" in file])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, results, results / "report.md"],
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    assert done.stdout == b"[]\n"


@pytest.mark.skipif(not shutil.which(OLDEST_CPU[0]), reason="needs qemu-user: vbench setup --test")
def test_a_report_is_written_on_the_oldest_processor(results: Path) -> None:
    there, here = results / "there.md", results / "here.md"
    script = f"{REPORT}\nimport paramiko, pytest_benchmark, qemu.qmp, vbench.hosts.keys"
    command = [*OLDEST_CPU, sys.executable, "-c", script, results, there]
    subprocess.run(command, check=True, timeout=120)
    assert main(["report", str(results), "-o", str(here)]) == 0
    assert there.read_text() == here.read_text().replace("here-", "there-")
