"""Cosines: what they are, and what random vectors reach."""

import numpy as np
import pytest

from backend.analysis.directions.cosines import chance, cosine_matrix, row_cosines


def test_cosines_are_of_directions_not_of_lengths():
    rows = np.array([[1, 0], [2, 2], [-3, 0], [0, 0]], dtype=np.float32)
    matrix = cosine_matrix(rows)
    np.testing.assert_allclose(matrix[0, :3], [1, np.sqrt(0.5), -1], atol=1e-6)
    assert np.isnan(matrix[3]).all()
    np.testing.assert_allclose(row_cosines(rows[:1], rows), matrix[0], atol=1e-6)


@pytest.mark.parametrize("width", [8, 64, 576])
def test_random_directions_stay_under_chance_as_often_as_it_says(width):
    draws = np.random.default_rng(0).standard_normal((400, width)).astype(np.float32)
    cosines = np.abs(cosine_matrix(draws)[np.triu_indices(400, 1)])
    assert (cosines < chance(width)).mean() == pytest.approx(0.95, abs=0.01)
