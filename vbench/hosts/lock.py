"""The lock of a measured machine, held on that machine: whoever measures it, from wherever."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from vbench.errors import ConnectionLost, HostError, UnavailableError, UsageError
from vbench.hosts.connection import RunningCommand, read_line
from vbench.hosts.remote import SshHost
from vbench.system.filelock import locked

# Known to all users, holds nothing secret. $VBENCH_LOCK names another file, for runs of which
# one knows that they may overlap (vbench's own tests of faults, which judge no figures).
LOCK = "/var/tmp/vbench-run.lock"  # noqa: S108
TIMEOUT_S = 3600.0  # a full run takes about that long
_REMEDY = "wait for it or end it, then start again"

# $1 seconds to wait, $2 who we are. The file is opened for reading and written by dd, neither of
# which follows or changes what a link would lead to. busybox' flock cannot wait for a time.
_HOLD = f"""
lock=${{VBENCH_LOCK:-{LOCK}}} seconds=$1 holder=$2
command -v flock >/dev/null || {{ echo "flock: not found" >&2; exit 127; }}
[ -e "$lock" ] || (umask 0; set -C; : >"$lock") 2>/dev/null
exec 9<"$lock" || exit
if ! flock -n 9; then
  echo "waiting for $(head -n 1 "$lock")"
  until flock -n 9; do
    [ "$seconds" -gt 0 ] || {{ head -n 1 "$lock" >&2; exit 75; }}
    seconds=$((seconds - 1))
    sleep 1
  done
fi
echo "$holder" | dd of="$lock" conv=nocreat oflag=nofollow 2>/dev/null
echo held
read -r _
: | dd of="$lock" conv=nocreat oflag=nofollow 2>/dev/null
"""
_NOT_FREE = 75  # EX_TEMPFAIL of <sysexits.h>


@contextmanager
def local_lock(say: Callable[[str], None]) -> Iterator[None]:
    """Hold this machine's lock; waits for another run and says which one it is.

    Raises UnavailableError where the lock file cannot be opened, or is not free in TIMEOUT_S.
    """
    path = os.environ.get("VBENCH_LOCK") or LOCK
    holder = _holder()
    with ExitStack() as stack:
        try:
            stack.enter_context(
                locked(
                    path,
                    mode=0o666,  # every user can lock it
                    timeout_s=TIMEOUT_S,
                    on_wait=lambda other: _wait_for(other, "this machine", holder, say),
                    holder=holder + "\n",
                )
            )
        except TimeoutError as error:
            raise _not_free("this machine", str(error)) from error
        except OSError as error:
            raise UnavailableError(
                f"cannot open {path}: {error.strerror}",
                remedy=f"make {path} a regular file that you may write to",
            ) from error
        yield


class _RemoteLock:
    """The lock of the machine at `address`, over a connection of its own."""

    def __init__(self, address: str, say: Callable[[str], None]) -> None:
        self._address = address
        self._say = say
        self._host = SshHost(address)
        self._command: RunningCommand | None = None

    def take(self) -> None:
        """Raises UnavailableError, UsageError, HostError, ConnectionLost."""
        host, address = self._host, self._address
        holder = f"{_holder()} on {socket.gethostname()}"
        connection = host.connection
        shell = [*host.tied, "sh", "-c", _HOLD, "vbench-lock", f"{TIMEOUT_S:.0f}", holder]
        self._command = command = connection.start(f"exec {shlex.join(shell)}")
        line = read_line(command, 20.0)
        if line.startswith(b"waiting for "):
            other = line.decode(errors="replace").removeprefix("waiting for ").strip()
            _wait_for(other, address, holder, self._say)
            line = read_line(command, TIMEOUT_S + 20.0)
        if line != b"held\n":
            status = command.status(5.0)
            errors = command.read_error().decode(errors="replace") if status else ""
            if status == _NOT_FREE:
                raise _not_free(address, errors)
            raise HostError(
                f"cannot lock {address} for measuring",
                evidence=errors,
                remedy=f"it needs flock (util-linux) and a file {LOCK} that you may write to",
            )

    def release(self) -> None:
        """It is gone with the connection, too."""
        with suppress(ConnectionLost, HostError):
            if self._command is not None:
                self._command.end_input()
                self._command.status(5.0)
        self.close()

    def close(self) -> None:
        if self._command is not None:
            self._command.close()
            self._command = None
        self._host.close()


_held: dict[str, _RemoteLock] = {}  # by address


@contextmanager
def remote_lock(address: str, say: Callable[[str], None]) -> Iterator[None]:
    """As `local_lock`, on the machine at `address`.

    Raises HostError, ConnectionLost as well.
    """
    lock = _RemoteLock(address, say)
    try:
        lock.take()
        _held[address] = lock
        yield
        lock.release()
    finally:
        _held.pop(address, None)
        lock.close()


def take_again(address: str) -> None:
    """After a reboot, which freed the lock that we hold there. Raises as `remote_lock`."""
    lock = _held.get(address)
    if lock is not None:
        lock.close()
        lock.take()


def _holder() -> str:
    return f"pid {os.getpid()}: {shlex.join(sys.argv)} in {os.getcwd()}"


def _wait_for(other: str, where: str, own: str, say: Callable[[str], None]) -> None:
    if other == own:
        raise UsageError(f"{where} is named twice: it is the same machine by another name")
    say(f"vbench: waiting for another run on {where} to end: {other or 'it does not say which'}")


def _not_free(where: str, other: str) -> UnavailableError:
    return UnavailableError(
        f"another vbench has measured on {where} for {TIMEOUT_S / 60:g} minutes",
        evidence=other,
        remedy=_REMEDY,
    )
