import numpy as np
import polars as pl
import pytest

from backend.analysis.histograms import binned
from backend.records import InputError

CLASSES = ("bad", "good")


def test_counts_are_numpys_and_densities_integrate_to_one():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5000, 3)).astype(np.float32)
    classes = rng.integers(-1, 2, 5000)
    table = binned(values, 40).by_class(classes, CLASSES, ("a", "b", "c"))
    for at, column in enumerate("abc"):
        for side, name in enumerate(CLASSES):
            own = table.filter(pl.col("column") == column, pl.col("side") == name)
            edges = np.append(own["low"], own["high"][-1])
            expected = np.histogram(values[classes == side, at], bins=edges)[0]
            assert np.abs(own["n"].to_numpy() - expected).sum() <= 4  # a value on an edge may fall either way
            assert own["n"].sum() == (classes == side).sum()
            assert (own["density"] * (own["high"] - own["low"])).sum() == pytest.approx(1)


def test_what_is_no_number_is_in_no_bin_and_constants_have_one():
    values = np.array([[1.0, np.nan], [1.0, np.nan], [1.0, np.nan]], dtype=np.float32)
    table = binned(values).by_class(np.zeros(3, dtype=int), ("all",), ("constant", "empty"))
    assert table.filter(pl.col("column") == "constant")["n"].max() == 3
    assert table.filter(pl.col("column") == "empty")["n"].sum() == 0


def test_rows_without_a_class_are_refused():
    with pytest.raises(InputError, match="a class each"):
        binned(np.zeros((3, 1))).by_class([0, 1], CLASSES, ("a",))
