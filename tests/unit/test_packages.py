"""`vbench setup` on this machine, and on machines with other tools than it."""

from __future__ import annotations

import io
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from small_images import Builder

from vbench.system import packages
from vbench.system.packages import NOWHERE, PACKAGES, Need, Package, by_hand, missing
from vbench.system.recipe import debian_key

ROOT = Path(__file__).parents[2]
ODD = Package("vbench-no-such-package", "a test of it", ("vbench-no-such-command",), Need.HERE)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH to put commands into; each logs its argv to ./log."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put(folder: Path, name: str, script: str = "") -> None:
    path = folder / name
    log = folder.parent / "log"
    path.write_text(f'#!/bin/sh\necho "{name} $*" >>{log}\n{script}\n')
    path.chmod(0o755)


def log(folder: Path) -> list[str]:
    path = folder.parent / "log"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="not a Debian system")
def test_dpkg_knows_what_is_installed() -> None:
    everywhere = Package("dpkg", "itself", ("dpkg",), Need.HERE)
    assert missing([everywhere, ODD]) == [ODD]


def test_without_dpkg_the_tools_tell(tools: Path) -> None:
    put(tools, "here")
    wanted = [
        Package("a", "", ("here",), Need.HERE),
        Package("b", "", ("here", "vbench-not-here"), Need.HERE),
        Package("c", "", ("/etc",), Need.HERE),
        Package("d", "", ("/no/such/path",), Need.HERE),
    ]
    assert [package.name for package in missing(wanted)] == ["b", "d"]


def test_a_python_that_makes_environments_needs_no_package(tools: Path) -> None:
    """As uv's and conda's do: python3-venv is Debian's own split of the standard library."""
    venv = Package("venv", "", ("vbench-not-here",), Need.HERE, module="json")
    split_off = Package("venv", "", ("vbench-not-here",), Need.HERE, module="vbench_not_here")
    assert missing([venv, split_off]) == [split_off]


def test_a_package_that_is_removed_but_configured_is_missing(tools: Path) -> None:
    put(tools, "dpkg-query", "printf 'gcc rc \\nlz4 ii \\n'; exit 1")
    found = missing(p for p in PACKAGES if p.name in {"gcc", "lz4"})
    assert [package.name for package in found] == ["gcc"]


def test_each_package_once_with_a_reason() -> None:
    names = [package.name for package in PACKAGES]
    assert len(set(names)) == len(names)
    assert all(package.reason and package.tools for package in PACKAGES)
    assert {name for p in PACKAGES for name in p.elsewhere} <= set(packages.INSTALL)


@pytest.mark.parametrize("name", [name for name in packages.INSTALL if name != "apt-get"])
def test_other_systems_get_exact_words(name: str) -> None:
    text = by_hand(PACKAGES, name)
    assert f"sudo {packages.INSTALL[name]} " in text
    assert NOWHERE not in text
    for package in PACKAGES:
        if package.elsewhere.get(name) == NOWHERE:
            assert package.name in text


def test_an_unknown_system_gets_the_debian_names(
    tools: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packages, "PACKAGES", (ODD,))
    assert packages.setup() == packages.CANNOT
    out = capsys.readouterr().out
    assert "No known package manager" in out
    assert ODD.name in out


def test_a_dnf_system_exits_3(
    tools: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tools, "dnf")
    monkeypatch.setattr(packages, "PACKAGES", (ODD,))
    assert packages.setup() == packages.CANNOT
    assert f"sudo dnf install {ODD.name}" in capsys.readouterr().out
    assert log(tools) == []


def debian(tools: Path, monkeypatch: pytest.MonkeyPatch, *, root: bool, lists: bool) -> None:
    put(tools, "dpkg-query")
    put(tools, "apt-get")
    put(tools, "env", 'while case $1 in *=*) ;; *) false ;; esac; do shift; done; exec "$@"')
    folder = tools.parent / "lists"
    folder.mkdir()
    if lists:
        (folder / "deb_Packages").touch()
    monkeypatch.setattr(packages, "LISTS", folder)
    monkeypatch.setattr(packages, "PACKAGES", (ODD,))
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)


def apts(tools: Path) -> list[str]:
    """What was asked of apt-get, without options."""
    lines = [line for line in log(tools) if line.startswith("apt-get ")]
    return [" ".join(w for w in line.split() if not w.startswith(("-", "D"))) for line in lines]


def test_root_installs_without_update_where_there_are_lists(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian(tools, monkeypatch, root=True, lists=True)
    assert packages.setup() == 0
    assert apts(tools) == [f"apt-get install {ODD.name}"]
    assert all("--no-install-recommends" in line for line in log(tools) if "install" in line)


def test_update_comes_first_where_there_are_no_lists(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian(tools, monkeypatch, root=True, lists=False)
    assert packages.setup() == 0
    assert apts(tools) == ["apt-get update", f"apt-get install {ODD.name}"]


def test_stale_lists_are_fetched_again(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debian(tools, monkeypatch, root=True, lists=True)
    seen = tools.parent / "seen"
    put(
        tools,
        "apt-get",
        f'case "$*" in *update*) : >{seen} ;; *) [ -e {seen} ] || exit 100 ;; esac',
    )
    assert packages.setup() == 0
    install = f"apt-get install {ODD.name}"
    assert apts(tools) == [install, "apt-get update", install]


def test_a_failing_apt_is_told(
    tools: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    debian(tools, monkeypatch, root=True, lists=False)
    put(tools, "apt-get", "exit 100")
    assert packages.setup() == 1
    assert "apt-get failed" in capsys.readouterr().err
    assert apts(tools) == ["apt-get update"]


def test_a_plain_user_goes_through_sudo(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debian(tools, monkeypatch, root=False, lists=True)
    put(tools, "sudo", 'shift; exec "$@"')
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert packages.setup() == 0
    assert any(line.startswith("sudo -n env DEBIAN_FRONTEND=") for line in log(tools))


def test_neither_root_nor_sudo_is_told_the_command(
    tools: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    debian(tools, monkeypatch, root=False, lists=True)
    assert packages.setup() == packages.CANNOT
    assert (
        f"apt-get -y -q -o DPkg::Lock::Timeout=120 install --no-install-recommends {ODD.name}"
        in (capsys.readouterr().out)
    )
    assert apts(tools) == []


def test_dry_run_does_nothing(
    tools: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    debian(tools, monkeypatch, root=True, lists=True)
    assert packages.setup(dry_run=True) == 0
    assert "would run:\n  env DEBIAN_FRONTEND=noninteractive apt-get" in capsys.readouterr().out
    assert apts(tools) == []


def test_libvirt_fleet_and_test_add_packages(monkeypatch: pytest.MonkeyPatch, tools: Path) -> None:
    asked: list[list[Package]] = []

    def none_missing(wanted: Iterable[Package]) -> list[Package]:
        asked.append(list(wanted))
        return []

    monkeypatch.setattr(packages, "missing", none_missing)
    for more in ({}, {"libvirt": True}, {"fleet": True}, {"test": True}):
        assert packages.setup(**more) == 0
    plain, libvirt, fleet, test = ({p.name for p in each} for each in asked)
    assert fleet - plain == {"ansible-core"}
    assert libvirt - plain == {
        "libvirt-daemon-system",
        "libvirt-daemon-driver-qemu",
        "libvirt-clients",
    }
    assert test - libvirt == {
        "ansible-core",
        "virtinst",
        "openssh-server",
        "tcsh",
        "qemu-user",
        "git",
    }


IMAGE_TOOL = Package("mm", "fetches", ("vbench-not-here",), Need.IMAGE, {"pacman": NOWHERE})
OPTION = Package("lz", "unpacks", ("vbench-not-here",), Need.OPTION)


@pytest.mark.parametrize(
    ("lacking", "status", "hint"),
    [((IMAGE_TOOL, OPTION), 0, True), ((OPTION,), 0, False), ((IMAGE_TOOL, ODD), 3, True)],
)
def test_what_only_builds_images_may_be_missing(
    tools: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    images_folder: Path,
    lacking: tuple[Package, ...],
    status: int,
    hint: bool,
) -> None:
    """An image can be imported: ./bench goes on, and makes the environment to do so."""
    put(tools, "pacman")
    monkeypatch.setattr(packages, "PACKAGES", lacking)
    assert packages.setup() == status
    assert ("vbench image import FILE" in capsys.readouterr().out) == hint


def test_with_an_image_in_the_cache_nothing_to_build_one_is_asked_for(images_folder: Path) -> None:
    needs = {package.need for package in packages.needed_here(test=True)}
    assert needs == set(Need)
    Builder().get()  # of another version of vbench
    assert {package.need for package in packages.needed_here(test=True)} == set(Need)
    Builder(key=debian_key()).get()
    needs = {package.need for package in packages.needed_here(test=True)}
    assert needs == set(Need) - {Need.IMAGE}


def test_a_command_is_traced_to_its_package() -> None:
    assert packages.package_of("cc") == "gcc"
    assert packages.package_of("taskset") == "util-linux"
    assert packages.package_of("unheard-of") == "unheard-of"


def test_what_is_run_on_every_host_is_asked_for_there() -> None:
    """What native's ways in, the network and processes that end with us call by name."""
    tools = {tool for each in PACKAGES if each.need is Need.GUESTS for tool in each.tools}
    assert {"setpriv", "unshare", "nsenter", "taskset", "mount", "ip"} <= tools


def test_it_is_fast() -> None:
    """Asking for everything, here, with Python's own start: what each ./bench pays."""
    times = []  # of the processor: a busy machine is not our slowness
    for _ in range(3):
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        argv = [sys.executable, "-m", "vbench.system", "--dry-run"]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, check=False, timeout=30)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)
        assert done.returncode in {0, packages.CANNOT}
    assert min(times) < 0.3
