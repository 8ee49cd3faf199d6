"""Along training, as charts: a rate by step, a scalar by step, the loss by step.

Takes tables and draws them. It refuses to compute a rate.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from backend.charts.narrow import room
from backend.charts.palette import NEUTRAL, POSITIVE, class_scale, organism_scale

HEIGHT = 260  # pixels
_STEP = alt.Axis(tickCount=6, format="~d")


def _legend() -> alt.Legend:
    return alt.Legend(title=None, orient="top", columns=room(2, 3), labelLimit=room(130, 200))


def step_chart(
    table: pl.DataFrame, *, title: str, control: float | None = None, organisms: Sequence[str] = ()
) -> alt.LayerChart:
    """A rate along every training run, with intervals; `control` draws the rate without training as a dashed line.

    `table` has the columns organism (a run), step, value, low, high (shares), n, clusters, about. `organisms` are all
    of the study, for their colours.
    """
    runs = table["organism"].unique(maintain_order=True).to_list()
    scale = alt.Scale(domain=[0, min(1.0, max(0.1, float(table["high"].max() or 0)))])  # type: ignore[arg-type]
    share = alt.Axis(format="~%", tickCount=5)
    base = alt.Chart(table).encode(
        x=alt.X("step:Q", title="training step", axis=_STEP, scale=alt.Scale(zero=True)),
        color=alt.Color(
            "organism:N", scale=organism_scale(runs, organisms), legend=_legend() if len(runs) > 1 else None
        ),
        tooltip=[
            alt.Tooltip("organism:N"),
            alt.Tooltip("step:Q"),
            *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("value", "low", "high")),
            alt.Tooltip("n:Q"),
            alt.Tooltip("clusters:Q", title="questions"),
            alt.Tooltip("about:N", title="interval for"),
        ],
    )
    y = alt.Y("value:Q", title=title, axis=share, scale=scale)
    layers = [
        base.mark_rule(strokeWidth=2, opacity=0.5).encode(y=alt.Y("low:Q", title=title, scale=scale), y2="high:Q"),
        base.mark_line(strokeWidth=1.8, opacity=0.8).encode(y=y),
        base.mark_point(filled=True, size=64, opacity=1).encode(y=y),
    ]
    if control is not None:
        line = alt.Chart(pl.DataFrame({"value": [control]}))
        layers.insert(0, line.mark_rule(color=NEUTRAL, strokeDash=[4, 4], strokeWidth=2).encode(y=y))
    return alt.layer(*layers).properties(height=HEIGHT)


def separation_steps_chart(table: pl.DataFrame) -> alt.LayerChart:
    """How far an adapter's scalar tells two classes apart, by step; chance at one half.

    `table` has the columns step, value (AUC), low, high (null: no interval), n, questions.
    """
    base = alt.Chart(table).encode(
        x=alt.X("step:Q", title="training step", axis=_STEP),
        tooltip=[
            alt.Tooltip("step:Q"),
            *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("value", "low", "high")),
            alt.Tooltip("n:Q", title="texts"),
            alt.Tooltip("questions:Q"),
        ],
    )
    title, scale = "AUC of the mean scalar", alt.Scale(domain=[0, 1])
    y = alt.Y("value:Q", title=title, scale=scale, axis=alt.Axis(format=".1f", tickCount=6))
    chance = alt.Chart(pl.DataFrame({"value": [0.5]})).mark_rule(color=NEUTRAL, strokeDash=[4, 4], strokeWidth=2)
    return alt.layer(
        chance.encode(y=y),
        base.mark_rule(strokeWidth=2, opacity=0.5, color=POSITIVE).encode(
            y=alt.Y("low:Q", title=title, scale=scale), y2="high:Q"
        ),
        base.mark_line(strokeWidth=1.8, opacity=0.8, color=POSITIVE).encode(y=y),
        base.mark_point(filled=True, size=64, opacity=1, color=POSITIVE).encode(y=y),
    ).properties(height=HEIGHT)


def scalar_steps_chart(table: pl.DataFrame, *, positive: str, negative: str) -> alt.LayerChart:
    """The mean scalar of both classes by step, with intervals.

    `table` has the columns step, side (one of the two names), value, low, high, n.
    """
    base = alt.Chart(table).encode(
        x=alt.X("step:Q", title="training step", axis=_STEP),
        color=alt.Color("side:N", scale=class_scale(positive, negative), legend=_legend()),
        tooltip=[
            alt.Tooltip("side:N"),
            alt.Tooltip("step:Q"),
            *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "low", "high")),
        ],
    )
    y = alt.Y("value:Q", title="mean scalar of a text")
    return alt.layer(
        base.mark_rule(strokeWidth=2, opacity=0.5).encode(y=alt.Y("low:Q", title="mean scalar of a text"), y2="high:Q"),
        base.mark_line(strokeWidth=1.8, opacity=0.8).encode(y=y),
        base.mark_point(filled=True, size=64, opacity=1).encode(y=y),
    ).properties(height=HEIGHT)


def loss_chart(table: pl.DataFrame, *, organisms: Sequence[str] = ()) -> alt.Chart:
    """The loss of every organism's training by step. `table` has the columns organism, step, loss."""
    drawn = table["organism"].unique(maintain_order=True).to_list()
    return (
        alt.Chart(table)
        .mark_line(strokeWidth=1.4, opacity=0.85)
        .encode(
            x=alt.X("step:Q", title="training step", axis=_STEP),
            y=alt.Y("loss:Q", title="loss, nats a token", scale=alt.Scale(zero=False)),
            color=alt.Color("organism:N", scale=organism_scale(drawn, organisms), legend=_legend()),
            tooltip=["organism:N", "step:Q", alt.Tooltip("loss:Q", format=".3f")],
        )
        .properties(height=HEIGHT)
    )
