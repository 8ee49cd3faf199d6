"""How much noise on an adapter's matrices an organism's behaviour bears: rates by its size, of every run.

It refuses to know how noise is made: the study's record says to which matrix it was added, and how much.
"""

from __future__ import annotations

import polars as pl

from backend.outcomes import EM, Outcome
from backend.records import BASELINE
from backend.study import Study
from backend.tables.experiments import beside, rates_said, said


def noisy(study: Study, responses: pl.DataFrame, outcome: Outcome = EM) -> pl.DataFrame:
    """Rates by organism, run, matrix and size of the noise: [organism, run, matrix, scale, *columns of rates_said].

    `responses` are study.responses of one judge. A size of 0 has the unedited answers to the same questions, of the
    experiment where it kept some, for either matrix.
    """
    known = said(study, "noise", "matrix", "scale", "run")
    key = ["organism", "run", "matrix", "scale"]
    tables = []
    for (run,), part in known.group_by("run", maintain_order=True) if known.height else ():
        frame = beside(study, responses, part["condition"].to_list())
        edited = frame.join(part, on="condition", how="inner", maintain_order="left")
        plain = frame.filter(pl.col("cell") == BASELINE)
        matrices = edited.select("organism", "matrix").unique(maintain_order=True)
        none = plain.join(matrices, on="organism").with_columns(run=pl.lit(run), scale=pl.lit(0.0))
        rows = pl.concat([none.select(edited.columns), edited])
        tables.append(rates_said(rows.with_columns(pl.col("scale").cast(pl.Float64)), key, outcome))
    return pl.concat(tables).sort(key, maintain_order=True) if tables else pl.DataFrame()
