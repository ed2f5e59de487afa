"""What went wrong is told once per cause, with what it took along, and nothing is left out."""

from __future__ import annotations

from typing import Any

from vbench.errors import GuestLost, LaunchError, VbenchError, WorkloadError
from vbench.run.failures import Failure, Failures


def failures(*made: tuple[str, int, VbenchError]) -> Failures:
    all_of_them = Failures()
    for workload, boot, error in made:
        all_of_them.add(Failure("local-tcg", "tcg", workload, boot, error))
    return all_of_them


def test_a_boot_that_is_lost_is_one_cause() -> None:
    error = LaunchError("it did not come up", evidence="qemu -x\nno such device", remedy="buy one")
    told = list(failures(*(("", 1, error) for _ in range(30))).new())
    assert told == [
        "local-tcg boot 2: it did not come up: 29 further workloads of this boot\n"
        "  | qemu -x\n"
        "  | no such device\n"
        "  -> buy one"
    ]
    two = list(failures(("", 0, error), ("", 0, error)).new())
    assert two[0].splitlines()[0].endswith("1 further workload of this boot")


def test_two_boots_that_are_lost_are_two() -> None:
    lost = [LaunchError("it did not come up", evidence=f"argv {boot}") for boot in range(2)]
    told = list(failures(*(("", boot, error) for boot, error in enumerate(lost))).new())
    assert len(told) == 2
    assert "argv 1" in told[1]


def test_a_workload_that_fails_on_each_boot_is_one() -> None:
    made = failures(*(("cpu-x", boot, WorkloadError("status 7")) for boot in range(3)))
    assert list(made.new()) == ["cpu-x[tcg] boot 1: status 7; also on boot 2, boot 3"]


def test_workloads_that_fail_by_the_same_evidence_are_one() -> None:
    """Each workload with a client failed where the image lacked it, and each said so at length."""

    def missing() -> WorkloadError:
        return WorkloadError("status 127", evidence="sh: iperf3: not found")

    made = failures(("net-a", 0, missing()), ("net-b", 0, missing()), ("net-a", 1, missing()))
    assert list(made.new()) == [
        "net-a[tcg] boot 1: status 127; also on boot 2; also net-b\n  | sh: iperf3: not found"
    ]
    assert made.summary() == ["net-a[tcg] boot 1: status 127 (and 2 more)"]
    other = WorkloadError("status 127", evidence="sh: fio: not found")
    assert len(list(failures(("net-a", 0, missing()), ("disk-a", 0, other)).new())) == 2


def test_what_was_told_is_not_told_again() -> None:
    made = failures(("cpu-x", 0, WorkloadError("status 7")))
    assert len(list(made.new())) == 1
    made.add(Failure("local-tcg", "tcg", "cpu-x", 1, WorkloadError("status 7")))
    assert list(made.new()) == []
    made.add(Failure("local-tcg", "tcg", "cpu-x", 2, WorkloadError("status 8")))
    assert len(list(made.new())) == 1
    assert made.summary() == [
        "cpu-x[tcg] boot 1: status 7 (and 1 more)",
        "cpu-x[tcg] boot 3: status 8",
    ]


def test_none_is_left_out() -> None:
    """There was a limit of 20."""
    made = failures(*((f"cpu-{n}", 0, WorkloadError(f"status {n}")) for n in range(50)))
    assert len(list(made.new())) == len(made.summary()) == len(made) == 50


def test_a_lost_guest_has_a_remedy() -> None:
    assert "  -> " in next(failures(("cpu-x", 0, GuestLost("it died"))).new())


def test_one_that_another_lane_adds_meanwhile_is_told_next_time() -> None:
    made = failures(("cpu-x", 0, WorkloadError("status 7")))

    class Slow(list[Failure]):
        """Another thread comes between two looks at it."""

        def __getitem__(self, at: Any) -> Any:
            found = super().__getitem__(at)
            if len(self) == 1 and found:
                self.append(Failure("local-tcg", "tcg", "cpu-y", 0, WorkloadError("status 8")))
            return found

    made._all = Slow(made._all)
    assert len([*made.new(), *made.new()]) == 2
