"""From what was asked for to a session: plugins, workloads, hosts, image."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vbench import image
from vbench.contract.host import Host
from vbench.contract.registry import Registry, Variant
from vbench.contract.workload import Workload
from vbench.errors import UsageError
from vbench.hosts.address import is_address
from vbench.hosts.local import LocalHost
from vbench.hosts.remote import SshHost
from vbench.image import bare
from vbench.model import ImageFiles, TimeBase
from vbench.records import Installation
from vbench.run.book import Book
from vbench.run.collecting import collect
from vbench.run.options import RunOptions, say
from vbench.run.pairing import SIDES
from vbench.run.selection import select
from vbench.run.series import Series
from vbench.run.session import Session
from vbench.testbed import TestbedHost


def load_plugins(files: Sequence[Path]) -> Registry:
    """The registry; installed plugins that cannot be loaded are reported and left out. Raises
    UsageError for one of `files`."""
    registry = Registry.load(files)
    for problem in (problem for file in files for problem in registry.problems_of(file)):
        raise UsageError(problem.what, evidence=problem.evidence, remedy=problem.remedy)
    say_problems(registry)
    return registry


def say_problems(registry: Registry) -> None:
    """What plugins did wrong since this was called last."""
    for problem in registry.new_problems():
        say(f"vbench: {problem}")


def load_workloads(options: RunOptions, registry: Registry) -> list[Workload]:
    """Those of the files that were given; with names, or without files, the plugins' too, whose
    names are taken in any case. Raises UsageError."""
    ours = registry.workload_files()
    say_problems(registry)
    files = list(options.files)
    if options.workloads or not files:
        files = [*ours, *files]
    workloads = collect(files, beside=ours)
    if not workloads:
        raise UsageError(
            "there is nothing to measure: "
            "no function bench_*(measure) or scenario_*(lab) was found",
            evidence="\n".join(map(str, files)),
        )
    return workloads


def find_host(text: str, options: RunOptions) -> Host:
    """What `--host` names. Raises UsageError."""
    if text == "local":
        return LocalHost()
    if is_address(text):
        return SshHost(text)
    if text.partition(",")[0] == "testbed":
        # asked for when it is booted for the first time
        return TestbedHost.parse(text, lambda: ensure_image(options.kernel, options.modules))
    raise UsageError(
        f"there is no host {text!r}",
        remedy="--host local, ssh://user@host[:port], testbed or testbed,clock=wall",
    )


def ensure_image(kernel: str = "debian", modules: str | None = None) -> ImageFiles:
    """The image, built first where the cache does not have it."""
    return image.ensure(kernel, modules, progress=say)


def installations(series: Sequence[Series]) -> Mapping[str, Installation]:
    """By label, what a bare Debian would install for those whose backends say of which packages."""
    declared = {each.label: each.variant.declaration for each in series}
    asked = {label: (one.release, one.packages) for label, one in declared.items() if one.packages}
    counted = bare.count(asked.values())
    return {label: counted[key] for label, key in asked.items()}


@dataclass(frozen=True)
class Asked:
    """What was asked for, understood: plugins and variants. Nothing is started."""

    registry: Registry
    variants: tuple[Variant, ...]


def check(options: RunOptions) -> Asked:
    """Raises UsageError for numbers, kernels, plugins, variants and hosts that cannot be, and
    ImageError for a kernel of this host that is not there."""
    options.plan()
    image.source_of(options.kernel, options.modules)
    registry = load_plugins(options.plugins)
    for name in options.hosts:
        find_host(name, options).close()
    return Asked(registry, tuple(map(registry.variant, options.variants)))


def open_session(options: RunOptions, asked: Asked, *, lanes: bool = False) -> Session:
    """Hosts probed and the image there, nothing started. `lanes`: what is counted is to be
    measured side by side.

    Raises UsageError, UnavailableError (a named backend cannot run, or none can), ImageError.
    """
    chosen = select(
        options.hosts,
        asked.variants,
        asked.registry,
        lambda name: find_host(name, options),
        say,
        quick=options.quick,
        all_workloads=bool(options.workloads or options.files),
        sides=SIDES if options.ab else (),
        lanes=lanes and not options.ab,
    )
    began = time.monotonic()
    try:
        files = ensure_image(options.kernel, options.modules)
        image_s = time.monotonic() - began
        counted = installations(chosen.series)
    except BaseException:
        for series in chosen.series:
            series.host.close()
        raise
    seed = secrets.randbits(32) if options.seed is None else options.seed
    book = Book(
        chosen.series,
        image=files.digest,
        out=options.out,
        argv=options.argv,
        seed=seed,
        unavailable=chosen.unavailable,
        installations=counted,
    )
    return Session(
        registry=asked.registry,
        book=book,
        image=files,
        plan=options.plan(),
        plans={TimeBase.INSTRUCTIONS: options.counting_plan()},
        seed=seed,
        image_s=image_s,
    )
