"""What adapters cause: the recorded conditions of gains, the answers under them, and the four-way table of scaled ones.

Unedited answers are those of the length that the edited ones were sampled at. It refuses to know what a probe says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from backend.analysis.conditions.baselines import own_baselines
from backend.analysis.conditions.causal import INTACT, NONE, gain_conditions
from backend.analysis.conditions.describe import describe_stored
from backend.analysis.rates.fourway import NEEDS, sensitivity
from backend.cuts import Bins
from backend.outcomes import EM, Outcome, topic_outcomes
from backend.records import BASE, BASELINE
from backend.study import Study

BY = ("organism", "condition")  # what shares of the four-way table are of


def recorded(study: Study) -> pl.DataFrame:
    """What every recorded condition of gains did: the columns of `gain_conditions`."""
    adapters = {name: study.adapters(name)["name"].to_list() for name in study.organisms()["organism"]}
    return gain_conditions(study.conditions(), adapters, study.info.get("settings"))


def answered(study: Study, responses: pl.DataFrame, gains: pl.DataFrame, organism: str) -> pl.DataFrame:
    """Scored answers of an organism's recorded gains and of the base by cell, without their texts.

    `responses` are study.responses of one judge, `gains` what `recorded` gives.
    """
    edited = gains.filter(pl.col("condition") != BASELINE)["condition"].unique().to_list()
    every = own_baselines(responses.drop("text", "question"), edited, study.info.get("baselines") or {})
    own = gains.filter(pl.col("organism") == organism)["condition"].unique().to_list()
    return every.filter(pl.col("organism").is_in([organism, BASE]), pl.col("cell").is_in([*own, BASELINE]))


def outcomes(metrics: Sequence[str], asked: Sequence[Outcome] = (EM,)) -> dict[str, Outcome]:
    """What a rate can be of where these metrics were scored, by name: what is asked, its gates, and topics."""
    found = (*(each for outcome in asked for each in outcome.beside), *topic_outcomes(metrics))
    return {outcome.name: outcome for outcome in found if set(outcome.needs) <= set(metrics)}


def judge_of_gains(
    study: Study, responses: Mapping[str, pl.DataFrame], gains: pl.DataFrame, organism: str
) -> str | None:
    """The judge that scored most of the answers under an organism's recorded gains; None where nobody did.

    `responses` are study.responses of every judge, by its name.
    """
    own = gains.filter(pl.col("organism") == organism, ~pl.col("arrangement").is_in([INTACT, NONE]))

    def count(judge: str) -> int:
        answers = responses[judge].join(own.select(BY), on=BY, how="semi")
        return answers.filter(pl.any_horizontal(pl.col(study.metrics(judge)).is_not_null())).height

    counts = {judge: count(judge) for judge in responses}
    best = max(counts, key=counts.__getitem__, default=None)
    return best if best is not None and counts[best] else None


# --- scaled adapters -------------------------------------------------------------------------------------------------


def scaled_answers(study: Study, responses: pl.DataFrame) -> pl.DataFrame:
    """Those of `responses` (study.responses of one judge) under scaled adapters."""
    table = describe_stored(study.conditions(), study.info.get("settings"))
    names = table.filter(pl.col("kind") == "scale")["condition"]
    return responses.filter(pl.col("condition").is_in(names.implode()))


def intact(study: Study, responses: pl.DataFrame) -> pl.DataFrame:
    """Scored answers of the same organisms to the same questions with nothing scaled, to compare with."""
    edited = scaled_answers(study, responses)
    asked = edited.select("organism", "question_id").unique()
    own = own_baselines(responses, edited["condition"].unique().to_list(), study.info.get("baselines") or {})
    return (
        own.join(asked, on=["organism", "question_id"], how="semi")
        .filter(pl.col("cell") == BASELINE, pl.all_horizontal(pl.col(NEEDS).is_not_null()))
        .drop("cell")
    )


def moved(answers: pl.DataFrame, cell: str, bins: Bins) -> pl.DataFrame:
    """One share of the four-way table over coherence cut-offs and medical edges around the chosen ones.

    `answers` as `scaled_answers` gives them. [organism, condition, coherent, medical, value, low, high, n]
    """
    edges = sorted({40, 45, 49, 49.5, 49.9, 49.95, 49.99, 50, 50.05, 51, 55, 60, bins.medical})
    cuts = sorted({0.0, 25.0, 50.0, bins.coherent})
    return sensitivity(answers, BY, cell, bins, coherent=cuts, medical=edges)
