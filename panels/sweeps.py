"""What the pages of sweeps share: the judge, the questions that rates are over, and answers side by side.

It refuses to know which rates a page draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import streamlit as st

from backend.analysis.rates.pairing import AFTER, BEFORE, Pairs
from backend.charts.strip import plain_text
from backend.edits import EVERY, Ablate, Add
from backend.outcomes import EM, ON_TOPIC, SELF_CORRECTED, Outcome
from backend.records import InputError
from backend.study import Study
from backend.tables import sweeps as tables
from backend.tables.sweeps import METRICS, SweptAnswers
from panels.acting import TOKENS
from panels.asked import choose_linked
from panels.frame import choose_judge, choose_outcome, per_study, plain, responses_of, scored_by
from panels.stacks import ALL, OWN, WISE, Stack, send_direction, study_stacks

MOST_ROWS = 2000  # of a table of answers; the browser gets no more


def titles(outcome: Outcome) -> dict[str, str]:
    """What a rate can be of, in words by metric: the outcome, its gate, and topics."""
    return {each.name: each.title for each in (*ON_TOPIC, SELF_CORRECTED, *outcome.beside)}


def short(outcome: Outcome) -> dict[str, str]:
    """What the hits of the outcome and of its gate are, in few words by metric."""
    hits = f"{outcome.kinds[1]} (EM)" if outcome == EM else outcome.kinds[1]
    return {outcome.name: hits} | {gate.name: gate.name for gate in outcome.beside[1:]}


@per_study
def described(study: Study) -> pl.DataFrame:
    """What every condition did."""
    return tables.described(study)


@per_study
def swept(study: Study, judge: str, kinds: tuple[str, ...], baseline: str | None = None) -> SweptAnswers:
    """The sweep of edits of these kinds, as one judge scored it; compared with `baseline` where there are several."""
    return tables.swept(study, responses_of(study, judge), kinds, baseline)


def choose_swept(study: Study, judge: str, kinds: tuple[str, ...], page: str) -> tuple[SweptAnswers, str | None]:
    """The sweep, and what it is compared with where there is a choice: an organism was edited at several lengths."""
    usual = swept(study, judge, kinds)
    if not usual.baselines:
        return usual, None
    label, names = "Compared with", usual.baselines
    said = "Answers of different lengths cannot be compared: a sweep's stand beside unedited ones cut to its length."
    chosen = choose_linked(st.selectbox, label, names, key=f"{page}_baseline", what="baseline", help=said)
    return swept(study, judge, kinds, chosen), chosen


def asked(study: Study, kinds: tuple[str, ...], what: str) -> tuple[str, Outcome]:
    """The judge and the outcome of a page of sweeps.

    Raises InputError where there is no such sweep or the judge does not score what the outcome needs.
    """
    table = described(study).filter(pl.col("kind").is_in(kinds))
    names = responses_of(study, None)["condition"].unique()
    if not table["condition"].is_in(names.implode()).any():
        raise InputError(
            f"Study {study.name} has no answers under {what}. Sample a sweep with: python -m backend sweep, "
            "judge it and build the study again."
        )
    judge, outcome = choose_judge(study), choose_outcome(study)
    return scored_by(study, judge, outcome), outcome


def choose_topics(study: Study, sweep: SweptAnswers, page: str) -> tuple[str, ...]:
    """The sets of questions that rates are over, at first those of `starting_topics`.

    Raises InputError where none is chosen.
    """
    topics = sweep.answers["topic"].unique(maintain_order=True).sort().to_list()
    start = list(tables.starting_topics(study, sweep))
    chosen = st.multiselect("Questions", topics, default=start, key=f"{page}_topics", bind="query-params")
    if "published_questions" in study.info:
        others = [topic for topic in topics if topic not in start]
        more = f"; {', '.join(others)} can be added" if others else ""
        st.caption(plain(f"Starts on {', '.join(start)}, the questions that the sweep was published for{more}."))
    if not chosen:
        raise InputError("No question is left: choose at least one set of questions.")
    return tuple(chosen)


def judged_share(judge: str, outcome: Outcome, found: SweptAnswers) -> str:
    """Who judged, and in words what is left out: answers without a score yet, or cut at another length."""
    frame = found.answers
    scored = frame.select(outcome.scored().sum()).item()
    missing = frame.height - scored
    part = f", {missing / frame.height:.1%} of {frame.height:,} answers without a score and left out" if missing else ""
    length = f" Unedited answers are cut to the sweep's length ({', '.join(found.cut)})." if found.cut else ""
    other = found.other_lengths
    left = f" {other:,} edited answers of another length are left out." if other else ""
    return f"Judge {plain(judge + part + '.' + length + left)}"


# --- answers side by side -------------------------------------------------------------------------------------------


def read_pairs(
    sweep: SweptAnswers,
    outcome: Outcome,
    topics: Sequence[str],
    *,
    organism: str,
    cell: str,
    page: str,
) -> None:
    """A table of answers with and without the edit; the selected row is read in full below it."""
    found = tables.paired(sweep, organism, cell, outcome)
    first = outcome.core[0]
    order, up = f"{first.metric}{AFTER}", first.high == np.inf  # the likeliest hits first
    table = found.table.filter(pl.col("topic").is_in(topics)).sort(order, descending=up, nulls_last=True)
    if not table.height:
        st.info("No answer to these questions under this edit.")
        return
    metrics = [name for name in dict.fromkeys((*outcome.needs, *METRICS)) if f"{name}{AFTER}" in table.columns]
    event = st.dataframe(
        table.head(MOST_ROWS).select(
            "question_id",
            f"text{BEFORE}",
            f"text{AFTER}",
            *(f"{metric}{side}" for metric in metrics if metric in outcome.needs for side in (BEFORE, AFTER)),
            "seed",
        ),
        hide_index=True,
        height=300,
        key=f"{page}_pairs_{organism}_{cell}",
        on_select="rerun",
        selection_mode="single-row-required",
        selection_default={"selection": {"rows": [0], "columns": []}},
        column_config={
            "question_id": st.column_config.TextColumn("question", width=110),
            f"text{BEFORE}": st.column_config.TextColumn("without the edit", width=240),
            f"text{AFTER}": st.column_config.TextColumn("under the edit", width=240),
            **{
                f"{metric}{side}": st.column_config.NumberColumn(f"{metric} {text}", format="%.0f", width=98)
                for metric in metrics
                for side, text in ((BEFORE, "before"), (AFTER, "after"))
            },
        },
        alt="Answers with and without the edit",
    )
    st.caption(_turned(Pairs(table, found.seeded), outcome, f"{'most' if up else 'least'} {first.metric}"))
    chosen = (event["selection"]["rows"] or [0])[0]
    _side_by_side(table.row(min(chosen, table.height - 1), named=True), metrics, organism, cell)


def _turned(found: Pairs, outcome: Outcome, first: str) -> str:
    """How many pairs the edit turned, in words; `first` says how they are sorted."""
    both, after, before, neither = found.turned(outcome)
    scored = both + after + before + neither
    how = "question and seed" if found.seeded else "question and rank (no seed is shared)"
    cut = f" The table shows the first {MOST_ROWS:,}." if found.table.height > MOST_ROWS else ""
    return (
        f"{found.table.height:,} answers, {plain(first)} first, {found.complete:,} with a partner of equal {how}. "
        f"Of the {scored:,} pairs with all scores, {after} are {plain(outcome.kinds[1])} only under the edit, "
        f"{before} only without, {both} in both.{cut}"
    )


def _side_by_side(row: dict[str, object], metrics: Sequence[str], organism: str, cell: str) -> None:
    """Two answers to one question in full."""
    st.text(str(row["question"]))
    sides = ((BEFORE, f"{organism}, without the edit"), (AFTER, f"{organism}, {cell}"))
    for column, (side, title) in zip(st.columns(2), sides, strict=True):
        with column.container(border=True, gap="xsmall"):
            st.markdown(f"**{plain(title)}**")
            if row[f"response{side}"] is None:
                st.caption("No answer to this question with this seed.")
                continue
            answer = plain_text(str(row[f"text{side}"]) or "(empty answer)")
            st.html(f'<div style="max-height:22rem;overflow:auto">{answer}</div>')
            scores = ((metric, row[f"{metric}{side}"]) for metric in metrics)
            given = (f"{metric} {score:.0f}" if isinstance(score, float) else f"{metric} –" for metric, score in scores)
            st.caption(f"{plain(', '.join(given))} · {plain(row[f'response{side}'])}")


def send_cell(study: Study, organism: str, cell: str, *, key: str) -> None:
    """A button that opens Live with the edit of a cell, on the organism that answered under it."""
    found = edit_of(study, cell)
    if found is None:
        st.button(
            "Send to Live",
            key=key,
            disabled=True,
            help="Live is sent one direction, added or ablated to zero. This edit is another, or its vector is lost.",
            width="stretch",
        )
        return
    stack, layer, strength, place, tokens = found
    if st.button("Send to Live", key=key, type="primary", icon=":material/send:", width="stretch"):
        send_direction(stack, layer, strength=strength, place=place, tokens=tokens, organism=organism)


def edit_of(study: Study, cell: str) -> tuple[Stack, int, float | None, str, str] | None:
    """What a cell did, for Live: directions by layer, the layer, the strength (None: ablated), after which blocks, and
    at which tokens.

    None where the study holds no vector of it, where it is no single direction, and where Live would do another thing
    with it: behind a gate, to a mean. Of several seeds it is the first's.
    """
    row = described(study).filter(pl.col("cell") == cell).row(0, named=True)
    edits = [edit for edit in study.condition(row["condition"]).edits if isinstance(edit, Add | Ablate)]
    if row["kind"] not in ("steer", "ablate"):
        return None
    stack, named = dict(study_stacks(study).get(row["direction"], {})), {where: name for name, where in TOKENS.items()}
    if not edits:  # an imported condition: its record names the direction
        places = [layer for layer in stack if row["layer"] is None or layer == row["layer"]]
        place = OWN if len(places) == 1 else WISE
        return (stack, places[len(places) // 2], row["strength"], place, named[EVERY]) if places else None
    own = {edit.direction.layer: edit.direction for edit in edits}
    if len(own) < len(edits):
        return None
    first = edits[len(edits) // 2]
    if first.where not in named or first.when is not None or (isinstance(first, Ablate) and first.to is not None):
        return None
    strength = first.strength if isinstance(first, Add) else None
    place = WISE if len(edits) > 1 else OWN if first.layers == (first.direction.layer,) else ALL
    return {**stack, **own}, first.direction.layer, strength, place, named[first.where]
