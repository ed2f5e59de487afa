"""Which variants are measured on which hosts: what was asked for, or the default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from vbench.contract.host import Host
from vbench.contract.registry import Registry, Variant
from vbench.errors import ConnectionLost, UnavailableError, UsageError, VbenchError
from vbench.model import ON_DEVICES, Availability, Technique, TimeBase
from vbench.run.guests import Series

Unavailable = tuple[str, str, str, str]  # backend, technique, reason, remedy

# A default run takes to the testbed what this machine cannot do, if hardware-assisted
# virtualization is among it; binary translation comes along, so that all columns are filled by
# one clock. It counts and does not time, and emulation is slow: a workload or two of each
# category, and not those whose programs stop by the clock. A cost of an exit needs the control that
# is taken off it.
_TRANSLATED = (
    *("cpu-prime", "memory-pagefault", "syscall-getppid", "syscall-switch"),
    *("disk-randread-qd1", "network-rr", "boot-command"),
)
_REDUCED = (*_TRANSLATED, "boot-firmware")
_PRICES = ("exit-control-empty", "exit-control-read", "exit-cpuid", "exit-port-*", "exit-mmio-*")
IN_TESTBED = ("kvm-emulated", "kvm-virtio", "kvm-virtio,nested_paging=off", "xen-pv", "tcg-virtio")
# Workloads, and boots if fewer than planned, by variant where one has a set of its own. Translation
# inside translation runs some 5 M instructions a second and boots in a minute and a half.
_SETS = {
    "kvm-virtio": ((*_REDUCED, "exit-*"), 0),
    "kvm-virtio,nested_paging=off": (("memory-pagefault",), 0),
}
_SETS_OF = {
    Technique.FULL: (_TRANSLATED, 1),
    Technique.PARA: (_REDUCED, 0),
    Technique.HARDWARE: ((*_REDUCED, *_PRICES), 0),
}
# tcg with other devices: beside it, and unless somebody asks for more, only what goes through a
# device is measured. (Not so where exits count: their costs are part of what they explain.)
_PROCESSOR_OF = {"tcg-virtio": "tcg"}


def reduced(variant: Variant) -> tuple[tuple[str, ...], int]:
    """What a counting host measures of a variant where not everything is wanted."""
    return _SETS.get(variant.text, _SETS_OF[variant.backend.technique])


@dataclass(frozen=True)
class Selection:
    """`unavailable` says for each host, by name, what it cannot run and why."""

    series: tuple[Series, ...]
    unavailable: dict[str, tuple[Unavailable, ...]]


def select(
    names: Sequence[str],
    named: Sequence[Variant],
    registry: Registry,
    find: Callable[[str], Host],
    say: Callable[[str], None],
    *,
    quick: bool = False,
    all_workloads: bool = False,
) -> Selection:
    """`names` of hosts and `named` variants are the user's; empty means the default. With
    `quick` a host that counts instructions measures a reduced set even if it was named. With
    `all_workloads` a host that was named, or this one, leaves none out.

    Raises UsageError, and UnavailableError if a named variant cannot run, or nothing can; hosts
    are closed then.
    """
    everything = [registry.variant(name) for name in sorted(registry.backends)]
    with ExitStack() as stack:
        series: list[Series] = []
        unavailable: dict[str, tuple[Unavailable, ...]] = {}
        for name in names or ("local",):
            host = find(name)
            stack.callback(host.close)
            able, not_able = _probe(host, named or everything, must=bool(named))
            if quick and not all_workloads and host.time_base is TimeBase.INSTRUCTIONS:
                series += [Series(host, variant, *reduced(variant)) for variant in able]
                say(f"vbench: a reduced set of workloads in {name}; --workload '*' has them all")
            else:
                beside = set() if all_workloads or named else {variant.text for variant in able}
                for variant in able:
                    again = _PROCESSOR_OF.get(variant.text) in beside
                    series.append(Series(host, variant, ON_DEVICES if again else ()))
            unavailable[host.name] = not_able
        hardware = any(s.variant.backend.technique is Technique.HARDWARE for s in series)
        if not names and not named and not hardware:
            say("vbench: KVM is unusable here; the testbed is tried, which takes a minute or two")
            host = find("testbed")
            stack.callback(host.close)
            try:
                known = [text for text in IN_TESTBED if text.split(",")[0] in registry.backends]
                able, not_able = _probe(host, list(map(registry.variant, known)), must=False)
            except VbenchError as error:
                say(f"vbench: no testbed: {error}")
            else:
                series += [Series(host, variant, *reduced(variant)) for variant in able]
                unavailable[host.name] = not_able
                say("vbench: a reduced set of workloads is measured in the testbed too")
            host.close()  # it is measured last, and takes nothing from the others until then
        if not series:
            raise UnavailableError(
                f"no backend can run on {', '.join(unavailable)}",
                evidence="\n".join(
                    f"{backend}: {reason}"
                    for entries in unavailable.values()
                    for backend, _, reason, _ in entries
                ),
                remedy="run `vbench doctor`",
            )
        if len({each.label for each in series}) < len(series):
            raise UsageError("a variant is named twice, or a host")
        stack.pop_all()
        return Selection(tuple(series), unavailable)


def _probe(
    host: Host, variants: Sequence[Variant], *, must: bool
) -> tuple[list[Variant], tuple[Unavailable, ...]]:
    able: list[Variant] = []
    not_able: list[Unavailable] = []
    for variant in variants:
        try:
            availability = variant.backend.probe(host, variant.options)
        except ConnectionLost as error:
            if must or not able:  # there is no host
                raise
            availability = Availability(False, error.what, error.remedy)
        if availability.ok:
            able.append(variant)
        elif must:
            raise UnavailableError(
                f"{variant.text} cannot run on {host.name}: {availability.reason}",
                remedy=availability.remedy,
            )
        else:
            technique = variant.backend.technique.value
            not_able.append((variant.text, technique, availability.reason, availability.remedy))
    return able, tuple(not_able)
