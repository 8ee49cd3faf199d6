"""How much noise on an adapter's matrices an organism's behaviour bears: rates by its size, of every run.

It refuses to know how noise is made: the study's record says to which matrix it was added, and how much.
"""

from __future__ import annotations

import polars as pl

from backend.analysis.rates.changes import changes
from backend.analysis.rates.families import with_family
from backend.analysis.rates.rates import about_of, about_words
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


def noise_changes(study: Study, responses: pl.DataFrame, outcome: Outcome = EM) -> pl.DataFrame:
    """What noise of every size changed, on the questions that were asked with and without it.

    [organism, run, matrix, scale, *columns of `changes`, about]: each about its own questions; the sizes of a run and
    an organism are a family, by rate. A size without unedited answers is left out. `responses` as in `noisy`.
    """
    known = said(study, "noise", "matrix", "scale", "run").with_columns(pl.col("scale").cast(pl.Float64))
    tables = []
    for (run,), part in known.group_by("run", maintain_order=True) if known.height else ():
        frame = beside(study, responses, part["condition"].to_list())
        asked = frame.filter(pl.col("cell") != BASELINE, outcome.scored()).group_by("organism", "cell")
        for organism, cell, count in asked.agg(pl.col("question_id").n_unique()).sort("organism", "cell").iter_rows():
            own = frame.filter(pl.col("organism") == organism)
            found = changes(own, [cell], by="cell", outcomes=outcome.beside, about=about_of(count))
            tables.append(found.with_columns(about=pl.lit(about_words(count)), run=pl.lit(run)))
    if not tables:
        return pl.DataFrame()
    places = known.select("matrix", "scale", "run", cell="condition")
    table = pl.concat(tables).join(places, on=["run", "cell"], how="inner", maintain_order="left").drop("cell")
    key = ["organism", "run", "matrix", "scale"]
    return with_family(table.select(*key, pl.exclude(key)), ["organism", "run", "metric"]).sort(
        key, maintain_order=True
    )
