"""Intervals against scipy and statsmodels, and by simulation against their promise (docs/statistics.md has more).

What was falsely clear once is in test_false_clears.py.
"""

from typing import Any

import numpy as np
import pytest
from scipy.stats import betabinom, ttest_rel
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from backend.analysis.rates.intervals import (
    SIMILAR_QUESTIONS,
    THESE_QUESTIONS,
    difference_interval,
    rate_interval,
    wilson,
)

PAPER = np.array([0.46, 0.30, 0.22, 0.12, 0.08, 0.04, 0.02, 0.0])  # EM by question, the nine-adapter organism


def beta(rng, shape, mean, icc):
    size = (1 - icc) / icc
    return rng.beta(mean * size, (1 - mean) * size, shape)


def covered(intervals, truth):
    low, high = np.array(intervals).T
    return float(((low <= truth) & (truth <= high)).mean())


def counts(*shares, n=50) -> tuple[Any, Any]:
    return np.round(np.array(shares) * n), np.full(len(shares), float(n))


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (50, 400), (399, 400), (7, 7)])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_wilson_is_that_of_statsmodels(hits, n, level):
    expected = proportion_confint(hits, n, alpha=1 - level, method="wilson")
    np.testing.assert_allclose(wilson(hits, n, level), expected, atol=1e-12)


def test_the_rate_of_similar_questions_is_the_posterior_of_scipys_beta_binomial():
    hits, n = np.array([5.0, 0, 2, 9]), np.array([10.0, 8, 12, 9])
    angles, steps = (np.arange(400) + 0.5) / 400 * np.pi, (np.arange(60) + 0.5) / 60
    mean, icc = np.meshgrid((1 - np.cos(angles)) / 2, steps**2, indexing="ij")  # Beta(1/2, 1/2) and Beta(1/2, 1)
    size = (1 - icc) / icc
    mass = np.prod([betabinom.pmf(h, m, mean * size, (1 - mean) * size) for h, m in zip(hits, n, strict=True)], axis=0)
    below = np.cumsum(mass.sum(axis=1)) / mass.sum()
    expected = np.interp([0.025, 0.975], below, mean[:, 0])
    np.testing.assert_allclose(rate_interval(hits, n, SIMILAR_QUESTIONS), expected, atol=0.01)


def test_a_difference_of_two_single_questions_is_newcombes():
    for a, b in ((12, 3), (0, 9), (20, 20)):
        found = difference_interval(*counts(a / 40, n=40), *counts(b / 40, n=40), THESE_QUESTIONS)
        expected = confint_proportions_2indep(a, 40, b, 40, method="newcomb")
        np.testing.assert_allclose(found[1:3], expected, atol=1e-9)


def test_with_many_questions_it_is_the_paired_t_interval():
    rng = np.random.default_rng(1)
    shares = beta(rng, 150, 0.4, 0.1)
    a, b = (rng.binomial(30, p).astype(float) for p in (shares, 0.8 * shares))
    n = np.full(150, 30.0)
    value, low, high, p_value = difference_interval(a, n, b, n, SIMILAR_QUESTIONS)
    paired = ttest_rel(a / 30, b / 30)
    expected = paired.confidence_interval(0.975)  # of the two tests about questions one is enough
    assert value == pytest.approx((a - b).mean() / 30)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.1 * (expected.high - expected.low))
    assert p_value < 2e-5
    assert paired.pvalue < 2e-5


@pytest.mark.parametrize("about", [SIMILAR_QUESTIONS, THESE_QUESTIONS])
def test_to_exchange_the_rates_or_hits_with_misses_only_mirrors(about):
    rng = np.random.default_rng(2)
    n_a, n_b = (rng.integers(2, 30, 8).astype(float) for _ in range(2))
    a, b = rng.binomial(n_a.astype(int), PAPER).astype(float), rng.binomial(n_b.astype(int), PAPER / 2).astype(float)
    value, low, high, p_value = difference_interval(a, n_a, b, n_b, about)
    for one, n_one, other, n_other in ((b, n_b, a, n_a), (n_a - a, n_a, n_b - b, n_b)):
        assert difference_interval(one, n_one, other, n_other, about) == pytest.approx(
            (-value, -high, -low, p_value), abs=1e-6
        )


@pytest.mark.parametrize("about", [SIMILAR_QUESTIONS, THESE_QUESTIONS])
def test_the_p_value_is_the_level_at_which_the_interval_touches_zero(about):
    a, b = counts(*PAPER), counts(*(PAPER[::-1] * 0.5))
    *_, p_value = difference_interval(*a, *b, about)
    assert 1e-5 < p_value < 1
    for wider in (0.9, 0.999, 1.001, 1.1):
        _, low, high, same = difference_interval(*a, *b, about, level=1 - p_value * wider)
        assert (low <= 0 <= high) == (wider < 1)
        assert same == p_value


def test_no_hits_reach_zero_and_every_hit_reaches_one():
    for about in (SIMILAR_QUESTIONS, THESE_QUESTIONS):
        low, high = rate_interval(*counts(*[0.0] * 8), about)
        assert low == 0 < high < 0.13
        assert rate_interval(*counts(*[1.0] * 8), about) == pytest.approx((1 - high, 1), abs=1e-6)


def test_unequal_questions_widen_the_interval_and_equal_ones_do_not_much():
    def width(shares, about=SIMILAR_QUESTIONS):
        low, high = rate_interval(*counts(*shares), about)
        return high - low

    binomial = np.subtract(*wilson(62, 400)[::-1])
    assert width(PAPER) > 2.5 * binomial
    assert width([0.16] * 8) < 1.6 * binomial
    assert width(PAPER, THESE_QUESTIONS) < binomial


@pytest.mark.parametrize(("questions", "answers"), [(8, 50), (16, 12)])
@pytest.mark.parametrize("icc", [0.1, 0.3])
def test_coverage_of_a_rate_on_questions_like_these(questions, answers, icc):
    rng = np.random.default_rng(3)
    hits = rng.binomial(answers, beta(rng, (2000, questions), 0.15, icc)).astype(float)
    n = np.full(questions, float(answers))
    assert 0.925 <= covered([rate_interval(found, n, SIMILAR_QUESTIONS) for found in hits], 0.15) <= 0.975


@pytest.mark.parametrize("answers", [10, 50])
@pytest.mark.parametrize("shares", [PAPER, np.full(8, 0.5), 1 - PAPER / 10], ids=["paper", "half", "coherent"])
def test_coverage_of_a_rate_on_these_questions(shares, answers):
    hits = np.random.default_rng(4).binomial(answers, shares, (2000, 8)).astype(float)
    intervals = [rate_interval(found, np.full(8, float(answers)), THESE_QUESTIONS) for found in hits]
    assert 0.93 <= covered(intervals, shares.mean()) <= 0.975


@pytest.mark.parametrize(("questions", "answers"), [(8, 12), (16, 50)])
@pytest.mark.parametrize("kept", [1.0, 0.5, 0.1, None])
def test_coverage_of_a_difference(questions, answers, kept):
    """The second condition keeps a share of every question's rate, or has rates of its own."""
    rng, intervals = np.random.default_rng(5), []
    one, other = beta(rng, (2, 800, questions), 0.15, 0.2)
    hits_a = rng.binomial(answers, one).astype(float)
    hits_b = rng.binomial(answers, other if kept is None else kept * one).astype(float)
    n = np.full(questions, float(answers))
    for a, b in zip(hits_a, hits_b, strict=True):
        intervals.append(difference_interval(a, n, b, n, SIMILAR_QUESTIONS)[1:3])
    assert covered(intervals, 0 if kept is None else 0.15 * (1 - kept)) >= 0.945


@pytest.mark.parametrize("kept", [1.0, 0.5])
def test_coverage_of_a_difference_with_unequal_numbers_of_answers(kept):
    rng, intervals = np.random.default_rng(6), []
    for shares in beta(rng, (800, 8), 0.15, 0.2):
        n_a, n_b = rng.integers(1, 21, (2, 8))
        a, b = rng.binomial(n_a, shares).astype(float), rng.binomial(n_b, kept * shares).astype(float)
        intervals.append(difference_interval(a, n_a.astype(float), b, n_b.astype(float), SIMILAR_QUESTIONS)[1:3])
    assert covered(intervals, 0.15 * (1 - kept)) >= 0.945
