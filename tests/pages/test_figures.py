"""Every chart that pages draw is offered as files that can be made, with study and judge inside."""

import io
import json
import xml.etree.ElementTree as ET

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from tests.conftest import ROOT

PAGES = {  # page -> the fewest charts that it draws of the synthetic study
    "overview": 3,
    "responses": 1,
    "adapters": 2,
    "one_adapter": 4,
    "directions": 3,
    "convergence": 1,
    "robustness": 2,
}


def drawn(page: AppTest) -> dict:
    assert not page.exception
    return page.session_state["drawn_figures"].figures


def check(figures: dict, study: str) -> None:
    for key, figure in figures.items():
        assert figure.study == study
        made = ET.fromstring(figure.svg())
        assert figure.title in made.attrib["aria-label"]
        assert f"study {study}" in "".join(made.itertext()), key
        spec = json.loads(figure.vega_lite(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        rows = pl.read_csv(io.StringIO(figure.csv()), comment_prefix="#", infer_schema_length=None)
        assert rows.height == sum(map(len, spec.get("datasets", {}).values())), key
        assert rows.height > 0, key


@pytest.mark.parametrize("name", PAGES)
def test_files_of_every_chart(open_page, name):
    figures = drawn(open_page(name))
    assert len(figures) >= PAGES[name]
    check(figures, "synthetic")


@pytest.mark.parametrize(("name", "least"), [("steering", 2), ("ablation", 1), ("overview", 6)])
def test_files_of_every_chart_of_sweeps(open_swept, name, least):
    figures = drawn(open_swept(name))
    assert len(figures) >= least
    check(figures, "swept")
    if name == "steering":
        assert any("n " in line for figure in figures.values() for line in figure.about)
        assert all(figure.judge for figure in figures.values())


def test_charts_are_drawn_in_one_place():
    files = [*ROOT.glob("pages/*.py"), *ROOT.glob("panels/*.py")]
    ways = (".altair_chart(", ".vega_lite_chart(")
    drawing = [file.name for file in files if any(way in file.read_text() for way in ways)]
    assert drawing == ["figures.py"]


def test_a_page_forgets_what_another_drew(open_page):
    page = open_page("overview")
    before = set(drawn(page))
    assert before
    page.run()
    assert set(drawn(page)) == before


def test_png_of_a_chart(open_page):
    figure = next(iter(drawn(open_page("directions")).values()))
    assert figure.png().startswith(b"\x89PNG")
