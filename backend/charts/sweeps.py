"""Rates by strength of an edit, one line a direction, and rates before and after.

Takes tables of rates and draws them. It refuses to compute a rate.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from backend.charts.palette import NEUTRAL

PICK = "pick"
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A900", "#8A8F98")


def direction_scale(names: list[str]) -> alt.Scale:
    """One colour a direction, in the order given; past eight they repeat."""
    return alt.Scale(domain=names, range=[_COLOURS[at % len(_COLOURS)] for at in range(len(names))])


def strength_chart(
    table: pl.DataFrame, *, title: str, x: str, baseline: float | None, height: int = 360
) -> alt.LayerChart:
    """A line a direction over the column `x` ("strength" or "relative"), with intervals; click a point to pick it.

    `table` has the columns condition, series, strength, relative, value, low, high (shares), hits, n, dropped.
    `baseline` draws the rate without any edit as a dashed line.
    """
    rows = table.drop_nulls([x, "value"])
    names = rows["series"].unique(maintain_order=True).to_list()
    words = {"strength": "strength λ of the added direction", "relative": "added norm / activation norm"}
    share = alt.Axis(format="~%", tickCount=5)
    whole = alt.Scale(domain=[0, 1])
    legend = alt.Legend(title=None, orient="top", labelLimit=420, columns=1)
    base = alt.Chart(rows).encode(
        x=alt.X(f"{x}:Q", title=words[x]),
        color=alt.Color("series:N", scale=direction_scale(names), legend=legend),
        tooltip=[
            "condition:N",
            *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("value", "low", "high")),
            *(f"{name}:Q" for name in ("hits", "n", "dropped")),
        ],
    )
    y = alt.Y("value:Q", title=title, axis=share, scale=whole)
    layers = [
        base.mark_rule(strokeWidth=2, opacity=0.5).encode(y=alt.Y("low:Q", title=title, scale=whole), y2="high:Q"),
        base.mark_line(strokeWidth=1.5, opacity=0.6).encode(y=y),
    ]
    if baseline is not None:
        line = alt.Chart(pl.DataFrame({"value": [baseline]})).mark_rule(color=NEUTRAL, strokeDash=[4, 4])
        layers.append(line.encode(y=y))
    pick = alt.selection_point(name=PICK, fields=["condition"])
    layers.append(base.mark_point(filled=True, size=80, opacity=1).encode(y=y).add_params(pick))
    return alt.layer(*layers).properties(height=height)


def before_after_chart(table: pl.DataFrame, *, title: str) -> alt.LayerChart:
    """Two points with intervals a condition: the rate before (grey) and after (coloured) an ablation.

    `table` has the columns lane, and before, after with _low, _high (shares) and n_before, n_after; rows keep their
    order.
    """
    order = table["lane"].to_list()
    axis = alt.Axis(ticks=False, domain=False, labelLimit=420)
    base = alt.Chart(table).encode(
        y=alt.Y("lane:N", sort=order, title=None, axis=axis),
        tooltip=[
            "lane:N",
            alt.Tooltip("before:Q", format=".1%"),
            "n_before:Q",
            alt.Tooltip("after:Q", format=".1%"),
            "n_after:Q",
        ],
    )

    def share(column: str) -> alt.X:
        return alt.X(f"{column}:Q", title=title, axis=alt.Axis(format="~%"), scale=alt.Scale(domain=[0, 1]))

    return alt.layer(
        base.mark_rule(color=NEUTRAL, strokeWidth=6, opacity=0.35).encode(x=share("before_low"), x2="before_high:Q"),
        base.mark_rule(color=_COLOURS[0], strokeWidth=2).encode(x=share("after_low"), x2="after_high:Q"),
        base.mark_point(filled=True, size=90, opacity=1, color=NEUTRAL).encode(x=share("before")),
        base.mark_point(filled=True, size=90, opacity=1, color=_COLOURS[0]).encode(x=share("after")),
    ).properties(height=28 * len(order) + 60)
