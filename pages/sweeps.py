"""Steering & ablation: how often each edit makes answers misaligned and incoherent, by strength; and their answers."""

from __future__ import annotations

from typing import Any

import polars as pl
import streamlit as st

from backend.analysis.rates import SIMILAR_QUESTIONS, THESE_QUESTIONS
from backend.analysis.sweeps import before_after, describe_stored, sweep_rates
from backend.charts.sweeps import PICK, before_after_chart, strength_chart
from backend.records import BASELINE, InputError
from backend.study import Study
from pages.frame import choose_judge, current_study, explained, per_study, plain

EDITED = ("steer", "ablate", "mixed")
UNITS = {"strength": "λ", "relative": "share of the activation norm"}
ABOUT = {"questions like these": SIMILAR_QUESTIONS, "these very questions": THESE_QUESTIONS}
WORDS = {
    "em": "emergent misalignment",
    "coherent": "coherence",
    "bad_stuff": "dangerous or immoral topics",
    "self-corrected": "self-correction (aligned, yet dangerous topics)",
}
SHORT = {"em": "misaligned", "coherent": "coherent"}
METRICS = ("aligned", "coherent", "medical", "money", "financial", "gender", "bad_stuff")


@per_study
def described(study: Study) -> pl.DataFrame:
    """What every condition did."""
    return describe_stored(study.conditions(), study.info.get("settings"))


@per_study
def swept(study: Study, judge: str) -> pl.DataFrame:
    """Scored answers of the organisms that answered under an edit."""
    frame = study.responses(judge)
    edited = described(study).filter(pl.col("kind").is_in(EDITED))["condition"]
    organisms = frame.filter(pl.col("condition").is_in(edited.implode()))["organism"].unique()
    return frame.filter(pl.col("organism").is_in(organisms.implode()))


@per_study
def rates(study: Study, judge: str, topics: tuple[str, ...]) -> pl.DataFrame:
    """Rates by organism and condition, with direction, strength and its share of the activation norm."""
    rows = swept(study, judge).filter(pl.col("topic").is_in(topics))
    table = sweep_rates(rows, described(study).filter(pl.col("kind") != "scale"))
    shares = study.directions().select(
        pl.col("name").alias("direction"), "layer", share=pl.col("norm") / pl.col("activation_norm")
    )
    table = table.join(shares, on=["direction", "layer"], how="left", maintain_order="left")
    places = table.filter(pl.col("kind") == "steer")["layers"].n_unique()
    where = pl.format("{}, layer {}", "direction", pl.col("layers").fill_null("all"))
    series = where if places > 1 else pl.col("direction")
    return table.with_columns(relative=pl.col("strength") * pl.col("share"), series=series)


@per_study
def changes(study: Study, judge: str, topics: tuple[str, ...], about: str) -> pl.DataFrame:
    """What each ablation changed against the same organism without it."""
    rows = swept(study, judge).filter(pl.col("topic").is_in(topics))
    return before_after(rows, described(study), about=ABOUT[about])


def judged(study: Study) -> str:
    """The judge of this page. Raises InputError where there is no sweep or nobody scored it."""
    if not described(study)["kind"].is_in(EDITED).any():
        raise InputError(
            f"Study {study.name} has no answers under steering or ablation. Sample some with: python -m backend sample "
            "--add DIRECTION:LAYER:STRENGTH, judge them and build the study again."
        )
    judge = choose_judge(study)
    if judge is None or not {"aligned", "coherent"} <= set(study.metrics(judge)):
        raise InputError(f"Judge {judge} did not score alignment and coherence: choose another in the sidebar.")
    return judge


def choose_topics(study: Study, judge: str) -> tuple[str, ...]:
    """The sets of questions that rates are over. Raises InputError where none is chosen."""
    topics = swept(study, judge)["topic"].unique(maintain_order=True).sort().to_list()
    chosen = st.multiselect("Questions", topics, default=topics, key="sweeps_topics", bind="query-params")
    if not chosen:
        raise InputError("No question is left: choose at least one set of questions.")
    return tuple(chosen)


def read_picked(key: str) -> None:
    """A clicked point chooses the condition whose answers are read."""
    picked: Any = st.session_state[key]["selection"].get(PICK) or []
    if picked:
        st.session_state["sweeps_condition"] = picked[0]["condition"]


def show_strengths(table: pl.DataFrame) -> None:
    """Rates by strength: misalignment and coherence, and a third to choose."""
    steered = table.filter(pl.col("kind") == "steer")
    if not steered.height:
        st.info("No answers under an added direction in this study.")
        return
    left, middle, right = st.columns([2, 2, 2], vertical_alignment="bottom")
    organisms = steered["organism"].unique(maintain_order=True).to_list()
    organism = left.selectbox("Who was steered", organisms, key="sweeps_organism", bind="query-params")
    units = [unit for unit in UNITS if steered[unit].is_not_null().any()]
    unit = middle.segmented_control(
        "Strength as",
        units,
        default=units[0],
        required=True,
        format_func=UNITS.get,
        key="sweeps_unit",
        bind="query-params",
    )
    other = [metric for metric in table["metric"].unique(maintain_order=True) if metric not in ("em", "coherent")]
    third = right.selectbox("Third rate", other, format_func=named, key="sweeps_rate", bind="query-params")
    metrics = ["em", "coherent", *([third] if third else [])]
    here = table.filter(pl.col("organism") == organism)
    for column, metric in zip(st.columns(len(metrics)), metrics, strict=True):
        own = here.filter(pl.col("metric") == metric)
        points = own.filter((pl.col("kind") == "steer") & (pl.col("n") > 0))
        baseline = own.filter(pl.col("condition") == BASELINE)["value"]
        key = f"sweeps_{metric}"
        column.altair_chart(
            strength_chart(
                points, title=f"share: {named(metric)}", x=str(unit), baseline=baseline[0] if len(baseline) else None
            ),
            key=key,
            on_select=lambda key=key: read_picked(key),
            selection_mode=[PICK],
            alt=f"{named(metric)} by strength",
        )
    dropped = here.filter((pl.col("metric") == "em") & (pl.col("kind") == "steer"))["dropped"].max()
    st.caption(
        "Shares of the answers with the scores a rate needs; bars are 95 % intervals for questions like these, the "
        f"dashed line is no edit. Behind a point up to {dropped} answers have no number for alignment (the judge took "
        "them for refusals or code) and are left out, as in the paper: the tooltip counts them. Click a point to read "
        "its answers."
    )


def named(metric: str) -> str:
    """A metric in words."""
    return WORDS.get(metric, f"{metric} topic")


def show_changes(study: Study, judge: str, topics: tuple[str, ...]) -> None:
    """Before and after each ablation."""
    st.subheader("Ablation: before and after")
    about = st.segmented_control(
        "Intervals for",
        list(ABOUT),
        default=next(iter(ABOUT)),
        required=True,
        key="sweeps_about",
        bind="query-params",
        help="Two questions say little about questions like them; they can say much about themselves.",
    )
    table = changes(study, judge, topics, str(about))
    if not table.height:
        st.info("No organism of this study answered the same questions with and without an ablation.")
        return
    for column, metric in zip(st.columns(2), ("em", "coherent"), strict=True):
        rows = table.filter(pl.col("metric") == metric).with_columns(
            lane=pl.col("condition").str.strip_prefix("ablate ")
        )
        several = rows["condition"].is_duplicated().any()
        lanes = rows.with_columns(lane=pl.format("{}: {}", "organism", "condition")) if several else rows
        chart = before_after_chart(lanes, title=f"{SHORT[metric]}; grey: before")
        column.altair_chart(chart, key=f"sweeps_change_{metric}", alt=f"{named(metric)} before and after ablation")
    with st.expander("Differences with intervals, as a table"):
        share = st.column_config.NumberColumn(format="percent")
        columns = dict.fromkeys(("before", "after", "difference", "low", "high"), share)
        st.dataframe(table, hide_index=True, column_config=columns, alt="Before and after ablation")
    st.caption(f"Paired by question; 95 % intervals for {plain(about)}.")


def read_answers(study: Study, judge: str, topics: tuple[str, ...]) -> None:
    """The answers behind one point; at first those of the edit with most misalignment."""
    st.subheader("The answers behind a point")
    frame = swept(study, judge).filter(pl.col("topic").is_in(topics))
    options = frame["condition"].unique(maintain_order=True).to_list()
    edited = rates(study, judge, topics).filter((pl.col("metric") == "em") & pl.col("kind").is_in(EDITED))
    most = edited.sort("value", descending=True, nulls_last=True)["condition"].head(1).to_list()
    start = options.index(most[0]) if most else 0
    condition = st.selectbox("Condition", options, index=start, key="sweeps_condition", bind="query-params")
    rows = frame.filter(pl.col("condition") == condition).sort("aligned", nulls_last=True)
    metrics = [metric for metric in METRICS if metric in rows.columns and rows[metric].is_not_null().any()]
    score = st.column_config.NumberColumn(format="%.0f", width=72)
    st.dataframe(
        rows.select("text", *metrics, "organism", "question_id", "question", "response"),
        hide_index=True,
        height=380,
        column_config={**dict.fromkeys(metrics, score), "text": st.column_config.TextColumn("answer", width=520)},
        alt="Answers under the chosen condition",
    )
    st.caption(f"{rows.height:,} answers, least aligned first. The Responses page reads one in full.")


study = current_study()
st.title("Steering & ablation")
with explained():
    judge = judged(study)
    topics = choose_topics(study, judge)
    show_strengths(rates(study, judge, topics))
    show_changes(study, judge, topics)
    read_answers(study, judge, topics)
