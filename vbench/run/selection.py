"""Which variants are measured on which hosts: what was asked for, or the default."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from vbench.contract.backend import CountedRun
from vbench.contract.host import Host
from vbench.contract.registry import Registry, Variant, probed
from vbench.errors import ConnectionLost, UnavailableError, UsageError, VbenchError
from vbench.model import CATEGORIES, NO_EXITS, ON_DEVICES, Availability, Technique, TimeBase
from vbench.records import HypervisorType
from vbench.run.book import Unavailable
from vbench.run.lanes import at_once
from vbench.run.series import Series

# Of a kernel that is a program as any other, programs compute as beside it.
_OF_PORTED = CountedRun(whole=tuple(each for each in CATEGORIES if each != "cpu"))


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
    lanes: bool = False,
) -> Selection:
    """`names` of hosts and `named` variants are the user's; empty means the default. With
    `quick` what is representative is measured, even of what was named. With
    `all_workloads` a host that was named, or this one, leaves none out. `sides`: what `named` are
    called where they are compared on one machine, and may be the same. `lanes`: where instructions
    are counted, which needs no quiet machine, each hypervisor has a host of its own, to be measured
    side by side, and so have those of its variants that are to be measured apart; what the testbed
    can run by default is asked when it comes up.

    Raises UsageError, and UnavailableError if a named variant cannot run, or nothing can; hosts
    are closed then.
    """
    everything = [
        registry.variant(name) for name, b in sorted(registry.backends.items()) if b.default
    ]
    parts = {variant.text: part for variant, part in in_testbed(registry)}
    apart = {text for text, part in parts.items() if part.apart}
    with ExitStack() as stack:
        series: list[Series] = []
        unavailable: dict[str, tuple[Unavailable, ...]] = {}
        for name in names or ("local",):
            able, not_able = _on(
                name,
                named or everything,
                find,
                stack,
                apart=apart,
                must=bool(named),
                lanes=lanes,
                stay=len(names) <= 1,
            )
            made, left = _on_host(
                able,
                parts,
                whole=all_workloads or bool(named),
                quick=quick and not all_workloads,
            )
            series += made
            if quick and not all_workloads:
                say(f"vbench: --quick: what is representative on {name}; --workload '*' has all")
            unavailable |= {host: (*entries, *left) for host, entries in not_able.items()}
        hardware = any(s.variant.backend.technique is Technique.HARDWARE for s in series)
        if not names and not named and not hardware:
            say("vbench: no hardware-assisted guest can run here; the testbed is tried")
            known = [
                registry.variant(text)
                for text, part in parts.items()
                if not part.left_out and (part.quick or not quick)
            ]
            try:
                able, not_able = _on(
                    "testbed", known, find, stack, apart=apart, lanes=lanes, later=lanes
                )
            except VbenchError as error:
                say(f"vbench: no testbed: {error}")
            else:
                for place, variant in able:
                    part = _part(place, variant, parts, quick=quick)
                    series.append(replace(part, probed=not lanes))
                left = _left_out(registry, parts)
                unavailable |= {host: (*entries, *left) for host, entries in not_able.items()}
                say("vbench: a reduced set of workloads is measured in the testbed too")
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


def _on_host(
    able: Sequence[tuple[Host, Variant]],
    parts: Mapping[str, CountedRun],
    *,
    whole: bool,
    quick: bool,
) -> tuple[list[Series], tuple[Unavailable, ...]]:
    """Those that can run on one host, and what is left out of a `quick` run. Not `whole`: nobody
    named backends or workloads."""
    series: list[Series] = []
    left: list[Unavailable] = []
    others = {variant.text for _, variant in able}
    for place, variant in able:
        made = Series(place, variant)
        if not whole:
            part = _OF_PORTED if _is_ported(variant) else None
            made = replace(made, workloads=_by_default(variant, others), part=part)
        if quick and made.workloads == ON_DEVICES:
            why = "a quick run leaves it out: only its devices differ from those of another variant"
            technique = variant.backend.technique.value
            left.append((variant.text, technique, why, f"vbench run --backend {variant.text}"))
            continue
        if quick:
            counts = place.time_base is TimeBase.INSTRUCTIONS
            part = parts.get(variant.text, CountedRun()) if counts else CountedRun()
            made = replace(made, part=replace(part, only=(), whole=()))
        series.append(made)
    return series, tuple(left)


def _by_default(variant: Variant, others: Container[str]) -> tuple[str, ...]:
    """Globs of the workloads that a run which names no backend measures; empty: all. Of one that
    has the processor of one of `others`, what goes through devices. Where the guest is a program as
    any other on the host's kernel, no event makes it leave for a hypervisor."""
    if variant.declaration.processor_of in others:
        return ON_DEVICES
    if variant.backend.technique is Technique.FULL or _is_ported(variant):
        return NO_EXITS
    return ()


def _is_ported(variant: Variant) -> bool:
    """Whether the guest's kernel is a program on the host's kernel."""
    hypervisor = variant.declaration.hypervisor
    two = hypervisor is not None and hypervisor.type is HypervisorType.TWO
    return two and variant.backend.technique is Technique.PARA


def _left_out(registry: Registry, parts: Mapping[str, CountedRun]) -> tuple[Unavailable, ...]:
    """Variants that a run which names no host leaves out."""
    return tuple(
        (
            text,
            registry.variant(text).backend.technique.value,
            f"a run that names no host leaves it out: {part.left_out}",
            f"vbench run --host testbed --backend {text}",
        )
        for text, part in parts.items()
        if part.left_out
    )


def _on(
    name: str,
    variants: Sequence[Variant],
    find: Callable[[str], Host],
    stack: ExitStack,
    *,
    apart: Container[str],
    must: bool = False,
    lanes: bool = False,
    stay: bool = False,
    later: bool = False,
) -> tuple[list[tuple[Host, Variant]], dict[str, tuple[Unavailable, ...]]]:
    """Those that can run on the host of that name, or with `lanes` on one of several, and by its
    own name those that cannot. `stay`: hosts that come up to be asked stay up, as far as there is
    room; `apart`: variants that have another host than those of the same hypervisor; `later`:
    nothing is asked now."""
    able: list[tuple[Host, Variant]] = []
    not_able: list[Unavailable] = []
    groups: dict[object, list[Variant]] = {}
    host = find(name)
    stack.callback(host.close)
    counts = host.time_base is TimeBase.INSTRUCTIONS
    for variant in variants:
        key = (variant.declaration.hypervisor, variant.text in apart) if lanes and counts else None
        groups.setdefault(key, []).append(variant)
    for number, group in enumerate(groups.values()):
        if number:
            host = find(name)
            stack.callback(host.close)
        if later:
            able += [(each.backend.placed(host, each.options), each) for each in group]
            continue
        can, cannot = _probe(host, group, stack, must=must, else_none=not able)
        able, not_able = [*able, *can], [*not_able, *cannot]
        if counts and (not stay or len(groups) > at_once()):
            host.close()  # it is measured later, and takes nothing from the others until then
    return able, {host.name: tuple(not_able)}


def _part(
    host: Host, variant: Variant, parts: Mapping[str, CountedRun], *, quick: bool = False
) -> Series:
    part = parts.get(variant.text, CountedRun())
    if quick:  # what the first table has
        only = tuple(each for each in CATEGORIES if each != "exit")
        part = replace(part, only=only, whole=(), boots=1)
    return Series(host, variant, boots=part.boots, part=part)


def _probe(
    host: Host, variants: Sequence[Variant], stack: ExitStack, *, must: bool, else_none: bool = True
) -> tuple[list[tuple[Host, Variant]], tuple[Unavailable, ...]]:
    """Those that can run, each with the host that it belongs to, which `stack` closes. A host that
    is lost is an error if there is none else."""
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
            if must or (else_none and not able):  # there is no host
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
