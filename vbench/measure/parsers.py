"""How to read what common tools print: machine-readable output -> seconds that they measured."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable

from vbench.errors import WorkloadError
from vbench.model import Reading

Reader = Callable[[str], Reading | float]


def probe(text: str) -> Reading:
    """vbench-probe's JSON: `elapsed_ns`, and quantiles such as `p50_ns`, in nanoseconds; the
    time stamp counter's `tsc_ticks` during `elapsed_ns`, which tell nanoseconds in cycles."""
    said = json.loads(text)
    quantiles = {
        name: said[f"{name}_ns"] / 1e9
        for name in ("min", "p50", "p99", "max", "mean")
        if f"{name}_ns" in said
    }
    counters = {"tsc_ticks": float(said["tsc_ticks"])} if "tsc_ticks" in said else {}
    return Reading(said["elapsed_ns"] / 1e9, quantiles, counters)


def sysbench(text: str) -> float:
    """sysbench's total time; version 1.0 has no machine-readable output."""
    match = re.search(r"total time:\s*([\d.]+)s", text)
    if match is None:
        raise ValueError("there is no total time")
    return float(match[1])


def fio(text: str) -> Reading:
    """fio's JSON: the run time of its one job, and quantiles of completion latency."""
    job = json.loads(text)["jobs"][0]
    if job["error"]:
        raise ValueError(f"fio stopped with error {job['error']}")
    side = job["read"] if job["read"]["total_ios"] else job["write"]
    percentiles = side["clat_ns"].get("percentile", {})
    quantiles = {
        name: percentiles[key] / 1e9
        for name, key in (("p50", "50.000000"), ("p99", "99.000000"))
        if key in percentiles
    }
    return Reading(side["runtime"] / 1e3, quantiles)  # fio counts milliseconds


def iperf3(text: str) -> float:
    """iperf3's JSON: seconds that the receiver needed."""
    return float(json.loads(text)["end"]["sum_received"]["seconds"])


def openssl_speed(text: str) -> float:
    """`openssl speed -mr`: seconds per MiB; its +F line ends with bytes per second."""
    match = re.search(r"^\+F:\d+:[^:]+:([\d.]+)\n", text, re.MULTILINE)
    if match is None:
        raise ValueError("there is no +F line")
    return (1 << 20) / float(match[1])


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
        said = read(text)
        reading = said if isinstance(said, Reading) else Reading(float(said))
    except _NONSENSE as error:
        raise WorkloadError(
            f"the workload's output cannot be read ({type(error).__name__}: {error})",
            evidence="\n".join([command, *text.splitlines()[-10:]]),
        ) from error
    for seconds in (reading.elapsed_s, *reading.quantiles.values()):
        if not (math.isfinite(seconds) and seconds >= 0):
            raise WorkloadError(
                f"the workload says it took {seconds} s",
                evidence="\n".join([command, *text.splitlines()[-10:]]),
            )
    return reading
