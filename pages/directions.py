"""Directions: the mean difference of two classes at every layer, what it says of answers, and what it is like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from backend.analysis.directions.answers import BALANCES, Answers, Balance, Means, Pooling
from backend.analysis.directions.difference import stability
from backend.analysis.directions.layers import LayerProfile, contrast_profile, direction_profile
from backend.analysis.directions.separation import SHUFFLES_DRAWN, separation, shuffled_aucs
from backend.analysis.rates.families import of_family
from backend.charts.projections import MOST_DOTS, layer_chart, layer_cosine_chart, projection_chart
from backend.outcomes import Contrast
from backend.records import BASE, Direction, InputError
from backend.study import Study, build_command
from panels.asked import choose_linked, spelled
from panels.classes import Classes, choose_classes, class_counts
from panels.direction_views import VIEWS, Chosen
from panels.figures import show_chart
from panels.frame import choose_judge, current_study, explained, per_study, plain, read_by
from panels.opening import opening
from panels.stacks import send_direction, study_stacks
from panels.stored import show_stored

MEAN_DIFFERENCE = "mean difference of the classes"
POOLINGS = {"response": "every response counts alike", "token": "every answer token counts alike, as in the paper"}
BALANCE_NAMES: dict[Balance, str] = {"weights": "all answers", "matching": "by question", "truncation": "cut"}
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


def rows_read(study: Study, reader: str, classes: Classes) -> pl.DataFrame:
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
def profiled(
    study: Study, reader: str, source: str, pooling: Pooling, balance: Balance, recipe: str, _classes: Classes
) -> LayerProfile:
    """The chosen direction at every layer against the chosen classes; `recipe` stands for the classes in the cache."""
    answers = read_answers(study, reader, rows_read(study, reader, _classes))
    if source != MEAN_DIFFERENCE:
        return direction_profile(study_stacks(study)[source], answers)
    how = f"per {pooling}" + ("" if balance == "weights" else f", {BALANCE_NAMES[balance]}")
    name = f"{_classes.contrast.positive_name} minus {_classes.contrast.negative_name} ({study.name}, {how})"
    provenance = {"study": study.path.name, "reader": reader, "recipe": recipe}
    return contrast_profile(answers, name=name, pooling=pooling, balance=balance, provenance=provenance)


def residual_readers(study: Study) -> list[str]:
    """The organisms whose residual stream is kept. Where there is none, shows what is stored and ends the page."""
    readers = [name for name in study.readers() if study.residual_layers(name)]
    if not readers:
        if study.directions().height:
            show_stored(study)
        how = f"Build it again with traces: `{build_command(study.name, study.info.get('folder'))}`."
        st.info(
            f"Study {plain(study.name)} holds no residual means, so no direction can be made or measured here. "
            + ("Those of the paper's organisms are not released." if "remedy" in study.info else how),
            icon=":material/info:",
        )
        st.stop()
    return readers


def choose_residual_reader(readers: list[str]) -> str:
    """The organism whose residual stream is looked at."""
    start = next((at for at, name in enumerate(readers) if name != BASE), 0)
    return choose_linked(
        st.selectbox,
        "Residual stream of",
        readers,
        index=start,
        key="directions_reader",
        what="organism",
        help="The organism that read the answers again, without any other edit.",
    )


def choose_source(study: Study) -> str:
    """The mean difference, or a direction that the study holds."""
    options = [MEAN_DIFFERENCE, *study_stacks(study)]
    return choose_linked(st.selectbox, "Direction", options, key="directions_source", what="direction")


def choose_pooling(source: str) -> Pooling:
    """How a mean difference weighs responses."""
    chosen = st.segmented_control(
        "Pooling",
        list(POOLINGS),
        default="response",
        required=True,
        format_func=spelled("directions_pooling", "per {}".format),
        key="directions_pooling",
        bind="query-params",
        help="; ".join(f"per {name}: {text}" for name, text in POOLINGS.items()),
        disabled=source != MEAN_DIFFERENCE,
    )
    return "token" if chosen == "token" else "response"


def choose_balance(source: str) -> Balance:
    """How a mean difference balances its classes."""
    names = {name: balance for balance, name in BALANCE_NAMES.items()}
    chosen = st.segmented_control(
        "Balance",
        list(names),
        default=BALANCE_NAMES["weights"],
        required=True,
        key="directions_balance",
        bind="query-params",
        help="; ".join(f"*{name}*: {BALANCES[balance]}" for name, balance in names.items()),
        disabled=source != MEAN_DIFFERENCE,
    )
    return names[str(chosen)]


def choose_layer(found: LayerProfile) -> int:
    """The layer to look at: by default the one that separates best, the earliest of equals."""
    layers = found.table["layer"].to_list()
    if not layers:
        raise InputError("This direction lies at a layer whose residual means the study does not hold.")
    best = layers[int(np.nanargmax(found.table["auc"].fill_nan(0).to_numpy()))]
    help_text = "Starts at the layer that separates best; being the best of many flatters its AUC a little."
    start, key = layers.index(best), "directions_layer"
    return int(choose_linked(st.selectbox, "Layer", layers, index=start, key=key, what="layer", help=help_text))


def show_layers(found: LayerProfile, layer: int) -> None:
    """Norm, share and separation at every layer."""
    for column, (name, title) in zip(st.columns(3), PANELS.items(), strict=True):
        ends = ("low", "high") if name == "auc" else ()
        table = found.table.select("layer", pl.col(name).alias("value"), *ends).drop_nulls("value")
        if not table.height:
            column.caption(f"{title}: not known for this direction.")
            continue
        chart = layer_chart(table, title=title, chosen=layer, chance=0.5 if ends else None)
        show_chart(column, chart, key=f"directions_{name}", alt=f"{title} at every layer")


def show_projections(found: LayerProfile, layer: int, rows: pl.DataFrame, contrast: Contrast) -> None:
    """Every response along the direction of one layer."""
    sides = pl.when("label").then(pl.lit(contrast.positive_name)).otherwise(pl.lit(contrast.negative_name))
    table = rows.select(
        "question", "text", side=sides, projection=pl.Series(found.projections[layer], dtype=pl.Float64)
    )
    chart = projection_chart(
        table.drop_nans("projection"), positive=contrast.positive_name, negative=contrast.negative_name
    )
    show_chart(st, chart, key="directions_projection", alt=f"Projection of every response at layer {layer}")


def in_numbers(found: LayerProfile, layer: int, rows: pl.DataFrame, places: Sequence[DeltaGenerator]) -> None:
    """Norm and separation at one layer."""
    direction = found.directions[layer]
    share = direction.relative(1.0)
    apart = separation(found.projections[layer], rows["label"].to_numpy(), rows["group"].to_numpy())
    numbers = {"Norm": f"{direction.norm:.2f}", "Of the activation": "unknown" if share is None else f"{share:.0%}"}
    for name, estimate in (("AUC", apart.auc), ("d′", apart.d_prime)):
        ends = "no interval" if apart.why else f"{estimate.low:.2f}–{estimate.high:.2f}"
        numbers[f"{name} ({ends})"] = f"{estimate.value:.2f}"
    for place, (name, value) in zip(places, numbers.items(), strict=True):
        place.metric(name, value)


@per_study
def stability_in_words(
    study: Study, reader: str, layer: int, pooling: Pooling, balance: Balance, recipe: str, _rows: pl.DataFrame
) -> str:
    """How much of the direction two halves of the questions share, in words; `recipe` stands for the rows."""
    kept: Balance = "weights" if balance == "truncation" else balance
    try:
        found = stability(read_answers(study, reader, _rows).only(layer), pooling=pooling, balance=kept)[layer]
    except InputError as error:
        return f"Split-half stability is not known: {error}."
    return f"Split-half cosine {found.value:.2f} ({found.low:.2f} to {found.high:.2f}), halves made of whole questions."


@per_study
def chance_in_words(
    study: Study, reader: str, layer: int, pooling: Pooling, balance: Balance, recipe: str, _rows: pl.DataFrame
) -> str:
    """What the AUC is under labels shuffled within questions, in words; `recipe` stands for the rows."""
    kept: Balance = "weights" if balance == "truncation" else balance
    try:
        found = shuffled_aucs(read_answers(study, reader, _rows).only(layer), pooling=pooling, balance=kept)[layer]
    except InputError as error:
        return f"The AUC has nothing to be set beside: {error}."
    return (
        f"Labels shuffled within questions reach an AUC of {found.value:.2f} ({found.low:.2f} to {found.high:.2f}, "
        f"where 95 % of shuffles lie; {SHUFFLES_DRAWN} drawn)."
    )


def made_of(direction: Direction) -> str:
    """How many answers and questions a mean difference is made of, in words."""
    how = direction.provenance
    return (
        f"The direction is made of {how['n_positive']} against {how['n_negative']} answers; "
        f"{how['questions_with_both']} of their {how['questions']} questions have both classes. "
    )


study = current_study()
opening(
    "Directions",
    "How long is the difference between two classes of answers at each layer, and how well does it tell them apart?",
    study,
    "direction",
)
with explained():
    readers = residual_readers(study)
    above = st.container()
    first, second, third, fourth = st.columns([2, 2, 2, 3])
    with first:
        reader = choose_residual_reader(readers)
    judge = choose_judge(study, reader)
    with above:
        classes = choose_classes(study, judge, reader, page="directions")
    with second:
        source = choose_source(study)
    with third:
        pooling = choose_pooling(source)
    with fourth:
        balance = choose_balance(source)
    made = source == MEAN_DIFFERENCE
    rows = rows_read(study, reader, classes)
    found = profiled(study, reader, source, pooling, balance, classes.recipe, classes)
    st.caption(
        f"{plain(class_counts(rows, classes.contrast))}, read by {plain(reader)}; means over answer tokens. "
        f"{drawn_share(study, reader)}"
        f"{plain(classes.recipe)} "
        + (made_of(next(iter(found.directions.values()))) if made else "")
        + ("The AUC is on held-out questions: the direction it uses has not seen them. " if made else "")
        + "Bands: 95 %, for questions like these. "
        + (of_family(found.table, "layers' AUCs") or f"No intervals of AUCs: {found.table['why'][0]}.")
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
        chart = layer_cosine_chart(found.cosines, found.table["layer"].to_list())
        show_chart(st, chart, key="directions_cosine", alt="Cosine between the directions of every two layers")
    with right:
        st.markdown(f"**Every response along the direction of layer {layer}**")
        show_projections(found, layer, rows, classes.contrast)
        every = -(-rows.height // MOST_DOTS)
        asked = (study, reader, layer, pooling, balance, classes.recipe, rows)
        words = f"{chance_in_words(*asked)} {stability_in_words(*asked)}" if made else ""
        st.caption(
            f"A dot is {'a response' if every == 1 else f'one response in {every}'}; bars hold the middle half of each "
            f"class. {'0 is midway between the classes' if made else '0 is the mean response'}. "
            + ("Projected by the direction of the other questions. " if made else "")
            + plain(words)
        )
    section = st.segmented_control(
        "More on this direction",
        list(VIEWS),
        default=next(iter(VIEWS)),
        required=True,
        key="directions_more",
        bind="query-params",
    )
    VIEWS[str(section)](study, Chosen(source, found.directions[layer], found.directions, reader, rows))
