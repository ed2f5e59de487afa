"""What is not in the report: what could not be measured, was left out, or was not merged. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from vbench.model import CATEGORIES, ON_DEVICES, HostKind, Status, Technique
from vbench.report import cells
from vbench.report.document import Block, Table
from vbench.report.gather import Gathered, Panel
from vbench.results.formatting import NOTHING, code, plain, plural

_NAMED = 6  # so many patterns of workloads are named in a cell


def section(gathered: Gathered) -> list[Block]:
    """What could not be measured, why, and what to do; the same reason once."""
    rows = []
    for panel in gathered.panels:
        host = code(panel.host.identity)
        for entry in panel.unavailable:
            what = f"{code(entry.backend)} ({entry.technique})"
            rows.append([host, what, plain(entry.reason), plain(entry.remedy) or NOTHING])
        for variant, globs in sorted(panel.reduced_to.items()):
            what, why, how = left_out(panel, variant, globs)
            rows.append([host, what, why, code(how)])
        rows += _on_several_cpus(panel)
        by_reason: dict[tuple[str, str, str], list[str]] = {}
        for item in panel.items:
            if item.status is not Status.OK:
                key = (item.workload, item.status.value, item.reason)
                by_reason.setdefault(key, []).append(item.variant)
        alike: dict[tuple[str, str, str], list[str]] = {}
        for (workload, status, reason), variants in sorted(by_reason.items()):
            where = ", ".join(map(code, variants))
            alike.setdefault((where, status, reason), []).append(plain(workload))
        for (where, status, reason), workloads in alike.items():
            what = f"{', '.join(workloads)} on {where}"
            rows.append([host, what, f"{status}: {plain(reason)}", NOTHING])
    if not rows:
        return [
            "Everything that was asked for was measured" + (" so far." if gathered.partial else ".")
        ]
    backends = {entry.backend for panel in gathered.panels for entry in panel.unavailable}
    series = [item.status for panel in gathered.panels for item in panel.items]
    failed, unsupported = (series.count(s) for s in (Status.FAILED, Status.UNSUPPORTED))
    texts = [
        f"{plural(len(backends), 'backend')} could not be used somewhere" if backends else "",
        f"{unsupported} workloads are not possible on their variant" if unsupported else "",
        f"{plural(failed, 'workload')} failed" if failed else "",
    ]
    text = ", ".join(filter(None, texts)) or "Some workloads were left out"
    so_far = " The run is not whole: what it has not come to yet is not here." * bool(
        gathered.partial
    )
    return [
        f"{text}; each with its reason.{so_far}",
        Table(["Host", "What", "Why not", "What to do"], rows),
    ]


def _on_several_cpus(panel: Panel) -> list[list[str]]:
    """Why a run that measures the CPU has nothing of several CPUs. Guests of a port have one."""
    categories = {item.category for item in panel.items}
    several = any(launch.device.vcpus != 1 for launch in panel.launches)
    variants = [*panel.variants(Technique.FULL), *panel.variants(Technique.HARDWARE)]
    if several or not variants or "smp" in categories or not categories >= set(cells.CPU):
        return []
    where = " --host testbed" if panel.host.kind is HostKind.TESTBED else ""
    how = f"vbench run{where} --backend {variants[0]},vcpus=2 --workload 'smp/*'"
    why = "these workloads need two CPUs, and each guest had one"
    return [[code(panel.host.identity), code("smp/*"), why, code(how)]]


def left_out(panel: Panel, variant: str, globs: Sequence[str]) -> tuple[str, str, str]:
    """What a variant that measured only `globs` lacks, why, and what to do. Older results have
    fewer categories in the same sets, so that a set is known by what it has and what it lacks."""
    categories = {glob.removesuffix("/*") for glob in globs if glob.endswith("/*")}
    whole = len(categories) == len(globs) and categories <= set(CATEGORIES)
    how = f"vbench run --backend {variant}"
    kept = ", ".join(map(code, globs))
    if len(globs) > _NAMED:
        kept = f"{len(globs)} workloads that stand for the others"
    what = f"{code(variant)}: all but {kept}"
    if whole and categories <= {glob.removesuffix("/*") for glob in ON_DEVICES}:
        why = (
            "only its devices differ from those of another variant; a run that names no backend "
            "measures what goes through them"
        )
    elif whole and "cpu" in categories and "exit" not in categories:
        programs = " and real programs" if "app" not in categories else ""
        what = f"{code(variant)}: {code('exit/*')}{programs}"
        why = (
            "none of these events makes such a guest leave for a hypervisor; a run that names no "
            "backend leaves them out"
        )
        if programs:
            why += "; programs are measured in guests as one has them"
    elif panel.host.kind is HostKind.TESTBED:
        why = "a run that names no host, or with --quick, takes a reduced set to the testbed"
        how = f"vbench run --host testbed --backend {variant}"
    else:
        why = "a run with --quick, or one that names no backend, takes what is representative"
    return what, why, how


def refused(gathered: Gathered) -> list[Block]:
    """Unlike things that were not put into one cell."""
    if not gathered.refused:
        return []
    count = (
        f"{plural(len(gathered.refused), 'result')} stayed apart, because they are unlike others:"
    )
    return ["\n".join([count, "", *(f"- {note}" for note in gathered.refused)])]
