"""Tolerance to noise as a chart: a rate by its size, a line a matrix.

Takes a table of rates and draws it. It refuses to compute one.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from backend.charts.palette import matrix_scale

HEIGHT = 280  # pixels


def noise_chart(table: pl.DataFrame, *, title: str) -> alt.LayerChart:
    """A line a matrix with intervals; points over fewer questions than most are hollow.

    `table` has the columns matrix (A or B), scale, value, low, high (shares), hits, n, clusters, about.
    """
    most = int(table["clusters"].max() or 0)  # type: ignore[arg-type]
    rows = table.with_columns(whole=pl.col("clusters") == most)
    matrices = sorted(rows["matrix"].unique())
    scale = alt.Scale(domain=[0, min(1.0, max(0.1, float(rows["high"].max() or 0)))])  # type: ignore[arg-type]
    base = alt.Chart(rows).encode(
        x=alt.X("scale:Q", title="size of the noise ε", axis=alt.Axis(tickCount=6, format="~g")),
        xOffset=alt.XOffset("matrix:N", sort=matrices, scale=alt.Scale(range=[-3, 3])),
        color=alt.Color("matrix:N", scale=matrix_scale(matrices), legend=alt.Legend(title="noise on", orient="top")),
        tooltip=[
            alt.Tooltip("matrix:N"),
            alt.Tooltip("scale:Q", title="size", format="~g"),
            *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("value", "low", "high")),
            alt.Tooltip("hits:Q"),
            alt.Tooltip("n:Q"),
            alt.Tooltip("clusters:Q", title="questions"),
            alt.Tooltip("about:N", title="interval for"),
        ],
    )
    y = alt.Y("value:Q", title=title, axis=alt.Axis(format="~%", tickCount=5), scale=scale)
    points = [
        base.transform_filter(test).mark_point(filled=filled, size=64, opacity=1, strokeWidth=2).encode(y=y)
        for test, filled in (("datum.whole", True), ("!datum.whole", False))
    ]
    return alt.layer(
        base.mark_rule(strokeWidth=2, opacity=0.5).encode(y=alt.Y("low:Q", title=title, scale=scale), y2="high:Q"),
        base.mark_line(strokeWidth=1.8, opacity=0.8).encode(y=y),
        *points,
    ).properties(height=HEIGHT)
