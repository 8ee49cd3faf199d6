"""Several directions layer by layer: their cosines beside those of controls, their norms, their shares.

Takes a table and draws it. It refuses to compute a cosine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import polars as pl

from backend.analysis.conditions.controls import GOOD
from backend.analysis.directions.convergence import CEILING, PAIRS
from backend.charts.narrow import lane_axis, room
from backend.charts.palette import NEUTRAL, POSITIVE, dash_scale, direction_scale, ink_on, role_scale, signed_scale
from backend.records import FloatArray

_DASHES = {PAIRS: [1, 0], CEILING: [2, 2], GOOD: [6, 3]}


def agreement_chart(
    table: pl.DataFrame, *, chance: float | None, chosen: int | None = None, mean: pl.DataFrame | None = None
) -> alt.LayerChart:
    """The cosine of every two directions over layers, coloured by what the two are.

    `table` has the columns layer, a, b, group, cosine. `chance` shades what two random directions reach, `chosen` marks
    a layer. `mean` has the columns layer, cosine, low, high, control: the mean over pairs of organisms as a thick line,
    and the band where shuffled labels put it, where low and high are not null.
    """
    drawn = [name for name in _DASHES if (table["group"] == name).any()]
    known = pl.DataFrame() if mean is None else mean.drop_nulls("low")
    shuffled = known["control"].unique().to_list() if known.height else []
    colours = role_scale([*drawn, *shuffled], **{PAIRS: POSITIVE, CEILING: NEUTRAL})
    legend = alt.Legend(title=None, orient="top", symbolOpacity=1, symbolType="square", symbolStrokeWidth=0, columns=4)
    rows = table.with_columns(pair=pl.format("{} and {}", "a", "b"))
    lowest = min(float(rows["cosine"].min() or 0), *(known["low"] if known.height else ()), -0.1)  # type: ignore[arg-type]
    x = alt.X(
        "layer:Q",
        title="layer (output of block)",
        axis=alt.Axis(tickMinStep=1, format="d"),
        scale=alt.Scale(nice=False),
    )
    y = alt.Y("cosine:Q", title="cosine", scale=alt.Scale(domain=[lowest, 1]))
    base = alt.Chart(rows).encode(
        x=x,
        y=y,
        detail="pair:N",
        color=alt.Color("group:N", scale=colours, legend=legend),
        tooltip=["pair:N", "group:N", "layer:Q", alt.Tooltip("cosine:Q", format=".3f")],
    )
    dashes = alt.Scale(domain=drawn, range=[_DASHES[name] for name in drawn])
    layers: list[alt.Chart] = []
    if chance is not None:
        ends = {"low": [-chance] * 2, "high": [chance] * 2, "layer": [rows["layer"].min(), rows["layer"].max()]}
        band = alt.Chart(pl.DataFrame(ends)).mark_area(color=NEUTRAL, opacity=0.22)
        layers.append(band.encode(x=x, y=alt.Y("low:Q", title="cosine"), y2="high:Q"))
    if known.height:
        band = alt.Chart(known).mark_area(opacity=0.35)
        color = alt.Color("control:N", scale=colours, legend=legend)
        layers.append(band.encode(x=x, y=alt.Y("low:Q", title="cosine"), y2="high:Q", color=color))
    layers.append(
        base.mark_line(strokeWidth=1.5, opacity=0.7).encode(
            strokeDash=alt.StrokeDash("group:N", scale=dashes, legend=None)
        )
    )
    layers.append(base.mark_point(filled=True, size=16, opacity=0.85))
    if mean is not None and mean.height:
        line = alt.Chart(mean).mark_line(strokeWidth=4, color=POSITIVE)
        layers.append(line.encode(x=x, y=y, tooltip=["layer:Q", alt.Tooltip("cosine:Q", format=".3f")]))
    if chosen is not None:
        here = alt.Chart(pl.DataFrame({"layer": [chosen]})).mark_rule(color=NEUTRAL, strokeDash=[2, 4])
        layers.append(here.encode(x=x))
    return alt.layer(*layers).properties(height=420)


def pair_cosine_chart(matrix: FloatArray, names: Sequence[str]) -> alt.LayerChart:
    """The cosine of every two directions at one layer as colour and number; `matrix` is (name, name), NaN: none."""
    size = len(names)
    values = np.asarray(matrix, dtype=np.float64).ravel()
    table = pl.DataFrame(
        {"a": np.repeat(list(names), size), "b": np.tile(list(names), size), "cosine": values}
    ).drop_nans("cosine")
    axis = lane_axis(names, grid=False, labelOverlap=False)
    base = alt.Chart(table).encode(
        x=alt.X("b:N", sort=list(names), title=None, axis=None),
        y=alt.Y("a:N", sort=list(names), title=None, axis=axis),
        tooltip=["a:N", "b:N", alt.Tooltip("cosine:Q", format=".3f")],
    )
    colour = alt.Color(
        "cosine:Q",
        scale=signed_scale(),
        legend=alt.Legend(title=None, gradientLength=140, gradientThickness=9, orient="top"),
    )
    layers = [base.mark_rect().encode(color=colour)]
    if size <= 14:
        layers.append(
            base.mark_text(fontSize=room(9, 11)).encode(text=alt.Text("cosine:Q", format=".2f"), color=ink_on("cosine"))
        )
    return alt.layer(*layers).properties(height=max(30 * size, 60) + 20)


def layer_lines(
    table: pl.DataFrame,
    *,
    column: str,
    title: str,
    names: Sequence[str],
    roles: Mapping[str, str] | None = None,
    logarithmic: bool = False,
    height: int = 340,
) -> alt.LayerChart:
    """The column of every direction over layers; `names` fixes the colours, in that order, `roles` says which are
    controls, as in `series_legend`.

    `table` has the columns name, layer and the column named. A cosine gets the axis from its least to 1.
    """
    rows = table.filter(pl.col("name").is_in(list(names))).drop_nulls(column)
    scale = alt.Scale(type="log") if logarithmic else alt.Scale(zero=False)
    base = alt.Chart(rows).encode(
        x=alt.X(
            "layer:Q",
            title="layer (output of block)",
            axis=alt.Axis(tickMinStep=1, format="d"),
            scale=alt.Scale(nice=False),
        ),
        y=alt.Y(f"{column}:Q", title=title, scale=scale),
        color=alt.Color("name:N", scale=direction_scale(list(names), roles), legend=None),
        tooltip=["name:N", "layer:Q", alt.Tooltip(f"{column}:Q", format=".3f")],
    )
    dash = alt.StrokeDash("name:N", scale=dash_scale(list(names), roles or {}), legend=None)
    layers = [base.mark_line(strokeWidth=2).encode(strokeDash=dash), base.mark_point(filled=True, size=18, opacity=1)]
    if column == "cosine":
        zero = alt.Chart(pl.DataFrame({"zero": [0.0]})).mark_rule(color=NEUTRAL, strokeDash=[3, 3])
        layers.insert(0, zero.encode(y=alt.Y("zero:Q", title=title)))
    return alt.layer(*layers).properties(height=height)
