"""Directions: the mean difference of two classes at every layer, and what one direction says of every response."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from backend.analysis.contrasts import Contrast
from backend.analysis.directions import Pooling, separation, split_half_cosine
from backend.analysis.layers import LayerProfile, Means, contrast_profile, direction_profile
from backend.charts.directions import cosine_chart, layer_chart, projection_chart
from backend.records import BASE, InputError
from backend.study import Study
from pages.contrast import Classes, choose_classes, class_counts
from pages.edits import send_direction, study_stacks
from pages.frame import choose_judge, current_study, explained, per_study, plain, read_by

MEAN_DIFFERENCE = "mean difference of the classes"
POOLINGS = {"response": "every response counts alike", "token": "every answer token counts alike, as in the paper"}
PANELS = {"auc": "Separation: AUC", "share": "Norm, as a share of the activation norm", "norm": "Norm"}


@per_study
def residuals(study: Study, reader: str) -> tuple[tuple[str, ...], Means]:
    """The responses that were read, and their answer means at every layer."""
    read = {layer: study.residual_means(reader, layer) for layer in study.residual_layers(reader)}
    first = next(iter(read.values()))
    norms = dict(enumerate(study.activation_norm(reader).tolist()))
    return first.responses, Means({layer: at.means for layer, at in read.items()}, first.counts, norms)


def read_classes(study: Study, reader: str, classes: Classes) -> tuple[Means, pl.DataFrame]:
    """Residual means and rows of the same responses: those of either class that the reader has read."""
    responses, means = residuals(study, reader)
    at = {response: index for index, response in enumerate(responses)}
    rows = classes.rows.filter(pl.col("response").is_in(list(at)))
    if rows["label"].n_unique() < 2:
        raise InputError(
            f"{reader} has read {class_counts(rows, classes.contrast)}, and both classes are needed: choose another "
            "reader, or more responses."
        )
    return means.rows(np.array([at[response] for response in rows["response"]], dtype=np.intp)), rows


@per_study
def profiled(study: Study, reader: str, source: str, pooling: str, recipe: str, _classes: Classes) -> LayerProfile:
    """The chosen direction at every layer against the chosen classes; `recipe` stands for the classes in the cache."""
    means, rows = read_classes(study, reader, _classes)
    labels, groups = rows["label"].to_numpy(), rows["question_id"].to_numpy()
    if source != MEAN_DIFFERENCE:
        return direction_profile(study_stacks(study)[source], means, labels, groups)
    name = f"{_classes.contrast.positive_name} minus {_classes.contrast.negative_name} ({study.name}, per {pooling})"
    provenance = {"study": study.path.name, "reader": reader, "recipe": recipe}
    return contrast_profile(means, labels, groups, name=name, pooling=pooling, provenance=provenance)


def choose_reader(study: Study) -> str:
    """The organism whose residual stream is looked at. Where none was stored, says so and ends the page."""
    readers = [name for name in study.readers() if study.residual_layers(name)]
    if not readers:
        stored = study.directions()["name"].n_unique()
        st.info(
            f"Study {plain(study.name)} holds no residual means, so no direction can be made or measured here. "
            + (f"Its {stored} stored directions are on the Convergence page. " if stored else "")
            + "Build a study with traces: `python -m backend build`.",
            icon=":material/info:",
        )
        st.stop()
    start = next((at for at, name in enumerate(readers) if name != BASE), 0)
    return str(
        st.selectbox(
            "Residual stream of",
            readers,
            index=start,
            key="directions_reader",
            bind="query-params",
            help="The organism that read the answers again, without any other edit.",
        )
    )


def choose_source(study: Study) -> str:
    """The mean difference, or a direction that the study holds."""
    options = [MEAN_DIFFERENCE, *study_stacks(study)]
    return str(st.selectbox("Direction", options, key="directions_source", bind="query-params"))


def choose_pooling(source: str) -> Pooling:
    """How a mean difference weighs responses."""
    chosen = st.segmented_control(
        "Pooling",
        list(POOLINGS),
        default="response",
        required=True,
        format_func="per {}".format,
        key="directions_pooling",
        bind="query-params",
        help="; ".join(f"per {name}: {text}" for name, text in POOLINGS.items()),
        disabled=source != MEAN_DIFFERENCE,
    )
    return "token" if chosen == "token" else "response"


def choose_layer(found: LayerProfile) -> int:
    """The layer to look at: by default the one that separates best, the earliest of equals."""
    layers = found.table["layer"].to_list()
    if not layers:
        raise InputError("This direction lies at a layer whose residual means the study does not hold.")
    best = layers[int(np.nanargmax(found.table["auc"].fill_nan(0).to_numpy()))]
    help_text = "Starts at the layer that separates best; being the best of many flatters its AUC a little."
    start = layers.index(best)
    return int(st.selectbox("Layer", layers, index=start, key="directions_layer", bind="query-params", help=help_text))


def show_layers(found: LayerProfile, layer: int) -> None:
    """Norm, share and separation at every layer."""
    for column, (name, title) in zip(st.columns(3), PANELS.items(), strict=True):
        ends = ("low", "high") if name == "auc" else ()
        table = found.table.select("layer", pl.col(name).alias("value"), *ends).drop_nulls("value")
        if not table.height:
            column.caption(f"{title}: not known for this direction.")
            continue
        chart = layer_chart(table, title=title, chosen=layer, chance=0.5 if ends else None)
        column.altair_chart(chart, key=f"directions_{name}", alt=f"{title} at every layer")


def show_projections(found: LayerProfile, layer: int, rows: pl.DataFrame, contrast: Contrast) -> None:
    """Every response along the direction of one layer."""
    sides = pl.when("label").then(pl.lit(contrast.positive_name)).otherwise(pl.lit(contrast.negative_name))
    table = rows.select(
        "question", "text", side=sides, projection=pl.Series(found.projections[layer], dtype=pl.Float64)
    )
    chart = projection_chart(
        table.drop_nans("projection"), positive=contrast.positive_name, negative=contrast.negative_name
    )
    st.altair_chart(chart, key="directions_projection", alt=f"Projection of every response at layer {layer}")


def in_numbers(found: LayerProfile, layer: int, rows: pl.DataFrame, places: Sequence[DeltaGenerator]) -> None:
    """Norm and separation at one layer."""
    direction = found.directions[layer]
    share = direction.relative(1.0)
    apart = separation(found.projections[layer], rows["label"].to_numpy(), rows["question_id"].to_numpy())
    numbers = {"Norm": f"{direction.norm:.2f}", "Of the activation": "unknown" if share is None else f"{share:.0%}"}
    for name, estimate in (("AUC", apart.auc), ("d′", apart.d_prime)):
        numbers[f"{name} ({estimate.low:.2f}–{estimate.high:.2f})"] = f"{estimate.value:.2f}"
    for place, (name, value) in zip(places, numbers.items(), strict=True):
        place.metric(name, value)


def stability(study: Study, reader: str, classes: Classes, layer: int, pooling: Pooling) -> str:
    """How much of the direction two halves of the questions share, in words."""
    means, rows = read_classes(study, reader, classes)
    try:
        found = split_half_cosine(
            means.by_layer[layer],
            means.counts,
            rows["label"].to_numpy(),
            rows["question_id"].to_numpy(),
            pooling=pooling,
        )
    except InputError as error:
        return f"Split-half stability is not known: {error}."
    return f"Split-half cosine {found.value:.2f} ({found.low:.2f} to {found.high:.2f}), halves made of whole questions."


study = current_study()
st.title("Directions")
with explained():
    above = st.container()
    first, second, third = st.columns([2, 2, 3])
    with first:
        reader = choose_reader(study)
    judge = choose_judge(study, reader)
    with above:
        classes = choose_classes(study, judge, page="directions", among=read_by(study, reader))
    with second:
        source = choose_source(study)
    with third:
        pooling = choose_pooling(source)
    made = source == MEAN_DIFFERENCE
    rows = read_classes(study, reader, classes)[1]
    found = profiled(study, reader, source, pooling, classes.recipe, classes)
    st.caption(
        f"{plain(class_counts(rows, classes.contrast))}, read by {plain(reader)}; means over answer tokens. "
        f"{plain(classes.recipe)} "
        + ("The AUC is on held-out questions: the direction it uses has not seen them. " if made else "")
        + "Bands: 95 %, bootstrap over questions."
    )
    panels = st.container()
    chooser, *places, sender = st.columns([3, 2, 2, 2, 2, 2], vertical_alignment="bottom")
    with chooser:
        layer = choose_layer(found)
    in_numbers(found, layer, rows, places)
    with sender:
        if st.button("Send to Live", key="directions_send", type="primary", icon=":material/send:", width="stretch"):
            send_direction(found.directions, layer)
    with panels:
        show_layers(found, layer)
    left, right = st.columns([2, 3], gap="medium")
    with left:
        st.markdown("**Cosine between layers**")
        chart = cosine_chart(found.cosines, found.table["layer"].to_list())
        st.altair_chart(chart, key="directions_cosine", alt="Cosine between the directions of every two layers")
    with right:
        st.markdown(f"**Every response along the direction of layer {layer}**")
        show_projections(found, layer, rows, classes.contrast)
        words = stability(study, reader, classes, layer, pooling) if made else ""
        st.caption(
            "A dot is a response, from the mean response; bars hold the middle half of each class. "
            + ("Projected by the direction of the other questions. " if made else "")
            + plain(words)
        )
