"""The report in a browser without a network: nothing is asked for, cut or wider than the window, on paper too."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from backend.pipeline.figures_only import publish_figures
from backend.report.document import report_html
from backend.study import open_study
from tests.published.authors import ROOT

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    publish_figures(ROOT / "cache" / "paper", "paper", folder)
    out = folder / "paper.html"
    out.write_text(report_html(open_study("paper", folder)), encoding="utf-8")
    return out


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 900, 1400])
def test_it_reads_at_every_width_in_both_themes(report, browser: Browser, width, theme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, offline=True)
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(report.as_uri())
    assert asked == [report.as_uri()]
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    drawn = page.locator("figure svg:visible")
    assert drawn.count() == 10
    assert min(drawn.evaluate_all("every => every.map(each => each.getBoundingClientRect().width)")) >= 240
    ink = page.evaluate("getComputedStyle(document.querySelector('figure svg')).color")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert abs(_light(ink) - _light(ground)) > 150
    context.close()


def test_it_prints_dark_on_white(report, browser: Browser):
    context = browser.new_context(viewport={"width": 720, "height": 1000}, color_scheme="dark", offline=True)
    page = context.new_page()
    page.goto(report.as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    assert page.pdf(format="A4").startswith(b"%PDF")
    context.close()


def _light(colour: str) -> float:
    return sum(int(part) for part in colour[4:-1].split(",")) / 3
