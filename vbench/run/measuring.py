"""What one workload on one guest is measured with: native, clients, counters, flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vbench.contract.guest import USAGE, Endpoint, Guest
from vbench.contract.host import Host
from vbench.contract.registry import Registry
from vbench.errors import PluginError, Unsupported
from vbench.guest.native import Native
from vbench.measure.comparability import check
from vbench.measure.engine import ExitHistogram, Measure, NativeCount, Sizes
from vbench.measure.lab import Lab, Launch
from vbench.measure.plan import GUEST, NATIVE
from vbench.measure.recorder import Outcome, Recorder
from vbench.model import ImageFiles, Statistic, TimeBase, WorkloadInfo
from vbench.records import DiskPath, NativeReference, NetworkPath

# Where nothing native has packets on such a path: the flag that says so.
_NO_PARTNER = {NetworkPath.NAT: "nat", NetworkPath.OWN: "own_network"}


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

    def __init__(self, registry: Registry, image: ImageFiles, image_s: float | None = None) -> None:
        """`image_s` is how long it took until the image was there."""
        self._registry = registry
        self._image = image
        self._image_s = image_s
        self._counts: dict[tuple[Native, str], NativeCount] = {}
        self._warm: set[tuple[Host, str]] = set()  # where a workload was run natively
        self._natives: dict[tuple[object, ...], Native] = {}

    def make(
        self,
        guest: Guest,
        state: State,
        recorder: Recorder,
    ) -> Measure:
        """Native runs where the guest says; a guest without such a host gets absolute values.

        Raises Unsupported."""
        can, reference, at = guest.capabilities, guest.reference, guest.endpoint
        hosts = {reference or guest.host, guest.host}
        disks = hosts if state.info.device == "disk" else set()
        if disks and can.disk is DiskPath.NONE:
            raise Unsupported(can.no_disk or "its guests have no disk for measuring")
        for each in disks:
            each.fill_scratch()
        native: Native | None = None
        clients: dict[str, Native] = {}
        if state.info.device == "network":
            if can.network is NetworkPath.NONE:
                raise Unsupported(can.no_network or "its guests have no network for measuring")
            clients[GUEST] = self._native(guest.client_host, at, guest.client_prefix, client=True)
            if flag := _NO_PARTNER.get(can.network):
                state.outcome.flags.add(flag)
            elif reference is not None and (network := reference.network()) is not None:
                clients[NATIVE] = self._native(reference, at, network.peer_prefix, client=True)
                native = self._native(reference, at, network.native_prefix, network.native_address)
        elif reference is not None and state.info.statistic is not Statistic.ABSOLUTE:
            native = self._native(reference, at)
        if native and guest.observed.kernel != native.host.facts().facts.get("kernel"):
            state.outcome.flags.add("kernel_differs")
        if native and can.native is NativeReference.OTHER_HOST:
            state.outcome.flags |= _unlike(guest, native, state.info.device)
        if native and can.native is NativeReference.PRIVILEGED_GUEST:
            state.outcome.flags.add("native_is_dom0")
        unlike = check(state.info, guest, native, clients.values(), disks)
        state.outcome.flags.update(unlike)
        state.outcome.notes.update(unlike.values())
        warm = native is None or (native.host, state.info.name) in self._warm
        if native is not None:
            self._warm.add((native.host, state.info.name))
        return Measure(
            guest=guest,
            native=native,
            clients=clients,
            recorder=recorder,
            sizes=state.sizes,
            counters=self._counters,
            histogram=self._exit_histogram,
            native_count=self._native_count(native, state.info),
            native_warm=warm,
            # of single events that are counted exits are told by reason, in a round of their own
            usage=guest.host.time_base is TimeBase.WALL
            or state.info.statistic is not Statistic.QUANTILES,
        )

    def _native_count(self, native: Native | None, info: WorkloadInfo) -> NativeCount | None:
        """What is known of native, where it is an exact count."""
        if native is None or not info.counted:
            return None
        if native.host.time_base is not TimeBase.INSTRUCTIONS:
            return None
        return self._counts.setdefault((native, info.name), NativeCount())

    def lab(
        self,
        host: Host,
        recorder: Recorder,
        launch: Launch,
        attest: Callable[[Guest], object],
        destination: str,
    ) -> Lab:
        """For a scenario, whose guests `launch` launches and `attest` attests, and which may
        migrate to `destination`."""
        return Lab(
            host=host,
            image=self._image,
            image_s=self._image_s,
            recorder=recorder,
            launch=launch,
            attest=attest,
            native=self._beside,
            destination=destination,
        )

    def _beside(self, guest: Guest, client: bool) -> Native | None:
        """A guest's native partner, if it has one, or what runs its `client`."""
        if client:
            return self._native(guest.client_host, guest.endpoint, guest.client_prefix, client=True)
        return self._native(guest.reference, guest.endpoint) if guest.reference else None

    def _native(
        self,
        host: Host,
        guest: Endpoint,
        prefix: tuple[str, ...] = (),
        address: str = "",
        *,
        client: bool = False,
    ) -> Native:
        scratch = host.scratch()  # another one after a connection that was lost
        key = (host, guest.vcpus, guest.pinned, guest.cpus, prefix, client, scratch.path)
        if key not in self._natives:
            self._natives[key] = Native(
                host,
                host.upload_image(self._image),
                vcpus=guest.vcpus,
                pin=guest.pinned,
                cpus=guest.cpus,
                prefix=prefix,
                address=address,
                scratch=scratch,
                client=client,
            )
        return self._natives[key]

    def _counters(self, guest: Guest) -> Mapping[str, int]:
        """Of all plugins. A name that another one has, or the guest itself, is refused."""
        merged: dict[str, int] = {}
        for plugin, counters in self._registry.call("vbench_counters", guest=guest):
            taken = sorted(counters.keys() & {*USAGE, *merged})
            if taken:
                what = f"plugin {plugin}: something else counts {', '.join(taken)} already"
                self._registry.report(plugin, PluginError(what, remedy="give it another name"))
            merged |= {name: n for name, n in counters.items() if name not in taken}
        return merged

    def _exit_histogram(self, guest: Guest) -> ExitHistogram | None:
        found = [
            histogram for _, histogram in self._registry.call("vbench_exit_histogram", guest=guest)
        ]
        return next((histogram for histogram in found if histogram is not None), None)


# What a host says of its own virtualization where it has none, or does not know.
_METAL = ("none", "", "unknown")


def _unlike(guest: Guest, native: Native, device: str) -> set[str]:
    """Flags where native ran on another machine than the guest."""
    flags = {"other_machine"}
    if guest.observed.cpu_model != native.host.facts().facts.get("cpu_model"):
        flags.add("cpu_differs")
    if native.host.facts().facts.get("virtualization", "unknown") not in _METAL:
        flags.add("reference_is_guest")
    if device == "disk" and guest.capabilities.disk is DiskPath.OWN:
        flags.add("disk_differs")
    return flags
