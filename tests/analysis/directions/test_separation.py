"""Separation: what directions tell apart, and what they must not be believed about."""

import numpy as np
import pytest
from scipy.stats import t as student

from backend.analysis.directions.difference import MeanDifference
from backend.analysis.directions.separation import HeldOut, project, separation, shuffled_aucs
from backend.records import Direction, InputError
from tests.analysis.directions.planted import LAYER, answers, planted


def held_out(of, **options):
    return HeldOut.of(of, **options).project(LAYER)


def test_held_out_separation_is_chance_on_noise_where_the_plain_one_is_not():
    rng = np.random.default_rng(0)
    noise, labels = rng.standard_normal((120, 200)).astype(np.float32), np.arange(120) % 3 == 0
    own = answers(noise, np.ones(120), labels)
    flattering = separation(project(noise, MeanDifference.of(own, name="m").at(LAYER)), labels)
    honest = separation(held_out(own), labels)
    assert flattering.auc.value > 0.9
    assert honest.auc.low < 0.5 < honest.auc.high
    means, counts, labels, question, _ = planted(size=3.0)
    found = separation(held_out(answers(means, counts, labels, question)), labels, question)
    assert found.auc.low > 0.9
    assert found.d_prime.value == pytest.approx(3.0, rel=0.2)
    assert found.d_prime.low < 3.0 < found.d_prime.high + 0.3


def test_responses_without_tokens_are_not_projected():
    means, counts, labels, question, _ = planted()
    counts[:2] = 0
    means[:2] = np.nan
    found = held_out(answers(means, counts, labels, question))
    assert np.isnan(found[:2]).all()
    assert np.isfinite(found[2:]).all()


def test_no_interval_from_a_single_group_and_no_separation_of_one_class():
    scores, labels = np.arange(10.0), np.arange(10) > 4
    alone = separation(scores, labels, labels)
    assert alone.auc.value == 1
    assert np.isnan([alone.auc.low, alone.auc.high, alone.d_prime.low]).all()
    assert alone.why == "too few questions: 1 and 1 hold either class, 3 must hold each"
    with pytest.raises(InputError, match="both classes"):
        separation(scores, labels | True)
    with pytest.raises(InputError, match="two groups"):
        HeldOut.of(answers(scores[:, None], np.ones(10), labels, labels))


def test_projections_are_in_residual_units_and_of_one_model():
    direction = Direction("v", 0, np.array([3.0, 4.0]))
    np.testing.assert_allclose(project(np.array([[3, 4], [4, -3]]), direction), [5, 0], atol=1e-6)
    with pytest.raises(InputError, match="different models"):
        project(np.ones((2, 3)), direction)


def test_a_response_is_projected_by_the_mean_difference_of_the_other_folds():
    rng = np.random.default_rng(11)
    means = rng.normal(size=(60, 5)).astype(np.float32)
    labels, groups = np.arange(60) % 5 < 2, np.repeat(np.arange(12), 5)
    counts = rng.integers(0, 9, 60)
    counts[::5] = counts[2::5] = 4  # every group has answers of both classes
    found = held_out(answers(means, counts, labels, groups), pooling="token", folds=12)  # a fold a group
    for group in range(12):
        here, rest = groups == group, (groups != group) & (counts > 0)
        sides = [
            np.average(means[rest & side], axis=0, weights=counts[rest & side]).astype(float)
            for side in (labels, ~labels)
        ]
        vector = sides[0] - sides[1]
        expected = (means[here] - np.mean(sides, axis=0)) @ vector / np.linalg.norm(vector)
        np.testing.assert_allclose(found[here], np.where(counts[here] > 0, expected, np.nan), atol=1e-5)


def test_matched_folds_judge_by_what_tells_apart_within_questions():
    """Questions alone tell these classes apart: a matched direction must not see it."""
    means, counts, labels, question, vector = planted(responses=1000, size=1.0, confound=4.0)
    own = answers(means, counts, labels, question)
    unit = vector / np.linalg.norm(vector)
    within = np.corrcoef(held_out(own, balance="matching"), means @ unit)[0, 1]
    assert within > np.corrcoef(held_out(own), means @ unit)[0, 1]
    labels, question = np.arange(12) % 2 == 0, np.array([0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    with pytest.raises(InputError, match="two questions with responses of both classes"):
        HeldOut.of(answers(np.eye(12), np.ones(12), labels, question), balance="matching")


def test_d_prime_without_each_question_is_that_of_the_others():
    rng = np.random.default_rng(12)
    labels, groups = rng.random(80) < 0.5, np.arange(80) % 8
    scores = rng.normal(size=80) + labels

    def d_prime(kept):
        sides = [scores[kept & side] for side in (labels, ~labels)]
        return (sides[0].mean() - sides[1].mean()) / np.sqrt((sides[0].var() + sides[1].var()) / 2)

    value, left = d_prime(groups >= 0), np.array([d_prime(groups != group) for group in range(8)])
    found = separation(scores, labels, groups).d_prime
    reach = student.ppf(0.975, 7) * np.sqrt(7 / 8 * ((left - value) ** 2).sum())
    assert (found.value, found.low, found.high) == pytest.approx((value, value - reach, value + reach))


def test_chance_is_what_questions_alone_tell_apart():
    """Labels say nothing within a question: a real AUC lies where shuffled ones do, above one half."""
    means, counts, labels, question, _ = planted(responses=1000, size=0.0, confound=4.0)
    own = answers(means, counts, labels, question)
    chance = shuffled_aucs(own)[LAYER]
    assert chance.value > 0.6
    assert chance.low < separation(held_out(own), labels, question).auc.value < chance.high
    means, counts, labels, question, _ = planted(responses=1000, size=2.0, confound=0.3)
    own = answers(means, counts, labels, question)
    for balance in ("weights", "matching"):
        real = separation(held_out(own, balance=balance), labels, question).auc.value
        assert real > shuffled_aucs(own, balance=balance)[LAYER].high
    with pytest.raises(InputError, match="to shuffle labels within questions takes 2"):
        shuffled_aucs(answers(means, counts, labels, question * 2 + labels))
