"""What a probe reads, a row a token or a response: scalars, residual means or their projections on directions.

Rows keep the index of their response, so that classes are dealt to hundreds of thousands of tokens at once. It refuses
to know what the rows are told apart by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backend.analysis.probes.probe import SIGNIFICANT
from backend.records import InputError
from backend.study import Study
from backend.tables.adapters import SHARE

ALL_TOKENS, SIGNIFICANT_TOKENS, PLACED_TOKENS = "all", "high significance", "position"


@dataclass(frozen=True, eq=False)
class Features:
    """The rows a probe may be trained on."""

    values: NDArray[Any]  # (row, feature)
    response: NDArray[Any]  # (row,), index into `responses`
    responses: tuple[str, ...]
    names: tuple[str, ...]  # (feature,)
    what: str  # in words
    unit: str = "responses"  # what a row is
    layer: int | None = None  # of a residual stream, where the features are its dimensions
    basis: NDArray[Any] | None = None  # (feature, d_model), where they are projections on these unit vectors
    made_of: Mapping[str, Any] = field(default_factory=dict)  # everything that decides the values, for a saved recipe

    @property
    def by_token(self) -> bool:
        """Whether several rows come from one response."""
        return self.unit != "responses"


def token_scalars(study: Study, reader: str, adapters: tuple[str, ...], significant: bool = False) -> Features:
    """The scalars of every answer token, or of those with a high significance alone.

    Raises InputError where there is none, or the study holds no significance.
    """
    table = study.scalar_tokens(reader, adapters, min_significance=SIGNIFICANT if significant else None)
    if not len(table.values):
        raise InputError("No answer token has a log significance of 0.5 or more: train on all tokens.")
    which = "answer token of high significance" if significant else "answer token"
    what = f"scalars of {len(adapters)} adapters at each {which}"
    made_of = {"adapters": list(adapters), "tokens": SIGNIFICANT_TOKENS if significant else ALL_TOKENS}
    unit = which.replace("token", "tokens")
    return Features(table.values, table.response, table.responses, adapters, what, unit, made_of=made_of)


def placed_scalars(study: Study, reader: str, adapters: tuple[str, ...], first: int, last: int) -> Features:
    """The scalars of the answer tokens from one place to another, both included; the first token is 1.

    Raises InputError where no answer is so long.
    """
    table = study.scalar_tokens(reader, adapters)
    starts = study.readings(reader).select("response", "n_prompt")
    placed = pl.DataFrame({"response": table.responses}).join(starts, on="response", maintain_order="left")
    place = table.position - placed["n_prompt"].to_numpy()[table.response] + 1
    kept = (place >= first) & (place <= last)
    if not kept.any():
        raise InputError(f"No answer has a token from {first} to {last}: choose smaller positions.")
    what = f"scalars of {len(adapters)} adapters at answer tokens {first} to {last}"
    made_of = {"adapters": list(adapters), "tokens": PLACED_TOKENS, "first": first, "last": last}
    return Features(
        table.values[kept], table.response[kept], table.responses, adapters, what, "answer tokens", made_of=made_of
    )


def has_significance(study: Study, reader: str) -> bool:
    """Whether tokens that `reader` read have a significance."""
    try:
        study.scalar_tokens(reader, [study.adapters(reader)["name"][0]], responses=[], min_significance=SIGNIFICANT)
    except InputError:
        return False
    return True


def of_responses(scalars: pl.DataFrame, adapters: tuple[str, ...], statistic: str, threshold: float) -> Features:
    """One statistic of every answer's scalars, as `response_scalars` gives them."""
    named = f"share of tokens above {threshold:g} of the" if statistic == SHARE else statistic
    what = f"{named} scalars of {len(adapters)} adapters over each answer"
    made_of = {"adapters": list(adapters), "statistic": statistic, "threshold": threshold}
    values = scalars.select(adapters).to_numpy()
    return Features(values, np.arange(scalars.height), tuple(scalars["response"]), adapters, what, made_of=made_of)


def mean_residuals(study: Study, reader: str, layer: int) -> Features:
    """The mean residual of every answer after one block."""
    means = study.residual_means(reader, layer)
    names = tuple(f"dimension {at}" for at in range(means.means.shape[1]))
    what = f"mean residual of each answer after block {layer} ({len(names)} dimensions)"
    rows = np.arange(len(means.responses))
    return Features(means.means, rows, means.responses, names, what, layer=layer, made_of={"layer": layer})


def projections(study: Study, residuals: Features, directions: tuple[str, ...]) -> Features:
    """`mean_residuals` of a layer along unit directions of that layer.

    Raises InputError where a direction is of another width, or none of this name is at the layer.
    """
    layer = residuals.layer
    assert layer is not None, "projections are of the residual stream"
    basis = np.stack([study.direction(name, layer).unit for name in directions])
    if basis.shape[1] != residuals.values.shape[1]:
        raise InputError(f"The directions have {basis.shape[1]} numbers, the residuals {residuals.values.shape[1]}.")
    what = f"mean residual of each answer after block {layer} along {len(directions)} directions"
    made_of = {"layer": layer, "directions": list(directions)}
    values = residuals.values @ basis.T
    return replace(residuals, values=values, names=directions, what=what, basis=basis, made_of=made_of)
