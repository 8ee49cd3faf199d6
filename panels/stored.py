"""Stored directions where no residual stream is: their norms, shares of the activation norm and cosines, by layer.

It refuses to know how a direction was found.
"""

from __future__ import annotations

import polars as pl
import streamlit as st

from backend.analysis.directions.convergence import against
from backend.analysis.directions.cosines import chance, cosine_matrix
from backend.charts.cosines import layer_lines
from backend.charts.projections import layer_chart, layer_cosine_chart
from backend.charts.tradeoffs import series_legend
from backend.study import Study
from backend.tables.convergence import roles_of, stacks_of
from backend.tables.sweeps import described
from panels.asked import choose_linked
from panels.direction_views import show_others
from panels.figures import show_chart
from panels.frame import per_study, plain
from panels.stacks import Stack, send_direction, study_stacks

MOST_BESIDE = 5  # other directions drawn over layers, those of largest cosine at the chosen one


@per_study
def _compared(study: Study, name: str) -> pl.DataFrame:
    """[name, layer, norm, share, cosine] of every stored direction, with the one named."""
    return against(stacks_of(study), name)


@per_study
def _roles(study: Study) -> dict[str, str]:
    return {name: each.kind for name, each in roles_of(study, stacks_of(study)).items()}


def show_stored(study: Study) -> None:
    """One stored direction at every layer, what is like it, and a way to Live."""
    names = study.directions()["name"].unique(maintain_order=True).to_list()
    left, right = st.columns([4, 1])
    start = names.index(_most_edited(study, names))
    key = "directions_stored"
    name = choose_linked(left.selectbox, "Stored direction", names, index=start, key=key, what="direction")
    stack = study_stacks(study)[name]
    layers = sorted(stack)
    table = _compared(study, name)
    own = table.filter(pl.col("name") == name).sort("layer")
    key, middle = "directions_layer", len(layers) // 2
    layer = choose_linked(right.selectbox, "Layer", layers, index=middle, key=key, what="layer")
    there = table.filter(pl.col("layer") == layer, pl.col("name") != name).drop_nulls("cosine")
    near = there.sort(pl.col("cosine").abs(), descending=True)
    st.markdown(stored_in_words(stack, layer, near))
    with st.container():
        norm, share, cosines = st.columns(3)
        numbers = (norm, "norm", "Norm"), (share, "share", "Norm / activation norm")
        for place, column, title in numbers:
            known = own.select("layer", value=column).drop_nulls("value")
            if known.height:
                chart = layer_chart(known, title=title, chosen=layer)
                show_chart(place, chart, key=f"stored_{column}", alt=f"{title} at every layer")
            else:
                place.caption(f"{title}: not recorded for this direction.")
        with cosines:
            _show_layer_cosines(stack)
    _show_beside(study, table, name, near)
    if st.button("Send to Live", key="stored_send", type="primary", icon=":material/send:"):
        send_direction(stack, layer)
    show_others(study, stack[layer])


def _most_edited(study: Study, names: list[str]) -> str:
    """The direction that most conditions edit with: the one that the study is about; else the first."""
    counts = described(study)["direction"].drop_nulls().value_counts(sort=True)["direction"].to_list()
    return next((name for name in counts if name in names), names[0])


def stored_in_words(stack: Stack, layer: int, near: pl.DataFrame) -> str:
    """Norm, share and nearest other direction at one layer; a direction as stored has no sample, so no interval."""
    direction = stack[layer]
    share = direction.relative(1.0)
    words = f"At layer {layer} **{plain(direction.name)}** has norm **{direction.norm:.2f}**"
    words += f", **{share:.1%}** of the activation norm there" if share is not None else ""
    if near.height:
        row = near.row(0, named=True)
        words += f"; most like it is {plain(row['name'])}, cosine **{row['cosine']:.2f}**"
    said = direction.provenance.get("activation_norm")
    norm = f" Activation norm: {plain(said)}." if said and share is not None else ""
    within = f"95 % of random pairs of {direction.d_model} dimensions lie within ±{chance(direction.d_model):.2f}"
    return (
        f"{words}; {within}.{norm} It is shown as stored: the texts behind it are not here, so there "
        "are no intervals and no AUC."
    )


def _show_layer_cosines(stack: Stack) -> None:
    """The cosine between layers, which coordinates do not tell: each layer has its own."""
    layers = sorted(stack)
    if any(each.vector.size != each.d_model for each in stack.values()):
        st.caption("Cosine between layers: not known. This study keeps coordinates, and each layer has its own.")
        return
    if len(layers) > 1:
        chart = layer_cosine_chart(cosine_matrix([stack[layer] for layer in layers]), layers)
        show_chart(st, chart, key="stored_layers", alt="Cosine between the directions of every two layers")


def _show_beside(study: Study, table: pl.DataFrame, name: str, near: pl.DataFrame) -> None:
    """Its cosine with the nearest others at every layer."""
    others = near["name"].head(MOST_BESIDE).to_list()
    if not others:
        return
    st.markdown(f"**Cosine of {plain(name)} with the nearest others, at the same layer**")
    kinds = {other: _roles(study)[other] for other in others}
    st.html(series_legend(others, kinds))
    chart = layer_lines(table, column="cosine", title="cosine", names=others, roles=kinds)
    show_chart(st, chart, key="stored_cosine", alt="Cosine with the nearest directions at every layer")
    st.caption("Convergence compares any of them, with controls where the study has some.")
