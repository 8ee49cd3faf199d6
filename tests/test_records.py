"""Directions and edits: what cannot be one is refused, and what is one survives its JSON form."""

import json

import numpy as np
import pytest

from backend.records import (
    Ablate,
    AblateWrite,
    Add,
    Direction,
    Gain,
    InputError,
    Sampling,
    edits_from_json,
    edits_to_json,
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


def test_edits_survive_json():
    edits = (
        Add(V, 1.5),
        Add(V, -2.0, (1, 2), answer_only=True),
        Ablate(V),
        Ablate(V, (4,), answer_only=True),
        AblateWrite(V, "o"),
        Gain("o", 0.5, ("layers.1.mlp.down_proj",)),
        Gain("o", 1.0),
    )
    back = edits_from_json(json.loads(json.dumps(edits_to_json(edits))))
    assert [type(edit) for edit in back] == [type(edit) for edit in edits]
    for one, other in zip(edits, back, strict=True):
        for name in ("strength", "layers", "answer_only", "organism", "factor", "adapters"):
            assert getattr(one, name, None) == getattr(other, name, None)
    np.testing.assert_array_equal(back[0].direction.vector, V.vector)
    assert back[0].direction.provenance == {"n": 7}


@pytest.mark.parametrize(
    "value", [{"kind": "shout"}, {"kind": "add"}, {}, 7, {"kind": "ablate_write", "organism": "o"}]
)
def test_malformed_edits_are_named(value):
    with pytest.raises(InputError, match="edit 0"):
        edits_from_json([value])


def test_numbers_that_are_none_are_refused():
    for wrong in (lambda: Add(V, float("nan")), lambda: Gain("o", float("inf")), lambda: Sampling(top_p=0)):
        with pytest.raises(InputError):
            wrong()
