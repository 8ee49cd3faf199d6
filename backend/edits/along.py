"""Edits along a direction: add it, ablate it, hold or bound the projection on it, take it out of write vectors.

Each says at which tokens (`Where`) and under which condition (`When`) it acts. Without either it is the paper's own
form, every token with the attention sink; `PLAIN`, which leaves the sink out, is what sweeps and pages begin with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from backend.edits.edit import EVERYWHERE, WRITES, Edit, EditRow, amount
from backend.edits.where import EVERY, Level, When, Where, taken
from backend.records import Direction, InputError, direction_from_json


@dataclass(frozen=True, eq=False)
class Add(Edit, kind="add"):
    """x + strength * direction after each of `layers` (the direction's own layer where empty) (paper s3.2)."""

    direction: Direction
    strength: float
    layers: tuple[int, ...] = ()
    where: Where = EVERY
    when: When | None = None

    def __post_init__(self) -> None:
        finite("strength", self.strength)
        object.__setattr__(self, "layers", tuple(self.layers) or (self.direction.layer,))

    @classmethod
    def from_json(cls, value: Mapping[str, Any], direction: Callable[[Any], Direction] = direction_from_json) -> Self:
        """As of any edit; a `share` of the activation norm at the direction's layer may stand for the strength."""
        if "share" not in value:
            return super().from_json(value, direction)
        if "strength" in value:
            raise InputError("a strength is given twice, as strength and as share: give one of them")
        rest = {name: each for name, each in value.items() if name != "share"}
        edit = super().from_json({**rest, "strength": 0.0}, direction)
        return replace(edit, strength=strength_of(edit.direction, taken(float, "share", value["share"])))

    @property
    def row(self) -> EditRow:
        """Steered along a direction, at a multiple of its raw vector."""
        where = at_tokens(self.where, self.when)
        return EditRow("steer", self.direction.name, self.layers, strength=self.strength, where=where)

    @property
    def words(self) -> str:
        """What is added where, and how much."""
        place = f"{_named(self.direction)} after {_blocks(self.layers)}, at {at_tokens(self.where, self.when)}"
        return f"add {place}: {amount(self.direction, self.strength)}"

    @property
    def relative(self) -> float | None:
        """The share of the activation norm at the direction's own layer."""
        return self.direction.relative(self.strength)


@dataclass(frozen=True, eq=False)
class Ablate(Edit, kind="ablate"):
    """x - v v.x with v the unit direction after each of `layers` (None: every block) (paper s3.4).

    With `to` it is x - v v.x + v to: ablation to a mean. Zero is not neutral where the mean projection is far from it.
    """

    direction: Direction
    layers: tuple[int, ...] | None = None
    where: Where = EVERY
    when: When | None = None
    to: Level | None = None  # the projection that is left, in residual units

    def __post_init__(self) -> None:
        _one_each(self.to, self.layers)

    @property
    def row(self) -> EditRow:
        """Ablated at its layers, or everywhere."""
        place = EVERYWHERE if self.layers is None else ""
        return EditRow(
            "ablate",
            self.direction.name,
            self.layers or (),
            place,
            where=at_tokens(self.where, self.when),
            to=self.to.words if self.to else "zero",
        )

    @property
    def words(self) -> str:
        """What is ablated where, and to what."""
        to = f" to {self.to.words}" if self.to else ""
        return (
            f"ablate {_named(self.direction)}{to} after {_blocks(self.layers)}, at {at_tokens(self.where, self.when)}"
        )


@dataclass(frozen=True, eq=False)
class Clamp(Edit, kind="clamp"):
    """The projection on the unit direction is kept from falling below `low` and from rising above `high`.

    After each of `layers` (None: every block); either side may be open. Where both are the same it is held there.
    """

    direction: Direction
    low: Level | None = None  # residual units
    high: Level | None = None
    layers: tuple[int, ...] | None = None
    where: Where = EVERY
    when: When | None = None

    def __post_init__(self) -> None:
        _one_each(self.low, self.layers)
        _one_each(self.high, self.layers)
        bounded(self.low, self.high, f"the projection on {self.direction.name!r}")

    @property
    def row(self) -> EditRow:
        """Clamped at its layers, or everywhere."""
        place = EVERYWHERE if self.layers is None else ""
        where, to = at_tokens(self.where, self.when), interval(self.low, self.high)
        return EditRow("clamp", self.direction.name, self.layers or (), place, where=where, to=to)

    @property
    def words(self) -> str:
        """What is clamped where, and to what."""
        place = f"{_named(self.direction)} after {_blocks(self.layers)}, at {at_tokens(self.where, self.when)}"
        return f"clamp {place}: {interval(self.low, self.high)}"


@dataclass(frozen=True, eq=False)
class AblateWrite(Edit, kind="ablate_write"):
    """The write vectors B of an organism lose their part along v: B - v v.B, with v the unit direction (paper s3.5).

    The scalars stay what they are. A module that writes elsewhere than to the residual stream keeps its B. Rows that do
    not wear the organism, by a Gain, are not changed.
    """

    direction: Direction
    organism: str

    @property
    def row(self) -> EditRow:
        """Ablated out of B; the layer is the direction's."""
        return EditRow("ablate_write", self.direction.name, (self.direction.layer,), WRITES)

    @property
    def words(self) -> str:
        """What is taken out of whose write vectors."""
        return f"{self.organism}: {_named(self.direction)} out of its write vectors"


def strength_of(direction: Direction, share: float) -> float:
    """The multiple of the raw vector that is a share of the activation norm. Raises InputError where it is unknown."""
    strength = direction.strength(share)
    if strength is None:
        raise InputError(
            f"direction {direction.name!r} does not know the activation norm at layer {direction.layer}: "
            "give strengths as raw multiples, or extract it again"
        )
    return strength


def interval(low: Level | None, high: Level | None) -> str:
    """Bounds in words."""
    if low is not None and low == high:
        return f"held at {low.words}"
    sides = [f"{side} {level.words}" for side, level in (("at least", low), ("at most", high)) if level is not None]
    return ", ".join(sides)


def at_tokens(where: Where, when: When | None) -> str:
    """Which tokens are edited, in words."""
    return f"{where.words} {when.words}" if when else where.words


def finite(what: str, value: float) -> None:
    """Raise InputError on a number that is none."""
    if not abs(value) <= 1e300:
        raise InputError(f"{what} must be a finite number, not {str(value)[:80]}")


def bounded(low: Level | None, high: Level | None, what: str) -> None:
    """Raise InputError on an interval that bounds nothing or is empty."""
    if low is None and high is None:
        raise InputError(f"nothing bounds {what}: give a low or a high")
    if low is not None and high is not None:
        count = max(len(low.values), len(high.values))
        if (low.over(count) > high.over(count)).any():
            raise InputError(f"{what} cannot be at least {low.words} and at most {high.words}: the interval is empty")


def _one_each(level: Level | None, layers: Sequence[int] | None) -> None:
    """Raise InputError unless there is one value, or one a layer; who names no layers is checked with a model."""
    if level is not None and layers is not None:
        level.over(len(layers))


def _named(direction: Direction) -> str:
    return f"{direction.name} of layer {direction.layer}"


def _blocks(layers: Sequence[int] | None) -> str:
    if layers is None:
        return "every block"
    return f"block {layers[0]}" if len(layers) == 1 else f"{len(layers)} blocks, {min(layers)} to {max(layers)}"
