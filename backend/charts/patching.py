"""Patched scalars as a chart: the rate of a prompt before and under the scalars of another one.

Takes a table of changes and draws it. It refuses to compute one.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from backend.charts.narrow import lane_axis
from backend.charts.palette import NEUTRAL, POSITIVE, named_scale

LANE, FURNITURE = 30, 80  # pixels
BEFORE, AFTER = "its own scalars", "patched"


def patch_chart(table: pl.DataFrame, *, title: str) -> alt.LayerChart:
    """Two points with intervals a prompt: with its own scalars (grey) and with another prompt's.

    `table` has the columns of `patched` for one run and rate, and lane.
    """
    order = table["lane"].to_list()
    sides = [
        table.select(
            "lane",
            "difference",
            "p_value",
            "q_value",
            side=pl.lit(side),
            value=pl.col(name),
            low=pl.col(f"{name}_low"),
            high=pl.col(f"{name}_high"),
            n=pl.col(f"n_{name}"),
        )
        for side, name in ((BEFORE, "before"), (AFTER, "after"))
    ]
    base = alt.Chart(pl.concat(sides)).encode(
        y=alt.Y(
            "lane:N",
            sort=order,
            title=None,
            axis=lane_axis(order),
        ),
        yOffset=alt.YOffset("side:N", sort=[BEFORE, AFTER], scale=alt.Scale(paddingOuter=1)),
        color=alt.Color(
            "side:N",
            scale=named_scale({BEFORE: NEUTRAL, AFTER: POSITIVE}),
            legend=alt.Legend(title=None, orient="top"),
        ),
        tooltip=[
            alt.Tooltip("lane:N"),
            alt.Tooltip("side:N"),
            *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("value", "low", "high")),
            alt.Tooltip("n:Q"),
            alt.Tooltip("difference:Q", format="+.1%"),
            *(alt.Tooltip(f"{name}:Q", format=".2g") for name in ("p_value", "q_value")),
        ],
    )

    def share(column: str) -> alt.X:
        axis = alt.Axis(format="~%", tickCount=5)
        return alt.X(f"{column}:Q", title=title, axis=axis, scale=alt.Scale(domain=[0, 1]))

    return alt.layer(
        base.mark_rule(strokeWidth=2, opacity=0.6).encode(x=share("low"), x2="high:Q"),
        base.mark_point(filled=True, size=60, opacity=1).encode(x=share("value")),
    ).properties(height=LANE * len(order) + FURNITURE)
