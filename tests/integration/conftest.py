"""Real runs of the `vbench` command, and proof that each of them cleaned up behind itself."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vbench import image
from vbench.hosts.local import LocalHost
from vbench.model import ImageFiles
from vbench.testbed import TestbedHost


def until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether `condition` came true within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def processes(folder: Path) -> list[str]:
    """Other processes whose command lines name `folder`: "pid: command line"."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and int(path.parent.name) != os.getpid():
            found.append(f"{path.parent.name}: {line}")
    return found


@pytest.fixture(autouse=True)
def turn(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Iterator[None]:
    """Tests marked `alone` have the machine for themselves, all others run side by side.

    Whoever waits for the machine alone holds the door, so that no other test enters meanwhile.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = folder if worker_id == "master" else folder.parent  # of all workers of this run
    alone = request.node.get_closest_marker("alone") is not None
    with (folder / "door").open("w") as door, (folder / "room").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


@pytest.fixture(scope="session")
def files() -> ImageFiles:
    return image.ensure()


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("vbench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VBENCH_TMP", str(path))
        yield path


@pytest.fixture(scope="module")
def host(tmp: Path) -> Iterator[LocalHost]:
    """This machine, which is left as it was."""
    made = LocalHost()
    yield made
    made.close()
    assert list(tmp.iterdir()) == []
    assert processes(tmp) == []


# Tests that run in the background, or under nohup, hand on signals that are ignored.
ALL_SIGNALS = (str(shutil.which("env")), "--default-signal=INT,HUP,QUIT")


@dataclasses.dataclass
class Vbench:
    """Runs `vbench` in folders of its own, so that all it leaves behind can be found."""

    root: Path
    tmp: Path  # short, for sockets lie in it

    @property
    def out(self) -> Path:
        return self.root / "out"

    def start(self, *words: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*ALL_SIGNALS, sys.executable, "-m", "vbench.cli", *map(str, words)],
            cwd=self.root,
            env={
                **os.environ,
                "VBENCH_TMP": str(self.tmp),
                "VBENCH_LOCK": str(self.root / "lock"),
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, **environment)
        stdout, stderr = process.communicate(timeout=240)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def measure(self, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """`vbench run` on tcg-virtio into `out`."""
        return self.run("run", "--backend", "tcg-virtio", "--out", self.out, *words, **environment)

    def workload(self, text: str, name: str = "bench_given.py") -> Path:
        """A workload file of the user's own."""
        path = self.root / name
        head = "import pytest\nfrom vbench.measure import parsers\n"
        path.write_text(
            f'{head}pytestmark = pytest.mark.workload(category="cpu", unit="step")\n{text}'
        )
        return path

    def processes(self) -> list[str]:
        """Command lines of all processes that have to do with this test's temporary folders."""
        return list(dict.fromkeys([*processes(self.root), *processes(self.tmp)]))

    def qemu(self) -> int | None:
        """The pid of this test's QEMU."""
        pids = [int(line.split(":")[0]) for line in self.processes() if "qemu-system" in line]
        return pids[0] if pids else None

    def json(self) -> dict[str, Any]:
        """The one result file."""
        (path,) = self.out.glob("*.json")
        loaded: dict[str, Any] = json.loads(path.read_text())
        return loaded

    def pairs(self, workload: str) -> int:
        """How many finished pairs of a workload are in the result file."""
        for entry in self.json()["benchmarks"]:
            if entry["extra_info"]["vbench"]["workload"] == workload:
                return len(entry["extra_info"]["vbench"]["pairs"])
        return 0

    def reason(self, workload: str) -> str:
        (item,) = [i for i in self.json()["vbench"]["items"] if i["workload"] == workload]
        return str(item["reason"])

    def left(self) -> list[str]:
        """Processes and files that are still there, after a moment to end."""
        until(lambda: not self.processes() and not any(self.tmp.iterdir()), 3)
        return [*self.processes(), *map(str, self.tmp.iterdir())]


@pytest.fixture(scope="module")
def testbed() -> Iterator[TestbedHost]:
    """One for each file: some of its last tests end it."""
    host = TestbedHost.parse("testbed", image.ensure)
    yield host
    host.close()


@pytest.fixture
def vbench(tmp_path: Path) -> Iterator[Vbench]:
    """Every test that uses it also proves that nothing was left behind."""
    with tempfile.TemporaryDirectory(prefix="vb-") as short:
        each = Vbench(tmp_path, Path(short))
        yield each
        left = each.left()
        for line in left:  # so that one failure does not become many
            if line[0].isdigit():
                os.kill(int(line.split(":")[0]), signal.SIGKILL)
    assert left == []
