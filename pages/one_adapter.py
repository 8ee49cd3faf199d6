"""One adapter: when its scalar is large, what its write vector says, and what else points the same way.

Its address opens it; the left and right arrow keys go to the one before and after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import streamlit as st

from backend.analysis.directions.cosines import chance
from backend.analysis.estimates import LEVEL
from backend.analysis.scalars.courses import Course, course
from backend.analysis.scalars.histograms import Binned, binned
from backend.charts.separation import distribution_chart, position_chart
from backend.charts.write_vectors import vector_cosine_chart
from backend.records import Adapter
from backend.study import Study
from backend.tables.adapters import short_labels
from panels.adapters import choose_scalar_reader, class_separations, reading_classes, readings
from panels.asked import choose_linked
from panels.classes import Classes, choose_classes
from panels.extremes import show_extremes
from panels.figures import show_chart
from panels.frame import choose_judge, current_study, explained, per_study, plain, read_by
from panels.opening import opening
from panels.promoted import show_promoted
from panels.stacks import ALTERED, no_direction

TOP = 20  # tokens on either side
MOST_OTHERS = 300  # adapters compared with this one: those with the largest write vectors
SHOWN = 24  # cosines drawn, the strongest
KEY = "adapter_name"
QUESTION, ANSWER = "question", "answer"
DIRECTIONS, WRITES = "Write vector and directions", "Write vectors of other adapters"


def choose_adapter(study: Study, reader: str) -> tuple[str, str]:
    """The adapter, with buttons and keys for its neighbours; its name and its short label."""
    table = study.adapters(reader)
    labels = dict(zip(table["name"], short_labels(table), strict=True))
    names = list(labels)

    def step(by: int) -> None:
        at = names.index(st.session_state[KEY]) if st.session_state.get(KEY) in labels else 0
        st.session_state[KEY] = names[(at + by) % len(names)]

    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button("Previous", key="adapter_previous", on_click=step, args=(-1,), shortcut="Left")
        name = choose_linked(st.selectbox, "Adapter", names, key=KEY, what="adapter", width=320)
        st.button("Next", key="adapter_next", on_click=step, args=(1,), shortcut="Right")
    return name, labels[name]


def show_facts(study: Study, reader: str, name: str, classes: Classes) -> None:
    """What it is, and how well its scalar alone tells the classes apart."""
    row = study.adapters(reader).row(by_predicate=pl.col("name") == name, named=True)
    found = class_separations(study, reader, (name,), classes.key, classes).row(0, named=True)
    told = "?" if found["value"] is None else f"{found['value']:.2f}"
    told += f" (no interval: {found['why']})" if found["why"] else " ({low:.2f}–{high:.2f})".format(**found)
    size = row["scaling"] * row["write_norm"] if row["write_norm"] else None
    facts = {
        "Module": f"{row['module']}, layer {row['layer']}"
        + (f", component {row['component']}" if row["component"] else ""),
        "Scaling × write norm: scalar per unit of A x": "not released"
        if size is None or not np.isfinite(size)
        else f"{size:.3g}",
        f"AUC, {classes.contrast.positive_name} above {classes.contrast.negative_name}": told,
    }
    for place, (title, text) in zip(st.columns([2, 2, 3]), facts.items(), strict=True):
        place.caption(plain(title))
        place.markdown(f"**{plain(text)}**")
    st.caption(
        f"{plain(classes.counts)}; {found['groups'] or 0} questions hold the class that fewer hold. {verdict(found)}"
    )


def verdict(found: Mapping[str, Any]) -> str:
    """Whether an AUC of `class_separations` is clear of chance, alone, in words."""
    if found["p_value"] is None:
        return "Nothing can be said of other questions."
    shuffled = "" if found["shuffled"] is None else f"; labels shuffled within questions reach {found['shuffled']:.2f}"
    clear = "clear" if found["p_value"] < 1 - LEVEL else "not clear"
    return (
        f"Its AUC is {clear} of chance (p = {found['p_value']:.2g}{shuffled}), taken alone: of many adapters some are "
        "so by chance, and the page Adapters corrects for that."
    )


# --- its scalar ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Spread:
    """Its scalar over all tokens, in the three ways that the page shows."""

    answers: Binned  # answer tokens by reading
    segments: pl.DataFrame  # side (question or answer), low, high, n, density
    means: tuple[str, str]  # over question tokens and over answer tokens, in words
    course: Course  # along the answer of every reading


@per_study
def scalar_spread(study: Study, reader: str, name: str) -> Spread:
    """Its scalar at every token, read once."""
    read = readings(study, reader)
    answer, question = study.scalar_column(reader, name), study.scalar_column(reader, name, "prompt").values
    parts = (question, answer.values)
    side = np.repeat(np.array([0, 1], dtype=np.int8), [len(part) for part in parts])
    segments = binned(np.concatenate(parts), side, 2).by_class([0, 1], (QUESTION, ANSWER))
    means = [f"{part.mean(dtype=np.float64):+.2f}" if len(part) else "?" for part in parts]
    place = answer.position - read["n_prompt"].to_numpy()[answer.reading]
    return Spread(
        binned(answer.values, answer.reading, read.height),
        segments,
        (means[0], means[1]),
        course(answer.values, answer.reading, place, read["n_answer"].to_numpy()),
    )


def show_scalar(study: Study, reader: str, name: str, classes: Classes) -> None:
    """Distributions by class and by segment, and its course along the answer."""
    positive, negative = classes.names
    found, codes = scalar_spread(study, reader, name), reading_classes(study, reader, classes)
    left, middle, right, last = st.columns(4)
    with left:
        table = found.answers.by_class(codes, classes.names)
        chart = distribution_chart(table, positive=positive, negative=negative, title="By class")
        show_chart(st, chart.properties(height=210), key="adapter_classes", alt="Distribution of the scalar by class")
    with middle:
        chart = distribution_chart(found.segments, positive=ANSWER, negative=QUESTION, title="Question or answer")
        show_chart(st, chart.properties(height=210), key="adapter_segments", alt="Distribution by question and answer")
    table = found.course.by_class(codes, classes.names)
    for place, part in ((right, "token"), (last, "share")):
        chart = position_chart(table, positive=positive, negative=negative, part=part)
        show_chart(place, chart, key=f"adapter_{part}", alt=f"Mean scalar by {part} of the answer")
    st.caption(
        f":orange[■] {plain(positive)} (or answer tokens), :blue[■] {plain(negative)} (or question tokens). "
        f"{plain(classes.counts)}. Mean over question tokens {found.means[0]}, over answer tokens {found.means[1]}. "
        "Bands are 95 % intervals over responses, each of which weighs alike."
    )


# --- its vectors -----------------------------------------------------------------------------------------------------


def show_write_lens(study: Study, reader: str, adapter: Adapter) -> None:
    """What its write vector promotes and suppresses."""
    lens = study.adapter_lens(reader, adapter.name)
    if lens.is_empty():
        why = no_direction(study, reader, adapter.name, adapter.module)
        why = why or "the study was built before there were lenses"
        st.caption(f"No lens is stored of this write vector: {why}.")
        return
    more = " A positive scalar promotes the orange ones, a negative scalar the blue ones."
    show_promoted(lens, key="adapter_lens", of="The write vector", more=more)


@per_study
def direction_cosines(study: Study, reader: str, name: str) -> pl.DataFrame:
    """Cosine of the write vector with every stored direction at its layer: name, cosine, what."""
    adapter = study.adapter(reader, name)
    if no_direction(study, reader, name, adapter.module):
        return strongest(pl.DataFrame())
    rows = [
        (found.name, float(found.unit @ adapter.write / adapter.write_norm), f"at layer {found.layer}")
        for found in study.directions_near(adapter.layer)
        if found.vector.size == adapter.write.size and adapter.write.any()
    ]
    return strongest(pl.DataFrame(rows, ["name", "cosine", "what"], orient="row"))


@per_study
def adapter_cosines(study: Study, reader: str, name: str, side: str) -> pl.DataFrame:
    """Cosine with the same vector of the other adapters, the strongest: name, cosine, what."""
    table = study.adapters(reader)
    own = study.adapter_vectors(reader, [name], side)[0]
    altered = study.altered(reader) if side == "write" else frozenset()
    if name in altered:
        return strongest(pl.DataFrame())
    others = table.filter(pl.col("name") != name, ~pl.col("name").is_in(list(altered)))
    others = others.sort("write_norm", descending=True).head(MOST_OTHERS)
    labels = dict(zip(table["name"], short_labels(table), strict=True))
    rows = []
    for other, vector in zip(
        others["name"], study.adapter_vectors(reader, others["name"].to_list(), side), strict=True
    ):
        length = float(np.linalg.norm(vector) * np.linalg.norm(own)) if vector.size == own.size else 0.0
        if length:
            rows.append((labels[other], float(vector @ own) / length, other))
    return strongest(pl.DataFrame(rows, ["name", "cosine", "what"], orient="row"))


def strongest(table: pl.DataFrame) -> pl.DataFrame:
    """The largest cosines by size, from positive to negative."""
    schema = pl.Schema({"name": pl.String, "cosine": pl.Float64, "what": pl.String})
    if table.is_empty():
        return pl.DataFrame(schema=schema)
    kept = table.cast(schema).sort(pl.col("cosine").abs(), descending=True).head(SHOWN)
    return kept.sort("cosine", descending=True)


def show_cosines(study: Study, reader: str, adapter: Adapter) -> None:
    """How its vectors lie to directions and to those of the other adapters."""
    why = no_direction(study, reader, adapter.name, adapter.module)
    hidden = {DIRECTIONS: why, WRITES: why if why == ALTERED else None}
    tables = (
        (DIRECTIONS, direction_cosines(study, reader, adapter.name), adapter.write),
        (WRITES, adapter_cosines(study, reader, adapter.name, "write"), adapter.write),
        ("Read vectors of other adapters", adapter_cosines(study, reader, adapter.name, "read"), adapter.read),
    )
    for place, (title, table, own) in zip(st.columns([3, 2, 2]), tables, strict=True):
        place.markdown(f"**{title}**")
        if table.is_empty():
            why = hidden.get(title)
            place.caption(f"Not shown: {why}." if why else "None of that size in this study.")
            continue
        chart = vector_cosine_chart(table, chance=chance(own.size))
        show_chart(place, chart, key=f"adapter_cosine_{title.split()[0]}_{title.split()[-1]}", alt=title)
    st.caption(
        f"The {SHOWN} strongest of each; the band holds 95 % of random vectors of that size. Directions are taken at "
        "the adapter's layer, or the nearest there is. Adapters that read the same part of the residual stream, or "
        "modules of one kind alone, can be compared: others have vectors of another size."
    )


def show_one_adapter(study: Study) -> None:
    """The page, once there is something to show. Raises InputError where a choice leaves nothing."""
    reader = choose_scalar_reader(study, "adapter")
    judge = choose_judge(study, reader)
    name, label = choose_adapter(study, reader)
    with st.expander("Classes", icon=":material/tune:"):
        classes = choose_classes(study, judge, reader, page="adapter")
        st.caption(plain(classes.recipe))
    show_facts(study, reader, name, classes)
    st.subheader("When is its scalar large?")
    show_scalar(study, reader, name, classes)
    show_extremes(study, reader, name, count=TOP)
    count = len(read_by(study, reader))
    st.caption(f"The {TOP} most extreme answer tokens of all {count:,} responses that {plain(reader)} read.")
    adapter = study.adapter(reader, name)
    st.subheader(f"What does {label} write?")
    if not adapter.write.size:
        st.caption("This study holds scalars alone: the read and write vectors were not released.")
        return
    left, right = st.columns([2, 5], gap="large")
    with left:
        show_write_lens(study, reader, adapter)
    with right:
        show_cosines(study, reader, adapter)


study = current_study()
opening("One adapter", "When is the scalar of one adapter large, and what does the adapter write?", study)
with explained():
    show_one_adapter(study)
