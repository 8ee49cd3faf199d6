"""What a rate hangs on as charts: the cuts of the scores, single questions, how often one asks.

Takes the tables of backend/analysis/rates/robustness.py and draws them.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from backend.charts.narrow import columns_of, lane_axis
from backend.charts.palette import CHOSEN, NEUTRAL, POSITIVE, cut_scale

HEIGHT, LANE, FURNITURE = 250, 22, 60  # pixels
_SHARES = [alt.Tooltip(f"{name}:Q", format=".1%") for name in ("value", "low", "high")]


def cuts_chart(table: pl.DataFrame, *, title: str, metric: str, gate: str | None) -> alt.LayerChart:
    """A rate, or a difference, by the cut on `metric`: one line a cut on `gate`, the outcome's own ringed.

    `table` is of `rates_over_cuts` or `differences_over_cuts`. The interval is drawn around the line of the outcome's
    own gate; a dashed line is at zero, where there are differences.
    """
    own_gate = table.filter(pl.col("own"))["gate"].to_list()
    rows = table.with_columns(
        line=pl.lit(title) if gate is None else pl.format(f"{gate} > {{}}", pl.col("gate").round(1).cast(pl.String)),
        banded=pl.lit(True) if gate is None else pl.col("gate").is_in(own_gate),
    )
    lines = rows["line"].unique(maintain_order=True).to_list()
    signed = bool((rows["value"].fill_null(0) < 0).any()) or "clear" in rows.columns
    y = alt.Y("value:Q", title=title, axis=alt.Axis(format="+%" if signed else "~%", tickCount=6))
    x = alt.X("cut:Q", title=f"cut on {metric}", scale=alt.Scale(nice=False, zero=False), axis=alt.Axis(tickCount=7))
    colour = alt.Color(
        "line:N", scale=cut_scale(lines), legend=alt.Legend(title=None, orient="top", columns=columns_of(lines, 3))
    )
    base = alt.Chart(rows).encode(x=x, color=colour, tooltip=["cut:Q", "line:N", *_SHARES])
    band = base.transform_filter("datum.banded").mark_area(opacity=0.18)
    layers: list[alt.Chart] = [
        band.encode(y=alt.Y("low:Q", title=title), y2="high:Q"),
        base.mark_line(strokeWidth=2).encode(y=y),
        base.mark_point(filled=True, size=28, opacity=1).encode(y=y),
        alt.Chart(rows.filter(pl.col("own"))).mark_point(size=210, strokeWidth=2.5, color=CHOSEN).encode(x=x, y=y),
    ]
    if signed:
        zero = alt.Chart(pl.DataFrame({"value": [0.0]})).mark_rule(color=NEUTRAL, strokeDash=[4, 3])
        layers.insert(0, zero.encode(y=y))
    return alt.layer(*layers).properties(height=HEIGHT)


def without_chart(table: pl.DataFrame, *, title: str, whole: float) -> alt.LayerChart:
    """The rate without each question and its interval; the dashed line is the rate over all.

    `table` is of `without_each_question`; rows keep their order.
    """
    axis = lane_axis(table["question_id"])
    base = alt.Chart(table).encode(
        y=alt.Y("question_id:N", sort=table["question_id"].to_list(), title=None, axis=axis),
        tooltip=["question_id:N", *_SHARES, alt.Tooltip("own:Q", title="rate of this question", format=".1%")],
    )
    x = alt.X("value:Q", title=title, axis=alt.Axis(format="~%", tickCount=6), scale=alt.Scale(zero=True))
    return alt.layer(
        alt.Chart(pl.DataFrame({"value": [whole]})).mark_rule(color=NEUTRAL, strokeDash=[4, 3]).encode(x=x),
        base.mark_rule(strokeWidth=2, opacity=0.6, color=POSITIVE).encode(x=alt.X("low:Q", title=title), x2="high:Q"),
        base.mark_point(filled=True, size=70, opacity=1, color=POSITIVE).encode(x=x),
    ).properties(height=LANE * table.height + FURNITURE)


def at_least_once_chart(table: pl.DataFrame, *, title: str) -> alt.LayerChart:
    """How often one of k answers to a question is a hit. `table` is of `at_least_once`."""
    base = alt.Chart(table).encode(
        x=alt.X(
            "k:Q", title="answers to a question", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(tickCount=5)
        ),
        y=alt.Y("value:Q", title=title, axis=alt.Axis(format="~%", tickCount=5), scale=alt.Scale(zero=True)),
        tooltip=["k:Q", alt.Tooltip("value:Q", format=".1%"), "questions:Q"],
    )
    layers = base.mark_line(color=POSITIVE), base.mark_point(filled=True, size=50, opacity=1, color=POSITIVE)
    return alt.layer(*layers).properties(height=HEIGHT)
