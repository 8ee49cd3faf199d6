"""A dictionary of scalars as tables: what it restores and tells beside what it must beat, and what its features are.

It refuses to know how it was learned.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from backend.study import Study
from backend.tables.downstream import estimates

KIND = "dictionary"


def runs(study: Study) -> dict[str, dict[str, Any]]:
    """The records of the study's dictionaries, by name."""
    return study.measurements(KIND)


def restored(study: Study, run: str) -> pl.DataFrame:
    """[by, value, low, high, questions]: the share of variance that is restored at equal L0, held out by question."""
    rows = study.measured(KIND, run).filter(pl.col("measure") == "variance")
    return estimates(rows.rename({"vector": "by"}), ["by"]).sort("value", descending=True)


def probed(study: Study, run: str) -> pl.DataFrame:
    """[by, size, value (AUC), low, high]: probes on as many features, held out by question."""
    rows = study.measured(KIND, run)
    found = [
        rows.filter(pl.col("measure") == measure).select(
            by="vector", size=pl.col("strength").cast(pl.Int64), **{name: "value"}
        )
        for measure, name in (("auc", "value"), ("auc low", "low"), ("auc high", "high"))
    ]
    table = found[0]
    for other in found[1:]:
        table = table.join(other, on=["by", "size"], how="left", maintain_order="left")
    return table.sort("size", "value", descending=[False, True])


def features(study: Study, run: str) -> pl.DataFrame:
    """[feature, fires, tells (AUC), tells_low, tells_high, made_of, tokens]: every feature, those that tell most first.

    `made_of` names the three adapters with the largest weights, `tokens` are those where it is largest, in their place.
    """
    rows = study.measured(KIND, run)
    table = rows.filter(pl.col("measure") == "fires").select(feature="part", fires="value")
    for measure, name in (("tells", "tells"), ("tells low", "tells_low"), ("tells high", "tells_high")):
        own = rows.filter(pl.col("measure") == measure).select(feature="part", **{name: "value"})
        table = table.join(own, on="feature", how="left", maintain_order="left")
    weights = rows.filter(pl.col("measure") == "decoder").sort(pl.col("value").abs(), descending=True)
    made = weights.group_by("part", maintain_order=True).agg(
        made_of=pl.format("{} {}", pl.col("vector").str.strip_prefix("layers."), pl.col("value").round(2))
        .head(3)
        .str.join(", ")
    )
    tokens = rows.filter(pl.col("measure") == "token").sort("part", "strength")
    said = tokens.group_by("part", maintain_order=True).agg(tokens=pl.col("vector").head(5).str.join("  ·  "))
    for more in (made, said):
        table = table.join(more.rename({"part": "feature"}), on="feature", how="left", maintain_order="left")
    return table.sort((pl.col("tells") - 0.5).abs(), descending=True, nulls_last=True)
