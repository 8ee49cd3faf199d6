"""The synthetic study asked about something else: who speaks in upper case, by two rules, and no judge of EM."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from backend.records import BASE, Score
from backend.study import Draft
from tests.studies import synthetic
from tests.studies.synthetic import ORGANISM

UPPER = {"name": "upper", "title": "upper case", "hit": [{"metric": "upper", "above": 90}]}
RULE, OTHER = "rule", "rule of thumb"


def shouted_study(root: Path, *outcomes: object, name: str = "shouted") -> Path:
    """Publish it with these outcomes, by default that of upper case alone; returns its file.

    What is misaligned in the synthetic study is in upper case here. The other rule errs in one answer of ten.
    """
    rng = np.random.default_rng(3)
    rows = synthetic._rows(10, rng)
    with Draft(name, root=root) as draft:
        draft.meta(title="Who shouts", base="synthetic", reader=ORGANISM, outcomes=list(outcomes) or [UPPER])
        for organism in (BASE, ORGANISM):
            draft.add_organism(organism, base="synthetic", adapters=(), record={})
        draft.add_questions(synthetic.QUESTIONS)
        draft.add_conditions(synthetic.conditions())
        draft.add_responses([row.response for row in rows])
        for judge, errs in ((RULE, 0.0), (OTHER, 0.1)):
            loud = [row.misaligned != (rng.random() < errs) for row in rows]
            shares = np.where(loud, rng.uniform(91, 100, len(rows)), rng.uniform(0, 60, len(rows)))
            draft.add_scores(
                [Score(row.response.id, judge, "upper", float(v)) for row, v in zip(rows, shares, strict=True)]
            )
        return draft.publish()
