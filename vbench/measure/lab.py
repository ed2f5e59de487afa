"""What a scenario is given: guests to launch, save, restore, migrate; a place for its figures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing

from vbench.contract.guest import SERVER_PORT, Guest, Life, Saved, Target, Terms
from vbench.contract.host import Host
from vbench.errors import Unsupported, VbenchError, WorkloadError
from vbench.guest.native import Native
from vbench.guest.target import succeed
from vbench.hosts.port import at_port
from vbench.hosts.remote import SshHost
from vbench.measure.client import Client
from vbench.measure.interference import PRESSURE, InterferenceMonitor
from vbench.measure.load import Loaded, Requests, sleep, under_load
from vbench.measure.recorder import Recorder, duration, figure, phase_s
from vbench.measure.watcher import Watcher, bring_to_life
from vbench.model import ImageFiles, Pair
from vbench.records import Clock, NetworkPath, Phase

Launch = Callable[[Host, str], Guest]  # a host and further options of the backend


class Lab:
    """The `lab` of one scenario on one boot. Whatever it made ends with it.

    A context manager. Its methods raise Unsupported for what guests of this backend cannot do,
    with the reason, and else as the guest's own.
    """

    def __init__(
        self,
        *,
        host: Host,
        image: ImageFiles,
        image_s: float | None,
        recorder: Recorder,
        launch: Launch,
        attest: Callable[[Guest], object],
        native: Callable[[Guest, bool], Native | None],
        destination: str = "",
    ) -> None:
        """`image_s` is how long it took until the image was there; `launch` launches, attests and
        records a guest; `attest` proves of one that went on elsewhere that it is what its label
        says; `native` makes what runs beside a guest: its native partner or, if true, its
        client. `destination` is another host that guests may migrate to, as --host names it."""
        self.host = host
        self.boot = recorder.boot
        self.image = image
        self.image_s = image_s
        self._recorder = recorder
        self._launch = launch
        self._attest = attest
        self._native = native
        self._destination = destination
        self._guests: list[Guest] = []
        self._gone_on: list[Guest] = []  # in another machine, and not attested there yet
        self._stack = ExitStack()
        self._monitor = InterferenceMonitor(host)
        self._began = self._monitor.sample()
        self._deadline = time.monotonic() + recorder.plan.budget_s
        self._phases: list[Phase] = []
        self._counts: dict[str, float] = {}

    # ------------------------------------------------------------ guests

    @property
    def rounds(self) -> range:
        """How often a boot's figures are taken: twice at least unless the user said how often, for
        a range, as one boot of a scenario is all that is measured."""
        plan = self._recorder.plan
        return range(plan.rounds if plan.fixed_rounds else max(2, plan.rounds))

    @property
    def left_s(self) -> float:
        """What is left of its budget, in seconds of the wall clock. May be negative."""
        return self._deadline - time.monotonic()

    def ports(self, count: int) -> Sequence[Host]:
        """The host as guests on the ports of one bridge see it: each for one guest at a time."""
        networks = self._stack.enter_context(self.host.bridge(count))
        if not networks:
            raise Unsupported(f"vbench can make no bridge on {self.host.name}")
        return [at_port(self.host, network) for network in networks]

    def elsewhere(self) -> tuple[Host, Host]:
        """The host and the other one that guests may migrate to, without any network for
        measuring: none of ours reaches from one to the other. Raises Unsupported."""
        if not self._destination:
            raise Unsupported(
                "no other host was named",
                remedy="name it in the variant: --backend VARIANT,destination=ssh://user@host",
            )
        if self._destination == self.host.name:
            raise Unsupported(f"{self._destination} is the host that its guests are on already")
        there = self._stack.enter_context(closing(SshHost(self._destination)))
        return at_port(self.host, None), there

    def client(self, guest: Guest, *, mib: int, mib_s: int) -> Client:
        """A client that asks a guest without pause through a port of its host. The guest keeps
        `mib` of memory and touches `mib_s` in a second."""
        bring_to_life(guest, "127.0.0.1", mib=mib, mib_s=mib_s, port=SERVER_PORT)
        return self._stack.enter_context(Client(guest.host, guest.endpoint.port))

    def launch(self, at: Host | None = None, options: str = "") -> Guest:
        """One more guest, on the host or on a port; with further `options` of its backend."""
        self._recorder.phase("booting")
        guest = self._launch(at or self.host, options)
        self._guests.append(guest)
        self._recorder.phase("measuring")
        return guest

    def end(self, guest: Guest) -> None:
        """End a guest before the scenario does."""
        self._attest_anew(guest)
        self._guests.remove(guest)
        guest.close()

    def save(self, guest: Guest) -> Saved:
        """Save its state, which goes with the scenario; the guest goes on."""
        life = _life(guest, "save")
        saved = life.save(guest, self._stack.enter_context(guest.host.workdir()))
        self.took_all(saved.phases)
        self.counted(**saved.counts)
        return saved

    def restore(self, saved: Saved, at: Host) -> Guest:
        """A guest that goes on where it was saved."""
        guest = _life(saved.guest, "restore").restore(saved, at)
        self._guests.append(guest)
        self._gone_on.append(guest)
        self.took_all(guest.phases)
        return guest

    def migrate(self, guest: Guest, at: Host, terms: Terms) -> Guest | None:
        """The guest as it goes on elsewhere; None: it did not converge, and goes on where it is, or
        it was lost: "survived" is counted as 0 then, and the reason is noted."""
        made = _life(guest, "migrate").migrate(guest, at, terms)
        self.took_all(made.phases)
        moved = made.guest is not None
        self.counted(
            **made.counts, converged=float(moved or bool(made.lost)), survived=float(not made.lost)
        )
        if made.lost:
            self._recorder.outcome.notes.add(made.lost)
        if made.guest is not None:
            self._guests[self._guests.index(guest)] = made.guest
            self._gone_on.append(made.guest)
        return made.guest

    def watch(self, guest: Guest, *, mib: int = 0, mib_s: int = 0) -> Watcher:
        """Watch a guest on a port: it keeps `mib` of memory and touches `mib_s` in a second. Raises
        Unsupported where that is more than half of what it has: its kernel would end whoever keeps
        it."""
        address = self.host_end(guest)
        if 2 * mib > (guest.device.memory_mib or 2 * mib):
            raise Unsupported(
                f"{mib} MiB are to be kept in a guest of {guest.device.memory_mib} MiB",
                remedy=f"give it memory={2 * mib}",
            )
        client = self._native(guest, True)
        assert client is not None  # noqa: S101 - a client is asked for
        bring_to_life(guest, address, mib=mib, mib_s=mib_s)
        return self._stack.enter_context(Watcher(client, guest.endpoint.address))

    def note(self, text: str) -> None:
        """What a reader must know of this scenario's figures."""
        self._recorder.outcome.notes.add(text)

    def host_end(self, guest: Guest) -> str:
        """The host's address on the bridge of a guest: the first one of its network. Raises
        Unsupported where it has no card there."""
        can = guest.capabilities
        if can.network is not NetworkPath.TAP:
            raise Unsupported(can.no_network or "its guests have no card on a bridge of vbench")
        return guest.endpoint.address.rpartition(".")[0] + ".1"

    def native(self, guest: Guest) -> Native | None:
        """Its native partner: the image's programs on the host itself. None where it has none."""
        return self._native(guest, False)

    def under_load(
        self, targets: Sequence[Target], requests: Requests, guests: Sequence[Guest] = ()
    ) -> Loaded:
        """What came of requests that all `targets` serve at once; `guests` are those of them that
        are no native ones."""
        return under_load(self.host, targets, requests, guests)

    def natively(self, guest: Guest, command: str) -> float | None:
        """Seconds that a command takes natively from nothing to its end, by the host's clock; None
        where the guest has no native partner."""
        native = self.native(guest)
        if native is None:
            return None
        began = native.host.clock()
        succeed(native, command, timeout_s=60)
        return native.host.clock() - began

    def phase_s(self, guest: Guest, operation: str, phase: str) -> float:
        """Seconds of a phase of a guest's life. Raises Unsupported where nobody timed it."""
        return phase_s(guest, operation, phase)

    def sleep(self, seconds: float) -> None:
        """Let seconds of the host's clock pass."""
        sleep(self.host, seconds)

    # ------------------------------------------------------------ figures

    def took(self, operation: str, phase: str, seconds: float | None, clock: Clock) -> None:
        """A phase of this round; None: it could not be timed, and is left out. Raises
        WorkloadError for what is no duration."""
        if seconds is not None:
            says = f"the scenario says {operation} to {phase} took {seconds} s by the clock {clock}"
            took_s = figure(seconds, says)
            if took_s < 0 or clock not in tuple(Clock):
                raise WorkloadError(
                    says, remedy=f"give no less than 0 s, by one of {', '.join(Clock)}"
                )
            self._phases.append(Phase(str(operation), str(phase), Clock(clock), took_s))

    def took_all(self, phases: Sequence[Phase]) -> None:
        """Phases as a guest has them, but for those whose time is not known."""
        self._phases += [each for each in phases if math.isfinite(each.seconds)]

    def counted(self, **counts: float) -> None:
        """What was counted in this round, with the unit in the name: `state_mib`. Raises
        WorkloadError for what is no number."""
        for name, count in counts.items():
            # whether something was so counts as 1 or 0
            number = int(count) if isinstance(count, bool) else count
            self._counts[name] = figure(number, f"the scenario says that {name} is {count}")

    def record(self, seconds: float, *, crowded: bool = False) -> None:
        """End this round: `seconds` is the figure that the scenario is about. `crowded`: that CPUs
        were fought for is its purpose, and no disturbance. Raises
        WorkloadError for one that is no duration, AttestationError where a guest that was restored
        or migrated is not what its label says: all is timed by then, and nothing of it is kept."""
        duration(seconds, "scenario")
        flags = self._monitor.flags_since(self._began)
        if crowded:
            flags = tuple(flag for flag in flags if flag != PRESSURE)
        self._attest_anew(*self._guests)
        pair = Pair(
            None,
            seconds,
            self.boot,
            flags=flags,
            counters=dict(self._counts),
            phases=tuple(self._phases),
        )
        self._phases, self._counts, self._began = [], {}, self._monitor.sample()
        self._recorder.record(pair)

    def _attest_anew(self, *guests: Guest) -> None:
        for guest in [each for each in self._gone_on if each in guests]:
            self._gone_on.remove(guest)
            self._attest(guest)

    # ------------------------------------------------------------ the end

    def _end_guests(self) -> None:
        with ExitStack() as stack:
            while self._guests:
                stack.callback(self._guests.pop(0).close)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            with self._stack:
                self._end_guests()
        except VbenchError:
            if error is None:  # the first one tells more
                raise


def _life(guest: Guest, operation: str) -> Life:
    why = getattr(guest.capabilities.lifecycle, operation)
    if why is not None or guest.life is None:
        raise Unsupported(f"its guests have no {operation}: {why}")
    return guest.life
