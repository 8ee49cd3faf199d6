import numpy as np
import polars as pl
import pytest
from scipy.stats import false_discovery_control

from backend.analysis.rates.families import of_family, q_values, with_family


def test_q_values_are_scipys_and_leave_out_what_is_unknown():
    p = np.random.default_rng(0).random(40) ** 3
    np.testing.assert_allclose(q_values(p), false_discovery_control(p))
    holes = np.insert(p, [0, 7], np.nan)
    found = q_values(holes)
    assert np.flatnonzero(np.isnan(found)).tolist() == [0, 8]
    np.testing.assert_allclose(found[np.isfinite(found)], false_discovery_control(p))
    assert len(q_values([])) == 0


def test_a_family_is_the_rows_of_one_kind():
    table = pl.DataFrame({"kind": ["a", "b", "a", "a", "b"], "p_value": [0.01, 0.01, 0.04, None, 0.2]})
    found = with_family(table, ["kind"])
    assert found["q_value"].to_list() == pytest.approx([0.02, 0.02, 0.04, None, 0.2])
    assert found["family"].to_list() == [2, 2, 2, None, 2]
    assert found["stands"].to_list() == [True, True, True, None, False]
    every = with_family(table)
    assert every["q_value"].to_list() == pytest.approx([0.02, 0.02, 0.04 * 4 / 3, None, 0.2])
    assert every["stands"].to_list() == [True, True, False, None, False]


def test_without_an_effect_a_family_of_many_cells_rarely_has_one_that_stands():
    rng = np.random.default_rng(1)
    some = [(q_values(rng.random(51)) < 0.05).any() for _ in range(1000)]
    assert 0.03 <= np.mean(some) <= 0.07


def test_a_family_in_words():
    table = with_family(pl.DataFrame({"p_value": [0.04, 0.001, 0.9, 0.5]}))
    assert of_family(table, "cells") == "Of 4 cells, 2 are clear alone, 1 after correction (Benjamini–Hochberg, 5 %)."
    assert of_family(table.head(1), "cells") == "The one of these cells is clear."
    assert of_family(table.clear(), "cells") == ""
