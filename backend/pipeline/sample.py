"""Sample an organism's answers to the evaluation questions under one condition, into a study folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from backend.edits import Condition, Edit, Gain
from backend.pipeline.folder import StudyFolder
from backend.records import BASE, InputError, Question, Response, Sampling
from backend.subject.chat import prompt_ids
from backend.subject.decode import BATCH, Request, sample
from backend.subject.load import Subject


def worn(organism: str, condition: Condition) -> tuple[Edit, ...]:
    """The edits of a row: the organism, then what the condition does to it."""
    return condition.edits if organism == BASE else (Gain(organism, 1.0), *condition.edits)


def sample_condition(
    subject: Subject,
    organism: str,
    condition: Condition,
    questions: Sequence[Question],
    *,
    n: int,
    seed: int = 0,
    sampling: Sampling | None = None,
    batch: int = BATCH,
) -> Iterator[Response]:
    """`n` answers to each question, in order of completion.

    Sample k of a question has the seed `seed + k` under every condition, so conditions can be compared pair by pair.
    """
    sampling = sampling or Sampling()
    edits = worn(organism, condition)
    prompts = {question.id: prompt_ids(subject.tokenizer, question.text) for question in questions}
    wanted = {f"{question.id}/{seed + k}": (question, seed + k) for question in questions for k in range(n)}
    requests = [
        Request(key, prompts[question.id], edits, sampling, request_seed(question, row_seed))
        for key, (question, row_seed) in wanted.items()
    ]
    for answer in sample(subject, requests, batch=batch):
        question, row_seed = wanted[str(answer.key)]
        yield Response(
            id=response_id(organism, condition, question, row_seed),
            organism=organism,
            condition=condition.name,
            question_id=question.id,
            question=question.text,
            topic=question.topic,
            seed=row_seed,
            text=answer.text,
            prompt_ids=prompts[question.id],
            answer_ids=answer.answer_ids,
            finished=answer.finished,
            sampling=sampling,
        )


def sample_into(folder: StudyFolder, responses: Sequence[Response], organism: str, condition: Condition) -> None:
    """Keep whole conditions only, in the order of questions and seeds. Raises InputError where there are no answers."""
    if not responses:
        raise InputError(f"there are no answers of {organism} under {condition.name!r} to keep: ask for at least one")
    folder.add_responses(condition, organism, sorted(responses, key=lambda r: (r.question_id, r.seed)))


def response_id(organism: str, condition: Condition, question: Question, seed: int) -> str:
    """The name of one answer."""
    return f"{organism}/{condition.name}/{question.id}/{seed}"


def request_seed(question: Question, seed: int) -> int:
    """A seed of its own for every question and sample, the same in every condition and on every machine."""
    mark: int = sum(ord(character) * 31**place for place, character in enumerate(question.id)) % 1_000_003
    return seed * 1_000_003 + mark
