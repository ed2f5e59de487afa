"""What a plugin registers: a backend, one hypervisor with one device model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vbench.contract.guest import Guest
from vbench.contract.host import Host
from vbench.model import Availability, Fact, ImageFiles, Technique
from vbench.records import Attestation, Declaration


@dataclass(frozen=True)
class CountedRun:
    """A variant that a run takes by itself to a host that counts instructions.

    `options` make the variant, "" is the backend's own. Of each category it measures the
    workloads that are marked as representative; of `whole` categories all, and with `only` no
    other category. `boots` bounds those of the plan (0: it does not). `quick`: a quick run takes
    the representative ones of it along, on one boot. Without `own_guests` it measures nothing that
    wants a guest of its own. `apart`: its machine is not that of its hypervisor's other variants,
    so that they are measured side by side. `left_out`: why it is not taken there after all, unless
    somebody asks for it.
    """

    options: str = ""
    only: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    boots: int = 0
    quick: bool = False
    own_guests: bool = True
    apart: bool = False
    left_out: str = ""


class OnAskedHost:
    """For backends whose guests belong to the host that was asked for, whatever their options."""

    def placed(self, host: Host, options: Any) -> Host:
        del options
        return host

    def machines(self, options: Any) -> Sequence[str]:
        del options
        return ()


class Backend(Protocol):
    """A plugged-in way to get a guest: one hypervisor and one device model.

    `options` is a frozen dataclass with defaults: each field is an option of the variant
    string, `NAME,field=value`.
    """

    @property
    def name(self) -> str: ...

    @property
    def technique(self) -> Technique: ...

    @property
    def summary(self) -> str:
        """One line for `vbench backends`."""

    @property
    def facts(self) -> Mapping[str, Fact]:
        """The stated rows of the table: "windows", "usage", "technology", "guest_os", and
        "access": what a user needs to launch its guests, as installed by a distribution."""

    @property
    def options(self) -> Any:
        """An instance of the frozen options dataclass, holding the defaults."""

    @property
    def default(self) -> bool:
        """Whether a run that names no backend takes it."""

    @property
    def counted(self) -> tuple[CountedRun, ...]:
        """Its variants in a run that counts instructions although nobody named them."""

    def declare(self, options: Any) -> Declaration:
        """What the report must know of the variant with these options."""

    def placed(self, host: Host, options: Any) -> Host:
        """The host that these results belong to and where native runs: `host`, the one that was
        asked for, unless the options name another one. Raises UsageError."""

    def machines(self, options: Any) -> Sequence[str]:
        """The machines that are measured in place of the one that was asked for, as `--host` names
        them, to be locked for the run; none: that one."""

    def probe(self, host: Host, options: Any) -> Availability:
        """Whether it can run there, found out without launching a guest."""

    def launch(self, host: Host, image: ImageFiles, options: Any) -> Guest:
        """A guest that is ready for commands. No fallback to anything else, ever.

        Raises LaunchError, and Unsupported for options that this host or image cannot have."""

    def attest(self, guest: Guest) -> Attestation:
        """Observe what really runs. Raises AttestationError if it is not this backend."""
