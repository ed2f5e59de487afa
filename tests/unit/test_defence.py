"""What ends a command is told in a sentence, whatever it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sample_results import item, pairs, result

from vbench.cli import defence
from vbench.errors import LaunchError, UnavailableError
from vbench.results import store
from vbench.system.interrupts import asked_to_end, terminated_as_interrupted


def vbench(
    *words: str, redirected: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """`vbench WORDS...`; `redirected` is what a shell adds."""
    program = f'exec "$@" {redirected}'
    argv = ["sh", "-c", program, "sh", sys.executable, "-m", "vbench.cli", *words]
    return subprocess.run(
        argv, capture_output=True, errors="replace", check=False, env={**os.environ, **environment}
    )


def raising(error: BaseException) -> Callable[[], int]:
    def act() -> int:
        raise error

    return act


def test_a_fault_of_ours_says_what_to_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defence.tempfile, "tempdir", str(tmp_path))
    assert defence.guarded(raising(KeyError("x"))) == 70
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.startswith("vbench: internal error in test_defence.py, line ")
    assert "KeyError: 'x'" in said
    (file,) = tmp_path.iterdir()
    assert str(file) in said
    text = file.read_text()
    assert text.startswith("vbench ")
    assert "Traceback" in text
    assert sys.argv[0] in text


def test_a_fault_of_ours_with_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On demand, and where no file can be written."""
    monkeypatch.setattr(defence.tempfile, "tempdir", str(tmp_path / "absent"))
    assert defence.guarded(raising(KeyError("x"))) == 70
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setattr(defence.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("VBENCH_TRACEBACK", "1")
    assert defence.guarded(raising(KeyError("x"))) == 70
    assert "Traceback" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (PermissionError(13, "Permission denied", "/x"), 1, "vbench: /x: Permission denied\n"),
        (UnavailableError("no KVM", remedy="buy"), 3, "vbench: no KVM\n  -> buy\n"),
        (KeyboardInterrupt(), 130, "vbench: interrupted\n"),
    ],
)
def test_what_the_outside_did(
    capsys: pytest.CaptureFixture[str], error: BaseException, status: int, said: str
) -> None:
    assert defence.guarded(raising(error)) == status
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert "Traceback" not in err


def test_a_console_s_control_characters_do_nothing_to_the_user_s_terminal() -> None:
    """SeaBIOS clears its screen."""
    error = LaunchError("no \x1b[31mboot", evidence="\x1bc\x1b[2JSeaBIOS\r\n\tready: ✔ ü\x07")
    assert str(error) == "no \\x1b[31mboot\n  | \\x1bc\\x1b[2JSeaBIOS\n  | \tready: ✔ ü\\x07"


@pytest.mark.parametrize(
    ("redirected", "said"),
    [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")],
)
@pytest.mark.parametrize("words", [("image", "list"), ("workloads",)])
def test_standard_output_that_takes_nothing(
    tmp_path: Path, words: tuple[str, ...], redirected: str, said: str
) -> None:
    done = vbench(*words, redirected=redirected, VBENCH_CACHE=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == f"vbench: standard output cannot be written: {said}\n"


def test_closed_streams_are_no_error_where_nothing_is_printed(tmp_path: Path) -> None:
    """And no file of ours gets the number of one."""
    done = vbench("run", "--resume", str(tmp_path), redirected="<&- >&-")
    assert done.returncode == 2
    assert "holds no run" in done.stderr
    assert vbench("run", "--resume", str(tmp_path), redirected="2>&-").returncode == 2


ENDS = """
import sys
from vbench.cli.defence import guarded, prepare_streams
def act():
    sys.stdin.readline()  # until nobody reads any more
    print("what is still buffered")
    raise KeyboardInterrupt
prepare_streams()
sys.exit(guarded(act))
"""


@pytest.mark.parametrize("make", [os.pipe, os.openpty], ids=["pipe", "terminal"])
def test_the_exit_status_stays_where_nobody_reads_the_last_words(
    make: Callable[[], tuple[int, int]],
) -> None:
    """Python makes it 120 where it cannot write at its exit."""
    reader, writer = make()
    process = subprocess.Popen(
        [sys.executable, "-c", ENDS], stdin=subprocess.PIPE, stdout=writer, stderr=writer
    )
    os.close(writer)
    os.close(reader)
    process.communicate(b"\n")
    assert process.returncode == 130


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_without_our_characters(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(store.dumps(store.document(result(item("cpu-x", pairs(1.5))))))
    done = vbench("report", str(file), PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "?" in done.stdout


def test_names_that_are_no_text_in_this_locale(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, and a locale that knows ASCII only: the report links its plots."""
    (tmp_path / "a.json").write_bytes(
        store.dumps(store.document(result(item("cpu-x", pairs(1.5)))))
    )
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for name, environment in ((b"\xff.md", {}), ("ü.md".encode(), ascii_only)):
        written = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
        done = vbench("report", str(tmp_path / "a.json"), "-o", written, **environment)
        assert (done.returncode, done.stderr) == (0, "")
        plots = name.removesuffix(b".md") + b"-plots/"
        assert b"(" + plots in Path(written).read_bytes()


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "vbench.cli", "workloads"]
    line = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", line, "sh", str(gone), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "vbench: the current folder cannot be used: No such file or directory\n"
        "  -> cd to another one\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_that_end_are_ctrl_c_once(number: signal.Signals) -> None:
    interrupts, before = 0, signal.getsignal(number)
    with terminated_as_interrupted():
        for each in (number, number, signal.SIGTERM):  # the others while the report is written
            try:
                os.kill(os.getpid(), each)
            except KeyboardInterrupt:
                interrupts += 1
    assert interrupts == 1
    assert signal.getsignal(number) is before


def test_only_a_signal_asks_a_run_to_end() -> None:
    assert asked_to_end(KeyboardInterrupt())  # may be Ctrl-C: Python's own handler is in force
    assert not asked_to_end(SystemExit())
    with terminated_as_interrupted():
        with pytest.raises(KeyboardInterrupt) as caught:
            os.kill(os.getpid(), signal.SIGINT)
        assert asked_to_end(caught.value)
        assert not asked_to_end(KeyboardInterrupt())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nohup_stays_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminated_as_interrupted():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
