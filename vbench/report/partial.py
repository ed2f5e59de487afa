"""Whether the report is of a whole run."""

from __future__ import annotations

from collections.abc import Sequence

from vbench.model import Result


def partial(results: Sequence[Result]) -> tuple[str, ...]:
    """A paragraph for each run that did not measure all that it planned; "Partial report" begins
    it."""
    runs: dict[tuple[str, tuple[str, ...]], Result] = {}
    for result in results:
        key = (result.started, result.argv)
        if result.partial and (key not in runs or runs[key].done < result.done):
            runs[key] = result
    return tuple(
        f"**Partial report.** The run of {run.started} made {run.done} of {run.planned} planned "
        f"measurements: {run.stopped or 'it ended early'}. What is missing below may be among the "
        "others. If the run has ended, `vbench run --resume` with its folder makes them."
        for _, run in sorted(runs.items())
    )
