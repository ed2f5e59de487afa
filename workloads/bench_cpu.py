"""Plain computation: what is left when nothing but the user's own instructions run."""

import pytest

from vbench.contract.guest import Endpoint
from vbench.measure import parsers
from vbench.measure.engine import Measure

pytestmark = pytest.mark.workload(category="cpu")

# The host may have AVX-512 and VAES where the guest's CPU model has neither. With this mask
# (CPUID leaf 1 EDX up to SSE2 : nothing of ECX and leaf 7) both sides run the same x86-64
# baseline code; OPENSSL_ia32cap(3).
_BASELINE = "OPENSSL_ia32cap=0x17bfbff:0x0"


@pytest.mark.workload(unit="event", representative=True)
def bench_cpu_prime(measure: Measure) -> None:
    """All primes below 2,000 by trial division."""
    measure(
        lambda events, endpoint: f"vbench-probe prime {events}",
        read=parsers.probe,
        initial_units=50,
    )


def _openssl(measure: Measure, algorithm: str, environment: str = "") -> None:
    def command(seconds: int, endpoint: Endpoint) -> str:
        return (
            f"{environment} openssl speed -elapsed -seconds {seconds} -mr -bytes 16384 "
            f"-evp {algorithm}"
        ).strip()

    measure(command, read=parsers.openssl_speed, fixed_units=1)


# openssl runs for a time and gives a total: interrupts are in it.
_total = pytest.mark.workload(unit="MiB", counted=False)


@_total
def bench_cpu_sha256(measure: Measure) -> None:
    """SHA-256 by openssl, the same x86-64 baseline instructions on both sides."""
    _openssl(measure, "sha256", _BASELINE)


@_total
def bench_cpu_aes(measure: Measure) -> None:
    """AES-128-CBC by openssl, the same x86-64 baseline instructions on both sides."""
    _openssl(measure, "aes-128-cbc", _BASELINE)


@_total
def bench_cpu_aes_own_isa(measure: Measure) -> None:
    """AES-128-CBC by openssl with all instructions each side has (AES-NI and beyond)."""
    _openssl(measure, "aes-128-cbc")
