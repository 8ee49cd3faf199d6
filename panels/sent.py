"""Directions that pages send to Live: called by name and by what they hold, and kept so that a link finds them.

A label ends in the beginning of a hash of the vectors and of what they were made as; what is read back is hashed again,
so that a label never means anything else. It refuses to know what is done with a direction.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import streamlit as st

from backend.files import whole
from backend.outside import json_of
from backend.records import Direction, InputError, direction_from_json, direction_to_json

SENT = "sent_directions"  # session state: label -> {layer: Direction}, what other pages sent here
DIGITS = 12  # of the hash: 48 bits
_LABEL = re.compile(rf"(.*) #([0-9a-f]{{{DIGITS}}})", re.DOTALL)

Stack = Mapping[int, Direction]  # one name's directions by layer


def send(stack: Stack) -> str:
    """Offer these directions on the Live page of this session, and to whoever follows a link to them; their label."""
    label = f"{next(iter(stack.values())).name} #{digest(stack)}"
    st.session_state.setdefault(SENT, {})[label] = dict(stack)
    file = _file(label)
    if file and not file.is_file():
        with suppress(InputError):  # a full disk: this session has it, and another will be told that there is none
            file.parent.mkdir(parents=True, exist_ok=True)
            with whole(file) as out:
                out.write(_bytes(stack))
    return label


def sent(labels: Iterable[str]) -> dict[str, Stack]:
    """What was sent in this session, and those of the labels that another session sent."""
    held: dict[str, Stack] = st.session_state.setdefault(SENT, {})
    for label in labels:
        if label not in held and (stack := _kept(label)):
            held[label] = stack
    return dict(held)


def digest(stack: Stack) -> str:
    """The beginning of the hash of all that a stack holds, in hexadecimal digits."""
    return hashlib.sha256(_bytes(stack)).hexdigest()[:DIGITS]


def _bytes(stack: Stack) -> bytes:
    told = [direction_to_json(stack[layer]) for layer in sorted(stack)]
    return json.dumps(told, sort_keys=True, default=str).encode()


def _file(label: str) -> Path | None:
    """Where the stack of that label lies; None of what is no label."""
    found = _LABEL.fullmatch(label)
    cache = Path(os.environ.get("EM_CACHE") or Path(__file__).resolve().parents[1] / "cache")
    return cache / "live" / "directions" / f"{found[2]}.json" if found else None


def _kept(label: str) -> Stack | None:
    file = _file(label)
    if file is None or not file.is_file():
        return None
    with suppress(InputError, KeyError, TypeError, ValueError):
        stack = {each.layer: each for each in map(direction_from_json, json_of(file))}
        if stack and label == f"{next(iter(stack.values())).name} #{digest(stack)}":
            return stack
    return None
