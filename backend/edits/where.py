"""Where an edit acts: which tokens of a text, by their place, by what they are, and by what the model reads there.

Knows places and token ids as arrays. Refuses to know models: what a gate reads is read by others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from backend.records import Direction, FloatArray, InputError, direction_from_json, direction_to_json

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
PlaceArray = np.ndarray[Any, np.dtype[np.int64]]

PROMPT, ANSWER, ALL = "prompt", "answer", "all"  # parts of a text
_PARTS = {ALL: "every token", PROMPT: "prompt tokens", ANSWER: "answer tokens"}
MAX_TOKENS = 256  # that one Where may name
MAX_PLACE = 10**9  # of a text; of ids too
FARTHEST = 1e9  # residual units: past any activation
MAX_OF = 200  # characters that say whose mean a level is


@dataclass(frozen=True, eq=False)
class Span:
    """The tokens of one forward pass, and where each stands in its text."""

    ids: PlaceArray  # (row, token)
    position: PlaceArray  # (row, token), 0 is the text's first token; below 0 is padding
    n_prompt: PlaceArray  # (row,), prompt tokens of each row's text; the answer begins behind them

    @property
    def live(self) -> BoolArray:
        """(row, token), which are no padding."""
        return np.asarray(self.position >= 0)

    @property
    def answer(self) -> BoolArray:
        """(row, token), which are of the answer."""
        return np.asarray(self.position >= self.n_prompt[:, None])

    def place(self, part: str) -> PlaceArray:
        """(row, token), how many tokens of the part stand before each; below 0 before the part begins."""
        return self.position - self.n_prompt[:, None] if part == ANSWER else self.position


@dataclass(frozen=True)
class Where:
    """Which tokens an edit acts at. The plain one is every token but the attention sink.

    The sink is a text's first token: models rest their attention there, its norm can be a hundred times that of any
    other, and directions overlap with it. `EVERY`, the paper's own form, edits it too. Each field narrows the others.
    """

    part: str = ALL  # or PROMPT, ANSWER: the first answer token is drawn from the prompt, before the answer begins
    first: int | None = None  # only the first so many tokens of the part
    after: int = 0  # only past so many tokens of the part
    tokens: tuple[int, ...] = ()  # only tokens with one of these ids
    special: bool = True  # special tokens too, such as those that end a turn
    sink: bool = False  # the first token of the text too

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(sorted(set(self.tokens))))
        if self.part not in _PARTS:
            raise InputError(f"{self.part!r} is no part of a text: use {', '.join(_PARTS)}")
        if not 0 <= self.after <= MAX_PLACE or (self.first or 0) > MAX_PLACE:
            raise InputError(f"tokens of a text count from 0 to {MAX_PLACE:,}: choose a place among them")
        if self.first is not None and self.first <= self.after:
            raise InputError(f"no token is among the first {self.first} and past {self.after}: there is none to edit")
        if len(self.tokens) > MAX_TOKENS or not all(0 <= token <= MAX_PLACE for token in self.tokens):
            raise InputError(f"an edit acts at tokens of at most {MAX_TOKENS} ids, which count from 0")

    def holds(self, span: Span, special: Collection[int]) -> BoolArray:
        """(row, token), where it acts; never at padding. `special` are the ids of special tokens."""
        place = span.place(self.part)
        held = span.live & (place >= self.after)
        if self.part == PROMPT:
            held &= ~span.answer
        if self.first is not None:
            held &= place < self.first
        if self.tokens:
            held &= np.isin(span.ids, self.tokens)
        if not self.special:
            held &= ~np.isin(span.ids, list(special))
        if not self.sink:
            held &= span.position != 0
        return np.asarray(held)

    @property
    def words(self) -> str:
        """The tokens, as a few plain words."""
        if self == EVERY:
            return "every token"
        said = [_PARTS[self.part]]
        if self.first is not None or self.after:
            last = "" if self.first is None else f" to {self.first}"
            said.append(f"number {self.after + 1}{last or ' and later'}")
        if self.tokens:
            said.append("of ids " + " ".join(map(str, self.tokens)))
        if not self.special:
            said.append("no special ones")
        if self.part != ANSWER:
            said.append("the sink too" if self.sink else "but the sink")
        return ", ".join(said).replace("every token, but the sink", "every token but the sink")

    def to_json(self, direction: Callable[[Direction], Any] = direction_to_json) -> dict[str, Any]:
        """Plain JSON values: what differs from the plain one."""
        said = {
            each.name: getattr(self, each.name) for each in fields(self) if getattr(self, each.name) != each.default
        }
        return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}

    @classmethod
    def from_json(cls, value: Any, direction: Callable[[Any], Direction] = direction_from_json) -> Where:
        """The inverse of `to_json`. Raises InputError on what does not fit."""
        known = {each.name for each in fields(cls)}
        if not isinstance(value, Mapping) or set(value) - known:
            raise InputError(f"where an edit acts is an object with some of {', '.join(sorted(known))}")
        for name, given in value.items():
            if not _fits(name, given):
                raise InputError(f"{name!r} of where an edit acts cannot be {str(given)[:40]!r}")
        return cls(**value)


EVERY = Where(sink=True)  # the paper's own form: the attention sink too
PLAIN = Where()  # what sweeps and pages begin with


@dataclass(frozen=True, eq=False)
class When:
    """A gate: an edit acts only at tokens whose projection v.x on a unit direction is over a threshold, or under it.

    x is the residual stream after the direction's own layer, in the same pass, before any edit there. A probe w.x + b
    that is positive is the direction w over the threshold -b / |w| (`probe`).
    """

    direction: Direction
    threshold: float  # residual units
    under: bool = False

    def __post_init__(self) -> None:
        if not abs(self.threshold) <= FARTHEST:
            raise InputError(f"the threshold of a gate lies within {FARTHEST:g} of zero, not at {self.threshold:g}")

    @classmethod
    def probe(cls, weights: Direction, intercept: float) -> When:
        """Where a linear probe of the residual stream says yes."""
        return cls(weights, -intercept / weights.norm)

    @property
    def layer(self) -> int:
        """Where the gate is read: an edit acts at this layer or later."""
        return self.direction.layer

    @property
    def words(self) -> str:
        """The condition, as a few plain words."""
        side = "under" if self.under else "over"
        return f"where {self.direction.name} of layer {self.layer} is {side} {self.threshold:g}"

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The one that is read."""
        return (self.direction,)

    def to_json(self, direction: Callable[[Direction], Any] = direction_to_json) -> dict[str, Any]:
        """Plain JSON values."""
        side = {"under": True} if self.under else {}
        return {"direction": direction(self.direction), "threshold": self.threshold, **side}

    @classmethod
    def from_json(cls, value: Any, direction: Callable[[Any], Direction] = direction_from_json) -> When:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError on what does not fit."""
        if set(value) - {"direction", "threshold", "under"}:
            raise InputError("a gate is an object with a direction, a threshold and perhaps under")
        threshold = taken(float, "the threshold of a gate", value["threshold"])
        return cls(direction(value["direction"]), threshold, taken(bool, "under", value.get("under", False)))


def _fits(name: str, value: Any) -> bool:
    """Whether the field of a Where can be that value of JSON."""
    if name == "tokens":
        return isinstance(value, list) and len(value) <= MAX_TOKENS and all(map(_whole, value))
    if name in ("first", "after"):
        return _whole(value)
    return isinstance(value, str if name == "part" else bool)


def taken(kind: Any, name: str, value: Any) -> Any:
    """A value of JSON as the kind that it must be of. Nothing else is turned into it: "2" is no number.

    Raises TypeError where it is of another.
    """
    fits = (int, float) if kind is float else kind
    if not isinstance(value, fits) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} must be {_WORDS[kind]}")
    return float(value) if kind is float and abs(value) < 1e300 else value


_WORDS = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Level:
    """Numbers that something is held at or bounded by: one for every layer or adapter, or one each, in their order."""

    values: tuple[float, ...]
    of: str = ""  # whose mean it is, in words: "base", "aligned answers of med"

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(float(value) for value in self.values))
        if not self.values or not all(abs(value) <= FARTHEST for value in self.values):
            raise InputError(f"a level is at least one number, none past {FARTHEST:g}, not {list(self.values)[:4]}")
        if len(self.of) > MAX_OF:
            raise InputError(f"whose mean a level is takes at most {MAX_OF} characters, not {len(self.of)}")

    def over(self, count: int) -> FloatArray:
        """(count,), one value each. Raises InputError where it has neither one nor as many."""
        if len(self.values) not in (1, count):
            raise InputError(f"a level has {len(self.values)} values where 1 or {count} are needed")
        return np.broadcast_to(np.array(self.values, dtype=np.float32), (count,))

    @property
    def words(self) -> str:
        """Whose mean it is, or the number."""
        if self.of:
            return f"the mean of {self.of}"
        return f"{self.values[0]:g}" if len(set(self.values)) == 1 else f"{min(self.values):g} to {max(self.values):g}"

    def to_json(self, direction: Callable[[Direction], Any] = direction_to_json) -> dict[str, Any]:
        """Plain JSON values."""
        return {"values": list(self.values)} | ({"of": self.of} if self.of else {})

    @classmethod
    def from_json(cls, value: Any, direction: Callable[[Any], Direction] = direction_from_json) -> Level:
        """The inverse of `to_json`; a bare number is one for all. Raises TypeError or ValueError on others."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return cls((float(value),))
        if not isinstance(value, Mapping) or set(value) - {"values", "of"} or not isinstance(value["values"], list):
            raise InputError("a level is a number, or an object with values and perhaps of, whose mean they are")
        values = tuple(taken(float, "a level", each) for each in value["values"])
        return cls(values, taken(str, "whose mean a level is", value.get("of", "")))
