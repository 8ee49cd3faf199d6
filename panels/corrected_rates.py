"""Rates corrected by labels: what a judge's rate would be by the reference's verdicts, and what to label next."""

from __future__ import annotations

import polars as pl
import streamlit as st

from backend.analysis.rates.corrected import corrected_rates, rogan_gladen, side_by_side
from backend.analysis.rates.next_labels import allocation, labels_for
from backend.analysis.rates.rates import em_rates
from backend.charts.shares import rate_chart
from backend.outcomes import Outcome
from backend.study import Study
from panels.frame import explained, per_study, plain

HALF_WIDTHS = (0.1, 0.05, 0.03, 0.02, 0.01)
MORE = 50  # labels that are spread


@per_study
def _corrected(study: Study, key: tuple[object, ...], _both: pl.DataFrame) -> pl.DataFrame:
    """Of every organism and condition with labels."""
    labelled = _both.filter(pl.col("hit").is_not_null()).select("organism", "condition").unique()
    return corrected_rates(_both.join(labelled, on=["organism", "condition"], how="semi", maintain_order="left"))


def show_corrected(
    study: Study, frame: pl.DataFrame, labels: pl.DataFrame, judge: str, reference: str, outcome: Outcome
) -> None:
    """Raw and corrected rates side by side, with what the labels leave open.

    `frame` and `labels` are every answer with the scores of the judge and of the reference.
    """
    st.subheader("What would the reference have said of all?")
    with explained():
        both = side_by_side(frame, labels, outcome)
        known = (judge, reference, repr(outcome), int(both.select("response", "stratum", "hit").hash_rows().sum()))
        table = _corrected(study, known, both)
        raw = em_rates(frame, ["organism", "condition"], outcomes=[outcome]).select(
            "organism", "condition", raw="value", raw_low="low", raw_high="high"
        )
        table = table.join(raw, on=["organism", "condition"], how="left", maintain_order="left")
        _show_table(table, judge, reference, outcome)
        _show_next(both, reference)


def _show_table(table: pl.DataFrame, judge: str, reference: str, outcome: Outcome) -> None:
    told = table.filter(pl.col("reason").is_null())
    if told.height:
        beside = pl.format("{}% (by {} labels)", (pl.col("value") * 100).round(1), "labels")
        drawn = told.with_columns(hits=pl.col("label_hits"), text=beside)
        chart = rate_chart(drawn, title=f"share of answers ({outcome.title}), corrected")
        st.altair_chart(chart, key="judges_corrected", alt=f"Corrected rates of {outcome.title}")
    share = st.column_config.NumberColumn(format="percent")
    shown = ["organism", "condition", "raw", "raw_low", "raw_high", "value", "low", "high", "labels", "label_hits"]
    st.dataframe(
        table.select(*shown, "n", "clusters", "reason"),
        hide_index=True,
        column_config={
            **dict.fromkeys(("raw", "raw_low", "raw_high", "value", "low", "high"), share),
            "raw": st.column_config.NumberColumn(f"by {judge}", format="percent"),
            "value": st.column_config.NumberColumn("corrected", format="percent"),
            "labels": st.column_config.NumberColumn("labels", help=f"answers with a verdict of {reference}"),
            "label_hits": st.column_config.NumberColumn("hits among them"),
            "clusters": st.column_config.NumberColumn("questions"),
            "reason": st.column_config.TextColumn("not corrected, because", width=320),
        },
        alt="Rates by the judge and corrected",
    )
    st.caption(
        f"{plain(judge)} scored every answer, {plain(reference)} some of them: corrected is the rate that "
        f"{plain(reference)} would give to all, weighed by the kind of answer that {plain(judge)} takes each for, so "
        "that labels may be drawn by its scores. Intervals (95 %) hold the judge's "
        "error, the few labels and the questions; those of the raw rate hold the questions alone."
    )


def _show_next(both: pl.DataFrame, reference: str) -> None:
    with st.expander("What to label next"):
        groups = both.select("organism", "condition").unique(maintain_order=True).rows()
        chosen = st.selectbox("Rate of", groups, format_func=" · ".join, key="judges_next")
        rows = both.filter(pl.col("organism") == chosen[0], pl.col("condition") == chosen[1])
        table = allocation(rows, MORE)
        share = st.column_config.NumberColumn("hits, smoothed", format="percent")
        st.dataframe(
            table,
            hide_index=True,
            column_config={
                "stratum": st.column_config.TextColumn("the judge's"),
                "share": share,
                "wanted": st.column_config.NumberColumn(f"of {MORE} more"),
            },
            alt="How to spread more labels",
        )
        needed = ", ".join(f"±{half:.0%}: {labels_for(rows, half):,}" for half in HALF_WIDTHS)
        odds = rogan_gladen(rows)
        st.caption(
            f"Labels by {plain(reference)} that bring the judge's part of the interval to {needed}; what the "
            "questions leave open comes on top. For comparison, by sensitivity and specificity (Rogan and Gladen): "
            f"{'none, too little is told' if odds != odds else f'{odds:.1%}'}, which is right only where labels were "
            "drawn from all answers alike."
        )
