"""How much an edit disturbs a model, and a random edit that disturbs it as much.

Disturbance is the mean KL, in nats a token, of the edited model to the same organism unedited, on answers of its own.
Projecting one random direction out of a wide residual stream changes next to nothing, so it is a weak control for
projecting out a direction that matters: what is matched here is the disturbance, with a random subspace of as many
dimensions as that takes. It refuses to know what the answers say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from backend.analysis.directions.random_directions import random_subspace
from backend.edits import Ablate, Condition, Edit
from backend.pipeline.sample import worn
from backend.records import Direction, InputError, Response
from backend.subject.divergence import divergence, mean_kl
from backend.subject.load import Subject
from backend.subject.trace import Text

TEXTS = 6  # answers a disturbance is measured on


@dataclass(frozen=True, eq=False)
class Matched:
    """A random subspace, what ablating it disturbs, and what it was to match, in nats a token."""

    basis: tuple[Direction, ...]
    disturbance: float
    target: float


def disturbance(subject: Subject, organism: str, condition: Condition, texts: Sequence[Response]) -> float:
    """Mean KL of the organism under a condition to the organism alone, on these answers."""
    read = [Text(r.id, r.prompt_ids, r.answer_ids) for r in texts if r.answer_ids]
    if not read:
        raise InputError(f"{organism!r} has no answers to measure a disturbance on: sample its baseline first")
    alone = worn(organism, Condition("alone"))
    return mean_kl(divergence(subject, read, worn(organism, condition), against=alone))


def matched_subspace(
    subject: Subject,
    organism: str,
    direction: Direction,
    texts: Sequence[Response],
    *,
    ablated: Callable[[Direction], Edit] = Ablate,
    seed: int = 0,
) -> Matched:
    """The random subspace whose ablation disturbs most nearly as `direction`'s does, by ratio.

    `ablated` says how one direction is taken out, by default everywhere, at every token and to zero.
    Subspaces are drawn anew for every size, so that disturbance grows with it on average alone: bisection finds a size
    that comes near, and of all sizes measured the nearest is taken.
    """
    target = disturbance(subject, organism, Condition("one", (ablated(direction),)), texts)
    largest = direction.vector.size - 1
    measured: dict[int, float] = {}

    def at(size: int) -> float:
        if size not in measured:
            edits = tuple(ablated(each) for each in random_subspace(direction, size, seed))
            measured[size] = disturbance(subject, organism, Condition("many", edits), texts)
        return measured[size]

    low, high = 0, 1
    while at(high) < target and high < largest:
        low, high = high, min(high * 2, largest)
    while high - low > max(1, high // 16):
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle) < target else (low, middle)
    size = min(measured, key=lambda k: abs(np.log(max(measured[k], 1e-9) / max(target, 1e-9))))
    return Matched(tuple(random_subspace(direction, size, seed)), measured[size], target)


def some(responses: Sequence[Response], organism: str, condition: str, n: int = TEXTS) -> list[Response]:
    """Answers of an organism, one a question in turn, `n` at the most."""
    by_question: dict[str, list[Response]] = {}
    for response in responses:
        if response.organism == organism and response.condition == condition and response.answer_ids:
            by_question.setdefault(response.question_id, []).append(response)
    rounds = max(map(len, by_question.values()), default=0)
    turns = [own[i] for i in range(rounds) for own in by_question.values() if i < len(own)]
    return turns[:n]
