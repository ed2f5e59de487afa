"""What the report of many machines says of hosts and workloads that could not be measured. Pure."""

from __future__ import annotations

from vbench.report.document import Block, Cell, Fold, Table, link
from vbench.report.fleet import Fleet, Machine
from vbench.report.fleet_names import Names
from vbench.results.formatting import code, plain, plural

TITLE = "Not measured"
_SHOWN = 30  # hosts that are not folded away
_FEW = 6  # hosts that a sentence names


def sentence(fleet: Fleet) -> str:
    """Which hosts failed, for the first screen."""
    names = [each.host for each in fleet.unmeasured]
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    shown = ", ".join(map(code, names[:_FEW]))
    return f"**{plural(len(names), 'host')} failed:** {shown}{more}; {link(TITLE, 'why')}."


def blocks(fleet: Fleet, names: Names) -> list[Block]:
    """The chapter."""
    return [*_hosts(fleet, names), *_unfinished(fleet, names), *_workloads(fleet, names)]


def _machines(fleet: Fleet) -> list[Machine]:
    return [machine for of in fleet.classes for machine in of.machines]


def _hosts(fleet: Fleet, names: Names) -> list[Block]:
    folders = {name: of for machine in _machines(fleet) for name, of in machine.names.items()}
    known = {name for machine in _machines(fleet) if machine.logs for name in machine.names}
    rows: list[list[Cell | str]] = [
        [
            names.linked(each.host, folders.get(each.host)),
            plain(each.at),
            "some" if each.host in known else "none",
            plain(each.reason),
            plain(each.remedy),
        ]
        for each in fleet.unmeasured
    ]
    if not rows:
        return []
    headings = ["Host", "When", "Results", "Why", "What to do"]
    found: list[Block] = [
        f"{plural(len(rows), 'host')} failed when Ansible last tried. What was measured before "
        "counts in this report.",
        Table(headings, rows[:_SHOWN]),
    ]
    if rows[_SHOWN:]:
        found.append(Fold(f"{len(rows) - _SHOWN} more", [Table(headings, rows[_SHOWN:])]))
    return found


def _unfinished(fleet: Fleet, names: Names) -> list[Block]:
    machines = [machine for machine in _machines(fleet) if machine.partial]
    if not machines:
        return []
    return [
        f"Runs that did not measure all that they planned: {names.some(machines)}. "
        "`vbench run --resume` with the folder of such a run measures the rest."
    ]


def _workloads(fleet: Fleet, names: Names) -> list[Block]:
    reasons: dict[str, list[Machine]] = {}
    for machine in _machines(fleet):
        for reason in machine.failed:
            reasons.setdefault(reason, []).append(machine)
    rows: list[list[Cell | str]] = [
        [plain(reason), str(sum(each.failed[reason] for each in of)), names.some(of)]
        for reason, of in sorted(reasons.items(), key=lambda pair: -len(pair[1]))
    ]
    if not rows:
        return []
    text = f"Workloads failed for {plural(len(rows), 'reason')}."
    return [text, Table(["Why", "Workloads", "Machines"], rows)]
