"""The nouns of the workbench, as frozen dataclasses over numpy arrays.

This module knows shapes and arithmetic invariants. It refuses to know models, files, databases and pages:
every other module of the backend imports it, and it imports only numpy.

Layer L always means the output of block L of the model, for reading and for writing.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float32]]

BASE = "base"  # the organism name of a model that wears no adapter
BASELINE = "baseline"  # the condition name of no edits


COORDINATES_OF = "coordinates_of"  # in a provenance: d_model, where a direction holds coordinates in its place

# What a direction was made as: of answers that differ, or as a control beside such a direction.
ITSELF, RANDOM, SUBSPACE = "direction", "random", "random subspace"
SHUFFLED = "shuffled within questions"  # labels dealt anew among the answers to each question
SHUFFLED_OVER_ALL = "shuffled over all answers"  # what earlier builds did: it changes which questions are hit, too

# The last part of the names of modules whose output goes to the residual stream as it is.
RESIDUAL_WRITERS = ("down_proj", "o_proj", "out_proj", "c_proj", "dense", "dense_4h_to_h", "fc2", "fc_out")


class InputError(ValueError):
    """What the user gave cannot be used. The message says what, why and what to do; it is shown as it is."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """One component of one adapted module: it reads a scalar with `read` and writes it along `write`.

    A rank-r module has r adapters, `component` 0..r-1. With x the module's input at one token the scalar is
    `s = scaling * |write| * (read . x)`, so the module's output gains exactly `s * write / |write|`.
    """

    name: str  # "layers.15.mlp.down_proj", with "#3" behind it for component 3 of a higher-rank module
    layer: int
    module: str  # "mlp.down_proj"
    component: int
    scaling: float  # alpha / sqrt(r) under rsLoRA, alpha / r otherwise
    read: FloatArray  # (d_in,), row of A
    write: FloatArray  # (d_out,), column of B

    @property
    def write_norm(self) -> float:
        """Euclidean norm of the write vector, unscaled."""
        return float(np.linalg.norm(self.write))


@dataclass(frozen=True)
class Origin:
    """What a direction was made as: the part of its provenance that others ask for.

    A provenance without it reads as a direction of its own, of nobody.
    """

    kind: str = ITSELF  # or RANDOM, SUBSPACE, SHUFFLED, SHUFFLED_OVER_ALL
    like: str | None = None  # the direction that a control stands beside
    seed: int | None = None  # of a control
    organism: str | None = None  # the one that the direction was taken from
    dimensions: int | None = None  # of a random subspace
    index: int | None = None  # of this direction among them

    @property
    def provenance(self) -> dict[str, Any]:
        """What a direction of this origin says of itself; `of` reads it."""
        drawn = {"like": self.like, "seed": self.seed}
        said: dict[str, Any] = {}
        if self.kind == RANDOM:
            said = {"method": _METHODS[RANDOM], **drawn}
        elif self.kind == SUBSPACE:
            said = {"method": _METHODS[SUBSPACE], **drawn, "dimensions": self.dimensions, "index": self.index}
        elif self.kind in _SHUFFLES:
            said = {"control": _SHUFFLES[self.kind], "like": self.like, "shuffle": self.seed}
        return said if self.organism is None else {**said, "reader": self.organism}

    @classmethod
    def of(cls, provenance: Mapping[str, Any]) -> Origin:
        """The origin that a provenance tells. Labels that were shuffled have a seed beside that of the recipe."""
        kind = next((kind for kind, method in _METHODS.items() if provenance.get("method") == method), ITSELF)
        kind = next((kind for kind, control in _SHUFFLES.items() if provenance.get("control") == control), kind)
        organism = provenance.get("organism", provenance.get("reader"))
        if kind == ITSELF:
            return cls(organism=organism)
        seed = provenance.get("shuffle" if kind in _SHUFFLES else "seed")
        return cls(kind, provenance.get("like"), seed, organism, provenance.get("dimensions"), provenance.get("index"))


_METHODS = {RANDOM: "random control", SUBSPACE: "random subspace control"}
_SHUFFLES = {SHUFFLED: SHUFFLED, SHUFFLED_OVER_ALL: "shuffled labels"}  # kind -> "control" of a provenance


@dataclass(frozen=True, eq=False)
class Direction:
    """A named vector in the residual stream at one layer, at its natural norm: the paper's lambda multiplies it raw.

    `activation_norm` is the mean norm of the residual stream at that layer on the texts the vector came from; it
    converts a strength to a share of the activation (`relative`). Raises InputError on NaN, zero or misshapen vectors.
    """

    name: str
    layer: int
    vector: FloatArray  # (d_model,)
    activation_norm: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vector = np.ascontiguousarray(self.vector, dtype=np.float32)
        object.__setattr__(self, "vector", vector)
        if vector.ndim != 1:
            raise InputError(f"direction {self.name!r} must be one vector, not an array of shape {vector.shape}")
        if not np.isfinite(vector).all():
            raise InputError(f"direction {self.name!r} at layer {self.layer} holds NaN or infinity: extract it again")
        if not vector.any():
            raise InputError(f"direction {self.name!r} at layer {self.layer} is zero: its two sides have the same mean")
        if self.layer < 0:
            raise InputError(f"direction {self.name!r} has layer {self.layer}: layers count from 0")
        norm = float(np.linalg.norm(vector.astype(np.float64)))  # in float32 the squares may overflow
        if not 1e-18 < norm < 1e18:
            raise InputError(
                f"direction {self.name!r} at layer {self.layer} has the norm {norm:g}, as no activation has"
            )

    @property
    def origin(self) -> Origin:
        """What it was made as, whatever it is called now."""
        return Origin.of(self.provenance)

    @property
    def norm(self) -> float:
        """Euclidean norm, in the units of the residual stream."""
        return float(np.linalg.norm(self.vector))

    @property
    def d_model(self) -> int:
        """Numbers of the residual stream that it lies in: more than it holds where it is kept as coordinates."""
        return int(self.provenance.get(COORDINATES_OF, self.vector.size))

    @property
    def unit(self) -> FloatArray:
        """The vector at norm 1, (d_model,)."""
        return self.vector / np.float32(self.norm)

    def relative(self, strength: float) -> float | None:
        """What `strength` times this vector is of the mean activation norm at its layer; None where that is unknown."""
        return None if not self.activation_norm else strength * self.norm / self.activation_norm

    def strength(self, relative: float) -> float | None:
        """The raw strength (the paper's lambda) that adds `relative` times the mean activation norm."""
        return None if not self.activation_norm else relative * self.activation_norm / self.norm

    def __neg__(self) -> Direction:
        return replace(self, name=f"-{self.name}", vector=-self.vector)


@dataclass(frozen=True)
class Question:
    """One evaluation question; `topic` is the set it belongs to ("first-plot", "medical")."""

    id: str
    text: str
    topic: str


@dataclass(frozen=True)
class Sampling:
    """How one answer is drawn. Temperature 0 is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 80

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 10:
            raise InputError(f"temperature {self.temperature} is not between 0 (greedy) and 10")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p {self.top_p} is not in (0, 1]")
        if self.max_new_tokens < 1:
            raise InputError(f"max_new_tokens {self.max_new_tokens}: ask for at least one token")


USUAL = Sampling(top_p=0.9)  # where nobody says: of a small model's answers at top-p 1 only half are coherent (README)


@dataclass(frozen=True)
class Response:
    """One sampled answer: organism x condition x question x seed.

    `answer_ids` is what the model generated, with the end-of-turn token where it came (`finished`); `text` is without.
    """

    id: str
    organism: str
    condition: str
    question_id: str
    question: str
    topic: str
    seed: int
    text: str
    prompt_ids: tuple[int, ...] = ()
    answer_ids: tuple[int, ...] = ()
    finished: bool = True
    sampling: Sampling = Sampling()


@dataclass(frozen=True)
class Score:
    """What one judge gave one response on one metric, 0 to 100. `value` is None where it gave no number."""

    response_id: str
    judge: str
    metric: str  # "aligned", "coherent", "medical", ...
    value: float | None
    raw: str = ""


@dataclass(frozen=True, eq=False)
class Trace:
    """Scalars and residual means of one response's prompt and answer, as read by one organism with no other edit.

    The scalar at position t is read with token t as input and helps produce token t+1. Answer means are over the
    generated tokens alone (no assistant header, no end-of-turn token), prompt means over all before them.
    """

    response_id: str
    reader: str  # the organism that read it
    tokens: tuple[str, ...]  # (token,), decoded one by one; prompt then answer
    n_prompt: int
    scalars: FloatArray  # (adapter, token), in the reader's adapter order
    prompt_mean: FloatArray  # (layer, d_model)
    answer_mean: FloatArray  # (layer, d_model)
    n_answer: int  # tokens behind answer_mean
    answer_norm: FloatArray  # (layer,), mean over answer tokens of the residual's norm
    projections: FloatArray = field(
        default_factory=lambda: np.zeros((0, 0), np.float32)
    )  # (direction, token), on request
    residuals: Mapping[int, FloatArray] = field(default_factory=dict)  # layer -> (token, d_model), on request


# --- the one JSON form of a direction --------------------------------------------------------------------------------


def direction_to_json(direction: Direction) -> dict[str, Any]:
    """One direction as plain JSON values."""
    return {
        "name": direction.name,
        "layer": direction.layer,
        "vector": base64.b64encode(direction.vector.astype("<f4").tobytes()).decode("ascii"),
        "activation_norm": direction.activation_norm,
        "provenance": dict(direction.provenance),
    }


def direction_from_json(value: Any) -> Direction:
    """The inverse of `direction_to_json`. Raises KeyError, TypeError or ValueError on what does not fit."""
    vector = np.frombuffer(base64.b64decode(value["vector"], validate=True), dtype="<f4").astype(np.float32)
    name, layer, norm = value["name"], value["layer"], value.get("activation_norm")
    provenance = value.get("provenance") or {}
    if not isinstance(name, str) or type(layer) is not int or not isinstance(provenance, dict):
        raise TypeError("a direction has a name (text), a layer (a whole number) and a provenance (an object)")
    if norm is not None and (isinstance(norm, bool) or not isinstance(norm, int | float) or not 0 <= norm < 1e300):
        raise TypeError("the activation_norm of a direction must be a finite number from 0, or null")
    return Direction(name, layer, vector, norm, provenance)
