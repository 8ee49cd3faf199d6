"""Directions as charts: one number a layer, the cosine of every pair of layers, and the projection of every response.

Takes tables and arrays and draws them. It refuses to know how a direction was found.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import polars as pl

from backend.charts.palette import NEGATIVE, NEUTRAL, POSITIVE, class_scale, signed_scale
from backend.records import FloatArray

MOST_DOTS = 2000  # drawn; the quartiles are of all
UNITS = "projection on the unit direction (residual units)"


def layer_chart(table: pl.DataFrame, *, title: str, chosen: int, chance: float | None = None) -> alt.LayerChart:
    """One number a layer, as a line with a band where there is an interval and a mark at the chosen layer.

    `table` has the columns layer, value, and where there is an interval low and high. `chance` draws a dashed line.
    """
    x = alt.X(
        "layer:Q",
        title="layer (output of block)",
        axis=alt.Axis(tickMinStep=1, format="d"),
        scale=alt.Scale(nice=False),
    )
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=chance is None))
    tooltip = [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "low", "high") if name in table.columns]
    base = alt.Chart(table).encode(x=x, tooltip=["layer:Q", *tooltip])
    layers = [base.mark_line(color=NEGATIVE, strokeWidth=2).encode(y=y)]
    if "low" in table.columns:
        layers.insert(0, base.mark_area(color=NEGATIVE, opacity=0.18).encode(y=alt.Y("low:Q", title=None), y2="high:Q"))
    if chance is not None:
        line = alt.Chart(pl.DataFrame({"value": [chance]})).mark_rule(color=NEUTRAL, strokeDash=[3, 3])
        layers.append(line.encode(y=alt.Y("value:Q", title=None)))
    layers.append(base.mark_point(color=NEGATIVE, filled=True, size=14, opacity=1).encode(y=y))
    here = alt.Chart(table.filter(pl.col("layer") == chosen)).encode(x=x, y=y)
    layers.append(here.mark_point(color=POSITIVE, filled=True, size=90, opacity=1))
    return alt.layer(*layers).properties(title=title, height=210)


def layer_cosine_chart(matrix: FloatArray, layers: Sequence[int]) -> alt.Chart:
    """Cosine between the directions of every two layers; `matrix` is (layer, layer)."""
    rows, columns = np.meshgrid(np.asarray(layers), np.asarray(layers), indexing="ij")
    table = pl.DataFrame({"layer": rows.ravel(), "other": columns.ravel(), "cosine": np.asarray(matrix).ravel()})
    axis = alt.Axis(ticks=False, domain=False, labelOverlap=True, labelAngle=0, grid=False)
    return (
        alt.Chart(table)
        .mark_rect()
        .encode(
            x=alt.X("other:O", title="layer", axis=axis),
            y=alt.Y("layer:O", title="layer", axis=axis, sort="descending"),
            color=alt.Color(
                "cosine:Q",
                scale=signed_scale(),
                legend=alt.Legend(title="cosine", gradientLength=140, orient="right"),
            ),
            tooltip=["layer:O", "other:O", alt.Tooltip("cosine:Q", format=".3f")],
        )
        .properties(height=330)
    )


def projection_chart(table: pl.DataFrame, *, positive: str, negative: str) -> alt.LayerChart:
    """Every response as a dot at its projection, one lane a class, with the quartiles behind it.

    `table` has the columns projection, side (one of the two names), question, text. Its text is shown in a tooltip,
    which Vega draws as plain text. Past MOST_DOTS rows, evenly spaced ones are drawn.
    """
    drawn = table.gather_every(-(-table.height // MOST_DOTS)) if table.height > MOST_DOTS else table
    rows = drawn.with_columns(pl.col("text").str.slice(0, 160), jitter=_jitter(drawn.height))
    quartiles = table.group_by("side").agg(
        low=pl.col("projection").quantile(0.25),
        middle=pl.col("projection").median(),
        high=pl.col("projection").quantile(0.75),
    )
    lane = alt.Y("side:N", sort=[positive, negative], title=None, axis=alt.Axis(ticks=False, domain=False))
    color = alt.Color("side:N", scale=class_scale(positive, negative), legend=None)
    x = alt.X("projection:Q", title=UNITS, scale=alt.Scale(zero=False, nice=True))
    dots = (
        alt.Chart(rows)
        .mark_circle(size=26, opacity=0.75)
        .encode(
            x=x,
            y=lane,
            yOffset=alt.YOffset("jitter:Q", scale=alt.Scale(domain=[-1, 1])),
            color=color,
            tooltip=["side:N", alt.Tooltip("projection:Q", format=".3f"), "question:N", "text:N"],
        )
    )
    box = alt.Chart(quartiles).encode(y=lane, color=color)
    spread = box.mark_rule(strokeWidth=14, opacity=0.3).encode(x=alt.X("low:Q", title=UNITS), x2="high:Q")
    middle = box.mark_tick(thickness=3, size=34, opacity=1).encode(x=alt.X("middle:Q", title=UNITS))
    return alt.layer(spread, dots, middle).properties(height=330)


def _jitter(count: int) -> pl.Series:
    """Heights in [-0.7, 0.7] that look random and do not change from one draw to the next."""
    return pl.Series(((np.arange(count) * 0.618033988749895) % 1.0) * 1.4 - 0.7)
