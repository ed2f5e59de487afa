"""The last line of defence: whatever ends a command, the user reads a sentence, no traceback."""

from __future__ import annotations

import contextlib
import io
import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from vbench import __version__
from vbench.errors import INTERNAL_STATUS, INTERRUPTED_STATUS, VbenchError, named

TRACEBACK_VARIABLE = "VBENCH_TRACEBACK"  # not empty: tracebacks go to standard error


class _Output(io.TextIOWrapper):
    """Standard output whose errors can be told from those of other files."""

    def write(self, text: str) -> int:
        with _output_errors():
            return super().write(text)

    def flush(self) -> None:
        with _output_errors():
            super().flush()


@contextlib.contextmanager
def _output_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop(1)
        raise VbenchError(f"standard output cannot be written: {error.strerror}") from error


def prepare_streams() -> None:
    """Make standard streams fit to be used, whatever we were started with.

    One that was closed is opened, so that no other file gets its number; to print is an error as
    before. A character that the terminal's encoding does not have is printed as "?".
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_RDWR)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # the lowest number that is free
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - as long as we live
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    if sys.stdout is None or type(sys.stdout) is io.TextIOWrapper:
        encoding = sys.stdout.encoding if sys.stdout else "utf-8"
        raw = sys.stdout.detach() if sys.stdout else open(1, "wb", closefd=False)  # noqa: SIM115
        sys.stdout = _Output(raw, encoding, "replace", line_buffering=os.isatty(1))
        # whose terminal's size shutil.get_terminal_size asks for
        sys.__stdout__ = sys.stdout  # type: ignore[misc]


def guarded(act: Callable[[], int]) -> int:
    """The exit status of `act`; an error is printed on standard error."""
    status = _guarded(act)
    # Python makes the exit status 120 of what it cannot write at exit: a terminal that is gone.
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, VbenchError):
            _drop(number)
    return status


def _guarded(act: Callable[[], int]) -> int:
    try:
        status = act()
        sys.stdout.flush()  # here, where a reader that went away can be met, and not at exit
        return status
    except VbenchError as error:
        _print_error(f"vbench: {error}")
        return error.exit_status
    except KeyboardInterrupt:
        _print_error("vbench: interrupted")
        return INTERRUPTED_STATUS
    except BrokenPipeError:  # `vbench report | head`
        _drop(1)
        return 1
    except OSError as error:
        _print_error(f"vbench: {_system_error(error)}")
        return 1
    except Exception as error:
        _print_error(_internal_error(error))
        return INTERNAL_STATUS


def _print_error(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _drop(number: int) -> None:
    """What is still buffered for this descriptor has nowhere to go; Python would complain about it
    at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _system_error(error: OSError) -> str:
    """What the system refused."""
    if os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exception(error)
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"{what}\n  -> {TRACEBACK_VARIABLE}=1 shows where it happened"


def _internal_error(error: Exception) -> str:
    """A fault of vbench, and what to report."""
    text = "".join(traceback.format_exception(error))
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "?"
    what = f"vbench: internal error in {where}: {named(error)}"
    if os.environ.get(TRACEBACK_VARIABLE):
        return f"{text}{what}"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="vbench-error-", suffix=".txt", delete=False, errors="replace"
        ) as file:
            file.write(
                f"vbench {__version__}, Python {platform.python_version()}, "
                f"{platform.platform()}\n{shlex.join(sys.argv)}\n\n{text}"
            )
    except OSError:
        return f"{text}{what}"
    return (
        f"{what}\n"
        "  -> This is a fault of vbench. What was measured is kept. Please report it with "
        f"{file.name}, which holds the traceback and the command line."
    )
