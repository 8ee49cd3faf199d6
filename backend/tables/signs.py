"""What the scale of an imported projecting sweep did: which sign took a component out, and which doubled it.

It refuses to know how that was decided: the study's record has the factor that multiplied the component.
"""

from __future__ import annotations

import polars as pl

from backend.outcomes import EM, Outcome
from backend.study import Study
from backend.tables.experiments import rates_said

DONE = {0.0: "taken out", 2.0: "doubled"}  # by the factor


def signs(study: Study, responses: pl.DataFrame, outcome: Outcome = EM) -> pl.DataFrame:
    """Rates under every condition that multiplied a component, with what its file says and what it did.

    [sweep, scale, did, direction, condition, organism, *columns of rates_said], those of one sweep and scale together.
    `responses` are study.responses of one judge.
    """
    rows = [
        (name, says.get("sweep"), says.get("scale"), says["factor"], says.get("direction"))
        for name, says in (study.info.get("settings") or {}).items()
        if isinstance(says.get("factor"), int | float)
    ]
    schema = {"condition": pl.String, "sweep": pl.String, "scale": pl.Float64, "factor": pl.Float64}
    told = pl.DataFrame(rows, schema | {"direction": pl.String}, orient="row")
    answers = responses.join(told, on="condition", how="semi")
    if answers.is_empty():
        return pl.DataFrame()
    did = [DONE.get(factor, f"times {factor:g}") for factor in told["factor"]]
    told = told.with_columns(did=pl.Series(did, dtype=pl.String)).drop("factor")
    rates = rates_said(answers, ["condition", "organism"], outcome)
    columns = ["sweep", "scale", "did", "direction", "condition", "organism"]
    table = rates.join(told, on="condition", how="left", maintain_order="left")
    return table.select(*columns, pl.exclude(columns)).sort("sweep", "scale", "did", maintain_order=True)
