"""The edits of one row, checked against a subject and brought to what the hooks can do: steps, gains and surgeries.

A step changes the stream after one block: its coordinates in an orthonormal basis are kept inside bounds, then an
offset is added. At one layer a row's holds come first (those at equal tokens together, so that each projection is left
exactly where it was asked for), then bounds, then what is added. Surgeries of scalars act in the order of the edits.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch

import numpy as np

from backend.edits import (
    EVERY,
    Ablate,
    AblateWrite,
    Add,
    Clamp,
    ClampScalars,
    Edit,
    Gain,
    Level,
    NoiseScalars,
    PatchScalars,
    When,
    Where,
)
from backend.records import Direction, FloatArray, InputError
from backend.subject.load import Subject


@dataclass(frozen=True, eq=False)
class Step:
    """One change of the residual stream after one block."""

    edits: tuple[int, ...]  # which of the row's edits it carries out
    where: Where
    when: When | None
    basis: FloatArray | None = None  # (k, d_model), orthonormal
    low: FloatArray | None = None  # (k,), what coordinates in the basis are kept from falling below
    high: FloatArray | None = None  # (k,), and from rising above
    offset: FloatArray | None = None  # (d_model,)
    sizes: tuple[float, ...] = ()  # of an offset: the norm of what each edit adds; else the change is measured


@dataclass(frozen=True, eq=False)
class Surgery:
    """One change of an organism's scalars, before any gain. Adapters that it leaves have open bounds."""

    edit: int
    organism: str
    where: Where
    when: When | None
    chosen: Sequence[int]  # adapters
    low: FloatArray  # (adapter,), of all of the organism
    high: FloatArray  # (adapter,)
    given: FloatArray | None = None  # (adapter, token), NaN where it gives none
    noise: NoiseScalars | None = None


@dataclass(frozen=True, eq=False)
class RowEdits:
    """The edits of one row, checked against a subject."""

    edits: tuple[Edit, ...]
    steps: Mapping[int, tuple[Step, ...]]  # by layer
    gains: Mapping[str, FloatArray]  # organism -> (adapter,), in trace order
    cleaned: Mapping[str, FloatArray]  # organism -> (k, d_model), orthonormal, what its write vectors lack
    surgeries: tuple[Surgery, ...] = ()
    scaling: tuple[tuple[int, str, Sequence[int]], ...] = ()  # edits that are gains: organism, and adapters
    cleaning: tuple[tuple[int, str], ...] = ()  # edits that clean write vectors, and whose

    @property
    def finite(self) -> bool:
        """Whether everything that is added or multiplied is a finite number."""
        steps = [step for each in self.steps.values() for step in each]
        arrays = [*self.gains.values(), *self.cleaned.values()]
        arrays += [array for step in steps for array in (step.basis, step.offset) if array is not None]
        bounds = [array for step in steps for array in (step.low, step.high) if array is not None]
        return all(np.isfinite(array).all() for array in arrays) and not any(np.isnan(array).any() for array in bounds)


def compile_row(subject: Subject, edits: Sequence[Edit]) -> RowEdits:
    """Check `edits` against the subject and bring them together.

    Raises InputError on a layer, width, organism or adapter that it lacks, and a gate behind what it shall open.
    """
    plan = Plan()
    for index, edit in enumerate(edits):
        plan.edit = index
        compile_edit(edit, subject, plan)
    cleaned = {organism: _orthonormal(vectors) for organism, vectors in plan.cleaned.items()}
    told = tuple(plan.surgeries), tuple(plan.scaling), tuple(plan.cleaning)
    return RowEdits(tuple(edits), plan.steps, plan.gains, cleaned, *told)


Group = tuple[int, Where, Hashable]  # layer, and what decides at which tokens


@dataclass(eq=False)
class Plan:
    """What the edits of a row come to, while they are brought together; `edit` is the index of the one at hand."""

    edit: int = 0
    gains: dict[str, FloatArray] = field(default_factory=dict)
    cleaned: dict[str, list[FloatArray]] = field(default_factory=dict)
    surgeries: list[Surgery] = field(default_factory=list)
    scaling: list[tuple[int, str, Sequence[int]]] = field(default_factory=list)
    cleaning: list[tuple[int, str]] = field(default_factory=list)
    _held: dict[Group, list[tuple[int, FloatArray, float]]] = field(default_factory=dict)
    _bounded: list[tuple[int, Step]] = field(default_factory=list)
    _added: dict[Group, list[tuple[int, FloatArray]]] = field(default_factory=dict)
    _gates: dict[Hashable, When | None] = field(default_factory=dict)

    def add(self, layer: int, vector: FloatArray, where: Where = EVERY, when: When | None = None) -> None:
        """The vector is added."""
        self._added.setdefault(self._group(layer, where, when), []).append((self.edit, vector))

    def hold(
        self, layer: int, unit: FloatArray, value: float = 0.0, where: Where = EVERY, when: When | None = None
    ) -> None:
        """The projection on a unit vector is made `value`."""
        self._held.setdefault(self._group(layer, where, when), []).append((self.edit, unit, value))

    def bound(
        self, layer: int, unit: FloatArray, bounds: tuple[float, float], where: Where, when: When | None = None
    ) -> None:
        """The projection on a unit vector is kept inside bounds."""
        low, high = (np.array([each], dtype=np.float32) for each in bounds)
        self._group(layer, where, when)
        self._bounded.append((layer, Step((self.edit,), where, when, unit[None], low, high)))

    @property
    def steps(self) -> dict[int, tuple[Step, ...]]:
        """By layer, in the order in which they act."""
        found: dict[int, list[Step]] = {}
        for (layer, where, gate), held in self._held.items():
            found.setdefault(layer, []).append(_held_together(held, where, self._gates[gate]))
        for layer, step in self._bounded:
            found.setdefault(layer, []).append(step)
        for (layer, where, gate), added in self._added.items():
            edits, vectors = zip(*added, strict=True)
            sizes = tuple(float(np.linalg.norm(vector)) for vector in vectors)
            offset = np.stack(vectors).sum(axis=0, dtype=np.float32)
            step = Step(edits, where, self._gates[gate], offset=offset, sizes=sizes)
            found.setdefault(layer, []).append(step)
        return {layer: tuple(steps) for layer, steps in found.items()}

    def _group(self, layer: int, where: Where, when: When | None) -> Group:
        check_gate(when, layer)
        gate = gate_key(when)
        self._gates.setdefault(gate, when)
        return layer, where, gate


def gate_key(when: When | None) -> Hashable:
    """Equal where two gates open at the same tokens."""
    return when and (when.layer, when.threshold, when.under, when.direction.vector.tobytes())


def check_gate(when: When | None, layer: int) -> None:
    """Raise InputError where a gate is read later than it is needed."""
    if when is not None and when.layer > layer:
        raise InputError(
            f"the gate on {when.direction.name!r} is read after block {when.layer}, and cannot open an edit at layer "
            f"{layer}: choose a gate of layer {layer} or before, or edit later"
        )


def _held_together(held: Sequence[tuple[int, FloatArray, float]], where: Where, when: When | None) -> Step:
    """One step that leaves every projection at its value, and changes nothing that is orthogonal to all of them."""
    edits, units, values = zip(*held, strict=True)
    basis = _orthonormal(units)
    level = np.array(values[:1], dtype=np.float32)
    if len(units) > 1:  # coordinates in the basis whose projections on the units are the values
        inside = np.stack(units).astype(np.float64) @ basis.T.astype(np.float64)
        level = np.asarray(np.linalg.lstsq(inside, np.array(values), rcond=1e-6)[0], dtype=np.float32)
    return Step(tuple(dict.fromkeys(edits)), where, when, basis, level, level)


# --- one way for each class of edits ----------------------------------------------------------------------------------


@singledispatch
def compile_edit(edit: Edit, subject: Subject, plan: Plan) -> None:
    """Check one edit against the subject and add it to the plan; every class of edits registers its own way.

    Raises InputError where the subject cannot take it.
    """
    raise InputError(f"nothing here says how a model is edited by {edit.kind!r}: register it with compile_edit")


@compile_edit.register
def _add(edit: Add, subject: Subject, plan: Plan) -> None:
    vector = _fits(subject, edit.direction) * np.float32(edit.strength)
    for layer in _exist(subject, edit.layers, edit.when):
        plan.add(layer, vector, edit.where, edit.when)


@compile_edit.register
def _ablate(edit: Ablate, subject: Subject, plan: Plan) -> None:
    _fits(subject, edit.direction)
    layers = _exist(subject, edit.layers, edit.when)
    for layer, value in zip(layers, _values(edit.to, len(layers), 0.0), strict=True):
        plan.hold(layer, edit.direction.unit, value, edit.where, edit.when)


@compile_edit.register
def _clamp(edit: Clamp, subject: Subject, plan: Plan) -> None:
    _fits(subject, edit.direction)
    layers = _exist(subject, edit.layers, edit.when)
    lows, highs = _values(edit.low, len(layers), -np.inf), _values(edit.high, len(layers), np.inf)
    for layer, low, high in zip(layers, lows, highs, strict=True):
        if low == high:
            plan.hold(layer, edit.direction.unit, low, edit.where, edit.when)
        else:
            plan.bound(layer, edit.direction.unit, (low, high), edit.where, edit.when)


@compile_edit.register
def _ablate_write(edit: AblateWrite, subject: Subject, plan: Plan) -> None:
    _fits(subject, edit.direction)
    adapter_indices(subject, edit.organism, None)
    changed = [lora.path for lora in subject.organisms[edit.organism].loras if lora.path in subject.altered]
    if changed:
        raise InputError(
            f"{subject.name} changes what {changed[0]} writes, as by a norm, before it reaches the residual stream: "
            f"no direction leaves it with the write vectors of {edit.organism!r}. Ablate it at the layers instead"
        )
    plan.cleaned.setdefault(edit.organism, []).append(edit.direction.unit)
    plan.cleaning.append((plan.edit, edit.organism))


@compile_edit.register
def _gain(edit: Gain, subject: Subject, plan: Plan) -> None:
    chosen = adapter_indices(subject, edit.organism, edit.adapters)
    every = len(subject.organisms[edit.organism].names)
    gain = plan.gains.setdefault(edit.organism, np.ones(every, dtype=np.float32))
    gain[chosen] *= np.float32(edit.factor)
    if edit.changes:
        plan.scaling.append((plan.edit, edit.organism, chosen))


@compile_edit.register
def _clamp_scalars(edit: ClampScalars, subject: Subject, plan: Plan) -> None:
    chosen = _operated(edit, subject)
    low, high = _open(subject, edit.organism)
    low[chosen] = _values(edit.low, len(chosen), -np.inf)
    high[chosen] = _values(edit.high, len(chosen), np.inf)
    plan.surgeries.append(Surgery(plan.edit, edit.organism, edit.where, edit.when, chosen, low, high))


@compile_edit.register
def _patch_scalars(edit: PatchScalars, subject: Subject, plan: Plan) -> None:
    chosen = _operated(edit, subject)
    values = edit.given.values
    if len(values) != len(chosen):
        raise InputError(
            f"scalars of {len(values)} adapters are given for {len(chosen)} of {edit.organism!r}: give those of each"
        )
    low, high = _open(subject, edit.organism)
    given = np.full((len(low), values.shape[1]), np.nan, dtype=np.float32)
    given[chosen] = values
    plan.surgeries.append(Surgery(plan.edit, edit.organism, edit.where, edit.when, chosen, low, high, given))


@compile_edit.register
def _noise_scalars(edit: NoiseScalars, subject: Subject, plan: Plan) -> None:
    chosen = _operated(edit, subject)
    low, high = _open(subject, edit.organism)
    surgery = Surgery(plan.edit, edit.organism, edit.where, edit.when, chosen, low, high, noise=edit)
    plan.surgeries.append(surgery)


# --- what the subject must have ---------------------------------------------------------------------------------------


def _fits(subject: Subject, direction: Direction) -> FloatArray:
    """Its vector."""
    if len(direction.vector) != subject.d_model:
        raise InputError(
            f"direction {direction.name!r} has {len(direction.vector)} dimensions, the residual stream of "
            f"{subject.name} has {subject.d_model}: it comes from another model"
        )
    return direction.vector


def _exist(subject: Subject, layers: Sequence[int] | None, when: When | None) -> Sequence[int]:
    """The layers; for None every one, or every one from a gate's on."""
    count = len(subject.blocks)
    if when is not None:
        _fits(subject, when.direction)
    for layer in (*(layers or ()), *([when.layer] if when else [])):
        if not 0 <= layer < count:
            raise InputError(f"layer {layer} does not exist: {subject.name} has layers 0 to {count - 1}")
    return range(when.layer if when else 0, count) if layers is None else layers


def _values(level: Level | None, count: int, default: float) -> list[float]:
    return [default] * count if level is None else [float(value) for value in level.over(count)]


def _operated(edit: ClampScalars | PatchScalars | NoiseScalars, subject: Subject) -> list[int]:
    """The adapters of an edit of scalars, each of them behind the layer where its gate is read."""
    chosen = adapter_indices(subject, edit.organism, edit.adapters)
    if edit.when is not None:
        _exist(subject, (), edit.when)
        adapters = subject.organisms[edit.organism].adapters
        early = [adapters[index] for index in chosen if adapters[index].layer <= edit.when.layer]
        if early:
            raise InputError(
                f"the gate on {edit.when.direction.name!r} is read after block {edit.when.layer}, and cannot open an "
                f"edit of {early[0].name}: choose a gate of an earlier layer, or later adapters"
            )
    return chosen


def _open(subject: Subject, organism: str) -> tuple[FloatArray, FloatArray]:
    """Bounds that bound nothing, (adapter,) each."""
    count = len(subject.organisms[organism].names)
    return np.full(count, -np.inf, dtype=np.float32), np.full(count, np.inf, dtype=np.float32)


def adapter_indices(subject: Subject, organism: str, names: Sequence[str] | None) -> list[int]:
    """Indices of an organism's adapters, all of them for None. Raises InputError on one that it lacks."""
    if organism not in subject.organisms:
        loaded = ", ".join(sorted(subject.organisms)) or "none"
        raise InputError(f"no organism named {organism!r} is loaded: there is {loaded}")
    index = {name: i for i, name in enumerate(subject.organisms[organism].names)}
    unknown = [name for name in names or () if name not in index]
    if unknown:
        raise InputError(f"organism {organism!r} has no adapter {unknown[0]!r}: it has {', '.join(list(index)[:12])}")
    return list(index.values()) if names is None else [index[name] for name in names]


def _orthonormal(vectors: Iterable[FloatArray]) -> FloatArray:
    """An orthonormal basis (k, d_model) of the span, so that removing it leaves no projection on any of them."""
    vectors = list(vectors)
    if len(vectors) == 1:
        return vectors[0][None]
    _, sizes, basis = np.linalg.svd(np.stack(vectors).astype(np.float64), full_matrices=False)
    return np.asarray(basis[sizes > 1e-6 * sizes[0]], dtype=np.float32)
