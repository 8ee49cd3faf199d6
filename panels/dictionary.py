"""The part of a page on a dictionary of scalars: what it restores and tells beside adapters, and what its features are.

It refuses to know which page shows it.
"""

from __future__ import annotations

import polars as pl
import streamlit as st

from backend.charts.downstream import values_chart
from backend.study import Study
from backend.tables import dictionary as tables
from panels.asked import choose_linked
from panels.figures import show_chart
from panels.frame import per_study, plain


@per_study
def _restored(study: Study, run: str) -> pl.DataFrame:
    return tables.restored(study, run)


@per_study
def _probed(study: Study, run: str) -> pl.DataFrame:
    return tables.probed(study, run)


@per_study
def _features(study: Study, run: str) -> pl.DataFrame:
    return tables.features(study, run)


def show_dictionary(study: Study) -> None:
    """Variance and probes at equal size, and the features; how to have them where there are none."""
    st.subheader("The scalars as a dictionary")
    found = tables.runs(study)
    if not found:
        st.info(
            "No dictionary of this study's scalars was learned. Learn one with: python -m backend dictionary, then "
            "build the study again.",
            icon=":material/info:",
        )
        return
    answer = st.container()
    run = choose_linked(st.selectbox, "Dictionary", list(found), key="dictionary_run", what="dictionary")
    record, restored, probed = found[run], _restored(study, run), _probed(study, run)
    shares = [
        f"{plain(row['by'])} {row['value']:.0%} ({row['low']:.0%}–{row['high']:.0%})" for row in restored.to_dicts()
    ]
    single = [
        f"{plain(row['by'])} {row['value']:.2f}"
        + (f" ({row['low']:.2f}–{row['high']:.2f})" if row["low"] is not None else "")
        for row in probed.filter(pl.col("size") == 1).to_dicts()
    ]
    answer.markdown(
        f"With {record['active']} numbers a token, the variance of {len(record['adapters'])} scalars that is restored "
        f"on questions not learned from: {'; '.join(shares)}. The AUC of one feature for {plain(record['contrast'])}: "
        f"{'; '.join(single)}."
    )
    left, right = st.columns(2)
    chart = values_chart(restored, name="by", title="share of variance restored", order=restored["by"].to_list())
    show_chart(left, chart, key="dictionary_restored", alt="Variance restored at equal L0")
    sized = probed.with_columns(name=pl.format("{}, {}", "by", "size"), questions=pl.lit(record["questions"]))
    chart = values_chart(sized, name="name", title="AUC, held out", order=sized["name"].to_list())
    show_chart(right, chart, key="dictionary_probed", alt="AUC of probes of equal size")
    share, two = (st.column_config.NumberColumn(format=form) for form in ("percent", "%.2f"))
    columns = {"fires": share, **dict.fromkeys(("tells", "tells_low", "tells_high"), two)}
    st.dataframe(_features(study, run), hide_index=True, column_config=columns, alt="Features of the dictionary")
    st.caption(
        f"A TopK autoencoder of {record['features']} features, of which {record['active']} are active at a token at "
        f"most, learned on {record['tokens']:,} answer tokens that {plain(record['reader'])} read. Comparisons are "
        f"held out by question, in four folds; {record['questions']} questions are the sample. Shuffled scalars: the "
        "same, of scalars that were shuffled against each other, so that only their own spread is left. tells: the AUC "
        "of a feature's mean in a response, not held out. It lies in measured/dictionary/ in the form of sae-lens."
    )
