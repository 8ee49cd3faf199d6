"""A vector as charts: which tokens it promotes and suppresses, and how it lies to other vectors.

Takes tables and draws them. It refuses to know where a vector comes from. Channels are objects, not shorthand strings,
and what layers share is said once: Altair takes 1 to 2 ms to find the class of each string.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from backend.charts.narrow import lane_axis
from backend.charts.palette import NEGATIVE, NEUTRAL, POSITIVE

ROW = 24  # pixels of height a row gets
FURNITURE = 60


def push_chart(lens: pl.DataFrame) -> alt.Chart:
    """Promoted tokens in vermillion, suppressed ones in blue, by standard deviations over the vocabulary.

    `lens` has the columns side ("top", "bottom"), rank, token, value.
    """
    word = pl.col("token").str.replace_all(" ", "␣", literal=True).str.replace_all("\n", "↵", literal=True)
    rows = lens.with_columns(
        word=pl.format("{} {}", word, pl.when(pl.col("side") == "top").then(pl.lit("")).otherwise(pl.lit(" ")))
    )
    return (
        alt.Chart(rows, height=19 * rows.height + FURNITURE)
        .mark_bar(height=13)
        .encode(
            y=alt.Y("key:N", sort=alt.EncodingSortField("value", order="descending"), title=None, axis=_words()),
            x=alt.X("value:Q", title="standard deviations", axis=alt.Axis(tickCount=5)),
            color=_by_sign("value"),
            tooltip=[alt.Tooltip("token:N"), alt.Tooltip("rank:Q"), alt.Tooltip("value:Q", format=".2f")],
        )
        .transform_calculate(key="datum.word + '\\u0000' + datum.side + datum.rank")
    )


def _words() -> alt.Axis:
    """Two tokens may look the same: the axis keeps them apart by what it does not show."""
    return alt.Axis(
        labelExpr="split(datum.value, '\\u0000')[0]", ticks=False, domain=False, labelLimit=150, labelOverlap=False
    )


def vector_cosine_chart(table: pl.DataFrame, *, chance: float) -> alt.LayerChart:
    """Cosines, one row a vector in the order given; the grey band holds 95 % of random vectors of that size.

    `table` has the columns name, cosine, what.
    """
    most = max(float(table["cosine"].abs().max() or 0), chance) * 1.1  # type: ignore[arg-type]
    scale = alt.Scale(domain=[-most, most], nice=False)
    x = alt.X("cosine:Q", title="cosine", scale=scale, axis=alt.Axis(tickCount=5, format=".2f"))
    bars = alt.Chart(table).mark_bar(height=9)
    bars = bars.encode(
        y=alt.Y(
            "name:N",
            sort=table["name"].to_list(),
            title=None,
            axis=lane_axis(table["name"], labelOverlap=False),
        ),
        x=x,
        color=_by_sign("cosine"),
        tooltip=[alt.Tooltip("name:N"), alt.Tooltip("what:N"), alt.Tooltip("cosine:Q", format=".3f")],
    )
    band = alt.Chart(pl.DataFrame({"from": [-chance], "to": [chance]})).mark_rect(opacity=0.15, color=NEUTRAL)
    return alt.layer(
        band.encode(x=alt.X("from:Q", scale=scale, title="cosine"), x2=alt.X2("to:Q")),
        bars,
        height=ROW * table.height + FURNITURE,
    )


def _by_sign(column: str) -> alt.ColorValue:
    """Vermillion above zero, blue otherwise."""
    return alt.ColorValue(NEGATIVE, condition={"test": f"datum.{column} > 0", "value": POSITIVE})
