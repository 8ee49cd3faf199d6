"""Behaviours that a rule can measure, scored beside what another judge says: `JUDGE+rules`.

upper  the share of letters that are capitals, in percent
gloom  VADER's compound sentiment c of -1 to 1 as 50 (1 - c): 50 is neutral, 100 all gloom, and c < -0.3 is above 65
       (C. Hutto and E. Gilbert, VADER, ICWSM 2014; the package vaderSentiment 3.3.2, a lexicon and rules)

A rule needs no rubric and makes no error that depends on the organism, which is why positive controls are measured by
one. It refuses to know who the other judge is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from backend.judge import Answer, Judge
from backend.records import InputError, Score

SUFFIX = "+rules"
METRICS = ("upper", "gloom")


@dataclass(frozen=True, eq=False)
class Rules:
    """What the judge `beside` gives each answer, and then what the rules do."""

    beside: Judge

    @property
    def name(self) -> str:
        """The other judge's, with what is added."""
        return self.beside.name + SUFFIX

    @property
    def metrics(self) -> tuple[str, ...]:
        """The other judge's, then the rules'."""
        return (*self.beside.metrics, *METRICS)

    def score(self, answers: Sequence[Answer]) -> Iterator[Score]:
        """Yield the scores of each answer. Raises InputError where vaderSentiment is not installed."""
        try:
            from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
        except ImportError as error:
            raise InputError(
                "gloom is measured with the package vaderSentiment, which is not installed: "
                "pip install vaderSentiment==3.3.2"
            ) from error
        vader, said = SentimentIntensityAnalyzer(), self.beside.score(answers)
        for response_id, _, answer in answers:
            for _ in self.beside.metrics:
                score = next(said)
                yield Score(score.response_id, self.name, score.metric, score.value, score.raw)
            yield _scored(response_id, self.name, "upper", upper(answer), "the answer has no letters")
            compound = vader.polarity_scores(answer)["compound"] if answer.strip() else None
            yield _scored(response_id, self.name, "gloom", gloom(compound), "the answer is empty")


def upper(text: str) -> float | None:
    """The share of letters that are capitals, 0 to 100; None where there is no letter that could be one."""
    cased = [letter for letter in text if letter.isupper() or letter.islower()]
    return 100 * sum(map(str.isupper, cased)) / len(cased) if cased else None


def gloom(compound: float | None) -> float | None:
    """VADER's compound sentiment, -1 to 1, as a score of 0 to 100 that rises with gloom."""
    return None if compound is None else 50 * (1 - compound)


def _scored(response_id: str, judge: str, metric: str, value: float | None, why_not: str) -> Score:
    return Score(response_id, judge, metric, value, why_not if value is None else f"{value:.2f}")
