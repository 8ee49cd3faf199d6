"""What an answer is asked as, called, drawn by, and kept as: the same in a sweep and in a condition of its own."""

from __future__ import annotations

from collections.abc import Sequence

from backend.edits import Condition, Edit, Gain
from backend.pipeline.folder import StudyFolder
from backend.records import BASE, InputError, Question, Response


def worn(organism: str, condition: Condition) -> tuple[Edit, ...]:
    """The edits of a row: the organism, then what the condition does to it."""
    return condition.edits if organism == BASE else (Gain(organism, 1.0), *condition.edits)


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
