"""Do directions agree? Norms, shares of the activation norm and cosines of several directions, layer by layer.

The paper compares directions of topics and of fine-tunes (section 3.3 and appendix C): one direction of each kind per
layer, compared at equal layers. It refuses to know where directions come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from backend.analysis.directions.difference import cosine_matrix
from backend.records import Direction

Stacks = Mapping[str, Sequence[Direction]]  # name -> the direction at its layers

_BY_LAYER = {
    "name": pl.String,
    "layer": pl.Int64,
    "norm": pl.Float64,
    "share": pl.Float64,
    "cosine": pl.Float64,
}
_PAIRS = {
    "a": pl.String,
    "b": pl.String,
    "layers": pl.Int64,
    "min": pl.Float64,
    "at_min": pl.Int64,
    "median": pl.Float64,
    "max": pl.Float64,
    "at_max": pl.Int64,
}


def against(stacks: Stacks, reference: str) -> pl.DataFrame:
    """[name, layer, norm, share, cosine] of every direction at every layer it has.

    `share` is its norm over the mean activation norm (null where that is unknown), `cosine` is with `reference` at the
    same layer (null where the reference has none there, or another width).
    """
    there = {each.layer: each for each in stacks[reference]}
    rows = []
    for name, stack in stacks.items():
        for each in stack:
            other = there.get(each.layer)
            fits = other is not None and other.vector.shape == each.vector.shape
            cosine = float(cosine_matrix([each, other])[0, 1]) if other is not None and fits else None
            rows.append((name, each.layer, each.norm, each.relative(1.0), cosine))
    return pl.DataFrame(rows, schema=_BY_LAYER, orient="row")


def pairs(stacks: Stacks) -> pl.DataFrame:
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
            for (i, (a, _)), (j, (b, _)) in combinations(enumerate(there), 2):
                at.setdefault((a, b), []).append((layer, float(cosines[i, j])))
    return pl.DataFrame([_range(a, b, cosines) for (a, b), cosines in at.items()], schema=_PAIRS, orient="row")


def _range(a: str, b: str, cosines: list[tuple[int, float]]) -> tuple[Any, ...]:
    low, high = min(cosines, key=lambda pair: pair[1]), max(cosines, key=lambda pair: pair[1])
    median = float(np.median([value for _, value in cosines]))
    return (a, b, len(cosines), low[1], low[0], median, high[1], high[0])
