"""What patching scalars from another prompt does to the answers to a prompt (paper, appendix J).

Every prompt is a question of its own, so each rate and change is of that very prompt. It refuses to know what a scalar
is of: the study's record says from which prompt they were taken, in which run.
"""

from __future__ import annotations

import polars as pl

from backend.analysis.rates.families import with_family
from backend.analysis.rates.rates import THESE_QUESTIONS, difference
from backend.outcomes import EM, Outcome
from backend.records import BASELINE, InputError
from backend.study import Study
from backend.tables.experiments import beside, said

_SCHEMA = (
    dict.fromkeys(("organism", "run", "question_id", "donor", "condition", "metric"), pl.String)
    | dict.fromkeys(("before", "before_low", "before_high"), pl.Float64)
    | {"n_before": pl.Int64}
    | dict.fromkeys(("after", "after_low", "after_high"), pl.Float64)
    | {"n_after": pl.Int64}
    | dict.fromkeys(("difference", "low", "high", "p_value"), pl.Float64)
    | {"clear": pl.Boolean, "verdict": pl.String}
)


def patched(study: Study, responses: pl.DataFrame, outcome: Outcome = EM) -> pl.DataFrame:
    """One row a patched prompt, run and rate: before and after, and the change, with families by rate and run.

    [organism, run, question_id, donor, condition, metric, before, ..., after, ..., difference, low, high, p_value,
    clear, verdict, q_value, family, stands]. `donor` is the prompt whose scalars were taken, null where the record does
    not say. `responses` are study.responses of one judge. A prompt without unedited answers is left out.
    """
    known = said(study, "patch", "run", "donor")
    rows = []
    for (run,), part in known.group_by("run", maintain_order=True) if known.height else ():
        frame = beside(study, responses, part["condition"].to_list())
        sides = frame.partition_by("organism", "question_id", "cell", as_dict=True)
        donors = dict(part.select("condition", "donor").iter_rows())
        for (organism, question, cell), after in sides.items():
            before = sides.get((organism, question, BASELINE))
            if cell == BASELINE or before is None:
                continue
            for each in outcome.beside:
                try:
                    found = difference(after, before, outcome=each, about=THESE_QUESTIONS)
                except InputError:
                    continue  # nobody scored either side
                sides_told = [part for side in (found.b, found.a) for part in (side.value, side.low, side.high, side.n)]
                ends = (found.value, found.low, found.high, found.p_value, found.clear, found.verdict)
                rows.append((organism, run, question, donors[cell] or None, cell, each.name, *sides_told, *ends))
    return with_family(pl.DataFrame(rows, _SCHEMA, orient="row"), ["run", "metric"])
