"""Two judges on the same answers as charts: their scores, their verdicts, and the rates each would report.

Takes tables that `analysis.judges` makes and draws them. It refuses to compute agreement.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from backend.charts.narrow import lane_axis
from backend.charts.palette import (
    CHOSEN,
    INK,
    NEGATIVE,
    NEUTRAL,
    VERDICTS,
    ink_on,
    judge_scale,
    named_scale,
    share_scale,
)
from backend.charts.pick import picking
from backend.charts.shares import with_room
from backend.outcomes import EM, Outcome

MOST_POINTS = 4000
_LANE, _FURNITURE = 15, 110  # pixels: a rate, and what the axis and the legend take


def score_scatter(
    pairs: pl.DataFrame, *, metric: str, judge: str, reference: str, chosen: str | None = None, outcome: Outcome = EM
) -> alt.LayerChart:
    """One metric by both judges, a point an answer; lines are the outcome's cuts; click to pick one (PICK).

    `pairs` has response, metric and metric_r (0 to 100), and verdict_r, which gives the colour.
    """
    edges = [edge for band in outcome.hit if band.metric == metric for edge in band.edges]
    rows = pairs if pairs.height <= MOST_POINTS else pairs.sample(MOST_POINTS, seed=0)
    shown = ["response", metric, f"{metric}_r", "verdict", "verdict_r", "opening"]
    rows = rows.with_columns(opening=pl.col("text").str.slice(0, 140)).select(shown)
    scale = alt.Scale(domain=[-2, 102], nice=False)
    axis = alt.Axis(values=[0, 25, 50, 75, 100], labelFlush=False)
    x = alt.X(f"{metric}_r:Q", title=f"{metric} by {reference}", scale=scale, axis=axis)
    y = alt.Y(f"{metric}:Q", title=f"{metric} by {judge}", scale=scale, axis=axis)
    kinds = named_scale(dict(zip(outcome.kinds, VERDICTS, strict=False)))
    legend = alt.Legend(title=f"by {reference}", orient="top", columns=3, labelLimit=200, titleLimit=240)
    points = (
        alt.Chart(rows)
        .mark_point(filled=True, size=40, opacity=0.55)
        .encode(
            x=x,
            y=y,
            color=alt.Color("verdict_r:N", scale=kinds, legend=legend),
            tooltip=[f"{name}:{'Q' if name.startswith(metric) else 'N'}" for name in shown],
        )
        .add_params(picking("response"))
    )
    dash = {"strokeDash": [5, 4], "color": NEUTRAL}
    lines = alt.Chart(pl.DataFrame({"edge": edges}, schema={"edge": pl.Float64}))
    here = alt.Chart(rows.filter(pl.col("response") == (chosen or "")))
    ring = here.mark_point(size=220, strokeWidth=3, color=CHOSEN, opacity=1).encode(x=x, y=y)
    across, up = lines.mark_rule(**dash).encode(y="edge:Q"), lines.mark_rule(**dash).encode(x="edge:Q")
    return alt.layer(across, up, points, ring).properties(height=400)


def confusion_chart(table: pl.DataFrame, *, judge: str, reference: str, outcome: Outcome = EM) -> alt.LayerChart:
    """How many answers got each pair of verdicts; `table` has verdict, verdict_r and n."""
    total = max(int(table["n"].sum()), 1)
    rows = table.with_columns(share=pl.col("n") / total, text=pl.col("n").cast(pl.String))
    order = list(outcome.kinds)
    base = alt.Chart(rows).encode(
        x=alt.X("verdict_r:N", sort=order, title=f"by {reference}", axis=alt.Axis(labelAngle=0, orient="top")),
        y=alt.Y("verdict:N", sort=order, title=f"by {judge}"),
        tooltip=["verdict:N", "verdict_r:N", "n:Q", alt.Tooltip("share:Q", format=".1%")],
    )
    tint = share_scale(NEGATIVE)
    cells = base.mark_rect(stroke=NEUTRAL, strokeWidth=0.5).encode(color=alt.Color("share:Q", scale=tint, legend=None))
    counts = base.mark_text(fontSize=15, fontWeight=600).encode(text="text:N", color=ink_on("share"))
    return alt.layer(cells, counts).properties(height=230)


def judged_rate_chart(
    table: pl.DataFrame, *, title: str, judges: Sequence[str], every: Sequence[str] = ()
) -> alt.LayerChart:
    """A point and its interval a judge in every lane; `table` has judge, organism, condition, value, low, high, n.

    A column text has what stands beside each, in place of the value with its hits.
    `every` are all judges of the study, for their colours.
    """
    fraction = pl.format("{}% ({}/{})", (pl.col("value") * 100).round(1), "hits", "n")
    text = pl.col("text") if "text" in table.columns else fraction
    rows = table.filter(pl.col("n") > 0).with_columns(lane=pl.format("{} · {}", "organism", "condition"), text=text)
    lanes = rows["lane"].unique(maintain_order=True).to_list()
    colours = judge_scale(judges, every)
    scale, axis = with_room(rows)
    base = alt.Chart(rows).encode(
        y=alt.Y("lane:N", sort=lanes, title=None, axis=lane_axis(lanes)),
        yOffset=alt.YOffset("judge:N", sort=list(judges)),
        color=alt.Color(
            "judge:N", scale=colours, legend=alt.Legend(title=None, orient="top", labelLimit=260, columns=1)
        ),
        tooltip=[
            "organism:N",
            "condition:N",
            "judge:N",
            *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("value", "low", "high")),
            "hits:Q",
            "n:Q",
        ],
    )

    def share(column: str) -> alt.X:
        return alt.X(f"{column}:Q", title=title, axis=axis, scale=scale)

    rule = base.mark_rule(strokeWidth=2, opacity=0.65).encode(x=share("low"), x2="high:Q")
    point = base.mark_point(filled=True, size=60, opacity=1).encode(x=share("value"))
    words = base.mark_text(align="left", dx=6, fontSize=10).encode(x=share("high"), text="text:N", color=alt.value(INK))
    height = max(_LANE * len(judges) + 8, 24) * len(lanes) + _FURNITURE
    return alt.layer(rule, point, words).properties(height=height)
