"""The workloads that come with vbench: bench_*.py and scenario_*.py of the workloads folder."""

from pathlib import Path

from vbench import workloads
from vbench.contract.hookspecs import hookimpl


@hookimpl
def vbench_workloads() -> list[Path]:
    folder = Path(workloads.__path__[0])
    return [*sorted(folder.glob("bench_*.py")), *sorted(folder.glob("scenario_*.py"))]
