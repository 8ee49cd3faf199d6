"""Edits of a forward pass: what each does, and everything that is said about it.

One class an edit. It carries its JSON (its kind and its fields), its row in tables, its words, the organisms and the
directions it names, so that others ask an edit instead of telling edits apart. How a model is edited is subject/edits'
to know, which widgets make an edit panels/edits'. Layer L is the output of block L, as everywhere.

The same edit has a kind in JSON (add, ablate, ablate_write, gain), which stored conditions and requests hold, and a
word in tables (steer, ablate, ablate_write, scale), which a study's record about conditions holds. Both stay.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from types import NoneType
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

from backend.records import Direction, InputError, direction_from_json, direction_to_json

_LARGEST = sys.float_info.max  # a whole number of JSON may be larger
EVERYWHERE, WRITES = "all", "B"  # places of a row that are no single layers: every block, the write vectors


@dataclass(frozen=True)
class EditRow:
    """What an edit did, for a table of conditions."""

    kind: str  # its word in tables
    about: str  # the name of the direction that it moves along, or of the organism that it scales
    layers: tuple[int, ...] = ()
    place: str = ""  # what stands for the layers in words, where it is not they
    strength: float | None = None


@dataclass(frozen=True, eq=False)
class Edit:
    """One edit. A subclass names its kind, `class Add(Edit, kind="add")`, and is then read from JSON by it.

    Fields are directions, names, numbers, flags, and tuples of names or layers. A flag that is not set is not written.
    """

    kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type[Edit]]] = {}

    def __init_subclass__(cls, *, kind: str) -> None:
        if kind in Edit._kinds:
            raise TypeError(f"there are two edits of the kind {kind!r}: give each a kind of its own")
        cls.kind = kind
        Edit._kinds[kind] = cls

    @property
    def row(self) -> EditRow:
        """What it did, for a table of conditions."""
        raise NotImplementedError

    @property
    def words(self) -> str:
        """What it does, as a line of plain text."""
        raise NotImplementedError

    @property
    def relative(self) -> float | None:
        """What it adds, as a share of the mean activation norm; None where it adds nothing or that is unknown."""
        return None

    @property
    def changes(self) -> bool:
        """Whether it edits anything, beside saying which organism is worn."""
        return True

    @property
    def at_prompt(self) -> bool:
        """Whether it holds while the prompt is read too, not only at generated tokens."""
        return True

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The directions that it holds."""
        return tuple(value for value in self._values().values() if isinstance(value, Direction))

    @property
    def organisms(self) -> tuple[str, ...]:
        """The organisms that it names."""
        return ()

    @property
    def adapters(self) -> tuple[str, ...] | None:
        """The adapters that it names; None where it names none."""
        return None

    def to_json(self, direction: Callable[[Direction], Any] = direction_to_json) -> dict[str, Any]:
        """Plain JSON values; `direction` says how a direction is written: whole, or by reference."""
        said = {name: value for name, value in self._values().items() if value is not False}
        return {"kind": self.kind} | {name: _written(value, direction) for name, value in said.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], direction: Callable[[Any], Direction] = direction_from_json) -> Self:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError on what does not fit."""
        return cls(
            **{
                each.name: _read(hint, each, value[each.name], direction)
                for each, hint in _fields(cls.kind)
                if hint is not bool or each.name in value
            }
        )

    @classmethod
    def kinds(cls) -> tuple[type[Edit], ...]:
        """Every edit that there is."""
        return tuple(cls._kinds.values())

    def _values(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, eq=False)
class Add(Edit, kind="add"):
    """x + strength * direction after each of `layers` (the direction's own layer where empty), at every token.

    With `answer_only` at the generated tokens alone: the prompt is read unedited, so the first answer token is drawn as
    without the edit.
    """

    direction: Direction
    strength: float
    layers: tuple[int, ...] = ()
    answer_only: bool = False

    def __post_init__(self) -> None:
        _finite("strength", self.strength)
        object.__setattr__(self, "layers", tuple(self.layers) or (self.direction.layer,))

    @property
    def row(self) -> EditRow:
        """Steered along a direction, at a multiple of its raw vector."""
        return EditRow("steer", self.direction.name, self.layers, strength=self.strength)

    @property
    def words(self) -> str:
        """What is added where, and how much."""
        where = f"{_named(self.direction)} after {_blocks(self.layers)}{_when(self)}"
        return f"add {where}: {amount(self.direction, self.strength)}"

    @property
    def relative(self) -> float | None:
        """The share of the activation norm at the direction's own layer."""
        return self.direction.relative(self.strength)

    @property
    def at_prompt(self) -> bool:
        """Unless it is for generated tokens alone."""
        return not self.answer_only


@dataclass(frozen=True, eq=False)
class Ablate(Edit, kind="ablate"):
    """x - v v.x with v the unit direction after each of `layers` (None: after every block), at every token.

    With `answer_only` at the generated tokens alone, as for Add.
    """

    direction: Direction
    layers: tuple[int, ...] | None = None
    answer_only: bool = False

    @property
    def row(self) -> EditRow:
        """Ablated at its layers, or everywhere."""
        return EditRow("ablate", self.direction.name, self.layers or (), EVERYWHERE if self.layers is None else "")

    @property
    def words(self) -> str:
        """What is ablated where."""
        where = "every block" if self.layers is None else _blocks(self.layers)
        return f"ablate {_named(self.direction)} after {where}{_when(self)}"

    @property
    def at_prompt(self) -> bool:
        """Unless it is for generated tokens alone."""
        return not self.answer_only


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

    @property
    def organisms(self) -> tuple[str, ...]:
        """Whose write vectors they are."""
        return (self.organism,)


@dataclass(frozen=True)
class Gain(Edit, kind="gain"):
    """Multiply the scalars of an organism's adapters (None: of all) by `factor`: 0 is the base, 1 the organism.

    A row wears every organism that a gain names, and no other; gains of one row multiply. So Gain("med", 1.0) is the
    organism, and Gain("med", 0.0, ("layers.15.mlp.down_proj",)) is the organism without that adapter.
    """

    organism: str
    factor: float
    adapters: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _finite("gain", self.factor)

    @property
    def row(self) -> EditRow:
        """An organism's adapters, scaled by a factor."""
        return EditRow("scale", self.organism, strength=self.factor)

    @property
    def words(self) -> str:
        """Which adapters have which gain."""
        names = "all adapters" if self.adapters is None else ", ".join(self.adapters)
        return f"{self.organism}: gain {self.factor:g} on {names}"

    @property
    def changes(self) -> bool:
        """A gain of 1 on all adapters is the organism as it is."""
        return self.factor != 1 or self.adapters is not None

    @property
    def organisms(self) -> tuple[str, ...]:
        """The one that is worn."""
        return (self.organism,)


@dataclass(frozen=True)
class Condition:
    """A named list of edits under which responses are sampled."""

    name: str
    edits: tuple[Edit, ...] = ()
    tokens: int | None = None  # what answers are cut to, to stand beside a sweep's; None where they are whole


def amount(direction: Direction, strength: float) -> str:
    """A strength in both units: the multiple of the raw vector (the paper's lambda) and the share of the activation."""
    share = direction.relative(strength)
    raw = f"λ {strength:.2f} × ‖v‖ {direction.norm:.2f} = {strength * direction.norm:.2f}"
    if share is None:
        return f"{raw}; the activation norm at layer {direction.layer} is unknown"
    return f"{raw}, {share:.0%} of the mean activation norm at layer {direction.layer}"


def _named(direction: Direction) -> str:
    return f"{direction.name} of layer {direction.layer}"


def _blocks(layers: Sequence[int]) -> str:
    return f"block {layers[0]}" if len(layers) == 1 else f"{len(layers)} blocks, {min(layers)} to {max(layers)}"


def _when(edit: Edit) -> str:
    return "" if edit.at_prompt else ", at generated tokens only"


def _finite(what: str, value: float) -> None:
    if not abs(value) <= _LARGEST:
        raise InputError(f"{what} must be a finite number, not {str(value)[:80]}")


# --- the one JSON form of edits: what a study keeps and what travels to a worker --------------------------------------


def edits_to_json(
    edits: Iterable[Edit], direction: Callable[[Direction], Any] = direction_to_json
) -> list[dict[str, Any]]:
    """Edits as plain JSON values; by default vectors are inline as base64 float32: a stored condition stands alone."""
    return [edit.to_json(direction) for edit in edits]


def edits_from_json(values: Any, direction: Callable[[Any], Direction] = direction_from_json) -> tuple[Edit, ...]:
    """The inverse of `edits_to_json`. Raises InputError naming the first entry that does not fit."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise InputError(f"edits must be a list of objects, each with a kind: {_kinds()}")
    return tuple(_edit_from_json(index, value, direction) for index, value in enumerate(values))


def _edit_from_json(index: int, value: Any, direction: Callable[[Any], Direction]) -> Edit:
    try:
        kind = value["kind"]
        if kind not in Edit._kinds:
            raise InputError(f"edit {index} has the unknown kind {str(kind)[:80]!r}: use {_kinds()}")
        return Edit._kinds[kind].from_json(value, direction)
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise InputError(f"edit {index} is malformed ({type(error).__name__}: {str(error)[:200]})") from error


def _kinds() -> str:
    return ", ".join(Edit._kinds)


@cache
def _fields(kind: str) -> list[tuple[Field[Any], Any]]:
    """The fields of an edit with their types."""
    hints = get_type_hints(Edit._kinds[kind])
    return [(each, hints[each.name]) for each in fields(Edit._kinds[kind])]


def _written(value: Any, direction: Callable[[Direction], Any]) -> Any:
    if isinstance(value, Direction):
        return direction(value)
    return list(value) if isinstance(value, tuple) else value


def _read(hint: Any, of: Field[Any], value: Any, direction: Callable[[Any], Direction]) -> Any:
    """One field from JSON, by its type; null is its default."""
    if value is None and of.default is not MISSING:
        return of.default
    if hint is Direction:
        return direction(value)
    plain = get_args(hint)[0] if NoneType in get_args(hint) else hint
    if get_origin(plain) is not tuple:
        return _plain(plain, of, value)
    if not isinstance(value, list):
        raise TypeError(f"{of.name} must be a list")
    return tuple(_plain(get_args(plain)[0], of, each) for each in value)


def _plain(kind: Any, of: Field[Any], value: Any) -> Any:
    """A value of JSON as the kind that a field is of. Nothing else is turned into it: "2" is no number."""
    taken = (int, float) if kind is float else kind
    if not isinstance(value, taken) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{of.name} must be {_WORDS[kind]}")
    return float(value) if kind is float and abs(value) <= _LARGEST else value


_WORDS = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}
