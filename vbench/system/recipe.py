"""What decides how an image is built, and so the key of the image. Standard library only.

`vbench setup` runs before anything is installed, and must know whether the cache holds the image
that this version of vbench would build.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_VBENCH = Path(__file__).parents[1]
_IMAGE = _VBENCH / "image"
_MODULES = ("build", "cpio", "debian", "elf", "kernel", "rootfs", "stubs")
# The modules of vbench.image that a build runs, and the guest's programs that it brings along.
RECIPE = (
    *(_IMAGE / f"{name}.py" for name in _MODULES),
    _IMAGE / "init",
    *sorted((_VBENCH / "workloads").glob("probe*.[ch]")),
)
# What an image that hosts boot is built with besides.
HOSTING = (_IMAGE / "hosting.py", _IMAGE / "foreign.py")


def debian_key() -> str:
    """The key of the image with Debian's kernel."""
    return key("debian")


def key(*options: str, recipe: Iterable[Path] = RECIPE) -> str:
    """Digest of a build's inputs: the recipe, which names the packages, and options."""
    total = hashlib.sha256()
    for path in recipe:
        total.update(f"{path.name}\0".encode() + path.read_bytes())
    total.update("\0".join(options).encode())
    return total.hexdigest()
