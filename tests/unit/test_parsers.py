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

GROUPS = (
    '{"elapsed_ns": 20136300, "units": 60000, "min_ns": 333.100, "p50_ns": 335.200, '
    '"mean_ns": 335.605, "groups": 600, "equal": 0.9150}\n'
)
TIMER = (
    '{"elapsed_ns": 102215740, "units": 500, "tsc_ticks": 265760924, "min_ns": 14777, '
    '"p50_ns": 16398, '
    '"p99_ns": 90879, "max_ns": 1496793, "mean_ns": 24212.356}\n'
)
OPENSSL = "+H:16384\n+F:25:sha256:1135296512.00\n"
# iperf3 3.12, shortened to the keys that are read and a few beside them
IPERF3 = {
    "start": {"version": "iperf 3.12"},
    "end": {
        "sum_sent": {"seconds": 0.0105, "bytes": 2097152, "sender": True},
        "sum_received": {"seconds": 0.011186, "bytes": 2097152, "sender": True},
    },
}


# redis-benchmark 7.0.15, and the line that our command adds; without its last two columns
REDIS = """\
"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms"
"SET","16949.15","1.944","0.144","1.007","5.583"
"GET","21276.60","1.556","0.184","0.823","4.967"
each,2000
"""
# ab 2.3 of Apache 2.4.68, without its lines of names and of quantiles
AB = """\
Concurrency Level:      16
Time taken for tests:   0.245 seconds
Complete requests:      2000
Failed requests:        0
Keep-Alive requests:    2000
Total transferred:      62036000 bytes
HTML transferred:       61552000 bytes
Requests per second:    8156.27 [#/sec] (mean)
Time per request:       1.962 [ms] (mean)
"""


def test_probe() -> None:
    made = parsers.probe(GROUPS)
    assert (made.elapsed_s, made.units, made.equal) == (pytest.approx(0.0201363), 60000, 0.915)
    assert made.quantiles == pytest.approx({"min": 333.1e-9, "p50": 335.2e-9, "mean": 335.605e-9})


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


def iperf3(sent_s: float, received_s: float) -> str:
    end = {
        "sum_sent": {"seconds": sent_s, "bytes": 33 << 20},
        "sum_received": {"seconds": received_s, "bytes": 32 << 20},
    }
    return json.dumps({"end": end})


def test_iperf3_counts_what_came_and_not_what_was_asked_for() -> None:
    made = parsers.iperf3(iperf3(0.50, 0.51))
    assert (made.elapsed_s, made.units) == (0.51, 32)


@pytest.mark.parametrize("times", [(0.020, 0.0005), (0.0005, 0.020)])
def test_a_stream_whose_ends_disagree_is_too_short(times: tuple[float, float]) -> None:
    """3 MiB through a user-mode network: it all lay in a buffer when the receiver began."""
    assert "the sender took" in parsers.iperf3(iperf3(*times)).too_short
    assert not parsers.iperf3(iperf3(0.5, 0.51)).too_short


def test_openssl_speed_is_seconds_per_mebibyte() -> None:
    assert parsers.openssl_speed(OPENSSL) == pytest.approx((1 << 20) / 1135296512)


def test_redis_benchmark_is_the_time_of_both_kinds_of_requests() -> None:
    made = parsers.redis_benchmark(REDIS)
    assert made.units == 4000
    assert made.elapsed_s == pytest.approx(2000 / 16949.15 + 2000 / 21276.60)


def test_ab_is_the_time_of_all_requests_and_none_may_fail() -> None:
    made = parsers.ab(AB)
    assert (made.units, made.elapsed_s) == (2000, pytest.approx(0.245, rel=2e-3))
    for broken in (
        AB.replace("Failed requests:        0", "Failed requests:        3"),
        AB + "Non-2xx responses:      2000\n",
    ):
        with pytest.raises(WorkloadError, match="requests failed"):
            parsers.checked(parsers.ab, broken, "ab")


READERS: dict[Callable[[str], Reading | float], str] = {
    parsers.probe: TIMER,
    parsers.iperf3: json.dumps(IPERF3),
    parsers.openssl_speed: OPENSSL,
    parsers.redis_benchmark: REDIS,
    parsers.ab: AB,
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
    '{"elapsed_ns": 5, "units": -1}',
    '{"elapsed_ns": 5, "units": "many"}',
    '{"end": {}}',
    '{"end": {"sum_received": {"seconds": null}}}',
    '{"end": {"sum_sent": {"seconds": 1}, "sum_received": {"seconds": 1, "bytes": null}}}',
    '{"error": "unable to connect to server: Connection refused"}',
    "+F:25:sha256:0.00\n",
    "each,0\n",
    '"SET","0.00"\n"GET","1.00"\neach,9\n',
    AB.replace("8156.27", "0.00"),
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
