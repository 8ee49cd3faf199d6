import json

import numpy as np
import polars as pl
import pytest

from backend.analysis.conditions.describe import describe_stored
from backend.analysis.conditions.strengths import relative_strengths
from backend.edits import Ablate, Add, edits_to_json
from backend.records import Direction

V = Direction("v", 3, np.array([3, 4], dtype=np.float32), activation_norm=20.0)
UNKNOWN = Direction("u", 3, np.array([3, 4], dtype=np.float32))
STORED = {"name": ["v", "u"], "layer": [3, 3], "norm": [5.0, 5.0], "activation_norm": [50.0, None]}


def found(edits, says=None, stored=STORED):
    conditions = pl.DataFrame({"name": ["c"], "edits": [json.dumps(edits_to_json(edits))]})
    schema = {"name": pl.String, "layer": pl.Int64, "norm": pl.Float64, "activation_norm": pl.Float64}
    described = describe_stored(conditions, says)
    return relative_strengths(conditions, pl.DataFrame(stored, schema=schema), described)["relative"].to_list()


def test_the_share_is_that_of_the_vector_that_was_added():
    assert found([Add(V, 2.0)]) == [pytest.approx(2 * 5 / 20)]  # not of the one the study keeps


def test_a_condition_known_by_name_alone_takes_the_stored_norms():
    says = {"c": {"kind": "steer", "direction": "v", "layers": [3], "scale": 4.0}}
    assert found([], says) == [pytest.approx(4 * 5 / 50)]


def test_unknown_norms_have_no_share():
    assert found([Add(UNKNOWN, 2.0)]) == [None]
    assert found([], {"c": {"kind": "steer", "direction": "w", "layers": [3], "scale": 4.0}}) == [None]


def test_what_is_not_steered_is_left_out():
    assert found([Ablate(V)]) == []
