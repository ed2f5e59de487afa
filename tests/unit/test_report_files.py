"""The report's files: same results, same bytes; plots that are linked; what cannot be written."""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from sample_results import full_run, item, pairs, result

from vbench import report
from vbench.errors import StoreError
from vbench.model import Pair
from vbench.results import store


def test_order_of_the_results_does_not_matter() -> None:
    results = full_run()
    expected = report.render(results, plots_dir="p")
    for seed in range(5):
        shuffled = [
            replace(r, items=tuple(random.Random(seed).sample(r.items, len(r.items))))  # noqa: S311
            for r in random.Random(seed).sample(results, len(results))  # noqa: S311
        ]
        again = report.render([*shuffled, *shuffled], plots_dir="p")
        assert again == expected


def test_same_bytes_from_another_folder_hash_seed_and_locale(tmp_path: Path) -> None:
    for number, made in enumerate(full_run()):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir(exist_ok=True)
            path = tmp_path / folder / f"{number}.json"
            path.write_bytes(store.dumps(store.document(made)))
    script = (
        "import sys; from pathlib import Path\n"
        "from vbench import report\nfrom vbench.results import loading\n"
        "report.write(loading.load_all([Path(sys.argv[1])]), Path(sys.argv[2]))"
    )
    digests = set()
    root = Path(report.__file__).parents[2]
    for folder, seed, locale in (("a", "1", "C"), ("b", "2", "de_DE.UTF-8")):
        out = tmp_path / f"out-{folder}"
        out.mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": locale, "TZ": "Asia/Tokyo"}
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / folder), str(out / "report.md")],
            cwd=tmp_path / folder,
            env={**environment, "PYTHONPATH": str(root)},
            check=True,
        )
        files = sorted(path for path in out.rglob("*") if path.is_file())
        assert len(files) == 6  # report, commands, two plots of overheads, two of boots
        content = [(str(f.relative_to(out)), f.read_bytes()) for f in files]
        digests.add(hashlib.sha256(repr(content).encode()).hexdigest())
    assert len(digests) == 1


def test_plots_are_linked_with_alt_text_and_adapt_to_dark_pages() -> None:
    made = report.render(full_run(), plots_dir="report-plots")
    links = re.findall(r"!\[([^]]+)\]\(report-plots/([^)]+)\)", made.markdown)
    assert {name for _, name in links} == set(made.plots)
    assert all(len(alt) > 20 for alt, _ in links)
    for svg in made.plots.values():
        root = ET.fromstring(svg)
        assert root.get("width") == "800"
        assert b"prefers-color-scheme:dark" in svg
    overhead = made.plots["overhead-1-local-myserver.svg"].decode()
    assert overhead.count("<circle") == 1 + 5  # the legend's and one per tcg overhead
    assert report.render(full_run(), plots_dir=None).plots == {}
    assert "![" not in report.render(full_run(), plots_dir=None).markdown


def test_the_file_of_command_lines_is_linked(tmp_path: Path) -> None:
    report.write(full_run(), tmp_path / "my report.md")
    text = (tmp_path / "my report.md").read_text()
    provenance = text[text.index("\n## Provenance") :]
    name, target = re.findall(r"Every command line is in \[(.+)\]\((.+)\)", provenance)[0]
    assert (tmp_path / unquote(target)).read_text() == (tmp_path / name).read_text() != ""
    assert "](my" not in report.render(full_run(), plots_dir=None).markdown


def test_wide_ranges_of_many_variants_can_be_drawn() -> None:
    many = [
        result(item(f"w{i}", pairs(10.0 ** (i - 2), seed=i), variant=f"backend-{i},option=long"))
        for i in range(8)
    ]
    svg = report.render(many, plots_dir="p").plots["overhead-1-local-myserver.svg"]
    ET.fromstring(svg)
    assert b"nan" not in svg


def test_an_interval_that_leaves_the_plot_has_an_arrow() -> None:
    def plot(*boots: Sequence[float]) -> str:
        of = [
            item(f"w{i}", [Pair(1.0, ratio, boot) for boot, ratio in enumerate(each)])
            for i, each in enumerate(boots)
        ]
        made = report.render([result(*of)], plots_dir="p").plots
        return made["overhead-1-local-myserver.svg"].decode()

    calm = plot((2.0, 2.02), (3.0, 3.02))
    assert "<path" not in calm
    assert "goes on" not in calm
    wild = plot((1.0, 40.0), (3.0, 3.02))
    assert wild.count("<path") == 2  # to both sides
    assert "the interval goes on" in wild
    assert ">Computing</text>" in wild  # as the tables call the category


def test_write(tmp_path: Path) -> None:
    report.write(full_run(), tmp_path / "my.md")
    assert (tmp_path / "my.md").read_text().startswith("# ")
    for name in re.findall(r"\(([^)]+\.svg)\)", (tmp_path / "my.md").read_text()):
        assert (tmp_path / name).is_file()
    with pytest.raises(StoreError, match="cannot be"):
        report.write(full_run(), tmp_path / "none" / "my.md")


def test_nothing_to_report() -> None:
    with pytest.raises(StoreError, match="no result"):
        report.render([], plots_dir=None)
