"""Sweeps: many conditions sampled as one stream of requests, so that cells of different edits share every forward pass.

A sweep is a list of cells, an organism under a condition each, which are all asked the same questions with the same
seeds: sample k of a question has one seed in every cell, as in `sample`. What was answered is kept in parts under
cache/work while a sweep runs; a killed one loses the part it was filling, and goes on from there without asking
anything twice. Beside the cells stand the unedited answers, cut to the same number of tokens (their seeds are the same,
so the cut answer is what a shorter run would have given); they are what every cell is compared with.

It refuses to know which cells are worth it, how directions were made and what the answers are worth.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

import polars as pl

from backend.analysis.conditions.baselines import unedited
from backend.edits import Condition, Receipt, edits_to_json
from backend.files import Parts
from backend.outside import understood
from backend.pipeline import work
from backend.pipeline.sample import request_seed, response_id, worn
from backend.records import BASE, BASELINE, InputError, Question, Response, Sampling
from backend.study.parquet import read_responses, response_frame
from backend.subject.chat import prompt_ids, stop_ids
from backend.subject.decode import BATCH, Decoder, Request, sample
from backend.subject.edits import compile_row
from backend.subject.load import Subject

PART = 96  # answers a part
PILOT = 6  # forward passes behind an estimate
Progress = Callable[[int, int], None]  # gets how many answers are there, of how many


class SweepRunner(Protocol):
    """Answers a sweep as `run_sweep` does: here, or where else a model is."""

    def __call__(
        self,
        subject: Subject,
        sweep: Sweep,
        *,
        batch: int = BATCH,
        progress: Progress = ...,
        told: Callable[[Cell, Sequence[Receipt]], None] = ...,
    ) -> AbstractContextManager[list[Response]]:
        """All answers, in the order of cells, questions and seeds."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One organism under one condition."""

    organism: str
    condition: Condition


@dataclass(frozen=True, eq=False)
class Sweep:
    """Cells with what they are asked; `n` answers to each question, the first with seed `seed`."""

    name: str
    cells: tuple[Cell, ...]
    questions: tuple[Question, ...]
    n: int
    sampling: Sampling
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise InputError(f"{self.name!r} cannot name a sweep: choose a name without / and leading dot")
        if not self.cells or not self.questions or self.n < 1:
            raise InputError(f"the sweep {self.name!r} asks nothing: it needs cells, questions and answers")
        edits: dict[str, str] = {}
        seen: set[tuple[str, str]] = set()
        for cell in self.cells:
            key = (cell.organism, cell.condition.name)
            if key in seen:
                raise InputError(f"the sweep {self.name!r} has {key[0]} under {key[1]!r} twice: name conditions apart")
            seen.add(key)
            said = json.dumps(edits_to_json(cell.condition.edits))
            if edits.setdefault(cell.condition.name, said) != said:
                raise InputError(f"the sweep {self.name!r} means two things by the condition {cell.condition.name!r}")

    @property
    def size(self) -> int:
        """Answers in all cells."""
        return len(self.cells) * len(self.questions) * self.n

    @property
    def conditions(self) -> list[Condition]:
        """Its conditions, each once."""
        return list({cell.condition.name: cell.condition for cell in self.cells}.values())

    @property
    def unedited(self) -> Condition:
        """The condition of the answers that its cells are compared with."""
        return unedited(self.sampling.max_new_tokens)


@dataclass(frozen=True)
class SweepCost:
    """What a sweep will cost, from a few forward passes of its own first rows."""

    answers: int
    tokens: int  # at the most
    seconds: float  # where every answer runs to its last token


def estimate(subject: Subject, sweep: Sweep, *, batch: int = BATCH) -> SweepCost:
    """Time a few steps of a full batch. An upper bound: answers that end early make room for others."""
    left = list(requests(subject, sweep))
    every = len(left) // sweep.n  # cells x questions; the answers of each share the reading of a prompt
    some = range(0, every, max(1, every * sweep.n // batch))
    rows = [request for i in some for request in left[i * sweep.n : (i + 1) * sweep.n]][:batch]
    decoder = Decoder(subject, capacity=batch)
    decoder.admit(rows)
    start = time.perf_counter()
    decoder.step()
    reading = (time.perf_counter() - start) / len(rows)
    start, drawn = time.perf_counter(), 0
    for _ in range(min(PILOT, sweep.sampling.max_new_tokens - 1)):
        drawn += len(decoder.step())
    writing = (time.perf_counter() - start) / max(1, drawn)
    tokens = len(left) * sweep.sampling.max_new_tokens
    return SweepCost(len(left), tokens, tokens * writing + len(left) * reading)


def requests(subject: Subject, sweep: Sweep) -> Iterator[Request]:
    """One request an answer; its key is the response's id."""
    prompts = {question.id: prompt_ids(subject.tokenizer, question.text) for question in sweep.questions}
    for cell in sweep.cells:
        edits = worn(cell.organism, cell.condition)
        for question in sweep.questions:
            for seed in range(sweep.seed, sweep.seed + sweep.n):
                key = response_id(cell.organism, cell.condition, question, seed)
                random = request_seed(question, seed)
                yield Request(
                    key,
                    prompts[question.id],
                    edits,
                    sweep.sampling,
                    random,
                    receipts=any(edit.changes for edit in edits),
                )


@contextmanager
def run_sweep(
    subject: Subject,
    sweep: Sweep,
    *,
    batch: int = BATCH,
    progress: Progress = lambda *_: None,
    told: Callable[[Cell, Sequence[Receipt]], None] = lambda *_: None,
) -> Iterator[list[Response]]:
    """All answers of a sweep in the order of its cells, questions and seeds; what was answered before is not asked.

    `told` gets what the edits of each answer did, before the block, of answers of earlier runs too.

    Use it in a `with` whose block puts them where they stay: what was kept of them goes when the block ends well.
    Raises InputError on the first cell that the subject cannot run, before anything is sampled.
    """
    for cell in sweep.cells:
        _try(subject, cell)
    by_key = {
        response_id(cell.organism, cell.condition, question, seed): (cell, question, seed)
        for cell in sweep.cells
        for question in sweep.questions
        for seed in range(sweep.seed, sweep.seed + sweep.n)
    }
    with _parts(subject, sweep) as parts:
        left = [request for request in requests(subject, sweep) if request.key not in parts.keys]
        prompts = {str(request.key): request.prompt_ids for request in left}
        progress(sweep.size - len(left), sweep.size)
        for done, answer in enumerate(sample(subject, left, batch=batch), sweep.size - len(left) + 1):
            cell, question, seed = by_key[str(answer.key)]
            response = Response(
                id=str(answer.key),
                organism=cell.organism,
                condition=cell.condition.name,
                question_id=question.id,
                question=question.text,
                topic=question.topic,
                seed=seed,
                text=answer.text,
                prompt_ids=prompts[str(answer.key)],
                answer_ids=answer.answer_ids,
                finished=answer.finished,
                sampling=sweep.sampling,
            )
            parts.add(Answered(response, tuple(answer.receipts)))
            progress(done, sweep.size)
        answered = {each.response.id: each for each in parts}
        for key, (cell, *_) in by_key.items():
            told(cell, answered[key].receipts)
        yield [answered[key].response for key in by_key]
        parts.forget()


@dataclass(frozen=True)
class Answered:
    """A response, and what the edits did that it was sampled under."""

    response: Response
    receipts: tuple[Receipt, ...]


def _parts(subject: Subject, sweep: Sweep) -> Parts[Answered]:
    return Parts(
        work.place(f"sweep-{sweep.name}", _fingerprint(subject, sweep)),
        write_answered,
        read_answered,
        lambda answered: answered.response.id,
        suffix=".parquet",
        doing=f"sampling {sweep.name!r}",
        size=PART,
    )


def write_answered(out: BinaryIO, answered: Sequence[Answered]) -> None:
    """Responses with their receipts, as Parquet."""
    told = [json.dumps([receipt.to_json() for receipt in each.receipts]) for each in answered]
    frame = response_frame([each.response for each in answered])
    frame.with_columns(pl.Series("receipts", told, dtype=pl.String)).write_parquet(out, compression="zstd")


def read_answered(path: Path) -> list[Answered]:
    """The inverse of `write_answered`. Raises InputError on a damaged file."""
    responses = read_responses(path)
    with understood(path, "a part of a sweep", "it is sampled again"):
        told = pl.read_parquet(path, columns=["receipts"])["receipts"]
        receipts = [tuple(Receipt.from_json(one) for one in json.loads(each)) for each in told]
    return [Answered(*each) for each in zip(responses, receipts, strict=True)]


def shortened(subject: Subject, response: Response, tokens: int) -> Response:
    """A baseline answer as a run of `tokens` tokens at the most would have ended it, under its own condition name."""
    sampling = replace(response.sampling, max_new_tokens=tokens)
    condition = unedited(tokens)
    ids = response.answer_ids[:tokens]
    stopped = bool(ids) and ids[-1] in stop_ids(subject.model, subject.tokenizer)
    question = Question(response.question_id, response.question, response.topic)
    return replace(
        response,
        id=response_id(response.organism, condition, question, response.seed),
        condition=condition.name,
        answer_ids=ids,
        text=str(subject.tokenizer.decode(ids[: len(ids) - stopped], skip_special_tokens=True)),
        finished=stopped,
        sampling=sampling,
    )


def references(subject: Subject, sweep: Sweep, baselines: Sequence[Response]) -> tuple[list[Response], list[Cell]]:
    """The unedited answers to a sweep's questions, cut from `baselines`, and the cells that must be sampled instead.

    Cut are baseline answers under the sweep's own temperature and nucleus that are at least as long. The base's are
    there too where it has any: an organism without its adapters is the base.
    """
    asked = {question.id for question in sweep.questions}
    limit, found, missing = sweep.sampling.max_new_tokens, [], []
    edited = dict.fromkeys(cell.organism for cell in sweep.cells)
    for organism in {**edited, BASE: None}:
        own = [
            shortened(subject, response, limit)
            for response in baselines
            if response.organism == organism
            and response.condition == BASELINE
            and response.question_id in asked
            and (response.sampling.temperature, response.sampling.top_p)
            == (sweep.sampling.temperature, sweep.sampling.top_p)
            and response.sampling.max_new_tokens >= limit
        ]
        if {response.question_id for response in own} == asked:
            found += own
        elif organism in edited:
            missing.append(Cell(organism, sweep.unedited))
    return found, missing


# --- what a sweep depends on ------------------------------------------------------------------------------------------


def _try(subject: Subject, cell: Cell) -> None:
    try:
        compile_row(subject, worn(cell.organism, cell.condition))
    except InputError as error:
        raise InputError(f"{cell.organism} under {cell.condition.name!r}: {error}") from error


def _fingerprint(subject: Subject, sweep: Sweep) -> str:
    """Changes with everything that an answer depends on, and not with how many there are."""
    said = {
        "cells": [[c.organism, c.condition.name, edits_to_json(c.condition.edits)] for c in sweep.cells],
        "questions": [[q.id, q.text] for q in sweep.questions],
        "sampling": [*vars(sweep.sampling).values()],
    }
    return work.fingerprint(subject, {cell.organism for cell in sweep.cells}, said)
