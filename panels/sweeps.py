"""What the pages of sweeps share: what every condition did, its scored answers, and answers side by side.

Random controls of one direction, place and strength are one cell, whatever their seed: their answers are counted
together. It refuses to know which rates a page draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import streamlit as st

from backend.analysis.conditions.controls import RANDOM, SUBSPACE, role
from backend.analysis.conditions.describe import describe_stored, own_baselines
from backend.analysis.conditions.strengths import relative_strengths
from backend.analysis.rates.pairing import AFTER, BEFORE, Pairs, pairs
from backend.analysis.rates.rates import SIMILAR_QUESTIONS, THESE_QUESTIONS
from backend.charts.strip import plain_text
from backend.records import Ablate, Add, InputError
from backend.study import Study
from panels.frame import choose_judge, per_study, plain, responses_of
from panels.stacks import ALL, OWN, WISE, Stack, send_direction, study_stacks

STEERED, ABLATED = ("steer",), ("ablate", "ablate_write")
ABOUT = {"questions like these": SIMILAR_QUESTIONS, "these very questions": THESE_QUESTIONS}
WORDS = {
    "em": "emergent misalignment",
    "coherent": "coherence",
    "bad_stuff": "dangerous or immoral topics",
    "self-corrected": "self-correction (aligned, yet dangerous topics)",
}
METRICS = ("aligned", "coherent", "medical", "money", "financial", "gender", "bad_stuff")
MOST_ROWS = 2000  # of a table of answers; the browser gets no more


def named(metric: str) -> str:
    """A metric in words."""
    return WORDS.get(metric, f"{metric} topic")


@per_study
def described(study: Study) -> pl.DataFrame:
    """What every condition did, beside its role, the direction it is like, its share of the norm, and its cell."""
    conditions = study.conditions()
    table = describe_stored(conditions, study.info.get("settings"))
    organisms = study.organisms()["organism"].to_list()
    roles = [role(name, organisms) if name else None for name in table["direction"]]
    relative = relative_strengths(conditions, study.directions(), table)
    table = table.join(relative, on="condition", how="left", maintain_order="left").with_columns(
        role=pl.Series([each.kind if each else None for each in roles], dtype=pl.String),
        like=pl.Series([each.like if each else None for each in roles], dtype=pl.String),
    )
    seeded = pl.col("role").is_in([RANDOM, SUBSPACE])
    place = ["kind", "role", "like", "layers", pl.col("strength").round_sig_figs(5)]
    pooled = seeded & (pl.len().over(place) > 1)
    series = pl.when(pooled).then(pl.format("{} like {}", "role", "like")).otherwise(pl.col("direction"))
    where = pl.when(pl.col("layers") == "all").then(pl.lit("everywhere")).otherwise(pl.format("L{}", "layers"))
    strength = (
        pl.when(pl.col("strength").is_null())
        .then(pl.lit(""))
        .otherwise(pl.format(" ×{}", pl.col("strength").round_sig_figs(3)))
    )
    cell = pl.format("{} {} {}{}, {} directions", "kind", series, where, strength, pl.len().over(place))
    return table.with_columns(series=series, cell=pl.when(pooled).then(cell).otherwise(pl.col("condition")))


@per_study
def swept(study: Study, judge: str, kinds: tuple[str, ...]) -> pl.DataFrame:
    """Scored answers of the organisms that answered under such an edit, and of their baselines, by cell."""
    table = described(study).filter(pl.col("kind").is_in([*kinds, "baseline"]))
    rows = _answered(study, judge, kinds)
    edited = table.filter(pl.col("kind") != "baseline")["condition"].to_list()
    rows = own_baselines(rows, edited, study.info.get("baselines") or {})
    named = rows.join(table.select("condition", "cell"), on="condition", how="inner", maintain_order="left")
    return named.with_columns(condition=pl.col("cell"), run=pl.col("condition"))


def _answered(study: Study, judge: str, kinds: tuple[str, ...]) -> pl.DataFrame:
    """The answers of the organisms that answered under such an edit: those, and the unedited ones."""
    frame = responses_of(study, judge)
    table = described(study).filter(pl.col("kind").is_in([*kinds, "baseline"]))
    edited = table.filter(pl.col("kind") != "baseline")["condition"]
    organisms = frame.filter(pl.col("condition").is_in(edited.implode()))["organism"].unique()
    return frame.filter(
        pl.col("organism").is_in(organisms.implode()), pl.col("condition").is_in(table["condition"].implode())
    )


@per_study
def other_lengths(study: Study, judge: str, kinds: tuple[str, ...]) -> int:
    """How many edited answers are left out, being cut at another length than most of their organism."""
    conditions = described(study).filter(pl.col("kind").is_in(kinds))["condition"].implode()
    had = _answered(study, judge, kinds).filter(pl.col("condition").is_in(conditions)).height
    return had - swept(study, judge, kinds).filter(pl.col("run").is_in(conditions)).height


@per_study
def cells(study: Study) -> pl.DataFrame:
    """`described` with one row a cell, in the place of condition."""
    table = described(study).with_columns(condition=pl.col("cell"))
    return table.unique("condition", keep="first", maintain_order=True).drop("cell")


def judged(study: Study, kinds: tuple[str, ...], what: str) -> str:
    """The judge of a page of sweeps. Raises InputError where there is no such sweep or nobody scored it."""
    table = described(study).filter(pl.col("kind").is_in(kinds))
    names = responses_of(study, None)["condition"].unique()
    if not table["condition"].is_in(names.implode()).any():
        raise InputError(
            f"Study {study.name} has no answers under {what}. Sample a sweep with: python -m backend sweep, "
            "judge it and build the study again."
        )
    judge = choose_judge(study)
    if judge is None or not {"aligned", "coherent"} <= set(study.metrics(judge)):
        raise InputError(f"Judge {judge} did not score alignment and coherence: choose another in the sidebar.")
    return judge


def choose_topics(study: Study, judge: str, kinds: tuple[str, ...], page: str) -> tuple[str, ...]:
    """The sets of questions that rates are over. Raises InputError where none is chosen."""
    topics = swept(study, judge, kinds)["topic"].unique(maintain_order=True).sort().to_list()
    chosen = st.multiselect("Questions", topics, default=topics, key=f"{page}_topics", bind="query-params")
    if not chosen:
        raise InputError("No question is left: choose at least one set of questions.")
    return tuple(chosen)


def judged_share(study: Study, judge: str, kinds: tuple[str, ...]) -> str:
    """Who judged, and in words what is left out: answers without a score yet, or cut at another length."""
    frame = swept(study, judge, kinds)
    scored = frame.select((pl.col("aligned").is_not_null() & pl.col("coherent").is_not_null()).sum()).item()
    missing = frame.height - scored
    part = f", {missing / frame.height:.1%} of {frame.height:,} answers without a score and left out" if missing else ""
    beside = study.info.get("baselines") or {}
    cut = {beside[run] for run in frame["run"].unique() if run in beside}
    length = f" Unedited answers are cut to the sweep's length ({', '.join(sorted(cut))})." if cut else ""
    other = other_lengths(study, judge, kinds)
    left = f" {other:,} edited answers of another length are left out." if other else ""
    return f"Judge {plain(judge + part + '.' + length + left)}"


# --- answers side by side -------------------------------------------------------------------------------------------


@per_study
def paired(study: Study, judge: str, kinds: tuple[str, ...], organism: str, cell: str) -> Pairs:
    """The answers of a cell beside the organism's answers without an edit."""
    frame = swept(study, judge, kinds)
    metrics = [name for name in METRICS if name in frame.columns and frame[name].is_not_null().any()]
    return pairs(frame, organism, cell, metrics)


def read_pairs(
    study: Study, judge: str, kinds: tuple[str, ...], topics: Sequence[str], *, organism: str, cell: str, page: str
) -> None:
    """A table of answers with and without the edit; the selected row is read in full below it."""
    found = paired(study, judge, kinds, organism, cell)
    table = found.table.filter(pl.col("topic").is_in(topics)).sort(f"aligned{AFTER}", nulls_last=True)
    if not table.height:
        st.info("No answer to these questions under this edit.")
        return
    metrics = [name for name in METRICS if f"{name}{AFTER}" in table.columns]
    event = st.dataframe(
        table.head(MOST_ROWS).select(
            "question_id",
            f"text{BEFORE}",
            f"text{AFTER}",
            *(f"{metric}{side}" for metric in metrics[:2] for side in (BEFORE, AFTER)),
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
    st.caption(_turned(Pairs(table, found.seeded)))
    chosen = (event["selection"]["rows"] or [0])[0]
    _side_by_side(table.row(min(chosen, table.height - 1), named=True), metrics, organism, cell)


def _turned(found: Pairs) -> str:
    """How many pairs the edit turned, in words."""
    both, after, before, neither = found.turned()
    scored = both + after + before + neither
    how = "question and seed" if found.seeded else "question and rank (no seed is shared)"
    cut = f" The table shows the first {MOST_ROWS:,}." if found.table.height > MOST_ROWS else ""
    return (
        f"{found.table.height:,} answers, least aligned first, {found.complete:,} with a partner of equal {how}. "
        f"Of the {scored:,} pairs with all scores, {after} are misaligned only under the edit, {before} only without, "
        f"{both} in both.{cut}"
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
            help="Live adds and ablates one direction: this edit is another, or its vector is not held.",
            width="stretch",
        )
        return
    stack, layer, strength, place = found
    if st.button("Send to Live", key=key, type="primary", icon=":material/send:", width="stretch"):
        send_direction(stack, layer, strength=strength, place=place, organism=organism)


def edit_of(study: Study, cell: str) -> tuple[Stack, int, float | None, str] | None:
    """What a cell did, for Live: directions by layer, the layer, the strength (None: ablated) and where.

    None where the study holds no vector of it, or where it is no single direction. Of several seeds it is the first's.
    """
    row = described(study).filter(pl.col("cell") == cell).row(0, named=True)
    edits = [edit for edit in study.condition(row["condition"]).edits if isinstance(edit, Add | Ablate)]
    if row["kind"] not in ("steer", "ablate"):
        return None
    stack = dict(study_stacks(study).get(row["direction"], {}))
    if not edits:  # an imported condition: its record names the direction
        places = [layer for layer in stack if row["layer"] is None or layer == row["layer"]]
        place = OWN if len(places) == 1 else WISE
        return (stack, places[len(places) // 2], row["strength"], place) if places else None
    own = {edit.direction.layer: edit.direction for edit in edits}
    if len(own) < len(edits):
        return None
    first = edits[len(edits) // 2]
    strength = first.strength if isinstance(first, Add) else None
    place = WISE if len(edits) > 1 else OWN if first.layers == (first.direction.layer,) else ALL
    return {**stack, **own}, first.direction.layer, strength, place
