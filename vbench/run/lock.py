"""Only one vbench may measure on a machine at a time: two would measure each other."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from vbench.errors import UnavailableError
from vbench.system.filelock import locked

# Known to all users, holds nothing secret. $VBENCH_LOCK names another file, for runs of which
# one knows that they may overlap (vbench's own tests of faults, which judge no figures).
LOCK = "/var/tmp/vbench-run.lock"  # noqa: S108
TIMEOUT_S = 3600.0  # a full run takes about that long


@contextmanager
def measuring_alone(say: Callable[[str], None]) -> Iterator[None]:
    """Hold the machine-wide lock; waits for another run and says which one it is.

    Raises UnavailableError where the lock file cannot be opened, or is not free in TIMEOUT_S.
    """
    path = os.environ.get("VBENCH_LOCK", LOCK)
    with ExitStack() as stack:
        try:
            stack.enter_context(
                locked(
                    path,
                    mode=0o666,  # every user can lock it
                    timeout_s=TIMEOUT_S,
                    on_wait=lambda other: say(f"vbench: waiting for another run to end: {other}"),
                    holder=f"pid {os.getpid()}: {shlex.join(sys.argv)} in {os.getcwd()}\n",
                )
            )
        except TimeoutError as error:
            raise UnavailableError(
                f"another vbench has measured on this machine for {TIMEOUT_S / 60:g} minutes",
                evidence=str(error),
                remedy="wait for it or end it, then start again",
            ) from error
        except OSError as error:
            raise UnavailableError(
                f"cannot open {path}: {error.strerror}",
                remedy=f"make {path} a regular file that you may write to",
            ) from error
        yield
