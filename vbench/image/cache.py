"""The image cache: complete, verified images or nothing.

    <cache>/images/<key>/          vmlinux, vmlinuz, initramfs, root/, manifest.json
    <cache>/images/.lock           held by the one builder
    <cache>/images/.building-*     what that builder works in; anyone else's is left over

An image is built beside its final place and appears there by one rename. The key is a digest
of a build's inputs; what came of them is in the manifest.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from vbench.errors import ImageError, Interrupted
from vbench.image import tools
from vbench.system.filelock import locked
from vbench.system.folders import cache_folder

FILES = ("vmlinux", "initramfs")
PACKED = "vmlinuz"  # there if the kernel came as a bzImage
MANIFEST = "manifest.json"
BUILDING = ".building-"
_READ = ("content", "digest", "kernel_release", "versions")  # what a manifest must have

# Builds into the given empty directory; the descriptor is the lock, for its child processes.
# Returns what it wants to have in the manifest.
Build = Callable[[Path, int], dict[str, Any]]
Progress = Callable[[str], None]


class Damaged(Exception):
    """What is wrong with an image in the cache."""


def directory() -> Path:
    """Where images are kept: $VBENCH_CACHE, $XDG_CACHE_HOME/vbench or ~/.cache/vbench.

    Raises ImageError where none of them can be told.
    """
    found = cache_folder()
    if found is None:
        raise ImageError(
            "there is no folder to keep images in",
            evidence=f"HOME is not set, and user {os.getuid()} has no entry in the passwd file",
            remedy="set VBENCH_CACHE to a directory of yours",
        )
    return found


def images() -> list[Path]:
    """The images' directories, sorted by name, whether sound or not. Raises ImageError."""
    try:
        return sorted(
            path
            for path in (directory() / "images").iterdir()
            if path.is_dir() and not path.name.startswith(".")
        )
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(error) from error


def get(key: str, build: Build, progress: Progress) -> tuple[Path, dict[str, Any]]:
    """The image's directory and manifest, built first if it is missing or damaged.

    A second builder waits for the first. A build that fails or is interrupted (Ctrl-C,
    SIGTERM) leaves nothing; one that was killed is cleaned up after by the next build.
    Raises ImageError.
    """
    target = directory() / "images" / key
    try:
        return target, _opened(target)
    except FileNotFoundError:
        pass
    except Damaged as damage:
        progress(f"the cached image {key[:12]} is damaged ({damage}) and will be built again")
    except NotADirectoryError:
        pass  # as with a folder that cannot be made: the build says so
    except OSError as error:
        raise _unreadable(error) from error
    with _writing(target.parent, progress) as lock:
        try:
            return target, _opened(target)  # by the builder that we waited for
        except (FileNotFoundError, Damaged):
            return target, _build(target, build, lock)


def _unreadable(error: OSError) -> ImageError:
    return ImageError(
        f"the image cache {directory()} cannot be read",
        evidence=str(error),
        remedy="set VBENCH_CACHE to a directory of yours",
    )


def adopt(keys: Sequence[str], fill: Callable[[Path], None]) -> None:
    """Put complete images into the cache, in place of those with the same keys.

    `fill` makes a folder for each of `keys` in the empty folder that it is given; if it raises,
    the cache stays as it was. Raises ImageError.
    """
    folder = directory() / "images"
    with _writing(folder, lambda _: None), _sigterm_interrupts():
        work = Path(tempfile.mkdtemp(prefix=BUILDING, dir=folder))
        try:
            fill(work)
            for key in keys:
                _discard(folder / key)
                (work / key).rename(folder / key)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def remove(target: Path) -> None:
    """Remove an image, or what is left of it. Raises ImageError."""
    with _writing(target.parent, lambda _: None):
        _discard(target)


def verify(target: Path) -> dict[str, Any]:
    """The manifest of a sound image. Raises FileNotFoundError if there is none, or Damaged."""
    if not target.is_dir():
        raise FileNotFoundError(target)
    try:
        manifest: dict[str, Any] = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        expected, *_ = [manifest[name] for name in _READ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Damaged("its manifest cannot be read") from error
    try:
        found = describe(target)
    except OSError as error:
        raise Damaged(f"{error.filename}: {error.strerror}") from error
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            raise Damaged(f"{name} is not as it was built")
    return manifest


def files(target: Path) -> tuple[str, ...]:
    """The names of an image's files."""
    return (*FILES, PACKED) if (target / PACKED).exists() else FILES


def describe(target: Path) -> dict[str, Any]:
    """Sizes and digests of an image's files, and the digest of its root tree."""
    content: dict[str, Any] = {}
    for name in files(target):
        with (target / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        content[name] = {"bytes": (target / name).stat().st_size, "sha256": digest}
    content["root"] = {"sha256": tree_digest(target / "root")}
    return content


def tree_digest(root: Path) -> str:
    """A digest over names, types, modes, symlink targets and contents below `root`."""
    total = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        total.update(f"{path.relative_to(root).as_posix()}\0{mode:o}\0".encode())
        if stat.S_ISLNK(mode):
            total.update(os.fsencode(path.readlink()))
        elif stat.S_ISREG(mode):
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _opened(target: Path) -> dict[str, Any]:
    manifest = verify(target)
    # The manifest's time tells when the image was last used. A cache may be read-only.
    with suppress(OSError):
        os.utime(target / MANIFEST)
    return manifest


def _build(target: Path, build: Build, lock: int) -> dict[str, Any]:
    with _sigterm_interrupts():
        work = Path(tempfile.mkdtemp(prefix=BUILDING, dir=target.parent))
        try:
            work.chmod(0o755)
            manifest = build(work, lock)
            manifest["content"] = describe(work)
            text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
            (work / MANIFEST).write_text(text, encoding="utf-8")
            _discard(target)
            work.rename(target)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return manifest


def _discard(target: Path) -> None:
    """Take an image out of sight at once, then remove it."""
    if target.exists():
        to_remove = Path(tempfile.mkdtemp(prefix=BUILDING, dir=target.parent))
        target.rename(to_remove / "image")
        shutil.rmtree(to_remove)


def _remove_leftovers(folder: Path) -> None:
    """Under the lock nobody else builds, so these are of builders that were killed."""
    for path in folder.glob(f"{BUILDING}*"):
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _writing(folder: Path, progress: Progress) -> Iterator[int]:
    """The lock, and no leftovers of killed builders. An OSError becomes an ImageError."""
    try:
        with _locked(folder, progress) as lock:
            _remove_leftovers(folder)
            yield lock
    except OSError as error:
        raise ImageError(
            f"the image cache {directory()} cannot be written",
            evidence=str(error),
            remedy=tools.disk_full_remedy()
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "make it writable, or set VBENCH_CACHE to a directory of yours",
        ) from error


@contextmanager
def _locked(folder: Path, progress: Progress) -> Iterator[int]:
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(
                locked(
                    str(folder / ".lock"),
                    mode=0o600,
                    timeout_s=tools.TIMEOUT_S,
                    on_wait=lambda _: progress("waiting for another process that builds an image"),
                    go_on=tools.go_on,
                )
            )
        except TimeoutError as error:
            raise ImageError(
                f"another process builds an image in {folder}, for an hour by now",
                remedy="end it, or set VBENCH_CACHE to another folder",
            ) from error
        yield lock


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM unwind as Ctrl-C does, unless the program has its own idea of it."""
    by_default = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )

    def unwind(_signal: int, _frame: FrameType | None) -> None:
        raise Interrupted

    if by_default:
        signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        if by_default:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
