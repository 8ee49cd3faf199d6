"""What a probe finds, what it must not find, and what it refuses."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from backend.analysis.probes.classification import METRICS
from backend.analysis.probes.paper_protocol import paper_protocol
from backend.analysis.probes.probe import (
    CHUNK,
    GRID,
    ProbeSettings,
    evaluate_probe,
    probe_progress,
    train_probe,
)
from backend.records import InputError

FAST: dict[str, Any] = {"shuffles": 0, "bootstraps": 0}


def tokens(*, responses=120, each=20, features=9, effect=0.0, planted=2, alike=0.7, seed=0):
    """Values, labels and response of tokens; tokens of a response are `alike`, feature `planted` codes the label."""
    rng = np.random.default_rng(seed)
    response = np.repeat(np.arange(responses), each)
    labels = (rng.random(responses) < 0.4)[response]
    values = (
        rng.standard_normal((responses * each, features)) + alike * rng.standard_normal((responses, features))[response]
    )
    values[:, planted] += effect * labels
    return (values * 3 + 5).astype(np.float32), labels, response


@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
def test_a_planted_direction_is_recovered(penalty):
    values, labels, response = tokens(effect=1.5)
    settings = ProbeSettings(penalty=penalty, C=0.1 if penalty == "l2" else 0.01, split="response", bootstraps=20)
    report = train_probe(values, labels, response, names=[f"L{i}" for i in range(9)], settings=settings)
    weights = report.probe.weights
    assert abs(weights[2]) > 3 * np.abs(np.delete(weights, 2)).max()
    row = report.coefficients.row(by_predicate=pl.col("feature") == "L2", named=True)
    assert row["low"] > 0
    assert row["selected"] == 1
    assert row["coefficient"] == weights[2]
    others = report.coefficients.filter(pl.col("feature") != "L2")
    assert ((others["low"] <= 0) & (others["high"] >= 0)).mean() >= 0.75
    assert report.metrics["auc"].low > 0.65
    assert report.metrics["auc"].low > report.shuffled["auc"].high
    assert report.n_groups == 120
    assert sum(report.n_per_class) == 2400
    if penalty != "l2":
        assert others["selected"].min() < 1


def test_random_labels_are_chance_by_response_and_leak_by_token():
    by_response, by_token = [], []
    for seed in range(4):
        values, labels, response = tokens(responses=40, each=20, features=30, alike=1.0, seed=seed)
        for split, found in (("response", by_response), ("token", by_token)):
            report = train_probe(values, labels, response, settings=ProbeSettings(split=split, **FAST))
            found.append(report.metrics["auc"].value)
    assert np.mean(by_response) < 0.56
    assert np.mean(by_token) > 0.75
    assert any("flatter" in note for note in report.notes)


def test_shuffled_labels_are_chance_although_real_ones_are_not():
    values, labels, response = tokens(effect=1.5)
    question = response % 12
    report = train_probe(values, labels, question, units=response, settings=ProbeSettings(bootstraps=0))
    assert set(report.shuffled) == set(METRICS)
    assert report.shuffled["auc"].low < 0.5 < report.shuffled["auc"].high
    assert report.shuffled["auc"].high < report.metrics["auc"].value


def test_every_row_is_predicted_by_a_fit_that_never_saw_its_group():
    """A feature that names the response tells nothing about held-out ones, however well it fits."""
    response = np.repeat(np.arange(20), 5)
    labels = np.random.default_rng(1).random(20)[response] < 0.5
    values = np.eye(20)[response] + np.random.default_rng(2).normal(0, 0.01, (100, 20))
    loose: dict[str, Any] = {"C": 100.0, **FAST}
    held = train_probe(values, labels, response, settings=ProbeSettings(split="response", **loose))
    leaky = train_probe(values, labels, response, settings=ProbeSettings(split="token", **loose))
    assert leaky.metrics["auc"].value > 0.95
    assert held.metrics["auc"].value < 0.65
    assert np.isfinite(held.held_out).all()


@pytest.mark.parametrize("balance", [True, False])
def test_the_probe_agrees_with_scikit_learn(balance):
    values, labels, response = tokens(effect=1.0)
    report = train_probe(values, labels, response, settings=ProbeSettings(balance=balance, split="response", **FAST))
    standard = (values - values.mean(0, dtype=float)) / values.std(0, dtype=float)
    model = LogisticRegression(C=0.1, class_weight="balanced" if balance else None, tol=1e-8).fit(standard, labels)
    np.testing.assert_allclose(report.probe.weights, model.coef_[0], atol=2e-3)
    np.testing.assert_allclose(report.probe.probability(values), model.predict_proba(standard)[:, 1], atol=2e-3)


def test_balanced_metrics_have_chance_at_a_half_whatever_the_classes():
    rng = np.random.default_rng(0)
    labels = np.arange(4000) % 10 == 0
    values = rng.standard_normal((4000, 3))
    values[:, 0] += labels * 1.0
    even = train_probe(values, labels, np.arange(4000), settings=ProbeSettings(split="response", **FAST)).metrics
    raw = train_probe(
        values, labels, np.arange(4000), settings=ProbeSettings(split="response", balance=False, **FAST)
    ).metrics
    assert 0.6 < even["accuracy"].value < 0.75
    assert raw["accuracy"].value > 0.88
    assert even["precision"].value > 0.6 > raw["recall"].value
    assert even["auc"].value == pytest.approx(raw["auc"].value, abs=0.01)


def test_metrics_have_intervals_that_cover_with_few_questions():
    """The AUC of a probe on questions of unequal difficulty; the truth is its mean over many draws."""
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        question = np.repeat(np.arange(8), 30)
        labels = rng.random(240) < 0.5
        ease = rng.gamma(2, 0.5, 8)[question]
        values = (rng.standard_normal(240) + ease * labels)[:, None]
        found.append(train_probe(values, labels, question, settings=ProbeSettings(folds=2, **FAST)).metrics["auc"])
    truth = np.mean([one.value for one in found])
    assert 0.88 <= np.mean([one.low <= truth <= one.high for one in found]) <= 1


def test_curves_run_from_corner_to_corner_and_calibration_is_calibrated():
    values, labels, response = tokens(effect=1.5, alike=0.0)
    report = train_probe(values, labels, response, settings=ProbeSettings(split="response", **FAST))
    assert report.roc.row(0) == (0, 0)
    assert report.roc.row(-1) == (1, 1)
    assert report.roc.height <= 202
    area = np.trapezoid(report.roc["true_positive"], report.roc["false_positive"])
    assert area == pytest.approx(report.metrics["auc"].value, abs=5e-3)
    assert report.calibration["n"].sum() == len(labels)
    assert (report.calibration["predicted"] - report.calibration["observed"]).abs().max() < 0.12


def test_a_probe_carries_over_to_other_rows_and_to_a_direction():
    values, labels, response = tokens(effect=1.5)
    probe = train_probe(values, labels, response, settings=ProbeSettings(split="response", **FAST)).probe
    other, truth, owner = tokens(effect=1.5, seed=9)
    found = evaluate_probe(probe, other, truth, owner)
    assert found["auc"].low > 0.7
    assert found["auc"].low < found["auc"].value < found["auc"].high
    direction = probe.direction("probe", 12)
    along = other @ direction.vector
    assert np.corrcoef(along, probe.decision(other))[0, 1] > 0.999
    with pytest.raises(InputError, match="reads 9 features"):
        probe.decision(other[:, :3])


# --- bad input: never a traceback of scikit-learn, never a figure from a single group ---------------------------------


def test_a_class_without_rows_or_from_one_group_is_refused():
    values, labels, response = tokens()
    for truth, match in ((labels & False, "positive class has no rows"), (labels | True, "negative class has no rows")):
        with pytest.raises(InputError, match=match):
            train_probe(values, truth, response)
    with pytest.raises(InputError, match="come from one group"):
        train_probe(values, response == 3, response)
    with pytest.raises(InputError, match="come from one group"):
        train_probe(values, labels, np.zeros(len(labels)))


def test_features_without_numbers_are_refused_and_gaps_are_counted():
    values, labels, response = tokens()
    names = [f"L{i}" for i in range(9)]
    with pytest.raises(InputError, match="feature L4 is without a single number"):
        train_probe(np.where(np.arange(9) == 4, np.nan, values), labels, response, names=names)
    gaps = values.copy()
    gaps[:7, 0] = np.nan
    gaps[7, 1] = np.inf
    report = train_probe(gaps, labels, response, settings=ProbeSettings(split="response", **FAST))
    assert any("8 of 2400 rows" in note for note in report.notes)
    assert np.isnan(report.held_out[:8]).all()
    assert np.isfinite(report.held_out[8:]).all()
    assert report.n_rows == 2392
    with pytest.raises(InputError, match="no row has a number for every feature"):
        train_probe(np.where(np.arange(2400)[:, None] % 2 == np.arange(9) % 2, np.nan, values), labels, response)
    for empty in (values[:0], values[:, :0]):
        with pytest.raises(InputError, match="nothing to train"):
            train_probe(empty, labels[: len(empty)], response[: len(empty)])


def test_constant_features_are_noted_and_only_constant_ones_refused():
    values, labels, response = tokens(effect=1.5)
    values[:, 0] = 1e6 + 0.1
    report = train_probe(values, labels, response, settings=ProbeSettings(split="response", bootstraps=5, shuffles=0))
    assert any("feature 0 is constant" in note for note in report.notes)
    assert report.probe.weights[0] == 0
    with pytest.raises(InputError, match="constant over all rows"):
        train_probe(np.ones((2400, 2)), labels, response)


def test_separable_classes_say_so():
    labels = np.arange(40) % 2 == 0
    values = labels[:, None] * 10.0 + np.random.default_rng(0).normal(0, 0.1, (40, 1))
    for penalty in ("l1", "l2"):
        settings = ProbeSettings(penalty=penalty, C=1000.0, split="response")
        report = train_probe(values, labels, np.arange(40), settings=settings)
        assert report.metrics["auc"].value == 1
        assert np.isfinite(report.probe.weights).all()
        assert any("perfectly" in note for note in report.notes)


def test_fewer_groups_than_folds_are_said():
    values, _, _ = tokens(effect=1.0)
    question = np.repeat(np.arange(6), 400)
    by_topic = question < 3
    report = train_probe(values, by_topic, question, settings=ProbeSettings(bootstraps=10))
    assert report.folds == 3
    assert any("3 folds instead of 5" in note for note in report.notes)
    assert not any("No intervals" in note for note in report.notes)
    report = train_probe(values, question < 2, question, settings=ProbeSettings(bootstraps=0, shuffles=1))
    assert (
        report.notes[1]
        == "No intervals, and no verdict: too few questions: 2 and 4 hold either class, 3 must hold each."
    )
    assert np.isnan([report.metrics[name].low for name in METRICS]).all()
    assert report.above_chance is None
    two = train_probe(values, question % 2 == 0, question % 4, settings=ProbeSettings(bootstraps=10))
    assert two.folds == 2


def test_a_penalty_that_drops_everything_says_so():
    values, labels, response = tokens()
    report = train_probe(values, labels, response, settings=ProbeSettings(penalty="l1", C=1e-6, split="response"))
    assert any("dropped every feature" in note for note in report.notes)
    assert report.metrics["auc"].value == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [({"penalty": "l3"}, "l3"), ({"split": "row"}, "row"), ({"C": 0}, "C is 0"), ({"folds": 1}, "1 folds"),
     ({"shuffles": -1}, "negative")],
)  # fmt: skip
def test_settings_are_checked(wrong, match):
    with pytest.raises(InputError, match=match):
        ProbeSettings(**wrong)


def test_shapes_are_checked():
    values, labels, response = tokens()
    for broken in ((values[:5], labels, response), (values, labels, response[:5]), (values[:, 0], labels, response)):
        with pytest.raises(InputError, match=r"fit|need"):
            train_probe(*broken)
    with pytest.raises(InputError, match="True or False"):
        train_probe(values, np.where(labels, 1, np.nan), response)
    with pytest.raises(InputError, match="2 names do not fit 9 features"):
        train_probe(values, labels, response, names=["a", "b"])


def test_progress_ends_where_training_ends_and_its_metrics_never_change():
    values, labels, response = tokens(effect=1.5, each=3)
    settings = ProbeSettings(split="response", folds=2, bootstraps=25, shuffles=15)
    steps = list(probe_progress(values, labels, response, settings=settings))
    assert [step.bootstraps for step in steps] == [0, 10, 20, 25, 25, 25]
    assert [step.shuffles for step in steps] == [0, 0, 0, 0, 10, 15]
    assert [step.complete for step in steps] == [False] * 5 + [True]
    assert steps[0].coefficients["low"].null_count() == 9
    assert CHUNK == 10
    whole = train_probe(values, labels, response, settings=settings)
    for step in (steps[0], steps[-1]):
        assert step.metrics == whole.metrics
        assert (step.probe.weights == whole.probe.weights).all()
    assert steps[-1].coefficients.equals(whole.coefficients)
    assert steps[-1].shuffled == whole.shuffled


def test_the_p_value_is_small_for_a_planted_label_and_not_for_a_random_one():
    settings = ProbeSettings(split="response", folds=2, bootstraps=0, shuffles=19)
    values, labels, response = tokens(effect=1.5, each=3)
    assert train_probe(values, labels, response, settings=settings).p_value == pytest.approx(1 / 20)
    assert train_probe(values, labels, response, settings=ProbeSettings(split="response", **FAST)).p_value is None
    small = {"responses": 40, "each": 3, "features": 3}
    found = [train_probe(*tokens(**small, seed=seed), settings=settings).p_value for seed in range(5)]
    assert np.mean(found) > 0.2


def test_c_is_chosen_within_the_training_folds_and_penalises_noise_more_than_signal():
    settings = ProbeSettings(split="response", C=None, folds=2, **FAST)
    signal = train_probe(*tokens(each=5, effect=3.0, alike=0), settings=settings)
    noise = train_probe(*tokens(each=2, features=30), settings=settings)
    assert signal.C > noise.C == GRID[0]
    assert len(signal.C_by_fold) == signal.folds
    assert set(signal.C_by_fold) <= set(GRID)


def test_features_that_move_together_make_single_picks_a_matter_of_chance():
    values, labels, response = tokens(effect=1.5)
    values[:, 3] = values[:, 2] + np.random.default_rng(1).normal(0, 0.5, len(values))
    settings = ProbeSettings(penalty="l1", C=0.003, split="response", shuffles=0, bootstraps=20)
    notes = train_probe(values, labels, response, settings=settings).notes
    assert any("feature 2 and feature 3" in note and "selection frequency" in note for note in notes)
    alone = train_probe(*tokens(alike=0), settings=settings).notes
    assert not any("selection frequency" in note for note in alone)


def test_more_features_than_rows_can_tell_are_said_to_be_learnt_by_heart():
    values, labels, response = tokens(responses=40, each=2, features=300)
    report = train_probe(values, labels, response, settings=ProbeSettings(split="response", C=10.0, **FAST))
    assert any("by heart" in note for note in report.notes)


# --- the paper's protocol --------------------------------------------------------------------------------------------


def test_the_paper_protocol_is_what_the_paper_did():
    """Against its steps written out: balance, z-score, 80/20, liblinear L1 at C = 0.01 (here on all rows)."""
    values, labels, _ = tokens(effect=1.5, alike=0.3)
    report = paper_protocol(values, labels, repeats=10)
    rng = np.random.default_rng(0)
    sides = [np.flatnonzero(labels), np.flatnonzero(~labels)]
    kept = np.concatenate([rng.permutation(side)[: min(map(len, sides))] for side in sides])
    standard = (values[kept] - values[kept].mean(0)) / values[kept].std(0)
    model = LogisticRegression(l1_ratio=1, solver="liblinear", C=0.01 * 0.8).fit(standard, labels[kept])
    np.testing.assert_allclose(report.probe.weights, model.coef_[0], atol=0.05)
    assert report.metrics["accuracy"].value == pytest.approx(model.score(standard, labels[kept]), abs=0.03)
    assert report.shuffled == {}
    assert "not over new responses" in report.notes[-1]


def test_the_paper_protocol_refuses_what_it_cannot_split():
    values, labels, _ = tokens()
    with pytest.raises(InputError, match="at least 5 tokens"):
        paper_protocol(values, np.arange(2400) < 3, repeats=2)
    with pytest.raises(InputError, match="0 repeats"):
        paper_protocol(values, labels, repeats=0)


def test_what_tells_questions_apart_is_not_above_labels_shuffled_within_them():
    """Questions differ in how often they have a label, and features tell questions: no label is told within them."""
    rng = np.random.default_rng(0)
    question, response = np.repeat(np.arange(10), 30), np.arange(300)
    labels = rng.random(300) < np.linspace(0.1, 0.9, 10)[question]
    values = question[:, None] + rng.standard_normal((300, 3))
    settings = ProbeSettings(split="response", shuffles=39, bootstraps=0)
    within = train_probe(values, labels, response, settings=settings, units=response, questions=question)
    over_all = train_probe(values, labels, response, settings=settings, units=response)
    assert within.metrics["auc"].value == over_all.metrics["auc"].value > 0.75
    assert over_all.p_value == pytest.approx(1 / 40)
    assert within.p_value > 0.05
    assert within.shuffled["auc"].low < within.metrics["auc"].value < within.shuffled["auc"].high


def test_a_probe_says_in_how_many_questions_labels_can_be_shuffled():
    values, labels = np.random.default_rng(0).standard_normal((40, 2)), np.arange(40) < 20
    settings = ProbeSettings(split="response", shuffles=1, bootstraps=0)
    question = np.arange(40) // 8  # the third of five has both
    told = train_probe(values, labels, np.arange(40), settings=settings, units=np.arange(40), questions=question)
    assert any("1 of 5 have both classes, the others keep theirs. That is too few" in note for note in told.notes)
