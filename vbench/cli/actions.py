"""What each command does. Modules are imported when a command needs them, so that
`vbench --help` answers at once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vbench.errors import UsageError


def _options(arguments: argparse.Namespace) -> Any:
    """RunOptions with what the command has of its fields: they go by one name."""
    from vbench.run.options import RunOptions

    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(arguments).items()
    }
    given["ab"] = arguments.name == "ab"
    if given["ab"]:
        given["variants"] = (arguments.a, arguments.b)
    if 0 < given.get("hosts_most", 0) < len(given["hosts"]):
        raise UsageError(
            f"one host only, not {', '.join(given['hosts'])}", remedy="name one --host"
        )
    return RunOptions(**{name: given[name] for name in RunOptions.__match_args__ if name in given})


def run(arguments: argparse.Namespace) -> int:
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


def ab(arguments: argparse.Namespace) -> int:
    from vbench.run import runner

    return runner.run(_options(arguments))


def report(arguments: argparse.Namespace) -> int:
    from vbench import report
    from vbench.results import loading
    from vbench.results.journal import write_atomic

    for option, written in (("-o", arguments.output), ("--html", arguments.html)):
        if written:
            _spare_results(written, option)
    if arguments.fleet:
        return _fleet_report(arguments)
    results = loading.load_all(arguments.paths, _tell)
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


def _fleet_report(arguments: argparse.Namespace) -> int:
    from vbench import report
    from vbench.results import loading

    if arguments.format != "markdown":
        raise UsageError("--fleet has no --format", remedy="-o FILE and --html FILE")
    failures: list[Any] = []
    files = loading.load_files(arguments.paths, _tell, failures)
    many = report.fleet(((path.parent, result) for path, result in files), failures)

    def made(written: Path | None, suffixes: tuple[str, ...]) -> Any:
        return report.fleet_document(many, lambda folder: _own_report(folder, written, suffixes))

    _write_document(made, arguments)
    return 0


def _own_report(folder: Path, written: Path | None, suffixes: tuple[str, ...]) -> str:
    """The link to the report of a folder of results, from the file that is written."""
    if written is None:
        return ""
    pages = (folder / f"report{suffix}" for suffix in suffixes)
    page = next((page for page in pages if page.is_file()), None)
    if page is None:
        return ""
    return quote(os.fsencode(os.path.relpath(page.resolve(), written.resolve().parent)))


def history(arguments: argparse.Namespace) -> int:
    from vbench import report
    from vbench.results import loading
    from vbench.results.journal import write_atomic

    for option, written in (
        ("-o", arguments.output),
        ("--html", arguments.html),
        ("--csv", arguments.csv),
    ):
        if written:
            _spare_results(written, option)
    line = report.timeline(loading.load_each(arguments.paths, _tell), by_class=arguments.by_class)
    if arguments.csv:
        write_atomic(arguments.csv, line.csv)
    if arguments.otava:
        _new_folder(arguments.otava)
        for name, text in line.otava.items():
            write_atomic(arguments.otava / name, text)
    _write_document(lambda *_: line.document, arguments)
    return 0


def _new_folder(path: Path) -> None:
    try:
        path.mkdir()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be made: {error.strerror}", remedy="name a new folder"
        ) from error


def _write_document(
    made: Callable[[Path | None, tuple[str, ...]], Any], arguments: argparse.Namespace
) -> None:
    """As Markdown to -o or standard output, and as HTML where that is asked for. `made` gets the
    file that is written, and the suffixes of other reports that it may link to, the best first."""
    from vbench.report import html, markdown
    from vbench.results.journal import write_atomic

    if arguments.html:
        page = made(arguments.html, (".html", ".md"))
        write_atomic(arguments.html, html.render(page, {}))
    if arguments.output or not arguments.html:
        text = markdown.render(made(arguments.output, (".md", ".html")), plots=None)
        if arguments.output:
            write_atomic(arguments.output, text)
        else:
            sys.stdout.write(text)


def _tell(sentence: str) -> None:
    print(f"vbench: {sentence}", file=sys.stderr)


def _spare_results(written: Path, option: str) -> None:
    """Raises UsageError where writing would take the place of a folder or destroy results."""
    from vbench.results import loading

    if written.is_dir():
        raise UsageError(f"{written} is a folder", remedy=f"name a file: {written / 'report.md'}")
    if loading.is_result(written):
        raise UsageError(f"{written} holds results", remedy=f"name another file with {option}")


def compare(arguments: argparse.Namespace) -> int:
    from vbench.results import compare, identity, loading

    keys = {name.lower().replace(" ", "-"): name for name in identity.CLASS_KEYS}
    for unknown in set(arguments.across) - keys.keys():
        raise UsageError(f"no key of machines is called {unknown!r}", remedy=", ".join(keys))
    bases = {path.resolve(): path for path in arguments.bases}
    if len(arguments.bases) > 1 and arguments.new.resolve() in bases:
        raise UsageError(
            f"{arguments.new} is NEW and one of BASE", remedy="name as BASE the runs before it"
        )
    runs = [loading.load_all([path], _tell) for path in bases.values()]
    *earlier, base = sorted(runs, key=lambda run: max(result.started for result in run))
    comparison = compare.compare(
        base,
        loading.load_all([arguments.new], _tell),
        arguments.fail_above,
        allow_missing=arguments.allow_missing,
        across=[keys[key] for key in arguments.across],
        earlier=earlier,
    )
    sys.stdout.write(comparison.render())
    return comparison.status


def doctor(arguments: argparse.Namespace) -> int:
    from vbench.cli import commands

    return commands.doctor(_options(arguments), as_json=arguments.json)


def setup(arguments: argparse.Namespace) -> int:
    from vbench.system import packages

    return packages.setup(
        dry_run=arguments.dry_run,
        test=arguments.test,
        libvirt=arguments.libvirt,
        fleet=arguments.fleet,
    )


def backends(arguments: argparse.Namespace) -> int:
    from vbench.cli import commands

    return commands.backends(_options(arguments), as_json=arguments.json)


def workloads(arguments: argparse.Namespace) -> int:
    from vbench.cli import commands

    return commands.workloads(_options(arguments), as_json=arguments.json)


def exec(arguments: argparse.Namespace) -> int:
    from vbench.cli import commands

    if not arguments.guest_command:
        raise UsageError("there is no command", remedy="vbench exec VARIANT -- COMMAND")
    return commands.execute(_options(arguments), arguments.variant, arguments.guest_command)


def shell(arguments: argparse.Namespace) -> int:
    from vbench.cli import commands

    return commands.shell(_options(arguments), arguments.variant)


def image(arguments: argparse.Namespace) -> int:
    from vbench import image
    from vbench.testbed import EXPORTED

    def progress(line: str) -> None:
        print(line, file=sys.stderr)

    if arguments.action == "build":
        print(image.ensure(arguments.kernel, arguments.modules, progress=progress).digest)
    elif arguments.action == "export":
        print(image.export_images(arguments.file, EXPORTED, progress).digest)
    elif arguments.action == "import":
        print(image.import_images(arguments.file, EXPORTED).digest)
    elif arguments.action == "list":
        print(image.table(image.installed()))
    else:
        removed = [each for digest in arguments.digest for each in image.remove(digest)]
        if arguments.unused is not None:
            removed = image.remove_unused(arguments.unused)
        for each in removed:
            print(f"removed {each.name}")
    return 0
