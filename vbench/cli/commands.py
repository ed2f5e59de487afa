"""The small commands: lists, exec, shell."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence

from tabulate import tabulate

from vbench.contract.guest import Guest
from vbench.contract.registry import Variant, probed, shown, with_options
from vbench.errors import UnavailableError, UsageError
from vbench.guest.native import Native
from vbench.image import source_of
from vbench.run.collecting import collect
from vbench.run.lock import machines, measuring_alone
from vbench.run.opening import ensure_image, find_host, load_plugins
from vbench.run.options import RunOptions, say
from vbench.system.doctor import NEEDED_REMOTELY, checks, render, to_json
from vbench.system.interrupts import terminated_as_interrupted
from vbench.system.packages import needed_here


def backends(options: RunOptions, *, as_json: bool) -> int:
    """List what is registered, and whether it can run on the host."""
    source_of(options.kernel, options.modules)
    registry = load_plugins(options.plugins)
    host = find_host(options.hosts[0] if options.hosts else "local", options)
    rows = []
    try:
        for name, backend in sorted(registry.backends.items()):
            availability = probed(backend, host, backend.options)
            rows.append(
                {
                    "backend": name,
                    "technique": backend.technique.value,
                    "available": availability.ok,
                    "summary": backend.summary,
                    "options": dict(sorted(vars(backend.options).items())),
                    "reason": availability.reason,
                    "remedy": availability.remedy,
                }
            )
    finally:
        host.close()
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    table = [
        [row["backend"], row["technique"], "yes" if row["available"] else "no", row["summary"]]
        for row in rows
    ]
    print(tabulate(table, ["backend", "technique", "available", "what it is"]))
    print("\noptions and their defaults, for variants such as tcg,vcpus=2:")
    alike: dict[str, list[str]] = {}
    for name, backend in sorted(registry.backends.items()):
        options_text = " ".join(
            f"{key}={shown(value)}" for key, value in vars(backend.options).items()
        )
        alike.setdefault(options_text, []).append(name)
    for options_text, names in alike.items():
        print(f"  {', '.join(names)}: {options_text}")
    for row in rows:
        if not row["available"]:
            print(f"\n{row['backend']}: {row['reason']}\n  -> {row['remedy']}")
    return 0


def doctor(options: RunOptions, *, as_json: bool) -> int:
    """What the host can do; 3 if something is missing that vbench needs."""
    source_of(options.kernel, options.modules)
    registry = load_plugins(options.plugins)
    name = options.hosts[0] if options.hosts else "local"
    host = find_host(name, options)
    try:
        found = checks(host, needed_here() if name == "local" else NEEDED_REMOTELY)
        for _, more in registry.call("vbench_doctor", host=host):
            found.extend(more)
    finally:
        host.close()
    print(to_json(found) if as_json else render(found))
    return UnavailableError.exit_status if any(check.state == "bad" for check in found) else 0


def workloads(options: RunOptions, *, as_json: bool) -> int:
    """List every workload without running it."""
    registry = load_plugins(options.plugins)
    infos = [each.info for each in collect([*registry.workload_files(), *options.files])]
    rows = [
        {
            "workload": info.name,
            "category": info.category,
            "unit": info.unit,
            "statistic": info.statistic.value,
            "summary": info.summary,
            "definition": info.definition,
            "path": info.path,
        }
        for info in infos
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        keys = ("workload", "category", "unit", "summary")
        print(tabulate([[row[key] for key in keys] for row in rows], keys))
    return 0


@contextlib.contextmanager
def _target(options: RunOptions, text: str) -> Iterator[Guest | Native]:
    """An attested guest of the variant, or native, alone on its machine while this lasts."""
    variant = None if text == "native" else _variant(options, text)
    with contextlib.ExitStack() as stack:
        stack.enter_context(terminated_as_interrupted())
        measured_on = machines(options.hosts, [variant] if variant else [])
        stack.enter_context(measuring_alone(measured_on, say))
        asked = find_host(options.hosts[0] if options.hosts else "local", options)
        stack.callback(asked.close)
        if variant is None:
            image = ensure_image(options.kernel, options.modules)
            yield Native(asked, asked.upload_image(image))
            return
        host = variant.backend.placed(asked, variant.options)
        stack.callback(host.close)
        availability = probed(variant.backend, host, variant.options)
        if not availability.ok:
            raise UnavailableError(
                f"{text} cannot run on {host.name}: {availability.reason}",
                remedy=availability.remedy,
            )
        image = ensure_image(options.kernel, options.modules)
        guest = variant.backend.launch(host, image, variant.options)
        stack.callback(guest.close)
        variant.backend.attest(guest)
        yield guest


def _variant(options: RunOptions, text: str) -> Variant:
    variant = load_plugins(options.plugins).variant(text)
    if ",pin=" not in text:
        # Nothing is measured, and several may be up at once: not all on the same CPU.
        with contextlib.suppress(UsageError):  # its backend pins nothing
            variant = with_options(variant, "pin=off")
    return variant


def execute(options: RunOptions, variant: str, command: Sequence[str]) -> int:
    """Run `command` with our own standard input, output and error; returns its exit status."""
    # One word is a shell line, several are an argv: as ssh would read them, but quoted.
    line = command[0] if len(command) == 1 else shlex.join(command)
    with _target(options, variant) as target:
        return target.pass_through(line)


def shell(options: RunOptions, variant: str) -> int:
    """An interactive shell in a guest, or natively in the image's root."""
    if not sys.stdin.isatty():
        raise UsageError(
            "`vbench shell` needs a terminal", remedy="use `vbench exec VARIANT -- CMD`"
        )
    terminal = os.environ.get("TERM", "dumb")
    with _target(options, variant) as target:
        if isinstance(target, Native):
            line = f"TERM={shlex.quote(terminal)} exec sh -i"
            return target.host.interact(target.argv(line), terminal)
        return target.interact(terminal)
