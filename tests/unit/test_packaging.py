"""The shape of the code: which package may import which, and what a wheel holds."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from vbench.contract.registry import Registry
from vbench.run.collecting import collect

ROOT = Path(__file__).parents[2]

# Packages from low to high: a module imports from lower lines and its own package only.
LAYERS = [
    {"errors", "records"},
    {"model"},
    {"system"},
    {"results"},
    {"contract"},
    {"image", "report"},
    {"hosts"},
    {"guest"},
    {"hypervisors"},
    {"testbed", "measure"},
    {"run"},
    {"cli", "pytest_plugin"},
]

NEEDS_ONLY = {
    "report": {"errors", "records", "model", "results"},
    "results": {"errors", "records", "model", "system"},
    "plugins": {"errors", "records", "model", "contract", "guest", "hypervisors", "results"},
    "workloads": {"errors", "records", "measure", "contract"},
}
STANDARD_LIBRARY_ONLY = ("errors.py", "records.py", "model.py", "system")
ONLY_IMPORTERS = {
    "elftools": {"vbench/image/elf.py"},
    "paramiko": {"vbench/hosts/ssh.py"},
    "qemu": {"vbench/hypervisors/qemu/qmp.py"},
    "pytest": {"vbench/pytest_plugin.py", "workloads/"},
}


@cache
def sources() -> list[Path]:
    folders = ("vbench", "plugins", "workloads")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    # rglob does not follow vbench/plugins and vbench/workloads, which are symlinks.
    return sorted(path for path in files if "__pycache__" not in path.parts)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Dotted names that `path` imports, those for types alone included."""

    def walk(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            # `from vbench.x import y` may name a module or what is in one
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    return tuple(walk(parsed(path)))


def package(name: str) -> str:
    """The package of a dotted name below vbench: "results.stats" -> "results"; "" if none."""
    first = name.partition(".")[0]
    known = {each for layer in LAYERS for each in layer} | {"plugins", "workloads"}
    return first if first in known else ""


def module(path: Path) -> str:
    relative = path.relative_to(ROOT).with_suffix("")
    parts = [part for part in relative.parts if part != "__init__"]
    return ".".join(parts).removeprefix("vbench.")


def level(name: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


def used_packages(path: Path) -> set[str]:
    return {
        found
        for name in imports(path)
        if name.startswith("vbench.") and (found := package(name.removeprefix("vbench.")))
    }


def test_every_module_has_a_package() -> None:
    core = [module(path) for path in sources() if path.is_relative_to(ROOT / "vbench")]
    assert [name for name in core if name != "vbench" and not package(name)] == []


# What may name them: the format's history, and the workloads that fill the document's table.
NAMING = {"vbench/results/history.py", "vbench/report/reference.py"}


def test_the_core_knows_no_backend_and_no_workload_by_name() -> None:
    """But for the folder of each hypervisor, which is no core. They declare what it must know."""
    workloads = {
        each.info.name for each in collect(sorted((ROOT / "workloads").glob("bench_*.py")))
    }
    # a single word is one of the language, too: "machine"
    names = {name for name in {*Registry.load().backends, *workloads} if "-" in name}
    assert {"kvm-virtio", "cpu-prime"} <= names
    whole = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, names))})(?![\w-])")
    wrong = []
    for path in (ROOT / "vbench").rglob("*.py"):
        relative = str(path.relative_to(ROOT))
        if relative in NAMING or relative.startswith("vbench/hypervisors/"):
            continue
        wrong += [f"{relative}: {name}" for text in texts(path) for name in whole.findall(text)]
    assert wrong == []


def test_a_host_has_no_word_of_any_hypervisor() -> None:
    text = (ROOT / "vbench/contract/host.py").read_text()
    assert re.findall(r"(?i)qemu|kvm|xen|virtualbox", text) == []


def texts(path: Path) -> Iterator[str]:
    """The strings of a module that are no documentation."""
    tree = parsed(path)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(tree)
        if isinstance(node, documented)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value not in docs
        ):
            yield node.value


def test_imports_point_one_way() -> None:
    wrong = []
    for path in sources():
        own = package(module(path))
        if own in {"", "plugins", "workloads"}:
            continue
        wrong += [
            f"{path.relative_to(ROOT)} imports {used}"
            for used in used_packages(path) - {own}
            if used in {"plugins", "workloads"} or level(used) >= level(own)
        ]
    assert wrong == []


def test_the_picture_of_the_architecture_has_imports_for_arrows() -> None:
    picture = (ROOT / "docs/architecture.md").read_text()
    arrows = re.findall(r"^    (\w+)[^\n]*? -\.?->\|? *(\w+)", picture, re.MULTILINE)
    assert len(arrows) > 10
    made = {(package(module(path)), used) for path in sources() for used in used_packages(path)}
    names = {"pytest": "pytest_plugin"}
    assert {(names.get(a, a), names.get(b, b)) for a, b in arrows} - made == set()


def test_no_modules_name_each_other_in_a_circle() -> None:
    """Those that they name for types alone count, too."""
    of = {module(path): path for path in sources()}
    below: dict[str, set[str]] = {name: set() for name in of}
    for name, path in of.items():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and node.module:
                where = node.module.removeprefix("vbench.")
                for each in node.names:
                    inner = f"{where}.{each.name}"
                    below[name] |= {inner if inner in of else where} & of.keys()
    try:
        graphlib.TopologicalSorter(below).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("name", NEEDS_ONLY)
def test_some_packages_need_few(name: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {used}"
        for path in sources()
        if package(module(path)) == name
        for used in used_packages(path) - NEEDS_ONLY[name] - {name}
        # The built-in workloads register like anybody's: that plugin names their folder.
        if (path.name, used) != ("workloads.py", "workloads")
    ]
    assert wrong == []


@pytest.mark.parametrize("name", STANDARD_LIBRARY_ONLY)
def test_standard_library_only(name: str) -> None:
    place = ROOT / "vbench" / name
    files = place.rglob("*.py") if place.is_dir() else [place]
    tops = {found.partition(".")[0] for file in files for found in imports(file)}
    assert tops - set(sys.stdlib_module_names) - {"vbench"} == set()


@pytest.mark.parametrize("library", ONLY_IMPORTERS)
def test_a_library_has_one_importer(library: str) -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in sources()
        if library in {name.partition(".")[0] for name in imports(path)}
    }
    allowed = tuple(ONLY_IMPORTERS[library])
    assert {user for user in users if not user.startswith(allowed)} == set()


def test_text_files_and_output_of_programs_have_an_encoding() -> None:
    """Else it is the locale's, and results or reports could not be read elsewhere."""
    wrong = []
    for path in sources():
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.Call):
                continue
            named = {keyword.arg for keyword in node.keywords}
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if (method in {"read_text", "write_text"} or "text" in named) and (
                "encoding" not in named and method != "add_parser"
            ):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []


@pytest.mark.parametrize("name", ["doctor", "packages", "kvm_probe"])
def test_runs_without_site_packages(name: str) -> None:
    code = f"import vbench.system.{name}"
    subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, check=True, timeout=30)


def test_the_wheel_holds_the_package_alone(tmp_path: Path) -> None:
    """Built offline by setuptools itself, as pip would from an sdist or a clone."""
    # From this version on setuptools makes wheels without further packages.
    pytest.importorskip("setuptools", minversion="70.1")
    for name in ("vbench", "plugins", "workloads", "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        # The symlinks stay symlinks, as in a clone.
        subprocess.run(["cp", "-a", source, tmp_path], check=True, timeout=30)
    code = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        check=True,
        timeout=60,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"vbench"}
    wanted = {
        str(path.relative_to(ROOT)).replace("workloads/", "vbench/workloads/", 1)
        if path.is_relative_to(ROOT / "workloads")
        else str(path.relative_to(ROOT)).replace("plugins/", "vbench/plugins/", 1)
        for path in [
            *sources(),
            *(ROOT / "workloads").glob("*.[ci]*"),
            ROOT / "vbench/image/init",
            *(ROOT / "vbench/report").glob("page.*"),
        ]
    }
    assert wanted - names == set()


def test_the_packages_listed_are_the_packages_there() -> None:
    """setuptools is told them by name, so a new folder is easily forgotten."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent for path in (ROOT / "vbench").rglob("__init__.py")}
    there = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(listed) == there | {"vbench.plugins", "vbench.workloads"}
