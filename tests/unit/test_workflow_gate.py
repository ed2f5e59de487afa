"""The workflow's gate, by its own steps and the real `vbench`, on results of four runners a side.

benchmarks/gate.py does the same twenty times over.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def load() -> Any:
    spec = importlib.util.spec_from_file_location("gate", ROOT / "benchmarks/gate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gate"] = module  # dataclasses look their module up
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")  # as Python does that runs it
        spec.loader.exec_module(module)
    return module


gate = load()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A job that has a base."""
    made = gate.Job(tmp_path_factory.mktemp("job"))
    made.artefacts("base", gate.Spread(), gate.Planted())
    assert made.gate() == (0, True)
    return made


def base(job: Any) -> list[str]:
    """The runs that are the base."""
    return sorted((path.name for path in (job.folder / "base").iterdir()), key=int)


def test_the_base_has_every_file_of_every_runner(job: Any) -> None:
    assert base(job) == ["1"]
    files = list((job.folder / "base/1").glob("*/*.json"))
    assert len(files) == gate.RUNNERS * len(gate.VARIANTS)


def test_a_run_like_the_base_passes_and_becomes_the_base(job: Any) -> None:
    job.artefacts("again", gate.Spread(), gate.Planted())
    assert job.gate() == (0, True)
    assert "passed" in (job.folder / "compare.txt").read_text()


@pytest.mark.parametrize("case", ["15 % in all of kvm-virtio", "15 % in one series of 100"])
def test_a_planted_regression_fails_and_is_no_base(job: Any, case: str) -> None:
    before = base(job)
    job.artefacts("slower", gate.Spread(), gate.CASES[case])
    assert job.gate() == (1, False)
    assert base(job) == before
    text = (job.folder / "compare.txt").read_text()
    found = [line for line in text.splitlines() if line.startswith("regression")]
    assert found
    assert all("kvm-virtio" in line for line in found)


def test_a_run_that_one_wild_runner_leaves_undecided_fails_and_is_no_base(job: Any) -> None:
    (planted,) = [planted for planted in gate.CASES.values() if planted.wild > 1]
    before = base(job)
    job.artefacts("wild", gate.Spread(), planted)
    assert job.gate() == (6, False)
    assert base(job) == before
    assert "failed: 100 rows undecided" in (job.folder / "compare.txt").read_text()


def test_a_run_that_failed_is_compared_but_is_no_base(job: Any) -> None:
    job.artefacts("failed", gate.Spread(), gate.Planted())
    (job.folder / "artefacts/vbench-runner-1/local-tcg.json").unlink()
    assert job.gate(measured="failure") == (0, False)


def test_what_cannot_be_compared_fails_but_becomes_the_base(job: Any) -> None:
    """Else runners of another kind, or a changed workload, would never pass again."""
    job.artefacts("other", gate.Spread(), gate.Planted())
    for path in (job.folder / "artefacts").glob("*/*.json"):
        path.write_text(path.read_text().replace("6.11.0-1018-azure", "6.12"))
    assert job.gate() == (4, True)
    job.artefacts("base", gate.Spread(), gate.Planted())
    assert job.gate() == (4, True)


def test_the_last_five_good_runs_are_the_base_unless_one_was_started_by_hand(job: Any) -> None:
    while len(base(job)) < 5:
        job.artefacts(f"run{job.runs}", gate.Spread(), gate.Planted())
        assert job.gate() == (0, True)
    oldest = base(job)[0]
    job.artefacts("one more", gate.Spread(), gate.Planted())
    assert job.gate() == (0, True)
    assert "BASE has 5 runs" in (job.folder / "compare.txt").read_text()
    assert len(base(job)) == 5
    assert oldest not in base(job)
    by_hand = {"MEASURED": "success", "STATUS": "0", "GITHUB_EVENT_NAME": "workflow_dispatch"}
    assert job.run("Make this the base", by_hand) == 0
    assert base(job) == [str(job.runs)]


def test_what_cannot_be_read_is_no_base(job: Any) -> None:
    job.artefacts("cut", gate.Spread(), gate.Planted())
    assert job.run("Gather the JSON of all runners") == 0
    path = job.folder / "results/vbench-runner-1/local-tcg.json"
    path.write_bytes(path.read_bytes()[:-100])
    assert job.run("Compare with the base") == 5
    assert job.output.read_text() == "status=5\n"
    assert job.run("Make this the base", {"MEASURED": "success", "STATUS": "5"}) == 0
    assert job.run("Make this the base", {"MEASURED": "success", "STATUS": ""}) == 0
    assert job.output.read_text() == ""


def test_gathering_nothing_fails(job: Any) -> None:
    for path in (job.folder / "artefacts").glob("*/*.json"):
        path.unlink()
    assert job.run("Gather the JSON of all runners") != 0


def test_the_counted_workflow_has_the_same_gate() -> None:
    """Its steps are run here as those of the other workflow."""
    folder = ROOT / ".github/workflows"
    steps = [
        {
            step["name"]: step["run"]
            for job in yaml.safe_load((folder / name).read_text())["jobs"].values()
            for step in job["steps"]
            if step.get("name") in ("Compare with the base", "Make this the base")
        }
        for name in ("vbench.yml", "counted.yml")
    ]
    assert steps[0] == steps[1]
    assert len(steps[0]) == 2
