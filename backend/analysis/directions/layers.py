"""Directions layer by layer: how long each is, how far apart it puts two classes, how alike layers are.

It refuses to know where directions and residuals come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backend.analysis.directions.difference import Difference, HeldOut, Pooling, aucs, cosine_matrix, project
from backend.records import Direction, FloatArray


@dataclass(frozen=True, eq=False)
class Means:
    """Residual means of the same responses at several layers, with the tokens behind them."""

    by_layer: Mapping[int, FloatArray]  # layer -> (row, d_model)
    counts: NDArray[Any]  # (response,) tokens
    norms: Mapping[int, float]  # layer -> mean activation norm
    picked: NDArray[np.intp] | None = None  # (response,) rows that these are; None: all, in their order

    def rows(self, picked: NDArray[np.intp]) -> Means:
        """The same layers of some of the responses, in the order of `picked`; nothing is copied yet."""
        rows = picked if self.picked is None else self.picked[picked]
        return Means(self.by_layer, self.counts[picked], self.norms, rows)

    def at(self, layer: int) -> FloatArray:
        """The means at one layer, (response, d_model)."""
        there = self.by_layer[layer]
        return there if self.picked is None else there[self.picked]


@dataclass(frozen=True, eq=False)
class LayerProfile:
    """One direction a layer against two classes of responses; `table` and `cosines` are in layer order."""

    directions: Mapping[int, Direction]
    projections: Mapping[int, NDArray[Any]]  # layer -> (response,) in residual units
    table: pl.DataFrame  # layer, norm, share (null where the activation norm is unknown), auc, low, high
    cosines: FloatArray  # (layer, layer)


def contrast_profile(
    means: Means,
    labels: NDArray[np.bool_],
    groups: NDArray[Any],
    *,
    name: str,
    pooling: Pooling = "response",
    provenance: Mapping[str, Any] | None = None,
) -> LayerProfile:
    """The mean difference of two classes at every layer; its projections come from folds that hold other groups.

    Raises InputError where a class has answers to fewer than two groups.
    """
    difference = Difference.of(means.counts, labels, name=name, pooling=pooling, provenance=provenance)
    held_out = HeldOut.of(means.counts, labels, groups, pooling=pooling)
    directions, projections = {}, {}
    for layer in means.by_layer:
        at = means.at(layer)
        directions[layer] = difference.at(at, layer, activation_norm=means.norms.get(layer))
        projections[layer] = held_out.project(at)
    return _profile(directions, projections, labels, groups)


def direction_profile(
    directions: Mapping[int, Direction], means: Means, labels: NDArray[np.bool_], groups: NDArray[Any]
) -> LayerProfile:
    """Directions that were made elsewhere, at those of their layers that hold means; the mean response is at 0."""
    kept = {layer: direction for layer, direction in directions.items() if layer in means.by_layer}
    projections = {layer: project(means.at(layer), direction) for layer, direction in kept.items()}
    centred = {layer: along - np.nanmean(along) for layer, along in projections.items()}
    return _profile(kept, centred, labels, groups)


def _profile(
    directions: Mapping[int, Direction],
    projections: Mapping[int, NDArray[Any]],
    labels: NDArray[np.bool_],
    groups: NDArray[Any],
) -> LayerProfile:
    ordered = [directions[layer] for layer in sorted(directions)]
    apart = aucs([projections[direction.layer] for direction in ordered], labels, groups)
    table = pl.DataFrame(
        {
            "layer": [direction.layer for direction in ordered],
            "norm": [direction.norm for direction in ordered],
            "share": [direction.relative(1.0) for direction in ordered],
            "auc": [estimate.value for estimate in apart],
            "low": [estimate.low for estimate in apart],
            "high": [estimate.high for estimate in apart],
        },
        schema_overrides={"share": pl.Float64},
    )
    cosines = cosine_matrix(ordered) if ordered else np.zeros((0, 0), dtype=np.float32)
    return LayerProfile(directions, projections, table, cosines)
