"""What a direction is like: beside other vectors, along one answer, through the unembedding, and as a file.

It refuses to know how the direction was found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import streamlit as st

from backend.analysis.directions.cosines import chance, comparable, cosine_matrix
from backend.charts.cosines import pair_cosine_chart
from backend.charts.strip import common_scale, legend, token_strip
from backend.charts.write_vectors import vector_cosine_chart
from backend.records import Direction
from backend.study import Study
from backend.study.vectors import GGUF, SAFETENSORS, directions_bytes
from backend.worker.client import WorkerError
from panels.asked import choose_linked
from panels.figures import show_chart
from panels.frame import lacks, per_study, plain
from panels.promoted import asked_lens, show_promoted
from panels.stacks import ALTERED, Stack, send_buttons, study_stacks, write_vectors

MOST_OTHERS = 7  # directions in the matrix, those of largest cosine
MOST_WRITES = 14  # write vectors drawn, those of largest cosine
MOST_OPTIONS = 500  # responses offered in a menu


@dataclass(frozen=True, eq=False)
class Chosen:
    """The direction at the chosen layer, where it came from, and what it is looked at with."""

    source: str
    direction: Direction
    stack: Stack
    reader: str
    rows: pl.DataFrame


@per_study
def _stored_at(study: Study, layer: int) -> list[Direction]:
    """Every direction that the study holds at a layer; write vectors are none of them."""
    writes = {each.name for _, _, each in write_vectors(study)}
    return [stack[layer] for name, stack in study_stacks(study).items() if layer in stack and name not in writes]


def _show_chosen_others(study: Study, chosen: Chosen) -> None:
    """What the chosen direction is like."""
    show_others(study, chosen.direction)


def show_others(study: Study, direction: Direction) -> None:
    """Cosines with the study's directions at its layer, and with every adapter's write vector."""
    width, unit = direction.d_model, direction.unit
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.markdown(f"**Cosines of directions, layer {direction.layer}**")
        others = [each for each in _stored_at(study, direction.layer) if comparable(each, direction)]
        others = [each for each in others if each.name != direction.name]
        nearest = sorted(others, key=lambda each: -abs(float(each.unit @ unit)))[:MOST_OTHERS]
        if not nearest:
            st.caption("The study holds no other direction at this layer.")
        else:
            drawn = [direction, *nearest]
            chart = pair_cosine_chart(cosine_matrix(drawn), [each.name for each in drawn])
            show_chart(st, chart, key="directions_others", alt="Cosine of every two directions at this layer")
            more = f" The {MOST_OTHERS} nearest of {len(others)}." if len(others) > MOST_OTHERS else ""
            reach = chance(width)
            st.caption(f"95 % of random pairs of {width} dimensions are within ±{reach:.2f}.{more}")
            stacks = study_stacks(study)
            send_buttons([stacks[each.name] for each in nearest], direction.layer, key="directions_others")
    with right:
        st.markdown("**Nearest write vectors**")
        _show_writes(study, direction)


def _show_writes(study: Study, direction: Direction) -> None:
    """The adapters of all organisms that write most along the direction, or against it."""
    fitting = [each for each in write_vectors(study) if each[2].vector.size == direction.vector.size]
    if not fitting:
        st.caption(f"The study holds no write vectors of this width: {_why_no_writes(study)}.")
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
    within = chance(direction.d_model)
    outside = table.filter(pl.col("cosine").abs() > within).height
    chart = vector_cosine_chart(nearest, chance=within)
    show_chart(st, chart, key="directions_writes", alt="Cosine with write vectors")
    st.caption(
        f"Of {table.height:,} write vectors of all organisms, {outside} lie outside the band of 95 % of random vectors "
        f"(by chance about {0.05 * table.height:.0f}). The sign of a write vector is arbitrary."
    )


def _why_no_writes(study: Study) -> str:
    if any(study.altered(name) for name in study.organisms()["organism"]):
        return ALTERED
    return "they were not released, or there are no adapters"


def _show_tokens(study: Study, chosen: Chosen) -> None:
    """One response token by token along a direction, where the study keeps that."""
    options = chosen.rows["response"].head(MOST_OPTIONS).to_list()
    left, middle, right = st.columns([3, 3, 2], vertical_alignment="bottom")
    response = choose_linked(left.selectbox, "Response", options, key="directions_response", what="response")
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
    key = "directions_along"
    label = choose_linked(middle.selectbox, "Along", labels, index=start, key=key, what="direction")
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


def _show_direction_lens(study: Study, chosen: Chosen) -> None:
    """The tokens that the direction promotes and suppresses."""
    direction = chosen.direction
    lens = study.lens(chosen.source, direction.layer)
    whose = next((each[:2] for each in write_vectors(study) if each[2].name == chosen.source), None)
    if whose is not None:
        lens = study.adapter_lens(*whose)
    if lens.is_empty():
        try:
            lens = asked_lens(direction)
        except WorkerError as error:
            st.info(
                "No lens of this direction is stored, and no worker answered for it: "
                f"{plain(error)}. Directions that a study is built with have one.",
                icon=":material/info:",
            )
            return
    with st.columns([3, 2])[0]:
        show_promoted(lens, key="directions_lens", of="The direction")


def _show_file(study: Study, chosen: Chosen) -> None:
    """Where the direction comes from, and the whole stack to take away."""
    said = {"name": chosen.direction.name, "layer": chosen.direction.layer, **chosen.direction.provenance}
    said["layers"] = ", ".join(map(str, sorted(chosen.stack)))
    table = pl.DataFrame({"what": list(said), "value": [str(value) for value in said.values()]})
    left, right = st.columns([3, 2], gap="large")
    left.dataframe(table, hide_index=True, height=360, alt="Provenance of the direction")
    with right:
        st.markdown("**All layers as a file**")
        if chosen.direction.d_model != chosen.direction.vector.size:
            lacks(study, "vectors")
            return
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


VIEWS = {
    "Beside other vectors": _show_chosen_others,
    "Token by token": _show_tokens,
    "Through the unembedding": _show_direction_lens,
    "Provenance and file": _show_file,
}
