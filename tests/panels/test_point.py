"""Clicks are selections that a browser sends; here a test sends them."""

from typing import Any

import polars as pl
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from backend.charts.separation import separation_chart
from panels.point import choosing_chart

TABLE = pl.DataFrame({"label": ["a"], "adapter": ["a"], "value": [0.5], "low": [0.4], "high": [0.6], "stands": [False]})
READING = """
import streamlit as st
from backend.charts.separation import separation_chart
from panels.point import reading_chart
from tests.panels.test_point import TABLE

found = reading_chart(separation_chart(TABLE), key="k", alt="", beside=["brush"])
st.text(str(found.get("brush")))
"""


@pytest.fixture
def drawn(monkeypatch):
    """How the chart was drawn: its options, once a run of the page."""
    calls = []

    def draw(chart, **options):
        calls.append(options)
        return {"selection": st.session_state.get("sent", {})}

    monkeypatch.setattr(st, "altair_chart", draw)
    return calls


def test_a_clicked_mark_sets_the_widgets_of_the_fields_that_it_has(drawn, monkeypatch):
    session: dict[str, Any] = {}
    monkeypatch.setattr(st, "session_state", session)
    choosing_chart(separation_chart(TABLE), key="k", alt="", sets={"condition": "c", "organism": "o"})
    for picked, held in (
        ([], {}),
        ([{"condition": "x"}], {"c": "x"}),
        ([{"condition": "y", "organism": "z"}], {"c": "y", "o": "z"}),
    ):
        session["k"] = {"selection": {"pick": picked}}
        drawn[0]["on_select"]()
        assert {key: session[key] for key in session if key in ("c", "o")} == held
    assert drawn[0]["selection_mode"] == ["pick"]


def test_a_clicked_point_is_read_once_and_other_selections_are_handed_on(drawn):
    page = AppTest.from_string(READING, default_timeout=60).run()
    assert drawn[0]["selection_mode"] == ["brush", "pick"]
    page.session_state["sent"] = {"pick": [{"response": "r1"}], "brush": {"x": [0, 1]}}
    page.run()
    assert not page.exception
    assert page.query_params["response"] == "r1"
    assert page.text[0].value == "{'x': [0, 1]}"
    page.query_params["response"] = "r2"  # gone on from there: the old click says nothing any more
    page.run()
    assert page.query_params["response"] == "r2"
