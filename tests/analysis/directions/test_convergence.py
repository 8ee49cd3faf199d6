import numpy as np
import pytest

from backend.analysis.directions.convergence import against, pairs
from backend.records import Direction


def stack(name, vectors, norm=None):
    return [
        Direction(name, layer, np.array(vector, dtype=np.float32), activation_norm=norm)
        for layer, vector in vectors.items()
    ]


STACKS = {
    "a": stack("a", {0: [2, 0, 0], 1: [0, 3, 0]}, norm=4.0),
    "b": stack("b", {0: [5, 0, 0], 1: [0, 0, 1]}),
    "c": stack("c", {1: [0, 1, 1], 7: [1, 0, 0]}),
    "wide": stack("wide", {0: [1, 0, 0, 0]}),
}


def test_each_direction_is_measured_against_the_reference_at_its_own_layer():
    rows = {(row[0], row[1]): row[2:] for row in against(STACKS, "a").iter_rows()}
    assert rows["a", 0] == (2.0, 0.5, 1.0)
    assert rows["b", 0] == (5.0, None, 1.0)
    assert rows["b", 1] == (1.0, None, 0.0)
    assert rows["c", 1][2] == pytest.approx(np.sqrt(0.5))
    assert rows["c", 7][2] is None  # the reference has no layer 7
    assert rows["wide", 0][2] is None  # another model's width


def test_every_pair_is_summed_up_over_shared_layers():
    found = {(row[0], row[1]): row[2:] for row in pairs(STACKS).iter_rows()}
    assert found["a", "b"] == (2, 0.0, 1, 0.5, 1.0, 0)
    assert found["b", "c"][:3] == (1, pytest.approx(np.sqrt(0.5)), 1)
    assert set(found) == {("a", "b"), ("a", "c"), ("b", "c")}


def test_no_directions_have_no_pairs():
    assert pairs({}).is_empty()
