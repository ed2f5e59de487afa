"""All commands and their options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vbench import __version__
from vbench.cli import actions

_STATUS = """exit status:
  0  all that was asked for was measured, or is unsupported for a stated reason
  1  something failed, or --fail-above found a regression
  2  wrong command line
  3  a named backend cannot run on this host, or none can; the host cannot be reached;
     doctor: something is missing
  4  compare: something could not be compared
  5  a result file cannot be read
  6  compare: undecided; a regression above the limit may well be there
  70  a fault of vbench itself; it says what to report
  130  interrupted"""


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

    run = add("run", actions.run, "measure; writes JSON and DIR/report.md")
    run.add_argument(
        "--backend",
        dest="variants",
        action="append",
        default=[],
        metavar="VARIANT",
        help="NAME or NAME,vcpus=2: see `vbench backends`; without it: all that can run",
    )
    run.add_argument(
        "--resume",
        type=_path,
        metavar="DIR",
        help="continue the interrupted run in DIR; everything else is as it was asked for then",
    )
    many = _measuring(run, "as many as its intervals need, 3 to 5")
    many.add_argument(
        "--precision",
        type=_share,
        metavar="PCT",
        help="boots, at most 10, until each interval is as narrow: 2%% is 2 %% to either side",
    )
    _common(run)
    ab = add("ab", actions.ab, "measure two variants by turns, and say how the second differs")
    ab.add_argument("a", metavar="A", help="a variant: see `vbench backends`")
    ab.add_argument("b", metavar="B", help="another, such as A,qemu=/opt/new/qemu-system-x86_64")
    _measuring(ab, "5; 2 where instructions are counted")
    _gate(ab)
    _common(ab, hosts=1)
    _report_options(add("report", actions.report, "write the report of result files"))
    _history_options(add("history", actions.history, "say what changed over the runs of months"))
    _compare_options(add("compare", actions.compare, "find regressions between two results"))
    doctor = add("doctor", actions.doctor, "what this host can do, why not, and what to do")
    doctor.add_argument("--json", action="store_true", help="for programs")
    _common(doctor, hosts=1)
    setup = add("setup", actions.setup, "install what the system lacks")
    setup.add_argument("--dry-run", action="store_true", help="say what would be installed")
    setup.add_argument("--libvirt", action="store_true", help="also what its backends need")
    setup.add_argument("--fleet", action="store_true", help="also what many hosts need: Ansible")
    setup.add_argument("--test", action="store_true", help="also what the tests need")
    for name, act, text in (
        ("backends", actions.backends, "list backends: available, or why not"),
        ("workloads", actions.workloads, "list workloads"),
    ):
        listing = add(name, act, text)
        listing.add_argument("--json", action="store_true", help="for programs")
        if name == "workloads":
            _list(listing, "files", "FILE", "of your own")
            _plugins(listing)
        else:
            _common(listing, hosts=1)
    for name, act, text in (
        ("exec", actions.exec, "boot a guest, run the command after --, end the guest"),
        ("shell", actions.shell, "boot a guest and work in it"),
    ):
        command = add(name, act, text)
        command.add_argument("variant", metavar="VARIANT", help="a variant, or native")
        _common(command, hosts=1)
    image = add("image", actions.image, "the image cache: build, list, remove, export, import")
    of_image = image.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = of_image.add_parser("build", help="build the image unless the cache has it")
    _kernel(build)
    of_image.add_parser("list", help="what the cache holds")
    remove = of_image.add_parser("remove", help="remove from the cache")
    which = remove.add_mutually_exclusive_group(required=True)
    which.add_argument("digest", nargs="*", default=[], help="what it begins with")
    which.add_argument(
        "--unused", type=_days, metavar="DAYS", help="all that were not used for so long"
    )
    for action, text in (
        ("export", "write the images to a file, for machines that cannot build them"),
        ("import", "put the images of such a file into the cache"),
    ):
        of_image.add_parser(action, help=text).add_argument("file", type=_path, metavar="FILE")
    return top


def _measuring(command: argparse.ArgumentParser, boots: str) -> Any:
    """What is measured, how often, in which order, and where it is kept. Returns the group of what
    says how many boots; `boots`: how many there are without."""
    command.add_argument(
        "--workload",
        dest="workloads",
        action="append",
        default=[],
        metavar="GLOB",
        help="workloads, by name ('disk-*') or by category and name ('disk/*')",
    )
    command.add_argument("--rounds", type=_positive, metavar="N", help="pairs on each boot")
    many = command.add_mutually_exclusive_group()
    many.add_argument(
        "--boots",
        type=_positive,
        metavar="N",
        help=f"boots of each variant; default: {boots}",
    )
    command.add_argument(
        "--quick", action="store_true", help="what is representative, in fewer and shorter samples"
    )
    command.add_argument(
        "--seed",
        type=_whole,
        metavar="N",
        help="of the order of variants and workloads within a boot; default random, and recorded",
    )
    command.add_argument(
        "--out",
        type=_path,
        metavar="DIR",
        help="a new folder for the results; default vbench-results/<time>",
    )
    _list(command, "files", "FILE", "workloads of your own")
    return many


def _compare_options(compare: argparse.ArgumentParser) -> None:
    compare.add_argument(
        "bases",
        nargs="+",
        type=_path,
        metavar="BASE",
        help="of several the newest is the base, and the others say how far runs lie apart",
    )
    compare.add_argument("new", type=_path, metavar="NEW")
    _gate(compare)
    compare.add_argument(
        "--across",
        action="append",
        default=[],
        metavar="KEY",
        help="compare machines that differ in it: host-kind, cpu-model, cpus, kernel, clock-source",
    )


def _gate(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--fail-above",
        type=_percent,
        metavar="PCT",
        help="exit 1 on a regression above PCT per cent, 4 if a series could not be compared",
    )
    command.add_argument(
        "--allow-missing",
        action="store_true",
        help="series that are missing, failed or refused do not fail --fail-above",
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
        dest="hosts",
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
        dest="plugins",
        action="append",
        default=[],
        type=_path,
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


def _list(
    command: argparse.ArgumentParser, name: str, metavar: str, help: str, *, nargs: str = "*"
) -> None:
    """The paths that a command takes. argparse knows them in one place of the command line only:
    `further` says where those of other places belong."""
    # argparse names what has no default among the arguments that are required
    default: list[Path] | None = [] if nargs == "*" else None
    command.add_argument(name, nargs=nargs, type=_path, metavar=metavar, help=help, default=default)
    command.set_defaults(further=name)


def with_further(arguments: argparse.Namespace, words: list[str]) -> list[str]:
    """Add `words` that argparse could not place to the paths of the command; those left."""
    name = getattr(arguments, "further", "")
    if not name or any(word.startswith("-") or not word for word in words):
        return words
    getattr(arguments, name).extend(map(_path, words))
    return []


def _path(text: str) -> Path:
    if not text:  # a shell variable that is not set; Path would take it for the current folder
        raise argparse.ArgumentTypeError("a path must not be empty")
    return Path(text)


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


def _share(text: str) -> float:
    value = _number(text.strip().removesuffix("%"))
    if not 0.1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not 0.1% to 100%")
    return value / 100


def _history_options(history: argparse.ArgumentParser) -> None:
    _written(history)
    history.add_argument(
        "--by-class",
        action="store_true",
        help="machines of one CPU model and number of CPUs are one: runners of a cloud",
    )
    history.add_argument("--csv", type=_path, metavar="FILE", help="write every point as CSV")
    history.add_argument(
        "--otava", type=_path, metavar="DIR", help="a new folder for what Apache Otava reads"
    )


def _written(command: argparse.ArgumentParser) -> None:
    """What is read, and where a document goes."""
    _list(command, "paths", "PATH", "JSON files or folders", nargs="+")
    command.add_argument(
        "-o", "--output", type=_path, metavar="FILE", help="default: standard output"
    )
    command.add_argument("--html", type=_path, metavar="FILE", help="write it as one HTML file")


def _report_options(report: argparse.ArgumentParser) -> None:
    _written(report)
    report.add_argument(
        "--fleet",
        action="store_true",
        help="of many machines, by class: which of them deviates from its class",
    )
    report.add_argument(
        "--format",
        choices=("markdown", "json", "bencher", "openmetrics", "csv"),
        default="markdown",
        help="markdown, or the figures as data; default %(default)s",
    )
