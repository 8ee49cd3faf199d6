"""Earlier files named things so that they could be read: they still are, and only where nothing else tells."""

import numpy as np
import pytest

from backend.analysis.directions.random_directions import random_direction, random_subspace
from backend.records import ITSELF, RANDOM, SHUFFLED_OVER_ALL, SUBSPACE, Direction, Origin
from backend.study.earlier import controls_by_name, origin, tokens

ORGANISMS = ("base", "bad-medical", "bad-medical-r32", "good-medical")
V = Direction("misalignment of bad-medical", 2, np.arange(1, 9, dtype=np.float32), 5.0, {"reader": "bad-medical"})


@pytest.mark.parametrize(
    ("name", "kind", "like", "seed", "organism"),
    [
        ("misalignment of bad-medical", ITSELF, None, None, "bad-medical"),
        ("misalignment of bad-medical-r32", ITSELF, None, None, "bad-medical-r32"),
        ("misalignment of bad-medicals", ITSELF, None, None, None),
        ("random 0 like misalignment of bad-medical", RANDOM, "misalignment of bad-medical", 0, "bad-medical"),
        ("random 12 like v", RANDOM, "v", 12, None),
        ("shuffled 1 like v", SHUFFLED_OVER_ALL, "v", 1, None),
        ("random subspace like v", SUBSPACE, "v", None, None),
        ("random subspace 3 like v", SUBSPACE, "v", 3, None),
        ("random thoughts", ITSELF, None, None, None),
    ],
)
def test_a_name_tells_where_no_record_does(name, kind, like, seed, organism):
    assert origin(name, {}, ORGANISMS) == Origin(kind, like, seed, organism)


def test_a_record_goes_before_the_name():
    assert origin("random 0 like v", {"method": "mean difference", "reader": "o"}) == Origin(organism="o")
    assert origin("misalignment of good-medical", {"reader": "bad-medical"}, ORGANISMS).organism == "bad-medical"
    for made in (random_direction(V, 4), *random_subspace(V, 2, 4)):
        assert origin("whatever", made.provenance) == made.origin
        assert origin("whatever", made.provenance, ORGANISMS).organism == "bad-medical", "that of its like"


def test_control_organisms_and_lengths():
    assert controls_by_name([*ORGANISMS, "goodness", "benign-advice"]) == ("good-medical",)
    assert [tokens(name) for name in ("baseline, 48 tokens", "baseline", "baseline, cut", "x")] == [
        48,
        None,
        None,
        None,
    ]
