"""Edits of an organism's scalars: scale them, hold or bound them, put others in their place, disturb them.

A scalar is edited before any gain: what is written is the gain times the edited scalar. A row wears an organism by a
Gain alone: without one, the other edits of its scalars change nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.edits.along import at_tokens, bounded, finite, interval
from backend.edits.edit import Edit, EditRow
from backend.edits.where import EVERY, FARTHEST, Level, When, Where, taken
from backend.records import Direction, FloatArray, InputError, Trace, direction_from_json, direction_to_json

MAX_GIVEN = 2**20  # numbers of one Course


@dataclass(frozen=True)
class Gain(Edit, kind="gain"):
    """Multiply the scalars of an organism's adapters (None: of all) by `factor`: 0 is the base, 1 the organism.

    A row wears every organism that a gain names, and no other; gains of one row multiply. So Gain("med", 1.0) is the
    organism, Gain("med", 0.0, ("layers.15.mlp.down_proj",)) is the organism without that adapter, and -1 flips it.
    """

    organism: str
    factor: float
    adapters: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        finite("gain", self.factor)

    @property
    def row(self) -> EditRow:
        """An organism's adapters, scaled by a factor."""
        return EditRow("scale", self.organism, strength=self.factor)

    @property
    def words(self) -> str:
        """Which adapters have which gain."""
        return f"{self.organism}: gain {self.factor:g} on {_listed(self.adapters)}"

    @property
    def changes(self) -> bool:
        """A gain of 1 on all adapters is the organism as it is."""
        return self.factor != 1 or self.adapters is not None


@dataclass(frozen=True, eq=False)
class ClampScalars(Edit, kind="clamp_scalars"):
    """The scalars are kept from falling below `low` and from rising above `high`; either side may be open.

    Of `adapters` (None: of all), with one value for all or one each. Where both are the same the scalars are set.
    """

    organism: str
    low: Level | None = None
    high: Level | None = None
    adapters: tuple[str, ...] | None = None
    where: Where = EVERY
    when: When | None = None

    def __post_init__(self) -> None:
        bounded(self.low, self.high, f"the scalars of {self.organism!r}")

    @property
    def row(self) -> EditRow:
        """An organism's scalars, bounded."""
        where, to = at_tokens(self.where, self.when), interval(self.low, self.high)
        return EditRow("clamp scalars", self.organism, where=where, to=to)

    @property
    def words(self) -> str:
        """Which adapters are bounded where, and by what."""
        place = f"{_listed(self.adapters)} at {at_tokens(self.where, self.when)}"
        return f"{self.organism}: scalars of {place}: {interval(self.low, self.high)}"


@dataclass(frozen=True, eq=False)
class Course:
    """Scalars that something gave, token by token."""

    values: FloatArray  # (adapter, token); NaN where it gave none

    def __post_init__(self) -> None:
        values = np.ascontiguousarray(self.values, dtype=np.float32)
        object.__setattr__(self, "values", values)
        if values.ndim != 2 or not 0 < values.size <= MAX_GIVEN or np.isinf(values).any():
            raise InputError(f"a course is (adapter, token) finite numbers, 1 to {MAX_GIVEN:,}, not {values.shape}")

    def to_json(self, direction: Callable[[Direction], Any] = direction_to_json) -> dict[str, Any]:
        """Plain JSON values: base64 float32, and how many adapters."""
        packed = base64.b64encode(self.values.astype("<f4").tobytes()).decode("ascii")
        return {"adapters": len(self.values), "values": packed}

    @classmethod
    def from_json(cls, value: Any, direction: Callable[[Any], Direction] = direction_from_json) -> Course:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError on what does not fit."""
        if set(value) - {"adapters", "values"}:
            raise InputError("a course is an object with adapters, how many they are, and values")
        flat = np.frombuffer(base64.b64decode(value["values"], validate=True), dtype="<f4").astype(np.float32)
        return cls(flat.reshape(taken(int, "adapters", value["adapters"]), -1))


@dataclass(frozen=True, eq=False)
class PatchScalars(Edit, kind="patch_scalars"):
    """The scalars are what another text, or another row, gave: frozen there, token by token.

    Row i of `given` is of adapter i of `adapters` (None: of all, in their order). Its tokens are those of the part that
    `where` names; past the last of them, and where it has NaN, scalars stay their own.
    """

    organism: str
    given: Course
    source: str = ""  # what gave them, in words
    adapters: tuple[str, ...] | None = None
    where: Where = EVERY
    when: When | None = None

    @classmethod
    def of(
        cls,
        trace: Trace,
        names: Sequence[str],
        *,
        where: Where,
        adapters: Sequence[str] | None = None,
        when: When | None = None,
    ) -> PatchScalars:
        """What a trace gave, for the same part of another text; `names` are its organism's adapters in their order."""
        start, end = (trace.n_prompt, None) if where.part == "answer" else (0, None)
        end = trace.n_prompt if where.part == "prompt" else end
        chosen = [names.index(name) for name in (names if adapters is None else adapters)]
        given = Course(trace.scalars[chosen, start:end])
        kept = None if adapters is None else tuple(adapters)
        return cls(trace.reader, given, trace.response_id, kept, where, when)

    @property
    def row(self) -> EditRow:
        """An organism's scalars, patched."""
        to = f"those of {self.source or 'another text'}"
        return EditRow("patch scalars", self.organism, where=at_tokens(self.where, self.when), to=to)

    @property
    def words(self) -> str:
        """Whose scalars are put where."""
        place = f"{_listed(self.adapters)} at {at_tokens(self.where, self.when)}"
        return f"{self.organism}: scalars of {place} as in {self.source or 'another text'}"


@dataclass(frozen=True, eq=False)
class NoiseScalars(Edit, kind="noise_scalars"):
    """Normal noise of standard deviation `size` on the scalars.

    The numbers come from the seed, the adapter and the token's place: every row gets the same, and a text that is read
    again gets what it was written with.
    """

    organism: str
    size: float
    seed: int = 0
    adapters: tuple[str, ...] | None = None
    where: Where = EVERY
    when: When | None = None

    def __post_init__(self) -> None:
        finite("the size of noise", self.size)
        if abs(self.size) > FARTHEST:
            raise InputError(f"noise of the size {self.size:g} is beyond any use: at most {FARTHEST:g}")
        if self.size < 0 or self.seed < 0:
            raise InputError(f"noise has a size and a seed of 0 or more, not {self.size:g} and {self.seed}")

    def drawn(self, position: int, count: int) -> FloatArray:
        """(count,), the noise of every adapter of the organism at one token."""
        random = np.random.default_rng((self.seed, position))
        return np.asarray(self.size * random.standard_normal(count), dtype=np.float32)

    @property
    def row(self) -> EditRow:
        """An organism's scalars, disturbed."""
        where = at_tokens(self.where, self.when)
        return EditRow("noise on scalars", self.organism, strength=self.size, where=where)

    @property
    def words(self) -> str:
        """How much noise is put where."""
        place = f"{_listed(self.adapters)} at {at_tokens(self.where, self.when)}"
        return f"{self.organism}: noise of sd {self.size:g}, seed {self.seed}, on scalars of {place}"


def _listed(adapters: Sequence[str] | None) -> str:
    return "all adapters" if adapters is None else ", ".join(adapters)
