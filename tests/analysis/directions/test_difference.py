"""Mean differences: what they are exactly, what they find, and what they must not be believed about."""

import numpy as np
import pytest

from backend.analysis.directions.difference import (
    aucs,
    cosine_matrix,
    held_out_projections,
    matched_weights,
    mean_difference,
    project,
    random_direction,
    separation,
    split_half_cosine,
    truncate_larger_class,
)
from backend.records import Direction, InputError


def planted(*, responses=300, d_model=32, size=2.0, confound=0.0, seed=0):
    rng = np.random.default_rng(seed)
    question = rng.integers(0, 10, responses)
    labels = rng.random(responses) < np.linspace(0.05, 0.7, 10)[question]
    vector = rng.standard_normal(d_model)
    vector *= size / np.linalg.norm(vector)
    topic = confound * np.outer(np.linspace(-1, 1, 10), rng.standard_normal(d_model))
    means = rng.standard_normal((responses, d_model)) + np.outer(labels, vector) + topic[question]
    return means.astype(np.float32), rng.integers(1, 80, responses), labels, question, vector


def made(means, counts, labels, **options):
    return mean_difference(means, counts, labels, name="m", layer=3, **options)


def cosine(one, other):
    return float(cosine_matrix(np.stack([one, other]).astype(np.float32))[0, 1])


def test_pooling_by_token_equals_the_mean_over_all_tokens():
    rng = np.random.default_rng(0)
    counts, labels = np.array([3, 10, 1, 7]), np.array([True, True, False, False])
    tokens = [rng.standard_normal((count, 5)) for count in counts]
    means = np.stack([one.mean(0) for one in tokens])
    pooled = np.concatenate(tokens[:2]).mean(0) - np.concatenate(tokens[2:]).mean(0)
    np.testing.assert_allclose(made(means, counts, labels, pooling="token").vector, pooled, rtol=1e-5)
    np.testing.assert_allclose(made(means, counts, labels).vector, means[:2].mean(0) - means[2:].mean(0), rtol=1e-5)


@pytest.mark.parametrize("pooling", ["response", "token"])
@pytest.mark.parametrize("balance", [True, False])
def test_a_planted_direction_is_recovered_at_its_norm(pooling, balance):
    means, counts, labels, _, vector = planted()
    found = made(
        means, counts, labels, pooling=pooling, balance=balance, activation_norm=7.0, provenance={"judge": "j"}
    )
    assert cosine(found.vector, vector) > 0.9
    assert found.norm == pytest.approx(2.0, rel=0.2)
    assert found.activation_norm == 7.0
    assert found.provenance["judge"] == "j"
    assert (found.provenance["n_positive"] == found.provenance["n_negative"]) == balance
    assert cosine(made(means, counts, ~labels, pooling=pooling, balance=balance).vector, -vector) > 0.85


def test_truncation_keeps_the_smaller_class_whole():
    labels = np.arange(100) % 5 == 0
    kept = truncate_larger_class(labels)
    assert labels[kept].sum() == 20
    assert (~labels[kept]).sum() == 20
    assert len(set(kept)) == 40


def test_matching_questions_removes_what_the_question_is_about():
    means, counts, labels, question, vector = planted(responses=2000, confound=2.0)
    matched = made(means, counts, labels, weights=matched_weights(labels, question))
    assert cosine(made(means, counts, labels).vector, vector) < 0.9
    assert cosine(matched.vector, vector) > 0.97
    with pytest.raises(InputError, match="no question has responses of both classes"):
        matched_weights(labels, labels)


def test_responses_without_tokens_do_not_count():
    means, counts, labels, _, _ = planted()
    empty = np.vstack([means, np.full((2, 32), np.nan, dtype=np.float32)])
    padded = [np.append(counts, [0, 0]), np.append(labels, [True, False])]
    assert np.array_equal(made(empty, *padded, balance=False).vector, made(means, counts, labels, balance=False).vector)
    assert np.isnan(held_out_projections(empty, *padded)[-2:]).all()
    with pytest.raises(InputError, match="no positive response"):
        made(means, counts * ~labels, labels)
    with pytest.raises(InputError, match="do not fit"):
        made(means, counts[:3], labels)


def test_halves_agree_where_there_is_a_direction_and_not_where_there_is_none():
    means, counts, labels, question, _ = planted()
    strong = split_half_cosine(means, counts, labels, question)
    assert strong.low <= strong.value <= strong.high
    assert strong.value > 0.7
    noise = np.random.default_rng(5).standard_normal(means.shape)
    assert abs(split_half_cosine(noise, counts, labels).value) < 0.3
    with pytest.raises(InputError, match="two halves"):
        split_half_cosine(means, counts, labels, labels)


def test_held_out_separation_is_chance_on_noise_where_the_plain_one_is_not():
    rng = np.random.default_rng(0)
    noise, labels = rng.standard_normal((120, 200)).astype(np.float32), np.arange(120) % 3 == 0
    counts = np.ones(120)
    flattering = separation(project(noise, made(noise, counts, labels)), labels)
    honest = separation(held_out_projections(noise, counts, labels), labels)
    assert flattering.auc.value > 0.9
    assert honest.auc.low < 0.5 < honest.auc.high
    means, counts, labels, question, _ = planted(size=3.0)
    found = separation(held_out_projections(means, counts, labels, question), labels, question)
    assert found.auc.low > 0.9
    assert found.d_prime.value == pytest.approx(3.0, rel=0.2)
    assert found.d_prime.low < 3.0 < found.d_prime.high + 0.3


def test_no_interval_from_a_single_group_and_no_separation_of_one_class():
    scores, labels = np.arange(10.0), np.arange(10) > 4
    alone = separation(scores, labels, labels)
    assert alone.auc.value == 1
    assert np.isnan([alone.auc.low, alone.auc.high, alone.d_prime.low]).all()
    with pytest.raises(InputError, match="both classes"):
        separation(scores, labels | True)
    with pytest.raises(InputError, match="two groups"):
        held_out_projections(scores[:, None], np.ones(10), labels, labels)


def test_a_random_control_has_the_norm_and_nothing_else():
    direction = Direction("v", 4, np.random.default_rng(0).standard_normal(4096, np.float32) * 3, 50.0)
    controls = [random_direction(direction, seed) for seed in range(5)]
    matrix = cosine_matrix([direction, *controls])
    np.testing.assert_allclose([control.norm for control in controls], direction.norm, rtol=1e-5)
    assert np.abs(matrix - np.eye(6)).max() < 0.08
    assert controls[0].layer == 4
    assert controls[0].relative(1.0) == pytest.approx(direction.relative(1.0))


def test_cosines_and_projections():
    matrix = cosine_matrix(np.array([[1, 0], [2, 2], [-3, 0], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(matrix[0, :3], [1, np.sqrt(0.5), -1], atol=1e-6)
    assert np.isnan(matrix[3]).all()
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
    found = held_out_projections(means, counts, labels, groups, pooling="token", folds=12)  # a fold a group
    for group in range(12):
        here, rest = groups == group, (groups != group) & (counts > 0)
        sides = [
            np.average(means[rest & side], axis=0, weights=counts[rest & side]).astype(float)
            for side in (labels, ~labels)
        ]
        vector = sides[0] - sides[1]
        expected = (means[here] - np.mean(sides, axis=0)) @ vector / np.linalg.norm(vector)
        np.testing.assert_allclose(found[here], np.where(counts[here] > 0, expected, np.nan), atol=1e-5)


def test_several_directions_have_the_aucs_that_each_has_alone():
    rng = np.random.default_rng(12)
    labels, groups = rng.random(80) < 0.5, np.arange(80) % 8
    projections = [rng.normal(size=80) + labels, rng.normal(size=80)]
    projections[1][:3] = np.nan
    alone = [separation(each, labels, groups).auc for each in projections]
    assert aucs(projections, labels, groups) == alone
