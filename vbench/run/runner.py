"""`vbench run`: from what the user asked for to a session, through pytest, to a report."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from vbench import image
from vbench.contract.host import Host
from vbench.contract.registry import Registry
from vbench.errors import StoreError, UsageError
from vbench.hosts.local import LocalHost
from vbench.hosts.remote import SshHost
from vbench.measure.plan import COUNTING, QUICK, Plan
from vbench.model import ImageFiles, TimeBase
from vbench.results.journal import JOURNAL_NAME
from vbench.run.lock import measuring_alone
from vbench.run.selection import select
from vbench.run.session import Session
from vbench.testbed import TestbedHost

INTERRUPTED = 130


@dataclass(frozen=True)
class RunOptions:
    """What `vbench run` was asked for; None and empty mean the default."""

    variants: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    rounds: int | None = None
    boots: int | None = None
    quick: bool = False
    out: Path | None = None
    plugins: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    kernel: str = "debian"
    modules: str | None = None
    argv: tuple[str, ...] = ()

    def plan(self) -> Plan:
        """The plan these options ask for. Raises UsageError."""
        return self._fixed(QUICK if self.quick else Plan())

    def counting_plan(self) -> Plan:
        """The same where instructions are counted: samples repeat, so few and short ones do."""
        return self._fixed(
            dataclasses.replace(COUNTING, boots=1, own_guests=False) if self.quick else COUNTING
        )

    def _fixed(self, plan: Plan) -> Plan:
        if self.rounds is not None:
            plan = dataclasses.replace(plan, rounds=self.rounds, fixed_rounds=True)
        if self.boots is not None:
            plan = dataclasses.replace(
                plan, boots=self.boots, quantile_boots=self.boots, fixed_boots=True
            )
        return plan


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def load_plugins(files: Sequence[Path]) -> Registry:
    """The registry; plugins that could not be loaded are reported and left out."""
    registry = Registry.load(files)
    _say_problems(registry)
    return registry


def _say_problems(registry: Registry) -> None:
    """What plugins did wrong since this was called last."""
    for problem in registry.new_problems():
        say(f"vbench: {problem}")


def find_host(text: str, options: RunOptions) -> Host:
    """What `--host` names. Raises UsageError."""
    if text == "local":
        return LocalHost()
    if text.startswith("ssh://"):
        return SshHost(text)
    if text.partition(",")[0] == "testbed":
        return TestbedHost.parse(text, lambda: ensure_image(options.kernel, options.modules))
    raise UsageError(
        f"there is no host {text!r}",
        remedy="--host local, ssh://user@host[:port], testbed or testbed,clock=wall",
    )


def ensure_image(kernel: str = "debian", modules: str | None = None) -> ImageFiles:
    """The image, built first where the cache does not have it."""
    return image.ensure(kernel, modules, progress=say)


def open_session(options: RunOptions) -> Session:
    """Everything checked and ready, nothing started.

    Raises UsageError, UnavailableError (a named backend cannot run, or none can), ImageError.
    """
    plan = options.plan()
    registry = load_plugins(options.plugins)
    hosts = options.hosts
    if options.quick and not hosts:
        hosts = ("local",)
        say("vbench: --quick leaves out the testbed; `--host testbed --quick` measures there")
    chosen = select(
        hosts,
        options.variants,
        registry,
        lambda name: find_host(name, options),
        say,
        quick=options.quick,
        all_workloads=bool(options.workloads or options.files),
    )
    try:
        files = ensure_image(options.kernel, options.modules)
    except BaseException:
        for series in chosen.series:
            series.host.close()
        raise
    return Session(
        registry=registry,
        series=chosen.series,
        image=files,
        plan=plan,
        plans={TimeBase.INSTRUCTIONS: options.counting_plan()},
        out=options.out,
        argv=options.argv,
        unavailable=chosen.unavailable,
    )


def new_directory(wanted: Path | None) -> Path:
    """The directory for results, made now: an existing one with results is never overwritten."""
    if wanted is None:
        stamp = datetime.datetime.now().astimezone().strftime("%Y-%m-%dT%H%M%S")
        wanted = Path("vbench-results") / stamp
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        if any(wanted.iterdir()):
            raise UsageError(f"{wanted} is not empty", remedy="name a new folder with --out")
        probe = wanted / ".writable"
        probe.touch()
        probe.unlink()
    except FileExistsError:
        raise UsageError(f"{wanted} is a file", remedy="name a folder with --out") from None
    except OSError as error:
        raise UsageError(
            f"{wanted} is not writable: {error.strerror}", remedy="name another folder with --out"
        ) from error
    return wanted


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM behaves as Ctrl-C: what was measured is kept, what runs is ended."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(options: RunOptions) -> int:
    """Measure, write JSON and report; returns the exit status. Raises VbenchError before the
    first guest, never after."""
    options.plan()  # bad numbers are found before anything is made
    for file in options.files:
        if not file.is_file():
            raise UsageError(f"there is no workload file {file}")
    with terminated_as_interrupted(), contextlib.ExitStack() as stack:
        stack.enter_context(measuring_alone(say))
        theirs = options.out is not None and options.out.is_dir()
        out = new_directory(options.out)
        stack.callback(_remove_if_empty, out, keep=theirs)
        session = stack.enter_context(open_session(dataclasses.replace(options, out=out)))
        say(f"vbench: measuring {', '.join(session.series)} -> {out}")
        status = _pytest(session, options)
        session.close()
        _finish(session, out)
        for problem in session.failed[:20]:
            say(f"vbench: failed: {problem}")
        _say_problems(session.registry)
        return status


def _remove_if_empty(directory: Path, *, keep: bool) -> None:
    """Leave nothing behind for a run that never measured anything; `keep`: a folder that the
    user made stays."""
    journal = directory / JOURNAL_NAME
    with contextlib.suppress(OSError):
        if journal.exists() and journal.stat().st_size == 0:
            journal.unlink()
        if not keep:
            directory.rmdir()


def _pytest(session: Session, options: RunOptions) -> int:
    """Run pytest in this process, cut off from the user's own pytest set-up."""
    import pytest  # noqa: PLC0415 - half a second that `vbench --help` need not pay

    from vbench import pytest_plugin  # noqa: PLC0415
    from vbench.run import collecting  # noqa: PLC0415

    given = options.files
    if options.workloads or not given:
        given = (*session.registry.workload_files(), *given)
    files = list(dict.fromkeys(file.resolve() for file in given))  # ours may be given, too
    _say_problems(session.registry)
    plugin = pytest_plugin.RunPlugin(session, options.workloads)
    with collecting.isolated():
        code = pytest.main(collecting.arguments(files), plugins=[_named(plugin)])
    if code == pytest.ExitCode.INTERRUPTED:
        return INTERRUPTED
    if code == pytest.ExitCode.USAGE_ERROR:
        return 2
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise UsageError("there is nothing to measure: no bench_* function was found")
    return 0 if code == pytest.ExitCode.OK else 1


def _named(plugin: object) -> object:
    """A plugin for pytest.main that registers `plugin` under its own name first."""
    from vbench.pytest_plugin import PLUGIN_NAME  # noqa: PLC0415

    class Bring:
        def pytest_addoption(self, pluginmanager: object) -> None:
            pluginmanager.register(plugin, PLUGIN_NAME)  # type: ignore[attr-defined]

    return Bring()


def _finish(session: Session, out: Path) -> None:
    """The report of whatever there is."""
    if not any(out.glob("*.json")):
        return
    from vbench import report  # noqa: PLC0415
    from vbench.results import loading  # noqa: PLC0415

    try:
        report.write(loading.load_all([out]), out / "report.md")
        say(f"vbench: {out / 'report.md'}")
    except StoreError as error:
        say(f"vbench: {error}")
    say(f"vbench: {session.phases.describe()}")
