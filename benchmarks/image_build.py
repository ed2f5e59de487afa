"""How long an image takes to build from nothing and to open from the cache.

    python benchmarks/image_build.py

Builds into a fresh cache directory (removed afterwards), so it needs the network and about
1.2 GB beside the usual cache. Exit status 1 if a target is missed.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

from vbench import image

COLD_TARGET_S = 60.0
CACHED_TARGET_S = 0.5
CACHED_ROUNDS = 5


def seconds(action: Callable[[], object]) -> float:
    """How long `action` takes."""
    started = time.monotonic()
    action()
    return time.monotonic() - started


def main() -> int:
    """Measure, print the table, and compare with the targets."""
    cache = image.cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    # Beside the usual cache: the same disk, and not a /tmp that may be too small.
    with tempfile.TemporaryDirectory(prefix=".benchmark-", dir=cache) as fresh:
        os.environ["VBENCH_CACHE"] = fresh
        cold = seconds(image.ensure)
        cached = statistics.median(seconds(image.ensure) for _ in range(CACHED_ROUNDS))
    print(f"{'image':<24}{'seconds':>9}{'target':>9}")
    print(f"{'built from nothing':<24}{cold:>9.2f}{COLD_TARGET_S:>9.2f}")
    print(f"{f'cached, median of {CACHED_ROUNDS}':<24}{cached:>9.2f}{CACHED_TARGET_S:>9.2f}")
    return int(cold > COLD_TARGET_S or cached > CACHED_TARGET_S)


if __name__ == "__main__":
    sys.exit(main())
