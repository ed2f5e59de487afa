"""`vbench`: from words to an exit status. Nothing else exits."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence

from vbench.cli.defence import guarded, prepare_streams
from vbench.cli.parser import parser, with_further
from vbench.errors import UsageError


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
    if unknown := with_further(arguments, unknown):
        top.error(f"unrecognized arguments: {' '.join(unknown)}")
    arguments.argv = ["vbench", *_again(words)]
    arguments.guest_command = command
    act: Callable[[argparse.Namespace], int] = arguments.act

    def run() -> int:
        if command is not None and arguments.name != "exec":
            raise UsageError(f"`vbench {arguments.name}` takes no command after --")
        _must_be_somewhere()
        if arguments.name in ("run", "ab", "exec", "shell"):
            _must_have_room()
        return act(arguments)

    return guarded(run)


def _must_be_somewhere() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError(
            f"the current folder cannot be used: {error.strerror}", remedy="cd to another one"
        ) from error


def _must_have_room() -> None:
    """Whether files can be made where VBENCH_TMP says: else the first guest would find out."""
    folder = os.environ.get("VBENCH_TMP")
    if not folder:
        return
    remedy = "set VBENCH_TMP to a folder on a real disk that you may write to, by its whole path"
    if not os.path.isabs(folder):
        raise UsageError(f"VBENCH_TMP is {folder!r}, not a whole path", remedy=remedy)
    try:
        os.rmdir(tempfile.mkdtemp(prefix="vbench-", dir=folder))
    except OSError as error:
        raise UsageError(
            f"VBENCH_TMP is {folder}, where nothing can be made: {error.strerror}", remedy=remedy
        ) from error


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


if __name__ == "__main__":
    sys.exit(main())
