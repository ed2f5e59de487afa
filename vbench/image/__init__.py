"""The one image that every backend boots: built rootless from Debian packages, and cached."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from vbench.errors import ImageError
from vbench.image import build, cache, hosting
from vbench.image.kernel import Source, host_kernel
from vbench.model import ImageFiles

__all__ = ["Installed", "cache_dir", "ensure", "ensure_hosting", "installed", "remove"]


@dataclass(frozen=True)
class Installed:
    """An image in the cache. `digest` is empty if the image is too damaged to tell."""

    key: str  # digest of the build's inputs: the name of its directory
    digest: str  # of what was built, as in ImageFiles
    kernel: str  # "debian", "host" or a path
    kernel_release: str
    size_bytes: int
    last_used: datetime
    ok: bool
    reason: str  # why not ok


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
    one line for each step that takes long. Raises ImageError.
    """
    if platform.machine() != "x86_64":
        raise ImageError(f"images are for x86-64 machines, this one is {platform.machine()}")
    if kernel == "debian":
        return _files(*cache.get(_key("debian"), _debian(progress), progress))
    source = host_kernel() if kernel == "host" else _source(kernel, modules)
    base = ensure("debian", progress=progress)

    def with_kernel(work: Path, _lock: int) -> dict[str, Any]:
        progress(f"packing the image with the kernel {source.image}")
        started = time.monotonic()
        built = build.build_with_kernel(work, source, Path(base.root), dict(base.versions))
        return _manifest(work, kernel, built, started)

    return _files(*cache.get(_key(base.digest, source.digest()), with_kernel, progress))


def ensure_hosting(
    base: ImageFiles,
    addition: hosting.Addition = hosting.QEMU,
    progress: Callable[[str], None] = _say,
) -> ImageFiles:
    """The image `base` with what hosts need added, from the cache or built now.

    Raises ImageError.
    """

    def make(work: Path, lock: int) -> dict[str, Any]:
        progress(f"adding {addition.name} to the image, for the testbed")
        started = time.monotonic()
        versions = hosting.build(work, base, addition, (lock,))
        built = build.Built(base.kernel_release, versions, "", [])
        return _manifest(work, f"testbed ({addition.name})", built, started)

    return _files(*cache.get(_key(base.digest, *addition.all_packages), make, progress))


def installed() -> list[Installed]:
    """All images in the cache, each verified."""
    return [_describe(path) for path in cache.images()]


def remove(digest_prefix: str) -> list[Installed]:
    """Remove the images whose key or digest begins so; return what was removed.

    Raises ImageError if there is none.
    """
    to_remove = [
        image
        for image in installed()
        if digest_prefix and any(d.startswith(digest_prefix) for d in (image.key, image.digest))
    ]
    if not to_remove:
        raise ImageError(
            f"no image in the cache begins with {digest_prefix!r}",
            evidence=f"cache: {cache.directory()}",
            remedy="`vbench image list` shows what is there",
        )
    return _remove(to_remove)


def remove_unused(days: float) -> list[Installed]:
    """Remove the images that were not used for so many days; return what was removed."""
    now = datetime.now(UTC)
    return _remove([i for i in installed() if now - i.last_used >= timedelta(days=days)])


def _remove(images: list[Installed]) -> list[Installed]:
    for image in images:
        cache.remove(cache.directory() / "images" / image.key)
    return images


def cache_dir() -> Path:
    """Where images are kept: $VBENCH_CACHE, $XDG_CACHE_HOME/vbench or ~/.cache/vbench."""
    return cache.directory()


def _source(kernel: str, modules: str | None) -> Source:
    image, folder = Path(kernel).absolute(), Path(modules).absolute() if modules else None
    if not image.is_file():
        raise ImageError(
            f"there is no kernel file {kernel}",
            remedy="give `debian`, `host` or the path of a bzImage or vmlinux",
        )
    if folder and not (folder / "kernel").is_dir():
        raise ImageError(
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


def _key(*options: str) -> str:
    """Digest of a build's inputs: this package's own files, the probe, the packages, options."""
    total = hashlib.sha256()
    for path in (*sorted(build.HERE.glob("*.py")), build.INIT, *build.PROBE):
        total.update(f"{path.name}\0".encode() + path.read_bytes())
    total.update("\0".join([*build.PACKAGES, *options]).encode())
    return total.hexdigest()


def _manifest(work: Path, kernel: str, built: build.Built, started: float) -> dict[str, Any]:
    # Packages of one name have several versions in time, so the same inputs may give
    # different images: results are compared by what was built.
    total = hashlib.sha256()
    for name in cache.files(work):
        total.update(hashlib.sha256((work / name).read_bytes()).digest())
    return {
        **asdict(built),
        "digest": total.hexdigest(),
        "kernel": kernel,
        "built": datetime.now(UTC).isoformat(timespec="seconds"),
        "build_seconds": round(time.monotonic() - started, 1),
    }


def _files(path: Path, manifest: dict[str, Any]) -> ImageFiles:
    return ImageFiles(
        digest=manifest["digest"],
        kernel=str(path / "vmlinux"),
        initramfs=str(path / "initramfs"),
        root=str(path / "root"),
        kernel_release=manifest["kernel_release"],
        versions=manifest["versions"],
        bzimage=str(path / cache.PACKED) if cache.PACKED in manifest["content"] else "",
    )


def _describe(path: Path) -> Installed:
    reason = ""
    try:
        manifest = cache.verify(path)
    except (cache.Damaged, OSError) as error:
        manifest, reason = _manifest_if_any(path), str(error)
    marker = path / cache.MANIFEST if (path / cache.MANIFEST).exists() else path
    return Installed(
        key=path.name,
        digest=manifest.get("digest", ""),
        kernel=manifest.get("kernel", ""),
        kernel_release=manifest.get("kernel_release", ""),
        size_bytes=sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir()),
        last_used=datetime.fromtimestamp(marker.stat().st_mtime, UTC),
        ok=not reason,
        reason=reason,
    )


def _manifest_if_any(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / cache.MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}
