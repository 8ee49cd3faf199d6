"""The figure of each step of the story, as Vega-Lite reads it: Altair takes 50 ms to check one, so it is made once.

It refuses to know the page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from backend.analysis.conditions.controls import ITSELF
from backend.charts.four_cells import cell_chart
from backend.charts.pick import Drawn
from backend.charts.projections import layer_chart
from backend.charts.shares import rate_chart
from backend.charts.story import bar_chart
from backend.charts.tells_and_causes import effect_chart
from backend.charts.tradeoffs import heat_chart, series_legend, strength_chart
from backend.charts.transfer import before_after_chart
from backend.records import BASELINE
from backend.tables.claims import Claim, called, percent, points, unit_of_strength
from backend.tables.story_edits import BY_LAYER

MOST_LANES = 4  # ways of ablation drawn in the story, and controls; their page has all


@dataclass(frozen=True, eq=False)
class Drawing:
    """One chart of a figure."""

    name: str
    spec: dict[str, Any]
    alt: str


@dataclass(frozen=True, eq=False)
class Figure:
    """Rows of charts that stand beside each other, and the legend that they share as HTML."""

    rows: Sequence[Sequence[Drawing]]
    legend: str = ""


def figure(claim: Claim, organisms: Sequence[str]) -> Figure:
    """The figure of a claim that has data; `organisms` are all of the study, for their colours."""
    return _FIGURES[claim.step](claim, organisms)


def _drawing(name: str, chart: Drawn, alt: str) -> Drawing:
    return Drawing(name, chart.to_dict(), alt)


def _organism(claim: Claim, organisms: Sequence[str]) -> Figure:
    rows = claim.table.filter(metric=claim.outcome.name)
    share = (100 * pl.col("value")).round(1)
    rows = rows.with_columns(text=pl.format("{}% ({}/{}, {} questions)", share, "hits", "n", "clusters"))
    chart = rate_chart(rows, title=f"share of answers: {claim.outcome.kinds[1]}", organisms=organisms)
    return Figure([[_drawing("rates", chart, claim.said)]])


def _direction(claim: Claim, _: Sequence[str]) -> Figure:
    share = claim.table["share"].null_count() < claim.table.height
    table = claim.table.select("layer", value="share" if share else "norm").drop_nulls("value")
    title = "Norm / activation norm" if share else "Norm"
    chart = layer_chart(table, title=title, chosen=int(str(claim.query["convergence_layer"])))
    row = [_drawing("layers", chart, f"{title} at every layer")]
    if claim.bars.height:
        beside = bar_chart(claim.bars, title="share of the norm, AUC, cosine", chance=0.0)
        row.append(_drawing("beside", beside, claim.said))
    return Figure([row])


def _added(claim: Claim, _: Sequence[str]) -> Figure:
    edited = claim.table.filter(pl.col("kind") == "steer", pl.col("n") > 0)
    edited = edited.sort(pl.col("direction") != claim.subject, maintain_order=True)
    own = edited.filter(direction=claim.subject)
    by_layer = claim.drawn == BY_LAYER
    words = {claim.outcome.name: claim.outcome.kinds[1]} | {gate.name: gate.name for gate in claim.outcome.beside[1:]}
    unit = unit_of_strength(own)
    kinds = {name: kind or ITSELF for name, kind in edited.select("series", "role").iter_rows()}
    row = []
    for metric, title in words.items():
        rows = (own if by_layer else edited).filter(metric=metric)
        if rows.is_empty():
            continue
        if by_layer:
            values = [value for value in rows["value"].to_list() if value is not None]
            most = max([*values, 0.05]) if metric == claim.outcome.name else 1.0
            chart = heat_chart(rows.with_columns(mark=pl.lit("")), metric=metric, x=unit, title=title, most=most)
        else:
            without = claim.table.filter(cell=BASELINE, metric=metric)["value"].to_list()
            baseline = without[0] if without else None
            chart = strength_chart(rows, title=title, x=unit, baseline=baseline, roles=kinds, height=250)
        row.append(_drawing(metric, chart, f"{title}: {claim.said}"))
    return Figure([row] if row else [], "" if by_layer else series_legend(list(kinds), kinds))


def _removed(claim: Claim, _: Sequence[str]) -> Figure:
    rows = claim.table.filter(metric=claim.outcome.name)
    own = pl.col("direction") == claim.subject
    rows = pl.concat([rows.filter(own).head(MOST_LANES), rows.filter(~own, pl.col("role") != ITSELF).head(MOST_LANES)])
    lanes, notes = [], []
    for row in rows.iter_rows(named=True):
        to = "" if row["to"] in (None, "zero") else f" to {row['to']}"
        lanes.append(f"{row['series']} · {row['way']}{to}")
        change = points(row["difference"], row["low"], row["high"])
        notes.append(f"{percent(row['before'])} → {percent(row['after'])}, n = {row['n_after']}, {change}")
    named = rows.with_columns(lane=pl.Series(lanes, dtype=pl.String), note=pl.Series(notes, dtype=pl.String))
    table = named.unique("lane", keep="first", maintain_order=True)
    chart = before_after_chart(table, title=f"share of answers: {claim.outcome.kinds[1]}")
    return Figure([[_drawing("bars", chart, claim.said)]])


def _adapters(claim: Claim, _: Sequence[str]) -> Figure:
    row = []
    known = claim.table.drop_nulls("change")
    if known.height:
        chart = effect_chart(known, title=f"change of {called(claim.outcome)} when zeroed")
        row.append(_drawing("effects", chart, claim.said))
    told = claim.table.drop_nulls("auc")
    if told.height:
        ends = {"value": "auc", "low": "auc_low", "high": "auc_high"}
        bars = told.select(lane="label", kind=pl.lit("claim"), **ends, n=pl.lit(None, pl.Int64), note=pl.lit(""))
        alone = bar_chart(bars, title=f"AUC of the scalar alone: {claim.outcome.kinds[1]}", chance=0.5)
        row.append(_drawing("auc", alone, claim.said))
    return Figure([row] if row else [])


def _subsets(claim: Claim, _: Sequence[str]) -> Figure:
    rows = []
    if claim.drawn == "cells":
        rows.append([_drawing("cells", cell_chart(claim.table), claim.said)])
    groups = claim.bars.filter(kind="beside")
    if groups.height:
        title = f"{called(claim.outcome)} with a group zeroed or kept"
        rows.append([_drawing("groups", bar_chart(groups, title=title), claim.said)])
    return Figure(rows)


_FIGURES: dict[str, Callable[[Claim, Sequence[str]], Figure]] = {
    "organism": _organism,
    "direction": _direction,
    "added": _added,
    "removed": _removed,
    "adapters": _adapters,
    "subsets": _subsets,
}
