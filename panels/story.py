"""The story on the page: its claims as cards, and the figure of each with the way to the page behind it.

It refuses to know how a claim is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl
import streamlit as st

from backend.analysis.conditions.controls import ITSELF
from backend.charts.four_cells import cell_chart
from backend.charts.projections import layer_chart
from backend.charts.shares import rate_chart
from backend.charts.story import Card, Part, bar_chart, cards_html
from backend.charts.tells_and_causes import effect_chart
from backend.charts.tradeoffs import heat_chart, series_legend, strength_chart
from backend.charts.transfer import before_after_chart
from backend.outcomes import Outcome
from backend.records import BASELINE
from backend.study import Study
from backend.tables.claims import MISSING, STEPS, Claim, Evidence, Material, called, percent, points, told_outcomes
from backend.tables.rates import drawn_by
from backend.tables.story import story
from backend.tables.story_edits import BY_LAYER
from panels.asked import page_link
from panels.frame import per_study, plain, responses_of, said_of_drawn

TITLES = {
    "responses": "Responses",
    "convergence": "Convergence",
    "steering": "Steering",
    "ablation": "Ablation & transfer",
    "specialisation": "Specialisation",
    "scaled_adapters": "Scaled adapters",
}
ANCHOR = "story-{}"


@per_study
def _evidence(study: Study, judge: str) -> Evidence:
    """What the stories of a study are told from."""
    return Evidence(study, judge, responses_of(study, judge))


@per_study
def claims_of(study: Study, judge: str, outcome: Outcome) -> list[Claim]:
    """The claims of one outcome, in order; none where the study has the base alone."""
    return story(Material(_evidence(study, judge), outcome))


def show_story(study: Study, judge: str, outcome: Outcome) -> list[list[Claim]]:
    """The claims as cards; gives them."""
    every = [claims_of(study, judge, each) for each in told_outcomes(_evidence(study, judge), outcome)]
    told = [claims for claims in every if claims]
    if not told:
        by = drawn_by(study, judge)
        why = said_of_drawn(by) if by else "holds scores of no organism beside the base, so there is no story to tell."
        st.info(f"{plain(judge)} {why}" if by else f"{plain(study.name)} {why}")
        return told
    named = ", then ".join(plain(called(claims[0].outcome)) for claims in told)
    st.caption(
        f"The paper's argument in six steps, of {named}; judge {plain(judge)}. A bar is a 95 % interval; "
        ":orange[●] what the step is about, :gray[●] without an edit or of others, :blue[●] controls. Figures follow."
    )
    cards = []
    for at, (step, title) in enumerate(STEPS.items()):
        parts = [_part(claims[at], alone=len(told) == 1) for claims in told]
        cards.append(Card(title, ANCHOR.format(step), parts))
    st.html(cards_html(cards))
    return told


def _part(claim: Claim, *, alone: bool) -> Part:
    name = "" if alone else called(claim.outcome)
    return Part(name[:1].upper() + name[1:], claim.verdict, claim.said, claim.figure, claim.bars)


def show_figures(study: Study, told: Sequence[Sequence[Claim]]) -> None:
    """The figure of every step, with what it says, what it is of, and the page behind it."""
    for at, (step, title) in enumerate(STEPS.items()):
        st.subheader(f"{at + 1}. {title}", anchor=ANCHOR.format(step))
        for claims in told:
            claim = claims[at]
            name = f"**{plain(called(claim.outcome))}.** " if len(told) > 1 else ""
            st.markdown(f"{name}{plain(claim.said)}")
            if claim.verdict == MISSING:
                continue
            FIGURES[step](study, claim)
            st.caption(plain(claim.about) + ".")
            page_link(claim.page, f"{TITLES[claim.page]}, in this state", claim.query)


def _key(claim: Claim, what: str = "") -> str:
    return f"story_{claim.step}_{claim.outcome.name}{what}"


def _draw_organism(study: Study, claim: Claim) -> None:
    rows = claim.table.filter(metric=claim.outcome.name)
    share = (100 * pl.col("value")).round(1)
    text = pl.format("{}% ({}/{}, {} questions)", share, "hits", "n", "clusters")
    rows = rows.with_columns(text=text)
    organisms = study.organisms()["organism"].to_list()
    chart = rate_chart(rows, title=f"share of answers: {claim.outcome.kinds[1]}", organisms=organisms)
    st.altair_chart(chart, key=_key(claim), alt=claim.said)


def _draw_direction(study: Study, claim: Claim) -> None:
    left, right = st.columns([3, 2])
    share = claim.table["share"].null_count() < claim.table.height
    table = claim.table.select("layer", value="share" if share else "norm").drop_nulls("value")
    title = "Norm / activation norm" if share else "Norm"
    chart = layer_chart(table, title=title, chosen=int(str(claim.query["convergence_layer"])))
    left.altair_chart(chart, key=_key(claim), alt=f"{title} at every layer")
    if claim.bars.height:
        chart = bar_chart(claim.bars, title="share of the norm, AUC, cosine", chance=0.0)
        right.altair_chart(chart, key=_key(claim, "_beside"), alt=claim.said)


def _draw_added(_: Study, claim: Claim) -> None:
    edited = claim.table.filter(pl.col("kind") == "steer", pl.col("n") > 0)
    edited = edited.sort(pl.col("direction") != claim.subject, maintain_order=True)
    own = edited.filter(direction=claim.subject)
    words = {claim.outcome.name: claim.outcome.kinds[1]} | {gate.name: gate.name for gate in claim.outcome.beside[1:]}
    unit = min(
        (name for name in ("strength", "relative") if own[name].null_count() == 0),
        key=lambda name: own[name].round_sig_figs(3).n_unique(),
        default="strength",
    )
    kinds = dict(edited.select("series", "role").iter_rows())
    if claim.drawn != BY_LAYER:
        st.html(series_legend(list(kinds), kinds))
    for column, (metric, title) in zip(st.columns(len(words)), words.items(), strict=True):
        rows = own.filter(metric=metric) if claim.drawn == BY_LAYER else edited.filter(metric=metric)
        if rows.is_empty():
            continue
        without = claim.table.filter(cell=BASELINE, metric=metric)
        if claim.drawn == BY_LAYER:
            most = 1.0 if metric != claim.outcome.name else max(float(rows["value"].max() or 0), 0.05)  # type: ignore[arg-type]
            drawn = heat_chart(rows.with_columns(mark=pl.lit("")), metric=metric, x=unit, title=title, most=most)
        else:
            drawn = strength_chart(
                rows,
                title=title,
                x=unit,
                baseline=without["value"][0] if without.height else None,
                roles={name: kind or ITSELF for name, kind in kinds.items()},
                height=250,
            )
        column.altair_chart(drawn, key=_key(claim, f"_{metric}"), alt=f"{title}: {claim.said}")


def _draw_removed(_: Study, claim: Claim) -> None:
    rows = claim.table.filter(metric=claim.outcome.name)
    own = pl.col("direction") == claim.subject
    rows = rows.sort(~own, pl.col("role") != ITSELF, maintain_order=True).head(MOST_LANES)
    lanes = [f"{row['series']} · {row['way']}" + _to(row["to"]) for row in rows.iter_rows(named=True)]
    notes = [
        f"{percent(row['before'])} → {percent(row['after'])}, n = {row['n_after']}, "
        f"{points(row['difference'], row['low'], row['high'])}"
        for row in rows.iter_rows(named=True)
    ]
    table = rows.with_columns(lane=pl.Series(lanes, dtype=pl.String), note=pl.Series(notes, dtype=pl.String))
    table = table.unique("lane", keep="first", maintain_order=True)
    chart = before_after_chart(table, title=f"share of answers: {claim.outcome.kinds[1]}")
    st.altair_chart(chart, key=_key(claim), alt=claim.said)


def _to(to: str | None) -> str:
    return "" if to in (None, "zero") else f" to {to}"


MOST_LANES = 8  # ablations drawn in the story; their page has all


def _draw_adapters(_: Study, claim: Claim) -> None:
    known = claim.table.drop_nulls("change")
    left, right = st.columns(2)
    if known.height:
        chart = effect_chart(known, title=f"change of {called(claim.outcome)} when zeroed")
        left.altair_chart(chart, key=_key(claim), alt=claim.said)
    told = claim.table.drop_nulls("auc")
    if told.height:
        bars = told.select(
            lane="label",
            kind=pl.lit("claim"),
            value="auc",
            low="auc_low",
            high="auc_high",
            n=pl.lit(None, pl.Int64),
            note=pl.lit(""),
        )
        chart = bar_chart(bars, title=f"AUC of the scalar alone: {claim.outcome.kinds[1]}", chance=0.5)
        (right if known.height else left).altair_chart(chart, key=_key(claim, "_auc"), alt=claim.said)


def _draw_subsets(_: Study, claim: Claim) -> None:
    if claim.drawn == "cells":
        st.altair_chart(cell_chart(claim.table), key=_key(claim), alt=claim.said)
    groups = claim.bars.filter(kind="beside")
    if groups.height:
        chart = bar_chart(
            groups.with_columns(note=pl.lit("")), title=f"{called(claim.outcome)} with a group zeroed or kept"
        )
        st.altair_chart(chart, key=_key(claim, "_groups"), alt=claim.said)


FIGURES: dict[str, Callable[[Study, Claim], None]] = {
    "organism": _draw_organism,
    "direction": _draw_direction,
    "added": _draw_added,
    "removed": _draw_removed,
    "adapters": _draw_adapters,
    "subsets": _draw_subsets,
}
