"""Steering: what adding a direction does to misalignment and coherence, by layer and strength, beside its controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import streamlit as st

from backend.analysis.conditions.controls import GOOD, ITSELF, RANDOM
from backend.analysis.rates.families import of_family
from backend.charts.tradeoffs import heat_chart, series_legend, strength_chart, tradeoff_chart
from backend.outcomes import EM, Outcome
from backend.records import BASE, BASELINE, InputError
from backend.study import Study
from backend.tables.claims import called
from backend.tables.sweeps import STEERED, steered
from panels.asked import choose_linked, spelled
from panels.corrected_rates import by_cells, show_with_correction
from panels.frame import current_study, explained, per_study, plain
from panels.opening import opening
from panels.point import choosing_chart
from panels.sweeps import asked, choose_swept, choose_topics, judged_share, read_pairs, send_cell, short, swept, titles

UNITS = {"λ": "strength", "relative": "relative"}  # what a link says, and the column
MOST_INTERVALS = 60  # dots of a trade-off past which intervals would hide them
PICKED = "steering_condition"
PICKS = {"cell": PICKED}  # what a clicked point chooses


@per_study
def _rates(study: Study, judge: str, outcome: Outcome, topics: tuple[str, ...], baseline: str | None) -> pl.DataFrame:
    """Rates by organism and cell, with what the cell did, and of the outcome whether it left the baseline."""
    return steered(swept(study, judge, STEERED, baseline), topics, outcome)


def _choose_organism(table: pl.DataFrame) -> str:
    """Who was steered: the base where it was."""
    steered = table.filter(pl.col("kind") == "steer")["organism"].unique(maintain_order=True).to_list()
    start = steered.index(BASE) if BASE in steered else 0
    key = "steering_organism"
    return str(choose_linked(st.selectbox, "Who was steered", steered, index=start, key=key, what="organism"))


def choose_unit(steered: pl.DataFrame) -> str:
    """The unit of strengths, of those that are known."""
    known = [unit for unit, column in UNITS.items() if steered[column].is_not_null().any()]
    units = sorted(known, key=lambda unit: steered[UNITS[unit]].round_sig_figs(3).n_unique())  # that of the grid first
    text = (
        "λ multiplies the raw vector, as in the paper; relative: the norm of what is added, as a share of the mean "
        "activation norm there."
    )
    chosen = st.segmented_control(
        "Strength",
        units,
        default=units[0],
        required=True,
        key="steering_unit",
        bind="query-params",
        help=text,
    )
    return UNITS[str(chosen)]


def _choose_cell(here: pl.DataFrame, outcome: Outcome) -> str:
    """The point whose answers are read: by default the direction's that has most hits."""
    hits = here.filter(pl.col("metric") == outcome.name).sort(
        pl.col("role") != ITSELF, "value", descending=[False, True], nulls_last=True, maintain_order=True
    )
    options = here["cell"].unique(maintain_order=True).to_list()
    start = options.index(hits["cell"][0])
    return str(choose_linked(st.selectbox, "Point", options, index=start, key=PICKED, what="point"))


def show_heat(here: pl.DataFrame, outcome: Outcome, unit: str, chosen: str) -> None:
    """Rates by layer and strength of one direction, its random controls beside it on the same scale."""
    spread = here.group_by("series", maintain_order=True).agg(pl.col("layer").n_unique(), pl.col("role").first())
    wide = spread.filter(pl.col("layer") > 1).sort(pl.col("role") != ITSELF, maintain_order=True)["series"].to_list()
    if not wide:
        return
    st.subheader("By layer and strength")
    series = choose_linked(st.selectbox, "Direction", wide, key="steering_series", what="direction")
    own = here.filter(pl.col("series") == series)
    beside = here.filter((pl.col("like") == series) & (pl.col("role") == RANDOM) & (pl.col("series") != series))
    hits, controls = (
        rows.filter(pl.col("metric") == outcome.name).with_columns(mark=marks()) for rows in (own, beside)
    )
    most = max(float(pl.concat([hits, controls])["value"].max() or 0), 0.05)  # type: ignore[arg-type]
    words = short(outcome)
    drawn = [(outcome.name, words[outcome.name], hits, most)]
    if controls["layer"].n_unique() > 1:
        drawn.append((outcome.name, f"{called(outcome)}, random directions", controls, most))
    for gate in outcome.beside[1:]:
        passed = own.filter(pl.col("metric") == gate.name).with_columns(mark=pl.lit(""))
        drawn.append((gate.name, words[gate.name], passed, 1.0))
    for at, (column, (metric, title, rows, top)) in enumerate(zip(st.columns(len(drawn)), drawn, strict=True)):
        chart = heat_chart(rows, metric=metric, x=unit, title=title, most=top, chosen=chosen)
        with column:
            choosing_chart(chart, key=f"steering_heat_{at}", alt=f"{title} by layer and strength", sets=PICKS)
    st.caption(
        f"{_told(hits, 'this direction')}{_told(controls, 'its random controls')} ▲ more {plain(called(outcome))} than "
        "without the edit, ▼ less, of all steered cells after correction; △ ▽ clear alone, not after it (95 %, paired "
        "by question); no mark: neither."
    )


def marks() -> pl.Expr:
    """A mark on cells that differ from the baseline: filled where they do among all cells, hollow where alone."""
    alone, stands = (pl.col(name).fill_null(False) for name in ("clear", "stands"))
    up = pl.when(stands).then(pl.lit("▲")).when(alone).then(pl.lit("△"))
    down = pl.when(stands).then(pl.lit("▼")).when(alone).then(pl.lit("▽"))
    return pl.when(pl.col("difference") > 0).then(up.otherwise(pl.lit(""))).otherwise(down.otherwise(pl.lit("")))


def _told(hits: pl.DataFrame, whose: str) -> str:
    """How many cells differ, and the largest rate with n and interval, in words."""
    known = hits.drop_nulls("value")
    if not known.height:
        return ""
    above = known.filter(pl.col("difference") > 0)
    alone, stand = (above.filter(pl.col(name).fill_null(False)).height for name in ("clear", "stands"))
    row = known.sort("value", descending=True).row(0, named=True)
    share = "" if row["relative"] is None else f" ({row['relative']:.0%} of the activation norm)"
    return (
        f"Of {known.height} cells of {whose}, {alone} are above the baseline alone, {stand} after correction; the most "
        f"is {row['value']:.1%} ({row['low']:.1%}–{row['high']:.1%}, n = {row['n']}) at layer {row['layer']}, λ "
        f"{row['strength']:.3g}{share}. "
    )


def counted(sizes: pl.Series) -> str:
    """The least and the largest of some n, in words."""
    known = sizes.filter(sizes > 0).to_list() or [0]
    low, high = min(known), max(known)
    return f"{low}" if low == high else f"{low} to {high}"


def show_strengths(here: pl.DataFrame, outcome: Outcome, baseline: Callable[[str], float | None], unit: str) -> None:
    """Rates by strength at one layer, controls dashed."""
    st.subheader("By strength")
    left, right = st.columns([2, 2], vertical_alignment="bottom")
    places = (
        here.filter(pl.col("metric") == outcome.name)
        .group_by("layers")
        .agg(pl.col("series").n_unique(), pl.col("value").max(), pl.col("layer").first())
    )
    ordered = places.sort("layer", nulls_last=True)["layers"].to_list()
    most = places.sort("series", "value", descending=True)["layers"][0]
    start = ordered.index(most)
    place = choose_linked(left.selectbox, "Added after block", ordered, index=start, key="steering_layer", what="block")
    metrics = here["metric"].unique(maintain_order=True).to_list()
    drawn, words = list(short(outcome)), titles(outcome)
    other = [metric for metric in metrics if metric not in drawn]
    label = "Third rate" if len(drawn) > 1 else "Second rate"
    spell = spelled("steering_rate", words.__getitem__)
    more = right.selectbox(label, other, format_func=spell, key="steering_rate", bind="query-params")
    drawn += [more] if more else []
    rows = here.filter(pl.col("layers") == place)
    kinds = dict(rows.select("series", "role").iter_rows())
    st.html(series_legend(list(kinds), kinds))
    for column, metric in zip(st.columns(len(drawn)), drawn, strict=True):
        points = rows.filter((pl.col("metric") == metric) & (pl.col("n") > 0))
        chart = strength_chart(
            points, title=(words | short(outcome))[metric], x=unit, baseline=baseline(metric), roles=kinds
        )
        with column:
            choosing_chart(chart, key=f"steering_rates_{metric}", alt=f"{words[metric]} by strength", sets=PICKS)
    dropped = rows.filter(pl.col("metric") == outcome.name).select(pl.col("dropped").max()).item() or 0
    st.caption(
        "Shares of the answers with the scores a rate needs; bars are 95 % intervals for questions like these, the "
        f"dashed grey line is no edit, dashed coloured ones are controls. n = {counted(rows['n'])} answers a point."
        + (
            f" Behind a point up to {dropped} answers have no number for "
            f"{'alignment' if outcome == EM else plain(' or '.join(outcome.needs))} and are left out, as in the paper: "
            "the tooltip counts them."
            if dropped
            else ""
        )
    )


def show_tradeoff(here: pl.DataFrame, outcome: Outcome, baseline: Callable[[str], float | None], chosen: str) -> None:
    """Hits against what passes the gate, every cell a dot; nothing where the outcome has no gate."""
    if len(outcome.beside) < 2:
        return
    st.subheader("What it costs in coherence")
    hit, gate = (each.name for each in outcome.beside)
    key = ["cell", "series", "role", "layers", "strength"]
    hits, passed = (
        here.filter(pl.col("metric") == metric).select(
            *key, pl.col("value").alias(side), *(pl.col(part).alias(f"{side}_{part}") for part in ("low", "high", "n"))
        )
        for metric, side in ((hit, "hit"), (gate, "gate"))
    )
    table = hits.join(passed, on=key, nulls_equal=True, maintain_order="left").drop_nulls(["hit", "gate"])
    table = table.sort(pl.col("role") == ITSELF, "strength", maintain_order=True)
    up, across = baseline(hit), baseline(gate)
    kinds = dict(table.select("series", "role").iter_rows())
    st.html(series_legend(list(kinds), kinds))
    chart = tradeoff_chart(
        table,
        names=(hit, gate),
        title=f"{outcome.kinds[1]} answers{' (EM)' if outcome == EM else ''}",
        baseline=None if up is None or across is None else {"hit": up, "gate": across},
        roles=kinds,
        chosen=chosen,
        crowded=table.height > MOST_INTERVALS,
    )
    rising = "misaligns it" if outcome == EM else f"brings {plain(outcome.title)}"
    choosing_chart(
        chart, key="steering_tradeoff", alt=f"{outcome.kinds[1].capitalize()} against {gate} answers", sets=PICKS
    )
    st.caption(
        "Every dot is a point of the sweep, "
        f"{'those of the chosen block ' if table.height > MOST_INTERVALS else ''}linked in order of strength; the "
        f"diamond is no edit. n = {counted(table['hit_n'])} answers a dot"
        f"{', intervals are in the tooltips' if table.height > MOST_INTERVALS else ''}. A direction that only breaks "
        f"the model runs to the left along the bottom; one that {rising} rises first."
    )


def _show(study: Study) -> None:
    """The page, once there is a sweep."""
    judge, outcome = asked(study, STEERED, "an added direction")
    sweep, against = choose_swept(study, judge, STEERED, "steering")
    first, second, third = st.columns([3, 2, 2], vertical_alignment="bottom")
    with first:
        topics = choose_topics(study, sweep, "steering")
    table = _rates(study, judge, outcome, topics, against)
    if not (table["kind"] == "steer").any():
        raise InputError(
            f"Judge {judge} scored no steered answer of the length that unedited ones are compared at: choose another "
            "judge in the sidebar."
        )
    with second:
        organism = _choose_organism(table)
    own = table.filter(pl.col("organism") == organism)
    here = own.filter(pl.col("kind") == "steer")
    with third:
        unit = choose_unit(here)
    without = {row["metric"]: row for row in own.filter(pl.col("cell") == BASELINE).iter_rows(named=True)}

    def baseline(metric: str) -> float | None:
        return without[metric]["value"] if metric in without else None

    st.caption(
        f"{judged_share(judge, outcome, sweep)} {told_baseline(outcome, organism, without)} "
        f"{of_family(table.filter(pl.col('metric') == outcome.name), 'steered cells')} {missing(here)}"
    )
    above = st.container()
    st.subheader("The answers behind a point")
    chooser, sender = st.columns([3, 1], vertical_alignment="bottom")
    with chooser:
        chosen = _choose_cell(here, outcome)
    with sender:
        send_cell(study, organism, chosen, key="steering_send")
    with above:
        show_heat(here, outcome, unit, chosen)
        show_strengths(here, outcome, baseline, unit)
        show_tradeoff(here, outcome, baseline, chosen)
        counted = sweep.about(topics).filter(pl.col("organism") == organism)
        show_with_correction(study, judge, outcome, by_cells(counted), key="steering_labels")
    read_pairs(sweep, outcome, topics, organism=organism, cell=chosen, page="steering")


def told_baseline(outcome: Outcome, organism: str, without: dict[str, dict[str, Any]]) -> str:
    """The rate without any edit, with n and interval, in words."""
    if outcome.name not in without:
        return f"{plain(organism)} has no scored answers without an edit, so nothing is compared with them."
    row = without[outcome.name]
    return (
        f"Without an edit {row['value']:.1%} of {plain(organism)}'s answers are {plain(outcome.kinds[1])} "
        f"({row['low']:.1%}–{row['high']:.1%}, n = {row['n']})."
    )


def missing(here: pl.DataFrame) -> str:
    """The controls that this sweep lacks, in words."""
    lacking = [kind for kind in (RANDOM, GOOD) if not (here["role"] == kind).any()]
    return f"No control of this kind in the sweep: {', '.join(lacking)}." if lacking else ""


study = current_study()
opening(
    "Steering",
    "Does adding a direction bring the behaviour, more than its controls do, and at what cost?",
    study,
    "added",
)
with explained():
    _show(study)
