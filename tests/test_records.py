"""Directions and their origins: what cannot be one is refused, and what is one is told by its provenance."""

from dataclasses import replace

import numpy as np
import pytest

from backend.analysis.directions.random_directions import random_direction
from backend.records import (
    ITSELF,
    RANDOM,
    SHUFFLED,
    SHUFFLED_OVER_ALL,
    SUBSPACE,
    Direction,
    InputError,
    Origin,
    Sampling,
    direction_from_json,
    direction_to_json,
)

V = Direction("v", 3, np.array([3.0, -4.0], np.float32), 20.0, {"n": 7})


@pytest.mark.parametrize(
    ("vector", "says"),
    [([np.nan, 1], "NaN"), ([np.inf, 1], "NaN or infinity"), ([0, 0], "is zero"), ([[1, 2]], "one vector")],
)
def test_what_is_no_direction_is_refused(vector, says):
    with pytest.raises(InputError, match=says):
        Direction("v", 0, np.array(vector, np.float32))
    with pytest.raises(InputError, match="layers count from 0"):
        Direction("v", -1, np.ones(2, np.float32))


def test_strengths_in_both_units_are_inverse():
    assert V.norm == 5
    assert V.relative(2.0) == pytest.approx(0.5), "2 x 5 of 20"
    assert V.strength(V.relative(1.7) or 0) == pytest.approx(1.7)
    assert Direction("v", 0, V.vector).relative(1.0) is None
    np.testing.assert_array_equal((-V).vector, -V.vector)


def test_numbers_that_are_none_are_refused():
    with pytest.raises(InputError):
        Sampling(top_p=0)


@pytest.mark.parametrize(
    ("origin", "says"),
    [
        (Origin(), {}),
        (Origin(organism="med"), {"reader": "med"}),
        (Origin(RANDOM, "v", 0), {"method": "random control", "like": "v", "seed": 0}),
        (
            Origin(SUBSPACE, "v", 1, None, 3, 2),
            {"method": "random subspace control", "like": "v", "seed": 1, "dimensions": 3, "index": 2},
        ),
        (
            Origin(SHUFFLED, "v", 2, "med"),
            {"control": "shuffled within questions", "like": "v", "shuffle": 2, "reader": "med"},
        ),
        (
            Origin(SHUFFLED_OVER_ALL, "v", 2, "med"),
            {"control": "shuffled labels", "like": "v", "shuffle": 2, "reader": "med"},
        ),
    ],
)
def test_an_origin_is_told_by_the_provenance_that_it_writes(origin, says):
    assert origin.provenance == says, "earlier files say it so"
    assert Origin.of(says) == origin
    assert Origin.of({"seed": 9, "method": "mean difference", "model": "m"} | says).kind == (
        origin.kind if "method" in says or "control" in says else ITSELF
    )


def test_a_renamed_direction_keeps_its_origin():
    made = replace(random_direction(V, 3), name="whatever")
    assert made.origin == Origin(RANDOM, "v", 3)
    assert (-made).origin == made.origin


@pytest.mark.parametrize("size", [1e-30, 3e38])
def test_a_direction_of_a_size_that_no_activation_has_is_refused(size):
    with pytest.raises(InputError, match=r"direction 'v' at layer 1 has the norm .*, as no activation has"):
        Direction("v", 1, np.full(4, size, np.float32))


@pytest.mark.parametrize(
    "change",
    [
        {"name": 3},
        {"layer": True},
        {"layer": "1"},
        {"activation_norm": "2"},
        {"activation_norm": float("nan")},
        {"provenance": [1]},
        {"vector": "%"},
    ],
)
def test_a_direction_in_json_is_of_the_kinds_that_it_is_written_in(change):
    said = direction_to_json(Direction("v", 1, np.ones(4, np.float32), 2.0))
    assert direction_from_json(said).activation_norm == 2.0
    with pytest.raises((TypeError, ValueError)):
        direction_from_json({**said, **change})
