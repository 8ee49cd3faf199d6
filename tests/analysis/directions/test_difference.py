"""Mean differences: what they are exactly, what they find, and how well they repeat themselves."""

import numpy as np
import pytest

from backend.analysis.directions.cosines import cosine_matrix
from backend.analysis.directions.difference import MeanDifference, bootstrap_cosine, stability
from backend.records import InputError
from tests.analysis.directions.planted import LAYER, answers, planted


def made(of, **options):
    return MeanDifference.of(of, name="m", **options).at(LAYER)


def cosine(one, other):
    return float(cosine_matrix(np.stack([one, other]).astype(np.float32))[0, 1])


def test_pooling_by_token_equals_the_mean_over_all_tokens():
    rng = np.random.default_rng(0)
    counts, labels = np.array([3, 10, 1, 7]), np.array([True, True, False, False])
    tokens = [rng.standard_normal((count, 5)) for count in counts]
    means = np.stack([one.mean(0) for one in tokens])
    pooled = np.concatenate(tokens[:2]).mean(0) - np.concatenate(tokens[2:]).mean(0)
    own = answers(means, counts, labels)
    np.testing.assert_allclose(made(own, pooling="token").vector, pooled, rtol=1e-5)
    np.testing.assert_allclose(made(own).vector, means[:2].mean(0) - means[2:].mean(0), rtol=1e-5)


@pytest.mark.parametrize("pooling", ["response", "token"])
@pytest.mark.parametrize("balance", ["truncation", "weights", "matching"])
def test_a_planted_direction_is_recovered_at_its_norm(pooling, balance):
    means, counts, labels, question, vector = planted()
    own = answers(means, counts, labels, question, norm=7.0)
    found = made(own, pooling=pooling, balance=balance, provenance={"judge": "j"})
    assert cosine(found.vector, vector) > 0.85
    assert found.norm == pytest.approx(2.0, rel=0.2)
    assert found.activation_norm == 7.0
    assert found.provenance["judge"] == "j"
    assert found.provenance["balance"] == balance
    assert (found.provenance["n_positive"] == found.provenance["n_negative"]) == (balance == "truncation")
    other = made(answers(means, counts, ~labels, question), pooling=pooling, balance=balance)
    assert cosine(other.vector, -vector) > 0.85


def test_matching_questions_removes_what_the_question_is_about():
    means, counts, labels, question, vector = planted(responses=2000, confound=2.0)
    own = answers(means, counts, labels, question)
    assert cosine(made(own).vector, vector) < 0.9
    assert cosine(made(own, balance="matching").vector, vector) > 0.97
    with pytest.raises(InputError, match="0 of 2 questions have responses of both classes, and to match"):
        made(answers(means, counts, labels, labels), balance="matching")


def test_a_matched_difference_is_an_average_of_differences_within_questions():
    means, counts, labels, question, _ = planted()
    inside, shares = [], []
    for group in range(10):
        sides = [(question == group) & side for side in (labels, ~labels)]
        n = [side.sum() for side in sides]
        if min(n):
            inside.append(means[sides[0]].mean(0) - means[sides[1]].mean(0))
            shares.append(n[0] * n[1] / sum(n))
    found = made(answers(means, counts, labels, question), balance="matching")
    np.testing.assert_allclose(found.vector, np.average(inside, axis=0, weights=shares), atol=1e-5)


def test_a_matched_difference_is_the_coefficient_of_the_class_beside_an_intercept_for_every_question():
    means, counts, labels, question, _ = planted(confound=2.0)
    design = np.column_stack([labels, question[:, None] == np.arange(10)]).astype(float)
    coefficients = np.linalg.lstsq(design, means.astype(float), rcond=None)[0]
    found = made(answers(means, counts, labels, question), balance="matching")
    np.testing.assert_allclose(found.vector, coefficients[0], atol=1e-5)


def test_the_record_counts_answers_and_questions_with_a_weight():
    labels = np.array([True, False, False, True, True, False])
    question = np.array([0, 0, 0, 1, 2, 2])
    own = answers(np.eye(6), np.ones(6), labels, question)
    counted = ("n_positive", "n_negative", "questions", "questions_with_both")
    for balance, expected in (("weights", (3, 3, 3, 2)), ("matching", (2, 3, 2, 2))):
        said = made(own, balance=balance).provenance
        assert tuple(said[of] for of in counted) == expected


def test_responses_without_tokens_do_not_count():
    means, counts, labels, _, _ = planted()
    empty = np.vstack([means, np.full((2, 32), np.nan, dtype=np.float32)])
    padded = answers(empty, np.append(counts, [0, 0]), np.append(labels, [True, False]))
    plain = answers(means, counts, labels)
    assert np.array_equal(made(padded, balance="weights").vector, made(plain, balance="weights").vector)
    assert made(padded).provenance["n_positive"] == labels.sum()


def test_halves_agree_where_there_is_a_direction_and_not_where_there_is_none():
    means, counts, labels, question, _ = planted()
    strong = stability(answers(means, counts, labels, question))[LAYER]
    assert strong.low <= strong.value <= strong.high
    assert strong.value > 0.7
    noise = np.random.default_rng(5).standard_normal(means.shape)
    assert abs(stability(answers(noise, counts, labels))[LAYER].value) < 0.3
    assert abs(bootstrap_cosine(answers(noise, counts, labels))[LAYER].value) < strong.value
    with pytest.raises(InputError, match="two halves"):
        stability(answers(means, counts, labels, labels))


def test_what_the_question_is_about_repeats_itself_unless_questions_are_matched():
    means, counts, labels, question, _ = planted(responses=2000, size=0.0, confound=3.0)
    own = answers(means, counts, labels, question)
    by_response = answers(means, counts, labels)
    assert stability(by_response)[LAYER].value > 0.9
    assert abs(stability(own, balance="matching")[LAYER].value) < 0.3
