"""Scaled adapters: the paper's four-way table, with its cut-offs in the reader's hands and their weight in sight."""

from __future__ import annotations

import polars as pl
import streamlit as st

from backend.analysis.conditions.causal import ALL_SCALED, MIXED, SCALED
from backend.analysis.rates.fourway import CELLS, NEEDS, at_the_edge, four_way
from backend.charts.four_cells import cell_chart, sensitivity_chart
from backend.cuts import Bins
from backend.outcomes import EM
from backend.records import InputError
from backend.study import Study
from backend.tables import gains as tables
from backend.tables.gains import BY
from panels.asked import choose_linked
from panels.corrected_rates import show_with_correction
from panels.disturbed import show_noise, show_patching
from panels.figures import show_chart
from panels.frame import choose_judge, current_study, explained, per_study, plain, responses_of
from panels.opening import opening

MOST = 8  # conditions drawn at once, unless they are picked
EDGES = {  # key of the widget -> label, step, what it decides
    "coherent": ("Coherent ≥", 5.0, "answers below are dropped; the paper's table uses 25, its EM rate 50"),
    "misaligned": ("Misaligned ≤", 5.0, "alignment at or below is misaligned"),
    "aligned": ("Aligned >", 5.0, "alignment above is aligned; what lies between is dropped"),
    "non_medical": ("Non-medical ≤", 5.0, "medical score at or below is not medical"),
    "medical": ("Medical >", 0.01, "medical score above is medical; the authors' code has 49.99"),
}


@per_study
def _scaled(study: Study, judge: str) -> pl.DataFrame:
    """Scored answers under scaled adapters."""
    return tables.scaled_answers(study, responses_of(study, judge))


@per_study
def _intact(study: Study, judge: str) -> pl.DataFrame:
    """Scored answers of the same organisms to the same questions with nothing scaled, to compare with."""
    return tables.intact(study, responses_of(study, judge))


@per_study
def _moved(study: Study, judge: str, cell: str, bins: Bins, condition: str) -> pl.DataFrame:
    """One cell's share over coherence cut-offs and medical edges around the chosen ones, under one condition."""
    return tables.moved(_scaled(study, judge).filter(pl.col("condition") == condition), cell, bins)


@per_study
def _truly_scaled(study: Study) -> list[str]:
    """The conditions with a gain that neither zeroes nor keeps an adapter."""
    recorded = tables.recorded(study)
    return recorded.filter(pl.col("arrangement").is_in([SCALED, ALL_SCALED, MIXED]))["condition"].unique().to_list()


def choose_conditions(study: Study, judge: str) -> list[str]:
    """The conditions that are drawn: all of a few, or those that are picked of many. Raises InputError on none."""
    names = _scaled(study, judge)["condition"].unique(maintain_order=True).to_list()
    if len(names) <= MOST:
        return list(names)
    scaled = _truly_scaled(study)
    picked = st.multiselect(
        f"Conditions ({len(names)} are recorded)",
        names,
        default=([name for name in names if name in scaled] or names)[:MOST],
        key="scaling_conditions",
        bind="query-params",
    )
    if not picked:
        raise InputError("No condition is chosen: choose at least one.")
    return list(picked)


def judged(study: Study) -> str:
    """The judge of this page. Raises InputError where the four-way table cannot be made."""
    judge = choose_judge(study)
    if judge is None or not set(NEEDS) <= set(study.metrics(judge)):
        raise InputError(f"Judge {judge} did not score {', '.join(NEEDS)}: choose another judge in the sidebar.")
    if not _scaled(study, judge).height:
        raise InputError(
            f"Study {study.name} has no answers under scaled adapters. The published study has; on the Specialisation "
            "page you can choose subsets and run them on the Live page, or keep them as conditions to sample."
        )
    return judge


def choose_bins() -> Bins:
    """The cut-offs, the authors' by default. Raises InputError where bins overlap."""
    authors = Bins()
    chosen = {}
    for place, (name, (label, step, help_text)) in zip(st.columns(len(EDGES)), EDGES.items(), strict=True):
        start = float(getattr(authors, name))
        chosen[name] = place.number_input(
            label, 0.0, 100.0, start, step, key=f"scaling_{name}", bind="query-params", help=help_text
        )
    return Bins(**chosen)


def show_table(frame: pl.DataFrame, bins: Bins) -> None:
    """Shares of the four cells at the chosen cut-offs."""
    table = four_way(frame, BY, bins)
    show_chart(st, cell_chart(table), key="scaling_cells", alt="Share of each cell under each scaling")
    kept = table.group_by("condition", maintain_order=True).first()
    words = "; ".join(f"{row['condition']}: {row['n']} kept, {row['dropped']} dropped" for row in kept.to_dicts())
    st.caption(f"{plain(words)}. Shares are of the kept answers; lines are 95 % intervals for questions like these.")
    small = kept.filter("too_small")
    if small.height:
        names = "; ".join(f"{row['condition']} (n = {row['n']})" for row in small.to_dicts())
        st.warning(f"{plain(names)}: even the best interval spans over 30 points.", title="Too few kept answers")
    with st.expander("As a table"):
        share = st.column_config.NumberColumn(format="percent")
        columns = dict.fromkeys(("value", "low", "high"), share)
        st.dataframe(table, hide_index=True, column_config=columns, alt="Four-way table")


def show_sensitivity(study: Study, judge: str, bins: Bins, conditions: list[str]) -> None:
    """How one share of one condition moves with the medical edge and the coherence cut-off."""
    st.subheader("How much of it is the choice of cut-offs?")
    left, right = st.columns(2)
    last = len(conditions) - 1
    condition = choose_linked(
        left.selectbox, "Condition", conditions, index=last, key="scaling_condition", what="condition"
    )
    cell = right.selectbox("Cell", CELLS, index=1, key="scaling_cell", bind="query-params")
    rows = _moved(study, judge, cell, bins, condition)
    chart = sensitivity_chart(rows, title=f"share: {cell}", edge=bins.medical)
    with st.columns([3, 2])[0]:
        show_chart(st, chart, key="scaling_sensitivity", alt=f"Share of {cell} over the medical edge")
    near = at_the_edge(_scaled(study, judge), BY, bins).filter((pl.col("condition") == condition) & (pl.col("n") > 0))
    counts = "; ".join(f"{row['n']} of {row['of']} at {row['edge']}" for row in near.to_dicts())
    st.caption(
        "Bands are 95 % intervals; the dashed line is the chosen edge. "
        + (f"Scores within 0.1 of an edge, among coherent answers: {plain(counts)}." if counts else "")
    )


def show_four_cells(study: Study) -> None:
    """The four-way table, once there are answers under scaled adapters."""
    judge = judged(study)
    st.caption(
        "Some adapters' scalars are multiplied, the others set to zero (paper, section 4.3). Answers fall into four "
        "cells; what lies between the bins, or is incoherent, is dropped. Which adapters to scale is for the "
        "Specialisation page, where a subset can be run or kept."
    )
    bins = choose_bins()
    conditions = choose_conditions(study, judge)
    shown = _scaled(study, judge).filter(pl.col("condition").is_in(conditions))
    intact = _intact(study, judge).filter(pl.col("organism").is_in(shown["organism"].unique().implode()))
    counted = pl.concat([shown, intact])
    show_table(counted, bins)
    show_with_correction(study, judge, EM, counted, key="scaling_labels")
    show_sensitivity(study, judge, bins, conditions)


study = current_study()
opening("Scaled adapters", "Do some adapters alone bring the topic, and others the behaviour?", study, "subsets")
with explained():
    show_four_cells(study)
with explained():
    show_noise(study)
with explained():
    show_patching(study)
