"""What a study's directions were made as, in studies of today and of earlier builds."""

import numpy as np
import pytest

from backend.analysis.conditions.controls import GOOD, ITSELF, RANDOM, SHUFFLED_OVER_ALL, roles
from backend.analysis.directions.random_directions import random_direction
from backend.edits import Ablate, Add, Condition
from backend.records import BASE, Direction, Origin
from backend.study import Draft, open_study
from backend.study.origins import controls, origins

V = Direction("v", 2, np.arange(1, 9, dtype=np.float32), 5.0, {"reader": "benign-advice", "method": "mean difference"})
NAMELESS = Direction("w of good-morning", 2, V.vector)
OLD = Direction("shuffled 0 like w of good-morning", 2, -V.vector)


@pytest.fixture
def study(tmp_path):
    def made(**info):
        with Draft("s", root=tmp_path) as draft:
            draft.meta(settings={"imported": {"kind": "steer", "direction": "u of benign-advice"}}, **info)
            for organism in (BASE, "benign-advice", "good-morning"):
                draft.add_organism(organism, base="b", adapters=(), record={})
            draft.add_conditions([Condition("r", (Add(random_direction(V, 1), 1.0),)), Condition("o", (Ablate(OLD),))])
            draft.add_directions([V, NAMELESS])
            draft.publish()
        return open_study("s", root=tmp_path)

    return made


def test_every_direction_that_is_kept_edited_with_or_told_of_has_an_origin(study):
    found = origins(study())
    assert found["v"] == Origin(organism="benign-advice") == found["u of benign-advice"] == found["benign-advice"]
    assert found["random 1 like v"].kind == RANDOM
    assert found["shuffled 0 like w of good-morning"].kind == SHUFFLED_OVER_ALL
    assert found["w of good-morning"].organism == "good-morning"


@pytest.mark.parametrize("declared", [["benign-advice"], []])
def test_a_study_that_declares_its_controls_has_no_others(study, declared):
    built = study(controls=declared)
    told = roles(origins(built), controls(built))
    assert told["v"].kind == (GOOD if declared else ITSELF)
    assert told["w of good-morning"].kind == ITSELF
    assert told["random 1 like v"].owner == "benign-advice"


def test_of_a_study_that_says_nothing_the_names_tell(study):
    built = study()
    told = roles(origins(built), controls(built))
    assert (told["v"].kind, told["w of good-morning"].kind) == (ITSELF, GOOD)
