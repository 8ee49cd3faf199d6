"""A planted sum of write vectors is recovered, and a random direction is explained as often as the law says."""

import numpy as np
import pytest

from backend.analysis.directions.decomposition import decomposed
from backend.records import InputError

D = 60


def writes(k=5, seed=0):
    return np.random.default_rng(seed).standard_normal((k, D)) * np.arange(1, k + 1)[:, None]


def test_a_planted_sum_is_recovered():
    basis = writes()
    unit = basis / np.linalg.norm(basis, axis=1, keepdims=True)
    planted = np.array([2.0, 0.0, -1.0, 0.5, 0.0])
    aside = np.random.default_rng(1).standard_normal(D)
    aside -= np.linalg.pinv(unit) @ unit @ aside
    target = planted @ unit
    aside *= np.linalg.norm(target) / np.linalg.norm(aside)  # as long, so that half is explained
    found = decomposed(target + aside, basis)
    assert found.share == pytest.approx(0.5)
    assert found.coefficients == pytest.approx(planted, abs=1e-9)
    assert found.without[[1, 4]] == pytest.approx(0, abs=1e-9)
    assert found.without[0] == found.without.max()


def test_orthogonal_vectors_share_by_their_squared_cosines():
    unit = np.linalg.qr(np.random.default_rng(2).standard_normal((D, 4)))[0].T
    target = np.random.default_rng(3).standard_normal(D)
    found = decomposed(target, unit)
    assert found.without == pytest.approx(found.cosines**2)
    assert found.share == pytest.approx((found.cosines**2).sum())


def test_random_directions_are_explained_as_the_law_says():
    basis, rng = writes(9), np.random.default_rng(4)
    shares = np.array([decomposed(rng.standard_normal(D), basis).share for _ in range(1500)])
    mean, low, high = decomposed(rng.standard_normal(D), basis).chance
    assert shares.mean() == pytest.approx(mean, abs=0.01)
    assert np.mean((shares > low) & (shares < high)) == pytest.approx(0.95, abs=0.02)


def test_a_vector_twice_is_one():
    basis = writes(4)
    found = decomposed(np.random.default_rng(5).standard_normal(D), np.concatenate([basis, basis[:1]]))
    assert found.rank == 4
    assert found.without[[0, 4]] == pytest.approx(0, abs=1e-12)


def test_too_few_and_too_many_are_refused():
    with pytest.raises(InputError, match="at least 2 write vectors, and here are 1"):
        decomposed(np.ones(D), writes(1))
    with pytest.raises(InputError, match="here are 0"):
        decomposed(np.ones(D), np.zeros((0, D)))
    with pytest.raises(InputError, match="any direction"):
        decomposed(np.ones(D), writes(D))
