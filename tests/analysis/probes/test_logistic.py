"""The solvers agree with scikit-learn's slow and exact one."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from backend.analysis.probes.logistic import Design, balanced, fit_logistic


def rows(n, features, seed=0):
    """Correlated features, the first five of which carry a signal."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, features)) @ (np.eye(features) + 0.3 * rng.normal(size=(features, features)))
    signal = values[:, :5].sum(axis=1)
    return values * rng.lognormal(0, 2, features) + 7, rng.random(n) < expit(0.7 * signal / signal.std() - 0.8)


@pytest.mark.parametrize(("features", "C"), [(9, 0.01), (9, 1.0), (70, 0.02)])
@pytest.mark.parametrize("l1_ratio", [1.0, 0.5, 0.1])
def test_coordinate_descent_finds_the_optimum(features, C, l1_ratio):
    values, labels = rows(1500, features)
    design, sample = Design(values), balanced(labels)
    found = fit_logistic(design, labels, sample, penalty="elasticnet", C=C, l1_ratio=l1_ratio)
    exact = LogisticRegression(solver="saga", l1_ratio=l1_ratio, C=C, max_iter=20_000, tol=1e-7)
    exact.fit(design.values.astype(float), labels, sample_weight=sample)
    assert found.converged
    np.testing.assert_allclose(found.weights, exact.coef_[0], atol=5e-3)
    assert found.bias == pytest.approx(exact.intercept_[0], abs=5e-3)
    assert ((found.weights == 0) == (exact.coef_[0] == 0)).mean() > 0.95


@pytest.mark.parametrize("penalty", ["l1", "l2", "elasticnet"])
@pytest.mark.parametrize("features", [9, 70])
def test_a_start_near_the_end_changes_nothing_but_the_time(penalty, features):
    values, labels = rows(800, features)
    design, sample = Design(values), balanced(labels)
    cold = fit_logistic(design, labels, sample, penalty=penalty, C=0.05)
    warm = fit_logistic(design, labels, sample, penalty=penalty, C=0.05, start=cold)
    np.testing.assert_allclose(warm.weights, cold.weights, atol=5e-3)


def test_classes_are_balanced_on_top_of_other_weights():
    labels = np.arange(100) < 20
    sample = np.random.default_rng(0).integers(0, 4, 100).astype(float)
    for weights in (balanced(labels), balanced(labels, sample)):
        assert weights[labels].sum() == pytest.approx(50)
        assert weights[~labels].sum() == pytest.approx(50)


def test_a_constant_feature_has_scale_one():
    design = Design(np.full((10, 1), 1e6 + 0.1))
    assert design.scale == [1]
    assert (design.values == 0).all()
