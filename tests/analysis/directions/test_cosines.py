"""Cosines: what they are, and what random vectors reach."""

import numpy as np
import pytest

from backend.analysis.directions.cosines import chance, comparable, cosine_matrix, row_cosines
from backend.records import Direction


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


def test_directions_of_two_base_models_are_not_comparable_also_where_their_width_is_one():
    def of(model, width=8, **said):
        return Direction("d", 3, np.ones(width), provenance={"model": model, **said} if model else said)

    assert comparable(of("a"), of("a"))
    assert comparable(of("a"), of(None))  # a write vector says no model
    assert not comparable(of("a"), of("b"))
    assert not comparable(of("a"), of("a", width=6))
    assert not comparable(of("a", coordinates_of=5120), of("a", coordinates_of=2048))
