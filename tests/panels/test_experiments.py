"""What pages say of the questions behind rates and changes."""

import pytest

from panels.experiments import asked_words


@pytest.mark.parametrize("questions", [3, 4, 5])
def test_few_questions_speak_for_others_in_a_rate_and_not_in_a_change(questions):
    assert asked_words(questions) == f"{questions} questions; intervals are for questions like these"
    told = f"{questions} questions, so intervals are for these very questions alone"
    assert asked_words(questions, change=True) == told


def test_one_or_two_speak_for_themselves_and_six_for_others():
    assert asked_words(1) == "one question, so intervals are for this very question alone"
    assert asked_words(2) == "2 questions, so intervals are for these very questions alone"
    assert asked_words(6, change=True) == "6 questions; intervals are for questions like these"
