"""Standard output and error on any terminal. Standard library only."""

from __future__ import annotations

import io
import sys


def print_anywhere() -> None:
    """Print what the terminal's encoding lacks as "?": a symbol is not worth a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where a test or a notebook took its place
            stream.reconfigure(errors="replace")
