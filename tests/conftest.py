"""What holds for all tests."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

# What a shell starts in the background ignores Ctrl-C, and so do its children. Tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests start many interpreters. Where Python may keep nothing that it compiled beside the sources,
# each of them would compile all that it imports, a second's work: it is kept in one folder instead.
if sys.dont_write_bytecode:
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or python -B


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of a file run in one process: what a file makes for all its tests is made once."""
    from xdist.scheduler import LoadFileScheduling  # noqa: PLC0415 - only where xdist is used

    return LoadFileScheduling(config, log)
