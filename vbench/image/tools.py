"""Running the host's tools for the build: they die with us, and a missing one is named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from vbench.errors import ImageError, Interrupted
from vbench.system import process
from vbench.system.packages import package_of

LAST_LINES = 15
TIMEOUT_S = 3600.0  # packages may come over a slow network
OUTPUT_LIMIT_BYTES = 1 << 30  # an unpacked kernel comes that way

_never: Callable[[], bool] = bool
_ended: ContextVar[Callable[[], bool]] = ContextVar("ended", default=_never)


@contextmanager
def ended_when(ended: Callable[[], bool]) -> Iterator[None]:
    """What this thread builds, or waits for, raises Interrupted once `ended` says so: Ctrl-C comes
    to another thread."""
    token = _ended.set(ended)
    try:
        yield
    finally:
        _ended.reset(token)


def go_on() -> None:
    """Raises Interrupted where the build is to end."""
    if _ended.get()():
        raise Interrupted


def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    keep_open: Sequence[int] = (),
) -> bytes:
    """Run `argv` to its end and return its standard output.

    `env` is added to ours. Descriptors in `keep_open` (the cache's lock) are inherited, so the
    lock is held for as long as any of the tool's processes lives, even after our own death by
    SIGKILL. Raises ImageError if the tool is missing or fails, with its last lines; Interrupted.
    """
    for tool in (process.TIED[0], argv[0]):
        require(tool)
    try:
        done = process.run(
            argv,
            timeout_s=TIMEOUT_S,
            stdin=stdin,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
            pass_fds=keep_open,
            limit_bytes=OUTPUT_LIMIT_BYTES,
            go_on=go_on,
        )
    except (TimeoutError, BufferError) as error:
        raise ImageError(f"{argv[0]} {error}", evidence=" ".join(argv)[:500]) from error
    if done.status != 0:
        raise failure(argv, done.status, done.stderr.decode(errors="replace"))
    return done.stdout


def require(tool: str) -> None:
    """Raise ImageError, naming the package, unless `tool` can be run."""
    if shutil.which(tool):
        return
    raise ImageError(
        f"building the image needs the program {tool!r}, which is not installed",
        evidence=f"PATH={os.environ.get('PATH', '')}",
        remedy=f"run `vbench setup`, install the package {package_of(tool)}, or use an image from "
        "another machine: `vbench image import FILE`",
    )


def failure(argv: Sequence[str], status: int, errors: str) -> ImageError:
    """The error for a tool that ended with `status`, with the remedy that its words suggest."""
    lines = [line for line in errors.splitlines() if line.strip()]
    if "No space left on device" in errors or "not enough free space" in errors:
        remedy = disk_full_remedy()
    elif any(
        sign in errors for sign in ("Could not resolve", "Failed to fetch", "Unable to connect")
    ):
        remedy = (
            "the Debian mirror cannot be reached: check the network and apt's proxy settings "
            "(`apt-get update` must work), or import an image: `vbench image import FILE`"
        )
    elif "NO_PUBKEY" in errors or "not signed" in errors:
        remedy = "the packages' signature cannot be checked: install debian-archive-keyring"
    else:
        remedy = ""
    return ImageError(
        f"{argv[0]} failed with exit status {status}",
        evidence="\n".join([" ".join(argv)[:500], *lines[-LAST_LINES:]]),
        remedy=remedy,
    )


def disk_full_remedy() -> str:
    """What to do about a full disk."""
    return (
        "the build needs about 1.2 GB for a moment in the cache directory: make room, see "
        "`vbench image list`, or set VBENCH_CACHE to a directory on a larger disk"
    )
