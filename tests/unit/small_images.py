"""Images of a few bytes, for tests of the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vbench.image import cache

KEY = "k" * 64


def make(work: Path, _lock: int) -> dict[str, Any]:
    """A build that takes no time."""
    (work / "vmlinux").write_bytes(b"kernel")
    (work / "vmlinuz").write_bytes(b"packed")
    (work / "initramfs").write_bytes(b"root")
    (work / "root/bin").mkdir(parents=True)
    (work / "root/bin/sh").write_bytes(b"shell")
    (work / "root/link").symlink_to("bin")
    return {"digest": "d" * 64, "kernel": "debian", "kernel_release": "6.1", "versions": {}}


class Builder:
    """Counts builds; `said` holds what `progress` got."""

    def __init__(self, build: cache.Build = make, key: str = KEY) -> None:
        self.builds, self.said = 0, list[str]()
        self._build, self._key = build, key

    def get(self) -> Path:
        return cache.get(self._key, self._counted, self.said.append)[0]

    def _counted(self, work: Path, lock: int) -> dict[str, Any]:
        self.builds += 1
        return self._build(work, lock)
