"""The workloads that come with vbench: every bench_*.py of the workloads folder."""

from pathlib import Path

from vbench import workloads
from vbench.contract.hookspecs import hookimpl


@hookimpl
def vbench_workloads() -> list[Path]:
    return sorted(Path(workloads.__path__[0]).glob("bench_*.py"))
