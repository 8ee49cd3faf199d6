"""The widgets that make the lanes of the Live page: up to four, each with a model to wear, gains and edits of its own.

It refuses to know what is asked of them, and what they answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import streamlit as st

from backend.edits import Edit
from backend.records import BASE, InputError, Origin
from backend.study import Study
from backend.study.outcome_json import outcomes_of
from panels.acting import TOKENS
from panels.asked import linked, with_asked
from panels.edits import ZERO, choose_direction_edits
from panels.frame import explained
from panels.gains import gain_key, mix_adapters
from panels.live_worker import Places
from panels.means import mean_streams
from panels.stacks import ABLATE, ADD, ALL, LAMBDA, OWN, SENT_TO, SHARE, Stack, all_stacks

LETTERS = ("a", "b", "c", "d")
FIRST = ("a", "b")  # the lanes that are there before anybody chooses
VIEW = "live_scalar"
PRESET_SHARE = 0.10  # of the activation norm
MOST_NAME = 150  # characters of a lane's name: the worker takes 200
EARLIER = {"live_plain": "live_worn_a", "live_edited": "live_worn_b"}  # parameters of links of one edited answer


@dataclass(frozen=True, eq=False)
class Lane:
    """One answer of several: what it is called, and all that is done to the model that writes it."""

    name: str
    edits: tuple[Edit, ...]


def renew_earlier_link() -> None:
    """Go to the same page by the parameters of today, where a link is of the time when one answer had edits."""
    renamed: dict[str, str] = {}
    for key in st.query_params:
        if (now := _now(key)) != key:
            renamed[now] = linked(key) or ""
    if renamed:
        kept = {key: value for key, value in st.query_params.items() if _now(key) == key and key.startswith("live_")}
        st.switch_page("pages/live.py", query_params={**kept, **renamed})


def _now(key: str) -> str:
    """A parameter of links as it is called today."""
    name, _, number = key.rpartition("_")
    if key in EARLIER:
        return EARLIER[key]
    if key in ("live_edits", "live_one"):
        return f"{key}_{SENT_TO}"
    if key.startswith("live_gain_") and key[len("live_gain_") :][:2] not in {f"{letter}_" for letter in LETTERS}:
        return f"live_gain_{SENT_TO}_{key.removeprefix('live_gain_')}"
    if number.isdecimal() and name.startswith("live_") and name.count("_") == 1:
        return f"{name}_{SENT_TO}_{number}"
    return key


def choose_lanes(
    study: Study, organisms: Mapping[str, Places], layers: int, width: int | None
) -> tuple[Lane, ...] | None:
    """The lanes that are asked; None where one is unfinished or cannot be had, which the panel says."""
    letters = st.pills(
        "Lanes",
        LETTERS,
        selection_mode="multi",
        default=FIRST,
        format_func=str.upper,
        key="live_lanes",
        bind="query-params",
        help="Each lane answers the same prompt: tap one to add it or to take it away.",
    )
    chosen = [letter for letter in LETTERS if letter in (letters or ())]
    if not chosen:
        raise InputError("No lane is chosen: tap one of A to D.")
    stacks = all_stacks(study)
    lanes: list[Lane | None] = []
    first = SENT_TO.upper() if SENT_TO in chosen else None  # where edits are, also those that other pages send
    for letter, tab in zip(chosen, st.tabs([letter.upper() for letter in chosen], default=first), strict=True):
        lanes.append(None)
        with tab, explained():
            lanes[-1] = _choose_lane(letter, study, organisms, stacks, layers, width)
    return None if None in lanes else tuple(lane for lane in lanes if lane)


def _choose_lane(
    letter: str,
    study: Study,
    organisms: Mapping[str, Places],
    stacks: Mapping[str, Stack],
    layers: int,
    width: int | None,
) -> Lane | None:
    _presets(letter, study, organisms, stacks, layers, width)
    names, key = [BASE, *organisms], f"live_worn_{letter}"
    worn = st.selectbox(
        "Model",
        with_asked(names, key),
        index=0 if letter in ("a", "c") else len(names) - 1,
        key=key,
        bind="query-params",
        on_change=st.session_state.pop,
        args=(VIEW, None),  # tokens show an adapter of the one that is chosen now
    )
    if worn not in names:
        raise InputError(
            f"The organism {worn!r} is asked for, and the worker does not wear it: start a worker with --organism "
            f"{worn}=FOLDER, or choose {' or '.join(names)}."
        )
    means = partial(mean_streams, study)
    edits = choose_direction_edits(letter, stacks, layers=layers, width=width, means=means)
    gains: tuple[Edit, ...] = ()
    if worn in organisms:
        with st.expander("Gain of each adapter", icon=":material/tune:"):
            gains = mix_adapters(letter, worn, organisms[worn])
    if edits is None:
        return None
    every = (*gains, *edits)
    edited = ", edited" if any(edit.changes for edit in every) else ""
    return Lane(f"{letter.upper()}: {str(worn)[:MOST_NAME]}{edited}", every)


# --- presets ----------------------------------------------------------------------------------------------------------


def _presets(
    letter: str,
    study: Study,
    organisms: Mapping[str, Places],
    stacks: Mapping[str, Stack],
    layers: int,
    width: int | None,
) -> None:
    """Buttons that set a whole lane at once."""
    held = st.session_state.get(f"live_worn_{letter}")
    organism = str(held) if held in organisms else [BASE, *organisms][-1]
    found = _telling(study, stacks, organism, layers, width)
    with st.container(horizontal=True, gap="xsmall"):
        _preset(letter, "Base", {"worn": BASE, "edits": 0})
        if organism != BASE:
            _preset(letter, "Organism", {"worn": organism, "edits": 0}, organisms[organism])
        if found is None:
            return
        name, layer = found
        chosen = {"edits": 1, "direction_0": name, "layer_0": layer, "at_0": next(iter(TOKENS))}
        norm = stacks[name][layer].activation_norm
        strength = (
            {"unit_0": LAMBDA, "strength_0": 1.0} if norm is None else {"unit_0": SHARE, "strength_0": PRESET_SHARE}
        )
        what = "λ 1" if norm is None else f"{PRESET_SHARE:.0%} of the norm"
        steered = {"worn": BASE, **chosen, "kind_0": ADD, "where_0": OWN, **strength}
        _preset(letter, "Steered", steered, help=f"The base with {name}, added after block {layer} at {what}.")
        out = {"worn": organism, **chosen, "kind_0": ABLATE}
        gone = f"{organism} with {name} of layer {layer} taken out at every layer, to the mean of the base's answers."
        ablated = partial(_ablated, study, layer, layers)
        _preset(letter, "Ablated", out, organisms.get(organism, ()), help=gone, more=ablated)


def _ablated(study: Study, layer: int, layers: int) -> dict[str, object]:
    """To which mean, and where: what the study knows, else zero."""
    means = mean_streams(study)  # takes a while the first time: the button waits for it, the page does not
    to = next((of for of, stream in means.items() if of.startswith(BASE) and layer in stream), ZERO)
    everywhere = to == ZERO or all(at in means[to] for at in range(layers))
    return {"where_0": ALL if everywhere else OWN, "to_0": to}


def _preset(
    letter: str,
    text: str,
    values: Mapping[str, object],
    on: Places = (),
    help: str | None = None,
    more: Callable[[], Mapping[str, object]] = dict,
) -> None:
    """A button that sets widgets of a lane, and brings every adapter of an organism back to a gain of 1."""

    def fill() -> None:
        chosen = {_key(letter, name): value for name, value in {**values, **more()}.items()}
        # a widget that is not there yet would not write what it begins with into the address
        st.query_params.update({key: str(value) for key, value in chosen.items() if key not in st.session_state})
        st.session_state.update(chosen)
        for key in map(str, list(st.session_state)):
            if on and key.startswith(gain_key(letter, "")):
                st.session_state[key] = 1.0

    st.button(text, key=f"live_set_{letter}_{text}", on_click=fill, help=help)


def _key(letter: str, name: str) -> str:
    what, _, number = name.partition("_")
    return f"live_{what}_{letter}" + (f"_{number}" if number else "")


def _telling(
    study: Study, stacks: Mapping[str, Stack], organism: str, layers: int, width: int | None
) -> tuple[str, int] | None:
    """A direction that tells the hits of an outcome from the others, best of this organism, and its middle layer."""
    fitting = {
        name: stack
        for name, stack in stacks.items()
        if all(at < layers and width in (None, each.vector.size) for at, each in stack.items())
        and Origin.of(next(iter(stack.values())).provenance) in (Origin(), Origin(organism=_of(stack)))
    }
    hits: Sequence[str] = ()
    with explained():
        hits = [outcome.contrast.positive_name for outcome in outcomes_of(study.info)]

    def worth(name: str) -> tuple[bool, bool]:
        positive = str(next(iter(fitting[name].values())).provenance.get("positive", ""))
        return any(positive.startswith(f"{hit}:") for hit in hits), _of(fitting[name]) == organism

    if not fitting:
        return None
    name = max(fitting, key=worth)
    at = sorted(fitting[name])
    return name, at[len(at) // 2]


def _of(stack: Stack) -> str | None:
    return Origin.of(next(iter(stack.values())).provenance).organism
