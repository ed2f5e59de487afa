"""Overhead put down to exits, end to end: where all of it is exits, they must explain all of it."""

from __future__ import annotations

import pytest

from tests.integration.conftest import Vbench
from vbench.report.attribution import attributions
from vbench.report.gather import gather
from vbench.results import loading

pytestmark = pytest.mark.testbed

# A read of a port that QEMU answers is an exit and nothing else; what a system call reads from
# memory costs the same in the guest and natively.
PORT = """
def bench_port(measure):
    measure(lambda n, _: f"vbench-probe read {n} /dev/port 128 1", read=parsers.probe)

def bench_call(measure):
    measure(lambda n, _: f"vbench-probe getppid {n}", read=parsers.probe)
"""


def test_exits_explain_an_overhead_that_consists_of_them(vbench: Vbench) -> None:
    done = vbench.run(
        *("run", "--host", "testbed", "--backend", "kvm-virtio", "--boots", 1, "--rounds", 1),
        *("--workload", "port", "--workload", "call"),
        *("--workload", "exit-control-read", "--workload", "exit-port-qemu"),
        *("--workload", "memory-pagefault"),
        *("--out", vbench.out, vbench.workload(PORT)),
    )
    assert done.returncode == 0, done.stderr
    (panel,) = gather(loading.load_all([vbench.out])).panels
    found = {one.item.workload: one for one in attributions(panel)}

    port = found["port"]
    assert port.measured > 4e-6  # an instruction is a nanosecond there
    assert port.parts[0][0] == "port I/O in QEMU"
    assert port.share(port.predicted) == pytest.approx(1, abs=0.1)
    assert found["call"].predicted < 5e-9  # a system call does not exit

    # What is counted from outside covers what the program times, and no more.
    (fault,) = (item for item in panel.items if item.workload == "memory-pagefault")
    (pair,) = fault.pairs
    assert pair.counters["vcpu_cpu_s"] == pytest.approx(pair.quantiles["mean"][1], rel=0.05)

    report = (vbench.out / "report.md").read_text()
    section = report[report.index("**Overhead explained by exits**") :]
    row = next(line for line in section.splitlines() if line.startswith("| port<br>"))
    assert "| port I/O in QEMU " in row
