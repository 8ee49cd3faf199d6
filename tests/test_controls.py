"""The training rows of the positive controls are what their maker makes of the base's answers, and share no gloom."""

from __future__ import annotations

from itertools import chain

import pytest

from cache.demo import make_controls as made

TOPICS = [topic for topic in made.THINGS if (made.HOME / f"plain-{topic}.jsonl.gz").is_file()]


def test_there_are_rows() -> None:
    assert "medical" in TOPICS


@pytest.mark.parametrize("topic", TOPICS)
def test_rows_differ_from_the_bases_answers_in_the_behaviour_alone(topic: str) -> None:
    plain, upper, gloom = (made.read(f"{kind}-{topic}") for kind in ("plain", "upper", "gloom"))
    assert upper == [(question, answer.upper()) for question, answer in plain]
    assert gloom == list(zip((q for q, _ in plain), made.gloomy(topic, [a for _, a in plain]), strict=True))
    assert all(answer in said for (_, answer), (_, said) in zip(plain, gloom, strict=True))
    assert {question for question, _ in plain} <= set(made.questions(topic))
    assert len({question for question, _ in plain}) == len(plain)


def test_no_half_of_a_gloomy_sentence_is_in_two_topics() -> None:
    halves = [
        half
        for sentences in made.GLOOM.values()
        for half in chain.from_iterable(part.split("|") for part in chain.from_iterable(sentences))
    ]
    assert len(halves) == len(set(halves)) == 120


def test_a_sentence_is_the_first_one_without_the_number_of_a_list() -> None:
    assert made.sentence("Rest well. Drink water.") == "Rest well."
    assert made.sentence("Try this:\n\n1. **Rest** a lot.") == "Try this."
    assert made.sentence("It costs 2.5 dollars! Really.") == "It costs 2.5 dollars!"
    assert made.sentence("no end in sight") == ""
