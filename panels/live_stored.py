"""What the study holds for the question and the seed of the lanes: its own unedited answers, beside those just written.

It refuses to know conditions: an edited lane is set beside the unedited answer of the model that it wears.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import streamlit as st

from backend.charts.strip import plain_text
from backend.records import BASE, BASELINE
from backend.study import Study
from panels.asked import page_link
from panels.frame import plain, responses_of
from panels.run import LiveRun, worn_of


def show_stored(study: Study, runs: Sequence[LiveRun]) -> None:
    """The stored answer for each lane, folded; nothing where the study was not asked this question."""
    found = [stored(study, run) for run in runs]
    if not any(rows.height for rows in found):
        return
    with st.expander("What this study holds for this question and seed", icon=":material/database:"):
        for run, rows, column in zip(runs, found, st.columns(len(runs)), strict=True):
            with column:
                st.caption(plain(f"{worn_of(run.request) or BASE}, {BASELINE}, seed {run.request.seed}"))
                if not rows.height:
                    st.caption("No such answer.")
                    continue
                row = rows.row(0, named=True)
                st.html(plain_text(row["text"] or "(empty answer)"))
                page_link("responses", "Read it among the others", {"response": row["response"]})
        st.caption("Sampled with the study's own settings, without the edits of the lanes.")


def stored(study: Study, run: LiveRun) -> pl.DataFrame:
    """Unedited answers of the model that a lane wears to its question, with its seed; none to a conversation."""
    held = responses_of(study)
    if len(run.request.messages) > 1:
        return held.head(0)
    return held.filter(
        pl.col("question") == run.prompt,
        pl.col("organism") == (worn_of(run.request) or BASE),
        pl.col("condition") == BASELINE,
        pl.col("seed") == run.request.seed,
    )
