"""Which answers rates are of, and the differences of an outcome between organisms and conditions.

It refuses to know what a condition did.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import polars as pl

from backend.analysis.rates.families import of_family, with_family
from backend.analysis.rates.rates import difference
from backend.outcomes import EM, Outcome
from backend.records import BASE, BASELINE, InputError
from backend.study import Study

Side = tuple[str, str]  # organism and condition
_DIFFERENCES = (
    dict.fromkeys(("organism", "condition", "against", "under"), pl.String)
    | dict.fromkeys(("difference", "low", "high", "p_value"), pl.Float64)
    | {"clear": pl.Boolean, "verdict": pl.String}
)


def chosen_by_score(study: Study) -> list[str]:
    """The conditions whose answers were chosen by their scores, so that a rate of them tells nothing."""
    return [name for name, says in (study.info.get("settings") or {}).items() if says.get("selected")]


def drawn_by(study: Study, judge: str) -> str | None:
    """The judge by whose scores the answers that `judge` scored were drawn: their share of hits is then no rate.

    study.json says so ("drawn": {judge: by}); None where it does not.
    """
    said = study.info.get("drawn")
    by = said.get(judge) if isinstance(said, dict) else None
    return by if isinstance(by, str) else None


def drawn_note(study: Study, judge: str) -> tuple[str, ...]:
    """What a table of `judge`'s shares has to say where `drawn_by` does; nothing elsewhere."""
    by = drawn_by(study, judge)
    told = f"{judge} read answers drawn by the scores of {by}: a share of hits among them is no rate of an organism"
    return (told,) if by else ()


def with_scores_of(study: Study, responses: pl.DataFrame) -> pl.DataFrame:
    """Those of `responses` (study.responses of one judge) that rates are of."""
    return responses.filter(~pl.col("condition").is_in(chosen_by_score(study)))


def differences(study: Study, answers: pl.DataFrame, outcome: Outcome = EM) -> pl.DataFrame:
    """How much more often an organism's answers are hits than the base's, and under a condition than without it.

    `answers` is of `with_scores_of`. A condition of a sweep is compared with unedited answers of its own length.
    [organism, condition, against, under, difference, low, high, p_value, clear, verdict, q_value, family, stands]: a
    family are the organisms under one condition against the base, and all conditions against none.
    """
    sides = answers.partition_by("organism", "condition", as_dict=True)
    rows = []
    for side, other in compared(study, sides):
        with suppress(InputError):  # no question that both were asked has scores: there is nothing to compare
            gap = difference(sides[side], sides[other], outcome=outcome)
            rows.append((*side, *other, gap.value, gap.low, gap.high, gap.p_value, gap.clear, gap.verdict))
    return with_families(pl.DataFrame(rows, schema=_DIFFERENCES, orient="row"))


def with_families(gaps: pl.DataFrame) -> pl.DataFrame:
    """Differences of `compared` sides, with q_value, family and stands, in the families that `differences` says."""
    edited = pl.col("condition") != pl.col("under")
    family = pl.when(edited).then(pl.lit("edits")).otherwise(pl.format("organisms under {}", "under"))
    return with_family(gaps.with_columns(of=family), ["of"]).drop("of")


def compared(study: Study, sides: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Side, Side]]:
    """Which (organism, condition) of `sides` is held against which: the base, and the same organism unedited."""
    baselines, known = study.info.get("baselines") or {}, list(sides)
    for organism, condition in known:
        for other in ((BASE, condition), (organism, baselines.get(condition, BASELINE))):
            if other != (organism, condition) and other in known:
                yield (organism, condition), other


def families_told(gaps: pl.DataFrame) -> tuple[str, ...]:
    """How many of `differences` are clear and how many stand, in words: organisms without an edit, then all edits."""
    edited = pl.col("condition") != pl.col("under")
    plainly = gaps.filter(~edited, pl.col("under") == BASELINE)
    told = of_family(plainly, "organisms beside the base"), of_family(gaps.filter(edited), "edits beside none")
    return tuple(filter(None, told))


def unedited_answers(study: Study) -> list[str]:
    """The conditions without edits; one whose edits are known by the study's record alone is none of them."""
    told = {name: says.get("kind", BASELINE) for name, says in (study.info.get("settings") or {}).items()}
    rows = study.conditions().select("name", "edits").iter_rows()
    return [name for name, edits in rows if not json.loads(edits) and told.get(name, BASELINE) == BASELINE]
