"""What every condition changed against the same organism without it: a table of paired differences.

Counts answers by question once and compares counts, so that hundreds of conditions cost little more than one.
It refuses to know what a condition did.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import polars as pl

from backend.analysis.rates.families import with_family
from backend.analysis.rates.rates import (
    SIMILAR_QUESTIONS,
    Difference,
    Estimand,
    difference_of_counts,
    question_counts,
)
from backend.outcomes import EM, Outcome
from backend.records import BASELINE, InputError

_SCHEMA = {
    "metric": pl.String,
    **dict.fromkeys(("before", "before_low", "before_high"), pl.Float64),
    "n_before": pl.Int64,
    **dict.fromkeys(("after", "after_low", "after_high"), pl.Float64),
    "n_after": pl.Int64,
    **dict.fromkeys(("difference", "low", "high", "p_value"), pl.Float64),
    "questions": pl.Int64,
    "clear": pl.Boolean,
    "verdict": pl.String,
}


def changes(
    frame: pl.DataFrame,
    edited: Collection[str],
    *,
    by: str = "condition",
    outcomes: Sequence[Outcome] = EM.beside,
    about: Estimand = SIMILAR_QUESTIONS,
) -> pl.DataFrame:
    """One row an organism, edit and outcome: the rate before and after, on the questions of both, and between.

    `frame` is a table of responses with scores. `by` is its column that names what is compared: "condition", or "cell"
    where conditions are counted together. Each of `edited` is compared with `BASELINE`; those without a baseline, or
    without a shared question that was scored on both sides, are left out. `clear`: the interval leaves out zero;
    `verdict`: one of VERDICTS; q_value, family and stands: the cell among all rows of its outcome (families.py).
    """
    answers = frame.filter(pl.col(by).is_in([*edited, BASELINE]))
    table = []
    for outcome in outcomes:
        counted = question_counts(answers, ["organism", by], outcome)
        parts = counted.partition_by("organism", by, as_dict=True, include_key=False)
        for (organism, name), after in parts.items():
            before = parts.get((organism, BASELINE))
            if name == BASELINE or before is None:
                continue
            try:
                found = difference_of_counts(after, before, about=about)
            except InputError:
                continue  # no question was scored on both sides
            table.append((organism, name, outcome.name, *_row(found)))
    rows = pl.DataFrame(table, schema={"organism": pl.String, by: pl.String, **_SCHEMA}, orient="row")
    return with_family(rows, ["metric"])


def _row(found: Difference) -> tuple[float | int | bool | str, ...]:
    sides = [part for side in (found.b, found.a) for part in (side.value, side.low, side.high, side.n)]
    ends = (found.value, found.low, found.high, found.p_value)
    return (*sides, *ends, found.a.clusters, found.clear, found.verdict)
