"""Xen's figures: python benchmarks/xen.py

From `xl create` to a command in a PV guest; what probes cost there and natively, in instructions;
medians of the syscall workloads in two runs of their own; with --table, the time of a run that
fills all columns of the table.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vbench import image
from vbench.contract.guest import Target
from vbench.guest.native import Native
from vbench.guest.target import succeed
from vbench.plugins.xen_pv import BACKEND
from vbench.testbed import TestbedHost

PROBES = ("spin 20000000", "getppid 100000", "pagefault 16384", "switch 2000", "cpuid 2000")
COLUMNS = ("tcg", "kvm-emulated", "kvm-virtio", "xen-pv")


def per_unit(target: Target, probe: str) -> float:
    """Instructions per unit: per-event probes say their median, others their mean."""
    printed = json.loads(succeed(target, f"vbench-probe {probe}", timeout_s=60))
    return float(printed.get("p50_ns", printed["elapsed_ns"] / printed["units"]))


def vbench_run(out: Path, *words: str) -> float:
    """Seconds that a run in the testbed takes."""
    command = [sys.executable, "-m", "vbench.cli", "run", "--host", "testbed", "--out", str(out)]
    began = time.monotonic()
    subprocess.run([*command, *words], check=True, stdout=sys.stderr)
    return time.monotonic() - began


def medians(out: Path) -> dict[str, float]:
    """Instructions per unit of work in the guest, for each syscall workload. Of several rounds:
    what dom0 does now and then, a million instructions, falls into some."""
    vbench_run(out, "--backend", "xen-pv", "--workload", "syscall-*", "--rounds", "5")
    (file,) = out.glob("*.json")
    return {
        entry["extra_info"]["vbench"]["workload"]: statistics.median(entry["stats"]["data"]) * 1e9
        for entry in json.loads(file.read_text())["benchmarks"]
    }


def launches(host: TestbedHost) -> None:
    files = image.ensure()
    for _ in range(3):
        began = time.monotonic()
        guest = BACKEND.launch(host, files, BACKEND.options)
        print(f"launch to first command, dom0 up: {time.monotonic() - began:.1f} s (target 15 s)")
        guest.close()


def probes(host: TestbedHost) -> None:
    files = image.ensure()
    native = Native(host, host.upload_image(files), scratch=host.scratch())
    with BACKEND.launch(host, files, BACKEND.options) as guest:
        clock = [per_unit(target, "empty 2000") for target in (native, guest)]
        print(f"reading the clock: {clock[0]:.0f} natively, {clock[1]:.0f} in the PV guest")
        for probe in PROBES:
            natively, inside = (per_unit(target, probe) for target in (native, guest))
            if probe.startswith("cpuid"):  # timed one by one
                natively, inside = natively - clock[0], inside - clock[1]
            print(f"{probe.split()[0]}: {natively:,.1f} natively, {inside:,.1f} in the PV guest, "
                  f"x{inside / natively:.3f}")  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        host = TestbedHost.parse("testbed", image.ensure)
        try:
            began = time.monotonic()
            BACKEND.probe(host, BACKEND.options)
            print(f"dom0 up: {time.monotonic() - began:.1f} s")
            launches(host)
            probes(host)
        finally:
            host.close()
        first, second = medians(Path(folder, "1")), medians(Path(folder, "2"))
        for name, one in first.items():
            print(f"{name}: {one:.1f} and {second[name]:.1f} instructions per unit, "
                  f"{abs(second[name] / one - 1):.3%} apart (target 0.1 %)")  # fmt: skip
        if "--table" in sys.argv[1:]:
            chosen = [word for name in COLUMNS for word in ("--backend", name)]
            took = vbench_run(Path(folder, "3"), "--quick", *chosen)
            print(f"quick run of {', '.join(COLUMNS)}: {took / 60:.1f} min (target 15 min)")


if __name__ == "__main__":
    main()
