"""Which cells a sweep has: steering, ablation and gains, each with the controls that it needs.

It refuses to know how directions were made, how cells are sampled and what the answers are worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from backend.analysis.directions.random_directions import random_direction, rescaled
from backend.edits import Ablate, AblateWrite, Add, Condition, Gain
from backend.pipeline.sweep import Cell
from backend.records import BASE, Direction, InputError

Stack = Sequence[Direction]  # one direction at its layers


@dataclass(frozen=True)
class Strengths:
    """How much is added: raw multiples of the vector (the paper's lambda), or shares of the activation norm."""

    values: tuple[float, ...]
    share: bool = False

    def of(self, direction: Direction) -> list[tuple[float, str]]:
        """Raw strengths with how a condition's name says each. Raises InputError on a share of an unknown norm."""
        if not self.share:
            return [(value, f"×{value:g}") for value in self.values]
        found = []
        for value in self.values:
            raw = direction.strength(value)
            if raw is None:
                raise InputError(
                    f"direction {direction.name!r} does not know the activation norm at layer {direction.layer}: "
                    "give strengths as raw multiples, or extract it again"
                )
            found.append((raw, f"{value:.0%}"))
        return found


def steer(
    stack: Stack,
    strengths: Strengths,
    *,
    layers: Sequence[int] | None = None,
    organism: str = BASE,
) -> list[Cell]:
    """Each layer's own direction added at that layer, at every strength."""
    return [
        Cell(organism, Condition(f"steer {d.name} L{d.layer} {said}", (Add(d, raw),)))
        for d in _chosen(stack, layers)
        for raw, said in strengths.of(d)
    ]


def steer_controls(
    stack: Stack,
    strengths: Strengths,
    *,
    layers: Sequence[int],
    random: Sequence[int] = (0, 1, 2),
    others: Sequence[Stack] = (),
    organism: str = BASE,
) -> list[Cell]:
    """The same amounts along random directions and along others (shuffled labels, good advice), at some layers.

    Every control gets the norm of the direction at its layer, so that equal strengths are equal lengths.
    """
    cells = []
    for direction in _chosen(stack, layers):
        there = [random_direction(direction, seed) for seed in random]
        there += [rescaled(d, direction.norm) for other in others for d in other if d.layer == direction.layer]
        for control in there:
            cells += steer([replace(control, activation_norm=direction.activation_norm)], strengths, organism=organism)
    return cells


def ablate_layerwise(stack: Stack, organism: str) -> Cell:
    """Each layer's own direction out of that layer (paper s3.4)."""
    edits = tuple(Ablate(direction, (direction.layer,)) for direction in stack)
    return Cell(organism, Condition(f"ablate {_name(stack)} layer-wise", edits))


def ablate_everywhere(direction: Direction, organism: str) -> Cell:
    """One layer's direction out of every layer; out of another organism than its own it is the paper's transfer."""
    return Cell(organism, Condition(f"ablate {direction.name} L{direction.layer} everywhere", (Ablate(direction),)))


def ablate_at(direction: Direction, organism: str) -> Cell:
    """One layer's direction out of that layer alone."""
    layer = direction.layer
    return Cell(organism, Condition(f"ablate {direction.name} L{layer} there", (Ablate(direction, (layer,)),)))


def ablate_write(direction: Direction, organism: str) -> Cell:
    """One layer's direction out of the organism's write vectors B (paper s3.5)."""
    name = f"ablate {direction.name} L{direction.layer} out of B of {organism}"
    return Cell(organism, Condition(name, (AblateWrite(direction, organism),)))


def ablate_subspace(basis: Stack, organism: str) -> Cell:
    """Several directions out of every layer: their span."""
    name = f"ablate {_name(basis)} L{basis[0].layer} ({len(basis)} dimensions) everywhere"
    return Cell(organism, Condition(name, tuple(Ablate(direction) for direction in basis)))


def leave_one_out(organism: str, adapters: Sequence[str]) -> list[Cell]:
    """Each adapter zeroed alone."""
    return [Cell(organism, Condition(f"without {a}", (Gain(organism, 0.0, (a,)),))) for a in adapters]


def keep_one(organism: str, adapters: Sequence[str]) -> list[Cell]:
    """All adapters zeroed but one."""
    return [
        Cell(organism, Condition(f"only {a}", (Gain(organism, 0.0, tuple(b for b in adapters if b != a)),)))
        for a in adapters
        if len(adapters) > 1
    ]


def without_pairs(organism: str, adapters: Sequence[str]) -> list[Cell]:
    """Each pair of adapters zeroed."""
    return [
        Cell(organism, Condition(f"without {a} and {b}", (Gain(organism, 0.0, (a, b)),)))
        for a, b in combinations(adapters, 2)
    ]


def scaled(
    organism: str, groups: Mapping[str, Sequence[str]], factors: Sequence[float], *, rest: float | None = None
) -> list[Cell]:
    """Groups of adapters scaled together; the others multiplied by `rest`, or left as they are."""
    cells = []
    every = [adapter for group in groups.values() for adapter in group]
    for name, group in groups.items():
        for factor in factors:
            others = tuple(adapter for adapter in every if adapter not in group)
            edits = [Gain(organism, factor, tuple(group))]
            if rest is not None and others:
                edits.append(Gain(organism, rest, others))
            said = f"{name} ×{factor:g}" + (f", the others ×{rest:g}" if rest is not None else "")
            cells.append(Cell(organism, Condition(said, tuple(edits))))
    return cells


def _chosen(stack: Stack, layers: Sequence[int] | None) -> list[Direction]:
    there = [direction for direction in stack if layers is None or direction.layer in layers]
    missing = sorted(set(layers or ()) - {direction.layer for direction in stack})
    if missing:
        raise InputError(
            f"direction {_name(stack)!r} has no layer {', '.join(map(str, missing))}: it has "
            f"{', '.join(str(d.layer) for d in stack)}"
        )
    return there


def _name(stack: Stack) -> str:
    if not stack:
        raise InputError("a sweep needs a direction: extract one first (python -m backend extract)")
    return stack[0].name
