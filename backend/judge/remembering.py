"""A judge that remembers: every score is on file as soon as it is made, and what is on file is not made again.

Knows scores by the judge's `digest`, metric, question and answer, so that a changed answer or changed weights are
judged anew and a run that was killed goes on where it stopped. The API judge keeps its replies by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.judge import Answer, Judge
from backend.judge.replies import Replies, file_name, reply_key
from backend.records import Score

SLICE = 64  # answers judged together


@dataclass(frozen=True, eq=False)
class Remembering:
    """The judge `judge`, asked only for what it has not said before. `digest` changes whenever its scores could."""

    judge: Judge
    digest: str
    folder: Path

    @property
    def name(self) -> str:
        """The judge's."""
        return self.judge.name

    @property
    def metrics(self) -> tuple[str, ...]:
        """The judge's."""
        return self.judge.metrics

    @property
    def path(self) -> Path:
        """Where its scores are kept."""
        return self.folder / f"{file_name(self.name)}.jsonl"

    def score(self, answers: Sequence[Answer]) -> Iterator[Score]:
        """Yield the scores in order; each is on file before it is yielded."""
        with Replies(self.path) as kept:
            for start in range(0, len(answers), SLICE):
                yield from self._score(answers[start : start + SLICE], kept)

    def _score(self, answers: Sequence[Answer], kept: Replies) -> Iterator[Score]:
        keys = {
            (response_id, metric): reply_key(self.digest, metric, question, answer)
            for response_id, question, answer in answers
            for metric in self.metrics
        }
        new = [answer for answer in answers if any(_score(kept, keys[answer[0], m]) is None for m in self.metrics)]
        for score in self.judge.score(new):
            key = keys[score.response_id, score.metric]
            if _score(kept, key) is None:
                kept.keep(key, {"metric": score.metric, "value": score.value, "raw": score.raw})
        for response_id, _, _ in answers:
            for metric in self.metrics:
                value, raw = _score(kept, keys[response_id, metric]) or (None, "the judge gave no score")
                yield Score(response_id, self.name, metric, value, raw)


def _score(kept: Replies, key: str) -> tuple[float | None, str] | None:
    """(value, raw) on file; None where there is none, or a line that no judge wrote."""
    said = kept.get(key) or {}
    value, raw = said.get("value"), said.get("raw")
    number = isinstance(value, int | float) and math.isfinite(value)
    return (value, raw) if isinstance(raw, str) and (number or ("value" in said and value is None)) else None
