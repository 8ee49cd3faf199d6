"""Contrasts made to order, and who is on which side of one.

It refuses to know where scores are cut (backend/outcomes.py) and what is done with the labels.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import polars as pl

from backend.cuts import Thresholds
from backend.outcomes import CONTRASTS, EM, Band, Contrast, Is, IsNot, Outcome, above, below, clear, misalignment
from backend.records import InputError


def organisms(positive: str, negative: str = "base") -> Contrast:
    """What one organism said against what another (the base) said."""
    return Contrast(
        f"{positive} vs {negative}", (Is("organism", positive),), (Is("organism", negative),), positive, negative
    )


def topics(positive: str, negative: str) -> Contrast:
    """Answers to the questions of one topic against those of another."""
    sides = (Is("topic", positive),), (Is("topic", negative),)
    return Contrast(f"topic {positive} vs {negative}", *sides, positive, negative)


def outcome_answers(
    outcome: Outcome, cut: Thresholds | None = None, topic: str | None = None, columns: Collection[str] = ()
) -> Contrast:
    """The two classes of an outcome, all of them or those on a topic; those of EM are cut where `cut` says."""
    whole = misalignment(cut) if outcome == EM else outcome.contrast
    return on_topic(whole, topic, cut, columns) if topic else whole


def on_topic(contrast: Contrast, topic: str, cut: Thresholds | None = None, columns: Collection[str] = ()) -> Contrast:
    """A contrast among the answers on a topic; what that is, `topic_answers` says."""
    on, _ = _on_and_off(topic, cut or Thresholds(), columns)
    return replace(contrast.within((on,)), name=f"{contrast.name}, {topic}")


def topic_answers(
    topic: str, cut: Thresholds | None = None, columns: Collection[str] = (), *, outcome: Outcome = EM
) -> Contrast:
    """Answers on a topic against answers that are not, of those that pass the outcome's gate (of EM where `cut` says).

    By the judge's score of the topic where `columns` (of the table of responses) has it, else by the question's topic.
    """
    cut = cut or Thresholds()
    on, off = _on_and_off(topic, cut, columns)
    gate = clear(cut) if outcome == EM else outcome.gate
    return Contrast(f"{topic} topic", (on,), (off,), topic, f"not {topic}").within(() if gate is None else (gate,))


def _on_and_off(topic: str, cut: Thresholds, columns: Collection[str]) -> tuple[Band | Is, Band | IsNot]:
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
