"""Directions: the mean difference of two classes at every layer, what it says of answers, and what it is like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from backend.analysis.contrasts import Contrast
from backend.analysis.directions.answers import Answers, Means, Pooling
from backend.analysis.directions.cosines import chance, cosine_matrix
from backend.analysis.directions.difference import stability
from backend.analysis.directions.layers import LayerProfile, contrast_profile, direction_profile
from backend.analysis.directions.separation import separation
from backend.charts.convergence import pair_chart
from backend.charts.directions import MOST_DOTS, cosine_chart, layer_chart, projection_chart
from backend.charts.one_adapter import cosine_chart as write_chart
from backend.charts.one_adapter import push_chart
from backend.charts.strip import common_scale, legend, token_strip
from backend.records import BASE, Direction, InputError
from backend.study import Study
from backend.study.vectors import GGUF, SAFETENSORS, directions_bytes
from backend.worker.client import Worker, WorkerError
from panels.classes import Classes, choose_classes, class_counts
from panels.edits import Stack, send_buttons, send_direction, study_stacks, write_vectors
from panels.frame import choose_judge, current_study, explained, per_study, plain, read_by

MEAN_DIFFERENCE = "mean difference of the classes"
POOLINGS = {"response": "every response counts alike", "token": "every answer token counts alike, as in the paper"}
OTHERS, TOKENS, LENS, FILE = "Beside other vectors", "Token by token", "Through the unembedding", "Provenance and file"
MOST_OTHERS = 7  # directions in the matrix, those of largest cosine
MOST_WRITES = 14  # write vectors drawn, those of largest cosine
MOST_OPTIONS = 500  # responses offered in a menu
MOST_READ = 5000  # responses whose residuals are held, about 350 MB at 30 layers of 576 dimensions
PANELS = {"auc": "Separation: AUC", "share": "Norm / activation norm", "norm": "Norm"}


@per_study
def residuals(study: Study, reader: str) -> tuple[pl.DataFrame, Means]:
    """Answer means at every layer of the responses that were read, and in which row each is (response, at).

    Of more than MOST_READ responses, so many are drawn at random: every layer of all would not fit into memory.
    """
    every, some = read_by(study, reader), None
    if len(every) > MOST_READ:
        drawn = np.sort(np.random.default_rng(0).permutation(len(every))[:MOST_READ])
        some = [every[at] for at in drawn]
    read = {layer: study.residual_means(reader, layer, responses=some) for layer in study.residual_layers(reader)}
    first = next(iter(read.values()))
    norms = dict(enumerate(study.activation_norm(reader).tolist()))
    rows = pl.DataFrame({"response": first.responses}).with_row_index("at")
    return rows, Means({layer: of.means for layer, of in read.items()}, first.counts, norms)


def read_rows(study: Study, reader: str, classes: Classes) -> pl.DataFrame:
    """The responses of either class whose residuals are held, with their row `at` and their question as an integer.

    Raises InputError where a class has none.
    """
    rows = classes.rows.join(residuals(study, reader)[0], on="response", how="inner", maintain_order="left")
    if rows["label"].n_unique() < 2:
        raise InputError(
            f"{reader} has read {class_counts(rows, classes.contrast)}, and both classes are needed: choose another "
            "reader, or more responses."
        )
    return rows.with_columns(group=pl.col("question_id").rank("dense"))


def read_answers(study: Study, reader: str, rows: pl.DataFrame) -> Answers:
    """Residual means of the responses in `rows`, in their order, with their classes and questions."""
    means = residuals(study, reader)[1].rows(rows["at"].to_numpy().astype(np.intp))
    return Answers(means, rows["label"].to_numpy(), rows["group"].to_numpy())


def drawn_share(study: Study, reader: str) -> str:
    """How many of the responses that were read are looked at, in words; empty where it is all."""
    every, held = len(read_by(study, reader)), residuals(study, reader)[0].height
    return f"Of {every:,} read responses {held:,} are used, drawn at random. " if every > MOST_READ else ""


@per_study
def profiled(study: Study, reader: str, source: str, pooling: str, recipe: str, _classes: Classes) -> LayerProfile:
    """The chosen direction at every layer against the chosen classes; `recipe` stands for the classes in the cache."""
    answers = read_answers(study, reader, read_rows(study, reader, _classes))
    if source != MEAN_DIFFERENCE:
        return direction_profile(study_stacks(study)[source], answers)
    name = f"{_classes.contrast.positive_name} minus {_classes.contrast.negative_name} ({study.name}, per {pooling})"
    provenance = {"study": study.path.name, "reader": reader, "recipe": recipe}
    return contrast_profile(answers, name=name, pooling=pooling, provenance=provenance)


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
    apart = separation(found.projections[layer], rows["label"].to_numpy(), rows["group"].to_numpy())
    numbers = {"Norm": f"{direction.norm:.2f}", "Of the activation": "unknown" if share is None else f"{share:.0%}"}
    for name, estimate in (("AUC", apart.auc), ("d′", apart.d_prime)):
        numbers[f"{name} ({estimate.low:.2f}–{estimate.high:.2f})"] = f"{estimate.value:.2f}"
    for place, (name, value) in zip(places, numbers.items(), strict=True):
        place.metric(name, value)


@per_study
def repeated(study: Study, reader: str, layer: int, pooling: Pooling, recipe: str, _rows: pl.DataFrame) -> str:
    """How much of the direction two halves of the questions share, in words; `recipe` stands for the rows."""
    try:
        found = stability(read_answers(study, reader, _rows).only(layer), pooling=pooling)[layer]
    except InputError as error:
        return f"Split-half stability is not known: {error}."
    return f"Split-half cosine {found.value:.2f} ({found.low:.2f} to {found.high:.2f}), halves made of whole questions."


# --- what the direction is like --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Chosen:
    """The direction at the chosen layer, where it came from, and what it is looked at with."""

    source: str
    direction: Direction
    stack: Stack
    reader: str
    rows: pl.DataFrame


@per_study
def stored_at(study: Study, layer: int) -> list[Direction]:
    """Every direction that the study holds at a layer; write vectors are none of them."""
    writes = {each.name for _, _, each in write_vectors(study)}
    return [stack[layer] for name, stack in study_stacks(study).items() if layer in stack and name not in writes]


def show_others(study: Study, chosen: Chosen) -> None:
    """Cosines with the study's directions at this layer, and with every adapter's write vector."""
    direction = chosen.direction
    width, unit = direction.vector.size, direction.unit
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.markdown(f"**Cosines of directions, layer {direction.layer}**")
        others = [each for each in stored_at(study, direction.layer) if each.vector.size == width]
        others = [each for each in others if each.name != direction.name]
        nearest = sorted(others, key=lambda each: -abs(float(each.unit @ unit)))[:MOST_OTHERS]
        if not nearest:
            st.caption("The study holds no other direction at this layer.")
        else:
            drawn = [direction, *nearest]
            chart = pair_chart(cosine_matrix(drawn), [each.name for each in drawn])
            st.altair_chart(chart, key="directions_others", alt="Cosine of every two directions at this layer")
            more = f" The {MOST_OTHERS} nearest of {len(others)}." if len(others) > MOST_OTHERS else ""
            reach = chance(width)
            st.caption(f"95 % of random pairs of {width} dimensions are within ±{reach:.2f}.{more}")
            stacks = study_stacks(study)
            send_buttons([stacks[each.name] for each in nearest], direction.layer, key="directions_others")
    with right:
        st.markdown("**Nearest write vectors**")
        show_writes(study, direction)


def show_writes(study: Study, direction: Direction) -> None:
    """The adapters of all organisms that write most along the direction, or against it."""
    fitting = [each for each in write_vectors(study) if each[2].vector.size == direction.vector.size]
    if not fitting:
        st.caption("The study holds no write vectors of this width: they were not released, or there are no adapters.")
        return
    rows = [
        (
            f"{organism} {adapter.removeprefix('layers.')}",
            float(vector.unit @ direction.unit),
            f"write vector of layer {vector.layer}",
        )
        for organism, adapter, vector in fitting
    ]
    table = pl.DataFrame(rows, schema=["name", "cosine", "what"], orient="row")
    nearest = table.sort(pl.col("cosine").abs(), descending=True).head(MOST_WRITES).sort("cosine", descending=True)
    within = chance(direction.vector.size)
    outside = table.filter(pl.col("cosine").abs() > within).height
    chart = write_chart(nearest, chance=within, names=240)
    st.altair_chart(chart, key="directions_writes", alt="Cosine with write vectors")
    st.caption(
        f"Of {table.height:,} write vectors of all organisms, {outside} lie outside the band of 95 % of random vectors "
        f"(by chance about {0.05 * table.height:.0f}). The sign of a write vector is arbitrary."
    )


def show_tokens(study: Study, chosen: Chosen) -> None:
    """One response token by token along a direction, where the study keeps that."""
    options = chosen.rows["response"].head(MOST_OPTIONS).to_list()
    left, middle, right = st.columns([3, 3, 2], vertical_alignment="bottom")
    response = left.selectbox("Response", options, key="directions_response", bind="query-params")
    table = study.projections(response, chosen.reader)
    kept = table.select("direction", "layer").unique(maintain_order=True).rows()
    if not kept:
        st.info(
            'This study keeps no projections of tokens of this response. Name directions under "projected" in the '
            "study folder's study.json, as [name, layer], and build the study again.",
            icon=":material/info:",
        )
        return
    own = (chosen.source, chosen.direction.layer)
    of_name = [at for at, (name, _) in enumerate(kept) if name == chosen.source]
    start = kept.index(own) if own in kept else of_name[0] if of_name else 0
    labels = [f"{name}, layer {layer}" for name, layer in kept]
    label = middle.selectbox("Along", labels, index=start, key="directions_along", bind="query-params")
    name, layer = kept[labels.index(str(label))]
    centred = right.toggle("From the answer's mean", value=True, key="directions_centred", bind="query-params")
    strip = study.strip(response, chosen.reader)
    rows = table.filter((pl.col("direction") == name) & (pl.col("layer") == layer))
    values = np.full(len(strip.tokens), np.nan, dtype=np.float32)
    values[rows["position"].to_numpy()] = rows["value"].to_numpy()
    answer = slice(strip.n_prompt, strip.n_prompt + strip.n_answer)
    tokens, values = strip.tokens[answer], values[answer]
    if not tokens:
        st.info("This answer has no tokens: the model ended at once.")
        return
    mean = float(np.nanmean(values))
    shown = values - np.float32(mean) if centred else values
    scale = common_scale(shown)
    st.text(study.response(response).question)
    st.html(token_strip(tokens, shown, scale=scale, name="projection", first=strip.n_prompt))
    st.html(legend(scale, f"projection on the unit direction, residual units{', from the mean' if centred else ''}"))
    st.caption(f"Mean over the answer {mean:+.2f}; read by {plain(chosen.reader)}, without any edit.")


def show_lens(study: Study, chosen: Chosen) -> None:
    """The tokens that the direction promotes and suppresses."""
    direction = chosen.direction
    lens = study.lens(chosen.source, direction.layer)
    whose = next((each[:2] for each in write_vectors(study) if each[2].name == chosen.source), None)
    if whose is not None:
        lens = study.adapter_lens(*whose)
    if lens.is_empty():
        try:
            lens = asked(Worker().url, direction.name, direction.layer, direction.vector.tobytes())
        except WorkerError as error:
            st.info(
                "No lens of this direction is stored, and no worker answered for it: "
                f"{plain(error)}. Directions that a study is built with have one.",
                icon=":material/info:",
            )
            return
    with st.columns([3, 2])[0]:
        st.altair_chart(push_chart(lens), key="directions_lens", alt="Promoted and suppressed tokens")
    st.caption(
        "The unit vector, times the gain of the final norm, through the unembedding; logits less their mean, in "
        "standard deviations over the vocabulary. A random vector's strongest token of 50,000 is at about 4."
    )


@st.cache_resource(max_entries=64, show_spinner=False)
def asked(url: str, name: str, layer: int, vector: bytes) -> pl.DataFrame:
    """The lens of a direction as the worker's model has it: side, rank, token, value. Raises WorkerError."""
    [pushed] = Worker(url).lenses([Direction(name, layer, np.frombuffer(vector, dtype=np.float32))])
    sides = (("top", pushed.top), ("bottom", pushed.bottom))
    rows = [(side, at, token, value) for side, found in sides for at, (token, value) in enumerate(found, 1)]
    return pl.DataFrame(rows, schema=["side", "rank", "token", "value"], orient="row")


def show_file(study: Study, chosen: Chosen) -> None:
    """Where the direction comes from, and the whole stack to take away."""
    said = {"name": chosen.direction.name, "layer": chosen.direction.layer, **chosen.direction.provenance}
    said["layers"] = ", ".join(map(str, sorted(chosen.stack)))
    table = pl.DataFrame({"what": list(said), "value": [str(value) for value in said.values()]})
    left, right = st.columns([3, 2], gap="large")
    left.dataframe(table, hide_index=True, height=360, alt="Provenance of the direction")
    with right:
        st.markdown("**All layers as a file**")
        stack = [chosen.stack[layer] for layer in sorted(chosen.stack)]
        model = str(chosen.direction.provenance.get("model") or study.info.get("base") or "")
        stem = "".join(char if char.isalnum() else "-" for char in chosen.direction.name)
        for suffix, text, kept in (
            (SAFETENSORS, "safetensors, with provenance", stack),
            (GGUF, "GGUF control vector (llama.cpp, repeng)", [each for each in stack if each.layer > 0]),
        ):
            if not kept:
                st.caption(f"{text}: a control vector cannot hold layer 0.")
                continue
            data = directions_bytes(kept, suffix, model=model)
            st.download_button(
                text,
                data,
                f"{stem}{suffix}",
                key=f"directions_file{suffix}",
                icon=":material/download:",
                width="stretch",
            )
        st.caption("llama.cpp adds nothing behind block 0, so the GGUF leaves layer 0 out. Vectors keep their norm.")


SECTIONS = {OTHERS: show_others, TOKENS: show_tokens, LENS: show_lens, FILE: show_file}


study = current_study()
st.title("Directions")
with explained():
    above = st.container()
    first, second, third = st.columns([2, 2, 3])
    with first:
        reader = choose_reader(study)
    judge = choose_judge(study, reader)
    with above:
        classes = choose_classes(study, judge, reader, page="directions")
    with second:
        source = choose_source(study)
    with third:
        pooling = choose_pooling(source)
    made = source == MEAN_DIFFERENCE
    rows = read_rows(study, reader, classes)
    found = profiled(study, reader, source, pooling, classes.recipe, classes)
    st.caption(
        f"{plain(class_counts(rows, classes.contrast))}, read by {plain(reader)}; means over answer tokens. "
        f"{drawn_share(study, reader)}"
        f"{plain(classes.recipe)} "
        + ("The AUC is on held-out questions: the direction it uses has not seen them. " if made else "")
        + "Bands: 95 %, bootstrap over questions."
    )
    panels = st.container()
    chooser, *spots, sender = st.columns([2, 2, 2, 2, 2, 3], vertical_alignment="bottom")
    with chooser:
        layer = choose_layer(found)
    in_numbers(found, layer, rows, spots)
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
        every = -(-rows.height // MOST_DOTS)
        words = repeated(study, reader, layer, pooling, classes.recipe, rows) if made else ""
        st.caption(
            f"A dot is {'a response' if every == 1 else f'one response in {every}'}; bars hold the middle half of each "
            f"class. {'0 is midway between the classes' if made else '0 is the mean response'}. "
            + ("Projected by the direction of the other questions. " if made else "")
            + plain(words)
        )
    section = st.segmented_control(
        "More on this direction",
        list(SECTIONS),
        default=OTHERS,
        required=True,
        key="directions_more",
        bind="query-params",
    )
    SECTIONS[str(section)](study, Chosen(source, found.directions[layer], found.directions, reader, rows))
