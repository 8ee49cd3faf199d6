"""The four-way table of scaled adapters as charts: shares with intervals, and how they move with the cut-offs.

Takes tables and draws them. It refuses to sort responses into cells.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from backend.charts.narrow import behind, columns_of, lane_axis
from backend.charts.palette import CELLS, INK, NEUTRAL, cut_scale, named_scale


def cell_chart(table: pl.DataFrame) -> alt.LayerChart:
    """A bar and an interval for each cell of each condition.

    `table` has the columns condition, cell, value, low, high (shares), hits, n; conditions keep their order.
    """
    cells = list(CELLS)
    conditions = table["condition"].unique(maintain_order=True).to_list()
    colour = alt.Color(
        "cell:N",
        scale=named_scale(CELLS),
        legend=alt.Legend(title=None, orient="top", symbolOpacity=1, labelLimit=0, columns=columns_of(cells)),
    )
    text = pl.format("{}% ({}/{})", (pl.col("value") * 100).round(1), "hits", "n")
    rows = table.with_columns(text=pl.when(pl.col("n") > 0).then(text).otherwise(pl.lit("nothing kept")))
    base = alt.Chart(rows).encode(
        y=alt.Y(
            "condition:N",
            sort=conditions,
            title=None,
            axis=lane_axis(conditions),
            scale=alt.Scale(paddingInner=0.25),
        ),
        yOffset=alt.YOffset("cell:N", sort=cells),
        tooltip=[
            "condition:N",
            "cell:N",
            *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("value", "low", "high")),
            "hits:Q",
            "n:Q",
        ],
    )
    title = "share of the kept answers"
    most = max([*rows["value"].drop_nulls(), *rows["high"].drop_nulls(), 0.02])
    end = alt.ExprRef(expr=f"{most} / {behind(max(map(len, rows['text'])))}")
    scale = alt.Scale(domainMin=0, domainMax=end, nice=False)
    ticks = [share for share in (0, 0.25, 0.5, 0.75, 1) if share <= most + 1e-9]

    def share(column: str) -> alt.X:
        axis = alt.Axis(format="~%", values=ticks)
        return alt.X(f"{column}:Q", title=title, axis=axis, scale=scale)

    return alt.layer(
        base.mark_bar(opacity=0.55).encode(x=share("value"), color=colour),
        base.mark_rule(strokeWidth=2).encode(x=share("low"), x2="high:Q", color=colour),
        base.mark_text(align="left", dx=6, fontSize=11, color=INK).encode(x=share("high"), text="text:N"),
    ).properties(height=120 * len(conditions) + 60)


def sensitivity_chart(table: pl.DataFrame, *, title: str, edge: float) -> alt.LayerChart:
    """One cell's share over the medical edge, one line a coherence cut-off; a dashed line at the chosen edge.

    `table` has the columns medical, coherent, value, low, high (shares), n.
    """
    rows = table.drop_nulls("value").with_columns(cut=pl.format("coherent ≥ {}", pl.col("coherent").cast(pl.Int64)))
    cuts = rows["cut"].unique(maintain_order=True).to_list()
    base = alt.Chart(rows).encode(
        x=alt.X("medical:Q", title="edge: medical above", scale=alt.Scale(zero=False, nice=False)),
        color=alt.Color(
            "cut:N",
            scale=cut_scale(cuts),
            legend=alt.Legend(title=None, orient="top", symbolOpacity=1),
        ),
        tooltip=["cut:N", "medical:Q", *(alt.Tooltip(f"{n}:Q", format=".1%") for n in ("value", "low", "high")), "n:Q"],
    )
    y = alt.Y("value:Q", title=title, axis=alt.Axis(format="~%", tickCount=5))
    here = alt.Chart(pl.DataFrame({"medical": [edge]})).mark_rule(strokeDash=[4, 4], color=NEUTRAL)
    return alt.layer(
        base.mark_area(opacity=0.1, interpolate="step-after").encode(y=alt.Y("low:Q", title=title), y2="high:Q"),
        base.mark_line(strokeWidth=2, interpolate="step-after").encode(y=y),
        here.encode(x="medical:Q"),
    ).properties(height=280)
