"""What adapters tell beside what they cause, as charts: the map, both rankings, single effects, pairs.

Takes tables and draws them. It refuses to know how any number came about. Channels are objects, not shorthand strings,
and what layers share is said once: Altair takes 1 to 2 ms to find the class of each string.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from backend.charts.palette import INK, LOWEST, NEUTRAL, POSITIVE, TELLS, ink_on, signed_scale

BRUSH = "region"  # the parameter of the map's brush
BY_LEAN, BY_LAYER, BY_MODULE = "what they tell", "layer", "module"
MOST_INTERVALS = 60  # adapters; past it the intervals are in the tooltips alone
ROW = 26  # pixels of height a row gets
FURNITURE = 70


def map_chart(table: pl.DataFrame, *, topic: str, valence: str, by: str = BY_LEAN) -> alt.LayerChart:
    """Every adapter by two folded AUCs with their intervals; drag to choose a region (parameter BRUSH).

    `table` has the columns adapter, label, layer, module, size (of the write vector, null where unknown), lean and
    topic, valence with their _low, _high, _shuffled and _q.
    """
    ends = [f"{axis}{end}" for axis in ("topic", "valence") for end in ("", "_low", "_high")]
    beside = [f"{axis}{end}" for axis in ("topic", "valence") for end in ("_shuffled", "_q")]
    shown = ["adapter", "label", "layer", "module", "lean", "size", *ends, *beside]
    rows = table.select(shown).with_columns(pl.col("layer").cast(pl.Int64))
    top = max(0.75, float(rows.select(pl.max_horizontal(pl.col(ends).max())).item() or 0) + 0.02)
    scale = alt.Scale(domain=[0.48, min(top, 1.02)], nice=False, zero=False, clamp=True)
    x = alt.X("topic:Q", title=f"tells {topic}: AUC, folded", scale=scale, axis=alt.Axis(format=".2f", tickCount=6))
    y = alt.Y("valence:Q", title=f"tells {valence}: AUC, folded", scale=scale, axis=alt.Axis(format=".2f", tickCount=6))
    colour = _colour(rows, by, topic, valence)
    base = alt.Chart(rows)
    layers: list[alt.Chart] = [
        alt.Chart(pl.DataFrame({"at": [0.5]})).mark_rule(color=NEUTRAL, strokeDash=[3, 3]).encode(x=alt.X("at:Q")),
        alt.Chart(pl.DataFrame({"at": [0.5]})).mark_rule(color=NEUTRAL, strokeDash=[3, 3]).encode(y=alt.Y("at:Q")),
    ]
    if rows.height <= MOST_INTERVALS:
        line = base.mark_rule(strokeWidth=1.5, opacity=0.4)
        layers += [
            line.encode(x=alt.X("topic_low:Q", scale=scale), x2=alt.X2("topic_high:Q"), y=y, color=colour),
            line.encode(y=alt.Y("valence_low:Q", scale=scale), y2=alt.Y2("valence_high:Q"), x=x, color=colour),
        ]
    size = alt.Size("size:Q", scale=alt.Scale(range=[60, 420], zero=False), legend=None)
    points = base.mark_point(filled=True, stroke=LOWEST, strokeWidth=0.5).encode(
        x=x,
        y=y,
        color=colour,
        size=size if rows["size"].null_count() == 0 and rows["size"].n_unique() > 1 else alt.SizeValue(160),
        opacity=alt.OpacityValue(0.25, condition={"param": BRUSH, "value": 0.95}),
        tooltip=[
            alt.Tooltip("adapter:N"),
            alt.Tooltip("lean:N"),
            *(alt.Tooltip(f"{name}:Q", format=".2g" if name.endswith("_q") else ".3f") for name in (*ends, *beside)),
            alt.Tooltip("size:Q", format=".3f"),
        ],
    )
    layers.append(points.add_params(alt.selection_interval(name=BRUSH)))
    if rows.height <= MOST_INTERVALS:
        words = base.mark_text(align="left", dx=9, dy=-8, fontSize=11, color=INK)
        layers.append(words.encode(x=x, y=y, text=alt.Text("label:N")))
    return alt.layer(*layers, height=460)


def rank_chart(table: pl.DataFrame, *, left: str, right: str) -> alt.LayerChart:
    """Two rankings of the same modules, joined by lines; a conflict is vermillion and thick.

    `table` has the columns label, probe_rank, cause_rank, verdict, conflict.
    """
    rows = table.select("label", "verdict", "conflict", "probe_rank", "cause_rank")
    long = rows.unpivot(["probe_rank", "cause_rank"], index=["label", "verdict", "conflict"], value_name="rank")
    names = {"probe_rank": left, "cause_rank": right}
    long = long.with_columns(side=pl.col("variable").replace_strict(names)).drop("variable")
    scale = alt.Scale(domain=[True, False], range=[POSITIVE, NEUTRAL])
    base = alt.Chart()
    line = base.mark_line().encode(
        strokeWidth=alt.StrokeWidthValue(1.5, condition={"test": "datum.conflict", "value": 4}),
        opacity=alt.OpacityValue(0.6, condition={"test": "datum.conflict", "value": 1}),
    )
    text = base.encode(text=alt.Text("label:N"), size=alt.SizeValue(12), color=alt.value(INK))
    ends = [
        text.transform_filter(alt.datum.side == side).mark_text(fontSize=12, align=align, dx=dx)
        for side, align, dx in ((left, "right", -10), (right, "left", 10))
    ]
    points = base.mark_point(filled=True, size=70, opacity=1)
    return alt.layer(line, points, *ends, data=long, height=ROW * table.height + FURNITURE).encode(
        x=alt.X("side:N", sort=[left, right], title=None, axis=alt.Axis(labelAngle=0, orient="top", labelLimit=260)),
        y=alt.Y("rank:Q", title="rank", scale=alt.Scale(reverse=True, nice=False, padding=12), axis=None),
        color=alt.Color("conflict:N", scale=scale, legend=None),
        detail=alt.Detail("label:N"),
        tooltip=[alt.Tooltip("label:N"), alt.Tooltip("rank:Q"), alt.Tooltip("verdict:N")],
    )


def effect_chart(table: pl.DataFrame, *, title: str) -> alt.LayerChart:
    """A change of a rate with its interval for every module; coloured where it stands among all modules.

    `table` has the columns label, change, change_low, change_high, n, p_value, q_value, stands; rows keep their order.
    """
    rows = table
    axis = alt.Axis(format="+~%", tickCount=6)
    line = alt.Chart().mark_rule(strokeWidth=2)
    modules = alt.layer(
        line.encode(x=alt.X("change_low:Q", title=title, axis=axis), x2=alt.X2("change_high:Q")),
        alt.Chart().mark_point(filled=True, size=70, opacity=1).encode(x=alt.X("change:Q", title=title, axis=axis)),
        data=rows,
    ).encode(
        y=alt.Y("label:N", sort=rows["label"].to_list(), title=None, axis=alt.Axis(ticks=False, domain=False)),
        color=alt.ColorValue(NEUTRAL, condition={"test": "datum.stands", "value": POSITIVE}),
        tooltip=[
            alt.Tooltip("label:N"),
            *(alt.Tooltip(f"{c}:Q", format="+.1%") for c in ("change", "change_low", "change_high")),
            *(alt.Tooltip(f"{c}:Q", format=".2g") for c in ("p_value", "q_value")),
            alt.Tooltip("n:Q"),
        ],
    )
    zero = alt.Chart(pl.DataFrame({"x": [0.0]})).mark_rule(color=NEUTRAL, strokeDash=[3, 3]).encode(x=alt.X("x:Q"))
    return alt.layer(zero, modules, height=ROW * rows.height + FURNITURE)


def interaction_chart(table: pl.DataFrame, *, labels: Sequence[str]) -> alt.LayerChart:
    """The interaction of every pair: vermillion above zero, blue below, pale where it does not stand among all pairs.

    `table` has the columns a, b (labels), value, expected, interaction, low, high, n, p_value, q_value, stands.
    """
    rows = table.with_columns(pl.col("stands").fill_null(False))
    most = float(rows["interaction"].abs().max() or 0) or 1.0  # type: ignore[arg-type]
    colour = alt.Color(
        "interaction:Q",
        scale=signed_scale(most),
        legend=alt.Legend(title="beyond the sum", format="+.0%", orient="right"),
    )
    order = list(labels)
    base = alt.Chart()
    below = base.mark_rect(color=LOWEST, stroke=NEUTRAL)  # pale, whatever the page is
    cells = base.mark_rect().encode(
        color=colour, opacity=alt.OpacityValue(0.45, condition={"test": "datum.stands", "value": 1})
    )
    text = base.mark_text(fontSize=10).encode(
        text=alt.Text("interaction:Q", format="+.0%"),
        color=ink_on("interaction", where="datum.stands"),
    )
    return alt.layer(below, cells, text, data=rows, height=max(34 * len(order), 120) + 30).encode(
        x=alt.X("b:N", sort=order, title=None, axis=alt.Axis(labelAngle=0, orient="top", ticks=False, domain=False)),
        y=alt.Y("a:N", sort=order, title=None, axis=alt.Axis(ticks=False, domain=False)),
        tooltip=[
            alt.Tooltip("a:N"),
            alt.Tooltip("b:N"),
            *(alt.Tooltip(f"{c}:Q", format=".1%") for c in ("value", "expected")),
            *(alt.Tooltip(f"{c}:Q", format="+.1%") for c in ("interaction", "low", "high")),
            *(alt.Tooltip(f"{c}:Q", format=".2g") for c in ("p_value", "q_value")),
            alt.Tooltip("n:Q"),
        ],
    )


def _colour(rows: pl.DataFrame, by: str, topic: str, valence: str) -> alt.Color:
    if by == BY_LAYER:
        return alt.Color("layer:Q", scale=alt.Scale(scheme="viridis"), legend=alt.Legend(title="layer", format="d"))
    if by == BY_MODULE:
        return alt.Color("module:N", legend=alt.Legend(title=None, orient="top"))
    names = [topic, valence, "both", "neither"]
    return alt.Color(
        "lean:N",
        scale=alt.Scale(domain=names, range=list(TELLS.values())),
        legend=alt.Legend(title="tells", orient="top", labelLimit=220),
    )
