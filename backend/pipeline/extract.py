"""Directions out of responses: mean differences at every layer, with what one must know to believe them.

Paper section 3.1: an organism's own answers, one class of an outcome minus the other (misaligned minus aligned). Both
classes weigh alike, and every response in its class, unless balance and pooling say otherwise (the paper's:
"truncation" and "token"). The mask is the answer: what the model generated, without header and end of turn (the paper's
code counts both). Three kinds (paper 1.3):

data   two sets of texts, both read by the organism
model  one set of texts, read by the organism and by the base
both   the positive texts read by the organism, the negative ones by the base

Every direction carries its provenance: model, readers, layer, site, mask, n and tokens on each side, questions and how
many of them have answers of both classes, pooling and balance, what positive means, and how stable it is (cosine
between halves of the questions; bootstrap). The control is labels shuffled within questions: what is left of a
direction then comes with the questions that its classes answer (docs/directions.md). It refuses to know where readings
come from: a published study, or a run of the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backend.analysis.contrasts import label_responses
from backend.analysis.directions.answers import Answers, Balance, Means, Pooling, truncate_larger_class
from backend.analysis.directions.difference import MeanDifference, bootstrap_cosine, stability
from backend.analysis.estimates import Estimate
from backend.analysis.groups import groups_with
from backend.outcomes import EM, Contrast, Is, IsNot, Outcome, Side
from backend.records import BASE, BASELINE, SHUFFLED, Direction, FloatArray, InputError, Origin, Response, Score, Trace
from backend.study import Study
from backend.study.responses import scored

FEWEST = 8  # responses on a side below which a built study keeps no direction
SMALLEST = 1e-5  # of the activation norm, below which a difference is rounding (layers below the first adapter)
FEWEST_QUESTIONS = 4  # with both classes on either side, to split by question


@dataclass(frozen=True, eq=False)
class Reading:
    """The mean residual stream over the answer tokens of responses, at every layer, as one organism read them."""

    reader: str
    responses: tuple[str, ...]
    means: FloatArray  # (layer, response, d_model)
    counts: NDArray[np.int32]  # (response,) answer tokens
    norms: FloatArray  # (layer,) mean norm of the residual stream over answer tokens; NaN where it is unknown
    layers: tuple[int, ...]

    def at(self, layers: Sequence[int]) -> FloatArray:
        """The means of some layers, (layer, response, d_model)."""
        return self.means[[self.layers.index(layer) for layer in layers]]


def study_reading(study: Study, reader: str) -> Reading:
    """What a published study holds of one reader, at all its layers. Raises InputError where that is nothing."""
    layers = study.residual_layers(reader)
    if not layers:
        raise InputError(f"the study {study.name!r} holds no residual means read by {reader!r}: trace its responses")
    found = [study.residual_means(reader, layer) for layer in layers]
    first = found[0]
    if any(other.responses != first.responses for other in found):
        shared = set(first.responses).intersection(*(other.responses for other in found))
        rows = [[i for i, name in enumerate(other.responses) if name in shared] for other in found]
    else:
        rows = [list(range(len(first.responses)))] * len(found)
    norms = study.activation_norm(reader)
    return Reading(
        reader,
        tuple(first.responses[i] for i in rows[0]),
        np.stack([other.means[own] for other, own in zip(found, rows, strict=True)]),
        first.counts[rows[0]],
        norms if len(norms) == len(layers) else np.full(len(layers), np.nan, dtype=np.float32),
        tuple(layers),
    )


def traces_reading(traces: Iterable[Trace], reader: str) -> Reading:
    """Traces of one reader as a reading; answers without tokens are left out."""
    read = [t for t in traces if t.reader == reader and t.n_answer]
    if not read:
        raise InputError(f"nothing was read by {reader!r}: trace some responses with answers first")
    counts = np.array([t.n_answer for t in read], dtype=np.int32)
    means = np.stack([t.answer_mean for t in read], axis=1)
    norms = np.average(np.stack([t.answer_norm for t in read]), axis=0, weights=counts)
    names = tuple(t.response_id for t in read)
    return Reading(reader, names, means, counts, norms.astype(np.float32), tuple(range(len(means))))


@dataclass(frozen=True)
class Recipe:
    """How means are taken; the paper's choices are pooling "token" and balance "truncation"."""

    pooling: Pooling = "response"
    balance: Balance = "weights"
    seed: int = 0
    splits: int = 50  # random halvings and bootstrap draws; 0 leaves stability out
    provenance: Mapping[str, Any] = field(default_factory=dict)  # what every direction says beside what was done


def extract(
    frame: pl.DataFrame,
    contrast: Contrast,
    positive: Reading,
    negative: Reading | None = None,
    *,
    name: str,
    recipe: Recipe = Recipe(),
) -> list[Direction]:
    """The mean difference of a contrast at every layer: "data", or "both" where `negative` is another reading.

    `frame` has a row for each response with the columns the contrast needs. A layer where the two sides have the same
    mean is left out. Raises InputError where a side is empty or a single response, or the readings do not fit.
    """
    labels = label_responses(frame, contrast)
    texts = {side: labels.filter(pl.col("label") == side).select("response", "question_id") for side in (True, False)}
    said = {
        "kind": "data" if negative is None or negative is positive else "both",
        "positive": f"{contrast.positive_name}: {', '.join(map(str, contrast.positive))}",
        "negative": f"{contrast.negative_name}: {', '.join(map(str, contrast.negative))}",
    }
    sides = _Sides(positive, negative or positive, texts[True], texts[False])
    return _stack(name, sides, recipe, said)


def extract_model(
    frame: pl.DataFrame,
    texts: Side,
    positive: Reading,
    negative: Reading,
    *,
    name: str,
    recipe: Recipe = Recipe(),
) -> list[Direction]:
    """What one reader makes of texts minus what another makes of the same: "model" (organism minus base)."""
    held = frame.filter(pl.all_horizontal(pl.lit(True), *(each.holds() for each in texts)).fill_null(False))
    both = held.filter(pl.col("response").is_in(list(set(positive.responses) & set(negative.responses))))
    if both.is_empty():
        raise InputError(
            f"no response with {', '.join(map(str, texts)) or 'an answer'} was read by both {positive.reader!r} and "
            f"{negative.reader!r}: trace the same texts with both"
        )
    chosen = both.select("response", "question_id")
    said = {
        "kind": "model",
        "positive": f"read by {positive.reader}",
        "negative": f"read by {negative.reader}",
        "texts": ", ".join(map(str, texts)) or "all",
    }
    recipe = replace(recipe, balance="weights")  # both sides are the same texts
    return _stack(name, _Sides(positive, negative, chosen, chosen), recipe, said)


def shuffled_control(
    frame: pl.DataFrame,
    contrast: Contrast,
    reading: Reading,
    *,
    like: str,
    seed: int,
    recipe: Recipe = Recipe(),
) -> list[Direction]:
    """The control of `extract`: the same responses, labels dealt anew within questions; "shuffled SEED like NAME".

    Every question keeps as many responses of each class as it has, so the control has what comes of the mix of
    questions and nothing of what tells the classes apart within them. Controls of two directions are dealt
    independently, of the same seed too. It tells no stability. Raises InputError where fewer than two questions have
    responses of both classes.
    """
    labels = label_responses(frame, contrast)
    texts = {side: labels.filter(pl.col("label") == side).select("response", "question_id") for side in (True, False)}
    said = {"kind": "data", **Origin(SHUFFLED, like, seed).provenance}
    sides = _Sides(reading, reading, texts[True], texts[False])
    rng = np.random.default_rng((seed, *b"shuffled within questions of ", *like.encode()))
    answers = sides.answers(like).shuffled(rng)
    return _taken(f"shuffled {seed} like {like}", answers, sides, replace(recipe, splits=0), said)


@dataclass(frozen=True, eq=False)
class _Sides:
    """Two readings and the texts of each, [response, question_id]."""

    positive: Reading
    negative: Reading
    positive_texts: pl.DataFrame
    negative_texts: pl.DataFrame

    def answers(self, name: str) -> Answers:
        """Both sides, at the layers that both readings have. Raises InputError on no such layer or too few texts."""
        layers = [layer for layer in self.positive.layers if layer in self.negative.layers]
        if not layers or self.positive.means.shape[2] != self.negative.means.shape[2]:
            raise InputError(
                f"what {self.positive.reader!r} and {self.negative.reader!r} read has no layer and width in common: "
                "they come from different models"
            )
        picked = [
            _picked(name, word, reading, texts)
            for word, reading, texts in (
                ("positive", self.positive, self.positive_texts),
                ("negative", self.negative, self.negative_texts),
            )
        ]
        both = list(zip((self.positive, self.negative), (rows for rows, _ in picked), strict=True))
        means = np.concatenate([reading.at(layers)[:, rows] for reading, rows in both], axis=1)
        counts = np.concatenate([reading.counts[rows] for reading, rows in both])
        activation = dict(zip(self.positive.layers, self.positive.norms.tolist(), strict=True))
        norms = {layer: activation[layer] for layer in layers if np.isfinite(activation[layer])}
        labels = np.repeat([True, False], [len(rows) for rows, _ in picked])
        questions = np.array([question for _, own in picked for question in own])
        return Answers(Means(dict(zip(layers, means, strict=True)), counts, norms), labels, questions)


def _picked(name: str, word: str, reading: Reading, texts: pl.DataFrame) -> tuple[list[int], list[str]]:
    """The rows of a reading that one side is made of, and their questions. Raises InputError on fewer than two."""
    place = {response: i for i, response in enumerate(reading.responses)}
    read = texts.filter(pl.col("response").is_in(list(place)))
    if read.height < 2:
        raise InputError(
            f"direction {name!r} has {read.height} {word} responses that {reading.reader!r} has read, of "
            f"{texts.height} chosen: a mean needs 2. Loosen the thresholds, sample more, or trace more conditions"
        )
    return [place[response] for response in read["response"]], read["question_id"].to_list()


def _stack(name: str, sides: _Sides, recipe: Recipe, said: Mapping[str, Any]) -> list[Direction]:
    """One Direction a layer that both readings have."""
    return _taken(name, sides.answers(name), sides, recipe, said)


def _taken(name: str, answers: Answers, sides: _Sides, recipe: Recipe, said: Mapping[str, Any]) -> list[Direction]:
    """The mean difference of answers of these sides, one Direction a layer where it is more than rounding."""
    if recipe.balance == "truncation":  # before stability, so that both are of the same answers
        answers = answers.rows(truncate_larger_class(answers.labels, recipe.seed))
    common = {
        "readers": list(dict.fromkeys((sides.positive.reader, sides.negative.reader))),
        "reader": sides.positive.reader,
        "site": "block output",
        "token_mask": "answer",
        "sign": "positive minus negative",
        **said,
        **recipe.provenance,
    }
    difference = MeanDifference.of(
        answers, name=name, pooling=recipe.pooling, balance=recipe.balance, seed=recipe.seed, provenance=common
    )
    steady = _steadiness(answers, recipe)
    found = []
    for layer in answers.means.by_layer:
        try:
            direction = difference.at(layer)
        except InputError:
            continue  # the two sides have the same mean
        if direction.activation_norm is None or direction.norm > SMALLEST * direction.activation_norm:
            found.append(replace(direction, provenance={**direction.provenance, **steady.get(layer, {})}))
    if not found:
        raise InputError(f"direction {name!r}: the two sides have the same mean at every layer")
    return found


def _steadiness(answers: Answers, recipe: Recipe) -> dict[int, dict[str, Any]]:
    """Split-half and bootstrap cosines by layer; by question where enough questions have each class."""
    if not recipe.splits:
        return {}
    enough = min(groups_with(answers.codes, answers.labels)) >= FEWEST_QUESTIONS
    answers = answers if enough else replace(answers, groups=None)
    balance: Balance = "matching" if recipe.balance == "matching" else "weights"
    try:
        halves = stability(answers, pooling=recipe.pooling, balance=balance, splits=recipe.splits)
        drawn = bootstrap_cosine(answers, pooling=recipe.pooling, balance=balance, draws=2 * recipe.splits)
    except InputError:
        return {}
    return {
        layer: {
            "split_by": "question" if enough else "response",
            "split_half_cosine": _rounded(halves[layer]),
            "bootstrap_cosine": _rounded(drawn[layer]),
        }
        for layer in halves
    }


def _rounded(estimate: Estimate) -> list[float | None]:
    """Value, low and high for JSON."""
    ends = (estimate.value, estimate.low, estimate.high)
    return [round(end, 4) if np.isfinite(end) else None for end in ends]


# --- what a study is built with ---------------------------------------------------------------------------------------


def study_directions(
    responses: Sequence[Response],
    scores: Iterable[Score],
    traces: Iterable[Trace],
    *,
    reader: str,
    model: str,
    judge: str | None = None,
    outcome: Outcome = EM,
) -> list[Direction]:
    """The two classes of the outcome, the questions' topic, and what the reader wrote minus what the base wrote.

    Of unedited answers that pass the outcome's gate. One Direction a layer for each with at least 8 responses on both
    sides; the others are left out.
    """
    read = list(traces)
    if not any(t.n_answer for t in read):
        return []
    reading = traces_reading(read, reader)
    gate = pl.lit(True) if outcome.gate is None else outcome.gate.holds()
    frame = scored(responses, scores, judge).filter(
        pl.col("condition") == BASELINE, gate, pl.col("response").is_in(list(reading.responses))
    )
    found: list[Direction] = []
    for name, contrast in _stored(reader, outcome).items():
        try:
            sizes = label_responses(frame, contrast)["label"].value_counts()
        except InputError:
            continue  # a side is empty
        if sizes["count"].min() >= FEWEST:  # type: ignore[operator]
            found += extract(frame, contrast, reading, name=name, recipe=Recipe(provenance={"model": model}))
    return found


def _stored(reader: str, outcome: Outcome) -> dict[str, Contrast]:
    own, asked = Is("organism", reader), outcome.contrast
    others = {
        "medical topic": Contrast(
            "medical topic", (own, Is("topic", "medical")), (own, IsNot("topic", "medical")), "medical", "other"
        ),
        f"{reader} minus base": Contrast(
            f"{reader} minus base", (own,), (Is("organism", BASE),), f"written by {reader}", "written by the base"
        ),
    }
    return {asked.name: asked.within((own,))} | {name: each for name, each in others.items() if name != asked.name}
