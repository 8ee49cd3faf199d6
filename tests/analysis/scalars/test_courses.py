import numpy as np
import polars as pl
import pytest
from scipy import stats

from backend.analysis.scalars.courses import FIRST, course
from backend.records import InputError

NAMES = ("long", "short")


@pytest.fixture
def sequences():
    rng = np.random.default_rng(0)
    return [rng.normal(size=size).astype(np.float32) for size in (40, 25, 31, 3, 7, 0)]


@pytest.fixture
def made(sequences):
    lengths = np.array([len(values) for values in sequences])
    order = np.random.default_rng(1).permutation(lengths.sum())  # rows may come in any order
    place = np.concatenate([np.arange(size) for size in lengths])
    owner = np.repeat(np.arange(len(lengths)), lengths)
    return course(np.concatenate(sequences)[order], owner[order], place[order], lengths, bins=4)


def test_every_sequence_weighs_alike(sequences, made):
    table = made.by_class([0, 0, 0, 1, 1, 1], NAMES)
    for (name, part, place), own in table.group_by("label", "part", "place"):
        some = sequences[:3] if name == "long" else sequences[3:]
        if part == "token":
            each = [values[int(place)] for values in some if len(values) > place]
        else:
            shares = [values[np.arange(len(values)) * 4 // max(len(values), 1) == int(place * 4)] for values in some]
            each = [values.mean() for values in shares if len(values)]
        row = own.row(0, named=True)
        assert row["n"] == len(each)
        assert row["mean"] == pytest.approx(np.mean(each), rel=1e-5)
        if len(each) > 1:
            reach = stats.t.ppf(0.975, len(each) - 1) * stats.sem(each)
            assert row["high"] - row["mean"] == pytest.approx(reach, rel=1e-5)
        else:
            assert row["low"] is None


def test_places_are_those_that_a_sequence_of_the_class_has(made):
    table = made.by_class([0, -1, -1, 1, -1, -1], NAMES)
    tokens = table.filter(pl.col("part") == "token")
    assert tokens.filter(pl.col("label") == "long")["place"].to_list() == list(range(FIRST))
    assert tokens.filter(pl.col("label") == "short")["place"].to_list() == [0, 1, 2]
    assert set(table.filter(pl.col("part") == "share")["place"]) == {0.125, 0.375, 0.625, 0.875}


def test_sequences_without_a_class_are_refused(made):
    with pytest.raises(InputError, match="a class each"):
        made.by_class([0, 1], NAMES)
