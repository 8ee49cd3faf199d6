"""Convergence: do directions of different topics, organisms and differences agree, layer by layer?"""

from __future__ import annotations

import polars as pl
import streamlit as st

from backend.analysis.convergence import Stacks, against, pairs
from backend.charts.convergence import layer_lines
from backend.records import InputError
from backend.study import Study
from pages.frame import current_study, explained, per_study, plain

START = 7  # directions drawn before the reader chooses


@per_study
def stacks(study: Study) -> Stacks:
    """The study's directions by name."""
    return {name: study.direction_stack(name) for name in study.directions()["name"].unique(maintain_order=True)}


@per_study
def compared(study: Study, reference: str) -> pl.DataFrame:
    """Norm, share and cosine with the reference, of every direction at every layer."""
    return against(stacks(study), reference)


@per_study
def ranges(study: Study) -> pl.DataFrame:
    """Least, median and greatest cosine of every pair."""
    return pairs(stacks(study))


def choose(study: Study) -> tuple[str, list[str]]:
    """The reference and the directions beside it. Raises InputError where the study has none."""
    names = list(stacks(study))
    if not names:
        raise InputError(
            f"Study {study.name} holds no directions. Make one on the Directions page, or build a study with them."
        )
    most = max(len(stacks(study)[name]) for name in names)
    likely = [name for name in names if len(stacks(study)[name]) == most]
    readers = tuple(study.readers())
    first = next((name for name in likely if readers and name.startswith(readers)), likely[0])
    left, right = st.columns([1, 2])
    reference = left.selectbox(
        "Compare with", names, index=names.index(first), key="convergence_reference", bind="query-params"
    )
    kind = reference.rpartition(" ")[2]
    alike = [name for name in likely if name.endswith(f" {kind}") and "chat-read" not in name]
    start = list(dict.fromkeys([reference, *alike, *likely]))[:START]
    chosen = right.multiselect("Directions", names, default=start, key="convergence_names", bind="query-params")
    if not chosen:
        raise InputError("No direction is left: choose at least one to compare.")
    return reference, chosen


study = current_study()
st.title("Convergence")
with explained():
    reference, chosen = choose(study)
    table = compared(study, reference)
    st.markdown(f"**Cosine with {plain(reference)}, at the same layer**")
    chart = layer_lines(table, column="cosine", title="cosine", names=chosen, columns=3)
    st.altair_chart(chart, key="convergence_cosine", alt="Cosine with the reference at every layer")
    left, right = st.columns(2)
    with left:
        st.markdown("**Norm**")
        chart = layer_lines(
            table, column="norm", title="norm, residual units", names=chosen, logarithmic=True, columns=0
        )
        st.altair_chart(chart, key="convergence_norm", alt="Norm at every layer")
    with right:
        st.markdown("**Norm, as a share of the activation norm**")
        if table.filter(pl.col("name").is_in(chosen))["share"].is_not_null().any():
            chart = layer_lines(table, column="share", title="norm / activation norm", names=chosen, columns=0)
            st.altair_chart(chart, key="convergence_share", alt="Share of the activation norm at every layer")
        else:
            st.info("The activation norms behind these directions were not recorded.")
    with st.expander("Every pair: the range of its cosine over layers"):
        drawn = ranges(study).filter(pl.col("a").is_in(chosen) & pl.col("b").is_in(chosen))
        cosine = st.column_config.NumberColumn(format="%.3f")
        columns = dict.fromkeys(("min", "median", "max"), cosine)
        st.dataframe(drawn, hide_index=True, column_config=columns, alt="Cosines of every pair")
    st.caption(
        "A direction is compared at equal layers only; data-diff, model-diff and both-diff are explained in "
        "each direction's provenance."
    )
