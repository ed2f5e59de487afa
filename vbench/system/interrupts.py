"""Signals that ask a run to end."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from vbench.errors import Interrupted

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Ctrl-C, SIGTERM, SIGHUP (the terminal is gone) and SIGQUIT raise Interrupted: what was
    measured is kept, what runs is ended. One that is ignored already stays so (nohup). All but
    Ctrl-C count once: a second one must not end the writing of the report."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in caught:
            if each != signal.SIGINT:
                signal.signal(each, signal.SIG_IGN)
        raise Interrupted

    caught = [
        each for each in (signal.SIGINT, *_ENDING) if signal.getsignal(each) is not signal.SIG_IGN
    ]
    before = {each: signal.signal(each, interrupt) for each in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def asked_to_end(error: BaseException) -> bool:
    """Whether somebody asked us to end, and not a workload or plugin that raised `error` by itself.
    Under Python's own handler, as in pytest, the two kinds of KeyboardInterrupt look alike."""
    python = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, KeyboardInterrupt if python else Interrupted)
