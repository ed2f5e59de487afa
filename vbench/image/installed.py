"""What the image cache holds: listed and removed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tabulate import tabulate

from vbench.errors import ImageError
from vbench.image import cache


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

    @property
    def name(self) -> str:
        """What users call it, as reports do: its digest, or its key where that cannot be told."""
        return self.digest or self.key


def installed() -> list[Installed]:
    """All images in the cache, each verified."""
    return [_describe(path) for path in cache.images()]


def table(images: Sequence[Installed]) -> str:
    """What the image cache holds, newest use first."""
    rows = [
        [
            each.name[:12],
            each.kernel_release,
            f"{each.size_bytes / 2**20:.0f} MiB",
            each.last_used.strftime("%Y-%m-%d %H:%M"),
            "ok" if each.ok else each.reason,
        ]
        for each in sorted(images, key=lambda each: each.last_used, reverse=True)
    ]
    return tabulate(rows, ["image", "kernel", "size", "last used", "state"])


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
        manifest = json.loads((path / cache.MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}
