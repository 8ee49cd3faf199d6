import pytest

from backend.analysis.conditions.controls import GOOD, ITSELF, RANDOM, SHUFFLED, SUBSPACE, kind_of, owner, role

ORGANISMS = ("base", "bad-medical", "bad-medical-r32", "good-medical")


@pytest.mark.parametrize(
    ("name", "kind", "like", "whose"),
    [
        ("misalignment of bad-medical", ITSELF, "misalignment of bad-medical", "bad-medical"),
        ("random 0 like misalignment of bad-medical", RANDOM, "misalignment of bad-medical", "bad-medical"),
        ("random 12 like v", RANDOM, "v", None),
        ("shuffled 1 like v", SHUFFLED, "v", None),
        ("random subspace like v", SUBSPACE, "v", None),
        ("random subspace 3 like v", SUBSPACE, "v", None),
        ("misalignment of good-medical", GOOD, "misalignment of good-medical", "good-medical"),
        ("random thoughts", ITSELF, "random thoughts", None),
    ],
)
def test_a_name_says_what_a_direction_stands_for(name, kind, like, whose):
    found = role(name, ORGANISMS)
    assert (found.kind, found.like, found.owner) == (kind, like, whose)
    assert found.control == (kind != ITSELF)


def test_the_longest_organism_in_a_name_is_its_owner():
    assert owner("misalignment of bad-medical-r32", ORGANISMS) == "bad-medical-r32"
    assert owner("bad-medical minus base", ORGANISMS) == "bad-medical"
    assert owner("misalignment of bad-medicals", ORGANISMS) is None


def test_without_an_organism_in_its_name_the_record_says_whose_it_is():
    assert owner("misalignment", ORGANISMS, {"reader": "bad-medical"}) == "bad-medical"
    assert owner("misalignment", ORGANISMS) is None
    assert role("misalignment", ORGANISMS, {"reader": "good-medical"}).kind == GOOD


def test_directions_of_one_kind_have_one_name_apart_from_their_owner():
    names = {"bad-medical": "bad-medical minus base", "good-medical": "good-medical minus base"}
    assert len({kind_of(name, whose) for whose, name in names.items()}) == 1
    assert kind_of("misalignment", None) == "misalignment"
