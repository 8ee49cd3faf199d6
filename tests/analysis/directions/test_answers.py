"""Two classes of answers: how much each answer counts, and what is refused before anything is made of them."""

import numpy as np
import pytest

from backend.analysis.directions.answers import Answers, Means, matched_weights, truncate_larger_class
from backend.records import InputError
from tests.analysis.directions.planted import LAYER, answers, planted


def test_picked_rows_are_those_rows_and_can_be_picked_again():
    means, counts, labels, question, _ = planted()
    whole = answers(means, counts, labels, question)
    first, second = np.flatnonzero(labels | (question < 9)), np.arange(0, 150, 2)
    picked = whole.rows(first).rows(second)
    kept = first[second]
    np.testing.assert_array_equal(picked.means.at(LAYER), means[kept])
    np.testing.assert_array_equal(picked.counts, counts[kept])
    np.testing.assert_array_equal(picked.labels, labels[kept])
    assert len(set(zip(picked.codes, question[kept], strict=True))) == len(set(picked.codes)) == picked.codes.max() + 1
    assert picked.means.by_layer is whole.means.by_layer  # nothing was copied


def test_layers_can_be_taken_alone():
    means, counts, labels, _, _ = planted()
    both = Answers(Means({1: means, 2: -means}, counts), labels)
    assert list(both.only(2).means.by_layer) == [2]
    np.testing.assert_array_equal(both.only(2).means.at(2), -means)


def test_truncation_keeps_the_smaller_class_whole():
    labels = np.arange(100) % 5 == 0
    kept = truncate_larger_class(labels)
    assert labels[kept].sum() == 20
    assert (~labels[kept]).sum() == 20
    assert len(set(kept)) == 40


@pytest.mark.parametrize("pooling", ["response", "token"])
def test_weights_are_tokens_or_ones_cut_or_matched(pooling):
    means, counts, labels, question, _ = planted()
    counts[::7] = 0
    own = answers(means, counts, labels, question)
    plain = own.weights(pooling)
    np.testing.assert_array_equal(plain, counts if pooling == "token" else counts > 0)
    cut = own.weights(pooling, "truncation", seed=1)
    assert ((cut == plain) | (cut == 0)).all()
    assert (cut[labels] > 0).sum() == (cut[~labels] > 0).sum() == (plain[labels] > 0).sum()
    matched = own.weights(pooling, "matching")
    assert not matched[counts == 0].any()
    for group in range(10):  # every question weighs the same on both sides
        here = question == group
        assert matched[here & labels].sum() == pytest.approx(matched[here & ~labels].sum())


def test_matched_weights_leave_out_a_question_of_one_class_and_refuse_when_there_is_no_other():
    labels = np.array([True, False, True, False, False])
    groups = np.array([0, 0, 1, 2, 2])
    np.testing.assert_allclose(matched_weights(labels, groups), [0.5, 0.5, 0, 0, 0])
    with pytest.raises(InputError, match="no question has responses of both classes"):
        matched_weights(labels, labels)


def test_what_does_not_fit_or_is_not_whole_is_refused():
    means, counts, labels, question, _ = planted()
    with pytest.raises(InputError, match=r"do not fit: \(300, 32\) and \(3,\)"):
        Means({LAYER: means}, counts[:3])
    with pytest.raises(InputError, match="do not fit"):
        Means({LAYER: means[0]}, counts)
    with pytest.raises(InputError, match="do not fit 300 answers"):
        answers(means, counts, labels[:3])
    with pytest.raises(InputError, match="300 rows need 300 groups"):
        answers(means, counts, labels, question[:3])
    with pytest.raises(InputError, match="no positive response"):
        answers(means, counts * ~labels, labels)
    with pytest.raises(InputError, match="no negative response"):
        answers(means, counts, labels | True)
    means[5:7, 2] = np.nan
    with pytest.raises(InputError, match="layer 3 holds NaN or infinity in the means of 2 of 300"):
        answers(means, counts, labels)
    counts[5:7] = 0  # nothing was measured there, and nothing is asked
    assert answers(means, counts, labels).weights()[5:7].tolist() == [0, 0]
