"""The command line: exit statuses, what is said, and how fast it answers."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import shell_backend
from shell_runs import Main

from vbench.cli import commands
from vbench.hosts.local import LocalHost
from vbench.hypervisors.machine.backend import MachineBackend
from vbench.hypervisors.qemu.backend import QemuBackend
from vbench.hypervisors.uml.backend import UmlBackend
from vbench.hypervisors.xen.backend import XenBackend
from vbench.model import Availability
from vbench.run import opening

PLUGIN = ("--plugin", shell_backend.__file__)


SECOND = """
from vbench.contract.hookspecs import hookimpl
from vbench.plugins.tcg import BACKEND

@hookimpl
def vbench_backends():
    return [BACKEND]
"""


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small image instead of the real one."""
    made = shell_backend.small_image(tmp_path)
    for room in (opening, commands):
        monkeypatch.setattr(room, "ensure_image", lambda *_: made)


# ------------------------------------------------------------------ answering at once

_HEAVY = (
    *("pytest", "pytest_benchmark", "paramiko", "cryptography"),
    *("qemu.qmp", "asyncio", "tabulate", "pluggy"),
)


def test_help_imports_nothing_heavy() -> None:
    script = f"""
import contextlib, io, sys
from vbench.cli.main import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(["--help"])
print([name for name in {_HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"[]\n"


def test_help_is_quick() -> None:
    """By processor time, the least of some: a busy machine is not our slowness."""
    took = []
    for _ in range(5):
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "vbench.cli", "--help"], stdout=subprocess.DEVNULL, check=True
        )
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)
        if took[-1] < 0.3:
            break
    assert min(took) < 0.3


@pytest.mark.parametrize(
    "command",
    "run report compare doctor setup backends workloads exec shell image".split(),  # noqa: SIM905
)
def test_every_command_has_help(main: Main, command: str) -> None:
    status, out, _ = main(command, "--help")
    assert status == 0
    assert f"usage: vbench {command}" in out
    assert "exit status:" in out


def test_version(main: Main) -> None:
    status, out, _ = main("--version")
    assert status == 0
    assert out.startswith("vbench 0.")


# ------------------------------------------------------------------ wrong words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "COMMAND"),
        (("rnu",), "invalid choice: 'rnu'"),
        (("run", "--rounds", "0"), "0 is not at least 1"),
        (("run", "--rounds", "-1"), "-1 is not at least 1"),
        (("run", "--boots", "0"), "0 is not at least 1"),
        (("run", "--rounds", "many"), "argument --rounds: 'many' is not a whole number"),
        (("run", "--precision", "0%"), "0% is not 0.1% to 100%"),
        (("run", "--precision", "2%", "--boots", "3"), "not allowed with argument"),
        (("report", ".", "-o", ""), "argument -o/--output: a path must not be empty"),
        (("report", ""), "argument PATH: a path must not be empty"),
        (("run", "--out", ""), "argument --out: a path must not be empty"),
        (("run", "--boots", "x"), "argument --boots: 'x' is not a whole number"),
        (("run", "--seed", "x"), "argument --seed: 'x' is not a whole number"),
        (("run", "--resume", "a", "--boots", "2"), "--resume takes everything from the run"),
        (("run", "--resume", "absent"), "absent holds no run that can be continued"),
        (("run", "--plugin", "nope.py"), "there is no plugin file nope.py"),
        (("backends", "--plugin", "nope.py"), "there is no plugin file nope.py"),
        (("workloads", "nope.py"), "there is no workload file nope.py"),
        (("exec", "tcg", "uname"), "a command stands after --: vbench exec tcg -- uname"),
        (("exec", "tcg", "uname", "-r"), "vbench exec tcg -- uname -r"),
        (("image", "remove", "--unused", "x"), "'x' is not a number"),
        (("run", "--back", "tcg"), "unrecognized arguments: --back"),
        (("run", "--backend", "tgc"), "did you mean 'tcg'?"),
        (("run", "--backend", "tcg,vcpu=2"), "did you mean 'vcpus'?"),
        (("run", "--backend", "tcg", "--backend", "tcg,vcpus=1"), "named twice"),
        (("run", "--host", "moon"), "there is no host 'moon'"),
        (("run", "--kernel", "nofile", "--backend", "tcg"), "there is no kernel file nofile"),
        (("run", "--kernel", "/etc/passwd", "--backend", "tcg"), "/etc/passwd is no kernel"),
        (("ab", "tcg"), "the following arguments are required: B\n"),
        (("run", "--backend", "tcg,vcpus=x"), "option vcpus takes a whole number, not 'x'"),
        (("backends", "--kernel", "nofile"), "there is no kernel file nofile"),
        (("doctor", "--kernel", "nofile"), "there is no kernel file nofile"),
        (("run", "--modules", "/", "--backend", "tcg"), "are those of no kernel file"),
        (("run", "absent.py"), "there is no workload file absent.py"),
        (("run", "--", "true"), "takes no command after --"),
        (("exec", "tcg"), "there is no command"),
        (("exec", "tcg", "--"), "there is no command"),
        (("exec", "tgc", "--", "true"), "did you mean 'tcg'?"),
        (("shell", "tcg"), "needs a terminal"),
        (("compare", "a"), "NEW"),
        (("compare", "a", "b", "--fail-above", "-1"), "-1"),
        (("compare", "a", "b", "--fail-above", "x"), "'x' is not a number"),
        (("report",), "PATH"),
        (("image",), "ACTION"),
    ],
)
def test_usage_errors(main: Main, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    status, out, err = main(*words)
    assert status == 2
    assert said in err
    assert out == ""
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir() if path.name not in {".lock"}] == []


@pytest.mark.parametrize("command", [("run",), ("ab", "tcg", "tcg"), ("exec", "tcg", "--", "true")])
@pytest.mark.parametrize("folder", ["relative", "/proc", "/etc/passwd", "/absent"])
def test_a_folder_of_vbench_tmp_that_is_of_no_use_is_told_at_once(
    main: Main, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], folder: str
) -> None:
    monkeypatch.setenv("VBENCH_TMP", folder)
    status, out, err = main(*command)
    assert (status, out) == (2, "")
    assert "VBENCH_TMP is " in err
    assert folder in err


def test_results_are_never_overwritten(main: Main, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    status, _, err = main("run", "--backend", "tcg", "--out", "out")
    assert status == 2
    assert "out is not empty" in err
    assert "--out" in err


def test_out_is_a_file(main: Main, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    assert main("run", "--backend", "tcg", "--out", "out")[0] == 2
    status, _, err = main("run", "--backend", "tcg", "--out", "out/below")
    assert status == 2
    assert "out/below is not writable" in err


def test_out_is_not_writable(main: Main) -> None:
    status, _, err = main("run", "--backend", "tcg", "--out", "/proc/vbench")
    assert status == 2
    assert "/proc/vbench is not writable" in err
    assert "name another folder" in err


def test_a_folder_of_the_users_is_left(main: Main, tmp_path: Path, image: None) -> None:
    """A run that measures nothing removes what it made and nothing else."""
    (tmp_path / "out").mkdir()
    main("run", "--backend", "nowhere", "--out", "out", *PLUGIN)
    assert list((tmp_path / "out").iterdir()) == []
    main("run", "--backend", "nowhere", "--out", "new", *PLUGIN)
    assert not (tmp_path / "new").exists()


# ------------------------------------------------------------------ what cannot be done here


def test_a_named_backend_that_cannot_run(main: Main, image: None) -> None:
    for words in (("run", "--backend", "nowhere", "--out", "o"), ("exec", "nowhere")):
        tail = ("--", "true") if words[0] == "exec" else ()
        status, _, err = main(*words, *PLUGIN, *tail)
        assert status == 3
        assert "nowhere cannot run on local: there is no such CPU" in err
        assert "-> buy one" in err


def test_files_may_stand_before_and_after_options(main: Main, tmp_path: Path) -> None:
    """argparse takes them in one place only."""
    first = tmp_path / "bench_first.py"
    first.write_text("")
    status, _, err = main("workloads", str(first), "--json", "nope.py")
    assert status == 2
    assert "there is no workload file nope.py" in err
    status, _, err = main("report", "absent", "-o", str(tmp_path / "out.md"), "other")
    assert status == 5
    assert "absent cannot be read" in err


@pytest.mark.parametrize(
    "command", [("backends",), ("exec", "xen-pv", "--", "true"), ("run", "--backend", "xen-pv")]
)
def test_a_host_that_cannot_be_reached_is_not_taken_for_an_empty_one(
    main: Main, image: None, command: tuple[str, ...]
) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"ssh://root@127.0.0.1:{taken.getsockname()[1]}"
        status, _, err = main(command[0], "--host", address, *command[1:])
    assert status == 3
    assert f"no SSH login to {address}" in err
    assert "connect once by hand" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0\n", "cannot be loaded: ZeroDivisionError"),
        ("raise SystemExit(3)\n", "cannot be loaded: SystemExit: 3"),
        ("import os\nos._exit(3)\n", "cannot be loaded: SystemExit: os._exit(3)"),
        ("import os\nif not os.fork():\n    os._exit(3)\n1 / 0\n", "ZeroDivisionError"),
        ("backends = []\n", "mine.py has no hook, so it adds nothing"),
        (SECOND, "mine.py calls its backend 'tcg', but the plugin tcg has a backend of that name"),
    ],
)
def test_a_plugin_file_that_cannot_be_used_is_refused(
    main: Main, tmp_path: Path, text: str, said: str
) -> None:
    """Somebody asked for it: nothing is measured without it."""
    (tmp_path / "mine.py").write_text(text)
    for command in ("backends", "run"):
        status, out, err = main(command, "--plugin", tmp_path / "mine.py")
        assert (status, out) == (2, "")
        assert said in err
        assert "mine.py" in err
    assert not (tmp_path / "vbench-results").exists()


# ------------------------------------------------------------------ lists


def test_backends(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in (MachineBackend, QemuBackend, UmlBackend, XenBackend):  # nothing is started
        monkeypatch.setattr(backend, "probe", lambda *_: Availability(False, "off", "switch it on"))
    status, out, _ = main("backends", *PLUGIN)
    assert status == 0
    assert "nowhere: there is no such CPU\n  -> buy one" in out
    assert "tcg, tcg-virtio: vcpus=1 memory=512 " in out
    assert "firmware=off" in out
    status, out, _ = main("backends", "--json", *PLUGIN)
    rows = {row["backend"]: row for row in json.loads(out)}
    assert rows["shell"]["available"] is True
    assert rows["nowhere"]["available"] is False
    assert rows["tcg"]["options"]["vcpus"] == 1


def test_workloads(main: Main, tmp_path: Path) -> None:
    status, out, _ = main("workloads")
    assert status == 0
    assert "syscall-getppid" in out
    rows = json.loads(main("workloads", "--json")[1])
    assert {row["category"] for row in rows} >= {"cpu", "memory", "disk", "network", "boot"}


# ------------------------------------------------------------------ exec


@pytest.mark.parametrize(
    ("command", "status", "out", "err"),
    [
        (("echo", "a  b", "$HOME", ";"), 0, "a  b $HOME ;\n", ""),
        (("echo a  b; echo err >&2; exit 7",), 7, "a b\n", "err\n"),
        (("kill -9 $$",), 137, "", ""),
        (("echo", "--", "--json"), 0, "-- --json\n", ""),
    ],
)
@pytest.mark.parametrize("variant", ["shell", "native"])
def test_exec(
    main: Main,
    image: None,
    variant: str,
    command: tuple[str, ...],
    status: int,
    out: str,
    err: str,
) -> None:
    """Nothing but the command's own output, and its exit status."""
    got = main("exec", variant, *PLUGIN, "--", *command)
    assert got[:2] == (status, out)
    if status != 137:
        assert got[2] == err


def test_nothing_is_left_by_exec(main: Main, image: None, tmp_path: Path) -> None:
    main("exec", "shell", *PLUGIN, "--", "true")
    main("exec", "native", *PLUGIN, "--", "true")
    assert list(tmp_path.glob("vbench-*")) == []


# ------------------------------------------------------------------ interrupts


def test_ctrl_c_anywhere_is_130(
    main: Main, image: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalHost, "run", interrupt)
    status, _, err = main("exec", "native", "--", "true")
    assert status == 130
    assert err == "vbench: interrupted\n"
    assert not list(tmp_path.glob("vbench-*"))


def test_sigterm_is_ctrl_c_while_a_command_runs(main: Main, image: None) -> None:
    status, _, err = main(
        "exec", "shell", *PLUGIN, "--", f"sleep 0.5; kill -TERM {os.getpid()}; sleep 60"
    )
    assert status == 130
    assert err == "vbench: interrupted\n"
