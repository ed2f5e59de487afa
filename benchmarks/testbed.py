"""The testbed's figures: python benchmarks/testbed.py [--cold]

From nothing running to the end of a command in a KVM guest; the boot of the testbed; medians of
cpu and syscall workloads in two runs of their own; with --cold, the build in an empty cache.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vbench import image
from vbench.hypervisors.qemu.kvm import LAYER
from vbench.testbed import TestbedHost

WORKLOADS = ("cpu-prime", "syscall-getppid", "syscall-switch")


def timed(*words: str, **environment: str) -> float:
    """Seconds that a vbench command takes."""
    began = time.monotonic()
    command = [sys.executable, "-m", "vbench.cli", *words]
    subprocess.run(command, check=True, env={**os.environ, **environment}, stdout=sys.stderr)
    return time.monotonic() - began


def boot() -> float:
    """Seconds from nothing to a testbed that runs commands."""
    host = TestbedHost.parse("testbed", image.ensure)
    began = time.monotonic()
    host.run(["true"], timeout_s=10)
    took = time.monotonic() - began
    host.close()
    return took


def medians(out: Path) -> dict[str, float]:
    """Seconds (10^9 instructions) per unit of work in the guest, for each workload."""
    chosen = [word for name in WORKLOADS for word in ("--workload", name)]
    timed("run", "--host", "testbed", "--backend", "kvm-virtio", *chosen, "--out", str(out))
    (file,) = out.glob("*.json")
    return {
        entry["extra_info"]["vbench"]["workload"]: statistics.median(entry["stats"]["data"])
        for entry in json.loads(file.read_text())["benchmarks"]
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if "--cold" in sys.argv[1:]:
            began = time.monotonic()
            cache = {"VBENCH_CACHE": f"{folder}/cache"}
            timed("image", "build", **cache)
            os.environ |= cache
            image.ensure_hosting(image.ensure(), LAYER.addition)
            print(f"image and testbed, cold: {time.monotonic() - began:.1f} s (target 180 s)")
        image.ensure_hosting(image.ensure(), LAYER.addition)
        took = timed("exec", "kvm-virtio", "--host", "testbed", "--", "true")
        print(f"exec kvm-virtio --host testbed -- true: {took:.1f} s (target 40 s)")
        print(f"boot of the testbed: {boot():.1f} s (target 12 s)")
        first, second = medians(Path(folder, "1")), medians(Path(folder, "2"))
        for name, one in first.items():
            apart = abs(second[name] / one - 1)
            print(f"{name}: {one * 1e9:.1f} and {second[name] * 1e9:.1f} instructions per unit, "
                  f"{apart:.3%} apart (target 0.1 %)")  # fmt: skip


if __name__ == "__main__":
    main()
