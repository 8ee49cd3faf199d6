"""Adapter scalars in two classes as charts: their distribution, their course along an answer, how far they tell.

Takes tables and draws them. It refuses to know how the classes were chosen.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from backend.charts.palette import CHOSEN, NEUTRAL, POSITIVE, class_scale

ROW = 24  # pixels of height an adapter gets
FURNITURE = 60  # pixels that the axis takes


def distribution_chart(histogram: pl.DataFrame, *, positive: str, negative: str, title: str) -> alt.Chart:
    """The density of one adapter's scalar over tokens, one area a class.

    `histogram` has the columns side (one of the two names), low, high, n, density.
    """
    return (
        alt.Chart(
            histogram.with_columns(middle=(pl.col("low") + pl.col("high")) / 2),
            title=alt.Title(title, fontSize=12, anchor="start"),
            height=130,
        )
        .mark_area(interpolate="step", opacity=0.38, line={"strokeWidth": 1.4})
        .encode(
            x=alt.X("middle:Q", title=None, axis=alt.Axis(tickCount=5, grid=False), scale=alt.Scale(nice=False)),
            y=alt.Y("density:Q", title=None, axis=None, stack=None),
            color=alt.Color("side:N", scale=class_scale(positive, negative), legend=None),
            tooltip=[
                alt.Tooltip("side:N"),
                alt.Tooltip("low:Q", format=".2f"),
                alt.Tooltip("high:Q", format=".2f"),
                alt.Tooltip("n:Q", title="tokens"),
            ],
        )
    )


def position_chart(table: pl.DataFrame, *, positive: str, negative: str, part: str) -> alt.LayerChart:
    """The mean scalar along the answer with its interval, one line a class.

    `table` has the columns label (a class), part, place, mean, low, high, n; `part` is "token" or "share".
    """
    rows = table.filter(pl.col("part") == part)
    title = "answer token" if part == "token" else "share of the answer"
    axis = alt.Axis(format="d", tickMinStep=1) if part == "token" else alt.Axis(format="%", tickCount=5)
    base, scale = alt.Chart(), alt.Scale(zero=False)
    mean = alt.Y("mean:Q", title="mean scalar", scale=scale)
    return alt.layer(
        base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", title="mean scalar", scale=scale), y2=alt.Y2("high:Q")),
        base.mark_line(strokeWidth=2).encode(y=mean),
        base.mark_point(filled=True, size=26, opacity=1).encode(y=mean),
        data=rows,
        height=210,
    ).encode(
        x=alt.X("place:Q", title=title, axis=axis, scale=alt.Scale(nice=False)),
        color=alt.Color("label:N", scale=class_scale(positive, negative), legend=None),
        tooltip=[
            alt.Tooltip("label:N"),
            alt.Tooltip("place:Q"),
            *(alt.Tooltip(f"{c}:Q", format=".2f") for c in ("mean", "low", "high")),
            alt.Tooltip("n:Q"),
        ],
    )


def separation_chart(table: pl.DataFrame, *, chosen: str | None = None) -> alt.LayerChart:
    """AUC of each adapter with its interval, one half dashed; a ring around the chosen one.

    `table` has the columns label, adapter, value, low, high (null: no interval), p_value, q_value, stands, which
    colours it, and shuffled, a tick where labels shuffled within questions lie (null: none); rows keep their order.
    """
    title = "AUC of the mean scalar of a response"
    axis = alt.Axis(format=".1f", tickCount=6, labelFlush=False)
    x = alt.X("value:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=axis)
    chance = alt.Chart(pl.DataFrame({"value": [0.5]})).mark_rule(color=NEUTRAL, strokeDash=[3, 3]).encode(x=x)
    interval = alt.Chart().mark_rule(strokeWidth=2, opacity=0.7)
    ring = alt.Chart().mark_point(size=200, strokeWidth=2.5, opacity=1).encode(x=x, color=alt.ColorValue(CHOSEN))
    adapters = alt.layer(
        interval.encode(x=alt.X("low:Q", title=title, axis=axis), x2=alt.X2("high:Q")),
        alt.Chart().mark_point(filled=True, size=70, opacity=1).encode(x=x),
        ring.transform_filter(alt.datum.adapter == (chosen or "")),
        alt.Chart().mark_tick(size=14, thickness=2).encode(x=alt.X("shuffled:Q"), color=alt.ColorValue(NEUTRAL)),
        data=table.with_columns(pl.col("stands").fill_null(False)),
    ).encode(
        y=alt.Y(
            "label:N",
            sort=table["label"].to_list(),
            title=None,
            axis=alt.Axis(ticks=False, domain=False, labelFlush=False),
        ),
        color=alt.ColorValue(NEUTRAL, condition={"test": "datum.stands", "value": POSITIVE}),
        tooltip=[
            alt.Tooltip("adapter:N"),
            *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "low", "high", "shuffled")),
            *(alt.Tooltip(f"{name}:Q", format=".2g") for name in ("p_value", "q_value")),
        ],
    )
    return alt.layer(chance, adapters, height=ROW * table.height + FURNITURE)
