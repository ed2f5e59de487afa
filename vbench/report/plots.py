"""What is drawn: overheads of a panel, and its boot times."""

from __future__ import annotations

import statistics

from vbench.report.attribution import IO_THREAD_TIME, worth_explaining
from vbench.report.gather import Panel
from vbench.report.overview import boot_times
from vbench.report.sections import TITLES
from vbench.report.stacked import Bar, stacked_plot
from vbench.report.svg import Axis, Dot, Row, dot_plot
from vbench.results import stats
from vbench.results.formatting import TIMES, interval, number, times


def overheads(panel: Panel) -> str | None:
    """Overhead per workload and variant with intervals, on a log scale; None without any."""
    legend = panel.variants()
    shown = [
        (item, panel.overheads[item.name]) for item in panel.items if item.name in panel.overheads
    ]
    if not shown:
        return None
    rows: list[Row] = []
    category = ""
    for workload in dict.fromkeys(item.workload for item, _ in shown):
        dots = tuple(
            Dot(
                legend.index(item.variant),
                value.ratio,
                value.low,
                value.high,
                f"{item.workload} on {item.variant}: {times(value.ratio)} {interval(value)}",
            )
            for item, value in shown
            if item.workload == workload
        )
        of = next(item.category for item, _ in shown if item.workload == workload)
        if of != category:
            category = of
            rows.append(Row(TITLES.get(category, category)))
        rows.append(Row(workload, dots))
    what = "time" if panel.wall else "instructions"
    bars = "95 % intervals" if panel.wall else "ranges over boots"
    axis = Axis(
        f"guest {what} / native {what} per unit of work, log scale; bars are {bars}; "
        f"solid line: no overhead; dashed: {TIMES}{stats.LOW_MAX:.2f} and "
        f"{TIMES}{stats.MEDIUM_MAX:g}",
        log=True,
        prefix=TIMES,
        lines=((1.0, True), (stats.LOW_MAX, False), (stats.MEDIUM_MAX, False)),
    )
    title = "Overhead over native" + (
        "" if panel.wall else ", in instructions (counted, not timed)"
    )
    return dot_plot(title, axis, rows, legend)


def explained(panel: Panel) -> str | None:
    """Overhead explained by exits, as shares of what was measured; None without any.

    Left out: what hardly differs from native, where shares of nothing would be drawn.
    """
    shown = worth_explaining(panel)
    if not shown:
        return None
    weight: dict[str, float] = {}
    for one in shown:
        for reason, seconds in one.parts:
            weight[reason] = weight.get(reason, 0.0) + one.share(seconds)
    # three reasons have colours of their own, what is left shares the fourth
    named = sorted(weight, key=lambda reason: (-weight[reason], reason))[:3]
    legend = [*named, "other exits", IO_THREAD_TIME]
    bars = []
    for one in shown:
        shares = [0.0] * len(named) + [0.0, one.share(one.io_threads or 0.0)]
        for reason, seconds in one.parts:
            at = named.index(reason) if reason in named else len(named)
            shares[at] += one.share(seconds)
        bars.append(
            Bar(
                f"{one.item.workload} {one.item.variant}",
                tuple(enumerate(shares)),
                one.share(one.rest),
            )
        )
    return stacked_plot(
        "Overhead explained by exits",
        "exits per unit of work times what one costs, and the CPU time of device threads, as a "
        "share of guest less native",
        bars,
        legend,
    )


def boots(panel: Panel) -> str | None:
    """Boot times of each variant: median, and smallest to largest; None without any."""
    names = sorted({phase.name for launch in panel.launches for phase in launch.phases})
    legend = [v for v in panel.launched() if any(boot_times(panel, v, name) for name in names)]
    rows = []
    for name in names:
        dots = tuple(
            Dot(
                i,
                statistics.median(seconds),
                seconds[0],
                seconds[-1],
                f"{variant}: {number(statistics.median(seconds))} s, "
                f"{number(seconds[0])} to {number(seconds[-1])} s",
            )
            for i, variant in enumerate(legend)
            if (seconds := boot_times(panel, variant, name))
        )
        if dots:
            rows.append(Row(name, dots))
    if not rows:
        return None
    clock = "seconds" if panel.wall else "seconds of the testbed's clock"
    axis = Axis(f"{clock}; the mark is the median, the bar reaches from smallest to largest", False)
    return dot_plot("Boot times", axis, rows, legend)
