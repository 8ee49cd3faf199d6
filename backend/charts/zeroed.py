"""Zeroed adapters as charts: the rate without each by its layer, without sets of them, and what their scalars tell.

Takes tables and draws them. It refuses to know how any number came about.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from backend.charts.narrow import lane_axis, room
from backend.charts.palette import INK, NEUTRAL, POSITIVE, direction_scale
from backend.charts.shares import with_room

HEIGHT, LANE, FURNITURE = 250, 26, 60  # pixels
_STANDS = alt.ColorValue(NEUTRAL, condition={"test": "datum.stands", "value": POSITIVE})


def _tooltip() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("what:N"),
        *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("before", "after", "after_low", "after_high")),
        *(alt.Tooltip(f"{name}:Q", format="+.1%") for name in ("difference", "low", "high")),
        *(alt.Tooltip(f"{name}:Q", format=".2g") for name in ("p_value", "q_value")),
        alt.Tooltip("n_before:Q"),
        alt.Tooltip("n_after:Q"),
        alt.Tooltip("questions:Q"),
    ]


def _layers(rows: pl.DataFrame, order: Sequence[str]) -> alt.X:
    axis = alt.Axis(labelAngle=0, labelOverlap="greedy", ticks=False, grid=False)
    return alt.X("label:N", title="adapter of layer", sort=list(order), scale=alt.Scale(domain=list(order)), axis=axis)


def zeroed_chart(table: pl.DataFrame, *, title: str, order: Sequence[str]) -> alt.LayerChart:
    """The rate without each adapter, by layer; coloured where the change stands among all. Dashed: unedited, its band.

    `table` has the columns of `zeroed` for one organism, one rate and single adapters; `order` are the labels of all
    adapters that have a place, also where they were not zeroed.
    """
    first = table.row(0, named=True)
    most = max(float(table[name].max() or 0) for name in ("after_high", "before_high"))  # type: ignore[arg-type]
    scale = alt.Scale(domain=[0, min(1.0, max(0.1, most))])
    axis = alt.Axis(format="~%", tickCount=5)
    y = alt.Y("after:Q", title=title, scale=scale, axis=axis)
    unedited = alt.Chart(
        pl.DataFrame({"value": [first["before"]], "low": [first["before_low"]], "high": [first["before_high"]]})
    )
    base = alt.Chart(table).encode(x=_layers(table, order), color=_STANDS, tooltip=_tooltip())
    return alt.layer(
        unedited.mark_rect(color=NEUTRAL, opacity=0.15).encode(
            y=alt.Y("low:Q", title=title, scale=scale, axis=axis), y2="high:Q"
        ),
        unedited.mark_rule(color=NEUTRAL, strokeDash=[4, 4], strokeWidth=2).encode(
            y=alt.Y("value:Q", title=title, scale=scale, axis=axis)
        ),
        base.mark_rule(strokeWidth=2, opacity=0.7).encode(
            y=alt.Y("after_low:Q", title=title, scale=scale, axis=axis), y2="after_high:Q"
        ),
        base.mark_point(filled=True, size=60, opacity=1).encode(y=y),
    ).properties(height=HEIGHT)


def zeroed_sets_chart(table: pl.DataFrame, *, title: str) -> alt.LayerChart:
    """The rate without each set of adapters, a lane each; dashed: unedited. Columns as in `zeroed_chart`."""
    rows = table.with_columns(
        text=pl.format("{}% (n = {})", (pl.col("after") * 100).round(1), "n_after"),
        value=pl.max_horizontal("before", "after"),
    )
    scale, axis = with_room(rows.with_columns(high=pl.max_horizontal("after_high", "before")))
    lanes = lane_axis(rows["label"])
    base = alt.Chart(rows).encode(
        y=alt.Y("label:N", sort=rows["label"].to_list(), title=None, axis=lanes), tooltip=_tooltip()
    )

    def share(column: str) -> alt.X:
        return alt.X(f"{column}:Q", title=title, axis=axis, scale=scale)

    unedited = alt.Chart(pl.DataFrame({"value": [rows["before"][0]]}))
    return alt.layer(
        unedited.mark_rule(color=NEUTRAL, strokeDash=[4, 4], strokeWidth=2).encode(x=share("value")),
        base.mark_rule(strokeWidth=2, opacity=0.7).encode(x=share("after_low"), x2="after_high:Q", color=_STANDS),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=share("after"), color=_STANDS),
        base.mark_text(align="left", dx=8, fontSize=11).encode(
            x=share("after_high"), text="text:N", color=alt.value(INK)
        ),
    ).properties(height=LANE * rows.height + FURNITURE)


def tells_chart(table: pl.DataFrame, *, order: Sequence[str]) -> alt.LayerChart:
    """How far each adapter's scalar tells the classes of each contrast apart, by layer; chance at one half.

    `table` has the columns label, contrast, value (AUC, folded to one half and above), low, high.
    """
    contrasts = table["contrast"].unique(maintain_order=True).to_list()
    title, scale = "AUC, folded", alt.Scale(domain=[0.3, 1], clamp=True)
    axis = alt.Axis(format=".1f", tickCount=6)
    base = alt.Chart(table).encode(
        x=_layers(table, order),
        xOffset=alt.XOffset("contrast:N", sort=contrasts, scale=alt.Scale(paddingInner=0, paddingOuter=1)),
        color=alt.Color(
            "contrast:N",
            scale=direction_scale(contrasts),
            legend=alt.Legend(title=None, orient="top", columns=room(1, 3), labelLimit=260),
        ),
        tooltip=[
            alt.Tooltip("label:N"),
            alt.Tooltip("contrast:N"),
            *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("value", "low", "high")),
        ],
    )
    y = alt.Y("value:Q", title=title, scale=scale, axis=axis)
    chance = alt.Chart(pl.DataFrame({"value": [0.5]})).mark_rule(color=NEUTRAL, strokeDash=[4, 4], strokeWidth=2)
    return alt.layer(
        chance.encode(y=y),
        base.mark_rule(strokeWidth=2, opacity=0.6).encode(
            y=alt.Y("low:Q", title=title, scale=scale, axis=axis), y2="high:Q"
        ),
        base.mark_point(filled=True, size=55, opacity=1).encode(y=y),
    ).properties(height=HEIGHT)
