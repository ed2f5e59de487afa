"""README and docs: what they claim is so, links lead somewhere, and the prose is plain."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from vbench import report
from vbench.cli.parser import parser
from vbench.results import loading

ROOT = Path(__file__).parents[2]
LINT = ROOT / "tools" / "prose.py"
README = (ROOT / "README.md").read_text()
DOCS = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
DOCS += sorted((ROOT / "docs").rglob("*.md"))


def lint(text: str, folder: Path) -> list[str]:
    page = folder / "page.md"
    page.write_text(text)
    argv = [sys.executable, str(LINT), str(page)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if done.stdout else 0)
    return done.stdout.splitlines()


def test_the_lint_finds_what_it_is_for(tmp_path: Path) -> None:
    assert "37 words" in lint("A " + "word " * 35 + "ends.", tmp_path)[0]
    assert "cause" in lint("Ports make a guest leave.", tmp_path)[0]
    assert ":3:" in lint("Fine.\n\nThis is simply wrong.", tmp_path)[0]
    code = "    simply code\n\n```\nsimply\n```\n\n| simply |\n\n`simply` fine."
    assert lint(code, tmp_path) == []


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_between_pages_lead_to_files(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_the_readme_shows_the_first_table_of_the_shipped_report() -> None:
    shipped = ROOT / "reports" / "development-machine"
    made = report.render(loading.load_all([shipped]), plots_dir=None).markdown
    table = re.search(r"^\| Aspect.*?(?=\n\n)", made, flags=re.S | re.M)
    assert table is not None
    assert table[0] in README, f"README.md should show:\n{table[0]}"
    rows = [row.split("|")[2:-1] for row in table[0].splitlines()]
    counted = sum("†" in "".join(column) for column in zip(*rows, strict=True))
    columns = ("no column was", "one column was", "two columns were", "all columns were")[counted]
    assert f"{columns} counted in an emulated machine (†)" in " ".join(README.split())


def test_every_command_of_the_readme_is_one() -> None:
    for line in re.findall(r"^    (vbench [^#\n]+)", README, flags=re.M):
        arguments = shlex.split(line)[1:]
        if "--" in arguments:  # what follows is for the guest
            arguments = arguments[: arguments.index("--")]
        parser().parse_args(arguments)


def test_every_environment_variable_is_documented() -> None:
    page = (ROOT / "docs" / "environment.md").read_text()
    used: set[str] = set()
    for folder, _, names in os.walk(ROOT / "vbench"):
        for name in names:
            if name.endswith((".py", ".sh")):
                text = (Path(folder) / name).read_text()
                used |= set(re.findall(r"(?:\$\{?|[\"'])(VBENCH_[A-Z]+)\b", text))
    of_mmdebstrap = {"VBENCH_DOWNLOADED", "VBENCH_HOOK", "VBENCH_ALONE"}
    assert used - of_mmdebstrap == set(re.findall(r"`(VBENCH_[A-Z]+)`", page))


def test_the_messages_of_the_troubleshooting_page_are_vbench_s() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "vbench").rglob("*.py"))
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    quoted = re.findall(r"^\| `([^`]+)`", page, flags=re.M)
    assert len(quoted) > 3
    for message in quoted:
        assert message in sources
