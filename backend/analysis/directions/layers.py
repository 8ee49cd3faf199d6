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

from backend.analysis.aucs import auc_table
from backend.analysis.directions.answers import Answers, Balance, Pooling
from backend.analysis.directions.cosines import cosine_matrix
from backend.analysis.directions.difference import MeanDifference
from backend.analysis.directions.separation import HeldOut, project
from backend.analysis.rates.families import with_family
from backend.records import Direction, FloatArray


@dataclass(frozen=True, eq=False)
class LayerProfile:
    """One direction a layer against two classes of responses; `table` and `cosines` are in layer order."""

    directions: Mapping[int, Direction]
    projections: Mapping[int, NDArray[Any]]  # layer -> (response,) in residual units
    table: pl.DataFrame  # layer, norm, share (null where the activation norm is unknown), auc and its `auc_table`
    cosines: FloatArray  # (layer, layer)


def contrast_profile(
    answers: Answers,
    *,
    name: str,
    pooling: Pooling = "response",
    balance: Balance = "weights",
    provenance: Mapping[str, Any] | None = None,
) -> LayerProfile:
    """The mean difference of two classes at every layer; its projections come from folds that hold other groups.

    `pooling` and `balance` are those of `Answers.weights`; `provenance` is what directions say beside what was done.
    Raises InputError where a class has answers to fewer than two groups.
    """
    difference = MeanDifference.of(answers, name=name, pooling=pooling, balance=balance, provenance=provenance)
    # cutting the larger class changes a mean by chance alone, so all of it serves to judge
    held_out = HeldOut.of(answers, pooling=pooling, balance="weights" if balance == "truncation" else balance)
    layers = list(answers.means.by_layer)
    directions = {layer: difference.at(layer) for layer in layers}
    return _profile(directions, {layer: held_out.project(layer) for layer in layers}, answers)


def direction_profile(directions: Mapping[int, Direction], answers: Answers) -> LayerProfile:
    """Directions that were made elsewhere, at those of their layers that hold means; the mean response is at 0."""
    kept = {layer: direction for layer, direction in directions.items() if layer in answers.means.by_layer}
    projections = {layer: project(answers.means.at(layer), direction) for layer, direction in kept.items()}
    centred = {layer: along - np.nanmean(along) for layer, along in projections.items()}
    return _profile(kept, centred, answers)


def _profile(
    directions: Mapping[int, Direction], projections: Mapping[int, NDArray[Any]], answers: Answers
) -> LayerProfile:
    ordered = [directions[layer] for layer in sorted(directions)]
    along = [projections[direction.layer] for direction in ordered]
    apart = auc_table(
        np.stack(along, axis=1) if along else np.zeros((len(answers.labels), 0)), answers.labels, answers.codes
    )
    table = pl.DataFrame(
        {
            "layer": [direction.layer for direction in ordered],
            "norm": [direction.norm for direction in ordered],
            "share": [direction.relative(1.0) for direction in ordered],
        },
        schema_overrides={"share": pl.Float64},
    ).hstack(with_family(apart.rename({"value": "auc"})))
    cosines = cosine_matrix(ordered) if ordered else np.zeros((0, 0), dtype=np.float32)
    return LayerProfile(directions, projections, table, cosines)
