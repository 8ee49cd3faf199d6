"""Do organisms converge on one direction? Cosines between their directions at every layer, beside what controls reach.

Directions of one kind are those whose names differ in the organism alone. Controls are the directions of an organism
trained on good advice, directions of shuffled labels, and what two random vectors reach by chance. Two estimates of one
direction do not reach a cosine of 1 either: the ceiling is what their stability allows.
It refuses to know where directions come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import polars as pl
from scipy.special import betaincinv

from backend.analysis.conditions.controls import GOOD, ITSELF, SHUFFLED, Role, kind_of
from backend.analysis.directions.difference import cosine_matrix
from backend.records import Direction

Stacks = Mapping[str, Sequence[Direction]]
PAIRS, CEILING = "two organisms", "ceiling"
_SCHEMA = {"layer": pl.Int64, "a": pl.String, "b": pl.String, "group": pl.String, "cosine": pl.Float64}


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
    beside one of shuffled labels. Directions of different width are not compared.
    """
    shuffled = [name for name, role in roles.items() if name in stacks and role.kind == SHUFFLED and role.like in names]
    couples = [(a, b, GOOD if GOOD in (roles[a].kind, roles[b].kind) else PAIRS) for a, b in combinations(names, 2)]
    couples += [(a, b, SHUFFLED) for a in names if roles[a].kind == ITSELF for b in shuffled]
    at = {name: {each.layer: each for each in stacks[name]} for name in (*names, *shuffled)}
    rows = []
    for a, b, group in couples:
        for layer in sorted(at[a].keys() & at[b].keys()):
            one, other = at[a][layer], at[b][layer]
            if one.vector.size == other.vector.size:
                rows.append((layer, a, b, group, float(cosine_matrix([one, other])[0, 1])))
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def chance(width: int, level: float = 0.95) -> float:
    """The size of cosine that two random directions of so many dimensions stay under with probability `level`."""
    return float(np.sqrt(betaincinv(0.5, (width - 1) / 2, level)))


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
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def summary(table: pl.DataFrame) -> pl.DataFrame:
    """[group, pairs, low, median, high]: the range of cosines of every group over its pairs and layers."""
    return table.group_by("group", maintain_order=True).agg(
        pairs=pl.struct("a", "b").n_unique(),
        low=pl.col("cosine").min(),
        median=pl.col("cosine").median(),
        high=pl.col("cosine").max(),
    )
