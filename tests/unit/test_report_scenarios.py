"""The chapter on what virtualization is for, and the verdicts W3 and W4, from made-up scenarios."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sample_results import LOCAL, item, launch, result
from test_report_exits import judged

from vbench import report
from vbench.model import Item, Pair, Result, Statistic, TimeBase
from vbench.records import Clock, Phase
from vbench.report import scenarios
from vbench.workloads import scenario_migration

BARE = replace(LOCAL, facts={**LOCAL.facts, "virtualization": "none"})


def scenario(kind: str, *pairs: Pair, name: str = "x") -> Item:
    return item(
        f"{kind}-{name}", pairs, category=kind, unit=kind, statistic=Statistic.ABSOLUTE
    )  # fmt: skip


def migration(wait_s: float, before_s: float = 0.01, *, boot: int = 0, **counts: float) -> Pair:
    phases = (
        Phase("migration", "total", Clock.HYPERVISOR, 0.9),
        Phase("migration", "downtime", Clock.HYPERVISOR, 0.036),
        Phase("before", "longest wait", Clock.CLIENT, before_s),
        Phase("migration", "longest wait", Clock.CLIENT, wait_s),
        Phase("migration", "tick gap", Clock.CLIENT, wait_s),
        Phase("migration", "clock lost", Clock.GUEST, 0.037),
    )
    counted = {"converged": 1.0, "connections_kept": 1.0, "memory_stale_mib": 0.0, "rounds": 3.0}
    return Pair(None, 0.9, boot, counters={**counted, **counts}, phases=phases)


def snapshot(**counts: float) -> Pair:
    phases = (
        Phase("save", "saved", Clock.CLIENT, 0.2),
        Phase("restore", "answer", Clock.CLIENT, 0.5),
    )
    counted = {"connections_kept": 1.0, "memory_kept_mib": 128.0, "memory_mib": 128.0}
    return Pair(None, 0.5, 0, counters={**counted, **counts}, phases=phases)


def gathered(*items: Item) -> Result:
    return result(*items, host=BARE, launches=(launch("tcg", 0),))


def w4(*items: Item) -> list[str]:
    return judged(gathered(*items))["W4"][2:4]


def test_what_was_not_done_is_not_judged() -> None:
    assert "no guest was saved or migrated" in w4(item("cpu-prime"))[0]


def test_restored_guests_answered_after_a_range() -> None:
    one = scenario("snapshot", snapshot())
    slow = replace(snapshot(), phases=(Phase("restore", "answer", Clock.CLIENT, 0.7),))
    other = replace(scenario("snapshot", slow), variant="b")
    text = report.render([gathered(one), replace(gathered(other), variant="b")], plots_dir=None)
    assert "A restored guest answered after 500 ms (`tcg`) to 700 ms (`b`)." in text.markdown
    assert "count from the start of the restore" in text.markdown


def test_recovery_is_confirmed_where_memory_and_connection_go_on() -> None:
    verdict, number = w4(scenario("snapshot", snapshot()))
    assert verdict == "confirmed"
    assert "500 ms at most" in number


@pytest.mark.parametrize("lost", [{"connections_kept": 0.0}, {"memory_kept_mib": 127.9}])
def test_recovery_is_refuted_by_either(lost: dict[str, float]) -> None:
    verdict, number = w4(scenario("snapshot", snapshot(), snapshot(**lost)))
    assert verdict == "refuted"
    assert "lost memory or connection" in number


@pytest.mark.parametrize(
    ("pair", "verdict"),
    [
        (migration(0.1), "confirmed"),
        (migration(0.101), "refuted"),
        (migration(0.3, before_s=0.2), "inconclusive"),  # they wait that long anyway
        (migration(0.05, before_s=0.2), "confirmed"),
        (migration(0.05, connections_kept=0.0), "refuted"),
        (migration(0.05, memory_stale_mib=0.004), "refuted"),
        (migration(0.05, survived=0.0), "refuted"),
    ],
)
def test_downtime_is_what_a_client_waits(pair: Pair, verdict: str) -> None:
    assert w4(scenario("migration", migration(0.05), pair))[0] == verdict


def test_a_migration_that_never_ends_is_no_downtime() -> None:
    never = migration(0.01, converged=0.0, left_mib=149.0)
    calm = scenario("migration", migration(0.05))
    assert w4(calm, scenario("migration", never, name="y"))[0] == "confirmed"
    text = report.render([gathered(calm, scenario("migration", never, name="y"))], plots_dir=None)
    assert "does not converge: 149 MiB left" in text.markdown
    assert "moved in migration-x (`tcg`), with up to 50.0 ms" in text.markdown
    assert "; they were given up in migration-y (`tcg`)." in text.markdown
    evidence = w4(calm, scenario("migration", never, name="y"))[1]
    assert evidence.endswith("migration-y on `tcg` was given up: it does not converge")


def test_a_guest_that_did_not_survive_is_told_with_the_reason() -> None:
    dead = scenario("migration", migration(0.05, survived=0.0))
    text = report.render([gathered(replace(dead, reason="BUG: x"))], plots_dir=None).markdown
    assert "**the guest did not survive**: BUG: x" in text
    assert "They died in migration-x (`tcg`)." in text
    assert "Downtime, by the hypervisor" not in text  # a dead guest has none


def test_downtime_stands_there_by_three_clocks_with_its_limits() -> None:
    text = report.render(
        [gathered(scenario("migration", migration(0.05), migration(0.09)))], plots_dir=None
    ).markdown
    section = text.split("## Why virtualization matters\n")[1].split("\n## ")[0]
    for heading in ("Downtime, by the hypervisor", "Tick gap", "Client's wait", "Clock lost"):
        assert heading in section
    assert "Client's wait, ms" in section
    assert "| 70.0 (50.0 to 90.0) |" in section
    assert "| 36.0 |" in section
    told = "Migrated guests moved in migration-x (`tcg`), with up to 90.0 ms in which a client"
    assert section.strip().startswith(told)
    assert f"may send {scenarios.STREAM_MIB_S} MiB/s at most" in section
    assert scenario_migration._TERMS.bandwidth_mib_s == scenarios.STREAM_MIB_S
    assert "No network lies between them" in section
    assert "consolidation by `vbench run --workload 'consolidation*'`" in section


def test_a_report_without_scenarios_has_no_such_chapter() -> None:
    text = report.render([gathered(item("cpu-prime"))], plots_dir=None).markdown
    assert "## Why virtualization matters" not in text


@pytest.mark.parametrize(("built_s", "verdict"), [(40.0, "confirmed"), (299.0, "refuted")])
def test_from_nothing_holds_the_building_of_the_image(built_s: float, verdict: str) -> None:
    built = (Phase("image", "built", Clock.CLIENT, built_s),)
    started = gathered(scenario("provisioning", Pair(None, 3.0, 0, phases=built)))
    assert judged(started)["W3"][2] == verdict
    assert judged(gathered(item("cpu-prime")))["W3"][2] == "inconclusive"


def elsewhere() -> Pair:
    phases = (
        Phase("migration", "downtime", Clock.HYPERVISOR, 0.036),
        Phase("before", "longest wait", Clock.CLIENT, 0.01),
        Phase("migration", "connected anew", Clock.CLIENT, 0.12),
    )
    counted = {"converged": 1.0, "survived": 1.0, "memory_stale_mib": 0.0}
    return Pair(None, 0.9, 0, counters=counted, phases=phases)


def test_a_client_that_connected_anew_is_no_verdict_on_downtime() -> None:
    verdict, number = w4(scenario("migration", elsewhere()))
    assert verdict not in ("confirmed", "refuted")
    assert "served again after 120 ms, having connected anew" in number


def test_in_the_testbed_they_are_no_counts_and_in_millions() -> None:
    moved = replace(scenario("migration", migration(0.05)), time_base=TimeBase.INSTRUCTIONS)
    host = replace(BARE, time_base=TimeBase.INSTRUCTIONS)
    one = result(moved, host=host, launches=(launch("tcg", 0),))
    text = report.render([one], plots_dir=None).markdown
    assert "In all, million instr." in text
    assert "| 900 |" in text
    assert "None of these figures is an exact count" in text
    assert "one span longer" in text
    assert "instr.." not in text


def test_the_limits_are_those_of_what_was_measured() -> None:
    def told(*items: Item) -> tuple[bool, bool, bool]:
        text = report.render([gathered(*items)], plots_dir=None).markdown
        section = text.split("## Why virtualization matters\n")[1].split("\n## ")[0]
        return (
            "are on one host" in section,
            "to another host goes" in section,
            "*clock lost*" in section,
        )

    here, there = scenario("migration", migration(0.05)), scenario("migration", elsewhere())
    assert told(scenario("snapshot", snapshot())) == (False, False, False)
    assert told(here) == (True, False, True)
    assert told(there) == (False, True, True)
