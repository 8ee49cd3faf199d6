"""A chart as a file: of a width, with its title, readable on light and dark, with names as text and nothing fetched."""

import io
import xml.etree.ElementTree as ET

import altair as alt
import polars as pl
import pytest
from PIL import Image

from backend.charts.pictures import SHARPER, png, svg, titled
from backend.charts.shares import rate_chart
from backend.records import InputError

NAME = '<script>alert("1")</script>'


def spec(organism: str = "o") -> dict:
    row = {"organism": organism, "condition": "baseline", "value": 0.1, "low": 0.05, "high": 0.2, "hits": 10, "n": 100}
    return rate_chart(pl.DataFrame([row]), title="share").to_dict()


def test_an_svg_has_the_width_and_says_what_is_seen():
    drawn = ET.fromstring(svg(spec(), width=400, alt="one & two <b>"))
    assert float(drawn.attrib["width"]) == 400
    assert drawn.attrib["aria-label"] == "one & two <b>"
    assert "10.0% (10/100)" in "".join(drawn.itertext())


def test_a_name_is_text():
    drawn = svg(spec(NAME), alt=NAME)
    assert "<script" not in drawn
    assert NAME in "".join(ET.fromstring(drawn).itertext())


def test_a_png_has_the_width_on_white():
    with Image.open(io.BytesIO(png(spec(), width=300))) as picture:
        assert picture.size[0] == pytest.approx(300 * SHARPER, abs=2)
        assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_titles_stand_above_what_the_chart_says_itself():
    own = alt.Chart(pl.DataFrame({"a": [1]})).mark_bar().encode(x="a:Q").properties(title="own").to_dict()
    made = titled(own, "Title", ["study s", "n = 3"])
    assert made["title"]["text"] == "Title"
    assert made["title"]["subtitle"] == ["own", "study s", "n = 3"]
    assert {"Title", "own", "study s", "n = 3"} <= {text.strip() for text in ET.fromstring(svg(made)).itertext()}
    assert own["title"] == "own"


def test_a_chart_that_cannot_be_drawn_or_asks_for_a_file_is_refused():
    with pytest.raises(InputError, match="cannot be drawn"):
        svg({"mark": "no mark", "data": {"values": [{"a": 1}]}})
    with pytest.raises(InputError, match="not allowed"):
        svg({"mark": "bar", "data": {"url": "http://127.0.0.1:9/x.csv"}, "encoding": {"x": {"field": "a"}}})
