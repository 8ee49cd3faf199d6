"""Sweeps as charts: rates by layer and strength, by strength alone, and an outcome against its gate.

Takes tables of rates and draws them. It refuses to compute a rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import polars as pl
from markupsafe import Markup

from backend.analysis.conditions.controls import ITSELF
from backend.charts.palette import (
    CHOSEN,
    NEUTRAL,
    ON_PALE,
    OUTCOMES,
    POSITIVE,
    dash_scale,
    direction_scale,
    share_scale,
)
from backend.charts.pick import picking

UNITS = {"strength": "strength λ", "relative": "added norm / activation norm"}
_FINEST = 16  # values of a unit past which a heat map's cells become dots


def series_legend(names: Sequence[str], roles: Mapping[str, str]) -> str:
    """The colour of every series as HTML, for charts beside each other that share it; controls are named as such."""
    scale = direction_scale(names, roles).to_dict()
    chip = Markup(
        '<span style="display:inline-flex;align-items:center;gap:0.4em"><span style="display:inline-block;'
        'width:22px;border-top:3px {} {}"></span>{}</span>'
    )
    chips = []
    for name, colour in zip(scale["domain"], scale["range"], strict=True):
        kind = roles.get(name, ITSELF)
        said = "" if kind == ITSELF or name.startswith(kind) else f" ({kind})"
        chips.append(chip.format("solid" if kind == ITSELF else "dashed", colour, name + said))
    return Markup('<div style="display:flex;flex-wrap:wrap;gap:0.2em 1.4em;font-size:0.84rem">{}</div>').format(
        Markup("").join(chips)
    )


def heat_chart(
    table: pl.DataFrame, *, metric: str, x: str, title: str, most: float = 1.0, chosen: str | None = None
) -> alt.LayerChart:
    """A rate at every layer and strength as colour; click a cell to pick it.

    `table` has the columns cell, layer, strength, relative, value, low, high (shares), hits, n, dropped, mark
    (a text on the cell, or ""). `x` is the unit, `most` the rate of the full colour, `chosen` a cell to outline.
    """
    rows = table.drop_nulls([x, "value", "layer"])
    ordinal = rows[x].round_sig_figs(3).n_unique() <= _FINEST
    rows = rows.with_columns(pl.col(x).round_sig_figs(3)) if ordinal else rows
    axis = alt.Axis(ticks=False, domain=False, grid=False, labelOverlap=True, labelAngle=0)
    scale = alt.Undefined if ordinal else alt.Scale(type="log", nice=False, padding=8)
    y = alt.Y(f"{x}:{'O' if ordinal else 'Q'}", title=UNITS[x], sort="descending", axis=axis, scale=scale)
    if not ordinal:
        y = alt.Y(f"{x}:Q", title=UNITS[x], axis=alt.Axis(grid=False, tickCount=6), scale=scale)
    base = alt.Chart(rows).encode(
        x=alt.X("layer:O", title="layer (output of block)", axis=axis),
        y=y,
        tooltip=_tooltip("cell", "strength", "relative"),
    )
    colour = alt.Color(
        "value:Q",
        scale=share_scale(OUTCOMES.get(metric, POSITIVE), most),
        legend=alt.Legend(title=None, format="~%", orient="top", gradientLength=160, gradientThickness=9),
    )
    cell = base.mark_rect() if ordinal else base.mark_square(size=110, opacity=1)
    here = base.transform_filter(alt.datum.cell == (chosen or ""))
    outline = {"filled": False, "stroke": CHOSEN, "strokeWidth": 2.5}
    ring = here.mark_rect(**outline) if ordinal else here.mark_square(size=150, **outline)
    layers = [cell.encode(color=colour).add_params(picking("cell")), ring]
    if rows["mark"].str.len_chars().sum():
        layers.append(base.mark_text(fontSize=11, color=ON_PALE).encode(text="mark:N"))
    return alt.layer(*layers).properties(title=alt.Title(title, anchor="start", fontSize=13), height=320)


def strength_chart(
    table: pl.DataFrame,
    *,
    title: str,
    x: str,
    baseline: float | None,
    roles: Mapping[str, str] | None = None,
    height: int = 320,
) -> alt.LayerChart:
    """A line a direction over the column `x` ("strength" or "relative"), with intervals; click a point to pick it.

    `table` has the columns cell, series, strength, relative, value, low, high (shares), hits, n, dropped.
    `baseline` draws the rate without any edit as a dashed line, `roles` says which series are controls.
    """
    rows = table.drop_nulls([x, "value"])
    names = rows["series"].unique(maintain_order=True).to_list()
    roles = roles or {}
    share = alt.Axis(format="~%", tickCount=5)
    whole = alt.Scale(domain=[0, 1])
    base = alt.Chart(rows).encode(
        x=alt.X(f"{x}:Q", title=UNITS[x]),
        color=alt.Color("series:N", scale=direction_scale(names, roles), legend=None),
        tooltip=_tooltip("series", "strength", "relative"),
    )
    y = alt.Y("value:Q", title=None, axis=share, scale=whole)
    dash = alt.StrokeDash("series:N", scale=dash_scale(names, roles), legend=None)
    layers = [
        base.mark_rule(strokeWidth=2, opacity=0.5).encode(y=alt.Y("low:Q", title=None, scale=whole), y2="high:Q"),
        base.mark_line(strokeWidth=1.5, opacity=0.7).encode(y=y, strokeDash=dash),
    ]
    if baseline is not None:
        line = alt.Chart(pl.DataFrame({"value": [baseline]})).mark_rule(color=NEUTRAL, strokeDash=[4, 4])
        layers.append(line.encode(y=y))
    layers.append(base.mark_point(filled=True, size=80, opacity=1).encode(y=y).add_params(picking("cell")))
    return alt.layer(*layers).properties(title=alt.Title(title, anchor="start", fontSize=13), height=height)


def tradeoff_chart(
    table: pl.DataFrame,
    *,
    names: tuple[str, str],
    title: str,
    baseline: Mapping[str, float] | None,
    roles: Mapping[str, str],
    chosen: str | None = None,
    crowded: bool = False,
) -> alt.LayerChart:
    """Hits against what passes the gate: a dot a cell, linked in order of strength; click one to pick it.

    Where it is `crowded`, dots have no intervals, and only those of the chosen direction and place are linked.
    `table` has the columns cell, series, layers, strength, hit, hit_low, hit_high, hit_n, gate, gate_low, gate_high
    (shares); `names` are those of the outcome and of its gate, `title` the hits in words. `baseline` has hit and gate
    of no edit.
    """
    (outcome, gate), series = names, table["series"].unique(maintain_order=True).to_list()
    told = {"hit": outcome, "hit_low": f"{outcome}_low", "hit_high": f"{outcome}_high", "gate": gate}
    shares = [alt.Tooltip(f"{field}:Q", format=".1%", title=text) for field, text in told.items()]
    base = alt.Chart(table).encode(
        color=alt.Color("series:N", scale=direction_scale(series, roles), legend=None),
        tooltip=["cell:N", *shares, alt.Tooltip("hit_n:Q", title="n")],
    )
    share = alt.Axis(format="~%", tickCount=5)
    top = float(table[f"hit{'' if crowded else '_high'}"].max() or 0.1)  # type: ignore[arg-type]
    least = float(table["gate"].min() or 0)  # type: ignore[arg-type]
    width = alt.Scale(domain=[max(np.floor(least * 10 - 0.5) / 10, 0), 1])
    x = alt.X("gate:Q", title=f"{gate} answers", axis=share, scale=width)
    y = alt.Y("hit:Q", title=title, axis=share, scale=alt.Scale(domain=[0, max(top, 0.05)]))
    dash = alt.StrokeDash("series:N", scale=dash_scale(series, roles), legend=None)
    place = ["series", "layers"]
    own = table.filter(pl.col("cell") == (chosen or "")).select(place)
    linked = table.join(own, on=place, how="semi", nulls_equal=True, maintain_order="left") if crowded else table
    line = base.mark_line(strokeWidth=1.2, opacity=0.9 if crowded else 0.35)
    line = line.encode(x=x, y=y, order="strength:Q", detail="layers:N", strokeDash=dash)
    layers: list[alt.Chart] = [line.properties(data=linked)]
    if not crowded:
        thin = {"strokeWidth": 1.5, "opacity": 0.3}
        layers.append(base.mark_rule(**thin).encode(x=x, y=alt.Y("hit_low:Q", title=""), y2="hit_high:Q"))
        layers.append(base.mark_rule(**thin).encode(y=y, x=alt.X("gate_low:Q", title=""), x2="gate_high:Q"))
    layers.append(base.mark_point(filled=True, size=60, opacity=0.9).encode(x=x, y=y).add_params(picking("cell")))
    here = base.transform_filter(alt.datum.cell == (chosen or ""))
    layers.append(here.mark_point(size=190, strokeWidth=2.5, opacity=1).encode(x=x, y=y, color=alt.value(CHOSEN)))
    if baseline is not None:
        plain = alt.Chart(pl.DataFrame({**baseline, "label": "no edit"}))
        mark = {"filled": True, "size": 150, "shape": "diamond", "color": NEUTRAL, "opacity": 1}
        layers.append(plain.mark_point(**mark).encode(x=x, y=y, tooltip=["label:N", *shares[:1], shares[3]]))
    return alt.layer(*layers).properties(height=420)


def _tooltip(*names: str) -> list[str | alt.Tooltip]:
    shares = [alt.Tooltip(f"{name}:Q", format=".1%") for name in ("value", "low", "high")]
    kinds = {"strength": alt.Tooltip("strength:Q", format=".3~f"), "relative": alt.Tooltip("relative:Q", format=".2f")}
    return [*(kinds.get(name, f"{name}:N") for name in names), *shares, "hits:Q", "n:Q", "dropped:Q"]
