"""The images that vbench boots: from the cache, or built now."""

from __future__ import annotations

import hashlib
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vbench.contract.layer import Addition
from vbench.errors import ImageError, UsageError
from vbench.image import build, cache, hosting
from vbench.image.kernel import Source, host_kernel, is_kernel
from vbench.model import ImageFiles
from vbench.system.recipe import HOSTING, RECIPE, debian_key, key


def _say(line: str) -> None:
    print(f"image: {line}", file=sys.stderr, flush=True)


def ensure(
    kernel: str = "debian",
    modules: str | None = None,
    progress: Callable[[str], None] = _say,
) -> ImageFiles:
    """The image with the given kernel, from the cache or built now.

    `kernel` is "debian", "host" (the one this machine runs) or the path of a bzImage or
    vmlinux, whose modules are in the folder `modules` (one that holds `kernel/`, such as
    /lib/modules/6.1.0); without it the kernel must have all drivers built in. `progress` gets
    one line for each step that takes long. Raises ImageError, and UsageError as `source_of`.
    """
    if platform.machine() != "x86_64":
        raise ImageError(f"images are for x86-64 machines, this one is {platform.machine()}")
    source = source_of(kernel, modules)
    if source is None:
        return _files(*cache.get(debian_key(), _debian(progress), progress))
    base = ensure("debian", progress=progress)

    def with_kernel(work: Path, _lock: int) -> dict[str, Any]:
        progress(f"packing the image with the kernel {source.image}")
        started = time.monotonic()
        built = build.build_with_kernel(work, source, Path(base.root), dict(base.versions))
        return _manifest(work, kernel, built, started)

    return _files(*cache.get(key(base.digest, source.digest()), with_kernel, progress))


def ensure_hosting(
    base: ImageFiles,
    addition: Addition,
    progress: Callable[[str], None] = _say,
) -> ImageFiles:
    """The image `base` with what hosts need added, from the cache or built now.

    Raises ImageError.
    """

    def make(work: Path, lock: int) -> dict[str, Any]:
        progress(f"adding {addition.name} to the image")
        started = time.monotonic()
        versions = hosting.build(work, base, addition, (lock,))
        built = build.Built(base.kernel_release, versions, "", [])
        return _manifest(work, f"with {addition.name}", built, started)

    return _files(*cache.get(hosting_key(base.digest, addition), make, progress))


def source_of(kernel: str, modules: str | None) -> Source | None:
    """The files that `ensure` would take; None for Debian's, which are downloaded. Raises
    UsageError for files that are not there, and ImageError where this host's own are not."""
    if modules and kernel in ("debian", "host"):
        raise UsageError(
            f"the modules {modules} are those of no kernel file",
            remedy="give the kernel file, too: --kernel FILE --modules DIR",
        )
    if kernel == "debian":
        return None
    if kernel == "host":
        return host_kernel()
    image, folder = Path(kernel).absolute(), Path(modules).absolute() if modules else None
    if not image.is_file():
        raise UsageError(
            f"there is no kernel file {kernel}",
            remedy="give `debian`, `host` or the path of a bzImage or vmlinux",
        )
    if not is_kernel(image):
        raise UsageError(
            f"{kernel} is no kernel",
            evidence="it begins neither as a bzImage nor as a vmlinux",
            remedy="give `debian`, `host` or the path of a bzImage or vmlinux",
        )
    if folder and not (folder / "kernel").is_dir():
        raise UsageError(
            f"{modules} holds no kernel modules",
            evidence=f"{folder / 'kernel'} is no directory",
            remedy="give the folder that modules were installed in, as /lib/modules/<release>",
        )
    return Source(image, folder)


def _debian(progress: Callable[[str], None]) -> cache.Build:
    def make(work: Path, lock: int) -> dict[str, Any]:
        started = time.monotonic()
        built = build.build_debian(work, (lock,), progress)
        return _manifest(work, "debian", built, started)

    return make


def hosting_key(base_digest: str, addition: Addition) -> str:
    """The key of the image of `base_digest` with `addition`."""
    return key(base_digest, repr(addition), recipe=(*RECIPE, *HOSTING))


def _manifest(work: Path, kernel: str, built: build.Built, started: float) -> dict[str, Any]:
    return {
        **asdict(built),
        "digest": content_digest(work),
        "kernel": kernel,
        "built": datetime.now(UTC).isoformat(timespec="seconds"),
        "build_seconds": round(time.monotonic() - started, 1),
    }


def content_digest(folder: Path) -> str:
    """Digest of an image's files. Packages of one name have several versions in time, so the same
    inputs may give different images: results are compared by what was built."""
    total = hashlib.sha256()
    for name in cache.files(folder):
        total.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return total.hexdigest()


def _files(path: Path, manifest: dict[str, Any]) -> ImageFiles:
    return ImageFiles(
        digest=manifest["digest"],
        kernel=str(path / "vmlinux"),
        initramfs=str(path / "initramfs"),
        root=str(path / "root"),
        kernel_release=manifest["kernel_release"],
        versions=manifest["versions"],
        bzimage=str(path / cache.PACKED) if cache.PACKED in manifest["content"] else "",
        kernel_digest=manifest["content"]["vmlinux"]["sha256"],
        build_s=manifest.get("build_seconds"),
    )
