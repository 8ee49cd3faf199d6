"""What an option's text may be: argparse types, each a text in and a value out, or what is wrong with the text.

A bad value is refused while the command line is read, before anything is loaded. argparse puts the option's name in
front: a message here has the value, the rule and what to write instead.
"""

from __future__ import annotations

import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from backend.edits import Where

MOST = 2**31  # seeds and counts: what every generator and table of the project holds
LAYERS = 1000  # more than any model has
NAME = 100  # bytes: a file's name holds two names and an ending
PART = 255  # bytes of one part of a path
_T = TypeVar("_T")
_RANGE = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")


def whole(least: int = 0, most: int = MOST) -> Callable[[str], int]:
    """A whole number, both ends included."""

    def read(text: str) -> int:
        if not (re.fullmatch(r"[0-9]{1,10}", text) and least <= int(text) <= most):
            raise ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return read


def number(least: float = -math.inf, most: float = math.inf, *, above: float = -math.inf) -> Callable[[str], float]:
    """A finite number from `least` to `most`, and above `above`."""
    bounds = (("at least", least), ("above", above), ("at most", most))
    rules = [f"{words} {bound:g}" for words, bound in bounds if math.isfinite(bound)]
    rule = "a finite number" + (f", {' and '.join(rules)}" if rules else "")

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and least <= value <= most and value > above):
            raise ArgumentTypeError(f"{text!r} is not {rule}")
        return value

    return read


seed = whole()
count = whole(1, 1_000_000)  # of what there must be one of, at least
port = whole(0, 2**16 - 1)
score = number(0, 100)  # what judges give


def several(one: Callable[[str], _T]) -> Callable[[str], tuple[_T, ...]]:
    """Several, with commas between them."""

    def read(text: str) -> tuple[_T, ...]:
        return tuple(one(part.strip()) for part in text.split(","))

    return read


def ranges(most: int, *, none: bool = False) -> Callable[[str], tuple[int, ...]]:
    """ "9-11,15" as (9, 10, 11, 15), each up to `most`; "none" as () where that is allowed."""
    rule = f"numbers up to {most} and ranges of them, as 9-11,15" + (", or none" if none else "")

    def read(text: str) -> tuple[int, ...]:
        if none and text == "none":
            return ()
        parts = [_RANGE.fullmatch(part.strip()) for part in text.split(",")]
        ends = [(int(part[1]), int(part[2] or part[1])) for part in parts if part]
        if len(ends) < len(parts) or any(not first <= last <= most for first, last in ends):
            raise ArgumentTypeError(f"{text!r} is not {rule}")
        if sum(last - first + 1 for first, last in ends) > LAYERS:
            raise ArgumentTypeError(f"{text!r} is more than {LAYERS} numbers: ask for fewer")
        return tuple(dict.fromkeys(n for first, last in ends for n in range(first, last + 1)))

    return read


layers = ranges(LAYERS - 1)
layers_or_none = ranges(LAYERS - 1, none=True)
seeds_or_none = ranges(MOST, none=True)


def text(said: str) -> str:
    """Something that can be read and written down: a model, a judge, a topic, a direction."""
    if not said.strip() or not said.isprintable():
        raise ArgumentTypeError(f"{said!r} says nothing that can be written down: give printable text")
    return said


def name(said: str) -> str:
    """What may name a file: an organism, a condition, a sweep, a study, who labelled."""
    if said.startswith(".") or "/" in said or said != said.strip() or not said or not said.isprintable():
        raise ArgumentTypeError(f"{said!r} can name no file: use printable text without / and without a dot in front")
    if len(said.encode()) > NAME:
        raise ArgumentTypeError(f"{_short(said)} is too long for the name of a file: use at most {NAME} bytes")
    return said


def path(said: str) -> Path:
    """A file or folder, there or not."""
    if not said or "\0" in said:
        raise ArgumentTypeError(f"{said!r} is no path of a file or folder")
    if any(len(part.encode(errors="surrogateescape")) > PART for part in said.split("/")) or len(said) > 4000:
        raise ArgumentTypeError(f"{_short(said)} is too long for a path: a part of it may have {PART} bytes")
    return Path(said)


def organism_folder(said: str) -> Path:
    """A folder whose own name can be an organism's."""
    folder = path(said)
    name(folder.name)
    return folder


def organism(said: str) -> tuple[str, Path]:
    """ "NAME=FOLDER"; the folder may be a hub id."""
    own, equals, folder = said.partition("=")
    if not (own and equals and folder):
        raise ArgumentTypeError(f"{said!r} is not NAME=FOLDER")
    return name(own), path(folder)


def judge(said: str) -> str:
    """A judge's name, of which a file can be called."""
    kept = Path(said).name if said.startswith("local:") else said
    if len(text(kept).encode()) > 2 * NAME:
        raise ArgumentTypeError(f"{_short(said)} is too long: a judge's name has at most {2 * NAME} bytes")
    return text(said)


def strengths(said: str) -> tuple[tuple[float, ...], bool]:
    """ "4%,8%" as shares, (0.04, 0.08) and True; "1,2" as raw multiples, (1, 2) and False."""
    parts = [part.strip() for part in said.split(",")]
    shares = {part.endswith("%") for part in parts}
    if len(shares) > 1:
        raise ArgumentTypeError(f"{said!r} mixes shares and raw multiples: use one of them")
    try:
        values = tuple(number()(part.removesuffix("%")) for part in parts)
    except ArgumentTypeError as error:
        rule = "write 4%,8% (shares of the activation norm) or 1,2 (raw multiples)"
        raise ArgumentTypeError(f"{said!r} is no list of strengths: {rule}") from error
    return (tuple(value / 100 for value in values), True) if shares == {True} else (values, False)


def where(said: str) -> Where:
    """ "answer,first=5" as those tokens; "all" leaves the attention sink out, "paper" is every token with it."""
    part, *narrowed = [each.strip() for each in said.split(",")]
    fields: dict[str, Any] = {"part": "all", "sink": True} if part == "paper" else {"part": part}
    try:
        for each in narrowed:
            name, _, value = each.partition("=")
            if each in ("no-special", "sink"):
                fields |= {"sink": True} if each == "sink" else {"special": False}
            elif name in ("first", "after"):
                fields[name] = int(value)
            elif name == "tokens":
                fields[name] = tuple(int(token) for token in value.split("+"))
            else:
                raise ValueError(each)
        return Where(**fields)
    except ValueError as error:  # InputError is one
        rule = "write all, paper, prompt or answer, and behind it first=N, after=N, tokens=ID+ID, no-special or sink"
        raise ArgumentTypeError(f"{said!r} names no tokens ({error}): {rule}") from error


def targets(said: str) -> tuple[str, ...]:
    """ "zero,mean" as what projections are brought to."""
    found = tuple(dict.fromkeys(part.strip() for part in said.split(",")))
    if not set(found) <= {"zero", "mean"}:
        raise ArgumentTypeError(f"{said!r} is not zero, mean or zero,mean")
    return found


def group(said: str) -> tuple[str, tuple[int, ...]]:
    """ "late=17-19" as ("late", (17, 18, 19))."""
    own, equals, where = said.partition("=")
    if not (own and equals and where):
        raise ArgumentTypeError(f"{said!r} is not NAME=LAYERS, such as late=17-19")
    return name(own), layers(where)


def addition(said: str) -> tuple[str, int, float]:
    """ "DIRECTION:LAYER:STRENGTH"; the name may have colons of its own."""
    direction, _, strength = said.rpartition(":")
    own, _, layer = direction.rpartition(":")
    if not (own and layer):
        raise ArgumentTypeError(f"{said!r} is not DIRECTION:LAYER:STRENGTH")
    return text(own), whole(0, LAYERS - 1)(layer), number()(strength)


def ablated_layer(said: str) -> tuple[str, int]:
    """ "DIRECTION:LAYER"; the name may have colons of its own."""
    own, _, layer = said.rpartition(":")
    if not own:
        raise ArgumentTypeError(f"{said!r} is not DIRECTION:LAYER")
    return text(own), whole(0, LAYERS - 1)(layer)


def prices(said: str) -> tuple[float, float]:
    """ "2.5,10" as (2.5, 10.0): dollars per million tokens, in and out."""
    try:
        price_in, price_out = several(number(0))(said)
    except (ArgumentTypeError, ValueError) as error:
        raise ArgumentTypeError(f"{said!r} is not IN,OUT in dollars per million tokens, such as 2.5,10") from error
    return price_in, price_out


def _short(said: str) -> str:
    return f"{said[:40]!r}..."
