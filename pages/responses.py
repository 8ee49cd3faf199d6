"""Responses: every answer with its scores, and one read in full with the scalar of an adapter on every token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import streamlit as st

from backend.charts.scatter import BRUSH, LENGTH, MOST_POINTS, axes, outcome_scatter, thinned
from backend.charts.strip import common_scale, legend, plain_text, token_strip
from backend.outcomes import Outcome
from backend.records import InputError
from backend.study import Study
from panels.asked import choose_linked, linked
from panels.corrected_rates import table_with_correction
from panels.frame import (
    NO_TEXT,
    choose_judge,
    choose_outcome,
    current_study,
    explained,
    lacks,
    per_study,
    plain,
    responses_of,
    responses_read,
    scored_by,
)
from panels.point import READ, reading_chart

FILTERS = {"organism": "Organism", "condition": "Condition", "topic": "Topic", "question_id": "Question"}
MOST_ROWS = 5000  # of the table: the browser gets no more
TABLE = "responses_table"
MOST_NAMED = 4  # runs that a reader read, in a caption


@per_study
def options_of(study: Study, column: str) -> list[str]:
    """The values of a column that filters, in the order of the responses."""
    return responses_of(study)[column].unique(maintain_order=True).to_list()


@per_study
def lowered(study: Study) -> pl.Series:
    """Question and answer of every response in lower case."""
    text = pl.concat_str("question", "text", separator="\n").str.to_lowercase()
    return responses_of(study).select(text.alias("text")).to_series()


def choose_rows(study: Study, frame: pl.DataFrame, ranges: Sequence[str]) -> pl.DataFrame:
    """The rows of `frame`, which holds all of the study, that pass the filters of this page: `ranges` are of scores."""
    masks: list[pl.Expr | pl.Series] = []
    for place, (column, label) in zip(st.columns(4), FILTERS.items(), strict=True):
        picked = place.multiselect(
            label,
            options_of(study, column),
            key=f"responses_{column}",
            bind="query-params",
            placeholder="all",
            wrap=False,
        )
        if picked:
            masks.append(pl.col(column).is_in(picked))
    *places, last = st.columns([*(1 for _ in ranges), 2], vertical_alignment="bottom")
    for place, metric in zip(places, ranges, strict=True):
        if metric in frame.columns:
            low, high = place.slider(
                metric.capitalize(), 0, 100, (0, 100), key=f"responses_{metric}", bind="query-params"
            )
            if (low, high) != (0, 100):  # the whole range keeps the responses without a score
                masks.append(pl.col(metric).is_between(low, high))
    words = last.text_input(
        "Search in question and answer",
        key="responses_search",
        bind="query-params",
        type="search",
        placeholder="any case; every word must occur",
    )
    masks += [lowered(study).str.contains(word, literal=True) for word in (words or "").lower().split()]
    return frame.filter(*masks) if masks else frame


def show_scatter(study: Study, rows: pl.DataFrame, judge: str, outcome: Outcome, chosen: str | None) -> pl.DataFrame:
    """The scores that decide the outcome; the rows inside the brush, or all."""
    across, up = axes(outcome, study.metrics(judge))
    scored = rows.select(across, up).with_row_index().drop_nulls()
    points = rows[thinned(scored)["index"]]
    organisms = study.organisms()["organism"].to_list()
    selected = reading_chart(
        outcome_scatter(points, outcome=outcome, across=across, up=up, chosen=chosen, organisms=organisms),
        key="responses_scatter",
        beside=[BRUSH],
        alt=f"Scores of every response: {across} and {up}",
    )
    scores = f"a score of {up}" if across == LENGTH else "both scores"
    note = f"{scored.height:,} of {rows.height:,} responses have {plain(scores)} of judge {plain(judge)}"
    note += f"; {MOST_POINTS:,} of them are drawn" if scored.height > MOST_POINTS else ""
    note += f". The frame: {plain(', '.join(map(str, outcome.hit)))}, which counts as {plain(outcome.title)}"
    st.caption(f"{note}. Drag to select a region, click a point to read it, double-click to clear.")
    for column, (low, high) in (selected.get(BRUSH) or {}).items():
        rows = rows.filter(pl.col(column).is_between(low, high))
    return rows


def tick(rows: pl.DataFrame, chosen: str | None) -> None:
    """Select the answer that is read, and no other: the table itself keeps a row's number, whatever stands there."""
    at = rows["response"].head(MOST_ROWS).index_of(chosen) if chosen else None
    ticked = [] if at is None else [at]
    table = st.session_state.get(TABLE)
    if table is None or list(table["selection"]["rows"]) != ticked:
        st.session_state[TABLE] = {"selection": {"rows": ticked}}


def show_responses(rows: pl.DataFrame, metrics: Sequence[str], first: Sequence[str], chosen: str | None) -> None:
    """The rows as a table, the metrics of `first` before the text; a click reads one, and the one read is ticked."""
    main = [metric for metric in first if metric in metrics]
    others = [metric for metric in metrics if metric not in first]
    columns = [
        *main,
        "text",
        "organism",
        "condition",
        "question_id",
        *others,
        "n_answer",
        "finished",
        "seed",
        "response",
    ]
    score = st.column_config.NumberColumn(format="%.0f", width=72)

    def read() -> None:
        selected = st.session_state[TABLE]["selection"]["rows"]
        if selected:
            st.query_params[READ] = rows["response"][selected[0]]

    tick(rows, chosen)
    st.dataframe(
        rows.head(MOST_ROWS).select(columns),
        key=TABLE,
        on_select=read,
        selection_mode="single-row",
        hide_index=True,
        height=430,
        column_config={
            **dict.fromkeys(metrics, score),
            "text": st.column_config.TextColumn("answer", width=210),
            "n_answer": st.column_config.NumberColumn("tokens"),
        },
        alt="Responses that pass the filters",
    )
    cut = f" The table holds the first {MOST_ROWS:,}: filter for others." if rows.height > MOST_ROWS else ""
    st.caption(f"{rows.height:,} responses. Select a row to read it below.{cut}")


def chosen_response(frame: pl.DataFrame, rows: pl.DataFrame) -> str | None:
    """The response to read: the one of the link, or the first that passes the filters."""
    wanted = linked(READ)
    if wanted is None:
        return rows["response"][0] if rows.height else None
    if not (frame["response"] == wanted).any():
        raise InputError(
            f"There is no response {wanted!r} in this study: the link may come from another study or an older build. "
            "Select a response in the table."
        )
    return wanted


def steps(rows: pl.DataFrame, chosen: str) -> None:
    """Previous and next among the rows that pass the filters."""
    ids = rows["response"]
    at = ids.index_of(chosen)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for text, step, key in (("← Previous", -1, "responses_previous"), ("Next →", 1, "responses_next")):
            to = 0 if at is None else at + step
            possible = 0 <= to < len(ids)
            target = {READ: ids[to]} if possible else {}
            st.button(text, key=key, disabled=not possible, on_click=st.query_params.update, args=(target,))
        where = f"{at + 1:,} of {len(ids):,}" if at is not None else "outside the filters"
        st.caption(f"{where} · {plain(chosen)}", width="content")


def read_response(study: Study, chosen: str) -> None:
    """One response in full: question, answer with its strip, settings, and the scores of every judge."""
    response = study.response(chosen)
    text, facts = st.columns([5, 3], gap="large")
    with text:
        if lacks(study, "texts"):
            st.caption(f"Question {plain(response.question_id)}")
        else:
            st.caption("Question")
            st.html(plain_text(response.question))
        show_answer(study, chosen, NO_TEXT if "texts" in study.info.get("left_out", ()) else response.text)
    with facts:
        sampling, tokens = response.sampling, len(response.answer_ids)
        length = f"{tokens} of at most {sampling.max_new_tokens} tokens" if tokens else "tokens not recorded"
        st.caption(
            f"{plain(response.organism)} · {plain(response.condition)} · topic {plain(response.topic)} · seed "
            f"{response.seed} · temperature {sampling.temperature:g} · top-p {sampling.top_p:g} · "
            f"{length} · {'ended by itself' if response.finished else 'cut at the limit'}"
        )
        scores = study.scores(chosen)
        if scores.height:
            number = st.column_config.NumberColumn(format="%.1f", help="Empty: the judge gave no number")
            st.dataframe(scores, hide_index=True, column_config={"value": number}, alt="Scores of this response")
        else:
            st.info("No judge has scored this response.")


def show_answer(study: Study, chosen: str, answer: str) -> None:
    """The answer with one adapter's scalar at every token, or as plain text where nobody read it."""
    readers = study.readers()
    if not readers:
        st.caption("Answer")
        st.html(plain_text(answer or "(empty answer)"))
        st.caption("This study holds no scalars, so there is no strip: build it with an organism that reads the texts.")
        return
    left, middle, right = st.columns([2, 3, 2], vertical_alignment="bottom")
    reader = choose_linked(left.selectbox, "Read by", readers, key="responses_reader", what="organism")
    try:
        strip = study.strip(chosen, reader)
    except InputError:  # an answer that nobody read again is still worth reading
        st.caption("Answer")
        st.html(plain_text(answer or "(empty answer)"))
        read = responses_read(study, str(reader)).select("organism", "condition").unique(maintain_order=True)
        told = "; ".join(f"{organism} under {condition}" for organism, condition in read.head(MOST_NAMED).iter_rows())
        more = f" and {read.height - MOST_NAMED} more" if read.height > MOST_NAMED else ""
        st.caption(
            f"{plain(reader)} has not read this answer, so there is no strip of its scalars. It read answers of "
            f"{plain(told)}{more}."
        )
        return
    adapter = choose_linked(middle.selectbox, "Adapter", strip.adapters, key="responses_adapter", what="adapter")
    whole = right.toggle("With the prompt", key="responses_prompt", bind="query-params")
    st.caption("Prompt and answer" if whole else "Answer")
    first, last = 0 if whole else strip.n_prompt, strip.n_prompt + strip.n_answer
    values = np.asarray(strip.scalars[strip.adapters.index(adapter)])
    if not strip.n_answer:
        st.info("This answer has no tokens: the model ended at once.")
    scale = common_scale(values[:last])
    st.html(token_strip(strip.tokens[first:last], values[first:last], scale=scale, name=adapter, first=first))
    st.html(legend(scale, f"scalar of {adapter}"))


study = current_study()
judge, outcome = choose_judge(study), choose_outcome(study)
st.title("Responses")
frame = responses_of(study, judge)
metrics = study.metrics(judge) if judge else []
if not frame.height:
    with explained():
        raise InputError(
            f"Study {study.name} holds no responses: it was built from scalars or residual means alone. "
            "The pages under Representations show what it does hold."
        )
    st.stop()
table_with_correction(study, judge, outcome, key="responses_labels")
rows = choose_rows(study, frame, outcome.needs)
chosen = None
with explained():
    chosen = chosen_response(frame, rows)
if not rows.height:
    st.info("No response passes the filters: widen a range, remove a filter or a word of the search.")
else:
    left, right = st.columns([1, 1], gap="medium")
    with left, explained():
        rows = show_scatter(study, rows, scored_by(study, judge, outcome), outcome, chosen)
    with right:
        show_responses(rows, metrics, outcome.needs, chosen)
if chosen:
    st.divider()
    steps(rows, chosen)
    with explained():
        read_response(study, chosen)
