"""Groups stay whole, and the intervals made from them are honest."""

import numpy as np
import pytest
from scipy.stats import t as student

from backend.analysis.estimates import expanded_percentile, one_more_draw, share_without_each, without_each
from backend.analysis.groups import deal_folds, group_codes, group_draws, groups_with, shuffled
from backend.records import InputError


@pytest.mark.parametrize("seed", range(20))
def test_folds_keep_groups_whole_and_leave_both_classes_to_train_on(seed):
    rng = np.random.default_rng(seed)
    codes = group_codes(rng.integers(0, 9, 60), 60)
    labels = rng.random(60) < rng.random(9)[codes]
    folds = min(4, *groups_with(codes, labels))
    if folds < 2:
        return
    fold = deal_folds(codes, labels, folds, rng)
    assert all(len(np.unique(fold[codes == group])) == 1 for group in np.unique(codes))
    for number in range(folds):
        assert (fold == number).any()
        assert 0 < labels[fold != number].mean() < 1


def test_labels_move_among_the_responses_to_one_question_or_among_whole_questions():
    rng = np.random.default_rng(0)
    question = np.repeat(np.arange(8), 30)
    response = np.repeat(np.arange(24), 10)
    by_question = question % 2 == 0
    moved = shuffled(by_question, question, rng, response)
    assert all(len(set(moved[question == one])) == 1 for one in range(8))
    assert moved.sum() == by_question.sum()
    by_response = response % 3 == 0
    moved = shuffled(by_response, question, rng, response)
    assert all(len(set(moved[response == one])) == 1 for one in range(24))
    assert moved.sum() == by_response.sum()
    assert any(len(set(moved[question == one])) == 2 for one in range(8))
    np.testing.assert_array_equal(
        np.bincount(question, weights=moved), np.bincount(question, weights=by_response)
    )  # what a question has of each label stays


def test_every_deal_within_groups_is_as_likely():
    labels, group = np.array([True, False, False, True, True, False]), np.array([0, 0, 0, 1, 2, 2])
    rng = np.random.default_rng(3)
    drawn = [tuple(shuffled(labels, group, rng, np.arange(6)).tolist()) for _ in range(6000)]
    found = {each: drawn.count(each) for each in set(drawn)}
    assert len(found) == 3 * 2  # three places in the first group, one in the second, two in the third
    assert all(each[3] for each in found)
    assert max(abs(n - 1000) for n in found.values()) < 120


def test_without_units_the_rows_of_one_label_in_a_group_stay_together():
    labels, group = np.array([True, True, False, False, False, True]), np.array([0, 0, 0, 1, 1, 1])
    rng = np.random.default_rng(4)
    drawn = {tuple(shuffled(labels, group, rng).tolist()) for _ in range(200)}
    turned = (~labels[:3]).tolist(), (~labels[3:]).tolist()
    kept = labels[:3].tolist(), labels[3:].tolist()
    assert drawn == {(*one[0], *other[1]) for one in (turned, kept) for other in (turned, kept)}


def test_many_groups_are_merged_and_groups_must_fit():
    codes, counts = group_draws(np.arange(5000), np.random.default_rng(0), draws=3)
    assert counts.shape == (3, 1000)
    assert np.bincount(codes).tolist() == [5] * 1000
    with pytest.raises(InputError, match="3 rows need 3 groups"):
        group_codes([1, 2], 3)


@pytest.mark.parametrize("groups", [8, 16])
def test_the_expanded_percentile_covers_with_few_groups(groups):
    """The mean of a few group means; the plain percentile interval covers under 90 % of the time with eight."""
    rng, hits, plain = np.random.default_rng(2), 0, 0
    for _ in range(400):
        values = rng.standard_normal(groups)
        _, counts = group_draws(np.arange(groups), rng, draws=500)
        drawn = counts @ values / groups
        low, high = expanded_percentile(drawn, groups)
        hits += low <= 0 <= high
        plain += np.quantile(drawn, 0.025) <= 0 <= np.quantile(drawn, 0.975)
    assert 0.91 <= hits / 400 <= 0.985
    assert plain < hits


def test_no_interval_from_a_single_group():
    assert np.isnan(expanded_percentile(np.ones(100), 1)).all()
    assert np.isnan(expanded_percentile(np.full(100, np.nan), 5)).all()


@pytest.mark.parametrize("draws", [2, 10])
def test_one_more_draw_lies_in_the_range_of_a_few(draws):
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(2000):
        *few, one = rng.normal(0.4, 0.1, draws + 1)
        found = one_more_draw(np.array(few))
        inside += found.low <= one <= found.high
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)
    assert np.isnan([one_more_draw(np.ones(1)).low, one_more_draw(np.ones(0)).value]).all()


def test_a_mean_without_each_group_has_the_t_interval_of_group_means():
    values = np.array([0.1, 0.4, 0.35, 0.8])
    left = (values.sum() - values) / 3
    found = without_each(values.mean(), left, 4)
    reach = student.ppf(0.975, 3) * values.std(ddof=1) / 2
    assert (found.low, found.high) == pytest.approx((values.mean() - reach, values.mean() + reach))
    assert np.isnan(without_each(0.5, left, 1).low)
    assert np.isnan(without_each(0.5, np.array([0.4, np.nan]), 4).low)


def test_a_share_without_each_group_stays_inside_and_has_a_width_at_its_ends():
    found = share_without_each(0.9, np.array([0.86, 1.0, 0.9, 0.85]), 4)
    assert 0 < found.low < 0.9 < found.high < 1
    for value in (0.0, 1.0):
        at_end = share_without_each(value, np.full(6, value), 6)
        assert (at_end.low, at_end.high) == pytest.approx(
            (0.0, student.ppf(0.975, 5) ** 2 / (6 + student.ppf(0.975, 5) ** 2))
            if not value
            else (6 / (6 + student.ppf(0.975, 5) ** 2), 1.0)
        )
    assert np.isnan(share_without_each(0.5, np.array([0.4, np.nan]), 2).high)
