"""Charts that are clicked: a mark sets a widget of the page, or says which answer is read.

It refuses to know what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from backend.charts.pick import PICK, Drawn
from panels.figures import show_chart

READ = "response"  # the field of a mark that names its answer


def choosing_chart(chart: Drawn, *, key: str, alt: str, sets: Mapping[str, str]) -> None:
    """A chart whose marks set widgets: `sets` has the widget's key by the field of the mark that is its value."""

    def choose() -> None:
        picked = st.session_state[key]["selection"].get(PICK) or [{}]
        st.session_state.update({widget: picked[0][field] for field, widget in sets.items() if field in picked[0]})

    show_chart(st, chart, key=key, on_select=choose, selection_mode=[PICK], alt=alt)


def reading_chart(
    chart: Drawn, *, key: str, alt: str, parameter: str = READ, beside: Sequence[str] = ()
) -> dict[str, Any]:
    """A chart whose points are answers: a click puts one into the query parameter and draws the page again.

    Returns what is selected by the parameters `beside` the click.
    """
    event: Any = show_chart(st, chart, key=key, on_select="rerun", selection_mode=[*beside, PICK], alt=alt)
    picked, before = event["selection"].get(PICK) or [], f"{key}_picked"
    if picked and st.session_state.get(before) != picked[0].get(READ):
        st.session_state[before] = st.query_params[parameter] = picked[0].get(READ)
        st.rerun()
    return dict(event["selection"])
