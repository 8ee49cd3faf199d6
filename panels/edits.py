"""The widgets that make edits of directions: each added, ablated or clamped, at a layer and at some tokens.

A strength is a multiple of the raw vector or a share of the activation norm; ablation is to zero or to a mean.

It refuses to know what is done with the edits, and whether a model can take them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from backend.edits import Ablate, Add, Clamp, Edit, Level, When, Where, amount
from backend.records import Direction, InputError
from panels.acting import choose_tokens
from panels.asked import choose_linked, with_asked
from panels.frame import explained, plain
from panels.means import Means, mean_level, zero_is_far
from panels.stacks import ABLATE, ADD, ALL, CLAMP, LAMBDA, OWN, SHARE, WISE, Stack

MAX_EDITS = 3
ZERO = "zero"


def choose_direction_edits(
    lane: str, stacks: Mapping[str, Stack], *, layers: int, width: int | None = None, means: Callable[[], Means] = dict
) -> list[Edit] | None:
    """Up to three directions of a lane, each added, ablated or clamped at a layer, with widgets of their own.

    Offered are those that fit a model of `layers` and `width` (None: of any), and the `means` to ablate them to, which
    are read when they are needed. None where a direction is not chosen yet or where what the link asks for cannot be
    had, which the panel says: nothing else is put in its place.
    """
    count = st.segmented_control(
        "Directions to edit with",
        range(MAX_EDITS + 1),
        default=0,
        required=True,
        key=f"live_edits_{lane}",
        bind="query-params",
        help="Directions come from the Directions and Probes pages, the study, and the adapters' write vectors.",
    )
    made: list[list[Edit] | None] = []
    for index in range(int(count or 0)):
        made.append(None)
        with st.container(border=True, gap="xsmall"), explained():
            made[-1] = _direction_edit(f"{lane}_{index}", stacks, layers, width, means)
    return None if None in made else [edit for edits in made for edit in edits or ()]


def _direction_edit(
    of: str, stacks: Mapping[str, Stack], layers: int, width: int | None, means: Callable[[], Means]
) -> list[Edit] | None:
    """The edits that the widgets `of` a lane's edit make: its lane and its number, as in their keys."""
    if not stacks:
        raise InputError(
            "There is no direction to edit with: make one on the Directions or Probes page and send it here."
        )
    stack = _choose_stack(of, stacks, layers, width)
    if stack is None:
        return None
    key = f"live_layer_{of}"
    layer = st.selectbox("Of layer", with_asked(sorted(stack), key), key=key, bind="query-params")
    if layer not in stack:
        raise InputError(f"This direction has no layer {layer}: choose one of its layers, {_span(stack)}.")
    kind = choose_linked(
        st.segmented_control,
        "Edit",
        [ADD, ABLATE, CLAMP],
        default=ADD,
        required=True,
        key=f"live_kind_{of}",
        what="edit",
    )
    where = _choose_place(of, whole=len(stack) >= layers)
    chosen = [stack[at] for at in sorted(stack)] if where == WISE else [stack[layer]]
    fitting = {name: each for name, each in stacks.items() if _fits(each, layers, width)}
    if kind == ABLATE:
        known = means()
        to = _choose_target(of, stack[layer], known)
        acting = choose_tokens(of, fitting, _first(chosen, where))
        return [_ablated(direction, where, layers, acting, to, known) for direction in chosen]
    if kind == CLAMP:
        low, high = _choose_bounds(of, stack[layer], means())
        acting = choose_tokens(of, fitting, _first(chosen, where))
        places = [None if where == ALL else (direction.layer,) for direction in chosen]
        return [Clamp(direction, low, high, at, *acting) for direction, at in zip(chosen, places, strict=True)]
    strength = _strength(of, stack[layer])
    acting = choose_tokens(of, fitting, _first(chosen, where))
    everywhere = tuple(range(layers)) if where == ALL else ()
    return [Add(direction, strength, everywhere, *acting) for direction in chosen]


def _first(chosen: Sequence[Direction], where: str) -> int:
    """The first layer that is edited: a gate is read there or before."""
    return 0 if where == ALL else chosen[0].layer


def _ablated(
    direction: Direction, where: str, layers: int, acting: tuple[Where, When | None], to: str, means: Means
) -> Ablate:
    """One direction out of its layer or of every one, to zero or to the mean of some answers."""
    at = None if where == ALL else (direction.layer,)
    level = None if to == ZERO else mean_level(means, to, direction, at or range(layers))
    return Ablate(direction, at, *acting, to=level)


def _choose_target(of: str, direction: Direction, means: Means) -> str:
    """Zero, or whose mean."""
    key = f"live_to_{of}"
    to = st.selectbox("To", with_asked([ZERO, *means], key), key=key, bind="query-params", help=TARGET_HELP)
    if to not in (ZERO, *means):
        raise InputError(f"This study knows no mean of {to!r}: choose {' or '.join([ZERO, *means])}.")
    if far := zero_is_far(means, direction):
        st.caption(plain(far))
    return str(to)


def _choose_bounds(of: str, direction: Direction, means: Means) -> tuple[Level | None, Level | None]:
    """What the projection is kept between; either side may be open, and where both are one it is held there."""
    sides: list[Level | None] = []
    for column, (label, key) in zip(st.columns(2), (("At least", "low"), ("At most", "high")), strict=True):
        value = column.number_input(
            label,
            value=None,
            step=0.5,
            placeholder="open",
            key=f"live_{key}_{of}",
            bind="query-params",
            help="The projection on the unit direction, in residual units. The same on both sides: held there.",
        )
        sides.append(None if value is None else Level((float(value),)))
    if far := zero_is_far(means, direction):
        st.caption(plain(far))
    if sides == [None, None]:
        raise InputError("The clamp has no bound yet: say what the projection is at least, at most, or both.")
    return sides[0], sides[1]


def _choose_stack(of: str, stacks: Mapping[str, Stack], layers: int, width: int | None) -> Stack | None:
    """The chosen direction; None before one is chosen. No default: it would depend on what this session holds."""
    key = f"live_direction_{of}"
    fitting = [name for name, stack in stacks.items() if _fits(stack, layers, width)]
    name = st.selectbox(
        "Direction",
        with_asked(fitting, key),
        index=None,
        placeholder="Choose a direction",
        key=key,
        bind="query-params",
        on_change=_keep_layer,
        args=(of, stacks),
    )
    if name is None:
        st.caption("Choose a direction to edit with, or 0 above." + _not_offered(stacks, len(fitting), width))
        return None
    if name not in stacks:
        raise InputError(
            f"This link names the direction {name!r}, which this study does not hold: it was made in a session of "
            "another app, or is no longer kept. Make it on the Directions or Probes page and send it here, or store it "
            "with: python -m backend directions import. To go on without it, choose another."
        )
    if name not in fitting:
        first = next(iter(stacks[name].values()))
        if first.d_model == width and first.vector.size != width:
            raise InputError(
                f"{name!r} is kept as coordinates alone in this study, which tell its norm and cosines: its vector of "
                f"{width} numbers is not here to edit with. Choose another direction, or import the study with its "
                "vectors."
            )
        raise InputError(
            f"{name!r} is of a model with {first.d_model} numbers a layer, at layer {first.layer}; the worker's model "
            f"has {width} and {layers} layers, so nothing is run with it. Choose another direction or another study, "
            "or start a worker with this study's base."
        )
    return stacks[name]


def _fits(stack: Stack, layers: int, width: int | None) -> bool:
    """Whether a model of this size takes it: a vector of that width, not coordinates in its place."""
    return width is None or all(each.d_model == each.vector.size == width and at < layers for at, each in stack.items())


def _not_offered(stacks: Mapping[str, Stack], fitting: int, width: int | None) -> str:
    """How many directions do not fit the worker's model, and of what width they are, in words."""
    if fitting == len(stacks):
        return ""
    widths = sorted({each.d_model for stack in stacks.values() for each in stack.values()} - {width})
    of = f", of models with {' or '.join(map(str, widths))} numbers a layer" if widths else ""
    return f" {len(stacks) - fitting} of {len(stacks)} do not fit the worker's model ({width} numbers a layer){of}."


def _keep_layer(of: str, stacks: Mapping[str, Stack]) -> None:
    """Another direction was chosen by hand: the layer stays where it has that one, else it is its first."""
    stack = stacks.get(st.session_state[f"live_direction_{of}"], {})
    if stack and st.session_state.get(f"live_layer_{of}") not in stack:
        st.session_state[f"live_layer_{of}"] = min(stack)


def _choose_place(of: str, *, whole: bool) -> str:
    """Where it is edited; each block with its own vector only where the `whole` model has one."""
    places, key = [OWN, ALL, WISE] if whole else [OWN, ALL], f"live_where_{of}"
    where = st.segmented_control(
        "After", with_asked(places, key), default=OWN, required=True, key=key, bind="query-params", help=WHERE_HELP
    )
    if where not in places:
        raise InputError(f"This direction cannot be edited after {where!r}: choose {' or '.join(places)}.")
    return str(where)


def _span(stack: Stack) -> str:
    return str(min(stack)) if len(stack) == 1 else f"{min(stack)} to {max(stack)}"


TARGET_HELP = (
    "What the projection becomes. Zero is neutral only where the mean projection is near zero: ablation to the mean of "
    "some answers leaves at each layer what those answers have there on average."
)
WHERE_HELP = (
    "*its layer*: after the block the direction was found at. *every layer*: the same vector after every block (the "
    "paper's single-direction ablation). *each its own*: after every block that block's own vector."
)


def _strength(of: str, direction: Direction) -> float:
    """The raw strength, entered in either unit; the other is shown below it."""
    units, key = [LAMBDA] if direction.activation_norm is None else [LAMBDA, SHARE], f"live_unit_{of}"
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
        key=f"live_strength_{of}",
        bind="query-params",
    )
    if unit not in units:
        raise InputError(f"The strength is given as {unit!r}, which needs the activation norm at its layer: choose λ.")
    strength = float(value)
    if unit == SHARE:
        strength = direction.strength(strength) or 0.0
    st.caption(amount(direction, strength))
    return strength
