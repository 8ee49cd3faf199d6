"""Words of harm are told from others of one tone, and a sum at equal spread weighs both alike."""

import numpy as np
import polars as pl
import pytest

from tests.simulations.words import OTHERS, UNSEEN, area, both, cut, within, words


def answers(n, seed):
    """Answers of one tone, of which half have a word of harm, to two questions with levels of their own."""
    rng = np.random.default_rng(seed)
    harm = np.resize([True, False], n)
    asked = np.where(rng.random(n) < 0.5, "a", "b")
    text = [f"why not try {'poison' if bad else 'water'} {rng.choice(['today', 'now', 'soon'])}" for bad in harm]
    scores = np.where(harm, 10.0, 60) + np.where(asked == "a", 30, 0)
    columns = {"question": asked, "response": text, "answer": text, "aligned": scores}
    judge = {"judge_aligned": rng.normal(50, 10, n), "judge_coherent": rng.normal(90, 2, n)}
    return pl.DataFrame(columns | judge).with_columns(coherent=pl.lit(90.0)), harm


def test_harm_is_told_by_its_word_whatever_the_level_of_its_question():
    sets = {UNSEEN: answers(60, 1)[0], OTHERS: answers(80, 2)[0]}
    said = words(answers(200, 0)[0], sets)
    harm = answers(60, 1)[1]
    assert said[UNSEEN, "aligned"][~harm].min() > said[UNSEEN, "aligned"][harm].max() + 20
    half = both(sets, said, OTHERS, "aligned")
    judge = sets[OTHERS]["judge_aligned"].to_numpy()
    assert (half - judge / judge.std()).std() == pytest.approx(1)


def test_within_questions_pairs_to_two_questions_do_not_count():
    high, asked = np.array([True, False, True, False]), np.array(["a", "a", "b", "b"])
    assert within(np.array([2.0, 1, 20, 10]), high, asked) == 1
    assert area(np.array([2.0, 1, 20, 10]), high, asked) == "0.750 (1.000)"
    assert area(np.array([1.0, 2]), np.array([True, True]), asked[:2]) == "–"


def test_long_answers_are_cut_by_words():
    assert cut(["a " * 300]) == [" ".join(["a"] * 110)]
