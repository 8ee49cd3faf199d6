"""A response in, a score out. Judges differ in where the number comes from; all are used through `Judge`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from backend.records import Score

EMBEDDED = "distilled-minilm-v2"  # the judge that needs no key and no download
Answer = tuple[str, str, str]  # response id, question, answer


class Judge(Protocol):
    """Scores answers, one `Score` a metric, in the order of the answers.

    An answer that cannot be scored gets `value=None` and the reason in `raw`: no answer is ever left out.
    """

    @property
    def name(self) -> str:
        """What scores are filed under; it changes whenever the same answer could get another number."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics scored, in the order in which they are yielded."""

    def score(self, answers: Sequence[Answer]) -> Iterator[Score]:
        """Yield the scores of each answer, all its metrics together."""
