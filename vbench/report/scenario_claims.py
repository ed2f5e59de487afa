"""Claims about what virtualization is for: provisioning (W3), recovery and migration (W4)."""

from __future__ import annotations

from vbench.model import Item
from vbench.records import Clock
from vbench.report.gather import Panel
from vbench.report.overview import BOOT_PHASES, boot_times
from vbench.report.scenarios import (
    ANEW,
    MIGRATION,
    PROVISIONING,
    SNAPSHOT,
    counts,
    measured,
    seconds,
)
from vbench.report.verdicts import Basis, Finding, Part, all_hold
from vbench.results.formatting import code, duration, number, plain

# W3: "within minutes".
PROVISIONED_S = 300.0
# W4: "without downtime".
UNNOTICED_S = 0.1
THRESHOLDS = (
    f"within minutes is {PROVISIONED_S / 60:g} minutes; without downtime is that no client waits "
    f"longer than {UNNOTICED_S * 1000:g} ms and no connection is lost"
)


def provisioning(panel: Panel) -> Finding | str:
    """W3: from nothing to the first command: the image is built, the guest launched."""
    if not panel.wall:
        return "launches of an emulated host are not timed"
    built = [s for item in measured(panel, PROVISIONING) for s in seconds(item, "image", "built")]
    texts, holds = [], []
    for variant in panel.variants():
        launched = next((s for k in BOOT_PHASES if (s := boot_times(panel, variant, k))), [])
        if launched:
            holds.append(max(built, default=0.0) + launched[-1] <= PROVISIONED_S)
            texts.append(f"{code(variant)} {number(launched[0])} to {number(launched[-1])} s")
    if not texts:
        return "no launch was timed"
    launch = Part(all(holds), "launch to first command: " + "; ".join(texts))
    if not built:
        return Finding((launch, Part(None, "the making of the image before it was not timed")))
    return Finding((launch, Part(True, f"before that once, the image: {number(max(built))} s")))


def snapshots_and_migration(panel: Panel) -> Finding | str:
    """W4: recovery by snapshots, and migration without downtime, by the client's clock."""
    parts = [_recovery(panel, item) for item in measured(panel, SNAPSHOT)]
    parts += [part for item in measured(panel, MIGRATION) if (part := _migration(panel, item))]
    given_up = [
        f"{plain(item.workload)} on {code(item.variant)} was given up: it does not converge"
        for item in measured(panel, MIGRATION)
        if 0 in counts(item, "converged") and 0 not in counts(item, "survived")
    ]
    if not parts:
        return "no guest was saved or migrated"
    return Finding(tuple(parts), beside="; ".join(given_up))


def _recovery(panel: Panel, item: Item) -> Part:
    kept = counts(item, "connections_kept")
    memory = zip(counts(item, "memory_kept_mib"), counts(item, "memory_mib"), strict=False)
    holds = all(kept) and all(found == held for found, held in memory) if kept else None
    answers = seconds(item, "restore", "answer")
    when = f" in {duration(max(answers), panel.host.time_base)} at most" if answers else ""
    how = "goes on with its memory and its connection" if holds else "lost memory or connection"
    return Part(holds, f"{code(item.variant)}, restored{when}, {how}", Basis.SIGHT)


def _migration(panel: Panel, item: Item) -> Part | None:
    """None where it never came to its end: that is told in the table, and is no downtime."""
    waits = seconds(item, "migration", "longest wait", Clock.CLIENT)
    before = seconds(item, "before", "longest wait", Clock.CLIENT)
    name = f"{plain(item.workload)} on {code(item.variant)}"
    if 0 in counts(item, "survived"):
        return Part(False, f"{name}: the guest did not survive it", Basis.SIGHT)
    done = [bool(one) for one in counts(item, "converged")]
    if anew := seconds(item, *ANEW):
        when = duration(max(anew), panel.host.time_base)
        return Part(None, f"{name}: a client was served again after {when}, having connected anew")
    kept = counts(item, "connections_kept")
    stale = counts(item, "memory_stale_mib")
    if not any(done) or len({len(waits), len(before), len(done), len(kept)}) != 1:
        return None
    holds = all_hold(
        [
            _unnoticed(wait, calm) if kept_it else False
            for wait, calm, kept_it, moved in zip(waits, before, kept, done, strict=True)
            if moved
        ]
    )
    if any(stale):
        return Part(False, f"{name} lost {number(sum(stale))} MiB of what it wrote", Basis.SIGHT)
    base = panel.host.time_base
    texts = [f"{name}: a client waited up to {duration(max(waits), base)}"]
    texts.append(f"{duration(max(before), base)} without a migration")
    if not all(kept):
        texts.append("connections were lost")
    return Part(holds, ", ".join(texts))


def _unnoticed(wait_s: float, before_s: float) -> bool | None:
    """None where clients wait that long without a migration as well."""
    if wait_s <= UNNOTICED_S:
        return True
    return None if before_s > UNNOTICED_S else False
