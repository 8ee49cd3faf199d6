import pytest

from backend.analysis.conditions.controls import GOOD, ITSELF, RANDOM, SHUFFLED, SUBSPACE, Role, kind_of, role, roles
from backend.records import Origin

ORIGINS = {
    "v": Origin(organism="bad-medical"),
    "w": Origin(organism="benign-advice"),
    "x": Origin(organism="good-morning"),
    "of nobody": Origin(),
    "a": Origin(RANDOM, "v", 0),
    "b": Origin(SUBSPACE, "v", 0, dimensions=3, index=1),
    "c": Origin(SHUFFLED, "v", 1, "bad-medical"),
    "d": Origin(RANDOM, "gone", 0),
}


@pytest.mark.parametrize(
    ("name", "kind", "like", "owner"),
    [
        ("v", ITSELF, "v", "bad-medical"),
        ("of nobody", ITSELF, "of nobody", None),
        ("never heard of", ITSELF, "never heard of", None),
        ("random 0 like v", ITSELF, "random 0 like v", None),
        ("a", RANDOM, "v", "bad-medical"),
        ("b", SUBSPACE, "v", "bad-medical"),
        ("c", SHUFFLED, "v", "bad-medical"),
        ("d", RANDOM, "gone", None),
    ],
)
def test_the_origin_says_what_a_direction_stands_for_and_its_name_nothing(name, kind, like, owner):
    found = role(name, ORIGINS)
    assert found == Role(kind, like, owner)
    assert found.control == (kind != ITSELF)


def test_a_control_organism_is_one_that_is_declared():
    told = roles(ORIGINS, controls=["benign-advice"])
    assert {name for name, each in told.items() if each.kind == GOOD} == {"w"}
    assert told["x"].kind == ITSELF, "good-morning is a name, no declaration"
    assert role("a", ORIGINS, controls=["bad-medical"]).kind == RANDOM


def test_directions_of_one_kind_have_one_name_apart_from_their_owner():
    names = {"bad-medical": "bad-medical minus base", "good-medical": "good-medical minus base"}
    assert len({kind_of(name, whose) for whose, name in names.items()}) == 1
    assert kind_of("misalignment", None) == "misalignment"
