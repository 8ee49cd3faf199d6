"""How strongly a condition adds its direction, as a share of the activation norm at the layer it is added to.

It refuses to know what came of it.
"""

from __future__ import annotations

import json

import polars as pl

from backend.records import Add, edits_from_json


def relative_strengths(conditions: pl.DataFrame, directions: pl.DataFrame, described: pl.DataFrame) -> pl.DataFrame:
    """[condition, relative] of the conditions that add one direction at one strength; null where no norm is known.

    `conditions` is [name, edits (JSON)] and `directions` [name, layer, norm, activation_norm] as a study lists them,
    `described` says what each condition did. The edits know the norms; where a study keeps none, its directions do.
    """
    steered = described.filter(pl.col("kind") == "steer")
    edits = dict(conditions.select("name", "edits").iter_rows())
    known = {
        (name, layer): norm / activation
        for name, layer, norm, activation in directions.select("name", "layer", "norm", "activation_norm").iter_rows()
        if activation
    }
    rows = []
    for name, direction, layer, strength in steered.select("condition", "direction", "layer", "strength").iter_rows():
        added = [edit for edit in edits_from_json(json.loads(edits[name])) if isinstance(edit, Add)]
        share = added[0].direction.relative(1.0) if len(added) == 1 else None
        share = known.get((direction, layer)) if share is None else share
        rows.append((name, None if share is None or strength is None else strength * share))
    return pl.DataFrame(rows, schema={"condition": pl.String, "relative": pl.Float64}, orient="row")
