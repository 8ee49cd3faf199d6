import numpy as np
import polars as pl
import pytest

from backend.analysis.scalars.histograms import binned
from backend.records import InputError

CLASSES = ("bad", "good")


def test_counts_are_numpys_and_densities_integrate_to_one():
    rng = np.random.default_rng(0)
    values, units = rng.normal(size=5000).astype(np.float32), rng.integers(0, 300, 5000)
    classes = rng.integers(-1, 2, 300)
    table = binned(values, units, 300, 40).by_class(classes, CLASSES)
    for side, name in enumerate(CLASSES):
        own = table.filter(pl.col("side") == name)
        inside = classes[units] == side
        expected = np.histogram(values[inside], bins=np.append(own["low"], own["high"][-1]))[0]
        assert np.abs(own["n"].to_numpy() - expected).sum() <= 4  # a value on an edge may fall either way
        assert own["n"].sum() == inside.sum()
        assert (own["density"] * (own["high"] - own["low"])).sum() == pytest.approx(1)


def test_a_bin_holds_as_many_of_a_unit_as_there_are():
    table = binned(np.repeat([0.0, 1.0], [70_000, 1]), np.zeros(70_001, dtype=int), 1, 2).by_class([0], ("all",))
    assert table["n"].to_list() == [70_000, 1]


def test_what_is_no_number_is_in_no_bin_and_constants_have_one():
    units = np.zeros(3, dtype=int)
    constant = binned(np.array([1.0, np.nan, 1.0], dtype=np.float32), units, 1).by_class([0], ("all",))
    assert constant["n"].max() == constant["n"].sum() == 2
    assert binned(np.full(3, np.nan, dtype=np.float32), units, 1).by_class([0], ("all",))["n"].sum() == 0


def test_units_without_a_class_are_refused():
    with pytest.raises(InputError, match="a class each"):
        binned(np.zeros(3), np.arange(3), 3).by_class([0, 1], CLASSES)
