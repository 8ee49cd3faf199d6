"""Interactions of two changes: against listed signs and intervals, and what is falsely clear."""

import numpy as np
import pytest

from backend.analysis.rates.chance import signs_flipped
from backend.analysis.rates.interactions import interaction_interval


def found(hits, n):
    hits, n = (np.array(part, dtype=float) for part in (hits, n))
    return interaction_interval(hits, n, np.random.default_rng(0))


def test_it_is_the_difference_of_differences():
    rng = np.random.default_rng(1)
    hits = rng.binomial(20, [[0.1], [0.4], [0.3], [0.5]], (4, 12))
    value, low, high, p_value = found(hits, np.full((4, 12), 20))
    shares = hits.sum(axis=1) / 240
    assert value == pytest.approx(shares[0] - shares[1] - shares[2] + shares[3])
    assert low <= value <= high
    assert (low > 0 or high < 0) == (p_value < 0.05)
    assert p_value >= signs_flipped(hits[0] - hits[1] - hits[2] + hits[3]) - 1e-12


def test_to_take_the_changes_the_other_way_round_mirrors_it():
    hits = np.array([[1, 4, 2, 0, 3, 5], [9, 7, 8, 9, 6, 9], [8, 9, 9, 7, 9, 8], [9, 9, 8, 9, 9, 9]], dtype=float)
    n = np.full((4, 6), 10.0)
    value, low, high, p_value = found(hits, n)
    other = found(hits[[1, 0, 3, 2]], n)
    assert other == pytest.approx((-value, -high, -low, p_value), abs=0.02)


def test_no_hit_anywhere_leaves_something_open_and_one_question_has_no_interval():
    value, low, high, p_value = found(np.zeros((4, 16)), np.full((4, 16), 4))
    assert (value, p_value) == (0, 1)
    assert low < -0.05 < 0.05 < high
    assert found([[1], [2], [3], [4]], np.full((4, 1), 9))[1:] == (None, None, None)


def test_hits_in_few_questions_are_no_interaction():
    """A bootstrap over questions alone calls this clear: four questions with an excess of one hit, twelve with none."""
    hits = np.zeros((4, 16))
    hits[0, :4] = 1
    _, low, _, p_value = found(hits, np.full((4, 16), 25))
    assert p_value >= 0.125
    assert low <= 0


def test_without_an_interaction_hardly_one_is_clear():
    rng = np.random.default_rng(2)
    for answers, rate in (((8, 8), 0.03), ((2, 12), 0.1), ((25, 25), 0.3)):
        n = np.full((4, 16), float(answers[0]))
        n[3] = answers[1]
        hits = rng.binomial(n.astype(int), rate, (150, 4, 16)).astype(float)
        clear = sum((ends := found(each, n))[1] > 0 or ends[2] < 0 for each in hits)
        assert clear <= 15, (answers, rate)  # of 150 at 5 % or less, 99 in 100 times
