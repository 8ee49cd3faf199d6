"""What every edit is: its JSON, its row in tables, its words; and conditions, which are named lists of edits.

Knows how a field of an edit is written and read by its type. Refuses to know which edits there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from types import NoneType
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

from backend.edits.where import ANSWER, taken
from backend.records import Direction, InputError, direction_from_json, direction_to_json

EVERYWHERE, WRITES = "all", "B"  # places of a row that are no single layers: every block, the write vectors


@dataclass(frozen=True)
class EditRow:
    """What an edit did, for a table of conditions."""

    kind: str  # its word in tables
    about: str  # the name of the direction that it moves along, or of the organism that it scales
    layers: tuple[int, ...] = ()
    place: str = ""  # what stands for the layers in words, where it is not they
    strength: float | None = None
    where: str = ""  # at which tokens, in words; empty where it does not act by tokens
    to: str = ""  # what a projection or a scalar is brought to, in words


@dataclass(frozen=True, eq=False)
class Edit:
    """One edit. A subclass names its kind, `class Add(Edit, kind="add")`, and is then read from JSON by it.

    Fields are directions, names, numbers, flags, tuples of names or layers, and values with JSON of their own (`Where`,
    `When`, `Level`). A flag that is not set, and such a value that is the default, is not written.
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
    def directions(self) -> tuple[Direction, ...]:
        """The directions that it holds, those of its gate too."""
        return tuple(held for value in self._values().values() for held in _held(value))

    @property
    def organisms(self) -> tuple[str, ...]:
        """The organisms that it names: the one in its field of that name."""
        named = getattr(self, "organism", None)
        return () if named is None else (named,)

    @property
    def adapters(self) -> tuple[str, ...] | None:
        """The adapters that it names; None where it names none."""
        return None

    def to_json(self, direction: Callable[[Direction], Any] = direction_to_json) -> dict[str, Any]:
        """Plain JSON values; `direction` says how a direction is written: whole, or by reference."""
        said: dict[str, Any] = {"kind": self.kind}
        for each, hint in _fields(self.kind):
            value = getattr(self, each.name)
            if not _sparse(hint) or value != each.default:
                said[each.name] = _written(value, direction)
        return said

    @classmethod
    def from_json(cls, value: Mapping[str, Any], direction: Callable[[Any], Direction] = direction_from_json) -> Self:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError on what does not fit."""
        known = {each.name: (each, hint) for each, hint in _fields(cls.kind)}
        given = _earlier(value, known)
        unknown = min(set(given) - {"kind", *known}, default=None)
        if unknown is not None:
            raise InputError(
                f"an edit of the kind {cls.kind!r} has no field {str(unknown)[:80]!r}: it has {', '.join(known)}"
            )
        return cls(
            **{
                name: _read(hint, each, given[name], direction)
                for name, (each, hint) in known.items()
                if name in given or each.default is MISSING
            }
        )

    @classmethod
    def kinds(cls) -> tuple[type[Edit], ...]:
        """Every edit that there is."""
        return tuple(cls._kinds.values())

    def _values(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


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


def _plain(hint: Any) -> Any:
    """A type without its None."""
    return next(each for each in get_args(hint) if each is not NoneType) if NoneType in get_args(hint) else hint


def _sparse(hint: Any) -> bool:
    """Whether a field of this type is written only where it is not the default: flags, and values with JSON."""
    plain = _plain(hint)
    return plain is bool or hasattr(plain, "from_json")


def _earlier(value: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    """What earlier builds wrote: a flag for edits of generated tokens alone."""
    if "answer_only" not in value or "where" not in known:
        return value
    if "where" in value:
        raise InputError("tokens are given twice, as where and as answer_only: give where")
    rest = {name: each for name, each in value.items() if name != "answer_only"}
    return {**rest, "where": {"part": ANSWER}} if taken(bool, "answer_only", value["answer_only"]) else rest


def _held(value: Any) -> tuple[Direction, ...]:
    """The directions in a field."""
    return (value,) if isinstance(value, Direction) else getattr(value, "directions", ())


def _written(value: Any, direction: Callable[[Direction], Any]) -> Any:
    if isinstance(value, Direction):
        return direction(value)
    if hasattr(value, "to_json"):
        return value.to_json(direction)
    return list(value) if isinstance(value, tuple) else value


def _read(hint: Any, of: Field[Any], value: Any, direction: Callable[[Any], Direction]) -> Any:
    """One field from JSON, by its type; null is its default."""
    if value is None and of.default is not MISSING:
        return of.default
    plain = _plain(hint)
    if plain is Direction:
        return direction(value)
    if hasattr(plain, "from_json"):
        return plain.from_json(value, direction)
    if get_origin(plain) is not tuple:
        return taken(plain, of.name, value)
    if not isinstance(value, list):
        raise TypeError(f"{of.name} must be a list")
    return tuple(taken(get_args(plain)[0], of.name, each) for each in value)
