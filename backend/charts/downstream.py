"""A direction behind its layer, as charts: a course through the layers beside controls, and what each part has of it.

Takes tables and draws them. It refuses to compute a mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from backend.charts.narrow import room
from backend.charts.palette import NEGATIVE, NEUTRAL, POSITIVE, role_scale
from backend.records import RANDOM

HEIGHT = 280  # pixels
_LABEL = 120  # pixels of a part's name
_AROUND = 70  # pixels of axes and legends


def layers_chart(
    table: pl.DataFrame, controls: pl.DataFrame, *, title: str, by: str, colours: alt.Scale
) -> alt.LayerChart:
    """Lines through the layers with intervals, one a value of `by`, over the bands that hold one more control.

    `table` has the columns layer, `by`, value, low, high, questions; `controls` kind, layer, value, low, high, draws,
    one row a kind and layer.
    """
    axis = alt.Axis(tickMinStep=1, format="d")
    x = alt.X("layer:Q", title="layer (output of block)", axis=axis, scale=alt.Scale(nice=False))
    legend = alt.Legend(title=None, orient="top", columns=room(2, 4), labelLimit=room(120, 220))
    numbers = [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "low", "high")]
    layers: list[alt.Chart] = []
    bands = controls.drop_nulls(["low", "high"])
    kinds = controls["kind"].unique(maintain_order=True).to_list()
    if controls.height:
        scale = role_scale(kinds, **{RANDOM: NEUTRAL})  # its usual colour is the base's, whose line is here too
        beside = alt.Chart(controls).encode(
            x=x,
            color=alt.Color("kind:N", scale=scale, legend=legend),
            tooltip=[alt.Tooltip("kind:N", title="control"), "layer:Q", *numbers, alt.Tooltip("draws:Q")],
        )
        if bands.height:
            area = beside.properties(data=bands).mark_area(opacity=0.22)
            layers.append(area.encode(y=alt.Y("low:Q", title=title), y2="high:Q"))
        layers.append(beside.mark_line(strokeWidth=1.4, strokeDash=[5, 3]).encode(y=alt.Y("value:Q", title=title)))
    own = alt.Chart(table).encode(
        x=x,
        color=alt.Color(f"{by}:N", scale=colours, legend=legend),
        tooltip=[alt.Tooltip(f"{by}:N"), "layer:Q", *numbers, alt.Tooltip("questions:Q")],
    )
    lines = [
        own.mark_rule(strokeWidth=2, opacity=0.45).encode(y=alt.Y("low:Q", title=title), y2="high:Q"),
        own.mark_line(strokeWidth=2).encode(y=alt.Y("value:Q", title=title)),
        own.mark_point(filled=True, size=30, opacity=1).encode(y=alt.Y("value:Q", title=title)),
    ]
    whole = alt.layer(alt.layer(*layers), alt.layer(*lines)) if layers else alt.layer(*lines)
    return whole.resolve_scale(color="independent").properties(height=HEIGHT)


def parts_chart(table: pl.DataFrame, *, title: str) -> alt.LayerChart:
    """What each part has of a change, by its gradient and by freezing it; the names of parts that differ are marked.

    `table` has the columns part, attributed, frozen, each with _low and _high, disagree, questions.
    """
    ways = {"attributed": "by the gradient", "frozen": "by freezing it"}
    long = pl.concat(
        [
            table.select(
                "part",
                "questions",
                "disagree",
                way=pl.lit(words),
                value=pl.col(name),
                low=pl.col(f"{name}_low"),
                high=pl.col(f"{name}_high"),
            )
            for name, words in ways.items()
        ]
    )
    order = table["part"].to_list()
    scale = alt.Scale(domain=list(ways.values()), range=[NEGATIVE, POSITIVE])
    base = alt.Chart(long).encode(
        y=alt.Y(
            "part:N", sort=order, title=None, axis=alt.Axis(labelLimit=room(_LABEL, 2 * _LABEL), labelOverlap=False)
        ),
        yOffset=alt.YOffset("way:N", sort=list(ways.values()), scale=alt.Scale(range=[-4, 4])),
        color=alt.Color("way:N", scale=scale, legend=alt.Legend(title=None, orient="top")),
        tooltip=[
            "part:N",
            alt.Tooltip("way:N", title="share"),
            *(alt.Tooltip(f"{name}:Q", format="+.4f") for name in ("value", "low", "high")),
            alt.Tooltip("questions:Q"),
            alt.Tooltip("disagree:N", title="the two disagree"),
        ],
    )
    x = alt.X("value:Q", title=title, axis=alt.Axis(tickCount=5))
    zero = alt.Chart(pl.DataFrame({"value": [0.0]})).mark_rule(color=NEUTRAL, strokeDash=[4, 4]).encode(x=x)
    rule = base.mark_rule(strokeWidth=2, opacity=0.5).encode(x=alt.X("low:Q", title=title), x2="high:Q")
    return alt.layer(zero, rule, base.mark_point(filled=True, size=48, opacity=1).encode(x=x)).properties(
        height=26 * len(order) + _AROUND
    )


def values_chart(table: pl.DataFrame, *, name: str, title: str, order: Sequence[str]) -> alt.LayerChart:
    """A value with its interval a row. `table` has the columns named `name`, value, low, high, questions."""
    base = alt.Chart(table).encode(
        y=alt.Y(
            f"{name}:N", sort=list(order), title=None, axis=alt.Axis(labelLimit=room(110, 240), labelOverlap=False)
        ),
        color=alt.condition("datum.value >= 0", alt.value(POSITIVE), alt.value(NEGATIVE)),
        tooltip=[
            f"{name}:N",
            *(alt.Tooltip(f"{each}:Q", format="+.3f") for each in ("value", "low", "high")),
            alt.Tooltip("questions:Q"),
        ],
    )
    x = alt.X("value:Q", title=title, axis=alt.Axis(tickCount=5))
    rule = base.mark_rule(strokeWidth=2, opacity=0.5).encode(x=alt.X("low:Q", title=title), x2="high:Q")
    return alt.layer(rule, base.mark_point(filled=True, size=48, opacity=1).encode(x=x)).properties(
        height=20 * len(order) + _AROUND
    )
