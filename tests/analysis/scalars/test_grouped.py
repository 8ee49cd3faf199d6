import numpy as np
import pytest

from backend.analysis.scalars.grouped import grouped_mean


def test_every_row_weighs_alike():
    found = grouped_mean([1.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"])
    assert found.value == 2.0
    assert found.low < 2.0 < found.high


def test_one_group_has_no_interval():
    found = grouped_mean([1.0, 2.0], ["a", "a"])
    assert found.value == 1.5
    assert np.isnan(found.low)
    assert np.isnan(found.high)


@pytest.mark.parametrize("groups", [6, 20])
def test_the_interval_holds_the_mean_that_groups_are_drawn_around(groups):
    """Rows of a group share what the group adds, which an interval over rows would miss."""
    rng, rows, held, narrow = np.random.default_rng(1), 10, 0, 0
    for seed in range(300):
        values = np.repeat(rng.normal(0, 1, groups), rows) + rng.normal(0, 0.5, groups * rows)
        found = grouped_mean(values, np.repeat(np.arange(groups), rows), seed=seed)
        alone = grouped_mean(values, np.arange(groups * rows), seed=seed)
        held += found.low <= 0 <= found.high
        narrow += alone.low <= 0 <= alone.high
    assert 0.90 < held / 300 < 0.99
    assert narrow / 300 < 0.75
