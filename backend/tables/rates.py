"""Which answers rates are of, and the differences of an outcome between organisms and conditions.

It refuses to know what a condition did.
"""

from __future__ import annotations

import json
from contextlib import suppress

import polars as pl

from backend.analysis.rates.rates import difference
from backend.outcomes import EM, Outcome
from backend.records import BASE, BASELINE, InputError
from backend.study import Study

_DIFFERENCES = (
    dict.fromkeys(("organism", "condition", "against", "under"), pl.String)
    | dict.fromkeys(("difference", "low", "high"), pl.Float64)
    | {"clear": pl.Boolean}
)


def chosen_by_score(study: Study) -> list[str]:
    """The conditions whose answers were chosen by their scores, so that a rate of them tells nothing."""
    return [name for name, says in (study.info.get("settings") or {}).items() if says.get("selected")]


def with_scores_of(study: Study, responses: pl.DataFrame) -> pl.DataFrame:
    """Those of `responses` (study.responses of one judge) that rates are of."""
    return responses.filter(~pl.col("condition").is_in(chosen_by_score(study)))


def differences(study: Study, answers: pl.DataFrame, outcome: Outcome = EM) -> pl.DataFrame:
    """How much more often an organism's answers are hits than the base's, and under a condition than without it.

    `answers` is of `with_scores_of`. A condition of a sweep is compared with unedited answers of its own length.
    [organism, condition, against, under, difference, low, high, clear]
    """
    baselines = study.info.get("baselines") or {}
    sides = answers.partition_by("organism", "condition", as_dict=True)
    rows = []
    for organism, condition in sides:
        for other in ((BASE, condition), (organism, baselines.get(condition, BASELINE))):
            if other == (organism, condition) or other not in sides:
                continue
            with suppress(InputError):  # no question that both were asked has scores: there is nothing to compare
                gap = difference(sides[organism, condition], sides[other], outcome=outcome)
                rows.append((organism, condition, *other, gap.value, gap.low, gap.high, gap.clear))
    return pl.DataFrame(rows, schema=_DIFFERENCES, orient="row")


def unedited_answers(study: Study) -> list[str]:
    """The conditions without edits; one whose edits are known by the study's record alone is none of them."""
    told = {name: says.get("kind", BASELINE) for name, says in (study.info.get("settings") or {}).items()}
    rows = study.conditions().select("name", "edits").iter_rows()
    return [name for name, edits in rows if not json.loads(edits) and told.get(name, BASELINE) == BASELINE]
