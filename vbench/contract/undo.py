"""What a run switches on a host is switched back, whoever survives; paused guests go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from vbench.contract.guest import Guest
from vbench.contract.host import Host
from vbench.errors import ConnectionLost, HostError

# The janitor of a host's temporary files runs a file of this name in a working directory, when we
# have ended without removing it, SIGKILL and lost connections included.
UNDO = "undo"


@contextmanager
def undone(host: Host, script: str, *, timeout_s: float = 20.0) -> Iterator[None]:
    """Run a shell script on `host` when the context ends; its janitor runs it if we end before.

    What it undoes is switched on inside the context. Raises HostError if the script fails, unless
    an error is on its way out already.
    """
    with host.workdir() as folder:
        host.write(f"{folder}/{UNDO}", script.encode())
        try:
            yield
        except BaseException:
            with suppress(HostError, ConnectionLost):
                host.run(["sh", f"{folder}/{UNDO}"], timeout_s=timeout_s)
            raise
        done = host.run(["sh", f"{folder}/{UNDO}"], timeout_s=timeout_s)
        if done.status != 0:
            raise HostError(
                f"a setting of {host.name} could not be switched back",
                evidence=f"{script}\n{done.stderr.strip()}",
                remedy="switch it back by the script above",
            )


@contextmanager
def paused(*guests: Guest) -> Iterator[None]:
    """While the context lasts, these guests stand still; those do not that are not `pausable`.
    Raises GuestLost."""
    with ExitStack() as stack:
        for guest in guests:
            guest.pause()
            stack.callback(guest.resume)
        yield
