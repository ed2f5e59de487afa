"""One run: which series are measured, and what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import vbench
from vbench.contract.host import Host
from vbench.contract.registry import Registry
from vbench.errors import (
    GuestLost,
    Unsupported,
    VbenchError,
)
from vbench.guest.launch import Guest
from vbench.guest.native import Native
from vbench.measure.engine import ExitHistogram, Measure, Outcome, Sizes
from vbench.measure.plan import GUEST, NATIVE, Plan
from vbench.model import (
    ImageFiles,
    Item,
    Pair,
    Result,
    Statistic,
    Status,
    TimeBase,
    WorkloadInfo,
)
from vbench.results import stats
from vbench.results.journal import Journal
from vbench.run.guests import Broker, Series
from vbench.run.phases import Phases


@dataclass
class _State:
    """One workload of one series over its boots, while the run goes on."""

    info: WorkloadInfo
    sizes: Sizes = field(default_factory=Sizes)
    outcome: Outcome = field(default_factory=Outcome)
    problems: list[str] = field(default_factory=list)
    unsupported: str = ""
    launches: list[str] = field(default_factory=list)


class Session:
    """A context manager that ends guests and hosts."""

    def __init__(
        self,
        *,
        registry: Registry,
        series: Sequence[Series],
        image: ImageFiles,
        plan: Plan,
        plans: Mapping[TimeBase, Plan] | None = None,
        out: Path | None = None,
        argv: Sequence[str] = (),
        unavailable: Mapping[str, Sequence[tuple[str, str, str, str]]] | None = None,
    ) -> None:
        """`plans` overrides `plan` for a time base; `out` None keeps nothing on disk;
        `unavailable` is by the name of the host."""
        self.registry = registry
        self.series = {each.label: each for each in series}
        self.image = image
        self.out = out
        self.phases = Phases()
        self._plan = plan
        self._plans = dict(plans or {})
        self._argv = tuple(argv)
        self._unavailable = dict(unavailable or {})
        self._began = time.monotonic()
        self._started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._journal = Journal(out) if out else None
        self._states: dict[tuple[str, str], _State] = {}
        self.broker = Broker(registry, image, self.phases, self._note)
        self._natives: dict[tuple[Host, int, tuple[str, ...], bool, str], Native] = {}
        self.failed: list[str] = []

    def plan(self, series: Series) -> Plan:
        return self._plans.get(series.host.time_base, self._plan).at_most(series.boots)

    # ------------------------------------------------------------ items

    @contextlib.contextmanager
    def item(
        self, series: Series, info: WorkloadInfo, boot: int
    ) -> Iterator[Callable[[], Measure]]:
        """Measure one item: yields a maker of its `Measure`; errors are recorded on the way out.

        Whatever ends the block, Ctrl-C included, the pairs taken so far stay.
        """
        key = (series.label, info.name)
        state = self._states.setdefault(key, _State(info))
        if not state.sizes.native:  # another variant has calibrated native already
            state.sizes.native = self._native_size(series, info.name)
        try:
            yield lambda: self._measure(series, state, boot)
        except Unsupported as error:
            state.unsupported = error.what
            raise
        except VbenchError as error:
            told: VbenchError = error
            guest = self.broker.current
            if isinstance(error, GuestLost) and not error.evidence and guest is not None:
                told = guest.lost(error.what)  # QMP noticed it: the machine knows more
            state.problems.append(f"boot {boot + 1}: {told.what}")
            self.failed.append(f"{info.name}[{series.variant.text}] boot {boot + 1}: {told}")
            if isinstance(error, GuestLost):
                self.broker.drop()
            raise
        except Exception as error:
            state.problems.append(f"boot {boot + 1}: {type(error).__name__}: {error}")
            where = f"{info.name}[{series.variant.text}] boot {boot + 1}"
            self.failed.append(f"{where}: {type(error).__name__}: {error}")
            raise
        except BaseException:
            state.problems.append(f"boot {boot + 1}: interrupted")
            raise
        finally:
            self.phases.enter("other")
            self._note(
                {
                    "event": "item",
                    "series": series.label,
                    "workload": info.name,
                    "boot": boot,
                    "problems": state.problems,
                    "unsupported": state.unsupported,
                }
            )

    def _native_size(self, series: Series, workload: str) -> int:
        """Units that make a native sample of this workload on this host, 0 if not known yet."""
        known = (
            state.sizes.native
            for (label, name), state in self._states.items()
            if name == workload and self.series[label].host is series.host
        )
        return next(filter(None, known), 0)

    def _measure(self, series: Series, state: _State, boot: int) -> Measure:
        if state.unsupported:
            raise Unsupported(state.unsupported)
        guest = self.broker.guest(series, boot, state.info.options)
        launch_id = self.broker.launches[series.label][-1].id
        if launch_id not in state.launches:
            state.launches.append(launch_id)
        host, vcpus = series.host, guest.endpoint.vcpus
        if state.info.category == "disk":
            for each in {host, guest.host}:
                each.fill_scratch()
        native: Native | None = None
        clients: dict[str, Native] = {}
        if state.info.category == "network":
            clients[GUEST] = self._native(guest.host, vcpus, guest.peer_prefix or (), client=True)
            network = host.network()
            if guest.peer_prefix is None:
                state.outcome.flags.add("slirp")
            elif network is not None:
                clients[NATIVE] = self._native(host, vcpus, network.peer_prefix, client=True)
                native = self._native(host, vcpus, network.native_prefix, network.native_address)
        elif state.info.statistic is not Statistic.ABSOLUTE:
            native = self._native(host, vcpus)
        if native and guest.observed.get("kernel") != host.facts().facts.get("kernel"):
            state.outcome.flags.add("kernel_differs")
        if native and guest.device.get("native") == "dom0":
            state.outcome.flags.add("native_is_dom0")

        def on_pair(pair: Pair) -> None:
            self._note(
                {
                    "event": "pair",
                    "series": series.label,
                    "workload": state.info.name,
                    **{f.name: getattr(pair, f.name) for f in dataclasses.fields(pair)},
                }
            )

        return Measure(
            guest=guest,
            native=native,
            clients=clients,
            boot=boot,
            plan=self.plan(series),
            sizes=state.sizes,
            outcome=state.outcome,
            on_pair=on_pair,
            counters=self._counters,
            histogram=self._exit_histogram,
            phase=self.phases.enter,
        )

    def _native(
        self,
        host: Host,
        vcpus: int,
        prefix: tuple[str, ...] = (),
        address: str = "",
        *,
        client: bool = False,
    ) -> Native:
        scratch = host.scratch()  # another one after a connection that was lost
        key = (host, vcpus, prefix, client, scratch.path)
        if key not in self._natives:
            self._natives[key] = Native(
                host,
                host.upload_image(self.image),
                vcpus=vcpus,
                prefix=prefix,
                address=address,
                scratch=scratch,
                client=client,
            )
        return self._natives[key]

    def _counters(self, guest: Guest) -> Mapping[str, int]:
        merged: dict[str, int] = {}
        for _, counters in self.registry.call("vbench_counters", guest=guest):
            merged.update(counters)
        return merged

    def _exit_histogram(self, guest: Guest) -> ExitHistogram | None:
        found = [
            histogram for _, histogram in self.registry.call("vbench_exit_histogram", guest=guest)
        ]
        return next((histogram for histogram in found if histogram is not None), None)

    def _note(self, record: Mapping[str, Any]) -> None:
        """To the journal, with the seconds since this run began."""
        if self._journal:
            self._journal.append({"at_s": round(time.monotonic() - self._began, 2), **record})

    # ------------------------------------------------------------ results

    def items(self, series: Series) -> tuple[Item, ...]:
        """Everything known of a series so far, in the order of first measurement."""
        return tuple(
            self._item(series, state)
            for (label, _), state in self._states.items()
            if label == series.label
        )

    def item_of(self, series: Series, workload: str) -> Item:
        return self._item(series, self._states[series.label, workload])

    def _item(self, series: Series, state: _State) -> Item:
        pairs = tuple(state.outcome.pairs)
        status = Status.OK if pairs else Status.FAILED
        if state.unsupported and not pairs:
            status = Status.UNSUPPORTED
        facts = series.host.facts()
        info = state.info
        return Item(
            workload=info.name,
            category=info.category,
            unit=info.unit,
            statistic=info.statistic,
            definition=info.definition,
            backend=series.variant.backend.name,
            variant=series.variant.text,
            technique=series.variant.backend.technique,
            host=facts.identity,
            host_kind=facts.kind,
            time_base=facts.time_base,
            status=status,
            reason="; ".join(
                [state.unsupported]
                if state.unsupported
                else [*sorted(state.outcome.notes), *state.problems]
            ),
            work=state.sizes.guest,
            native_work=state.sizes.native,
            pairs=pairs,
            flags=tuple(sorted(state.outcome.flags)),
            launches=tuple(state.launches),
            commands=dict(state.outcome.commands),
            exits=dict(state.outcome.exits),
        )

    def result(self, series: Series) -> Result:
        """The series as it stands now."""
        backend = series.variant.backend
        return Result(
            host=series.host.facts(),
            variant=series.variant.text,
            items=self.items(series),
            launches=tuple(self.broker.launches.get(series.label, ())),
            vbench_version=vbench.__version__,
            image=self.image.digest,
            started=self._started,
            argv=self._argv,
            facts={
                row: {"text": fact.text, "source": fact.source}
                for row, fact in backend.facts.items()
            },
            unavailable=tuple(self._unavailable.get(series.host.name, ())),
            reduced_to=series.workloads,
        )

    def overhead(self, item: Item) -> stats.Overhead | None:
        return stats.overhead_of(item)

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """End the guest, the hosts and the journal. Safe to repeat."""
        with contextlib.ExitStack() as stack:
            if self._journal:
                stack.callback(self._journal.close)
            for host in {series.host.name: series.host for series in self.series.values()}.values():
                stack.callback(host.close)
            stack.callback(self.broker.drop)
        self.phases.enter("other")

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
