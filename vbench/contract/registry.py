"""Finds and loads plugins, one at a time, so that a broken one does not take the rest down."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import re
import sys
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from vbench.contract import checks, hookspecs
from vbench.contract.backend import Backend
from vbench.contract.host import Host
from vbench.contract.user_code import execute
from vbench.errors import LaunchError, PluginError, UsageError, VbenchError, named
from vbench.model import Availability
from vbench.records import Declaration
from vbench.system.interrupts import asked_to_end

ENTRY_POINT_GROUP = "vbench"


@dataclass(frozen=True)
class Variant:
    """A backend with options. `text` is canonical: defaults left out, fields in their order."""

    text: str
    backend: Backend
    options: Any

    @property
    def declaration(self) -> Declaration:
        """What the report must know of it."""
        return self.backend.declare(self.options)


def variant_text(backend: Backend, options: Any) -> str:
    """A variant as it is written: `NAME,option=value`, defaults left out. As in QEMU's options, a
    comma inside a value is doubled."""
    changed = [
        f"{field.name}={shown(getattr(options, field.name))}"
        for field in dataclasses.fields(options)
        if getattr(options, field.name) != getattr(backend.options, field.name)
    ]
    return ",".join([backend.name, *changed])


class Registry:
    """All plugins that could be loaded, and `problems` with those that could not."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.problems: list[PluginError] = []
        self._reported = 0
        self.backends: dict[str, Backend] = {}
        self._origin: dict[str, str] = {}
        self._of_plugin: dict[str, list[PluginError]] = {}
        self._order: list[str] = []  # names of plugins, as they were loaded

    @classmethod
    def load(cls, files: Sequence[Path] = ()) -> Registry:
        """Load the entry points of group "vbench", our own first, then `files`."""
        registry = cls()
        points = entry_points(group=ENTRY_POINT_GROUP)
        for point in sorted(
            points, key=lambda p: (not p.value.startswith("vbench."), p.name, p.value)
        ):
            registry._add(point.name, f"entry point {point.name} = {point.value}", point.load)
        for file in files:
            registry._add(str(file), str(file), partial(_module_from, file))
        registry._collect_backends()
        return registry

    def problems_of(self, file: Path) -> list[PluginError]:
        """What is wrong with a plugin file."""
        return self._of_plugin.get(str(file), [])

    def _add(self, name: str, origin: str, load: typing.Callable[[], object]) -> None:
        known = {hook for hook in vars(hookspecs) if hook.startswith("vbench_")}
        try:
            if self._manager.has_plugin(name):
                raise PluginError(
                    f"plugin {origin}: another plugin is called {name!r} too",
                    remedy="the other one is used",
                )
            plugin = load()
            if isinstance(plugin, ModuleType):
                self._check_hooks(plugin, origin, known)
            try:
                self._manager.register(plugin, name=name)
                self._manager.check_pending()
                if not self._manager.get_hookcallers(plugin):
                    raise PluginError(
                        f"plugin {origin} has no hook, so it adds nothing",
                        remedy="mark a function vbench_backends, or another hook of "
                        "vbench.contract.hookspecs, with @hookimpl",
                    )
                self._order.append(name)
            except BaseException:
                if self._manager.has_plugin(name):
                    self._manager.unregister(name=name)
                raise
        except PluginError as error:
            self.report(name, error)
        except BaseException as error:  # a file may end the program as it is imported
            if asked_to_end(error):
                raise
            self.report(
                name,
                PluginError(
                    f"plugin {origin} cannot be loaded: {named(error)}",
                    remedy="mend or uninstall it; the other plugins are used",
                ),
            )

    def _check_hooks(self, plugin: ModuleType, origin: str, known: set[str]) -> None:
        """A hook that is misspelt or not marked would otherwise just never be called."""
        for attribute in vars(plugin):
            if not attribute.startswith("vbench_"):
                continue
            if attribute not in known:
                near = difflib.get_close_matches(attribute, known, 1)
                raise PluginError(
                    f"plugin {origin} defines the unknown hook {attribute}",
                    remedy=f"did you mean {near[0]}?" if near else "see docs/writing-a-backend.md",
                )
            if self._manager.parse_hookimpl_opts(plugin, attribute) is None:
                raise PluginError(
                    f"plugin {origin} defines {attribute} without @hookimpl",
                    remedy="from vbench.contract.hookspecs import hookimpl",
                )

    def report(self, plugin: str, problem: PluginError) -> None:
        """Each problem once, however often its hook is called."""
        self._of_plugin.setdefault(plugin, []).append(problem)
        if str(problem) not in map(str, self.problems):
            self.problems.append(problem)

    def new_problems(self) -> list[PluginError]:
        """The problems since the last call."""
        start, self._reported = self._reported, len(self.problems)
        return self.problems[start:]

    def call(self, hook: str, **arguments: object) -> list[tuple[str, Any]]:
        """Call each implementation by itself, in plugin-name order; (plugin, result) pairs.

        One that raises, or returns what its hook does not allow, is reported in `problems`, the
        others still count. None is nothing.
        """
        results = []
        shape = _SHAPES.get(hook, _as_it_is)
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        for implementation in sorted(implementations, key=lambda each: each.plugin_name):
            wanted = {name: arguments[name] for name in implementation.argnames}
            try:
                result = implementation.function(**wanted)
                if result is not None:
                    results.append((implementation.plugin_name, shape(result)))
            except BaseException as error:
                if asked_to_end(error):
                    raise
                self.report(
                    implementation.plugin_name,
                    PluginError(
                        f"plugin {implementation.plugin_name}: {hook} raised {named(error)}"
                    ),
                )
        return results

    def _collect_backends(self) -> None:
        found = self.call("vbench_backends")
        # The first that has a name keeps it: nobody replaces a backend of ours.
        for plugin, backends in sorted(found, key=lambda each: self._order.index(each[0])):
            for backend in backends:
                if backend.name in self.backends:
                    self.report(
                        plugin,
                        PluginError(
                            f"plugin {plugin} calls its backend {backend.name!r}, but the plugin "
                            f"{self._origin[backend.name]} has a backend of that name",
                            remedy="give it another name",
                        ),
                    )
                    continue
                self.backends[backend.name] = backend
                self._origin[backend.name] = plugin

    def workload_files(self) -> list[Path]:
        """Files bench_*.py of all plugins, sorted, each once."""
        found: set[Path] = set()
        for plugin, paths in self.call("vbench_workloads"):
            for path in paths:
                if path.is_file():
                    found.add(path)
                else:
                    self.report(
                        plugin, PluginError(f"plugin {plugin}: there is no workload file {path}")
                    )
        return sorted(found)

    def variant(self, text: str) -> Variant:
        """Parse `NAME,option=value,...`. Raises UsageError that suggests the near name."""
        name, *assignments = _parts(text)
        backend = self.backends.get(name)
        if backend is None:
            raise UsageError(f"there is no backend {name!r}", remedy=_suggest(name, self.backends))
        return _variant(backend, backend.options, assignments, text)


def probed(backend: Backend, host: Host, options: Any) -> Availability:
    """What the backend says of `host`. A fault in it is no reason to lose the other backends.
    Raises ConnectionLost, HostError."""
    try:
        return checks.returned(backend, "probe", backend.probe(host, options), Availability)
    except LaunchError as error:
        return Availability(False, error.what, error.remedy)
    except VbenchError:  # of the host
        raise
    except BaseException as error:
        if asked_to_end(error):
            raise
        return Availability(
            False, f"its probe raised {named(error)}", "mend or uninstall its plugin"
        )


def with_options(variant: Variant, text: str) -> Variant:
    """`variant` with the further options `option=value,...`. Raises UsageError where its backend
    has no such option."""
    return _variant(variant.backend, variant.options, _parts(text), text)


def _parts(text: str) -> list[str]:
    """What commas separate; a doubled one is a comma of a value."""
    return [part.replace(",,", ",") for part in re.findall(r"(?:^|,)((?:[^,]|,,)*)", text)]


def _variant(backend: Backend, options: Any, assignments: Sequence[str], text: str) -> Variant:
    """A variant of `backend`: `options`, changed by `assignments` of the form option=value."""
    given: dict[str, str] = {}
    for assignment in assignments:
        key, sign, value = assignment.partition("=")
        if not sign or key in given:
            raise UsageError(
                f"{assignment!r} in {text!r} is not a new option=value",
                remedy="write a variant as NAME,option=value,option=value",
            )
        given[key] = value
    options = _with(backend, options, given)
    return Variant(variant_text(backend, options), backend, options)


def _paths(result: Iterable[Any]) -> list[Path]:
    return [Path(path) for path in result]


def _as_it_is(result: object) -> object:
    return result


# What each hook's result becomes, inside the `try` of its call: a generator runs only then.
_SHAPES: Mapping[str, typing.Callable[[Any], object]] = {
    "vbench_backends": checks.backends,
    "vbench_workloads": _paths,
    "vbench_doctor": list,
    "vbench_counters": dict,
}


def _with(backend: Backend, options: Any, given: Mapping[str, str]) -> Any:
    fields = {field.name for field in dataclasses.fields(options)}
    hints = typing.get_type_hints(type(options))
    values: dict[str, object] = {}
    for key, text in given.items():
        if key not in fields:
            raise UsageError(
                f"backend {backend.name!r} has no option {key!r}", remedy=_suggest(key, fields)
            )
        if not text and getattr(options, key) == "":
            raise UsageError(
                f"option {key} of {backend.name!r} has no value",
                remedy=f"write {key}=VALUE, or leave it out",
            )
        values[key] = _convert(key, text, hints[key], shown(getattr(backend.options, key)))
    try:
        return dataclasses.replace(options, **values)
    except ValueError as error:  # says what may be
        stated = ",".join(f"{key}={text}" for key, text in given.items())
        raise UsageError(
            f"backend {backend.name!r} does not take {stated}", remedy=str(error)
        ) from error


_KINDS: dict[type, str] = {int: "a whole number", float: "a number", str: "text"}


def _convert(key: str, text: str, kind: type, default: str) -> object:
    if kind is bool:
        if text not in ("on", "off"):
            raise UsageError(
                f"option {key} is on or off, not {text!r}", remedy=f"{key}=on or {key}=off"
            )
        return text == "on"
    try:
        return kind(text)
    except ValueError:
        raise UsageError(
            f"option {key} takes {_KINDS[kind]}, not {text!r}",
            remedy=f"without it, it is {key}={default}",
        ) from None


def shown(value: object) -> str:
    """An option's value as a variant string has it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).replace(",", ",,")


def _suggest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"there are: {', '.join(names)}"


def _module_from(path: Path) -> ModuleType:
    """Import a file as a module of its own name, under ours so that it shadows nothing."""
    if not path.is_file():
        raise PluginError(f"there is no plugin file {path}", remedy="check --plugin")
    name = f"vbench_plugin_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file", remedy="check --plugin")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        execute(spec, module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
