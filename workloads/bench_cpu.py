"""Plain computation: what is left when nothing but the user's own instructions run."""

import pytest

from vbench.guest.target import Endpoint
from vbench.measure import parsers
from vbench.measure.engine import Measure

pytestmark = pytest.mark.workload(category="cpu")

# The host may have AVX-512 and VAES where the guest's CPU model has neither. With this mask
# (CPUID leaf 1 EDX up to SSE2 : nothing of ECX and leaf 7) both sides run the same x86-64
# baseline code; OPENSSL_ia32cap(3).
_BASELINE = "OPENSSL_ia32cap=0x17bfbff:0x0"


@pytest.mark.workload(unit="event")
def bench_cpu_sysbench(measure: Measure) -> None:
    """Primes up to 2,000 by trial division (sysbench cpu)."""

    def command(events: int, endpoint: Endpoint) -> str:
        return f"sysbench cpu --cpu-max-prime=2000 --time=0 --events={events} run"

    measure(command, read=parsers.sysbench, initial_units=50)


def _openssl(measure: Measure, algorithm: str, environment: str = "") -> None:
    def command(mebibytes: int, endpoint: Endpoint) -> str:
        return (
            f"{environment} openssl speed -elapsed -seconds 1 -mr -bytes 16384 -evp {algorithm}"
        ).strip()

    measure(command, read=parsers.openssl_speed, fixed_time=True)


@pytest.mark.workload(unit="MiB")
def bench_cpu_sha256(measure: Measure) -> None:
    """SHA-256 by openssl, the same x86-64 baseline instructions on both sides."""
    _openssl(measure, "sha256", _BASELINE)


@pytest.mark.workload(unit="MiB")
def bench_cpu_aes(measure: Measure) -> None:
    """AES-128-CBC by openssl, the same x86-64 baseline instructions on both sides."""
    _openssl(measure, "aes-128-cbc", _BASELINE)


@pytest.mark.workload(unit="MiB")
def bench_cpu_aes_own_isa(measure: Measure) -> None:
    """AES-128-CBC by openssl with all instructions each side has (AES-NI and beyond)."""
    _openssl(measure, "aes-128-cbc")
