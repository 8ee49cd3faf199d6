"""What zeroing adapters changes: each of an organism alone, and sets of them, beside its unedited answers.

It refuses to know what an adapter's scalar tells.
"""

from __future__ import annotations

import polars as pl

from backend.analysis.conditions.causal import WITHOUT_ONE, WITHOUT_SOME, WITHOUT_TWO
from backend.analysis.rates.changes import changes
from backend.analysis.rates.rates import about_of, about_words
from backend.outcomes import EM, Outcome
from backend.study import Study
from backend.tables.experiments import beside
from backend.tables.gains import recorded


def zeroed(study: Study, responses: pl.DataFrame, outcome: Outcome = EM) -> pl.DataFrame:
    """One row an organism, zeroed adapters and rate: before and after on the questions of both, and the change.

    `responses` are study.responses of one judge. The columns of `changes`, where condition is what was done, and
    [arrangement, units, what, layer, label, about]: `layer` of a single one, `label` is L21, or the runs of a set's
    layers. Single adapters come first, by layer; each organism's single adapters are a family, and so are its sets.
    """
    off = recorded(study).filter(pl.col("arrangement").is_in([WITHOUT_ONE, WITHOUT_TWO, WITHOUT_SOME]))
    tables = []
    for (organism, single), part in off.group_by("organism", pl.col("arrangement") == WITHOUT_ONE, maintain_order=True):
        frame = beside(study, responses.filter(pl.col("organism") == organism), part["condition"].to_list())
        asked = frame.filter(outcome.scored())["question_id"].n_unique()
        table = changes(frame, part["condition"].to_list(), by="cell", outcomes=outcome.beside, about=about_of(asked))
        told = part.select("condition", "arrangement", "units", "what")
        told = told.with_columns(
            layer=pl.col("units").list.first().str.extract(r"layers\.(\d+)\.").cast(pl.Int64),
            label=pl.Series([_label(units, bool(single)) for units in part["units"]], dtype=pl.String),
        )
        joined = table.rename({"cell": "condition"}).join(told, on="condition", how="left", maintain_order="left")
        tables.append(joined.with_columns(about=pl.lit(about_words(asked)), single=pl.lit(bool(single))))
    if not tables:
        return pl.DataFrame()
    single = pl.col("arrangement") == WITHOUT_ONE
    return (
        pl.concat(tables)
        .drop("single")
        .sort("organism", ~single, pl.col("units").list.len(), "layer", maintain_order=True)
    )


def _label(units: list[str], single: bool) -> str:
    """`L21`, with the module behind it where it is no rank-1 adapter of one kind; a set by the runs of its layers."""
    layers = sorted({int(unit.split(".")[1]) for unit in units})
    if single:
        return f"L{layers[0]}"
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return "L" + ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
