"""The part of a page on text about nothing: what a fine-tune leaves there, beside what it does to answers.

It refuses to know which page shows it.
"""

from __future__ import annotations

from typing import Any

import polars as pl
import streamlit as st

from backend.charts.downstream import layers_chart, values_chart
from backend.charts.palette import direction_scale
from backend.study import Study
from backend.tables import neutral as tables
from panels.asked import choose_linked
from panels.figures import show_chart
from panels.frame import per_study, plain


@per_study
def _divergences(study: Study, run: str) -> pl.DataFrame:
    return tables.divergences(study, run)


@per_study
def _cosines(study: Study, run: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    return tables.cosines(study, run)


@per_study
def _lengths(study: Study, run: str) -> pl.DataFrame:
    return tables.lengths(study, run)


def show_neutral(study: Study) -> None:
    """KL, length and cosine on neutral text; how to have them where there are none."""
    st.subheader("On text about nothing")
    found = tables.runs(study)
    if not found:
        st.info(
            "No organism of this study was read on neutral text. Read one with: python -m backend neutral, then build "
            "the study again.",
            icon=":material/info:",
        )
        return
    answer = st.container()
    run = choose_linked(st.selectbox, "Organism on neutral text", list(found), key="neutral_run", what="run")
    record = found[run]
    kl, (own, controls), share = _divergences(study, run), _cosines(study, run), _lengths(study, run)
    nats = {row["part"]: row for row in kl.to_dicts()}
    said = [f"{row['value']:.3f} ({row['low']:.3f}–{row['high']:.3f}) on {part}" for part, row in nats.items()]
    largest = share.sort("value", descending=True).row(0, named=True)
    words = (
        f"{plain(record['organism'])} is {'; '.join(said)} from its base, in nats a token. On the first tokens of text "
        f"about nothing its stream lies up to **{largest['value']:.1%}** of its length from the base's (layer "
        f"{largest['layer']})."
    )
    if own.height:
        peak = own.with_columns(size=pl.col("value").abs()).sort("size", descending=True).row(0, named=True)
        beside = controls.filter(pl.col("layer") == peak["layer"], pl.col("kind") == "random")
        ends = ""
        if beside.height and beside["low"][0] is not None:
            row = beside.row(0, named=True)
            outside = "within" if row["low"] <= peak["value"] <= row["high"] else "outside"
            ends = f", {outside} what one more random direction has ({_signed(row)})"
        value = f"{peak['value']:.2f}".replace("-", "−")
        words += (
            f" With {plain(record['direction'])} that difference has a cosine of at most **{value}** "
            f"({_signed(peak)}; layer {peak['layer']}){ends}."
        )
    answer.markdown(words)
    left, right = st.columns([3, 2])
    if own.height:
        colours = direction_scale([record["direction"]])
        chart = layers_chart(own, controls, title="cosine of a text's difference", by="vector", colours=colours)
        seen = "Cosine of the difference on neutral text with the direction"
        show_chart(left, chart, key="neutral_cosine", alt=seen)
    chart = values_chart(kl, name="part", title="KL to the base, nats a token", order=kl["part"].to_list())
    show_chart(right, chart, key="neutral_kl", alt="KL of the organism to its base on neutral text and answers")
    with st.expander("Length and cosine by layer, as a table"):
        table = share.select("layer", share="value", share_low="low", share_high="high")
        if own.height:
            table = table.join(own.select("layer", cosine="value", pooled="pooled"), on="layer", how="left")
        st.dataframe(table, hide_index=True, alt="Length and cosine of the difference on neutral text by layer")
    st.caption(
        f"{record['texts']} short texts, read without a chat template, are the sample; the difference is of the first "
        f"{record['first']} tokens behind the sink. Its mean is kept as the direction {plain(record['kept'])}, which "
        "Directions shows through the unembedding and Steering can add. Narrow fine-tuning is known to leave such a "
        "trace (arXiv 2510.13900)."
    )


def _signed(row: dict[str, Any]) -> str:
    """Both ends of an interval in words."""
    return f"{row['low']:.2f} to {row['high']:.2f}".replace("-", "−")
