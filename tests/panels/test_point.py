"""Clicks are selections that a chart sends; here a script sends them."""

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

CHOOSING = """
import polars as pl
import streamlit as st
import panels.point as point
from backend.charts.separation import separation_chart

table = pl.DataFrame({"label": ["a"], "adapter": ["a"], "value": [0.5], "low": [0.4], "high": [0.6]})
calls = st.session_state.setdefault("calls", [])
st.altair_chart = lambda chart, **options: calls.append(options) or {"selection": st.session_state.get("sent", {})}
"""


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """The scripts put another function in the place of this one, for the whole process."""
    monkeypatch.setattr(st, "altair_chart", st.altair_chart)


def run(code: str) -> AppTest:
    return AppTest.from_string(CHOOSING + code, default_timeout=60).run()


def test_a_clicked_mark_sets_the_widgets_of_the_fields_that_it_has():
    page = run(
        "point.choosing_chart(separation_chart(table), key='k', alt='', sets={'condition': 'c', 'organism': 'o'})\n"
        "for picked in ([], [{'condition': 'x'}], [{'condition': 'y', 'organism': 'z'}]):\n"
        "    st.session_state['k'] = {'selection': {'pick': picked}}\n"
        "    calls[-1]['on_select']()\n"
        "    st.text(str((st.session_state.get('c'), st.session_state.get('o'))))"
    )
    assert not page.exception
    assert [text.value for text in page.text] == ["(None, None)", "('x', None)", "('y', 'z')"]
    assert page.session_state["calls"][0]["selection_mode"] == ["pick"]


def test_a_clicked_point_is_read_once_and_other_selections_are_handed_on():
    code = (
        "found = point.reading_chart(separation_chart(table), key='k', alt='', beside=['brush'])\n"
        "st.text(str(found.get('brush')))"
    )
    page = run(code)
    assert page.session_state["calls"][0]["selection_mode"] == ["brush", "pick"]
    page.session_state["sent"] = {"pick": [{"response": "r1"}], "brush": {"x": [0, 1]}}
    page.run()
    assert not page.exception
    assert page.query_params["response"] == "r1"
    assert page.text[0].value == "{'x': [0, 1]}"
    page.query_params["response"] = "r2"  # gone on from there: the old click says nothing any more
    page.run()
    assert page.query_params["response"] == "r2"
