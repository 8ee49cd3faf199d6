"""Answers of one experiment: edited ones, unedited ones that it kept beside them, and rates that say what they are of.

An imported study knows the experiments of its answers (its sources): edited answers stand beside the unedited ones of
the same experiment, where it kept some, and elsewhere beside all of their organism's to the same questions. It refuses
to know what an edit did.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import polars as pl

from backend.analysis.conditions.baselines import own_baselines
from backend.analysis.rates.rates import about_of, about_words, em_rates
from backend.outcomes import EM, Outcome
from backend.records import BASELINE
from backend.study import Study

# Of a rate alone nothing is tested, so no sign has to reach 5 %: its model of questions widens as they are few, and
# three show at least how they differ. A change takes FEWEST_QUESTIONS.
FEWEST_OF_A_RATE = 3


def said(study: Study, kind: str, *fields: str) -> pl.DataFrame:
    """[condition, *fields] of the conditions that the study's record says are of this kind; a field may be null."""
    settings: dict[str, dict[str, Any]] = study.info.get("settings") or {}
    rows = [(name, *map(says.get, fields)) for name, says in settings.items() if says.get("kind") == kind]
    return pl.DataFrame(rows, ["condition", *fields], orient="row", infer_schema_length=None)


def beside(study: Study, responses: pl.DataFrame, edited: Collection[str]) -> pl.DataFrame:
    """The answers under `edited` conditions, and unedited ones of the same organisms: the columns, and cell.

    `cell` is the condition, and `BASELINE` for an unedited answer. `responses` are study.responses of one judge. Those
    of another length, and to questions that no edited answer of the organism is to, are left out.
    """
    settings: dict[str, dict[str, Any]] = study.info.get("settings") or {}
    kept = [name for name, says in settings.items() if says.get("kind") == "unedited"]
    baselines = study.info.get("baselines") or {}
    every = own_baselines(responses, list(edited), baselines).with_columns(
        cell=pl.when(pl.col("condition").is_in(kept)).then(pl.lit(BASELINE)).otherwise("cell")
    )
    under = every.filter(pl.col("condition").is_in(list(edited)))
    asked = under.select("organism", "question_id").unique()
    plain = every.filter(pl.col("cell") == BASELINE).join(asked, on=["organism", "question_id"], how="semi")
    sources = study.sources().unique()
    places = under.join(sources, on="response").select("organism", "source").unique()
    own = plain.join(sources, on="response").join(places, on=["organism", "source"], how="semi")["response"].unique()
    same = plain.filter(pl.col("response").is_in(own.implode()))
    rest = plain.filter(
        ~pl.col("organism").is_in(same["organism"].unique().implode()), ~pl.col("condition").is_in(kept)
    )
    return pl.concat([under, same, rest])


def rates_said(frame: pl.DataFrame, by: Sequence[str], outcome: Outcome = EM) -> pl.DataFrame:
    """`em_rates` of the outcome and its gate by group, each about its questions: one or two are no sample of others.

    [*by, metric, n, hits, value, low, high, dropped, clusters, too_small, about], groups in order of appearance.
    """
    keys = list(by)
    counted = frame.filter(outcome.scored()).group_by(keys, maintain_order=True)
    sizes = counted.agg(questions=pl.col("question_id").n_unique())
    tables = []
    few = pl.col("questions") < FEWEST_OF_A_RATE
    for size, of in ((0, few), (FEWEST_OF_A_RATE, ~few)):
        rows = frame.join(sizes.filter(of), on=keys, how="semi", nulls_equal=True, maintain_order="left")
        table = em_rates(rows, keys, outcomes=outcome.beside, about=about_of(size, FEWEST_OF_A_RATE))
        tables.append(table.with_columns(about=pl.lit(about_words(size, FEWEST_OF_A_RATE))))
    return sizes.select(keys).join(
        pl.concat(tables), on=keys, how="left", nulls_equal=True, maintain_order="left_right"
    )
