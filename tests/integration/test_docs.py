"""The examples of docs/ are run as they stand there."""

import re
from pathlib import Path

import pytest

from vbench.cli.main import main
from vbench.contract import hookspecs
from vbench.model import Status
from vbench.results.loading import load_all

DOCS = Path(__file__).parents[2] / "docs"


def example(page: str, name: str) -> str:
    """The fenced block of a page whose first line is `# name`."""
    blocks = re.findall(r"```python\n(# (\S+)\n.*?)```", (DOCS / page).read_text(), re.DOTALL)
    return {title: text for text, title in blocks}[name]


@pytest.mark.tcg
def test_the_example_backend_and_workload_measure_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VBENCH_LOCK", str(tmp_path / "lock"))
    backend, workload = tmp_path / "my_backend.py", tmp_path / "bench_mine.py"
    backend.write_text(example("writing-a-backend.md", "my_backend.py"))
    workload.write_text(example("writing-a-workload.md", "bench_mine.py"))
    out = tmp_path / "out"
    status = main(
        [
            *("run", "--plugin", str(backend), "--backend", "tcg-mixed"),
            *("--boots", "1", "--rounds", "1", "--out", str(out), str(workload)),
        ]
    )
    assert status == 0
    report = (out / "report.md").read_text()
    assert "tcg-mixed" in report
    assert "cpu-spin" in report


@pytest.mark.tcg
def test_the_example_of_a_vmm_that_boots_an_iso_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VBENCH_LOCK", str(tmp_path / "lock"))
    backend = tmp_path / "my_vmm.py"
    backend.write_text(example("writing-a-backend.md", "my_vmm.py"))
    out = tmp_path / "out"
    status = main(
        [
            *("run", "--plugin", str(backend), "--backend", "my-vmm", "--boots", "1"),
            *("--rounds", "2", "--out", str(out)),
            *("--workload", "syscall-getppid", "--workload", "network-rr"),
            *("--workload", "provisioning-second"),
        ]
    )
    assert status == 0
    (result,) = load_all([out])
    items = {item.workload: item for item in result.items}
    assert items["network-rr"].status is Status.UNSUPPORTED
    # two of its guests were up at once, with one scratch disk, before one was to be saved
    assert items["provisioning-second"].reason.startswith("its guests have no save")
    assert len(result.launches) == 3
    assert [pair.native_s is None for pair in items["syscall-getppid"].pairs] == [False, False]
    assert result.declaration.hypervisor is not None
    assert result.launches[0].device.start == "BIOS, ISO"


def test_the_page_on_backends_names_every_hook() -> None:
    page = (DOCS / "writing-a-backend.md").read_text()
    hooks = [name for name in vars(hookspecs) if name.startswith("vbench_")]
    assert hooks
    for hook in hooks:
        assert f"`{hook}(" in page
