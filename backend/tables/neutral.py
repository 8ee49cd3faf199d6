"""What a fine-tune leaves on text about nothing, as tables with intervals over texts, beside controls.

It refuses to know how anything was measured.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from backend.study import Study
from backend.tables.downstream import estimates, ranges

KIND = "neutral"


def runs(study: Study) -> dict[str, dict[str, Any]]:
    """The records of the study's runs, by name."""
    return study.measurements(KIND)


def divergences(study: Study, run: str) -> pl.DataFrame:
    """[part, value (nats a token), low, high, questions]: KL of the organism to the base on the first and later tokens
    of neutral texts, and on its own answers; `questions` are texts, and for answers questions."""
    rows = study.measured(KIND, run).filter(pl.col("measure") == "kl")
    return estimates(rows, ["part"])


def lengths(study: Study, run: str) -> pl.DataFrame:
    """[layer, value, low, high, questions]: the length of the difference by that of the base's stream."""
    rows = study.measured(KIND, run).filter(pl.col("measure") == "share")
    return estimates(rows, ["layer"]).sort("layer")


def cosines(study: Study, run: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Of a text's difference with the direction of answers: [vector, layer, value, low, high, questions, pooled], and
    of controls: [kind, layer, value, low, high, draws]. `pooled` is the cosine of the two mean differences."""
    rows = study.measured(KIND, run).filter(pl.col("measure") == "cosine")
    record = runs(study)[run]
    own = estimates(rows.filter(pl.col("question") != ""), ["vector", "layer"]).sort("layer")
    kept = {each.layer: each for each in study.direction_stack(record["kept"])}
    beside = {each.layer: each for each in study.direction_stack(record["direction"])}
    pooled = [
        float(kept[layer].unit @ beside[layer].unit) if layer in kept and layer in beside else np.nan
        for layer in own["layer"]
    ]
    controls = ranges(rows.filter(pl.col("question") == ""), record["controls"], ["layer"])
    return own.with_columns(pooled=pl.Series(pooled, dtype=pl.Float64)), controls.sort("kind", "layer")
