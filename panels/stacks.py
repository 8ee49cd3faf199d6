"""The directions that can be edited with: those a study holds, its write vectors, and those sent here by other pages.

A stack is one name's directions by layer. It refuses to know what is done with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NoReturn

import streamlit as st

from backend.records import BASE, RESIDUAL_WRITERS, Direction
from backend.study import Study
from panels.frame import per_study, plain
from panels.sent import Stack as Stack
from panels.sent import send, sent

ALTERED = "this model changes what the adapter writes, as by a norm, before it reaches the residual stream"
MOST_OFFERED = 64  # write vectors of one organism among the directions to choose
ADD, ABLATE, CLAMP = "Add", "Ablate", "Clamp"
LAMBDA, SHARE = "λ", "share"
SENT_TO = "b"  # the lane of the Live page that gets what other pages send
OWN, ALL, WISE = "its layer", "every layer", "each its own"


def send_direction(
    stack: Stack,
    layer: int,
    *,
    strength: float | None = 1.0,
    place: str = OWN,
    tokens: str | None = None,
    organism: str = BASE,
) -> NoReturn:
    """Go to the live page with this direction chosen there: added with a strength, or ablated where that is None.

    `tokens` are those that it is edited at, as that page calls them; by default as there.
    """
    name, edit = send(stack), f"{SENT_TO}_0"
    chosen = {
        f"live_edits_{SENT_TO}": 1,
        f"live_worn_{SENT_TO}": organism,
        f"live_direction_{edit}": name,
        f"live_layer_{edit}": layer,
        f"live_kind_{edit}": ABLATE if strength is None else ADD,
        f"live_where_{edit}": place,
        f"live_unit_{edit}": LAMBDA,
        f"live_strength_{edit}": 1.0 if strength is None else strength,
    }
    if tokens is not None:
        chosen[f"live_at_{edit}"] = tokens
    # The study and the judge are bound to widgets: they go along by themselves, and must not be given here.
    st.switch_page("pages/live.py", query_params={key: str(value) for key, value in chosen.items()})


def send_buttons(stacks: Sequence[Stack], layer: int, *, key: str) -> None:
    """A button for each direction that opens Live with it, at the given layer."""
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption(f"Send to Live, of layer {layer}:", width="content")
        for stack in stacks:
            if layer not in stack:
                continue
            name = stack[layer].name
            if st.button(plain(name), key=f"{key}_send_{name}", icon=":material/send:", type="tertiary"):
                send_direction(stack, layer)


@per_study
def study_stacks(study: Study) -> dict[str, Stack]:
    """The directions that a study holds by name, read once a build: those published with it, and write vectors."""
    names = study.directions()["name"].unique(maintain_order=True)
    stored = {name: {direction.layer: direction for direction in study.direction_stack(name)} for name in names}
    return stored | _write_vectors(study)


def all_stacks(study: Study) -> dict[str, Stack]:
    """The directions that other pages sent here or that the link names by what they hold, and those of the study."""
    asked = [value for key, value in st.query_params.items() if key.startswith(("live_direction_", "live_gate_"))]
    return {**sent(asked), **study_stacks(study)}


def no_direction(study: Study, organism: str, adapter: str, module: str) -> str | None:
    """Why an adapter's write vector is no direction of the residual stream, in words; None where it is one."""
    if module.rpartition(".")[2] not in RESIDUAL_WRITERS:
        return "it does not end in the residual stream"
    return ALTERED if adapter in study.altered(organism) else None


@per_study
def write_vectors(study: Study) -> list[tuple[str, str, Direction]]:
    """(organism, adapter, vector) of every adapter of the study whose writes reach the residual stream as they are."""
    found = []
    for organism, count in study.organisms().select("organism", "n_adapters").iter_rows():
        if not count:
            continue
        table = study.adapters(organism).select("name", "layer", "module")
        rows = [(name, at) for name, at, module in table.rows() if no_direction(study, organism, name, module) is None]
        vectors = study.adapter_vectors(organism, [name for name, _ in rows], "write")
        for (name, layer), vector in zip(rows, vectors, strict=True):
            if vector.any():  # a study of scalars alone has none: the vectors were not released
                found.append((organism, name, Direction(f"write vector of {name} ({organism})", layer, vector)))
    return found


def _write_vectors(study: Study) -> dict[str, Stack]:
    """Those of organisms with few adapters: a menu holds no thousands."""
    counts = Counter(organism for organism, _, _ in write_vectors(study))
    return {
        each.name: {each.layer: each} for organism, _, each in write_vectors(study) if counts[organism] <= MOST_OFFERED
    }
