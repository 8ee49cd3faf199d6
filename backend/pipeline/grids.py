"""Which cells a sweep has: steering, ablation and gains, each with the controls that it needs.

An edit acts at every token but the attention sink unless `where` says otherwise; a condition's name says which.
It refuses to know how directions were made, how cells are sampled and what the answers are worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from backend.analysis.directions.random_directions import random_direction, rescaled
from backend.edits import EVERY, PLAIN, Ablate, AblateWrite, Add, Condition, Gain, Level, Where, strength_of
from backend.pipeline.sweep import Cell
from backend.records import BASE, Direction, FloatArray, InputError

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
        return [(strength_of(direction, value), f"{value:.0%}") for value in self.values]


@dataclass(frozen=True, eq=False)
class Mean:
    """The mean residual stream of some answers, which ablation to a mean leaves a direction's projection of."""

    of: str  # whose answers, in words
    stream: Mapping[int, FloatArray]  # layer -> (d_model,)

    def level(self, direction: Direction, layers: Sequence[int] | None = None) -> Level:
        """The mean projection on the unit direction at each layer (None: at every one)."""
        chosen = sorted(self.stream) if layers is None else layers
        return Level(tuple(float(self.stream[layer] @ direction.unit) for layer in chosen), self.of)


def steer(
    stack: Stack,
    strengths: Strengths,
    *,
    layers: Sequence[int] | None = None,
    organism: str = BASE,
    where: Where = PLAIN,
) -> list[Cell]:
    """Each layer's own direction added at that layer, at every strength."""
    return [
        Cell(organism, Condition(f"steer {d.name} L{d.layer} {said}{_at(where)}", (Add(d, raw, where=where),)))
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
    where: Where = PLAIN,
) -> list[Cell]:
    """The same amounts along random directions and along others (shuffled labels, good advice), at some layers.

    Every control gets the norm of the direction at its layer, so that equal strengths are equal lengths.
    """
    cells = []
    for direction in _chosen(stack, layers):
        there = [random_direction(direction, seed) for seed in random]
        there += [rescaled(d, direction.norm) for other in others for d in other if d.layer == direction.layer]
        for control in there:
            known = replace(control, activation_norm=direction.activation_norm)
            cells += steer([known], strengths, organism=organism, where=where)
    return cells


@dataclass(frozen=True, eq=False)
class Taken:
    """How directions are taken out: at which tokens, and to zero or to the mean of some answers."""

    where: Where = PLAIN
    to: Mean | None = None

    def edit(self, direction: Direction, layers: tuple[int, ...] | None = None) -> Ablate:
        """One direction out of some layers, or of every one."""
        return Ablate(direction, layers, self.where, to=self.to.level(direction, layers) if self.to else None)

    @property
    def words(self) -> str:
        """What a condition's name says of it; nothing of the paper's own form."""
        return (f" to the mean of {self.to.of}" if self.to else "") + _at(self.where)


def ablate_layerwise(stack: Stack, organism: str, how: Taken) -> Cell:
    """Each layer's own direction out of that layer (paper s3.4)."""
    edits = tuple(how.edit(direction, (direction.layer,)) for direction in stack)
    return Cell(organism, Condition(f"ablate {_name(stack)} layer-wise{how.words}", edits))


def ablate_everywhere(direction: Direction, organism: str, how: Taken) -> Cell:
    """One layer's direction out of every layer; out of another organism than its own it is the paper's transfer."""
    name = f"ablate {direction.name} L{direction.layer} everywhere{how.words}"
    return Cell(organism, Condition(name, (how.edit(direction),)))


def ablate_at(direction: Direction, organism: str, how: Taken) -> Cell:
    """One layer's direction out of that layer alone."""
    layer = direction.layer
    return Cell(
        organism, Condition(f"ablate {direction.name} L{layer} there{how.words}", (how.edit(direction, (layer,)),))
    )


def ablate_write(direction: Direction, organism: str) -> Cell:
    """One layer's direction out of the organism's write vectors B (paper s3.5)."""
    name = f"ablate {direction.name} L{direction.layer} out of B of {organism}"
    return Cell(organism, Condition(name, (AblateWrite(direction, organism),)))


def ablate_subspace(basis: Stack, organism: str, how: Taken) -> Cell:
    """Several directions out of every layer: their span."""
    name = f"ablate {_name(basis)} L{basis[0].layer} ({len(basis)} dimensions) everywhere{how.words}"
    return Cell(organism, Condition(name, tuple(how.edit(direction) for direction in basis)))


def leave_one_out(organism: str, adapters: Sequence[str]) -> list[Cell]:
    """Each adapter zeroed alone."""
    return [_gained(f"without {a}", organism, Gain(organism, 0.0, (a,))) for a in adapters]


def keep_one(organism: str, adapters: Sequence[str]) -> list[Cell]:
    """All adapters zeroed but one."""
    return [
        _gained(f"only {a}", organism, Gain(organism, 0.0, tuple(b for b in adapters if b != a)))
        for a in adapters
        if len(adapters) > 1
    ]


def without_pairs(organism: str, adapters: Sequence[str]) -> list[Cell]:
    """Each pair of adapters zeroed."""
    return [
        _gained(f"without {a} and {b}", organism, Gain(organism, 0.0, (a, b))) for a, b in combinations(adapters, 2)
    ]


def coalitions(organism: str, adapters: Sequence[str], pairs: int, seed: int = 0) -> list[Cell]:
    """Pairs of a coalition of adapters and its complement, the others zeroed, drawn by the Shapley kernel.

    Of sizes between those of `leave_one_out` and `keep_one`, which hold most of the kernel; no coalition twice. Raises
    InputError where there are not as many.
    """
    players = len(adapters)
    sizes = np.arange(2, players - 1)
    there = (2**players - 2 - 2 * players) // 2
    if pairs > there:
        raise InputError(f"{players} adapters have {max(there, 0)} pairs of coalitions of two and more: ask for fewer")
    rng, drawn = np.random.default_rng(seed), dict[tuple[bool, ...], None]()
    mass = 1 / (sizes * (players - sizes))
    while len(drawn) < 2 * pairs:
        member = np.zeros(players, dtype=bool)
        member[rng.choice(players, rng.choice(sizes, p=mass / mass.sum()), replace=False)] = True
        drawn |= dict.fromkeys((tuple(member.tolist()), tuple((~member).tolist())))
    cells = []
    for chosen in drawn:
        kept = [adapter for adapter, is_in in zip(adapters, chosen, strict=True) if is_in]
        zeroed = tuple(adapter for adapter in adapters if adapter not in kept)
        cells.append(_gained(f"only {', '.join(kept)}", organism, Gain(organism, 0.0, zeroed)))
    return cells


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
            cells.append(_gained(said, organism, *edits))
    return cells


def _gained(what: str, organism: str, *edits: Gain) -> Cell:
    """A cell of gains, whose condition names the organism: the same adapters of another are another condition."""
    return Cell(organism, Condition(f"{what} of {organism}", edits))


def _chosen(stack: Stack, layers: Sequence[int] | None) -> list[Direction]:
    there = [direction for direction in stack if layers is None or direction.layer in layers]
    missing = sorted(set(layers or ()) - {direction.layer for direction in stack})
    if missing:
        raise InputError(
            f"direction {_name(stack)!r} has no layer {', '.join(map(str, missing))}: it has "
            f"{', '.join(str(d.layer) for d in stack)}"
        )
    return there


def _at(where: Where) -> str:
    """The tokens in a condition's name; nothing of the paper's own form, which had its names first."""
    if where == EVERY:
        return ""
    return " but the sink" if where == PLAIN else f" at {where.words}"


def _name(stack: Stack) -> str:
    if not stack:
        raise InputError("a sweep needs a direction: extract one first (python -m backend extract)")
    return stack[0].name
