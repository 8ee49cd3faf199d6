"""Responses as points: the scores that decide an outcome, two at a time.

Takes a table of responses and draws it. It refuses to choose which responses are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from backend.charts.palette import CHOSEN, NEUTRAL, POSITIVE, organism_scale, shape_scale
from backend.charts.pick import picking
from backend.outcomes import EM, Outcome

MOST_POINTS = 5000
MOST_SHAPES = 6  # conditions that a shape can tell apart; past it all points are circles
BRUSH = "brush"
_GREY = {"symbolFillColor": NEUTRAL, "symbolStrokeColor": NEUTRAL}
LENGTH = "n_answer"  # the axis of an outcome of one score, where the judge gave no other: tokens
_SHOWN = ("response", "organism", "condition", "question_id")


def thinned(table: pl.DataFrame, most: int = MOST_POINTS) -> pl.DataFrame:
    """At most so many rows, the same ones on every draw."""
    return table if table.height <= most else table.sample(most, seed=0)


def axes(outcome: Outcome, metrics: Sequence[str]) -> tuple[str, str]:
    """What the points lie along, across and up: what decides a hit, and its gate, or another of `metrics`."""
    up = outcome.core[0].metric
    gate = () if outcome.gate is None else (outcome.gate.metric,)
    others = [name for name in (*gate, *outcome.needs, *metrics) if name != up]
    return (others or [LENGTH])[0], up


def outcome_scatter(
    table: pl.DataFrame,
    *,
    outcome: Outcome = EM,
    across: str = "coherent",
    up: str = "aligned",
    chosen: str | None = None,
    organisms: Sequence[str] = (),
) -> alt.LayerChart:
    """Two columns of every response; drag to brush (parameter BRUSH), click to pick one (PICK).

    `table` has the columns response, organism, condition, question_id, text, and two by `axes`: 0 to 100 (LENGTH: any),
    not null. `organisms` are all of the study, for their colours. A frame holds what counts as a hit.
    """
    shown = [*_SHOWN, across, up, "opening"]
    rows = table.with_columns(opening=pl.col("text").str.slice(0, 140)).select(shown)
    conditions = rows["condition"].unique(maintain_order=True).to_list()
    shape = alt.Shape("condition:N", scale=shape_scale(conditions), legend=_legend("bottom", **_GREY))
    points = (
        alt.Chart(rows)
        .mark_point(filled=True, size=46)
        .encode(
            x=alt.X(f"{across}:Q", **_axis(across)),
            y=alt.Y(f"{up}:Q", **_axis(up)),
            color=alt.Color("organism:N", scale=organism_scale(rows["organism"], organisms), legend=_legend("top")),
            shape=shape if len(conditions) <= MOST_SHAPES else alt.value("circle"),
            opacity=alt.condition(alt.selection_interval(name=BRUSH), alt.value(0.7), alt.value(0.18)),
            tooltip=[f"{name}:{'Q' if name in (across, up) else 'N'}" for name in shown],
        )
        .add_params(alt.selection_interval(name=BRUSH), picking("response"))
    )
    here = alt.Chart(rows.filter(pl.col("response") == (chosen or "")))
    ring = here.mark_point(size=240, strokeWidth=3, color=CHOSEN, opacity=1).encode(x=f"{across}:Q", y=f"{up}:Q")
    (left, right), (bottom, top) = _hit(outcome, across), _hit(outcome, up)
    box = alt.Chart(pl.DataFrame({"left": [left], "right": [right], "bottom": [bottom], "top": [top]}))
    sides = {"y": "bottom:Q", "y2": "top:Q"} | ({} if across == LENGTH else {"x": "left:Q", "x2": "right:Q"})
    box = box.encode(**sides)
    area, edge = box.mark_rect(color=POSITIVE, opacity=0.1), box.mark_rect(filled=False, stroke=POSITIVE, strokeWidth=2)
    return alt.layer(area, points, edge, ring).properties(height=430)


def _hit(outcome: Outcome, metric: str) -> tuple[float, float]:
    """Between which scores of a metric a hit lies, 0 and 100 where its edge is open."""
    own = [band for band in outcome.hit if band.metric == metric]
    low, high = max((0.0, *(band.low for band in own))), min((100.0, *(band.high for band in own)))
    return round(low, 6), round(high, 6)


def _axis(name: str) -> dict[str, object]:
    if name == LENGTH:
        return {"title": "tokens of the answer"}
    return {
        "title": f"{name}, 0–100",
        "scale": alt.Scale(domain=[0, 100], nice=False),
        "axis": alt.Axis(tickCount=5, labelFlush=False),
    }


def _legend(place: str, **how: object) -> alt.Legend:
    return alt.Legend(title=None, orient=place, labelLimit=200, columns=3, **how)
