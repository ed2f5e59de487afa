"""Which variants are measured on which hosts: what was asked for, or the default."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from vbench.contract.backend import CountedRun
from vbench.contract.host import Host
from vbench.contract.registry import Registry, Variant, probed
from vbench.errors import ConnectionLost, UnavailableError, UsageError, VbenchError
from vbench.model import ON_DEVICES, Availability, Technique, TimeBase
from vbench.run.series import Series

Unavailable = tuple[str, str, str, str]  # backend, technique, reason, remedy


def in_testbed(registry: Registry) -> list[tuple[Variant, CountedRun]]:
    """What a default run takes to the testbed where this machine has no hardware-assisted backend:
    the variants that backends declare for it. It counts and does not time, and emulation is slow:
    of each a part."""
    return [
        (registry.variant(",".join(filter(None, (name, part.options)))), part)
        for name, backend in sorted(registry.backends.items())
        for part in backend.counted
    ]


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
    sides: Sequence[str] = (),
) -> Selection:
    """`names` of hosts and `named` variants are the user's; empty means the default. With
    `quick` a host that counts instructions measures a reduced set even if it was named. With
    `all_workloads` a host that was named, or this one, leaves none out. `sides`: what `named` are
    called where they are compared on one machine, and may be the same.

    Raises UsageError, and UnavailableError if a named variant cannot run, or nothing can; hosts
    are closed then.
    """
    everything = [
        registry.variant(name) for name, b in sorted(registry.backends.items()) if b.default
    ]
    parts = {variant.text: part for variant, part in in_testbed(registry)}
    with ExitStack() as stack:
        series: list[Series] = []
        unavailable: dict[str, tuple[Unavailable, ...]] = {}
        for name in names or ("local",):
            host = find(name)
            stack.callback(host.close)
            able, not_able = _probe(host, named or everything, stack, must=bool(named))
            if quick and not all_workloads and host.time_base is TimeBase.INSTRUCTIONS:
                series += [_part(place, variant, parts) for place, variant in able]
                say(f"vbench: a reduced set of workloads in {name}; --workload '*' has them all")
            else:
                others = set() if all_workloads or named else {one.text for _, one in able}
                for place, variant in able:
                    again = variant.declaration.processor_of in others
                    series.append(Series(place, variant, ON_DEVICES if again else ()))
            unavailable[host.name] = not_able
        hardware = any(s.variant.backend.technique is Technique.HARDWARE for s in series)
        if not names and not named and not hardware:
            say("vbench: KVM is unusable here; the testbed is tried")
            host = find("testbed")
            stack.callback(host.close)
            try:
                known = [registry.variant(text) for text in parts]
                able, not_able = _probe(host, known, stack, must=False)
            except VbenchError as error:
                say(f"vbench: no testbed: {error}")
            else:
                series += [_part(place, variant, parts) for place, variant in able]
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
        if sides:
            series = [replace(each, side=side) for each, side in zip(series, sides, strict=True)]
            if len({each.host.name for each in series}) > 1:
                raise UsageError(
                    "the two would run on two machines, and the machines would be compared",
                    evidence="\n".join(f"{s.variant.text}: {s.host.name}" for s in series),
                    remedy="`vbench run` each, then `vbench compare`",
                )
        if len({each.label for each in series}) < len(series):
            raise UsageError("a variant is named twice, or a host")
        stack.pop_all()
        return Selection(tuple(series), unavailable)


def _part(host: Host, variant: Variant, parts: Mapping[str, CountedRun]) -> Series:
    part = parts.get(variant.text, CountedRun())
    return Series(host, variant, boots=part.boots, part=part)


def _probe(
    host: Host, variants: Sequence[Variant], stack: ExitStack, *, must: bool
) -> tuple[list[tuple[Host, Variant]], tuple[Unavailable, ...]]:
    """Those that can run, each with the host that it belongs to, which `stack` closes."""
    able: list[tuple[Host, Variant]] = []
    not_able: list[Unavailable] = []
    for variant in variants:
        place = variant.backend.placed(host, variant.options)
        stack.callback(place.close)
        try:
            availability = probed(variant.backend, place, variant.options)
            if availability.ok:
                place.facts()  # remembered: without them nothing of a run could be kept
        except ConnectionLost as error:
            if must or not able:  # there is no host
                raise
            availability = Availability(False, error.what, error.remedy)
        if availability.ok:
            able.append((place, variant))
        elif must:
            raise UnavailableError(
                f"{variant.text} cannot run on {place.name}: {availability.reason}",
                remedy=availability.remedy,
            )
        else:
            technique = variant.backend.technique.value
            not_able.append((variant.text, technique, availability.reason, availability.remedy))
    return able, tuple(not_able)
