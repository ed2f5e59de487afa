"""What unit tests share: properties without a deadline, a session whose guests are shells."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shell_backend
from hypothesis import settings
from shell_backend import CAN, GUESTS, Guests, ShellBackend
from shell_runs import Main, Runs

from vbench.cli import main as cli
from vbench.contract.registry import Registry, Variant
from vbench.hosts import local, lock
from vbench.hosts.local import LocalHost
from vbench.image import build, rootfs
from vbench.measure.plan import Plan
from vbench.model import ImageFiles
from vbench.results.history import SCHEMA_VERSION
from vbench.run import opening
from vbench.run.book import Book
from vbench.run.series import Series
from vbench.run.session import Session
from vbench.system import filelock
from vbench.system.facts import facts as host_facts

# A busy machine is not a fault.
settings.register_profile("vbench", deadline=None)
settings.load_profile("vbench")

# pytest-benchmark writes nothing where it reads this, and tests start runs of vbench.
os.environ.pop("PYTEST_XDIST_WORKER", None)


@pytest.fixture(autouse=True, scope="session")
def _no_wait_for_the_disk() -> Iterator[None]:
    """No test outlives a loss of power, and each of a thousand writes would wait for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def guests() -> Guests:
    for each in (GUESTS.launches, GUESTS.attests, GUESTS.made, GUESTS.closed):
        each.clear()
    GUESTS.capabilities = CAN
    return GUESTS


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> ImageFiles:
    return shell_backend.small_image(tmp_path_factory.mktemp("image"))


@pytest.fixture
def images_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an image cache of this test's own."""
    monkeypatch.setenv("VBENCH_CACHE", str(tmp_path))
    return tmp_path / "images"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    made.mkdir()
    return made


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHost]:
    """One for all: to ask what it is takes half a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VBENCH_TMP", str(tmp_path_factory.mktemp("work")))
        yield LocalHost()


@pytest.fixture
def series(host: LocalHost, guests: Guests) -> Series:
    backend = ShellBackend()
    return Series(host, Variant("shell", backend, backend.options))


@pytest.fixture
def session(series: Series, out: Path, image: ImageFiles) -> Iterator[Session]:
    backend = ShellBackend()
    options = shell_backend.ShellOptions(vcpus=2)
    other = Series(series.host, Variant("shell,vcpus=2", backend, options))
    registry = Registry()
    registry.backends["shell"] = backend
    plan = Plan(boots=3, rounds=2, target_s=0.001, command_timeout_s=5.0)
    book = Book(
        [series, other],
        image=image.digest,
        out=out,
        argv=("vbench", "run"),
        seed=7,
        unavailable={"local": [("kvm", "hardware-assisted", "no", "buy")]},
    )
    head = {"schema_version": SCHEMA_VERSION, "started": book.started}
    book.note("run", **head, seed=7, options={}, same={})
    with Session(registry=registry, book=book, image=image, plan=plan) as made:
        yield made
    assert len(GUESTS.closed) == len(GUESTS.made)


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The probe, compiled once for all by whichever of xdist's workers comes first. Each has a
    copy: tests look for processes by its path."""
    top = tmp_path_factory.getbasetemp()
    folder = (top.parent if hasattr(request.config, "workerinput") else top) / "probe"
    folder.mkdir(exist_ok=True)
    made = folder / "vbench-probe"
    with filelock.locked(str(folder / "lock"), mode=0o600, timeout_s=300.0, on_wait=lambda _: None):
        if not made.exists():
            rootfs.compile_probe(build.PROBE, made)
    return Path(shutil.copy(made, tmp_path_factory.mktemp("probe-")))


@pytest.fixture(scope="session")
def scipy() -> Any:
    """The oracle of our statistics. Only tests that ask it wait until it is loaded."""
    return importlib.import_module("scipy")


@pytest.fixture(scope="session")
def facts() -> dict[str, str]:
    """Those of this machine, asked once for all runs: it takes half a second."""
    return host_facts(LocalHost())


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Any, facts: dict[str, str]
) -> Iterator[Runs]:
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    monkeypatch.setenv("VBENCH_TMP", str(tmp))
    monkeypatch.setattr(lock, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(opening, "ensure_image", lambda *_: image)
    monkeypatch.setattr(local, "host_facts", lambda _: dict(facts))
    monkeypatch.chdir(tmp_path)
    made = Runs(tmp_path)
    yield made
    assert list(tmp.iterdir()) == []
    if "vbench_plugin_file_shell_backend" in sys.modules:
        assert len(made.guests.closed) == len(made.guests.made)


@pytest.fixture
def main(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Main:
    """`vbench WORDS...` in an empty folder: exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VBENCH_TMP", str(tmp_path))
    monkeypatch.setattr(lock, "LOCK", str(tmp_path / ".lock"))

    def call(*words: object) -> tuple[int, str, str]:
        try:
            status = cli.main([str(word) for word in words])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        said = capfd.readouterr()
        return status, said.out, said.err

    return call
