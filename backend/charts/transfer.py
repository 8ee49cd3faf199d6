"""Ablations as charts: rates before and after with their intervals, and what every direction changed in every organism.

Takes tables of rates and differences and draws them. It refuses to compute one.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from backend.analysis.conditions.controls import CONTROLS, ITSELF
from backend.charts.narrow import across, room
from backend.charts.palette import INK, NEUTRAL, ON_PALE, ink_on, role_scale, signed_scale
from backend.charts.pick import picking

LANE = 72  # pixels of height a lane gets: its title of two lines and two bars
FURNITURE = 100  # pixels that the axis and the legend take
CELL = 46  # pixels of height a direction gets
TITLE, BEFORE, AFTER = "title", "before", "after"


def before_after_chart(table: pl.DataFrame, *, title: str) -> alt.LayerChart:
    """Two bars with intervals a lane: the rate before (grey) and after (coloured by role) an ablation.

    `table` has the columns lane, cell, role, before, after with _low, _high (shares), n_before, n_after,
    difference, low, high, note (a text behind the bars); rows keep their order. Click a bar to pick its cell.
    """
    order = table["lane"].to_list()
    sides = [
        table.select(
            "lane",
            "cell",
            "difference",
            "low",
            "high",
            side=pl.lit(side),
            role=pl.lit(BEFORE) if side == BEFORE else pl.col("role"),
            value=pl.col(side),
            from_=pl.col(f"{side}_low"),
            to=pl.col(f"{side}_high"),
            n=pl.col(f"n_{side}"),
        )
        for side in (BEFORE, AFTER)
    ]
    ends = (table[f"{side}{end}"].max() for side in (BEFORE, AFTER) for end in ("", "_high"))
    most = max(0.05, *(float(each or 0) for each in ends))  # type: ignore[arg-type]
    drawn = [name for name in (BEFORE, ITSELF, *CONTROLS) if name in {BEFORE, *table["role"]}]
    percent = [alt.Tooltip(name, format=".1%") for name in ("value:Q", "from_:Q", "to:Q")]
    points = [alt.Tooltip(name, format="+.1%") for name in ("difference:Q", "low:Q", "high:Q")]
    base = alt.Chart(pl.concat(sides)).encode(
        y=alt.Y("lane:N", sort=order, title=None, axis=None, scale=alt.Scale(paddingInner=0.2)),
        yOffset=alt.YOffset("side:N", sort=[TITLE, BEFORE, AFTER], scale=alt.Scale(domain=[TITLE, BEFORE, AFTER])),
        color=alt.Color(
            "role:N",
            scale=role_scale(drawn, **{BEFORE: NEUTRAL}),
            legend=alt.Legend(title=None, orient="top", symbolOpacity=1, columns=room(2, 3)),
        ),
        tooltip=["lane:N", "side:N", *percent, "n:Q", *points],
    )

    def share(column: str) -> alt.X:
        axis = alt.Axis(format="~%", tickCount=5, labelFlush=False)
        return alt.X(f"{column}:Q", title=title, axis=axis, scale=alt.Scale(domain=[0, most]))

    titles = alt.Chart(table.select("lane", side=pl.lit(TITLE), text=pl.format("{}\n{}", "lane", "note")))
    return alt.layer(
        base.mark_bar(opacity=0.5).encode(x=share("value")).add_params(picking("cell")),
        base.mark_rule(strokeWidth=2).encode(x=share("from_"), x2="to:Q"),
        titles.mark_text(align="left", lineBreak="\n", dy=-6, fontSize=room(10, 11), color=INK, limit=across(6)).encode(
            x=alt.value(3), y=alt.Y("lane:N", sort=order), yOffset=alt.YOffset("side:N"), text="text:N"
        ),
    ).properties(height=LANE * len(order) + FURNITURE)


def transfer_chart(
    table: pl.DataFrame, *, title: str, organisms: Sequence[str], directions: Sequence[str], most: float
) -> alt.LayerChart:
    """The change of a rate, direction by organism, as colour and in points; click one to pick its cell.

    `table` has the columns organism, series, cell, own (the organism's own direction: outlined), difference, low,
    high, before, after (shares), n_before, n_after, text and below (two lines in the cell). `most` is the difference of
    the full colour.
    """
    axis = alt.Axis(
        ticks=False, domain=False, labelLimit=room(80, 120), labelAngle=room(-90, -20), labelOverlap=False, orient="top"
    )
    rows = alt.Axis(ticks=False, domain=False, labelLimit=room(120, 300), labelOverlap=False)
    base = alt.Chart(table).encode(
        x=alt.X("organism:N", sort=list(organisms), title=None, axis=axis),
        y=alt.Y("series:N", sort=list(directions), title=None, axis=rows),
        tooltip=[
            "organism:N",
            "cell:N",
            *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("before", "after")),
            *(alt.Tooltip(f"{name}:Q", format="+.1%") for name in ("difference", "low", "high")),
            "n_before:Q",
            "n_after:Q",
        ],
    )
    colour = alt.Color(
        "difference:Q",
        scale=signed_scale(most),
        legend=alt.Legend(title=None, format="+.0%", orient="bottom", gradientLength=170, gradientThickness=9),
    )
    own = base.transform_filter(alt.datum.own)
    ink = ink_on("difference")
    return alt.layer(
        base.mark_rect().encode(color=colour).add_params(picking("cell", "organism")),
        own.mark_rect(filled=False, stroke=ON_PALE, strokeWidth=3),
        base.mark_text(fontSize=room(10, 13), fontWeight="bold", dy=room(0, -7)).encode(text="text:N", color=ink),
        base.mark_text(fontSize=10, dy=9, opacity=room(0, 1)).encode(text="below:N", color=ink),
    ).properties(title=alt.Title(title, anchor="start", fontSize=13), height=CELL * len(directions) + FURNITURE)
