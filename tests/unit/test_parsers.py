"""Readers against what the tools really print, whole and broken."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbench.errors import WorkloadError
from vbench.measure import parsers
from vbench.model import Reading

PROBE = '{"elapsed_ns": 14452, "units": 100}\n'
TIMER = (
    '{"elapsed_ns": 102215740, "units": 500, "tsc_ticks": 265760924, "min_ns": 14777, '
    '"p50_ns": 16398, '
    '"p99_ns": 90879, "max_ns": 1496793, "mean_ns": 24212.356}\n'
)
SYSBENCH = """sysbench 1.0.20 (using system LuaJIT 2.1.0-beta3)

CPU speed:
    events per second: 21073.81

General statistics:
    total time:                          0.0014s
    total number of events:              50

Latency (ms):
         min:                                    0.02
         avg:                                    0.02
"""
OPENSSL = "+H:16384\n+F:25:sha256:1135296512.00\n"
# fio 3.33 and iperf3 3.12, shortened to the keys that are read and a few beside them
FIO_SIDE = {
    "total_ios": 16,
    "io_bytes": 65536,
    "runtime": 3,
    "clat_ns": {
        "min": 507132,
        "mean": 825384.4,
        "percentile": {"1.000000": 510, "50.000000": 564000, "99.000000": 3952000},
    },
}
FIO_IDLE = {"total_ios": 0, "io_bytes": 0, "runtime": 0, "clat_ns": {"min": 0, "mean": 0.0}}
FIO_JOB = {"jobname": "disk", "error": 0, "read": FIO_SIDE, "write": FIO_IDLE}
IPERF3 = {
    "start": {"version": "iperf 3.12"},
    "end": {
        "sum_sent": {"seconds": 0.0105, "bytes": 2097152, "sender": True},
        "sum_received": {"seconds": 0.011186, "bytes": 2097152, "sender": True},
    },
}


def fio(**changes: object) -> str:
    return json.dumps({"fio version": "fio-3.33", "jobs": [{**FIO_JOB, **changes}]})


def test_probe() -> None:
    assert parsers.probe(PROBE) == Reading(14452e-9)


def test_probe_with_a_distribution() -> None:
    said = parsers.probe(TIMER)
    assert said.elapsed_s == pytest.approx(0.10221574)
    assert said.quantiles == pytest.approx(
        {
            "min": 14777e-9,
            "p50": 16398e-9,
            "p99": 90879e-9,
            "max": 1496793e-9,
            "mean": 24212.356e-9,
        }
    )
    assert said.counters == {"tsc_ticks": 265760924}


def test_sysbench() -> None:
    assert parsers.sysbench(SYSBENCH) == 0.0014


def test_fio_reads_the_side_that_worked() -> None:
    said = parsers.fio(fio())
    assert said.elapsed_s == 0.003
    assert said.quantiles == pytest.approx({"p50": 564e-6, "p99": 3952e-6})
    assert parsers.fio(fio(read=FIO_IDLE, write=FIO_SIDE)) == said


def test_fio_without_percentiles() -> None:
    assert parsers.fio(fio(read={**FIO_SIDE, "clat_ns": {"min": 1}})).quantiles == {}


def test_fio_error_is_not_a_time() -> None:
    with pytest.raises(ValueError, match="fio stopped with error 5"):
        parsers.fio(fio(error=5))


def test_iperf3() -> None:
    assert parsers.iperf3(json.dumps(IPERF3)) == 0.011186


def test_openssl_speed_is_seconds_per_mebibyte() -> None:
    assert parsers.openssl_speed(OPENSSL) == pytest.approx((1 << 20) / 1135296512)


READERS: dict[Callable[[str], Reading | float], str] = {
    parsers.probe: TIMER,
    parsers.sysbench: SYSBENCH,
    parsers.fio: fio(),
    parsers.iperf3: json.dumps(IPERF3),
    parsers.openssl_speed: OPENSSL,
}
readers = st.sampled_from(list(READERS))
names = pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)

BROKEN = (
    "",
    "Segmentation fault\n",
    "{}",
    "[]",
    "null",
    '"text"',
    "12",
    '{"elapsed_ns": null}',
    '{"elapsed_ns": "fast"}',
    '{"elapsed_ns": 1' + "0" * 400 + "}",
    '{"elapsed_ns": NaN}',
    '{"elapsed_ns": -5}',
    '{"jobs": []}',
    '{"jobs": [{"error": 0}]}',
    '{"end": {}}',
    '{"end": {"sum_received": {"seconds": null}}}',
    '{"error": "unable to connect to server: Connection refused"}',
    "total time: 0.0.1s",
    "+F:25:sha256:0.00\n",
    "+F:25:sha256:.\n",
)


@names
@pytest.mark.parametrize("text", BROKEN, ids=[text[:20] for text in BROKEN])
def test_broken_output_is_a_workload_error(
    read: Callable[[str], Reading | float], text: str
) -> None:
    with pytest.raises(WorkloadError) as caught:
        parsers.checked(read, text, "the command")
    assert caught.value.evidence.startswith("the command")


@names
def test_torn_output_is_refused_or_the_same(read: Callable[[str], Reading | float]) -> None:
    """Cut anywhere: either it cannot be read, or what was cut off did not matter."""
    text = READERS[read]
    whole = parsers.checked(read, text, "c")
    for end in range(0, len(text), max(1, len(text) // 60)):
        try:
            said = parsers.checked(read, text[:end], "c")
        except WorkloadError:
            continue
        assert said == whole


@given(readers, st.text())
def test_any_text_is_a_time_or_a_workload_error(
    read: Callable[[str], Reading | float], text: str
) -> None:
    with contextlib.suppress(WorkloadError):
        assert parsers.checked(read, text, "c").elapsed_s >= 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
numbers = st.integers() | st.floats()


@given(
    st.fixed_dictionaries({"elapsed_ns": numbers | json_values, "p50_ns": numbers | json_values})
)
def test_any_probe_json_is_sane_or_a_workload_error(said: dict[str, object]) -> None:
    try:
        made = parsers.checked(parsers.probe, json.dumps(said), "c")
    except WorkloadError:
        return
    assert 0 <= made.elapsed_s < float("inf")
    assert all(0 <= value < float("inf") for value in made.quantiles.values())
