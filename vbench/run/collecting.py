"""The workloads that files hold, imported and described before anything is booted."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FunctionType, ModuleType

from vbench.contract.user_code import execute
from vbench.contract.workload import PREFIX, SCENARIO_PREFIX, Workload, described, marks
from vbench.errors import UsageError, named
from vbench.model import CATEGORIES, WorkloadInfo
from vbench.system.interrupts import asked_to_end

# How pytest itself measures a workload file.
PYTEST_WAY = "pytest -p vbench.pytest_plugin -o 'python_functions=bench_*'"
# What a function is given, by how its name begins.
_GETS = {PREFIX: "measure", SCENARIO_PREFIX: "lab"}
# Marks that only pytest can obey.
_PYTEST_ONLY = {"parametrize", "skip", "skipif", "usefixtures", "xfail"}


def collect(files: Sequence[Path], beside: Sequence[Path] = ()) -> list[Workload]:
    """Every workload of `files`, by category, then as found. Names that files `beside` them use are
    taken.

    Raises UsageError for a file that is missing, does not load or has no workload, a workload that
    states too little, one that only pytest can call, and two of one name.
    """
    for file in files:
        if not file.is_file():
            raise UsageError(f"there is no workload file {file}")
    found: list[Workload] = []
    asked: set[str] = set()  # names
    wanted = {file.resolve() for file in files}
    for file in dict.fromkeys(file.resolve() for file in [*beside, *files]):
        functions = list(_functions(_module(file)))
        if not functions:
            raise UsageError(
                f"the workload file {file} holds no workload",
                remedy=f"name its function {PREFIX}CATEGORY_NAME(measure) or "
                f"{SCENARIO_PREFIX}KIND_NAME(lab)",
            )
        for function in functions:
            workload = described(function)
            found.append(workload)
            if file in wanted:
                asked.add(workload.info.name)
            _callable_by_us(workload)
    workloads = [each for name, each in by_name(found).items() if name in asked]
    return sorted(workloads, key=lambda each: CATEGORIES.index(each.info.category))


def by_name(workloads: Iterable[Workload]) -> dict[str, Workload]:
    """Each once. Raises UsageError for two of one name: their samples would be one series."""
    found: dict[str, Workload] = {}
    for workload in workloads:
        known = found.setdefault(workload.info.name, workload).info
        if _identity(known) != _identity(workload.info):
            raise UsageError(
                f"two workloads are called {known.name}: "
                f"in {known.path} and in {workload.info.path}",
                remedy=f"give the one in {workload.info.path} another name",
            )
    return found


def _identity(info: WorkloadInfo) -> tuple[Path, str]:
    """The same for one that several files import."""
    return Path(info.path).resolve(), info.definition


def _module(file: Path) -> ModuleType:
    """The file as a module of a name that no other has."""
    name = f"vbench_workload_file_{str(file).encode().hex()}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(
            f"the workload file {file} is no Python file",
            remedy="name it bench_*.py or scenario_*.py",
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        execute(spec, module)
    except BaseException as error:
        del sys.modules[name]
        if asked_to_end(error):
            raise
        raise UsageError(
            f"the workload file {file} cannot be loaded: {named(error)}",
            remedy="mend the file",
        ) from error
    return module


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    for name, each in vars(module).items():
        gets = next((gets for prefix, gets in _GETS.items() if name.startswith(prefix)), None)
        if gets is None or not isinstance(each, FunctionType):
            continue
        if gets in inspect.signature(each).parameters:
            yield each
        elif each.__module__ == module.__name__:  # else it would just never be measured
            raise UsageError(
                f"{name} in {module.__file__} takes no `{gets}`",
                remedy=f"def {name}({gets}), or another name if it is no workload",
            )


def _callable_by_us(workload: Workload) -> None:
    """Raises UsageError for what needs pytest's fixtures or marks."""
    gets = _GETS[SCENARIO_PREFIX if workload.info.scenario else PREFIX]
    parameters = inspect.signature(workload.function).parameters.values()
    needed = [
        f"the fixture {each.name}"
        for each in parameters
        if each.name != gets and each.default is each.empty
    ]
    needed += [
        f"the mark {mark.name}" for mark in marks(workload.function) if mark.name in _PYTEST_ONLY
    ]
    if needed:
        raise UsageError(
            f"workload {workload.info.name} in {workload.info.path} needs {', '.join(needed)} of "
            f"pytest, and `vbench run` gives it `{gets}` alone",
            remedy=f"{PYTEST_WAY} {workload.info.path} --backend VARIANT",
        )
