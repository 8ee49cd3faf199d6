"""Do directions agree? Norms and cosines of several, layer by layer, and those of organisms beside what controls reach.

The paper compares directions of topics and of fine-tunes (section 3.3 and appendix C): one direction of each kind per
layer, compared at equal layers. Directions of one kind are those whose names differ in the organism alone. Controls are
the directions of an organism trained on good advice, directions of shuffled labels, and what two random vectors reach
by chance. Two estimates of one direction do not reach a cosine of 1 either: the ceiling is what their stability allows.
It refuses to know where directions come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from backend.analysis.conditions.controls import GOOD, ITSELF, SHUFFLED, Role, kind_of
from backend.analysis.directions.cosines import comparable, cosine_matrix
from backend.records import Direction

Stacks = Mapping[str, Sequence[Direction]]  # name -> the direction at its layers

PAIRS, CEILING = "two organisms", "ceiling"
_BY_LAYER = {
    "name": pl.String,
    "layer": pl.Int64,
    "norm": pl.Float64,
    "share": pl.Float64,
    "cosine": pl.Float64,
}
_RANGES = {
    "a": pl.String,
    "b": pl.String,
    "layers": pl.Int64,
    "min": pl.Float64,
    "at_min": pl.Int64,
    "median": pl.Float64,
    "max": pl.Float64,
    "at_max": pl.Int64,
}
_AGREEMENT = {"layer": pl.Int64, "a": pl.String, "b": pl.String, "group": pl.String, "cosine": pl.Float64}


def against(stacks: Stacks, reference: str) -> pl.DataFrame:
    """[name, layer, norm, share, cosine] of every direction at every layer it has.

    `share` is its norm over the mean activation norm (null where that is unknown), `cosine` is with `reference` at the
    same layer (null where the reference has none there, or is of another width or base model).
    """
    there = {each.layer: each for each in stacks[reference]}
    rows = []
    for name, stack in stacks.items():
        for each in stack:
            other = there.get(each.layer)
            fits = other is not None and comparable(each, other)
            cosine = float(cosine_matrix([each, other])[0, 1]) if other is not None and fits else None
            rows.append((name, each.layer, each.norm, each.relative(1.0), cosine))
    return pl.DataFrame(rows, schema=_BY_LAYER, orient="row")


def cosine_ranges(stacks: Stacks) -> pl.DataFrame:
    """[a, b, layers, min, at_min, median, max, at_max]: cosines of every two directions over the layers both have."""
    at: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for layer in sorted({each.layer for stack in stacks.values() for each in stack}):
        by_width: dict[int, list[tuple[str, Direction]]] = {}
        for name, stack in stacks.items():
            for each in stack:
                if each.layer == layer:
                    by_width.setdefault(each.vector.size, []).append((name, each))
        for there in by_width.values():
            cosines = cosine_matrix([each for _, each in there])
            for (i, (a, one)), (j, (b, other)) in combinations(enumerate(there), 2):
                if comparable(one, other):
                    at.setdefault((a, b), []).append((layer, float(cosines[i, j])))
    return pl.DataFrame([_range(a, b, cosines) for (a, b), cosines in at.items()], schema=_RANGES, orient="row")


def _range(a: str, b: str, cosines: list[tuple[int, float]]) -> tuple[Any, ...]:
    low, high = min(cosines, key=lambda pair: pair[1]), max(cosines, key=lambda pair: pair[1])
    median = float(np.median([value for _, value in cosines]))
    return (a, b, len(cosines), low[1], low[0], median, high[1], high[0])


# --- organisms beside controls ----------------------------------------------------------------------------------------


def kinds(roles: Mapping[str, Role]) -> dict[str, list[str]]:
    """The names of every kind of direction that two or more organisms have, those of most organisms first."""
    found: dict[str, list[str]] = {}
    for name, role in roles.items():
        if role.kind in (ITSELF, GOOD) and role.owner is not None:
            found.setdefault(kind_of(name, role.owner), []).append(name)
    shared = {kind: names for kind, names in found.items() if len({roles[name].owner for name in names}) > 1}
    return dict(sorted(shared.items(), key=lambda item: -len(item[1])))


def agreement(stacks: Stacks, roles: Mapping[str, Role], names: Sequence[str]) -> pl.DataFrame:
    """[layer, a, b, group, cosine] of the directions `names` and their controls, at the layers that both have.

    `group` is PAIRS for two organisms, GOOD where one of them was trained on good advice, SHUFFLED for a direction
    beside one of shuffled labels. Directions of different width or base model are not compared.
    """
    shuffled = [name for name, role in roles.items() if name in stacks and role.kind == SHUFFLED and role.like in names]
    couples = [(a, b, GOOD if GOOD in (roles[a].kind, roles[b].kind) else PAIRS) for a, b in combinations(names, 2)]
    couples += [(a, b, SHUFFLED) for a in names if roles[a].kind == ITSELF for b in shuffled]
    at = {name: {each.layer: each for each in stacks[name]} for name in (*names, *shuffled)}
    rows = []
    for a, b, group in couples:
        for layer in sorted(at[a].keys() & at[b].keys()):
            one, other = at[a][layer], at[b][layer]
            if comparable(one, other):
                rows.append((layer, a, b, group, float(cosine_matrix([one, other])[0, 1])))
    return pl.DataFrame(rows, schema=_AGREEMENT, orient="row")


def whole_from_half(half: float) -> float:
    """How well a direction would repeat itself on as much data, from the cosine of its halves (Spearman-Brown)."""
    return 2 * half / (1 + half) if half > 0 else 0.0


def ceilings(halves: Mapping[str, Mapping[int, float]], names: Sequence[str]) -> pl.DataFrame:
    """[layer, a, b, group, cosine]: the cosine two estimates of one direction would have, for every two of `names`.

    `halves` has the cosine between halves of the data behind a direction, by its name and layer; names it lacks have
    no ceiling. Noise in either estimate lowers their cosine by the root of its reliability.
    """
    rows = []
    for a, b in combinations([name for name in names if name in halves], 2):
        for layer in sorted(halves[a].keys() & halves[b].keys()):
            both = whole_from_half(halves[a][layer]) * whole_from_half(halves[b][layer])
            rows.append((layer, a, b, CEILING, float(np.sqrt(both))))
    return pl.DataFrame(rows, schema=_AGREEMENT, orient="row")


def summary(table: pl.DataFrame) -> pl.DataFrame:
    """[group, pairs, low, median, high]: the range of cosines of every group over its pairs and layers."""
    return table.group_by("group", maintain_order=True).agg(
        pairs=pl.struct("a", "b").n_unique(),
        low=pl.col("cosine").min(),
        median=pl.col("cosine").median(),
        high=pl.col("cosine").max(),
    )
