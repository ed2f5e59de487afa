"""Claims about the types of hypervisors (H1 to H3, Q1, Q2)."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence

from vbench.model import Technique
from vbench.records import HypervisorType, Place
from vbench.report import hypervisors, reference
from vbench.report.choice import CPU, Choice
from vbench.report.gather import Panel
from vbench.report.hypervisors import Measured
from vbench.report.reference import DISK_OPERATIONS, NETWORK_OPERATIONS, ReferenceSet
from vbench.report.verdicts import (
    Basis,
    Finding,
    Part,
    above,
    all_hold,
    below,
    default_variants,
    near_native,
    ordered,
)
from vbench.results import significance, stats
from vbench.results.formatting import code, interval, number, plain, plural, times

# The introduction names KVM, its hybrid, among type 1 too: see types_table.HYBRID.
_FIRST = (HypervisorType.ONE, HypervisorType.HYBRID)
_SECOND = (HypervisorType.TWO,)
# Where a hypervisor of each type is.
_PLACES = {
    HypervisorType.ONE: (Place.BENEATH,),
    HypervisorType.HYBRID: (Place.MODULE,),
    HypervisorType.TWO: (Place.MODULE, Place.PROCESS),
}
_Judge = Callable[[Iterable[stats.Overhead]], bool | None]
THRESHOLDS = (
    "the performance of a hypervisor is that of its hardware-assisted guests: high is computing, "
    "memory and system calls each near native, medium is one of them above "
    f"{stats.LOW_MAX:.2f} and none above {stats.MEDIUM_MAX:g}; two are compared by the mean over "
    "the workloads of computing, memory and system calls that both have, by one technique: lower "
    "is below 1 times the other's by the whole interval, as fast is at most "
    f"{stats.LOW_MAX:.2f} times; as convenient as type 2 is to take no reboot and no more MiB to "
    "install than each of type 2 whose guests are hardware-assisted as well"
)


def _assisted(panel: Panel, *of: HypervisorType) -> list[tuple[Measured, str]]:
    """Hypervisors of these types with each of their hardware-assisted variants."""
    defaults = default_variants(panel, Technique.HARDWARE)
    return [
        (each, choice.variant)
        for each in hypervisors.measured([panel])
        if each.kind.type in of
        for choice in each.of
        if choice.variant in defaults
    ]


def _variants(panel: Panel, technique: Technique, *of: HypervisorType) -> list[str]:
    return [
        variant
        for variant in default_variants(panel, technique)
        if (kind := panel.declared(variant).hypervisor) is not None and kind.type in of
    ]


# ---------------------------------------------------------------- H1 to H3


def first_is_fast(panel: Panel) -> Finding | str:
    """H1, of those that were measured."""
    return _typed(panel, _FIRST, _is_high)


def second_is_medium(panel: Panel) -> Finding | str:
    """H2, of those that were measured."""
    return _typed(panel, _SECOND, _is_medium)


def _typed(panel: Panel, of: tuple[HypervisorType, ...], judge: _Judge) -> Finding | str:
    """Where each was seen, and whether it is as fast as its type should be."""
    found = _assisted(panel, *of)
    parts: list[Part] = []
    for each in {each.kind.name: each for each, _ in found}.values():
        if each.place is not None:
            where = f"{plain(each.kind.name)} is {each.place}"
            parts.append(Part(each.place in _PLACES[each.kind.type], where, Basis.SIGHT))
    timed = [part for _, variant in found if (part := _speed(panel, variant, judge)) is not None]
    if not timed:
        names = "type 1 or a hybrid" if of is _FIRST else "type 2"
        return f"no hardware-assisted guest of a hypervisor of {names} was measured"
    use = "servers" if of is _FIRST else "desktops"
    names = ", ".join(dict.fromkeys(plain(each.kind.name) for each, _ in found))
    return Finding(
        (*parts, *timed),
        beside=f"measured: only {names}; the use for {use} is stated, not tested",
    )


def _is_high(values: Iterable[stats.Overhead]) -> bool | None:
    return all_hold([near_native(value) for value in values])


def _is_medium(values: Iterable[stats.Overhead]) -> bool | None:
    """One is above LOW_MAX, and none above MEDIUM_MAX."""
    values = list(values)
    high = [above(value, stats.MEDIUM_MAX) for value in values]
    slow = [above(value, stats.LOW_MAX) for value in values]
    if True in high or all(each is False for each in slow):
        return False
    return True if True in slow and None not in high else None


def _speed(panel: Panel, variant: str, judge: _Judge) -> Part | None:
    """By the means that judge nothing but the virtualization; the others are shown."""
    texts: list[str] = []
    judged: list[stats.Overhead] = []
    for of in CPU:
        value = Choice(panel, variant).mean(of)
        if value is not None:
            fair = all(map(stats.judged, reference.measured(panel, variant, of)))
            judged += [value] if fair else []
            mark = "" if fair else ", not judged: kernels or machines differ"
            texts.append(f"{of.title} {times(value.ratio)} {interval(value)}{mark}")
    if not texts:
        return None
    return Part(judge(judged) if judged else None, f"{code(variant)}: {', '.join(texts)}")


def hybrid(panel: Panel) -> Finding | str:
    """H3: a module makes Linux the hypervisor (type 1), and a guest is a process (type 2)."""
    alike = [
        plain(each.kind.name)
        for each in hypervisors.measured([panel])
        if each.kind.type is HypervisorType.TWO and each.place is Place.MODULE
    ]
    for each in hypervisors.measured([panel]):
        launched = [c for c in each.of if c.launch is not None and c.launch.argv]
        if each.kind.type is not HypervisorType.HYBRID or each.place is None or not launched:
            continue
        launch = launched[0].launch
        process = code(launch.argv[0]) if launch else ""
        what = f"{plain(each.kind.name)} is {each.place} ({code(each.module)})"
        texts = f"the guest of {code(launched[0].variant)} is a process: {process}"
        if alike:
            texts += f"; {', '.join(alike)}, called type 2, was seen to be the same"
        return Finding(
            (
                Part(each.place is Place.MODULE, what, Basis.SIGHT),
                Part(True, texts, Basis.SIGHT),
            )
        )
    return "no guest of a hybrid hypervisor ran"


# ---------------------------------------------------------------- Q1, Q2


_Order = tuple[str, str, significance.Ordering]


def _orders(
    panel: Panel,
    one: tuple[HypervisorType, ...],
    other: tuple[HypervisorType, ...],
    sets: tuple[ReferenceSet, ...] = CPU,
) -> list[_Order]:
    """Overhead of these kinds of work under hypervisors of two types, where both use one technique:
    else the techniques would be compared."""
    return [
        (a, b, order)
        for technique in Technique
        for a in _variants(panel, technique, *one)
        for b in _variants(panel, technique, *other)
        if (
            order := significance.ordering(
                reference.measured(panel, a, *sets), reference.measured(panel, b, *sets)
            )
        )
        is not None
    ]


def _shown(found: Sequence[_Order]) -> str:
    """Each order, after the workloads that all of them are over."""
    workloads = dict.fromkeys(name for *_, order in found for name in order.workloads)
    return f"over {', '.join(map(plain, workloads))}: " + "; ".join(
        f"overhead of {code(a)} is {ordered(o)} times that of {code(b)}"
        + (" (one boot is not enough)" if o.boots < 2 else "")
        for a, b, o in found
    )


def lower_overhead(panel: Panel) -> Finding | str:
    """Q1: type 1 and the hybrid against type 2."""
    found = _orders(panel, _FIRST, _SECOND)
    if not found:
        return "needs guests of both types by one technique on one machine"
    judged = Part(all_hold([below(o) for *_, o in found]), _shown(found))
    return Finding((judged,), beside=_devices(panel, {(a, b) for a, b, _ in found}))


def _devices(panel: Panel, judged: Container[tuple[str, str]]) -> str:
    """Disk and network of the variants that are judged. Their devices differ as well."""
    orders = (
        [one for one in _orders(panel, _FIRST, _SECOND, (of,)) if one[:2] in judged]
        for of in (DISK_OPERATIONS, NETWORK_OPERATIONS)
    )
    texts = [_shown(found) for found in orders if found]
    return f"not judged, because devices differ as well: {'; '.join(texts)}" if texts else ""


def both_types(panel: Panel) -> Finding | str:
    """Q2: the hybrid is as fast as type 1, and no more work to install than type 2."""
    found = _orders(panel, (HypervisorType.HYBRID,), (HypervisorType.ONE,))
    if not found:
        return "needs a hybrid and a type 1 hypervisor by one technique on one machine"
    fast = all_hold([_no_slower(order) for *_, order in found])
    return Finding((Part(fast, _shown(found)), _convenient(panel)))


def _no_slower(order: significance.Ordering) -> bool | None:
    """Within LOW_MAX of the other, by the interval over boots."""
    if order.low is None or order.high is None or order.boots < 2:
        return None
    return True if order.high <= stats.LOW_MAX else False if order.low > stats.LOW_MAX else None


def _convenient(panel: Panel) -> Part:
    """No reboot, and no more MiB than each of type 2 by the hybrid's technique: a translator is
    another thing to have, and QEMU's is in the package of KVM. The others are shown."""
    of = hypervisors.measured([panel])
    hybrids = [each for each in of if each.kind.type is HypervisorType.HYBRID]
    second = [each for each in of if each.kind.type in _SECOND and _mib(each) is not None]
    alike = {each.kind.name for each, _ in _assisted(panel, *_SECOND)}
    for each in hybrids:
        mib = _mib(each)
        if mib is None or each.place is None:
            return Part(None, "what it takes to install was not counted", Basis.SIGHT)
        reboot = each.place is Place.BENEATH
        texts = [
            f"{plain(each.kind.name)} takes {'a' if reboot else 'no'} reboot and {_packages(each)}"
        ]
        judged = [size for e in second if e.kind.name in alike and (size := _mib(e)) is not None]
        for one in second:
            how = "" if one.kind.name in alike else " (by another technique: not judged)"
            texts.append(f"{plain(one.kind.name)} {_packages(one)}{how}")
        if not judged:
            texts.append("no hardware-assisted type 2 was counted")
            return Part(False if reboot else None, "; ".join(texts), Basis.SIGHT)
        return Part(not reboot and mib <= min(judged), "; ".join(texts), Basis.SIGHT)
    return Part(None, "no hybrid ran", Basis.SIGHT)


def _mib(each: Measured) -> float | None:
    return None if each.installation is None else each.installation.disk_mib


def _packages(each: Measured) -> str:
    counted = each.installation
    if counted is None or counted.packages is None or counted.disk_mib is None:
        return "packages that were not counted"
    release = plain(counted.release)
    size = f"{number(counted.disk_mib)} MiB"
    return f"{plural(counted.packages, 'package')} of {size} (Debian {release})"
