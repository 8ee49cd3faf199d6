"""Responses: every answer with its scores beside the one that is read, alone or beside another to its question."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import streamlit as st

from backend.charts.scatter import BRUSH, LENGTH, MOST_POINTS, axes, outcome_scatter, thinned
from backend.outcomes import Outcome
from backend.records import InputError
from backend.study import Study
from backend.tables.reading import HITS, KIND, LONGEST, NOT_SCORED, ORDERS, SHORTEST, in_order, with_kinds
from panels.asked import linked, spelled
from panels.corrected_rates import table_with_correction
from panels.frame import (
    choose_judge,
    choose_outcome,
    current_study,
    explained,
    per_study,
    plain,
    read_by,
    responses_of,
    scored_by,
)
from panels.opening import opening
from panels.point import READ, reading_chart
from panels.reading import ALONE, BESIDE, choose_lane, read_alone, read_beside, show_facts, steps

FILTERS = {"organism": "Organism", "condition": "Condition", "topic": "Topic", "question_id": "Question"}
MOST_ROWS = 5000  # of the table: the browser gets no more
TABLE = "responses_table"
ORDER = "responses_order"


@per_study
def options_of(study: Study, column: str) -> list[str]:
    """The values of a column that filters, in the order of the responses."""
    return responses_of(study)[column].unique(maintain_order=True).to_list()


@per_study
def seeds_of(study: Study) -> list[int]:
    """The seeds of the answers."""
    return responses_of(study)["seed"].unique().sort().to_list()


@per_study
def lowered(study: Study) -> pl.Series:
    """Question and answer of every response in lower case."""
    text = pl.concat_str("question", "text", separator="\n").str.to_lowercase()
    return responses_of(study).select(text.alias("text")).to_series()


@per_study
def with_strip(study: Study) -> list[str]:
    """The responses that some organism read token by token."""
    return list(dict.fromkeys(name for reader in study.readers() for name in read_by(study, reader)))


def tell_hits(frame: pl.DataFrame, judge: str | None, outcome: Outcome) -> None:
    """How many answers are hits, in one line."""
    scored = frame.filter(pl.col(KIND) != NOT_SCORED)
    if judge is None or not scored.height:
        st.caption(f"{frame.height:,} answers with all that is known of each. No judge has scored them.")
        return
    hits, asked = scored.filter(outcome.hits()).height, scored["question_id"].n_unique()
    st.caption(
        f"{hits:,} of {scored.height:,} scored answers to {asked:,} questions are {plain(outcome.title)} by judge "
        f"{plain(judge)}, whatever answered under whatever edits: rates are on Overview."
    )


def choose_rows(study: Study, frame: pl.DataFrame, outcome: Outcome) -> pl.DataFrame:
    """The rows of `frame`, which holds all of the study, that pass the filters of this page, in the order chosen."""
    with st.container(key="filters"):
        masks = _masks(study, frame, outcome)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        order = choose_order(outcome)
        if study.readers() and st.toggle(
            "Read token by token",
            key="responses_strip",
            bind="query-params",
            help="Only answers that an organism has read again, so that there is a strip of its scalars.",
        ):
            masks.append(pl.col("response").is_in(with_strip(study)))
    return in_order(frame.filter(*masks) if masks else frame, outcome, order)


def _masks(study: Study, frame: pl.DataFrame, outcome: Outcome) -> list[pl.Expr | pl.Series]:
    """What the filters ask of a row."""
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
    ranges = [metric for metric in outcome.needs if metric in frame.columns]
    kinds, seeds, *places, last = st.columns([2, 1, *(1 for _ in ranges), 2], vertical_alignment="bottom")
    offered = [*outcome.kinds, NOT_SCORED]
    what = kinds.multiselect(
        "Outcome", offered, key="responses_kind", bind="query-params", placeholder="all", wrap=False
    )
    if what:
        masks.append(pl.col(KIND).is_in(what))
    drawn = seeds.multiselect(
        "Seed", seeds_of(study), key="responses_seed", bind="query-params", placeholder="all", wrap=False
    )
    if drawn:
        masks.append(pl.col("seed").is_in(drawn))
    for place, metric in zip(places, ranges, strict=True):
        low, high = place.slider(metric.capitalize(), 0, 100, (0, 100), key=f"responses_{metric}", bind="query-params")
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
    return masks


def choose_order(outcome: Outcome) -> str:
    """The order of the list, which Previous and Next follow."""
    words = {
        HITS: f"{outcome.title} first, clearest first",
        LONGEST: "longest first",
        SHORTEST: "shortest first",
    }
    usual = {"sampled": "as sampled", "question": "question by question"}
    chosen = st.selectbox(
        "Order",
        ORDERS,
        key=ORDER,
        bind="query-params",
        format_func=spelled(ORDER, lambda order: (words | usual).get(order, str(order))),
        width=330,
    )
    return str(chosen)


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
        height=520,
        column_config={
            **dict.fromkeys(metrics, score),
            "text": st.column_config.TextColumn("answer", width=210),
            "n_answer": st.column_config.NumberColumn("tokens"),
        },
        alt="Responses that pass the filters",
    )
    cut = f" The table holds the first {MOST_ROWS:,}: filter for others." if rows.height > MOST_ROWS else ""
    st.caption(f"{rows.height:,} responses. Select a row to read it.{cut}")


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


study = current_study()
judge, outcome = choose_judge(study), choose_outcome(study)
opening(
    "Responses",
    "What do the answers say? Read them, the clearest first, alone or beside another to the same question.",
    study,
)
frame = responses_of(study, judge)
metrics = study.metrics(judge) if judge else []
if not frame.height:
    with explained():
        raise InputError(
            f"Study {study.name} holds no responses: it was built from scalars or residual means alone. "
            "The pages under Representations show what it does hold."
        )
    st.stop()
frame = with_kinds(frame, outcome)
tell_hits(frame, judge, outcome)
rows = choose_rows(study, frame, outcome)
chosen = None
with explained():
    chosen = chosen_response(frame, rows)
above, below = st.container(), st.container()
with below:
    st.divider()
    scatter, facts = st.columns([1, 1], gap="medium")
if not rows.height:
    with above:
        st.info("No response passes the filters: widen a range, remove a filter or a word of the search.")
else:
    with scatter, explained():  # drawn first, and shown below: its brush filters the list
        rows = show_scatter(study, rows, scored_by(study, judge, outcome), outcome, chosen)
with above, explained():
    beside = linked(BESIDE) not in (None, ALONE) or st.session_state.get(BESIDE, ALONE) != ALONE
    listing, reading = st.columns([2, 5] if beside else [1, 1], gap="medium")
    if rows.height:
        with listing:
            show_responses(rows, metrics, outcome.needs, chosen)
    if chosen:
        with reading:
            steps(rows, chosen)
            lane = choose_lane(study)
            if lane is None:
                read_alone(study, chosen)
            else:
                read_beside(study, chosen, lane, judge, outcome.needs)
        with facts:
            show_facts(study, chosen)
with below:
    table_with_correction(study, judge, outcome, key="responses_labels")
