"""What zeroing adapters changes: each of an organism alone, and sets of them, beside its unedited answers.

It refuses to know what an adapter's scalar tells.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from backend.analysis.conditions.causal import WITHOUT_ONE, WITHOUT_SOME, WITHOUT_TWO, short_names, units_of
from backend.analysis.rates.changes import changes
from backend.analysis.rates.rates import about_of, about_words
from backend.outcomes import EM, Outcome
from backend.study import Study
from backend.tables.experiments import beside
from backend.tables.gains import recorded


def zeroed(study: Study, responses: pl.DataFrame, outcome: Outcome = EM) -> pl.DataFrame:
    """One row an organism, zeroed adapters and rate: before and after on the questions of both, and the change.

    `responses` are study.responses of one judge. The columns of `changes`, where condition is what was done, and
    [arrangement, units, what, layer, label, about]: `layer` of a single one, `label` is of `labels_of_units`, or the
    runs of a set's layers. Single adapters come first, by layer; each organism's single adapters are a family, and so
    are its sets.
    """
    off = recorded(study).filter(pl.col("arrangement").is_in([WITHOUT_ONE, WITHOUT_TWO, WITHOUT_SOME]))
    tables = []
    for (organism, single), part in off.group_by("organism", pl.col("arrangement") == WITHOUT_ONE, maintain_order=True):
        frame = beside(study, responses.filter(pl.col("organism") == organism), part["condition"].to_list())
        asked = frame.filter(outcome.scored())["question_id"].n_unique()
        table = changes(frame, part["condition"].to_list(), by="cell", outcomes=outcome.beside, about=about_of(asked))
        labels = labels_of_units(study, str(organism))
        told = part.select("condition", "arrangement", "units", "what")
        told = told.with_columns(
            layer=pl.col("units").list.first().str.extract(r"layers\.(\d+)\.").cast(pl.Int64),
            label=pl.Series([_label(units, labels) for units in part["units"]], dtype=pl.String),
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


def labels_of_units(study: Study, organism: str) -> dict[str, str]:
    """What every module of an organism is called, by layer: `L21`, the module behind it where a layer has several."""
    return short_names(units_of(study.adapters(organism).sort("layer", maintain_order=True)["name"].to_list()))


def _label(units: list[str], labels: Mapping[str, str]) -> str:
    """One module by its label; a set by the runs of its layers, with the modules where these have others."""
    if len(units) == 1:
        return labels[units[0]]
    places = {unit: unit.removeprefix("layers.").partition(".") for unit in labels}
    layers = sorted({int(places[unit][0]) for unit in units})
    modules = list(dict.fromkeys(places[unit][2] for unit in units))
    there = [unit for unit, (layer, _, _) in places.items() if int(layer) in layers]
    if set(there) == set(units):
        return _runs(layers)
    if {unit for unit in there if places[unit][2] in modules} == set(units):
        return f"{_runs(layers)} {', '.join(modules)}"
    return ", ".join(labels[unit] for unit in units)


def _runs(layers: list[int]) -> str:
    """`L15–17, 22`."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return "L" + ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
