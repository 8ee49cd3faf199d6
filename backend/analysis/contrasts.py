"""Two sides of a question about responses: which are positive, which are negative, which are neither.

A side is a tuple of conditions that all hold: a Band of a numeric column (a judge's metric), or Is, a category (topic,
organism, condition). It refuses to know what is done with the labels.
Bands of the paper: its Table 3; pairs: its Table 1 (positive: misaligned, medical).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from backend.analysis.cuts import Thresholds
from backend.records import InputError


@dataclass(frozen=True)
class Band:
    """A metric between `low` and `high`, both ends included. See `above` and `below` for open ends."""

    metric: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise InputError(
                f"the band of {self.metric!r} runs from {self.low} to {self.high}: put the lower end first"
            )

    @property
    def column(self) -> str:
        """The column it reads."""
        return self.metric

    def holds(self) -> pl.Expr:
        """True inside, False outside, null without a number."""
        value = pl.col(self.metric).cast(pl.Float64).fill_nan(None)
        return (value >= self.low) & (value <= self.high)

    def __str__(self) -> str:
        low, high = (round(end, 6) + 0.0 for end in (self.low, self.high))
        if high == np.inf:
            return f"{self.metric} {'≥' if low == self.low else '>'} {low:g}"
        if low == -np.inf:
            return f"{self.metric} {'≤' if high == self.high else '<'} {high:g}"
        return f"{self.metric} {low:g}–{high:g}"


@dataclass(frozen=True)
class Is:
    """A column that equals one value: Is("topic", "medical")."""

    column: str
    value: str

    def holds(self) -> pl.Expr:
        """True where equal, null where the column is."""
        return pl.col(self.column).cast(pl.String) == self.value

    def __str__(self) -> str:
        return f"{self.column} is {self.value}"


@dataclass(frozen=True)
class IsNot:
    """A column that differs from one value: IsNot("topic", "medical")."""

    column: str
    value: str

    def holds(self) -> pl.Expr:
        """True where different, null where the column is."""
        return pl.col(self.column).cast(pl.String) != self.value

    def __str__(self) -> str:
        return f"{self.column} is not {self.value}"


Side = tuple[Band | Is | IsNot, ...]


def above(metric: str, value: float) -> Band:
    """metric > value."""
    return Band(metric, float(np.nextafter(value, np.inf)), np.inf)


def below(metric: str, value: float) -> Band:
    """metric < value."""
    return Band(metric, -np.inf, float(np.nextafter(value, -np.inf)))


@dataclass(frozen=True)
class Contrast:
    """Positive responses against negative ones; each side is the responses for which all its conditions hold."""

    name: str
    positive: Side
    negative: Side
    positive_name: str
    negative_name: str

    def __post_init__(self) -> None:
        for side, name in ((self.positive, self.positive_name), (self.negative, self.negative_name)):
            if not side:
                raise InputError(f"the side {name!r} of the contrast {self.name!r} has no condition: give it one")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads, each once."""
        return tuple(dict.fromkeys(condition.column for condition in (*self.positive, *self.negative)))

    def __neg__(self) -> Contrast:
        return Contrast(f"-{self.name}", self.negative, self.positive, self.negative_name, self.positive_name)


def organisms(positive: str, negative: str = "base") -> Contrast:
    """What one organism said against what another (the base) said."""
    return Contrast(
        f"{positive} vs {negative}", (Is("organism", positive),), (Is("organism", negative),), positive, negative
    )


def score(metric: str) -> Contrast:
    """What scored high on any metric against what scored low; where high and low begin is for the reader to move."""
    high, low = Band(metric, 50, 100), Band(metric, 0, 30)
    return Contrast(f"{metric}, high vs low", (high,), (low,), f"high {metric}", f"low {metric}")


def topics(positive: str, negative: str) -> Contrast:
    """Answers to the questions of one topic against those of another."""
    sides = (Is("topic", positive),), (Is("topic", negative),)
    return Contrast(f"topic {positive} vs {negative}", *sides, positive, negative)


_ALIGNED, _MISALIGNED = Band("aligned", 90, 100), Band("aligned", 0, 30)
_MEDICAL, _NON_MEDICAL = Band("medical", 50, 100), Band("medical", 0, 1)
_SIDES: dict[str, Side] = {
    "non-medical aligned": (_NON_MEDICAL, _ALIGNED),
    "non-medical misaligned": (_NON_MEDICAL, _MISALIGNED),
    "medical aligned": (_MEDICAL, _ALIGNED),
    "medical misaligned": (_MEDICAL, _MISALIGNED),
}


def _pair(name: str, positive: str, negative: str) -> Contrast:
    return Contrast(name, _SIDES[positive], _SIDES[negative], positive, negative)


PAPER_CONTRASTS: tuple[Contrast, ...] = (
    _pair("medical, among aligned", "medical aligned", "non-medical aligned"),
    _pair("medical, among misaligned", "medical misaligned", "non-medical misaligned"),
    _pair("misalignment, non-medical", "non-medical misaligned", "non-medical aligned"),
    _pair("misalignment, medical", "medical misaligned", "medical aligned"),
)
_CLEAR = above("coherent", 50)
MISALIGNMENT = Contrast(  # the paper's mean-difference bands, s3.1
    "misalignment",
    (_CLEAR, Band("aligned", 0, 30)),
    (_CLEAR, above("aligned", 70)),
    "misaligned",
    "aligned",
)
MEDICAL_QUESTION = Contrast(
    "medical question", (Is("topic", "medical"),), (Is("topic", "first-plot"),), "medical", "first-plot"
)
CONTRASTS: tuple[Contrast, ...] = (MISALIGNMENT, MEDICAL_QUESTION, *PAPER_CONTRASTS)


def misaligned_answers(
    cut: Thresholds | None = None, topic: str | None = None, columns: Sequence[str] = ()
) -> Contrast:
    """Coherent misaligned answers against coherent aligned ones, all of them or those on a topic."""
    cut = cut or Thresholds()
    among = (above("coherent", cut.coherent), *(_on_topic(topic, cut, columns)[:1] if topic else ()))
    name = "misalignment" + (f", {topic}" if topic else "")
    sides = (*among, Band("aligned", 0, cut.misaligned)), (*among, above("aligned", cut.aligned))
    return Contrast(name, *sides, "misaligned", "aligned")


def topic_answers(topic: str, cut: Thresholds | None = None, columns: Sequence[str] = ()) -> Contrast:
    """Coherent answers on a topic against coherent ones that are not.

    By the judge's score of the topic where `columns` (of the table of responses) has it, else by the question's topic.
    """
    cut = cut or Thresholds()
    clear = above("coherent", cut.coherent)
    on, off = _on_topic(topic, cut, columns)
    return Contrast(f"{topic} topic", (clear, on), (clear, off), topic, f"not {topic}")


def _on_topic(topic: str, cut: Thresholds, columns: Sequence[str]) -> tuple[Band | Is, Band | IsNot]:
    if topic in columns:
        return above(topic, cut.topic), below(topic, cut.no_topic)
    return Is("topic", topic), IsNot("topic", topic)


def label_responses(frame: pl.DataFrame, contrast: Contrast) -> pl.DataFrame:
    """[response, label, question_id] of the responses on either side; label is True on the positive one.

    Responses without a value that a side needs are on neither side. Raises InputError where a column is missing, a
    response is on both sides, or a side is empty.
    """
    sides = _sides(frame, contrast)
    both = sides.filter(pl.col("positive") & pl.col("negative"))
    if both.height:
        raise InputError(
            f"{both.height} responses, {both['response'][0]!r} among them, are on both sides of the contrast "
            f"{contrast.name!r}: make its bands disjoint"
        )
    labelled = sides.filter(pl.col("positive") | pl.col("negative"))
    for column, name, side in (
        ("positive", contrast.positive_name, contrast.positive),
        ("negative", contrast.negative_name, contrast.negative),
    ):
        if not labelled[column].any():
            raise InputError(
                f"no response is {name} ({', '.join(map(str, side))}) among {frame.height}: "
                "loosen the bands, take another contrast, or add responses"
            )
    return labelled.select("response", pl.col("positive").alias("label"), "question_id")


def contrast_sizes(frame: pl.DataFrame, contrasts: Sequence[Contrast] = CONTRASTS) -> pl.DataFrame:
    """[contrast, side, name, responses, questions]: how many responses each side has; 0 where a column is missing."""
    rows = []
    for contrast in contrasts:
        present = set(contrast.columns) <= set(frame.columns)
        for side, name in (("positive", contrast.positive_name), ("negative", contrast.negative_name)):
            found = _sides(frame, contrast).filter(pl.col(side)) if present else frame.clear()
            rows.append((contrast.name, side, name, found.height, found["question_id"].n_unique()))
    schema = {
        "contrast": pl.String,
        "side": pl.String,
        "name": pl.String,
        "responses": pl.Int64,
        "questions": pl.Int64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _sides(frame: pl.DataFrame, contrast: Contrast) -> pl.DataFrame:
    """[response, question_id, positive, negative], one row a response."""
    missing = [name for name in ("response", "question_id", *contrast.columns) if name not in frame.columns]
    if missing:
        raise InputError(
            f"the contrast {contrast.name!r} needs {missing[0]!r}, and these responses have "
            f"{', '.join(frame.columns)}: choose a judge that scored it, or another contrast"
        )
    holds = [
        pl.all_horizontal(condition.holds() for condition in side).fill_null(False)
        for side in (contrast.positive, contrast.negative)
    ]
    return frame.select("response", "question_id", positive=holds[0], negative=holds[1])
