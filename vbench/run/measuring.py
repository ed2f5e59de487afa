"""What one workload on one guest is measured with: native, clients, counters, flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vbench.contract.host import Host
from vbench.contract.registry import Registry
from vbench.guest.launch import Guest
from vbench.guest.native import Native
from vbench.measure.comparability import check
from vbench.measure.engine import ExitHistogram, Measure, Outcome, Sizes
from vbench.measure.plan import GUEST, NATIVE, Plan
from vbench.model import ImageFiles, Pair, Statistic, WorkloadInfo
from vbench.run.phases import Phases


@dataclass
class State:
    """One workload of one series over its boots, while the run goes on."""

    info: WorkloadInfo
    sizes: Sizes = field(default_factory=Sizes)
    outcome: Outcome = field(default_factory=Outcome)
    problems: list[str] = field(default_factory=list)
    unsupported: str = ""
    launches: list[str] = field(default_factory=list)


class MeasureFactory:
    """Makes the `Measure` of a workload; knows what of its host was made for earlier ones."""

    def __init__(self, registry: Registry, image: ImageFiles, phases: Phases) -> None:
        self._registry = registry
        self._image = image
        self._phases = phases
        self._natives: dict[tuple[Host, int, tuple[str, ...], bool, str], Native] = {}

    def make(
        self,
        host: Host,
        guest: Guest,
        state: State,
        boot: int,
        plan: Plan,
        on_pair: Callable[[Pair], None],
    ) -> Measure:
        """`host` is where native runs: what launched the guest may be that machine booted on
        a hypervisor."""
        vcpus = guest.endpoint.vcpus
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
        disks = {host, guest.host} if state.info.category == "disk" else set()
        unlike = check(state.info.category, guest, native, clients.values(), disks)
        state.outcome.flags.update(unlike)
        state.outcome.notes.update(unlike.values())
        return Measure(
            guest=guest,
            native=native,
            clients=clients,
            boot=boot,
            plan=plan,
            sizes=state.sizes,
            outcome=state.outcome,
            on_pair=on_pair,
            counters=self._counters,
            histogram=self._exit_histogram,
            phase=self._phases.enter,
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
                host.upload_image(self._image),
                vcpus=vcpus,
                prefix=prefix,
                address=address,
                scratch=scratch,
                client=client,
            )
        return self._natives[key]

    def _counters(self, guest: Guest) -> Mapping[str, int]:
        merged: dict[str, int] = {}
        for _, counters in self._registry.call("vbench_counters", guest=guest):
            merged.update(counters)
        return merged

    def _exit_histogram(self, guest: Guest) -> ExitHistogram | None:
        found = [
            histogram for _, histogram in self._registry.call("vbench_exit_histogram", guest=guest)
        ]
        return next((histogram for histogram in found if histogram is not None), None)
