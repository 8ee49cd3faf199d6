"""Charts in a narrow window: names are whole, in lines; plots keep their room; what stands behind a mark is not cut."""

import re
import xml.etree.ElementTree as ET

import polars as pl
import pytest

from backend.charts.four_cells import cell_chart
from backend.charts.narrow import title_lines
from backend.charts.palette import CELLS
from backend.charts.pictures import spec_of, svg
from backend.charts.shares import question_chart, rate_chart
from backend.charts.story import bar_chart, beside_chart
from backend.charts.transfer import before_after_chart

NARROW = 345  # pixels of a chart in a window of 390
LEAST = 120  # pixels of a plot
SHARES = {"value": 0.31, "low": 0.2, "high": 0.45, "hits": 31, "n": 100}
LONG = "R1_3_3_3 mixed-data-V2"
SCALED = "scale 21,23 ×30; 15,16,17,22,28,29 ×-10"


def rates(*names: str) -> pl.DataFrame:
    row = {"condition": "baseline", "question_id": "a_question_of_mine", **SHARES}
    return pl.DataFrame([{"organism": name, **row} for name in names])


def ablated() -> pl.DataFrame:
    row = {"lane": "R1_3_3_3 general data-diff · each block's own direction", "cell": "c", "role": "direction"}
    ends = {"": 0.3, "_low": 0.2, "_high": 0.4}
    sides = {f"{side}{end}": value for side in ("before", "after") for end, value in ends.items()}
    note = "38.0 % → 0.0 %, n = 100, −38.0 points (−47.8 to −28.4)"
    change = {"n_before": 9, "n_after": 9, "difference": -0.3, "low": -0.4, "high": -0.2, "note": note}
    return pl.DataFrame([row | sides | change])


SHUFFLED = "shuffled labels like extreme-sports misalignment"
BARS = pl.DataFrame([{"lane": SHUFFLED, "kind": "control", "note": "", **SHARES}])
BESIDE = BARS.select("lane", "value", "low", "high", "n", side=pl.lit(LONG))
FOUR = pl.DataFrame([{"condition": SCALED, "cell": cell, **SHARES} for cell in CELLS])
CHARTS = {
    "rates": (lambda: rate_chart(rates(LONG, "base"), title="share of responses (emergent misalignment)"), LONG),
    "questions": (lambda: question_chart(rates(LONG), title="t", order=["a_question_of_mine"]), "a_question_of_mine"),
    "bars": (lambda: bar_chart(BARS, title="share"), SHUFFLED),
    "beside": (lambda: beside_chart(BESIDE, title="share", sides=[LONG]), SHUFFLED),
    "cells": (lambda: cell_chart(FOUR), SCALED),
    "ablated": (lambda: before_after_chart(ablated(), title="share"), "each block's own direction"),
}


@pytest.mark.parametrize("width", [NARROW, 560, 900])
@pytest.mark.parametrize("name", CHARTS)
def test_names_are_whole_and_plots_keep_their_room(name, width):
    chart, named = CHARTS[name]
    drawn = svg(spec_of(chart()), width=width)
    found = ET.fromstring(drawn)
    said = "".join(" ".join(found.itertext()).split())
    assert "…" not in said
    assert "".join(named.split()) in said
    plot = re.search(r'role-frame root".*?d="M[-\d.]+,[-\d.]+h([\d.]+)v', drawn, re.DOTALL)
    assert plot is not None
    assert float(plot[1]) >= LEAST
    assert float(found.attrib["width"]) == width


@pytest.mark.parametrize("width", [NARROW, 560])
def test_a_text_behind_the_longest_interval_ends_inside(width):
    drawn = svg(spec_of(rate_chart(rates(LONG, "base"), title="share")), width=width)
    left = float(re.findall(r'<g fill="none"[^>]*translate\(([\d.]+),', drawn)[0])
    found = re.findall(r"<text[^>]*translate\(([\d.]+),[^>]*>31\.0%", drawn)
    ends = [float(at) for at in found]
    assert ends
    assert left + max(ends) + 6 * len("31.0% (31/100)") <= width


def test_titles_are_broken_between_words():
    assert title_lines("short") == ["short"]
    assert title_lines("first-plot template: share of responses (emergent misalignment)") == [
        "first-plot template: share of responses",
        "(emergent misalignment)",
    ]
