"""What an organism's fine-tune leaves on text about nothing: its mean difference from the base there, and its KL.

Narrow fine-tuning leaves a constant trace that the first tokens of unrelated text show (arXiv 2510.13900). The mean
difference over them is a direction like any other: it is kept in `directions/`, gets a lens at the build, and can be
steered with. Texts are read as they are, without a chat template; their first token is the attention sink and is left
out. Texts are the sample.

    measure    what
    share      the length of a text's difference by the length of the base's stream, by layer
    cosine     of a text's difference with a direction of the answers, and with its shuffled controls, by layer
    kl         nats a token, by part: the first tokens, the rest, and the organism's own answers (a question)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from backend.analysis.directions.random_directions import random_direction
from backend.edits import Gain
from backend.pipeline.disturbance import some
from backend.pipeline.extract import Recipe, extract_model, traces_reading
from backend.pipeline.folder import StudyFolder
from backend.pipeline.measured import Measurement
from backend.pipeline.neutral_texts import TEXTS
from backend.records import BASE, BASELINE, SHUFFLED, Direction, InputError, Trace
from backend.study.parquet import MEASURED
from backend.subject.divergence import divergence
from backend.subject.load import Subject
from backend.subject.trace import Text, trace

KIND = "neutral"
FIRST, REST, ANSWERS = "first tokens", "later tokens", "its own answers"
FEWEST = 4  # texts, below which halves of them cannot be compared


@dataclass(frozen=True)
class Neutral:
    """What is read by whom, and beside which direction of its answers."""

    organism: str
    direction: str
    first: int = 5  # tokens behind the sink
    random: int = 10
    answers: int = 16  # of the organism, whose KL stands beside

    def __post_init__(self) -> None:
        if self.organism == BASE:
            raise InputError("the base does not differ from itself on any text: choose an organism")


def diff(
    folder: StudyFolder, subject: Subject, asked: Neutral, name: str, texts: Sequence[str] = TEXTS
) -> tuple[Measurement, list[Direction]]:
    """The measurement, and the mean difference at every layer where there is one.

    Raises InputError on fewer than four texts, or texts that are too short to have first tokens.
    """
    said = dict.fromkeys(texts)
    ids = {text: subject.tokenizer(text, add_special_tokens=False)["input_ids"] for text in said}
    long = {text: tokens for text, tokens in ids.items() if len(tokens) > asked.first}
    if len(long) < FEWEST:
        raise InputError(
            f"{len(long)} of {len(said)} texts have more than {asked.first} tokens, and a mean needs {FEWEST}: give "
            "more or longer texts, or take fewer --first tokens"
        )
    stack = folder.direction(asked.direction)
    names = {f"neutral {i}": text for i, text in enumerate(long)}
    read = [Text(each, tuple(long[text][:1]), tuple(long[text][1 : asked.first + 1])) for each, text in names.items()]
    traces = {who: {t.response_id: t for t in trace(subject, read, who)} for who in (asked.organism, BASE)}
    frame = pl.DataFrame({"response": list(names), "question_id": list(names)})
    readings = [traces_reading(found.values(), who) for who, found in traces.items()]
    kept = extract_model(
        frame,
        (),
        *readings,
        name=f"{asked.organism} minus base, neutral",
        recipe=Recipe(provenance={"model": str(folder.settings["base"]), "texts": f"{len(names)} neutral ones"}),
    )
    whole = [Text(each, tuple(long[text][:1]), tuple(long[text][1:])) for each, text in names.items()]
    rows = [
        *_apart(asked, stack, _controls(folder, stack, asked), traces[asked.organism], traces[BASE]),
        *_kl(subject, asked, whole, folder),
    ]
    measured = pl.DataFrame(rows, MEASURED, orient="row").filter(pl.col("value").is_finite())
    record = {
        **asdict(asked),
        "texts": len(names),
        "kept": kept[0].name,
        "layers": [direction.layer for direction in kept],
        "controls": {each.name: each.origin.kind for each in _controls(folder, stack, asked)},
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return Measurement(KIND, name, record, measured), kept


def _controls(folder: StudyFolder, stack: Sequence[Direction], asked: Neutral) -> list[Direction]:
    """At each layer of the direction: random ones, and those of the folder with shuffled labels."""
    drawn = [random_direction(direction, seed) for direction in stack for seed in range(asked.random)]
    own = [each for stored in folder.directions().values() for each in stored if each.origin.kind == SHUFFLED]
    return [*drawn, *(each for each in own if each.origin.like == asked.direction)]


def _apart(
    asked: Neutral,
    stack: Sequence[Direction],
    controls: Sequence[Direction],
    organism: dict[str, Trace],
    base: dict[str, Trace],
) -> Iterator[tuple[Any, ...]]:
    """Shares and cosines of every text's difference; of controls the mean over texts."""
    apart = {name: organism[name].answer_mean - base[name].answer_mean for name in organism}
    lengths = {name: np.linalg.norm(each, axis=1) for name, each in apart.items()}
    for name in apart:
        for layer, share in enumerate(lengths[name] / base[name].answer_norm):
            yield "share", "", asked.organism, "", "answer", layer, FIRST, None, name, float(share)
    for direction in (*stack, *controls):
        layer = direction.layer
        there = [name for name in apart if lengths[name][layer] > 1e-5 * base[name].answer_norm[layer]]
        cosines = [float(apart[name][layer] @ direction.unit / lengths[name][layer]) for name in there]
        row = "cosine", direction.name, asked.organism, "", "answer", layer, FIRST, None
        if direction.name == asked.direction:
            yield from ((*row, name, cosine) for name, cosine in zip(there, cosines, strict=True))
        elif cosines:
            yield *row, "", float(np.mean(cosines))


def _kl(subject: Subject, asked: Neutral, texts: Sequence[Text], folder: StudyFolder) -> Iterator[tuple[Any, ...]]:
    """Nats a token of the organism to the base, the mean of a text or of the answers to a question."""
    worn = (Gain(asked.organism, 1.0),)
    row = "kl", "", asked.organism, "", "answer", None
    for found in divergence(subject, texts, worn):
        for part, own in ((FIRST, found.kl[: asked.first]), (REST, found.kl[asked.first :])):
            if len(own):
                yield *row, part, None, found.response_id, float(own.mean())
    answers = some(folder.responses(), asked.organism, BASELINE, asked.answers)
    questions = {r.id: r.question_id for r in answers}
    by_question: dict[str, list[float]] = {}
    for found in divergence(subject, [Text(r.id, r.prompt_ids, r.answer_ids) for r in answers], worn):
        by_question.setdefault(questions[found.response_id], []).append(float(found.kl.mean()))
    yield from ((*row, ANSWERS, None, question, float(np.mean(own))) for question, own in by_question.items())
