"""Overview: the paper's argument told of this study, how often each organism is misaligned, where it comes from."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import streamlit as st

from backend.analysis.rates.rates import em_rates
from backend.charts.shares import question_chart, rate_chart
from backend.outcomes import Outcome
from backend.records import BASE, BASELINE, InputError
from backend.study import Study
from backend.tables import rates as tables
from backend.tables.rates import chosen_by_score, unedited_answers
from panels.asked import choose_linked, spelled
from panels.beside import show_beside
from panels.corrected_rates import show_with_correction
from panels.figures import show_chart
from panels.frame import (
    choose_judge,
    choose_outcome,
    current_study,
    explained,
    listed,
    per_study,
    plain,
    responses_of,
    scored_by,
)
from panels.report import show_report_button
from panels.story import show_figures, show_story

TOO_FEW = "Too few scored responses: even the best interval spans over 30 points"
MOST_NAMES = 6  # conditions named in a sentence
MOST_LANES = 14  # rates in a chart, before it starts with the unedited conditions alone
SCORES = {1: "its score", 2: "both scores"}  # by how many an outcome needs


@per_study
def _scored(study: Study, judge: str) -> pl.DataFrame:
    """The responses that rates are of."""
    return tables.with_scores_of(study, responses_of(study, judge))


@per_study
def _rates(study: Study, judge: str, outcome: Outcome, by: tuple[str, ...]) -> pl.DataFrame:
    """Rates of the outcome and of its gate with intervals, one row a group and metric."""
    return em_rates(_scored(study, judge), list(by), outcomes=outcome.beside)


@per_study
def _unedited(study: Study) -> frozenset[str]:
    """The conditions without edits."""
    return frozenset(unedited_answers(study))


def _describe(study: Study) -> None:
    """What the study holds, in plain words."""
    st.subheader("What it holds")
    responses, questions = responses_of(study), study.questions()
    organisms, conditions = study.organisms(), study.conditions()
    topics = questions["topic"].unique(maintain_order=True) if questions.height else ()
    with st.container(horizontal=True, gap="large"):
        st.metric("Responses", f"{responses.height:,}", width="content")
        st.metric("Organisms", organisms.height, width="content")
        st.metric("Conditions", conditions.height, width="content")
        st.metric("Questions", questions.height, width="content")
    st.markdown(
        f"Base model **{plain(study.info.get('base', 'not recorded'))}**; organisms {listed(organisms['organism'])}; "
        f"conditions {_shortened(conditions['name'])}; questions of {listed(topics) or 'no topic'}."
    )
    if study.info.get("notes"):
        st.text(str(study.info["notes"]))


def _shortened(names: pl.Series) -> str:
    """The first few names in a row, and how many more there are."""
    more = names.len() - MOST_NAMES
    return listed(names.head(MOST_NAMES)) + (f" and {more} more" if more > 0 else "")


def _asked(study: Study) -> tuple[str, Outcome]:
    """The judge and the outcome of this page. Raises InputError where no rate can be computed."""
    judge, outcome = choose_judge(study), choose_outcome(study)
    if not responses_of(study).height:
        raise InputError(
            f"Study {study.name} holds no responses, so it has no rates: it was built from other parts. "
            "The pages under Representations show what it does hold."
        )
    return scored_by(study, judge, outcome), outcome


def measures(outcome: Outcome) -> dict[str, str]:
    """What rates are drawn of, in words by metric."""
    return {each.name: each.title for each in outcome.beside}


def headed(words: str) -> str:
    """Words as a heading."""
    return words[:1].upper() + words[1:]


@per_study
def _differences(study: Study, judge: str, outcome: Outcome) -> pl.DataFrame:
    """How much more often an organism's answers are hits than the base's, and under a condition than without."""
    return tables.differences(study, _scored(study, judge), outcome)


def in_words(row: dict[str, Any], outcome: Outcome) -> str:
    """One difference in a sentence."""
    value, low, high = (f"{row[name] * 100:+.1f}" for name in ("difference", "low", "high"))
    if row["stands"]:
        said = "."
    elif row["clear"]:
        said = f": clear alone, not among {row['family']} compared."
    else:
        said = ": it holds zero, so no difference is shown."
    return (
        f"**{plain(row['organism'])}** against **{plain(row['against'])}**, both under {plain(row['under'])}: "
        f"**{value} points** of {plain(outcome.title)}, 95 % interval {low} to {high}"
        f"{said}"
    )


def defined(outcome: Outcome) -> str:
    """What a hit is and what passes the gate, as plain text for a place that reads Markdown."""
    names = (outcome.kinds[1], *(gate.name for gate in outcome.beside[1:]))
    return headed("; ".join(f"{plain(name)}: {plain(of)}" for name, of in zip(names, outcome.beside, strict=True)))


def _show_rates(study: Study, judge: str, outcome: Outcome) -> None:
    """The rates of every organism and condition, side by side, and as a table."""
    table, drawn = _rates(study, judge, outcome, ("organism", "condition")), measures(outcome)
    st.subheader(f"How often is each organism {plain(outcome.kinds[1])}?")
    organisms, names = study.organisms()["organism"].to_list(), table["condition"].unique(maintain_order=True).to_list()
    if table.height > len(drawn) * MOST_LANES:
        plain_ones = _unedited(study)
        plainly = [name for name in names if name in plain_ones] or names[:MOST_NAMES]
        names = st.multiselect("Conditions", names, default=plainly, key="overview_conditions", bind="query-params")
    table = table.filter(pl.col("condition").is_in(names))
    if not table.height:
        st.info("No condition is chosen: choose at least one to see its rates.")
        return
    for column, (metric, title) in zip(st.columns(len(drawn)), drawn.items(), strict=True):
        rows = table.filter(pl.col("metric") == metric)
        column.markdown(f"**{plain(headed(title))}**")
        show_chart(
            column,
            rate_chart(rows, title=f"share of responses ({title})", organisms=organisms),
            key=f"overview_rates_{metric}",
            alt=headed(title),
        )
    left_out = chosen_by_score(study)
    dropped = int(table.filter(pl.col("metric") == outcome.name)["dropped"].sum())
    st.caption(
        f"Judge {plain(judge)}. {defined(outcome)}. "
        f"Out of the responses with {SCORES.get(len(outcome.needs), 'all scores')} ({dropped} without one are left "
        "out). Lines are 95 % intervals for questions like these: answers to one question are alike, and the questions "
        "are a sample." + (f" Without {listed(left_out)}: its answers were chosen by their scores." if left_out else "")
    )
    counted = _scored(study, judge).filter(pl.col("condition").is_in(names))
    show_with_correction(study, judge, outcome, counted, key="overview_labels")
    gaps = _differences(study, judge, outcome)
    for row in gaps.filter((pl.col("against") == BASE) & (pl.col("condition") == BASELINE)).iter_rows(named=True):
        st.markdown(in_words(row, outcome))
    if gaps.height:
        st.caption(" ".join(tables.families_told(gaps)))
    few = table.filter((pl.col("metric") == outcome.name) & pl.col("too_small"))
    if few.height:
        small = "; ".join(f"{row['organism']} · {row['condition']} (n = {row['n']})" for row in few.to_dicts())
        st.warning(f"{plain(small)}. Sample and score more responses to say how large these rates are.", title=TOO_FEW)
    with st.expander("Rates and differences as tables"):
        share = st.column_config.NumberColumn(format="percent")
        columns = dict.fromkeys(("value", "difference", "low", "high"), share)
        st.dataframe(table, hide_index=True, column_config=columns, alt="Rates")
        st.dataframe(gaps, hide_index=True, column_config=columns, alt="Differences between rates")


def show_questions(study: Study, judge: str, outcome: Outcome) -> None:
    """Rates of every question under one condition, a chart for each topic."""
    st.subheader("On which questions?")
    table = _rates(study, judge, outcome, ("topic", "question_id", "condition", "organism"))
    rows, measure = choose_questions(table, measures(outcome))
    if not rows.height:
        st.info("No scored response is left: choose at least one topic that was asked under this condition.")
        return
    with st.grid(2, min_column_width=420):
        for (topic,), part in rows.group_by("topic", maintain_order=True):
            worst = part.group_by("question_id", maintain_order=True).agg(pl.col("value").max())
            order = worst.sort("value", descending=True, maintain_order=True)["question_id"].to_list()
            title = f"{topic}: share of responses ({measure})"
            chart = question_chart(part, title=title, order=order, organisms=study.organisms()["organism"].to_list())
            show_chart(st, chart, key=f"overview_questions_{topic}", alt=f"{headed(measure)} by question of {topic}")
    low, high = rows.select(low=pl.col("n").min(), high=pl.col("n").max()).row(0)
    st.caption(
        f"Judge {plain(judge)}; {low}–{high} scored responses a question and organism, 95 % intervals; sorted by "
        "the highest rate. A rate over all questions hides how different they are."
    )


def choose_questions(table: pl.DataFrame, drawn: dict[str, str]) -> tuple[pl.DataFrame, str]:
    """The rates of one condition, of some topics, on one metric of `drawn`; and that metric in words."""
    left, middle, right = st.columns([2, 2, 2])
    conditions = table["condition"].unique(maintain_order=True).to_list()
    start = conditions.index(BASELINE) if BASELINE in conditions else 0
    key = "overview_condition"
    condition = choose_linked(left.selectbox, "Condition", conditions, index=start, key=key, what="condition")
    topics = table["topic"].unique(maintain_order=True).to_list()
    chosen = middle.multiselect("Topics", topics, default=topics, key="overview_topics", bind="query-params")
    metric = right.segmented_control(
        "Rate",
        list(drawn),
        default=next(iter(drawn)),
        required=True,
        format_func=spelled("overview_rate", lambda name: headed(drawn[name])),
        key="overview_rate",
        bind="query-params",
    )
    kept = (pl.col("condition") == condition) & pl.col("topic").is_in(chosen) & (pl.col("metric") == metric)
    return table.filter(kept, pl.col("n") > 0), drawn[str(metric)]


def show_provenance(study: Study) -> None:
    """Versions, hashes and settings, as they were recorded."""
    with st.expander("Provenance: versions, data, training settings"):
        st.text(f"File {study.path}")
        st.json(_jsonable(study.info), expanded=2)
        for name, record in study.organisms().select("organism", "record").iter_rows():
            if record and json.loads(record):
                st.markdown(f"**{plain(name)}**: how it was trained")
                st.json(json.loads(record), expanded=1)


def _jsonable(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


study = current_study()
st.title(plain(study.info.get("title") or study.name))
with explained():
    judge, outcome = _asked(study)
    told = show_story(study, judge, outcome)
    show_report_button(study, judge, outcome)
    with explained():
        show_beside(study, judge, outcome)
    show_figures(study, judge, told)
    _show_rates(study, judge, outcome)
    show_questions(study, judge, outcome)
_describe(study)
show_provenance(study)
