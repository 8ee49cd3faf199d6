"""Downstream: what a direction sets off behind its layer, in an organism and its base, beside random directions."""

from __future__ import annotations

from typing import Any

import polars as pl
import streamlit as st

from backend.analysis.rates.families import CORRECTED
from backend.charts.downstream import layers_chart, parts_chart, values_chart
from backend.charts.palette import class_scale, organism_scale
from backend.records import BASE
from backend.study import Study
from backend.tables import downstream as tables
from panels.asked import choose_linked
from panels.chance import beside, told
from panels.dictionary import show_dictionary
from panels.figures import show_chart
from panels.frame import current_study, explained, per_study, plain
from panels.neutral import show_neutral
from panels.opening import opening

MEASURES = {
    "cosine": "cosine of the change with the direction",
    "gain": "length of the change, by what was added",
    "aside": "part of the change orthogonal to the direction, by what was added",
}
SHOWN = 14  # parts that are drawn


@per_study
def _course(study: Study, run: str, measure: str, segment: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    return tables.course(study, run, measure, segment)


@per_study
def _linearity(study: Study, run: str) -> pl.DataFrame:
    return tables.linearity(study, run)


@per_study
def _resemblance(study: Study, run: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    return tables.resemblance(study, run)


@per_study
def _highest(study: Study, run: str) -> pl.DataFrame:
    return tables.highest_resemblance(study, run)


@per_study
def _excited(study: Study, run: str) -> pl.DataFrame:
    return tables.excited(study, run)


@per_study
def _shares(study: Study, run: str, reader: str, side: str) -> pl.DataFrame:
    return tables.shares(study, run, reader, side)


@per_study
def _changes(study: Study, run: str) -> pl.DataFrame:
    return tables.changes(study, run)


@per_study
def _tokens(study: Study, run: str) -> pl.DataFrame:
    return tables.tokens(study, run)


def _sized(record: dict[str, Any], strength: float) -> str:
    """A length in words."""
    return f"{strength:.3g}".rstrip("%") if strength > 1 else f"{100 * strength:g} %"


# --- through the layers -----------------------------------------------------------------------------------------------


def show_course(study: Study, run: str, record: dict[str, Any]) -> None:
    """Gain, cosine and the orthogonal part by layer."""
    st.subheader("Through the layers")
    answer = st.container()
    left, middle, right = st.columns([2, 1, 1])
    measure = choose_linked(left.selectbox, "What", list(MEASURES), key="downstream_measure", what="measure")
    segment = choose_linked(
        middle.selectbox, "At tokens of the", ["answer", "prompt"], key="downstream_at", what="part"
    )
    reader = choose_linked(right.selectbox, "Read by", record["readers"][::-1], key="downstream_reader", what="reader")
    own, controls = _course(study, run, measure, segment)
    last = own.filter(pl.col("layer") == own["layer"].max(), pl.col("reader") == reader).row(0, named=True)
    chance = controls.filter(pl.col("layer") == last["layer"], pl.col("reader") == reader, pl.col("kind") == "random")
    words = f"After the last block the {MEASURES[measure].split(',')[0]} is {told(last)} in {plain(reader)}"
    if chance.height:
        row = chance.row(0, named=True)
        words += beside(
            last["value"], row["low"], row["high"], "what one more random direction of that length would give"
        )
    answer.markdown(f"{words}.")
    chart = layers_chart(
        own,
        controls.filter(pl.col("reader") == reader),
        title=MEASURES[measure],
        by="reader",
        colours=organism_scale(record["readers"], study.organisms()["organism"].to_list()),
    )
    show_chart(st, chart, key="downstream_course", alt=f"{MEASURES[measure]} by layer, beside random directions")
    ratios = _linearity(study, run).filter(pl.col("reader") == reader)
    said = "; ".join(f"{_sized(record, row['strength'])}: {told(row)}" for row in ratios.to_dicts()[1:])
    st.caption(
        f"{plain(record['direction'])} of layer {record['layer']}, {_sized(record, min(record['shares']))} of the "
        f"activation norm, added at every token but the sink; {record['answers']} answers of "
        f"{plain(record['organism'])} to {last['questions']} questions, which are the sample of the intervals. Bands "
        f"hold one more control of their kind, dashed lines are means of controls as {plain(reader)} reads them. Gain "
        f"of the last block at greater lengths, by that at the least (1 where the model is linear): {said}."
    )


# --- parts ------------------------------------------------------------------------------------------------------------


def show_parts(study: Study, run: str, record: dict[str, Any]) -> None:
    """What each part has of the change of the answer's log probability."""
    st.subheader("Which parts carry it to the answer")
    answer = st.container()
    left, middle = st.columns(2)
    sides = {
        f"{record['positive']} less {record['negative']}": tables.BETWEEN,
        record["positive"]: record["positive"],
        record["negative"]: record["negative"],
    }
    named = choose_linked(left.selectbox, "Log probability of", list(sides), key="downstream_side", what="side")
    side = sides[named]
    reader = choose_linked(
        middle.selectbox, "Spoken by", record["readers"][::-1], key="downstream_spoken", what="reader"
    )
    strength = max(record["shares"])
    table = _shares(study, run, reader, side)
    if table.is_empty():
        st.info("No question has answers of both classes, so there is nothing between them: choose one class.")
        return
    change = _changes(study, run).filter(
        pl.col("reader") == reader, pl.col("side") == side, (pl.col("strength") - strength).abs() < 1e-9
    )
    answer.markdown(_parts_in_words(change.row(0, named=True), table, f"{named} answers"))
    drawn = table.head(SHOWN)
    chart = parts_chart(drawn, title="share of the change, nats a token")
    show_chart(st, chart, key="downstream_parts", alt="What each part has of the change of the log probability")
    rest = table.height - drawn.height
    drawn_alone = f"The {drawn.height} parts whose freezing changes most; the table has {rest} more. " if rest else ""
    st.caption(
        f"{drawn_alone}A part is counted with all that it sets off behind it, and an MLP with the adapters inside it, "
        "so shares need not sum to the whole. By the gradient: the slope without the vector, times the change of the "
        "part's output. By freezing it: what is lost where the part gives what it gives without the vector. "
        f"{_sized(record, strength)} of the activation norm is added; questions: {min(table['questions'].to_list())}."
    )
    with st.expander("As a table"):
        excited = _excited(study, run).filter(pl.col("reader") == reader, (pl.col("strength") - strength).abs() < 1e-9)
        moved = excited.select(
            "part", excited="value", random="random", random_low="random_low", random_high="random_high"
        )
        st.dataframe(table.join(moved, on="part", how="left"), hide_index=True, alt="Shares of parts")
        st.caption(
            "excited: how far the part's output changes, by what was added; random: the same of random directions."
        )


def _parts_in_words(change: dict[str, Any], table: pl.DataFrame, side: str) -> str:
    words = f"The log probability of {plain(side)} changes by {told(change, '+.3f')} nats a token"
    if change["random"] is None:
        words += ", with no control that was paired in this way beside it"
    else:
        ends = change["random_low"], change["random_high"]
        words += beside(change["value"], *ends, "what one more random direction would do", "+.3f")
    first = table.row(0, named=True)
    share = f"{first['frozen']:+.3f}".replace("-", "−")
    words += f". Of single parts, freezing **{plain(first['part'])}** takes most away ({share})"
    if table["p_value"].is_null().all():
        most = max(table["questions"].to_list())
        return (
            f"{words}. {most} questions are too few to say whether the gradient and freezing disagree: "
            f"{tables.FEWEST_QUESTIONS} are needed."
        )
    apart = table.filter(pl.col("disagree"))
    if apart.height:
        names = ", ".join(plain(name) for name in apart["part"].head(4))
        more = f" and {apart.height - 4} more" if apart.height > 4 else ""
        said = f"The gradient and freezing disagree on {apart.height} of {table.height} parts after correction"
        return f"{words}. {said} ({CORRECTED}): {names}{more}."
    return f"{words}. On no part do the gradient and freezing disagree after correction ({CORRECTED})."


# --- tokens and the organism ------------------------------------------------------------------------------------------


def show_tokens(study: Study, run: str, record: dict[str, Any]) -> None:
    """The tokens that become likelier and less likely."""
    st.subheader("Which tokens it moves")
    table = _tokens(study, run)
    for place, reader in zip(st.columns(len(record["readers"])), record["readers"], strict=True):
        own = table.filter(pl.col("reader") == reader).with_columns(token=pl.format("«{}»", "token"))
        chart = values_chart(own, name="token", title="change of the logit", order=own["token"].to_list())
        place.markdown(f"**{plain(reader)}**")
        show_chart(place, chart, key=f"downstream_tokens_{reader}", alt=f"Tokens that the direction moves in {reader}")
    st.caption(
        f"Mean change of the logit behind every answer token, less the mean over the vocabulary, where "
        f"{_sized(record, max(record['shares']))} of the activation norm is added. The tokens were chosen by these "
        "same means, so that their intervals are on the narrow side."
    )


def show_resemblance(study: Study, run: str, record: dict[str, Any]) -> None:
    """The paper's appendix D."""
    st.subheader("Does the organism do the same to its base?")
    own, controls = _resemblance(study, run)
    if own.is_empty():
        st.info(f"{plain(record['organism'])} is the base itself, so there is nothing to compare.")
        return
    positive = own.filter(pl.col("side") == record["positive"])
    peak = (positive if positive.height else own).sort("value", descending=True).row(0, named=True)
    chance = _highest(study, run).filter(pl.col("side") == peak["side"], pl.col("kind") == "random")
    words = (
        f"On {plain(peak['side'])} answers the change of the base under the direction is most like the organism's at "
        f"layer {peak['layer']}: a cosine of {told(peak)}"
    )
    if chance.height:
        row = chance.row(0, named=True)
        words += beside(
            peak["value"], row["low"], row["high"], "what one more random direction reaches at its own best layer"
        )
    st.markdown(f"{words}.")
    mean = controls.group_by("kind", "layer", maintain_order=True).agg(
        pl.col("value").mean(), pl.col("low").min(), pl.col("high").max(), pl.col("draws").first()
    )
    chart = layers_chart(
        own,
        mean,
        title="cosine",
        by="side",
        colours=class_scale(record["positive"], record["negative"]),
    )
    show_chart(st, chart, key="downstream_resemblance", alt="Cosine of both changes by layer, beside controls")
    st.caption(
        "Cosine of two mean changes over a question's answer tokens: of the base by the vector "
        f"({_sized(record, max(record['shares']))} of the activation norm), and of the base by the fine-tune, on the "
        "same texts; means over questions (paper, appendix D: it rises to 0.42 by layer 40 of 48, more on misaligned "
        "texts). Bands are the wider of both classes'."
    )


# --- write vectors ----------------------------------------------------------------------------------------------------


def show_decomposition(study: Study) -> None:
    """A direction by the write vectors of adapters."""
    st.subheader("As a sum of what adapters write")
    organisms = [name for name in study.organisms()["organism"] if name != BASE and study.adapters(name).height]
    if not organisms or study.directions().is_empty():
        st.info(
            "A direction is decomposed into write vectors where a study has directions and organisms with adapters."
        )
        return
    left, middle, right = st.columns([2, 3, 1])
    organism = choose_linked(left.selectbox, "Adapters of", organisms, key="downstream_organism", what="organism")
    names = tables.decomposable(study, organism)
    name = choose_linked(middle.selectbox, "Direction", names, key="downstream_direction", what="direction")
    layers = [each.layer for each in study.direction_stack(name)]
    last = max(study.adapters(organism)["layer"].to_list())
    start = layers.index(last) if last in layers else len(layers) // 2
    layer = choose_linked(right.selectbox, "Layer", layers, index=start, key="downstream_layer", what="layer")
    rows, shares = tables.decomposition(study, organism, name, layer)
    own = shares.row(0, named=True)
    outside = "no more than" if own["share"] <= own["chance_high"] else "more than"
    reach = max(map(abs, rows["cosine"].to_list()))
    st.markdown(
        f"{own['writes']} write vectors of {plain(organism)} explain **{own['share']:.1%}** of {plain(name)} at layer "
        f"{layer}, {outside} they do of a random direction ({own['chance']:.1%}; 95 % of them within "
        f"{own['chance_low']:.1%} to {own['chance_high']:.1%}). Their cosines with it reach "
        f"{reach:.2f}."
    )
    share, two = (st.column_config.NumberColumn(format=form) for form in ("percent", "%.2f"))
    st.dataframe(
        rows,
        hide_index=True,
        column_config={"without": share, **dict.fromkeys(("cosine", "coefficient"), two)},
        alt="Write vectors of the decomposition",
    )
    if shares.height > 1:
        others = shares["share"].to_list()[1:]
        st.caption(f"{len(others)} controls beside it are explained to {min(others):.1%} to {max(others):.1%}.")
    st.caption(
        "Least squares on the write vectors of the adapters up to the layer. without: what is lost of the share where "
        "one of them is left out. Near-zero cosines with single write vectors are what critics of the direction found; "
        "the share says what all of them together come to."
    )


study = current_study()
opening(
    "Downstream",
    "What do later blocks make of a direction, which parts carry it to the answer, and what does training leave?",
    study,
)
with explained():
    found = tables.runs(study)
    if found:
        run = choose_linked(st.selectbox, "Run", list(found), key="downstream_run", what="run")
        record = found[run]
        show_course(study, run, record)
        show_parts(study, run, record)
        show_tokens(study, run, record)
        show_resemblance(study, run, record)
    else:
        st.info(
            "No direction of this study was followed downstream. Follow one with: python -m backend downstream, then "
            "build the study again.",
            icon=":material/info:",
        )
with explained():
    show_decomposition(study)
with explained():
    show_neutral(study)
with explained():
    show_dictionary(study)
