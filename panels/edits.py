"""The widgets that make edits of directions: each added or ablated, at a layer, with a strength in either unit.

It refuses to know what is done with the edits, and whether a model can take them.
"""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from backend.edits import Ablate, Add, Edit, amount
from backend.records import Direction, InputError
from panels.stacks import ABLATE, ADD, ALL, LAMBDA, OWN, SHARE, WISE, Stack

MAX_EDITS = 3


def choose_direction_edits(stacks: Mapping[str, Stack], *, layers: int) -> list[Edit]:
    """Up to three directions, each added or ablated at a layer, with widgets of their own."""
    count = st.segmented_control(
        "Directions to edit with",
        range(MAX_EDITS + 1),
        default=0,
        required=True,
        key="live_edits",
        bind="query-params",
        help="Directions come from the Directions and Probes pages, the study, and the adapters' write vectors.",
    )
    edits: list[Edit] = []
    for index in range(int(count or 0)):
        with st.container(border=True, gap="xsmall"):
            edits += _direction_edit(index, stacks, layers)
    return edits


def _direction_edit(index: int, stacks: Mapping[str, Stack], layers: int) -> list[Edit]:
    if not stacks:
        raise InputError(
            "There is no direction to edit with: make one on the Directions or Probes page and send it here."
        )
    name = st.selectbox("Direction", list(stacks), key=f"live_direction_{index}", bind="query-params")
    stack = stacks[name]
    left, right = st.columns([2, 3])
    layer = left.selectbox("Of layer", sorted(stack), key=f"live_layer_{index}", bind="query-params")
    kind = right.segmented_control(
        "Edit", [ADD, ABLATE], default=ADD, required=True, key=f"live_kind_{index}", bind="query-params"
    )
    places = [OWN, ALL] if len(stack) < layers else [OWN, ALL, WISE]
    where = st.segmented_control(
        "After", places, default=OWN, required=True, key=f"live_where_{index}", bind="query-params", help=WHERE_HELP
    )
    chosen = [stack[at] for at in sorted(stack)] if where == WISE else [stack[layer]]
    if kind == ABLATE:
        return [Ablate(direction, None if where == ALL else (direction.layer,)) for direction in chosen]
    strength = _strength(index, stack[layer])
    everywhere = tuple(range(layers)) if where == ALL else ()
    return [Add(direction, strength, everywhere) for direction in chosen]


WHERE_HELP = (
    "*its layer*: after the block the direction was found at. *every layer*: the same vector after every block (the "
    "paper's single-direction ablation). *each its own*: after every block that block's own vector."
)


def _strength(index: int, direction: Direction) -> float:
    """The raw strength, entered in either unit; the other is shown below it."""
    known = direction.activation_norm is not None
    left, right = st.columns([2, 3])
    unit = right.segmented_control(
        "Unit",
        [LAMBDA, SHARE] if known else [LAMBDA],
        default=LAMBDA,
        required=True,
        key=f"live_unit_{index}",
        bind="query-params",
        help="λ multiplies the raw vector, as in the paper; a share is of the mean activation norm at its layer.",
    )
    value = left.number_input(
        "Strength",
        value=1.0,
        step=0.25,
        format="%.2f",
        key=f"live_strength_{index}",
        bind="query-params",
    )
    strength = float(value)
    if unit == SHARE:
        strength = direction.strength(strength) or 0.0
    st.caption(amount(direction, strength))
    return strength
