"""Both exact tests against every way to deal answers, or to choose signs, listed one by one."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import fisher_exact, permutation_test

from backend.analysis.rates import chance
from backend.analysis.rates.chance import dealt_anew, excess, signs_flipped


def floats(*values):
    return [np.array(value, dtype=float) for value in values]


def every_way(hits_a, n_a, hits_b, n_b):
    """The share of all ways to deal the answers of each question that are as far off."""
    ways = []
    for a, n, b, m in zip(hits_a, n_a, hits_b, n_b, strict=True):
        pool = np.arange(int(n + m)) < a + b
        own = [pool[list(chosen)].sum() for chosen in combinations(range(int(n + m)), int(n))]
        ways.append([x - n * (a + b) / (n + m) for x in own])
    found = abs(excess(hits_a, n_a, hits_b, n_b).sum())
    return np.mean([abs(sum(way)) >= found - 1e-9 for way in product(*ways)])


@pytest.mark.parametrize(
    ("hits_a", "n_a", "hits_b", "n_b"),
    [
        ([2, 1, 0], [3, 2, 2], [0, 0, 0], [3, 4, 2]),
        ([0, 1, 2], [2, 3, 4], [2, 2, 0], [4, 3, 2]),
        ([3, 3, 1], [3, 3, 3], [3, 0, 0], [3, 3, 3]),
        ([0, 0], [2, 2], [0, 0], [3, 3]),
    ],
)
def test_answers_dealt_anew_are_every_way_to_deal_them(hits_a, n_a, hits_b, n_b):
    counts = floats(hits_a, n_a, hits_b, n_b)
    assert dealt_anew(*counts) == pytest.approx(every_way(*counts))


def test_one_question_with_equal_numbers_is_fishers_test():
    for a, b in ((7, 1), (0, 5), (20, 20)):
        expected = fisher_exact([[a, 20 - a], [b, 20 - b]]).pvalue
        assert dealt_anew(*floats([a], [20], [b], [20])) == pytest.approx(expected)


def test_thousands_of_answers_are_dealt_too():
    rng = np.random.default_rng(0)
    n = np.full(20, 4000.0)
    a, b = rng.binomial(4000, 0.3, (2, 20)).astype(float)
    spread = np.sqrt((n * n * (a + b) * (2 * n - a - b) / (2 * n) ** 2 / (2 * n - 1)).sum())
    score = abs(excess(a, n, b, n).sum()) / spread
    from scipy.special import ndtr

    assert dealt_anew(a, n, b, n) == pytest.approx(2 * ndtr(-score), rel=0.02)


@pytest.mark.parametrize("excesses", [[3, 1, 1, 0.5], [1, -1, 2, 0, 0], [0.2] * 8, [5, -4, 0.3, 0.7, 1, 1, 1, 2, 2]])
def test_signs_flipped_is_scipys_paired_permutation_test(excesses):
    values = np.array(excesses, dtype=float)
    found = permutation_test(
        (values, np.zeros(len(values))),
        lambda x, y, axis: (x - y).sum(axis),
        permutation_type="samples",
        n_resamples=1e5,
    )
    assert signs_flipped(values) == pytest.approx(found.pvalue)


def test_few_questions_cannot_tell():
    assert signs_flipped(np.array([9.0])) == signs_flipped(np.zeros(5)) == 1
    assert [signs_flipped(np.ones(k)) for k in (2, 4, 5, 6)] == [0.5, 0.125, 0.0625, 0.03125]


@pytest.mark.parametrize("whole", [True, False])
def test_signs_of_many_questions_are_counted_as_they_are_listed(monkeypatch, whole):
    rng = np.random.default_rng(1)
    for _ in range(10):
        excesses = rng.integers(-3, 5, 14) / 2 if whole else rng.normal(0.3, 1, 14)
        listed = signs_flipped(excesses)
        monkeypatch.setattr(chance, "LISTED", 1)
        counted = signs_flipped(excesses)
        monkeypatch.undo()
        assert counted == pytest.approx(listed, abs=1e-12 if whole else 0.004)
        assert counted >= listed - 1e-12
