"""Organisms side by side as a chart: a point and its interval each, under a heading for what they differ in.

Takes a table of rates and draws it. It refuses to compute one.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from backend.charts.narrow import room
from backend.charts.palette import INK, NEUTRAL, organism_scale
from backend.charts.shares import with_room

LANE, FURNITURE = 22, 60  # pixels: of an organism or a heading, and of the axis
_BREAK = "\u241f"  # between a group and an organism, in the name of a lane


def compared_chart(
    table: pl.DataFrame, *, title: str, control: float | None = None, organisms: Sequence[str] = ()
) -> alt.LayerChart:
    """A lane an organism, in groups with a heading; `control` draws the rate of no fine-tune as a dashed line.

    `table` has the columns group, organism, value, low, high (shares), hits, n, clusters, about; rows keep their order.
    An organism may be in several groups. `organisms` are all of the study, for their colours.
    """
    rows = table.with_columns(
        lane=pl.format(f"{{}}{_BREAK}{{}}", "group", "organism"),
        text=pl.format("{}%", (pl.col("value") * 100).round(1)),
    )
    order: list[str] = []
    for group, lane in rows.select("group", "lane").iter_rows():
        order += [each for each in (f"{group}{_BREAK}", lane) if each not in order]
    scale, axis = with_room(rows)
    heading = f"split(datum.value, '{_BREAK}')[1] == ''"
    lanes = alt.Axis(
        ticks=False,
        domain=False,
        labelFlush=False,
        labelLimit=room(130, 240),
        labelExpr=f"{heading} ? split(datum.value, '{_BREAK}')[0] : split(datum.value, '{_BREAK}')[1]",
        labelFontWeight=alt.condition(heading, alt.value("bold"), alt.value("normal")),
    )
    base = alt.Chart(rows).encode(
        y=alt.Y("lane:N", sort=order, title=None, axis=lanes, scale=alt.Scale(domain=order)),
        color=alt.Color("organism:N", scale=organism_scale(rows["organism"], organisms), legend=None),
        tooltip=[
            alt.Tooltip("organism:N"),
            alt.Tooltip("group:N", title="beside"),
            alt.Tooltip("base:N"),
            *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("value", "low", "high")),
            alt.Tooltip("hits:Q"),
            alt.Tooltip("n:Q"),
            alt.Tooltip("clusters:Q", title="questions"),
            alt.Tooltip("about:N", title="interval for"),
        ],
    )

    def share(column: str) -> alt.X:
        return alt.X(f"{column}:Q", title=title, axis=axis, scale=scale)

    layers = [
        base.mark_rule(strokeWidth=2, opacity=0.65).encode(x=share("low"), x2="high:Q"),
        base.mark_point(filled=True, size=75, opacity=1).encode(x=share("value")),
        base.mark_text(align="left", dx=7, fontSize=11).encode(x=share("high"), text="text:N", color=alt.value(INK)),
    ]
    if control is not None:
        line = alt.Chart(pl.DataFrame({"value": [control]}))
        layers.insert(0, line.mark_rule(color=NEUTRAL, strokeDash=[4, 4]).encode(x=share("value")))
    return alt.layer(*layers).properties(height=LANE * len(order) + FURNITURE)
