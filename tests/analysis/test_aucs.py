"""AUCs are exact, their intervals go by questions, and a verdict rules out both draws."""

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from backend.analysis import aucs
from backend.analysis.aucs import FEWEST_GROUPS, auc, auc_estimate, auc_table
from backend.analysis.groups import shuffled
from backend.records import InputError


def study(seed=0, questions=16, answers=25, ties=True, apart=(0.0, 0.8, 3.0)):
    """(values, labels, question): question rates and question effects differ, three columns tell more and more."""
    rng = np.random.default_rng(seed)
    question = rng.permutation(np.repeat(np.arange(questions), answers))
    labels = rng.random(len(question)) < rng.beta(0.5, 1.5, questions)[question]
    values = rng.normal(size=(len(question), 3)) + labels[:, None] * apart + rng.normal(size=(questions, 3))[question]
    return (np.round(values, 1) if ties else values), labels, question


def test_an_auc_is_the_exact_one_with_ties_and_gaps():
    values, labels, question = study()
    values[np.random.default_rng(2).random(values.shape) < 0.1] = np.nan
    table = auc_table(values, labels, question)
    for column, row in zip(values.T, table.iter_rows(named=True), strict=True):
        kept = np.isfinite(column)
        assert row["value"] == pytest.approx(roc_auc_score(labels[kept], column[kept]))
        assert auc(column[kept], labels[kept]) == pytest.approx(row["value"])
        alone = auc_table(column[kept, None], labels[kept], question[kept]).row(0, named=True)
        assert alone == pytest.approx(row)


@pytest.mark.parametrize("ties", [True, False])
def test_the_variance_is_that_of_leaving_one_question_out(ties):
    values, labels, question = study(1, ties=ties)
    for column, row in zip(values.T, auc_table(values, labels, question).iter_rows(named=True), strict=True):
        value = auc(column, labels)
        left = np.array([auc(column[question != one], labels[question != one]) for one in range(16)])
        variance = 15 / 16 * ((left - value) ** 2).sum()
        effect = variance / newcombe(value, labels)
        assert effect > 1
        shares = [
            (np.bincount(question[side], minlength=16) ** 2).sum() / side.sum() ** 2 for side in (labels, ~labels)
        ]
        held = [len(np.unique(question[side])) for side in (labels, ~labels)]
        welch = sum(shares) ** 2 / sum(share**2 / (n - 1) for share, n in zip(shares, held, strict=True))
        sizes = np.bincount(question)
        freedom = min(welch, (sizes**2).sum() ** 2 / (sizes**4).sum() - 1)
        reach = student.ppf(0.975, freedom)
        for end in (row["low"], row["high"]):  # an end is ruled out just so, with the variance it would have
            assert abs(value - end) == pytest.approx(reach * np.sqrt(effect * newcombe(end, labels)), rel=1e-6)
        off = abs(value - 0.5) / np.sqrt(effect * newcombe(0.5, labels))
        assert row["p_value"] >= 2 * student.sf(off, freedom) - 1e-12


def newcombe(value, labels):
    """Newcombe 2006, method 5: Hanley and McNeil's q1 and q2, with one size for both classes."""
    positive, negative = labels.sum(), (~labels).sum()
    q1, q2, size = value / (2 - value), 2 * value**2 / (1 + value), (positive + negative) / 2 - 1
    return (value * (1 - value) + size * (q1 - value**2) + size * (q2 - value**2)) / positive / negative


def test_shuffled_labels_within_questions_have_the_mean_and_p_value_that_draws_have():
    values, labels, question = study(3)
    rng = np.random.default_rng(3)
    for column, row in zip(values.T, auc_table(values, labels, question).iter_rows(named=True), strict=True):
        drawn = np.array([auc(column, shuffled(labels, question, rng, np.arange(len(labels)))) for _ in range(1500)])
        assert row["shuffled"] == pytest.approx(drawn.mean(), abs=4 * drawn.std() / np.sqrt(1500))
    weak, labels, question = study(4, apart=(0.15, 0.15, 0.15))
    for column in weak.T:
        value = auc(column, labels)
        drawn = np.array([auc(column, shuffled(labels, question, rng, np.arange(len(labels)))) for _ in range(1500)])
        further = (np.abs(drawn - drawn.mean()) >= abs(value - drawn.mean())).mean()
        if (value - 0.5) * (value - drawn.mean()) < 0:
            further = 1.0  # nearer to one half than shuffled ones: they tell more
        classed = aucs._Classed(labels, np.unique(question, return_inverse=True)[1])
        assert classed._of(column)[3] == pytest.approx(further, abs=0.05)


def test_interval_and_p_value_agree_about_one_half_where_nothing_can_be_shuffled():
    rng, clear = np.random.default_rng(5), 0
    question = np.repeat(np.arange(10), 20)
    for _ in range(100):
        labels = rng.permutation(np.arange(10) < 4)[question]
        values = rng.normal(size=(200, 1)) + rng.normal(size=(10, 1))[question] + 2 * labels[:, None]
        row = auc_table(values, labels, question).row(0, named=True)
        assert row["shuffled"] is None
        assert (row["p_value"] < 0.05) == (not row["low"] <= 0.5 <= row["high"])
        clear += row["p_value"] < 0.05
    assert 10 < clear < 90


def test_it_is_mirrored_with_its_labels_and_its_scores():
    values, labels, question = study(6)
    table, turned, flipped = (
        auc_table(x, y, question) for x, y in ((values, labels), (-values, labels), (values, ~labels))
    )
    for other in (turned, flipped):
        assert (1 - other["value"]).to_list() == pytest.approx(table["value"].to_list())
        assert (1 - other["high"]).to_list() == pytest.approx(table["low"].to_list())
        assert other["p_value"].to_list() == pytest.approx(table["p_value"].to_list())


def test_perfect_separation_is_not_certain():
    widths = []
    for questions in (4, 8, 32):
        question = np.repeat(np.arange(questions), 50)
        labels = np.arange(len(question)) % 2 == 0
        found = auc_estimate(labels + 0.0, labels, question)
        assert (found.value, found.high) == (1.0, 1.0)
        widths.append(1 - found.low)
    assert widths[0] > 0.04 > widths[1] > 0.005 > widths[2] > 0.001
    assert sorted(widths, reverse=True) == widths


def test_all_of_a_class_in_one_or_two_questions_says_nothing_of_others():
    rng = np.random.default_rng(7)
    question = np.repeat(np.arange(16), 25)
    scores = rng.normal(size=(400, 1))
    for held in (1, 2):
        labels = (question < held) & (np.arange(400) % 2 == 0)
        row = auc_table(scores + 5 * labels[:, None], labels, question).row(0, named=True)
        assert row["value"] > 0.99
        assert (row["low"], row["high"], row["p_value"], row["groups"]) == (None, None, None, held)
        assert row["why"] == f"too few questions: {held} and 16 hold either class, {FEWEST_GROUPS} must hold each"


def test_questions_without_the_rarer_class_do_not_narrow_it():
    """Three questions with it and thirteen without leave the degrees of freedom of three."""
    rng = np.random.default_rng(8)
    question = np.repeat(np.arange(16), 25)
    labels = (question < 3) & (np.arange(400) % 3 == 0)
    row = auc_table(rng.normal(size=(400, 1)) + 1.2 * labels[:, None], labels, question).row(0, named=True)
    assert row["groups"] == 3
    reach = student.ppf(0.975, 4) * np.sqrt(newcombe(row["value"], labels))  # 2.8 degrees of freedom
    assert row["value"] - row["low"] > reach


def test_what_cannot_be_told_apart_is_refused_or_null():
    values, labels, question = study()
    with pytest.raises(InputError, match="of one"):
        auc_table(values, labels | True, question)
    with pytest.raises(InputError, match="do not fit"):
        auc_table(values[:, 0], labels, question)
    values[labels, 0] = np.nan
    row = auc_table(values, labels, question).row(0, named=True)
    assert (row["value"], row["why"]) == (None, "one class alone has values")
    constant = auc_table(np.ones((len(labels), 1)), labels, question).row(0, named=True)
    assert (constant["value"], constant["p_value"]) == (0.5, 1.0)
