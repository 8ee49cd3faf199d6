import numpy as np
import polars as pl
import pytest

from backend.analysis.conditions.controls import GOOD, ITSELF, SHUFFLED, SHUFFLED_OVER_ALL, Role, role
from backend.analysis.directions.convergence import (
    CEILING,
    PAIRS,
    against,
    agreement,
    beside_shuffles,
    ceilings,
    cosine_ranges,
    kinds,
    made_of,
    mean_beside_shuffles,
    shuffled_agreement,
    summary,
    whole_from_half,
)
from backend.analysis.directions.cosines import cosine_matrix
from backend.analysis.estimates import one_more_draw
from backend.records import Direction, Origin


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
    found = {(row[0], row[1]): row[2:] for row in cosine_ranges(STACKS).iter_rows()}
    assert found["a", "b"] == (2, 0.0, 1, 0.5, 1.0, 0)
    assert found["b", "c"][:3] == (1, pytest.approx(np.sqrt(0.5)), 1)
    assert set(found) == {("a", "b"), ("a", "c"), ("b", "c")}


def test_no_directions_have_no_pairs():
    assert cosine_ranges({}).is_empty()


# --- organisms beside controls ----------------------------------------------------------------------------------------

CONTROL = "advice"  # an organism that was trained on good advice


def stacks(vectors, layers=(0, 1)):
    return {name: stack(name, dict.fromkeys(layers, vector)) for name, vector in vectors.items()}


NAMES = {
    "v of med": [1, 0, 0],
    "v of sport": [1, 1, 0],
    "v of advice": [0, 0, 1],
    "shuffled 0 like v of med": [0, 1, 0],
    "w": [1, 1, 1],
}
ORIGINS = {name: Origin(organism=name.rpartition(" of ")[2]) for name in NAMES if name.startswith("v of ")} | {
    "shuffled 0 like v of med": Origin(SHUFFLED, "v of med", 0, "med"),
    "w of sport": Origin(organism="sport"),
}
ROLES = {name: role(name, ORIGINS, [CONTROL]) for name in NAMES}
KIND = ["v of med", "v of sport", "v of advice"]


def test_directions_of_one_kind_are_found_by_their_owner():
    assert list(kinds(ROLES).values()) == [KIND]
    alone = {name: role(name, ORIGINS) for name in ("v of med", "w of sport", "x")}
    assert kinds(alone) == {}


def test_every_two_are_compared_at_every_layer_and_grouped_by_what_they_are():
    table = agreement(stacks(NAMES), ROLES, KIND)
    at = {(a, b): (group, cosine) for layer, a, b, group, cosine in table.iter_rows() if layer == 1}
    assert at["v of med", "v of sport"] == (PAIRS, pytest.approx(np.sqrt(0.5)))
    assert at["v of med", "v of advice"] == (GOOD, 0)
    assert len(at) == 3
    assert summary(table).row(0) == (PAIRS, 1, *[pytest.approx(np.sqrt(0.5))] * 3)


def shuffled_like(names, draws, kind=SHUFFLED, width=40, seed=0, shift=0.0):
    """Random vectors as controls of every direction, with their roles."""
    random = np.random.default_rng(seed)
    vectors, told = {}, {}
    for name in names:
        for draw in range(draws):
            control = f"{kind} {draw} like {name}"
            vectors[control] = random.normal(size=width) + shift
            told[control] = Role(kind, name, None)
    return stacks(vectors), told


def test_a_pair_stands_beside_the_same_pair_of_shuffled_labels_draw_by_draw():
    real = stacks({name: np.append(vector, np.zeros(37)) for name, vector in NAMES.items() if name in KIND})
    own = {name: ROLES[name] for name in KIND}
    controls, told = shuffled_like(KIND, draws=6)
    older, said = shuffled_like(KIND, draws=9, kind=SHUFFLED_OVER_ALL, seed=1)
    every, all_roles = real | controls | older, own | told | said
    shuffled = shuffled_agreement(every, all_roles, KIND)
    assert set(shuffled["control"]) == {SHUFFLED}, "the stricter one"
    one = shuffled.filter(layer=1, a="v of med", b="v of sport", draw=3)
    expected = cosine_matrix([controls[f"{SHUFFLED} 3 like {name}"][1] for name in KIND[:2]])[0, 1]
    assert one["cosine"].item() == pytest.approx(expected, abs=1e-6)
    beside = beside_shuffles(agreement(every, all_roles, KIND), shuffled)
    row = beside.row(by_predicate=(pl.col("layer") == 1) & (pl.col("group") == PAIRS), named=True)
    drawn = shuffled.filter(layer=1, a="v of med", b="v of sport")["cosine"].to_numpy()
    chance = one_more_draw(drawn)
    assert (row["draws"], row["pairs"], row["control"]) == (6, 1, SHUFFLED)
    assert (row["chance"], row["low"], row["high"]) == pytest.approx((chance.value, chance.low, chance.high))
    assert row["above"] == (np.sqrt(0.5) > chance.high)
    older_alone = shuffled_agreement(real | older, own | said, KIND)
    assert set(older_alone["control"]) == {SHUFFLED_OVER_ALL}
    few = beside_shuffles(agreement(every, all_roles, KIND), shuffled.filter(pl.col("draw") < 4))
    assert few["above"].null_count() == few["high"].null_count() == few.height
    none = beside_shuffles(agreement(every, all_roles, KIND), shuffled.clear())
    assert (none["draws"] == 0).all()
    assert none["cosine"].to_list() == beside["cosine"].to_list()


def test_the_mean_over_pairs_stands_beside_the_mean_of_the_same_shuffled_pairs():
    names = ["v of a", "v of b", "v of c"]
    vectors = {"v of a": np.eye(40)[0], "v of b": np.eye(40)[0] + np.eye(40)[1], "v of c": np.eye(40)[1]}
    own = {name: Role(ITSELF, name, name[-1]) for name in names}
    controls, told = shuffled_like(names[:2], draws=7, shift=1.0)
    every, all_roles = stacks(vectors) | controls, own | told
    real, shuffled = agreement(every, all_roles, names), shuffled_agreement(every, all_roles, names)
    whole = mean_beside_shuffles(real, shuffled.clear()).row(0, named=True)
    assert (whole["pairs"], whole["control"], whole["above"]) == (3, None, None)
    assert whole["cosine"] == pytest.approx(2 * np.sqrt(0.5) / 3, abs=1e-6)
    found = mean_beside_shuffles(real, shuffled).row(0, named=True)  # only one pair has controls on both sides
    assert (found["pairs"], found["draws"]) == (1, 7)
    assert found["cosine"] == pytest.approx(np.sqrt(0.5), abs=1e-6)
    assert found["chance"] == pytest.approx(shuffled.filter(layer=0)["cosine"].mean())
    assert found["chance"] > 0.3, "what both sides' shuffles share is part of chance"


def test_a_direction_says_what_it_is_made_of_as_far_as_its_record_does():
    how = {
        "kind": "data",
        "balance": "matching",
        "n_positive": 4,
        "n_negative": 9,
        "questions": 5,
        "questions_with_both": 3,
    }
    own = {"v": [Direction("v", 0, np.ones(3, np.float32), None, how)], "w": stack("w", {0: [1, 0, 0]})}
    controls, told = shuffled_like(["v"], draws=2)
    told |= {name: Role(ITSELF, name, None) for name in own}
    table = made_of(own | controls, told, ["v", "w"])
    assert table.row(0) == ("v", "data", "matching", 4, 9, 5, 3, SHUFFLED, 2)
    assert table.row(1) == ("w", *[None] * 7, 0)


def test_layers_that_one_lacks_and_other_widths_are_left_out():
    mixed = stacks({"v of med": [1, 0, 0], "v of sport": [1, 0, 0]}) | stacks({"v of sport": [1, 0, 0]}, layers=(1, 5))
    assert agreement(mixed, ROLES, KIND[:2])["layer"].to_list() == [1]
    wide = stacks({"v of med": [1, 0, 0]}) | stacks({"v of sport": [1, 0]})
    assert agreement(wide, ROLES, KIND[:2]).is_empty()


def test_the_ceiling_is_what_two_noisy_estimates_of_one_direction_reach():
    random = np.random.default_rng(1)
    truth = np.zeros(400)
    truth[0] = 20.0

    def estimate(answers):
        return truth + random.normal(size=(2, 400)) * np.sqrt(64 / answers)

    def cosine(pair):
        return float(cosine_matrix(np.array(pair, dtype=np.float32))[0, 1])

    halves = [cosine(estimate(32)) for _ in range(200)]
    reached = [cosine(estimate(64)) for _ in range(200)]
    assert whole_from_half(float(np.mean(halves))) == pytest.approx(np.mean(reached), abs=0.01)
    table = ceilings({"a": {3: float(np.mean(halves))}, "b": {3: 1.0, 4: 1.0}}, ["a", "b", "c"])
    assert table.select("layer", "group").rows() == [(3, CEILING)]
    assert table["cosine"][0] == pytest.approx(np.sqrt(np.mean(reached)), abs=0.01)


def test_a_direction_that_does_not_repeat_itself_has_no_ceiling_to_reach():
    assert whole_from_half(-0.2) == 0
    assert whole_from_half(1.0) == 1
    assert ceilings({}, ["a", "b"]).equals(pl.DataFrame(schema=ceilings({}, []).schema))
