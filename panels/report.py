"""The study's report as a file: a button that makes it when it is asked for.

It refuses to know what a report holds.
"""

from __future__ import annotations

from functools import partial

import streamlit as st

from backend.outcomes import Outcome
from backend.report.document import report_html
from backend.study import Study


def show_report_button(study: Study, judge: str, outcome: Outcome) -> None:
    """The button; making the file takes seconds, in a thread of its own."""
    st.download_button(
        "Report",
        partial(report_html, study, judge=judge, outcome=outcome),
        file_name=f"{study.name}.html",
        mime="text/html",
        icon=":material/description:",
        on_click="ignore",
        key="overview_report",
        help="The story, its figures, tables, settings, methods and limits as one file that needs no network, to read "
        "or to print. It is made when you ask: that takes seconds.",
    )
