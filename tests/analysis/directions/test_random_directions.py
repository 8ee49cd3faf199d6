"""Controls of a direction: alike in what they should be, unlike in everything else."""

import numpy as np
import pytest

from backend.analysis.directions.cosines import cosine_matrix
from backend.analysis.directions.random_directions import random_direction, random_subspace, rescaled
from backend.records import Direction, InputError


def test_a_random_control_has_the_norm_and_nothing_else():
    direction = Direction("v", 4, np.random.default_rng(0).standard_normal(4096) * 3, 50.0)
    controls = [random_direction(direction, seed) for seed in range(5)]
    matrix = cosine_matrix([direction, *controls])
    np.testing.assert_allclose([control.norm for control in controls], direction.norm, rtol=1e-5)
    assert np.abs(matrix - np.eye(6)).max() < 0.08
    assert controls[0].layer == 4
    assert controls[0].relative(1.0) == pytest.approx(direction.relative(1.0))


def test_a_subspace_is_orthonormal_and_the_same_for_the_same_seed():
    direction = Direction("v", 4, np.ones(64, dtype=np.float32))
    found = random_subspace(direction, 5)
    np.testing.assert_allclose(cosine_matrix(found), np.eye(5), atol=1e-6)
    np.testing.assert_allclose([each.norm for each in found], 1, rtol=1e-6)
    for one, other in zip(random_subspace(direction, 5), found, strict=True):
        np.testing.assert_array_equal(one.vector, other.vector)
    others = random_subspace(direction, 5, seed=1)
    assert np.abs(cosine_matrix([*found, *others])[:5, 5:]).max() < 0.6
    for size in (0, 64):
        with pytest.raises(InputError, match="does not fit into 64"):
            random_subspace(direction, size)


def test_another_norm_is_the_same_direction():
    direction = Direction("v", 4, np.arange(8, dtype=np.float32), 50.0)
    found = rescaled(direction, 3.0)
    assert found.norm == pytest.approx(3.0)
    np.testing.assert_allclose(found.unit, direction.unit, atol=1e-6)
    assert found.activation_norm == 50.0
