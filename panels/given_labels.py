"""Labels that were given on the Judges page: where they are kept, and what they are as one more judge.

They lie beside the builds of a study, so that a new build keeps them. It refuses to know how they are given.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from backend.outcomes import Outcome
from backend.study import Study
from backend.study.labels import Label, label_scores, read_labels
from backend.tables.corrected import Labels
from panels.frame import responses_of

GIVEN_HERE = "labels given here"


def labels_file(study: Study) -> Path:
    """Where labels of this study are kept: beside its builds, so that a new build keeps them."""
    return study.path.parent / "labels.jsonl"


def given_here(study: Study, outcome: Outcome) -> list[Labels]:
    """The labels given on the page, by how their answers were drawn; none that lack what the outcome needs."""
    kept = read_labels(labels_file(study))
    found = []
    for drawn in dict.fromkeys(label.drawn for label in kept):
        name = f"{GIVEN_HERE}, drawn by {drawn}" if drawn else GIVEN_HERE
        frame = _frame(study, [label for label in kept if label.drawn == drawn], name)
        if set(outcome.needs) <= set(frame.columns):
            found.append(Labels(name, frame, drawn or None))
    return found


def _frame(study: Study, labels: list[Label], name: str) -> pl.DataFrame:
    """Every answer with what the labels say of it; without a column of scores where all were skipped."""
    rows = [(s.response_id, s.metric, s.value) for s in label_scores(labels, name)]
    if not rows:
        return responses_of(study)
    given = pl.DataFrame(rows, ["response", "metric", "value"], orient="row").pivot(
        "metric", index="response", values="value", aggregate_function="last"
    )
    return responses_of(study).join(given, on="response", how="left", maintain_order="left")
