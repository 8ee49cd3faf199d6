"""Charts on a page, and the menu that gives any of them away as a file.

A chart is drawn by `show_chart`, which remembers it until the page is run anew; the menu makes a file when it is asked
for. It refuses to know what a chart shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from backend.charts.pick import Drawn
from backend.report.figure_files import FigureFile, snippet

_DRAWN = "drawn_figures"  # the session's: what the page that is shown has drawn
FILES = {  # what is offered -> its extension, its kind, and the method that makes it
    "CSV": ("csv", "text/csv", FigureFile.csv),
    "PNG": ("png", "image/png", FigureFile.png),
    "SVG": ("svg", "image/svg+xml", FigureFile.svg),
    "Vega-Lite": ("vl.json", "application/json", FigureFile.vega_lite),
}


@dataclass
class _Page:
    """What one run of a page has drawn, by key."""

    study: str = ""
    judge: str | None = None
    figures: dict[str, FigureFile] = field(default_factory=dict)


def begin_page(study: str) -> None:
    """A page of this study is run anew: forget what was drawn."""
    st.session_state[_DRAWN] = _Page(study)


def judged_by(judge: str | None) -> None:
    """Whose scores the page shows."""
    _page().judge = judge


def show_chart(place: Any, chart: Drawn | dict[str, Any], *, key: str, alt: str, **settings: Any) -> Any:
    """Draw a chart in a place of the page (`st`, a column) and offer it in the menu; `alt` says what is seen.

    Returns what Streamlit does: what is selected, where `settings` have `on_select`.
    """
    page = _page()
    page.figures[key] = FigureFile(key, alt, chart, page.study, page.judge)
    if isinstance(chart, dict):
        return place.vega_lite_chart(spec=chart, key=key, alt=alt, **settings)
    return place.altair_chart(chart, key=key, alt=alt, **settings)


@st.fragment
def show_figure_menu(address: str) -> None:
    """The menu of the page at this address, in the sidebar; nothing where it drew nothing."""
    page = _page()
    if not page.figures:
        return
    with st.popover("Figures of this page", icon=":material/download:", width="stretch"):
        key = st.selectbox("Figure", list(page.figures), format_func=lambda each: page.figures[each].title)
        chosen = page.figures[str(key)]
        with st.container(horizontal=True, gap="small"):
            for name, (ending, mime, make) in FILES.items():
                st.download_button(
                    name,
                    lambda make=make: make(chosen),  # type: ignore[misc]
                    file_name=f"{page.study}-{chosen.name}.{ending}",
                    mime=mime,
                    on_click="ignore",
                    key=f"figure_{ending}",
                )
        st.caption("The numbers of this page in Python, at the folder of the workbench:")
        st.code(snippet(address, page.study, page.judge), language="python", wrap_lines=True)


def _page() -> _Page:
    found: _Page = st.session_state.setdefault(_DRAWN, _Page())
    return found
