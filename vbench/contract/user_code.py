"""Files of the user's own, run as modules."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn


def execute(spec: ModuleSpec, module: ModuleType) -> None:
    """Run the file of `spec` as `module`. `os._exit` in it raises SystemExit: the program would end
    without a word, and nothing of ours would be cleaned up."""
    assert spec.loader  # noqa: S101 - of a file
    with _exit_raises():
        spec.loader.exec_module(module)


@contextmanager
def _exit_raises() -> Iterator[None]:
    leave, ours = os._exit, os.getpid()

    def exit(status: int) -> NoReturn:
        if os.getpid() != ours:  # a child that the file forked
            leave(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = exit
    try:
        yield
    finally:
        os._exit = leave
