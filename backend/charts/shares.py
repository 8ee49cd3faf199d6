"""Rates with their intervals as charts: how often, out of how many, and how sure.

Takes tables of rates and draws them. It refuses to compute a rate.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from backend.charts.narrow import behind, columns_of, lane_axis, title_lines
from backend.charts.palette import INK, organism_scale

LANE = 26  # pixels of height a rate gets
FURNITURE = 62  # pixels that the axis takes
STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # between two ticks
WHOLE = alt.Axis(format="~%", tickCount=6, labelFlush=False)


def rate_chart(table: pl.DataFrame, *, title: str, organisms: Sequence[str] = ()) -> alt.LayerChart:
    """A point and its interval for every organism and condition.

    `table` has the columns organism, condition, value, low, high (shares, 0 to 1), hits, n; rows keep their order. A
    column text has what stands beside each, in place of the value with its hits. `organisms` are all of the study, for
    their colours.
    """
    text = pl.col("text") if "text" in table.columns else _fraction()
    rows = table.with_columns(lane=pl.format("{} · {}", "organism", "condition"), text=text)
    order = rows["lane"].to_list()
    base = alt.Chart(rows).encode(
        y=alt.Y("lane:N", sort=order, title=None, axis=lane_axis(order)),
        color=alt.Color("organism:N", scale=organism_scale(rows["organism"], organisms), legend=None),
        tooltip=_tooltip("organism", "condition"),
    )
    scale, axis = with_room(rows)
    layers = _point_and_interval(base, title, scale=scale, axis=axis)
    return alt.layer(*layers).properties(height=LANE * len(order) + FURNITURE)


def question_chart(
    table: pl.DataFrame, *, title: str, order: Sequence[str], organisms: Sequence[str] = ()
) -> alt.LayerChart:
    """A point and its interval for every question, organisms beside each other; the axis is the whole range.

    `table` has the columns question_id, organism, value, low, high (shares), hits, n; `order` is that of the questions.
    """
    drawn = table["organism"].unique(maintain_order=True).to_list()
    legend = alt.Legend(title=None, orient="top", labelLimit=0, columns=columns_of(drawn))
    base = alt.Chart(table.with_columns(text=_fraction())).encode(
        y=alt.Y(
            "question_id:N",
            sort=list(order),
            title=None,
            axis=lane_axis(order, grid=True),
        ),
        yOffset=alt.YOffset("organism:N", sort=drawn),
        color=alt.Color(
            "organism:N",
            scale=organism_scale(drawn, organisms),
            legend=legend,
        ),
        tooltip=_tooltip("question_id", "organism"),
    )
    height = max(LANE, 11 * len(drawn) + 6) * len(order) + FURNITURE + 30
    whole = alt.Scale(domain=[0, 1])
    return alt.layer(*_point_and_interval(base, title, size=45, scale=whole)[:2]).properties(height=height)


def with_room(rows: pl.DataFrame) -> tuple[alt.Scale, alt.Axis]:
    """A scale of shares, with room for a text behind the longest interval, and its axis, which ends at 100 %.

    `rows` has the columns value, high and text.
    """
    most = max(float(rows[name].max() or 0) for name in ("value", "high"))  # type: ignore[arg-type]
    most = max(most, 0.02)
    step = next(step for step in STEPS if most / step <= 6)
    ticks = [at * step for at in range(int(most / step + 1e-9) + 1)]
    letters = max(map(len, rows["text"].to_list()), default=0)
    end = alt.ExprRef(expr=f"{most} / {behind(letters)}")
    return alt.Scale(domainMin=0, domainMax=end, nice=False), alt.Axis(format="~%", values=ticks, labelFlush=False)


def _point_and_interval(
    base: alt.Chart, title: str, *, scale: alt.Scale, axis: alt.Axis = WHOLE, size: int = 80
) -> list[alt.Chart]:
    def share(column: str) -> alt.X:
        return alt.X(f"{column}:Q", title=title_lines(title), axis=axis, scale=scale)

    return [
        base.mark_rule(strokeWidth=2, opacity=0.65).encode(x=share("low"), x2="high:Q"),
        base.mark_point(filled=True, size=size, opacity=1).encode(x=share("value")),
        base.mark_text(align="left", dx=8, fontSize=11).encode(x=share("high"), text="text:N", color=alt.value(INK)),
    ]


def _fraction() -> pl.Expr:
    counted = pl.format("{}% ({}/{})", (pl.col("value") * 100).round(1), "hits", "n")
    return pl.when(pl.col("n") > 0).then(counted).otherwise(pl.lit("no scores"))


def _tooltip(*names: str) -> list[str | alt.Tooltip]:
    shares = [alt.Tooltip(f"{name}:Q", format=".1%") for name in ("value", "low", "high")]
    return [*(f"{name}:N" for name in names), *shares, "hits:Q", "n:Q"]
