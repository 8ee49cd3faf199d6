"""Steering as other servers ask for it, and what it comes to as edits of a row.

Three shapes of the field: EasySteer's `steering` object, llama.cpp's `lora` list, and `steering_clamps` with the names
of RhizoNymph's vLLM; beside them `edits`, the workbench's own JSON. What cannot be done exactly is refused: a request
that is answered was steered as it says. Layers count from 0 and are the output of that block, as everywhere.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, Tag

from backend.edits import ALL, ANSWER, PROMPT, Add, Clamp, Edit, Gain, Level, When, Where, strength_of
from backend.edits.where import FARTHEST, MAX_PLACE, MAX_TOKENS
from backend.records import Direction, FloatArray, InputError
from backend.worker.forms import FieldError, Form, elsewhere
from backend.worker.protocol import MAX_EDITS, MAX_LAYERS, MAX_NAME, bounded_edits

Layer = Annotated[int, Field(ge=0, lt=MAX_LAYERS)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Number = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST)]
Place = Annotated[int, Field(ge=0, le=MAX_PLACE)]
Places = Annotated[list[Place], Field(min_length=1, max_length=MAX_TOKENS)]
Window = Annotated[list[Place | None], Field(min_length=2, max_length=2)]  # [start, stop): null is the end
Vector = Annotated[list[Number], Field(min_length=1)]
LayerName = Annotated[str, Field(pattern=r"^(layer\.)?[0-9]{1,4}$")]
Runs = list[tuple[int, int | None]]  # [start, stop) each, apart from each other; None is the end
EditsJson = Annotated[list[Annotated[Any, elsewhere("Edit")]], Field(max_length=MAX_EDITS)]


class Packed(Form):
    """A tensor: little-endian float32 as base64."""

    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=1)]
    data: str


class Payload(Form):
    """EasySteer's wire form of DirectionVector: `layer.L` -> one vector. The hash is not compared."""

    kind: Literal["direction"]
    tensors: Annotated[dict[LayerName, Packed], Field(min_length=1, max_length=MAX_LAYERS)]
    version: int | None = None
    extra: dict[str, Any] | None = None
    sha256: str | None = None


class Apply(Form):
    """EasySteer's ApplySpec: the union of what is selected, less what is excluded."""

    prompt: Literal["all"] | None = None
    generation: Literal["all"] | None = None
    prompt_tokens: Places | None = None
    prompt_positions: Places | None = None
    prompt_window: Window | None = None
    generation_tokens: Places | None = None
    generation_positions: Places | None = None
    generation_window: Window | None = None
    exclude_prompt_positions: Places | None = None
    exclude_prompt_window: Window | None = None
    exclude_generation_positions: Places | None = None
    exclude_generation_window: Window | None = None


Plain = Annotated[  # layer -> numbers
    dict[LayerName, Vector],
    Field(min_length=1, max_length=MAX_LAYERS, json_schema_extra={"additionalProperties": False}),
]


def _shape(data: Any) -> str:
    return "wire form" if isinstance(data, dict) and "tensors" in data else "by layer"


class Params(Form):
    """What this server adds to EasySteer's vectors."""

    share: Number | None = None  # of the activation norm, in place of the scale
    activation_norm: Annotated[float, Field(gt=0, le=FARTHEST)] | None = None
    when: Annotated[Any, elsewhere("When")] = None  # a gate


class SteeringVector(Form):
    """EasySteer's VectorSpec, with a vector that travels in the request."""

    data: Annotated[Annotated[Payload, Tag("wire form")] | Annotated[Plain, Tag("by layer")], Discriminator(_shape)]
    apply: Apply
    name: Name | None = None
    algorithm: Literal["direct"] | None = None
    scale: Number | None = None  # 1
    layers: Annotated[list[Layer], Field(min_length=1, max_length=MAX_LAYERS)] | None = None  # those of the data
    normalize: bool | None = None
    params: Params | None = None


class Steering(Form):
    """EasySteer's SteeringSpec. Vectors at one layer are added up, which is its "sequential"."""

    vectors: Annotated[list[SteeringVector], Field(min_length=1, max_length=MAX_EDITS)]
    conflict: Literal["priority", "sequential", "error"] | None = None
    debug: Literal[False] | None = None


class Lora(Form):
    """One entry of llama.cpp's list: an organism, by its name or by its place among the organisms, and its gain."""

    id: Annotated[int, Field(ge=0)] | None = None
    name: Name | None = None
    scale: Number


class ClampSpec(Form):
    """One of RhizoNymph's clamps: the projection on the vector at unit norm is bounded, or held at a value."""

    vector: Vector
    min: Number | None = None
    max: Number | None = None
    value: Number | None = None
    strength: Annotated[float, Field(ge=1, le=1)] | None = None  # a projection that is held part-way is not known here


ClampsOfHook = Annotated[
    dict[LayerName, Annotated[list[ClampSpec], Field(min_length=1, max_length=16)]],
    Field(min_length=1, max_length=MAX_LAYERS, json_schema_extra={"additionalProperties": False}),
]


class SteeringClamps(Form):
    """RhizoNymph's `steering_clamps`, at the one hook where the residual stream is edited here."""

    post_block: ClampsOfHook


def gains(model: str | None, lora: Sequence[Lora], organisms: Sequence[str]) -> list[Edit]:
    """What is worn: the organism that `model` names at gain 1, unless the list gives it another; then the list's."""
    worn: dict[str, float] = {} if model is None else {model: 1.0}
    given: set[str] = set()
    for index, each in enumerate(lora):
        name = _organism(f"lora.{index}", each, organisms)
        if name in given:
            raise FieldError(f"lora.{index}", f"{name!r} is given twice: give it one scale")
        given.add(name)
        worn[name] = each.scale
    return [Gain(name, scale) for name, scale in worn.items()]


def _organism(field: str, each: Lora, organisms: Sequence[str]) -> str:
    if (each.id is None) == (each.name is None):
        raise FieldError(field, "give either id, as GET /lora-adapters lists them, or name")
    if each.name is not None:
        return each.name
    if each.id is None or each.id >= len(organisms):
        raise FieldError(f"{field}.id", f"there are {len(organisms)} organisms, with ids from 0")
    return organisms[each.id]


def own_edits(edits: Sequence[Any]) -> list[Edit]:
    """The workbench's own JSON."""
    try:
        return list(bounded_edits(edits))
    except InputError as error:
        raise FieldError("edits", str(error)) from error


def steered(steering: Steering) -> list[Edit]:
    """What a `steering` object adds. Raises FieldError on what cannot be done as it says."""
    edits: list[Edit] = []
    taken: set[int] = set()
    for index, each in enumerate(steering.vectors):
        field = f"steering.vectors.{index}"
        vectors = _vectors(f"{field}.data", each)
        twice = min(taken & set(vectors), default=None)
        if twice is not None and steering.conflict != "sequential":
            raise FieldError(
                "steering.conflict",
                f'two vectors edit layer {twice}, and here vectors add up: say so with "sequential", or remove one',
            )
        taken |= set(vectors)
        for edit in _added(field, each, vectors):
            edits.append(edit)
            few_enough("steering", edits)
    return edits


def few_enough(field: str, edits: Sequence[Edit]) -> None:
    """Raise FieldError where a field comes to more edits than an answer may have."""
    if len(edits) > MAX_EDITS:
        raise FieldError(field, f"it comes to more than {MAX_EDITS} edits: name fewer layers, vectors or places")


def _added(field: str, each: SteeringVector, vectors: Mapping[int, FloatArray]) -> Iterable[Edit]:
    params = each.params or Params()
    if params.share is not None and each.scale is not None:
        raise FieldError(f"{field}.params.share", "a strength is given twice, as scale and as share: give one of them")
    wheres = _wheres(f"{field}.apply", each.apply)
    try:
        when = None if params.when is None else When.from_json(params.when)
    except (InputError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise FieldError(f"{field}.params.when", f"this is no gate ({str(error)[:200]})") from error
    for layer, vector in vectors.items():
        direction = _direction(field, each.name or f"vector {field.rpartition('.')[2]}", layer, vector, params)
        strength = 1.0 if each.scale is None else each.scale
        if each.normalize:
            strength /= direction.norm
        if params.share is not None:
            try:
                strength = strength_of(direction, params.share)
            except InputError as error:
                raise FieldError(f"{field}.params.share", f"{error}; or give activation_norm beside it") from error
        for where in wheres:
            yield Add(direction, strength, (layer,), where, when)


def _direction(field: str, name: str, layer: int, vector: FloatArray, params: Params | None = None) -> Direction:
    try:
        return Direction(name, layer, vector, params.activation_norm if params else None)
    except InputError as error:
        raise FieldError(field, str(error)) from error


def _vectors(field: str, each: SteeringVector) -> dict[int, FloatArray]:
    """layer -> (d_model,), the layers that are edited. Data of one layer is added at all that are named."""
    if isinstance(each.data, Payload):
        given = {name: _unpacked(f"{field}.tensors.{name}", one) for name, one in each.data.tensors.items()}
    else:
        given = {name: np.array(numbers, dtype=np.float32) for name, numbers in each.data.items()}
    found = {int(name.removeprefix("layer.")): vector for name, vector in given.items()}
    if len(found) < len(given):
        raise FieldError(field, "a layer is given twice")
    if each.layers is None:
        return found
    if len(found) == 1:
        [vector] = found.values()
        return dict.fromkeys(each.layers, vector)
    lacking = [layer for layer in each.layers if layer not in found]
    if lacking:
        raise FieldError(field, f"there is no vector for layer {lacking[0]}: give one, or leave layers out")
    return {layer: found[layer] for layer in each.layers}


def _unpacked(field: str, packed: Packed) -> FloatArray:
    try:
        vector = np.frombuffer(base64.b64decode(packed.data, validate=True), dtype="<f4").astype(np.float32)
    except ValueError as error:
        raise FieldError(field, f"data is no base64 of float32 numbers ({error})") from error
    if vector.size != packed.shape[0]:
        raise FieldError(field, f"data has {vector.size} numbers where shape says {packed.shape[0]}")
    return vector


def _wheres(field: str, apply: Apply) -> list[Where]:
    """Where an edit acts, each token once. EasySteer's selectors leave no token out: the sink is edited too."""
    prompt = _selected(field, apply, "prompt")
    answer = _selected(field, apply, "generation")
    if prompt == answer == [Where(PROMPT, sink=True)]:
        return [Where(ALL, sink=True)]
    found = [*prompt, *(Where(ANSWER, w.first, w.after, w.tokens, sink=True) for w in answer)]
    if not found:
        raise FieldError(field, "no token is selected: add a selector, or exclude fewer")
    return found


def _selected(field: str, apply: Apply, part: str) -> list[Where]:
    """The tokens of one part, as if it were the prompt."""

    def given(selector: str) -> Any:
        return getattr(apply, f"{part}_{selector}") if not selector.startswith("exclude") else getattr(apply, selector)

    tokens, whole = given("tokens"), getattr(apply, part) is not None
    runs: Runs = [(0, None)] if whole else _runs(field, given("positions"), given("window"))
    gone = _runs(field, given(f"exclude_{part}_positions"), given(f"exclude_{part}_window"))
    if gone and not runs and not tokens:
        raise FieldError(field, f"tokens of the {part} are excluded, but none is selected")
    if tokens and not whole:
        if runs or gone:
            raise FieldError(field, f"{part}_tokens cannot stand beside places of the {part}: use two vectors")
        return [Where(PROMPT, tokens=tuple(tokens), sink=True)]
    return [Where(PROMPT, stop, start, sink=True) for start, stop in _without(runs, gone)]


def _runs(field: str, positions: Sequence[int] | None, window: Sequence[int | None] | None) -> Runs:
    """The union of places and a window."""
    runs: Runs = [(place, place + 1) for place in positions or ()]
    if window is not None:
        start, stop = window
        if start is None or (stop is not None and stop <= start):
            raise FieldError(field, "a window is [start, stop) with stop past start, or null for the end")
        runs.append((start, stop))
    merged: Runs = []
    for begin, end in sorted(runs, key=lambda run: run[0]):
        last = merged[-1][1] if merged else -1
        if merged and (last is None or begin <= last):
            merged[-1] = (merged[-1][0], None if last is None or end is None else max(last, end))
        else:
            merged.append((begin, end))
    return merged


def _without(runs: Runs, gone: Runs) -> Runs:
    for begin, end in gone:
        left: Runs = []
        for start, stop in runs:
            if start < begin:
                left.append((start, begin if stop is None else min(stop, begin)))
            if end is not None and (stop is None or stop > end):
                left.append((max(start, end), stop))
        runs = left
    return runs


def clamped(clamps: SteeringClamps) -> list[Edit]:
    """What `steering_clamps` come to: at every token. Raises FieldError on what bounds nothing."""
    edits: list[Edit] = []
    for layer, specs in clamps.post_block.items():
        for index, each in enumerate(specs):
            field = f"steering_clamps.post_block.{layer}.{index}"
            held = each.value is not None
            if held == (each.min is not None or each.max is not None) or (each.strength is not None and not held):
                raise FieldError(field, "give either min, max or both, or a value (with strength 1)")
            number = int(layer.removeprefix("layer."))
            direction = _direction(field, f"clamp {index}", number, np.array(each.vector, dtype=np.float32))
            low, high = (each.value, each.value) if held else (each.min, each.max)
            try:
                edits.append(Clamp(direction, _level(low), _level(high), (number,)))
            except InputError as error:
                raise FieldError(field, str(error)) from error
            few_enough("steering_clamps", edits)
    return edits


def _level(value: float | None) -> Level | None:
    return None if value is None else Level((value,))
