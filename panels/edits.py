"""The widgets that make edits of directions: each added or ablated, at a layer, with a strength in either unit.

It refuses to know what is done with the edits, and whether a model can take them.
"""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from backend.edits import Ablate, Add, Edit, amount
from backend.records import Direction, InputError
from panels.asked import choose_linked, with_asked
from panels.frame import explained
from panels.stacks import ABLATE, ADD, ALL, LAMBDA, OWN, SHARE, WISE, Stack

MAX_EDITS = 3


def choose_direction_edits(stacks: Mapping[str, Stack], *, layers: int, width: int | None = None) -> list[Edit] | None:
    """Up to three directions, each added or ablated at a layer, with widgets of their own.

    Offered are those that fit a model of `layers` and `width` (None: of any). None where a direction is not chosen yet
    or where what the link asks for cannot be had, which the panel says: nothing else is put in its place.
    """
    count = st.segmented_control(
        "Directions to edit with",
        range(MAX_EDITS + 1),
        default=0,
        required=True,
        key="live_edits",
        bind="query-params",
        help="Directions come from the Directions and Probes pages, the study, and the adapters' write vectors.",
    )
    made: list[list[Edit] | None] = []
    for index in range(int(count or 0)):
        made.append(None)
        with st.container(border=True, gap="xsmall"), explained():
            made[-1] = _direction_edit(index, stacks, layers, width)
    return None if None in made else [edit for edits in made for edit in edits or ()]


def _direction_edit(index: int, stacks: Mapping[str, Stack], layers: int, width: int | None) -> list[Edit] | None:
    if not stacks:
        raise InputError(
            "There is no direction to edit with: make one on the Directions or Probes page and send it here."
        )
    stack = _choose_stack(index, stacks, layers, width)
    if stack is None:
        return None
    left, right = st.columns([2, 3])
    key = f"live_layer_{index}"
    layer = left.selectbox("Of layer", with_asked(sorted(stack), key), key=key, bind="query-params")
    if layer not in stack:
        raise InputError(f"This direction has no layer {layer}: choose one of its layers, {_span(stack)}.")
    kind = choose_linked(
        right.segmented_control,
        "Edit",
        [ADD, ABLATE],
        default=ADD,
        required=True,
        key=f"live_kind_{index}",
        what="edit",
    )
    where = _choose_place(index, whole=len(stack) >= layers)
    chosen = [stack[at] for at in sorted(stack)] if where == WISE else [stack[layer]]
    if kind == ABLATE:
        return [Ablate(direction, None if where == ALL else (direction.layer,)) for direction in chosen]
    strength = _strength(index, stack[layer])
    everywhere = tuple(range(layers)) if where == ALL else ()
    return [Add(direction, strength, everywhere) for direction in chosen]


def _choose_stack(index: int, stacks: Mapping[str, Stack], layers: int, width: int | None) -> Stack | None:
    """The chosen direction; None before one is chosen. No default: it would depend on what this session holds."""
    key = f"live_direction_{index}"
    fitting = [name for name, stack in stacks.items() if _fits(stack, layers, width)]
    name = st.selectbox(
        "Direction",
        with_asked(fitting, key),
        index=None,
        placeholder="Choose a direction",
        key=key,
        bind="query-params",
        on_change=_keep_layer,
        args=(index, stacks),
    )
    if name is None:
        st.caption("Choose a direction to edit with, or 0 above.")
        return None
    if name not in stacks:
        raise InputError(
            f"This link names the direction {name!r}, which this study does not hold: it was made in another session. "
            "Make it on the Directions or Probes page and send it here, or store it with: python -m backend "
            "directions import. To go on without it, choose another."
        )
    if name not in fitting:
        first = next(iter(stacks[name].values()))
        raise InputError(
            f"{name!r} has {first.vector.size} numbers at layer {first.layer}; the worker's model has {width} and "
            f"{layers} layers. It comes from another model: choose another direction or another study, or start a "
            "worker with this study's base."
        )
    return stacks[name]


def _fits(stack: Stack, layers: int, width: int | None) -> bool:
    return width is None or all(each.vector.size == width and at < layers for at, each in stack.items())


def _keep_layer(index: int, stacks: Mapping[str, Stack]) -> None:
    """Another direction was chosen by hand: the layer stays where it has that one, else it is its first."""
    stack = stacks.get(st.session_state[f"live_direction_{index}"], {})
    if stack and st.session_state.get(f"live_layer_{index}") not in stack:
        st.session_state[f"live_layer_{index}"] = min(stack)


def _choose_place(index: int, *, whole: bool) -> str:
    """Where it is edited; each block with its own vector only where the `whole` model has one."""
    places, key = [OWN, ALL, WISE] if whole else [OWN, ALL], f"live_where_{index}"
    where = st.segmented_control(
        "After", with_asked(places, key), default=OWN, required=True, key=key, bind="query-params", help=WHERE_HELP
    )
    if where not in places:
        raise InputError(f"This direction cannot be edited after {where!r}: choose {' or '.join(places)}.")
    return str(where)


def _span(stack: Stack) -> str:
    return str(min(stack)) if len(stack) == 1 else f"{min(stack)} to {max(stack)}"


WHERE_HELP = (
    "*its layer*: after the block the direction was found at. *every layer*: the same vector after every block (the "
    "paper's single-direction ablation). *each its own*: after every block that block's own vector."
)


def _strength(index: int, direction: Direction) -> float:
    """The raw strength, entered in either unit; the other is shown below it."""
    units, key = [LAMBDA] if direction.activation_norm is None else [LAMBDA, SHARE], f"live_unit_{index}"
    left, right = st.columns([2, 3])
    unit = right.segmented_control(
        "Unit",
        with_asked(units, key),
        default=LAMBDA,
        required=True,
        key=key,
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
    if unit not in units:
        raise InputError(f"The strength is given as {unit!r}, which needs the activation norm at its layer: choose λ.")
    strength = float(value)
    if unit == SHARE:
        strength = direction.strength(strength) or 0.0
    st.caption(amount(direction, strength))
    return strength
