"""The widgets that say at which tokens an edit acts, and where its gate is open.

It refuses to know what the edit is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st

from backend.edits import ANSWER, EVERY, PLAIN, PROMPT, When, Where
from backend.records import InputError
from panels.asked import with_asked
from panels.stacks import Stack

TOKENS = {
    "every token but the sink": PLAIN,
    "answer tokens": Where(ANSWER),
    "prompt tokens": Where(PROMPT),
    "every token (paper)": EVERY,
}
OVER, UNDER = "over", "under"
TOKENS_HELP = (
    "The sink is the first token of a text: its norm can be a hundred times that of any other, and directions overlap "
    "with it. The paper edits every token, the sink too. The first answer token is drawn before the answer begins."
)


def choose_tokens(of: str, stacks: Mapping[str, Stack], layer: int) -> tuple[Where, When | None]:
    """At which tokens the edit `of` a lane acts, and its gate, read at `layer` or before. Raises InputError."""
    key = f"live_at_{of}"
    chosen = st.selectbox("Tokens", with_asked(TOKENS, key), key=key, bind="query-params", help=TOKENS_HELP)
    if chosen not in TOKENS:
        raise InputError(f"An edit cannot act at {chosen!r}: choose {', '.join(TOKENS)}.")
    with st.popover("Fewer tokens, or a gate", icon=":material/filter_alt:", width="stretch"):
        where = _narrowed(of, TOKENS[chosen])
        when = _gate(of, stacks, layer)
    if where != TOKENS[chosen] or when:
        st.caption(f"At {where.words}{f' {when.words}' if when else ''}.")
    return where, when


def _narrowed(of: str, where: Where) -> Where:
    """The same tokens, or fewer of them."""
    first, after = st.columns(2)
    count = "Of the prompt or the answer, where that is chosen above; else of the whole text."
    most = _whole(first, "Only the first", f"live_first_{of}", f"{count} 0: all of them.")
    past = _whole(after, "Only past the first", f"live_after_{of}", count)
    special = st.toggle("Special tokens too", True, key=f"live_special_{of}", bind="query-params")
    text = st.text_input("Only these token ids", "", key=f"live_ids_{of}", bind="query-params", placeholder="any")
    try:
        ids = tuple(int(each) for each in str(text or "").replace(",", " ").split())
    except ValueError as error:
        raise InputError(f"{text!r} is no list of token ids: write whole numbers with spaces between them.") from error
    return replace(where, first=most or None, after=past, special=bool(special), tokens=ids)


def _whole(column: st.delta_generator.DeltaGenerator, label: str, key: str, text: str) -> int:
    return int(column.number_input(label, 0, 100_000, 0, 1, key=key, bind="query-params", help=text))


def _gate(of: str, stacks: Mapping[str, Stack], layer: int) -> When | None:
    """The gate on a direction's projection; None where it is always open."""
    key = f"live_gate_{of}"
    fitting = [name for name, stack in stacks.items() if min(stack) <= layer]
    name = st.selectbox(
        "Only where the projection on",
        with_asked(fitting, key),
        index=None,
        placeholder="always",
        key=key,
        bind="query-params",
        help=f"Read at every token in the same pass, at layer {layer} or the nearest before it that the direction has.",
    )
    if name is None:
        return None
    if name not in fitting:
        raise InputError(f"No gate can be read on {name!r} at layer {layer} or before: choose another direction.")
    left, right = st.columns(2)
    key = f"live_side_{of}"
    side = left.segmented_control(
        "is", with_asked([OVER, UNDER], key), default=OVER, required=True, key=key, bind="query-params"
    )
    if side not in (OVER, UNDER):
        raise InputError(f"A gate cannot be {side!r} a threshold: choose over or under.")
    threshold = right.number_input(
        "Threshold",
        value=0.0,
        step=0.5,
        key=f"live_over_{of}",
        bind="query-params",
        help="In residual units, of the unit direction.",
    )
    stack = stacks[name]
    return When(stack[max(at for at in stack if at <= layer)], float(threshold), side == UNDER)
