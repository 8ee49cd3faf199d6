"""Several directions layer by layer: one line each, for cosine, norm or share.

Takes a table and draws it. It refuses to compute a cosine.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from backend.charts.palette import NEUTRAL
from backend.charts.sweeps import direction_scale


def layer_lines(
    table: pl.DataFrame,
    *,
    column: str,
    title: str,
    names: Sequence[str],
    logarithmic: bool = False,
    columns: int = 1,
    height: int = 380,
) -> alt.LayerChart:
    """The column of every direction over layers; `names` fixes the colours, in that order; the legend has
    so many `columns` (0: none, where a chart beside it has it).

    `table` has the columns name, layer and the column named. A cosine gets the axis from its least to 1.
    """
    rows = table.filter(pl.col("name").is_in(list(names))).drop_nulls(column)
    scale = alt.Scale(type="log") if logarithmic else alt.Scale(zero=False)
    base = alt.Chart(rows).encode(
        x=alt.X(
            "layer:Q",
            title="layer (output of block)",
            axis=alt.Axis(tickMinStep=1, format="d"),
            scale=alt.Scale(nice=False),
        ),
        y=alt.Y(f"{column}:Q", title=title, scale=scale),
        color=alt.Color(
            "name:N",
            scale=direction_scale(list(names)),
            legend=alt.Legend(title=None, orient="top", labelLimit=420, columns=columns) if columns else None,
        ),
        tooltip=["name:N", "layer:Q", alt.Tooltip(f"{column}:Q", format=".3f")],
    )
    layers = [base.mark_line(strokeWidth=2), base.mark_point(filled=True, size=18, opacity=1)]
    if column == "cosine":
        zero = alt.Chart(pl.DataFrame({"zero": [0.0]})).mark_rule(color=NEUTRAL, strokeDash=[3, 3])
        layers.insert(0, zero.encode(y=alt.Y("zero:Q", title=title)))
    return alt.layer(*layers).properties(height=height)
