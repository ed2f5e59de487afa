"""The figures about exits: python benchmarks/exits.py [RESULTS]

Without RESULTS it measures in the testbed first, once without the category `exit` and once with
it alone, on kvm-emulated, kvm-virtio and kvm-virtio with shadow paging. Prints what each event
costs and whether it repeats to the instruction, page faults with and without nested paging,
exits per 4 KiB read, how much of the disk's overhead exits explain, and how long the category
takes a backend.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vbench.report import attribution, cells, exit_counts, exits
from vbench.report.gather import Panel, gather
from vbench.results import loading

VARIANTS = ("kvm-emulated", "kvm-virtio", "kvm-virtio,nested_paging=off")
OTHERS = ("memory-pagefault", "memory-random*", "syscall-*", "disk-randread-qd1", "disk-randwrite*")


def run(out: Path, variants: tuple[str, ...], workloads: tuple[str, ...]) -> float:
    """Measure; returns seconds."""
    began = time.monotonic()
    chosen = [word for name in variants for word in ("--backend", name)]
    chosen += [word for name in workloads for word in ("--workload", name)]
    command = [sys.executable, "-m", "vbench.cli", "run", "--host", "testbed", *chosen]
    # some events are unsupported for a stated reason; that is no failure
    subprocess.run([*command, "--out", str(out)], check=True, stdout=sys.stderr)
    return time.monotonic() - began


def measure(folder: Path) -> list[Path]:
    for variant in VARIANTS:
        name = variant.partition(",")[2] or variant
        without = run(folder / f"{name}-others", (variant,), OTHERS)
        both = run(folder / f"{name}-all", (variant,), (*OTHERS, "exit-*"))
        print(f"{variant}: category exit takes {both - without:.0f} s more than {without:.0f} s")
    return [folder / f"{v.partition(',')[2] or v}-all" for v in VARIANTS]


def costs(panel: Panel) -> None:
    print("\nCost of one event in instructions, and how far boots are apart")
    for variant in panel.variants():
        for item, cause in exits.causing(panel, variant):
            found = exits.cost(panel, variant, item.workload)
            if found is not None:
                low, high = (f"{each * 1e9:,.0f}" for each in (found.low, found.high))
                spread = "exact" if low == high else f"boots {low} to {high}"
                print(f"  {variant:30} {cause.event:34} {found.net * 1e9:9,.0f}  {spread}")


def totals(panel: Panel) -> None:
    print("\nPage faults: instructions for each, over all of them; exits for each")
    for item in panel.items:
        if item.workload == "memory-pagefault" and item.pairs:
            guest, native = cells.guest_s(item), cells.native_s(item)
            assert guest is not None
            assert native is not None
            print(
                f"  {item.variant:30} {guest * 1e9:9,.0f}  native {native * 1e9:,.0f}, total of "
                f"{item.work:,} {guest * item.work * 1e9:,.0f}, "
                f"exits {exit_counts.by_reason(item):.3f}"
            )


def operations(panel: Panel) -> None:
    print("\nExits per operation, and how much of the overhead they explain")
    for one in attribution.attributions(panel):
        share = f"{one.share(one.predicted):6.0%}" if one.measured > 0 else "   none"
        print(
            f"  {one.item.variant:30} {one.item.workload:20} "
            f"{exit_counts.by_reason(one.item):8.2f} exits  "
            f"overhead {one.measured * 1e9:+12,.0f}  exits {one.predicted * 1e9:+12,.0f} {share}  "
            f"beside the vCPU {(one.io_threads or 0) * 1e9:+12,.0f}"
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(name) for name in sys.argv[1:]] or measure(Path(folder))
        for panel in gather(loading.load_all(paths)).panels:
            for shown in (costs, totals, operations):
                shown(panel)


if __name__ == "__main__":
    main()
