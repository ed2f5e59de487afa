"""TCP between the guest and a client beside it; native: between two network namespaces."""

import pytest

from vbench.contract.guest import Endpoint
from vbench.measure import parsers
from vbench.measure.engine import Measure

pytestmark = pytest.mark.workload(category="network")


# More than the buffers of both ends hold (net.ipv4.tcp_rmem and tcp_wmem grow to 6 and 4 MiB).
_MIN_MIB, _MAX_MIB = 32, 8192


def _iperf3(measure: Measure, direction: str = "") -> None:
    def command(mebibytes: int, endpoint: Endpoint) -> str:
        return (
            f"iperf3 --client {endpoint.address} --port {endpoint.port} --json {direction} "
            f"--bytes {mebibytes}M"
        )

    measure(
        command,
        read=parsers.iperf3,
        min_units=_MIN_MIB,
        max_units=_MAX_MIB,
        server=lambda endpoint: "iperf3 --server --port 5201",
    )


@pytest.mark.workload(unit="MiB", counted=False)
def bench_network_receive(measure: Measure) -> None:
    """One TCP stream into the guest (iperf3)."""
    _iperf3(measure)


@pytest.mark.workload(unit="MiB", counted=False)
def bench_network_send(measure: Measure) -> None:
    """One TCP stream out of the guest (iperf3 -R)."""
    _iperf3(measure, "--reverse")


@pytest.mark.workload(unit="round trip", representative=True)
def bench_network_rr(measure: Measure) -> None:
    """One byte there and back over TCP, one at a time."""
    measure(
        lambda trips, endpoint: (
            f"vbench-probe rr-client {endpoint.address} {endpoint.port} {trips}"
        ),
        read=parsers.probe,
        initial_units=100,
        server=lambda endpoint: "vbench-probe rr-server 5201",
    )
