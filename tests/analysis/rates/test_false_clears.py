"""Differences that were called clear once, or were not, against what the counts can bear; and how often chance is."""

import numpy as np
import pytest

from backend.analysis.rates.chance import excess, signs_flipped
from backend.analysis.rates.intervals import SIMILAR_QUESTIONS, THESE_QUESTIONS, difference_interval

QUESTIONS = 16


def found(hits_a, n_a, hits_b, n_b, *, questions=QUESTIONS, about=SIMILAR_QUESTIONS):
    """value, low, high and p-value of hits in the first questions, with equal numbers of answers to each."""
    a, b = (np.array([*hits, *[0] * (questions - len(hits))], dtype=float) for hits in (hits_a, hits_b))
    return difference_interval(a, np.full(questions, float(n_a)), b, np.full(questions, float(n_b)), about)


def is_clear(ends):
    _, low, high, p_value = ends
    assert (low > 0 or high < 0) == (p_value < 0.05)
    return low > 0 or high < 0


@pytest.mark.parametrize(
    ("hits_a", "hits_b"), [([2], [1]), ([2, 2], [1, 1]), ([9], [1]), ([12, 12], [2, 2]), ([3, 3, 3], [1, 1, 1])]
)
def test_hits_in_the_same_few_questions_say_nothing_of_others(hits_a, hits_b):
    ends = found(hits_a, 25, hits_b, 25)
    assert not is_clear(ends)
    assert ends[3] >= 0.2


def test_hits_in_six_different_questions_of_one_condition_are_clear():
    assert is_clear(found([1] * 8, 25, [], 25))
    assert found([1] * 8, 25, [], 25)[3] == pytest.approx(2**-7)
    assert is_clear(found([1] * 6, 25, [], 25))
    assert not is_clear(found([1] * 5, 25, [], 25))


@pytest.mark.parametrize(
    "where", [([2], [1, 1]), ([1, 1], [1, 1]), ([2], [2]), ([1, 1], [0, 0, 1, 1]), ([1, 1], [0, 2])]
)
def test_two_of_32_against_two_of_200_is_not_clear(where):
    for about in (SIMILAR_QUESTIONS, THESE_QUESTIONS):
        assert not is_clear(found(where[0], 2, where[1], 12.5 // 1, about=about))


def test_no_hit_of_32_where_200_answers_had_a_few_is_not_clear():
    """Every question of those few differs in one direction, which is the numbers of answers and no effect."""
    a, n_a, b, n_b = (np.array(x, dtype=float) for x in ([0] * 16, [2] * 16, [1] * 8 + [0] * 8, [12] * 16))
    assert signs_flipped(excess(a, n_a, b, n_b)) < 0.01
    for about in (SIMILAR_QUESTIONS, THESE_QUESTIONS):
        assert not is_clear(difference_interval(a, n_a, b, n_b, about))


def test_four_questions_tell_a_large_effect_on_each_and_no_small_one():
    assert is_clear(found([25] * 4, 50, [0] * 4, 50, questions=4))
    assert not is_clear(found([5] * 4, 50, [1] * 4, 50, questions=4))
    assert is_clear(found([5] * 4, 50, [1] * 4, 50, questions=4, about=THESE_QUESTIONS))


def shares(rng, mean, icc, shape):
    size = (1 - icc) / icc
    return rng.beta(mean * size, (1 - mean) * size, shape)


@pytest.mark.parametrize(("n_a", "n_b"), [(25, 25), (2, 12)])
@pytest.mark.parametrize(("mean", "icc"), [(0.01, 0.4), (0.01, 0.01), (0.03, 0.2), (0.3, 0.6)])
def test_without_an_effect_hardly_a_study_is_clear(n_a, n_b, mean, icc):
    rng = np.random.default_rng(7)
    clear = 0
    for rates in shares(rng, mean, icc, (400, QUESTIONS)):
        a, b = rng.binomial(n_a, rates), rng.binomial(n_b, rates)
        clear += is_clear(found(a, n_a, b, n_b))
    assert clear <= 26  # of 400 at 5 % or less, 999 in 1,000 times


def test_power_is_beside_that_of_the_sign_flips():
    """Hits in other questions than before: where an effect is there, it is seen as often as by flipping signs alone."""
    rng = np.random.default_rng(8)
    clear = flipped = 0
    for _ in range(200):
        a, b = rng.binomial(25, 0.03, QUESTIONS).astype(float), rng.binomial(25, 0.002, QUESTIONS).astype(float)
        n = np.full(QUESTIONS, 25.0)
        clear += is_clear(difference_interval(a, n, b, n, SIMILAR_QUESTIONS))
        flipped += signs_flipped(excess(a, n, b, n)) < 0.05
    assert flipped > 100
    assert clear >= 0.97 * flipped
