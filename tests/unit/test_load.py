"""Guests under load at once: what is made of what they and their host say. Made-up ones."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from vbench.errors import Unsupported
from vbench.measure import load
from vbench.measure.ksm import merged
from vbench.measure.load import Loaded, Requests, events_for, under_load
from vbench.measure.surface import traced
from vbench.model import Output
from vbench.records import Capabilities, NativeReference, NetworkPath, UsageScope
from vbench.workloads import scenario_consolidation


class Host:
    """Whose two CPUs are busy for `busy_s` a second, always between two ticks of its kernel."""

    name, busy_s = "made-up", 1.5

    def clock(self) -> float:
        return time.monotonic()

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Output:
        now_s = time.monotonic()
        idle, waiting = round(now_s * (2 - self.busy_s) * 75), round(now_s * (2 - self.busy_s) * 25)
        stat = f"cpu  5 0 0 {idle} {waiting} 0 0 7 0 0\ncpu0 5 0 0\ncpu1 0 0 0\nintr 1 2\n"
        return Output(0, f"{now_s:.2f} 1.00\n{stat}", "")


class Answers:
    """A target or guest that answers with response times in milliseconds, and spends half a CPU."""

    capabilities = Capabilities(
        NativeReference.LAUNCHING_HOST, NetworkPath.TAP, usage=UsageScope.GUEST
    )

    def __init__(self, *response_ms: float) -> None:
        self.response_ms = response_ms

    def run(self, command: str, *, timeout_s: float) -> Output:
        time.sleep(0.4)
        said = {
            "cpu_ns": 2e8,
            "elapsed_ns": 4e8,
            "units": len(self.response_ms),
            "response_us": [1000 * each for each in self.response_ms],
        }
        return Output(0, json.dumps(said), "")

    def usage(self) -> dict[str, float]:
        return {"host_cpu_s": time.monotonic() / 2}


def test_responses_of_all_are_one_distribution_and_foreign_cpu_is_what_is_left() -> None:
    guests = [Answers(*range(1, 51)), Answers(*range(51, 101))]
    found = under_load(Host(), guests, Requests(20, 0.02, 1), guests)  # type: ignore[arg-type]
    assert [found.quantile(each) for each in (0.5, 0.95, 0.99)] == [0.05, 0.095, 0.099]
    assert found.missed == pytest.approx(0.8)
    assert found.busy == pytest.approx(0.75, abs=0.06)
    assert found.foreign == pytest.approx(0.25, abs=0.06)
    assert found.each == pytest.approx(0.5, abs=0.06)
    natively = under_load(Host(), guests[:1], Requests(20, 0.02, 1), [])  # type: ignore[arg-type]
    assert natively.each == pytest.approx(0.5)
    assert natively.foreign == pytest.approx(0.5, abs=0.06)


def test_where_a_guest_does_not_know_what_it_spent_foreign_cpu_is_not_known() -> None:
    guest = Answers(1)
    guest.usage = dict  # type: ignore[method-assign]
    found = under_load(Host(), [guest], Requests(20, 0.02, 1), [guest])  # type: ignore[arg-type,list-item]
    assert (found.foreign, found.each) == (None, None)


def test_what_a_guest_spends_is_not_what_its_host_spends() -> None:
    guest = Answers(1)
    guest.capabilities = dataclasses.replace(guest.capabilities, usage=UsageScope.HOST)
    found = under_load(Host(), [guest], Requests(20, 0.02, 1), [guest])  # type: ignore[arg-type,list-item]
    assert (found.foreign, found.each) == (None, None)


class Server(Answers):
    """A guest whose process spends 0.06 of a CPU on nothing, and 0.024 on each event of a request
    of 20 ms; the guest itself says that an event takes it 0.4 ms."""

    spent_s = 0.0

    def run(self, command: str, *, timeout_s: float) -> Output:
        events = int(command.rsplit(maxsplit=1)[-1])
        self.began_s, self.share = time.monotonic(), 0.06 + 0.024 * events
        said = json.loads(super().run(command, timeout_s=timeout_s).stdout)
        said |= {"units": 20, "cpu_ns": 20 * events * 0.4e6, "response_us": [1]}
        return Output(0, json.dumps(said), "")

    def usage(self) -> dict[str, float]:
        return {"host_cpu_s": self.share * (time.monotonic() - self.began_s)}


def test_a_request_is_so_much_that_the_process_of_a_guest_is_busy_for_the_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "_CALIBRATION", 20)
    guest = Server(1)
    assert events_for(Host(), guest, 0.18, 0.02) == 5  # type: ignore[arg-type]
    guest.usage = dict  # type: ignore[method-assign]
    assert events_for(Host(), guest, 0.18, 0.02) == 9  # type: ignore[arg-type]


def test_a_quantile_is_the_smallest_that_so_many_do_not_exceed() -> None:
    one = Loaded((1.0, 2.0, 3.0, 4.0), 0, 0, None, None)
    assert [one.quantile(each) for each in (0.25, 0.5, 0.51, 1)] == [1, 2, 3, 4]
    assert Loaded((7.0,), 0, 0, None, None).quantile(0.5) == 7


def test_a_step_that_others_disturbed_is_measured_again() -> None:
    def kept(*foreign: float | None) -> Loaded:
        each = iter([Loaded((1.0,), 0, 0.5, share, None) for share in foreign])
        lab = SimpleNamespace(under_load=lambda *_: next(each))
        found = scenario_consolidation._least_disturbed(lab, [], Requests(1, 0.02, 1))  # type: ignore[arg-type]
        assert next(each, None) is None
        return found

    assert kept(0.04).foreign == 0.04
    assert kept(0.3, 0.02).foreign == 0.02
    assert kept(0.3, 0.1, 0.2).foreign == 0.1
    assert kept(None).foreign is None


def test_as_many_guests_are_tried_as_fill_the_cpus() -> None:
    def most(cpus: str) -> int:
        host = SimpleNamespace(facts=lambda: SimpleNamespace(facts={"cpus": cpus}))
        return scenario_consolidation._steps(host)[-1]  # type: ignore[arg-type]

    assert (most("1"), most("2"), most("8"), most("64")) == (6, 12, 48, 48)
    assert most("unknown") == 48


def test_where_functions_cannot_be_traced_it_is_said_and_undone(tmp_path: Path) -> None:
    scripts = []

    class Refuses:
        """Has the tracer, and refuses to switch it on."""

        name = "local"

        @contextmanager
        def workdir(self) -> Iterator[str]:
            yield str(tmp_path)

        def write(self, path: str, data: bytes) -> None:
            Path(path).write_bytes(data)

        def run(self, argv: Sequence[str], *, timeout_s: float) -> Output:
            scripts.append(argv[-1])
            return Output(1, "", "echo: I/O error") if "mkdir" in argv[-1] else Output(0, "", "")

    with pytest.raises(Unsupported, match="cannot be traced") as caught, traced(Refuses()):  # type: ignore[arg-type]
        pass
    assert caught.value.evidence == "echo: I/O error"
    assert scripts[-1] == f"{tmp_path}/undo"


def test_where_no_pages_can_be_merged_it_is_said_why() -> None:
    for said in ("its kernel has none", "only root may switch it on"):
        host = SimpleNamespace(name="local", run=lambda *_, said=said, **__: Output(1, said, ""))
        with pytest.raises(Unsupported, match=said), merged(host):  # type: ignore[arg-type]
            pass
