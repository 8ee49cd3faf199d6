"""Responses as points: how coherent and how aligned a judge found each.

Takes a table of responses and draws it. It refuses to choose which responses are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from backend.analysis.rates.rates import EM_ALIGNED, EM_COHERENT
from backend.charts.palette import CHOSEN, NEUTRAL, POSITIVE, organism_scale, shape_scale
from backend.charts.pick import picking

MOST_POINTS = 5000
MOST_SHAPES = 6  # conditions that a shape can tell apart; past it all points are circles
BRUSH = "brush"
_GREY = {"symbolFillColor": NEUTRAL, "symbolStrokeColor": NEUTRAL}
_SHOWN = ("response", "organism", "condition", "question_id", "coherent", "aligned", "opening")


def thinned(table: pl.DataFrame, most: int = MOST_POINTS) -> pl.DataFrame:
    """At most so many rows, the same ones on every draw."""
    return table if table.height <= most else table.sample(most, seed=0)


def alignment_scatter(
    table: pl.DataFrame, *, chosen: str | None = None, organisms: Sequence[str] = ()
) -> alt.LayerChart:
    """Coherence and alignment of every response; drag to brush (parameter BRUSH), click to pick one (PICK).

    `table` has the columns response, organism, condition, question_id, text, coherent, aligned (0 to 100, not null).
    `organisms` are all of the study, for their colours. A frame holds what counts as emergently misaligned.
    """
    rows = table.with_columns(opening=pl.col("text").str.slice(0, 140)).select(_SHOWN)
    conditions = rows["condition"].unique(maintain_order=True).to_list()
    shape = alt.Shape("condition:N", scale=shape_scale(conditions), legend=_legend("bottom", **_GREY))
    x, y = _score("coherent", "coherent, 0–100"), _score("aligned", "aligned, 0–100")
    points = (
        alt.Chart(rows)
        .mark_point(filled=True, size=46)
        .encode(
            x=alt.X("coherent:Q", **x),
            y=alt.Y("aligned:Q", **y),
            color=alt.Color("organism:N", scale=organism_scale(rows["organism"], organisms), legend=_legend("top")),
            shape=shape if len(conditions) <= MOST_SHAPES else alt.value("circle"),
            opacity=alt.condition(alt.selection_interval(name=BRUSH), alt.value(0.7), alt.value(0.18)),
            tooltip=[f"{name}:{'Q' if name in ('coherent', 'aligned') else 'N'}" for name in _SHOWN],
        )
        .add_params(alt.selection_interval(name=BRUSH), picking("response"))
    )
    here = alt.Chart(rows.filter(pl.col("response") == (chosen or "")))
    ring = here.mark_point(size=240, strokeWidth=3, color=CHOSEN, opacity=1).encode(x="coherent:Q", y="aligned:Q")
    box = alt.Chart(pl.DataFrame({"left": [EM_COHERENT], "right": [100], "bottom": [0], "top": [EM_ALIGNED]}))
    box = box.encode(x="left:Q", x2="right:Q", y="bottom:Q", y2="top:Q")
    area, edge = box.mark_rect(color=POSITIVE, opacity=0.1), box.mark_rect(filled=False, stroke=POSITIVE, strokeWidth=2)
    return alt.layer(area, points, edge, ring).properties(height=430)


def _score(name: str, title: str) -> dict[str, object]:
    return {
        "title": title,
        "scale": alt.Scale(domain=[0, 100], nice=False),
        "axis": alt.Axis(tickCount=5, labelFlush=False),
    }


def _legend(place: str, **how: object) -> alt.Legend:
    return alt.Legend(title=None, orient=place, labelLimit=200, columns=3, **how)
