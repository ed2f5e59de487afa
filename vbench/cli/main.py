"""The commands; the only place that exits. Rooms are imported when a command needs them, so
that `vbench --help` answers at once."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vbench import __version__
from vbench.cli.defence import guarded, prepare_streams
from vbench.errors import UsageError

_STATUS = """exit status:
  0  all that was asked for was measured, or is unsupported for a stated reason
  1  something failed
  2  usage
  3  a named backend cannot run on this host, or none can
  4  compare: something could not be compared
  5  a result file cannot be read
  130  interrupted"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    prepare_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    command: list[str] | None = None
    if "--" in words:  # before argparse sees it: what follows belongs to the guest
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
    top = parser()
    arguments, unknown = top.parse_known_args(words)
    if unknown and arguments.name == "exec" and command is None:
        rest = shlex.join(unknown)
        top.error(f"a command stands after --: vbench exec {arguments.variant} -- {rest}")
    if unknown:
        top.error(f"unrecognized arguments: {' '.join(unknown)}")
    arguments.command_line = ["vbench", *_again(words)]
    arguments.guest_command = command
    act: Callable[[argparse.Namespace], int] = arguments.act

    def run() -> int:
        if command is not None and arguments.name != "exec":
            raise UsageError(f"`vbench {arguments.name}` takes no command after --")
        return act(arguments)

    return guarded(run)


def _again(words: Sequence[str]) -> list[str]:
    """The command line without the folder of the results, which a second run could not have."""
    kept: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--out":
            next(left, None)
        elif not word.startswith("--out="):
            kept.append(word)
    return kept


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="vbench",
        description="Measure what each virtualization technique costs on this machine.",
        epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"vbench {__version__}")
    commands = top.add_subparsers(dest="name", required=True, metavar="COMMAND")

    def add(name: str, act: Callable[[argparse.Namespace], int], help: str) -> Any:
        command = commands.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=_STATUS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(act=act)
        return command

    run = add("run", _run, "measure; writes JSON and DIR/report.md")
    run.add_argument(
        "--backend",
        action="append",
        default=[],
        metavar="VARIANT",
        help="such as tcg or tcg-virtio,vcpus=2; without it: all that can run",
    )
    run.add_argument(
        "--workload",
        action="append",
        default=[],
        metavar="GLOB",
        help="workloads, by name ('disk-*') or by category and name ('disk/*')",
    )
    run.add_argument("--rounds", type=_positive, metavar="N", help="pairs on each boot")
    run.add_argument("--boots", type=_positive, metavar="N", help="boots of each variant")
    run.add_argument(
        "--quick", action="store_true", help="fewer, shorter samples; in the testbed a reduced set"
    )
    run.add_argument(
        "--seed",
        type=_whole,
        metavar="N",
        help="of the order of variants and workloads within a boot; default random, and recorded",
    )
    run.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="a new folder for the results; default vbench-results/<time>",
    )
    run.add_argument(
        "--resume",
        type=Path,
        metavar="DIR",
        help="continue the interrupted run in DIR; everything else is as it was asked for then",
    )
    run.add_argument("files", nargs="*", type=Path, metavar="FILE", help="workloads of your own")
    _common(run)
    _report_options(add("report", _report, "write the report of result files"))
    _compare_options(add("compare", _compare, "find regressions between two results"))
    doctor = add("doctor", _doctor, "what this host can do, why not, and what to do")
    doctor.add_argument("--json", action="store_true", help="for programs")
    _common(doctor, hosts=1)
    setup = add("setup", _setup, "install what the system lacks")
    setup.add_argument("--dry-run", action="store_true", help="say what would be installed")
    setup.add_argument("--test", action="store_true", help="also what the tests need")
    for name, act, text in (
        ("backends", _backends, "list backends: available, or why not"),
        ("workloads", _workloads, "list workloads"),
    ):
        listing = add(name, act, text)
        listing.add_argument("--json", action="store_true", help="for programs")
        if name == "workloads":
            listing.add_argument("files", nargs="*", type=Path, metavar="FILE", help="of your own")
            _plugins(listing)
        else:
            _common(listing, hosts=1)
    for name, act, text in (
        ("exec", _exec, "boot a guest, run the command after --, end the guest"),
        ("shell", _shell, "boot a guest and work in it"),
    ):
        command = add(name, act, text)
        command.add_argument("variant", metavar="VARIANT", help="a variant, or native")
        _common(command, hosts=1)
    image = add("image", _image, "the image cache: build, list, remove, export, import")
    actions = image.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="build the image unless the cache has it")
    _kernel(build)
    actions.add_parser("list", help="what the cache holds")
    remove = actions.add_parser("remove", help="remove from the cache")
    which = remove.add_mutually_exclusive_group(required=True)
    which.add_argument("digest", nargs="*", default=[], help="what it begins with")
    which.add_argument(
        "--unused", type=_days, metavar="DAYS", help="all that were not used for so long"
    )
    for action, text in (
        ("export", "write the images to a file, for machines that cannot build them"),
        ("import", "put the images of such a file into the cache"),
    ):
        actions.add_parser(action, help=text).add_argument("file", type=Path, metavar="FILE")
    return top


def _compare_options(compare: argparse.ArgumentParser) -> None:
    compare.add_argument("base", type=Path, metavar="BASE")
    compare.add_argument("new", type=Path, metavar="NEW")
    compare.add_argument(
        "--fail-above",
        type=_percent,
        metavar="PCT",
        help="exit 1 on a regression above PCT per cent, 4 if a series could not be compared",
    )
    compare.add_argument(
        "--allow-missing",
        action="store_true",
        help="series that are missing, failed or refused do not fail --fail-above",
    )
    compare.add_argument(
        "--across",
        action="append",
        default=[],
        metavar="KEY",
        help="compare machines that differ in it: host-kind, cpu-model, cpus, kernel, clock-source",
    )


def _days(text: str) -> float:
    days = _number(text)
    if not 0 <= days <= 36_500:
        raise argparse.ArgumentTypeError("0 to 36500 days")
    return days


def _common(command: argparse.ArgumentParser, hosts: int = 0) -> None:
    """The options that say where, with what; `hosts` bounds how many may be named, 0: any."""
    command.set_defaults(hosts_most=hosts)
    command.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="HOST",
        help="where guests are launched: local, ssh://user@host[:port], testbed[,clock=wall]",
    )
    _plugins(command)
    _kernel(command)


def _plugins(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--plugin",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a plugin file of your own",
    )


def _kernel(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--kernel",
        default="debian",
        metavar="FILE",
        help="debian (default), host (this host's own), or a kernel file",
    )
    command.add_argument("--modules", metavar="DIR", help="the modules of --kernel FILE")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _positive(text: str) -> int:
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _percent(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is not 0 to 1000")
    return value


def _options(arguments: argparse.Namespace) -> Any:
    from vbench.errors import UsageError
    from vbench.run.options import RunOptions

    hosts = tuple(getattr(arguments, "host", ()))
    if 0 < getattr(arguments, "hosts_most", 0) < len(hosts):
        raise UsageError(f"one host only, not {', '.join(hosts)}", remedy="name one --host")
    return RunOptions(
        variants=tuple(getattr(arguments, "backend", ())),
        workloads=tuple(getattr(arguments, "workload", ())),
        hosts=hosts,
        rounds=getattr(arguments, "rounds", None),
        boots=getattr(arguments, "boots", None),
        quick=getattr(arguments, "quick", False),
        out=getattr(arguments, "out", None),
        plugins=tuple(arguments.plugin),
        files=tuple(getattr(arguments, "files", ())),
        kernel=getattr(arguments, "kernel", "debian"),
        modules=getattr(arguments, "modules", None),
        argv=tuple(arguments.command_line),
        seed=getattr(arguments, "seed", None),
    )


def _run(arguments: argparse.Namespace) -> int:
    from vbench.run import runner
    from vbench.run.options import RunOptions

    options = _options(arguments)
    if arguments.resume is None:
        return runner.run(options)
    if options != RunOptions(argv=options.argv):
        raise UsageError(
            "--resume takes everything from the run that it continues",
            remedy=f"vbench run --resume {arguments.resume}",
        )
    return runner.resume(arguments.resume)


def _report_options(report: argparse.ArgumentParser) -> None:
    report.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="JSON files or folders")
    report.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: standard output"
    )
    report.add_argument("--html", type=Path, metavar="FILE", help="write it as one HTML file")
    report.add_argument(
        "--format",
        choices=("markdown", "json", "bencher", "openmetrics", "csv"),
        default="markdown",
        help="markdown, or the figures as data; default %(default)s",
    )


def _report(arguments: argparse.Namespace) -> int:
    from vbench import report
    from vbench.results import loading
    from vbench.results.journal import write_atomic

    for written in filter(None, (arguments.output, arguments.html)):
        _spare_results(written)
    results = loading.load_all(arguments.paths)
    if arguments.html:
        write_atomic(arguments.html, report.html_page(results))
    if arguments.format != "markdown":
        figures = report.text(results, arguments.format)
        if arguments.output:
            write_atomic(arguments.output, figures)
        else:
            sys.stdout.write(figures)
    elif arguments.output:
        report.write(results, arguments.output)
    elif not arguments.html:
        sys.stdout.write(report.render(results, plots_dir=None).markdown)
    return 0


def _spare_results(written: Path) -> None:
    """Raises UsageError where writing would take the place of a folder or destroy results."""
    from vbench.results import loading

    if written.is_dir():
        raise UsageError(f"{written} is a folder", remedy=f"name a file: {written / 'report.md'}")
    if loading.is_result(written):
        raise UsageError(f"{written} holds results", remedy="name another file with -o")


def _compare(arguments: argparse.Namespace) -> int:
    from vbench.results import compare, identity, loading

    keys = {name.lower().replace(" ", "-"): name for name in identity.CLASS_KEYS}
    for unknown in set(arguments.across) - keys.keys():
        raise UsageError(f"no key of machines is called {unknown!r}", remedy=", ".join(keys))
    comparison = compare.compare(
        loading.load_all([arguments.base]),
        loading.load_all([arguments.new]),
        arguments.fail_above,
        allow_missing=arguments.allow_missing,
        across=[keys[key] for key in arguments.across],
    )
    sys.stdout.write(comparison.render())
    return comparison.status


def _doctor(arguments: argparse.Namespace) -> int:
    from vbench.cli import commands

    return commands.doctor(_options(arguments), as_json=arguments.json)


def _setup(arguments: argparse.Namespace) -> int:
    from vbench.system import packages

    return packages.setup(dry_run=arguments.dry_run, test=arguments.test)


def _backends(arguments: argparse.Namespace) -> int:
    from vbench.cli import commands

    return commands.backends(_options(arguments), as_json=arguments.json)


def _workloads(arguments: argparse.Namespace) -> int:
    from vbench.cli import commands

    return commands.workloads(_options(arguments), as_json=arguments.json)


def _exec(arguments: argparse.Namespace) -> int:
    from vbench.cli import commands

    if not arguments.guest_command:
        raise UsageError("there is no command", remedy="vbench exec VARIANT -- COMMAND")
    return commands.execute(_options(arguments), arguments.variant, arguments.guest_command)


def _shell(arguments: argparse.Namespace) -> int:
    from vbench.cli import commands

    return commands.shell(_options(arguments), arguments.variant)


def _image(arguments: argparse.Namespace) -> int:
    from vbench import image

    def progress(line: str) -> None:
        print(line, file=sys.stderr)

    if arguments.action == "build":
        print(image.ensure(arguments.kernel, arguments.modules, progress=progress).digest)
    elif arguments.action == "export":
        print(image.export_images(arguments.file, progress).digest)
    elif arguments.action == "import":
        print(image.import_images(arguments.file).digest)
    elif arguments.action == "list":
        from vbench.cli import commands

        print(commands.image_table(image.installed()))
    else:
        removed = [each for digest in arguments.digest for each in image.remove(digest)]
        if arguments.unused is not None:
            removed = image.remove_unused(arguments.unused)
        for each in removed:
            print(f"removed {each.key}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
