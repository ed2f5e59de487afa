"""How to read what common tools print: machine-readable output -> seconds that they measured."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable

from vbench.errors import ClientRefused, WorkloadError, named
from vbench.model import Reading

Reader = Callable[[str], Reading | float]


def probe(text: str) -> Reading:
    """vbench-probe's JSON: `elapsed_ns` for `units`; quantiles such as `p50_ns`, in nanoseconds of
    a unit; `equal`, the share of groups within 0.1 % of the median; the time stamp counter's
    `tsc_ticks` during `elapsed_ns`, which give nanoseconds in cycles."""
    result = json.loads(text)
    quantiles = {
        name: result[f"{name}_ns"] / 1e9
        for name in ("min", "p50", "p99", "max", "mean")
        if f"{name}_ns" in result
    }
    counters = {"tsc_ticks": float(result["tsc_ticks"])} if "tsc_ticks" in result else {}
    return Reading(
        result["elapsed_ns"] / 1e9,
        quantiles,
        counters,
        units=float(result.get("units", 0)),
        equal=float(result["equal"]) if "equal" in result else None,
    )


# How far the times of a stream's two ends may be apart. What lies in buffers while only one of
# them measures makes them differ.
_ENDS_AGREE = 0.1


def iperf3(text: str) -> Reading:
    """iperf3's JSON: seconds that the receiver needed, for the MiB that it got.

    Where sender and receiver disagree, a buffer was measured: the stream is too short. Raises
    ClientRefused on an error of the connection, of which iperf3 tells in its output alone.
    """
    result = json.loads(text)
    end = result.get("end")
    if "error" in result and not end:
        raise ClientRefused(f"iperf3: {result['error']}")
    sent, received = float(end["sum_sent"]["seconds"]), float(end["sum_received"]["seconds"])
    differ = abs(sent - received) > _ENDS_AGREE * max(sent, received)
    return Reading(
        received,
        units=end["sum_received"]["bytes"] / (1 << 20),
        too_short=f"the sender took {sent:g} s, the receiver {received:g} s" if differ else "",
    )


def openssl_speed(text: str) -> float:
    """`openssl speed -mr`: seconds per MiB; its +F line ends with bytes per second."""
    match = re.search(r"^\+F:\d+:[^:]+:([\d.]+)\n", text, re.MULTILINE)
    if match is None:
        raise ValueError("there is no +F line")
    return (1 << 20) / float(match[1])


def redis_benchmark(text: str) -> Reading:
    """`redis-benchmark --csv -t set,get`, then a line `each,N`: seconds that N SET and N GET took,
    from the requests of each per second."""
    rates = dict(re.findall(r'^"(SET|GET)","([\d.]+)"', text, re.MULTILINE))
    each = int(re.findall(r"^each,(\d+)\n", text, re.MULTILINE)[0])
    return Reading(sum(each / float(rates[name]) for name in ("SET", "GET")), units=2 * each)


def ab(text: str) -> Reading:
    """ApacheBench: seconds for the requests that it completed. Its time has milliseconds only, its
    requests per second more digits. A request that failed is a fault."""

    def value(name: str) -> float:
        match = re.search(rf"^{name}: +([\d.]+)\s", text, re.MULTILINE)
        if match is None:
            raise ValueError(f"there is no line {name!r}")
        return float(match[1])

    if value("Failed requests") or "Non-2xx responses" in text:
        raise ValueError("requests failed")
    done = value("Complete requests")
    return Reading(done / value("Requests per second"), units=done)


# What a reader may raise on output that its program never prints.
_NONSENSE = (
    *(ValueError, KeyError, IndexError, TypeError, AttributeError),
    *(ArithmeticError, RecursionError),
)


def checked(read: Reader, text: str, command: str) -> Reading:
    """What the program says, checked: a time that is no number or negative is a fault.

    Zero is left to the caller: the first step of a calibration may be too short for the
    program's own clock.
    """
    try:
        made = read(text)
        reading = made if isinstance(made, Reading) else Reading(float(made))
    except ClientRefused as error:
        raise ClientRefused(str(error), evidence=command) from error
    except _NONSENSE as error:
        raise WorkloadError(
            f"the workload's output cannot be read ({named(error)})",
            evidence="\n".join([command, *text.splitlines()[-10:]]),
        ) from error
    for seconds in (reading.elapsed_s, *reading.quantiles.values()):
        if not (math.isfinite(seconds) and seconds >= 0):
            raise WorkloadError(
                f"the workload says it took {seconds} s",
                evidence="\n".join([command, *text.splitlines()[-10:]]),
            )
    if not (math.isfinite(reading.units) and reading.units >= 0):
        raise WorkloadError(
            f"the workload says it did {reading.units} units of work",
            evidence="\n".join([command, *text.splitlines()[-10:]]),
        )
    return reading
