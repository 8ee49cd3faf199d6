"""One condition sampled by itself, without a sweep's batches and parts: what those are held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from backend.edits import Condition
from backend.pipeline.sample import request_seed, response_id, worn
from backend.records import Question, Response, Sampling
from backend.subject.chat import prompt_ids
from backend.subject.decode import BATCH, Request, sample
from backend.subject.load import Subject


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
