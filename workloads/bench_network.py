"""TCP between the guest and a client beside it; native: between two network namespaces."""

import pytest

from vbench.guest.target import Place
from vbench.measure import parsers
from vbench.measure.engine import Measure

pytestmark = pytest.mark.workload(category="network")


def _iperf3(measure: Measure, direction: str = "") -> None:
    def command(mebibytes: int, place: Place) -> str:
        return (
            f"iperf3 --client {place.address} --port {place.port} --json {direction} "
            f"--bytes {mebibytes}M"
        )

    measure(
        command,
        read=parsers.iperf3,
        first=2,
        server=lambda place: "iperf3 --server --port 5201",
    )


@pytest.mark.workload(unit="MiB")
def bench_network_receive(measure: Measure) -> None:
    """One TCP stream into the guest (iperf3)."""
    _iperf3(measure)


@pytest.mark.workload(unit="MiB")
def bench_network_send(measure: Measure) -> None:
    """One TCP stream out of the guest (iperf3 -R)."""
    _iperf3(measure, "--reverse")


@pytest.mark.workload(unit="round trip")
def bench_network_rr(measure: Measure) -> None:
    """One byte there and back over TCP, one at a time."""
    measure(
        lambda trips, place: f"vbench-probe rr-client {place.address} {place.port} {trips}",
        read=parsers.probe,
        first=100,
        server=lambda place: "vbench-probe rr-server 5201",
    )
