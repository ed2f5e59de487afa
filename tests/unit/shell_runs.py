"""Whole runs of `vbench run` in this process, with shells for guests."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shell_backend

from vbench.run import runner
from vbench.run.options import RunOptions

# `vbench WORDS...`: exit status, standard output, standard error
Main = Callable[..., tuple[int, str, str]]
HEAD = "import pytest\nfrom vbench.measure import parsers\nworkload = pytest.mark.workload\n"


@dataclass
class Runs:
    """`vbench run` on the shell backend, in this process."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def __call__(self, text: str, **changes: Any) -> int:
        path = self.folder / "bench_given.py"
        path.write_text(f'{HEAD}pytestmark = workload(category="cpu", unit="x")\n{text}')
        options: dict[str, Any] = {
            "variants": ("shell",),
            "rounds": 2,
            "boots": 1,
            "out": self.out,
            "plugins": (Path(shell_backend.__file__),),
            "files": (path,),
            "argv": ("vbench", "run"),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # as in a process of its own
            return runner.run(RunOptions(**{**options, **changes}))

    @property
    def guests(self) -> shell_backend.Guests:
        guests: shell_backend.Guests = sys.modules["vbench_plugin_file_shell_backend"].GUESTS
        return guests

    def document(self, variant: str = "shell") -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.out / f"local-{variant}.json").read_text())
        return loaded

    def pairs(self) -> dict[str, int]:
        return {
            entry["name"]: len(entry["extra_info"]["vbench"]["pairs"])
            for entry in self.document()["benchmarks"]
        }


def bench(name: str, body: str) -> str:
    return f'def bench_{name}(measure):\n    """Says."""\n    {body}\n'


def spin(name: str) -> str:
    command = """echo '{"elapsed_ns": 300000000}'"""
    return bench(name, f"measure(lambda units, endpoint: {command!r}, read=parsers.probe)")


def in_guest(name: str, command: str) -> str:
    """A workload that natively does well."""
    good = """echo '{"elapsed_ns": 300000000}'"""
    return bench(
        name,
        f"measure(lambda units, endpoint: {command!r} if endpoint.scratch == '/dev/null' "
        f"else {good!r}, "
        "read=parsers.probe)",
    )
