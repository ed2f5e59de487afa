"""The report as HTML in a real browser: no error, no request, tables that sort, samples to see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vbench import report
from vbench.results import loading

from .browser import PROGRAM, Page, browser

SHIPPED = Path(__file__).parents[2] / "reports" / "development-machine"

pytestmark = pytest.mark.skipif(
    not PROGRAM, reason="no Chromium here: apt-get install chromium, to see the report in a browser"
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("html") / "report.html"
    path.write_text(report.html_page(loading.load_all([SHIPPED])))
    return path.as_uri()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with browser(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("dark", [False, True])
def test_it_opens_without_trouble_and_without_a_network(
    page: Page, url: str, width: int, dark: bool
) -> None:
    page.open(url, width=width, dark=dark)
    assert page.troubles == []
    assert {request.split(":")[0] for request in page.requests} <= {"file", "about"}
    assert page.value("document.documentElement.scrollWidth") <= width  # nothing sticks out
    table = "document.querySelector('main table')"
    # on a phone no column is hidden: the cells of a row stand below each other
    assert page.value(f"{table}.parentElement.scrollWidth <= {table}.parentElement.clientWidth")
    headed = f"getComputedStyle({table}.rows[1].cells[1], '::before').content"
    assert ("Full virtualization" in page.value(headed)) is (width < 600)
    plot = "document.querySelector('figure svg')"
    assert page.value(f"{plot}.parentElement.getBoundingClientRect().width") <= width
    shown = page.value(f"{plot}.getBoundingClientRect().width") / 800
    assert 12 * shown >= 10  # pixels of its smallest text; on a phone the plot scrolls sideways
    background = page.value("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark


def test_a_table_sorts_by_its_numbers(page: Page, url: str) -> None:
    page.open(url)
    chosen = (
        "[...document.querySelectorAll('main table')].find(t => t.textContent.includes('cpu-aes'))"
    )
    page.value(f"window.chosen = {chosen}; 0")
    overheads = "[...chosen.tBodies[0].rows].map(r => Number(r.cells[2].dataset.value))"
    page.value("chosen.tHead.rows[0].cells[2].click(); 0")
    rising = page.value(overheads)
    assert len(rising) > 2
    assert rising == sorted(rising)
    page.value("chosen.tHead.rows[0].cells[2].click(); 0")
    assert page.value(overheads) == rising[::-1]
    assert page.value("chosen.tHead.rows[0].cells[2].ariaSort") == "descending"
    assert page.troubles == []


def test_a_figure_leads_to_its_samples_and_back(page: Page, url: str) -> None:
    page.open(url)
    page.value("document.querySelector('a.more[href*=\"cpu-aes\"]').click(); 0")
    page.value("new Promise(done => setTimeout(done, 200))")
    assert page.value("document.getElementById('samples').open") is True
    assert page.value("document.querySelectorAll('#samples-body tbody tr').length") >= 3  # boots
    assert "cpu-aes" in page.value("document.querySelector('#samples-body h3').textContent")
    page.value("document.querySelector('#samples button').click(); 0")
    assert page.value("document.getElementById('samples').open") is False
    assert page.troubles == []


def test_links_lead_to_something_and_plots_have_tooltips(page: Page, url: str) -> None:
    page.open(url)
    dead = (
        "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.hash.slice(1))"
        ".filter(id => !id.startsWith('samples=') && !document.getElementById(id))"
    )
    assert page.value(dead) == []
    assert page.value("document.querySelectorAll('svg g title').length") > 0
