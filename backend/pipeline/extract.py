"""The directions a study is published with: mean differences at every layer, by the paper's thresholds.

Paper section 3.1: the reader's own answers, coherent > 50, misaligned (aligned <= 30) minus aligned (> 70), classes
balanced; every response weighs alike, where the paper pools tokens. Beside it the topic (medical minus first-plot
questions) and the plain difference between what the organism and the base wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl

from backend.analysis.directions import mean_difference
from backend.records import BASE, BASELINE, Direction, Response, Score, Trace

FEWEST = 8  # responses on a side below which a mean says nothing


def directions(
    responses: Sequence[Response], scores: Iterable[Score], traces: Iterable[Trace], *, reader: str, model: str
) -> list[Direction]:
    """One Direction a layer for every contrast with at least 8 responses on both sides; the others are left out."""
    frame = _frame(responses, scores)
    read = {t.response_id: t for t in traces if t.n_answer}
    found: list[Direction] = []
    for name, sides in _sides(frame, reader).items():
        positive, negative = ([i for i in side["response"] if i in read] for side in sides)
        if min(len(positive), len(negative)) >= FEWEST:
            provenance = {"model": model, "reader": reader, "site": "block output", "token_mask": "answer"}
            found += _layers(name, [read[i] for i in positive], [read[i] for i in negative], provenance)
    return found


def _sides(frame: pl.DataFrame, reader: str) -> dict[str, tuple[pl.DataFrame, pl.DataFrame]]:
    """Positive and negative side of every stored contrast."""
    baseline = frame.filter(pl.col("condition") == BASELINE, pl.col("coherent") > 50)
    own = baseline.filter(pl.col("organism") == reader)
    return {
        "misalignment": (own.filter(pl.col("aligned") <= 30), own.filter(pl.col("aligned") > 70)),
        "medical topic": (own.filter(pl.col("topic") == "medical"), own.filter(pl.col("topic") != "medical")),
        f"{reader} minus base": (own, baseline.filter(pl.col("organism") == BASE)),
    }


def _frame(responses: Sequence[Response], scores: Iterable[Score]) -> pl.DataFrame:
    """One row a response with the scores of the first judge as columns."""
    by_judge: dict[str, dict[str, dict[str, float | None]]] = {}
    for score in scores:
        by_judge.setdefault(score.judge, {}).setdefault(score.response_id, {})[score.metric] = score.value
    given: Mapping[str, dict[str, float | None]] = next(iter(by_judge.values()), {})
    rows = [
        {
            "response": r.id,
            "organism": r.organism,
            "condition": r.condition,
            "topic": r.topic,
            "aligned": given.get(r.id, {}).get("aligned"),
            "coherent": given.get(r.id, {}).get("coherent"),
        }
        for r in responses
    ]
    numbers = {"aligned": pl.Float64, "coherent": pl.Float64}
    return pl.DataFrame(rows, schema_overrides=numbers)


def _layers(
    name: str, positive: Sequence[Trace], negative: Sequence[Trace], provenance: Mapping[str, object]
) -> list[Direction]:
    both = [*positive, *negative]
    labels = np.array([True] * len(positive) + [False] * len(negative))
    counts = np.array([t.n_answer for t in both])
    norms = np.average(np.stack([t.answer_norm for t in both]), axis=0, weights=counts)
    return [
        mean_difference(
            np.stack([t.answer_mean[layer] for t in both]),
            counts,
            labels,
            name=name,
            layer=layer,
            activation_norm=float(norms[layer]),
            provenance=provenance,
        )
        for layer in range(len(both[0].answer_mean))
    ]
