"""Grids: the cells that they make, the controls beside them, and what they refuse."""

import numpy as np
import pytest

from backend.analysis.conditions.describe import describe
from backend.edits import ANSWER, EVERY, PLAIN, Where
from backend.pipeline.grids import (
    Mean,
    Strengths,
    Taken,
    ablate_everywhere,
    ablate_layerwise,
    coalitions,
    keep_one,
    leave_one_out,
    scaled,
    steer,
    steer_controls,
    without_pairs,
)
from backend.records import Direction, InputError

NAMES = ("layers.1.mlp.down_proj", "layers.2.mlp.down_proj", "layers.4.mlp.down_proj")


def stack(layers=range(6), activation_norm=4.0, name="v"):
    drawn = np.random.default_rng(0).normal(size=(len(layers), 16)).astype(np.float32)
    return [Direction(name, layer, vector, activation_norm) for layer, vector in zip(layers, drawn, strict=True)]


def test_controls_have_the_norm_of_what_they_stand_beside():
    others = [stack(name="shuffled 0 like v", activation_norm=9.0)]
    made = steer_controls(stack(), Strengths((0.1,), share=True), layers=[3], random=(0, 1), others=others)
    assert [cell.condition.name for cell in made] == [
        "steer random 0 like v L3 10% but the sink",
        "steer random 1 like v L3 10% but the sink",
        "steer shuffled 0 like v L3 10% but the sink",
    ]
    assert {cell.condition.edits[0].where for cell in made} == {PLAIN}
    lengths = [cell.condition.edits[0].direction.norm * cell.condition.edits[0].strength for cell in made]
    np.testing.assert_allclose(lengths, 0.4, rtol=1e-5)


def test_a_condition_says_at_which_tokens_and_to_what_and_the_papers_form_has_its_plain_name():
    v = stack()[3]
    mean = Mean("base", {layer: np.full(16, layer, dtype=np.float32) for layer in range(6)})
    ways = [Taken(EVERY), Taken(), Taken(to=mean), Taken(Where(ANSWER, first=5), mean)]
    cells = [ablate_everywhere(v, "o", how) for how in ways]
    assert [cell.condition.name for cell in cells] == [
        "ablate v L3 everywhere",
        "ablate v L3 everywhere but the sink",
        "ablate v L3 everywhere to the mean of base but the sink",
        "ablate v L3 everywhere to the mean of base at answer tokens, number 1 to 5",
    ]
    [to_mean] = cells[2].condition.edits
    np.testing.assert_allclose(to_mean.to.values, [layer * v.unit.sum() for layer in range(6)], rtol=1e-5)
    assert (to_mean.to.of, to_mean.where, cells[0].condition.edits[0].where) == ("base", PLAIN, EVERY)
    wise = ablate_layerwise(stack(), "o", ways[2]).condition.edits
    assert [edit.to.values[0] for edit in wise] == pytest.approx([d.layer * d.unit.sum() for d in stack()])
    told = describe([cells[2].condition]).row(0, named=True)
    assert (told["where"], told["to"]) == ("every token but the sink", "the mean of base")


def test_gains_are_left_out_kept_alone_and_paired():
    names = list(NAMES)
    assert [len(made) for made in (leave_one_out("o", names), keep_one("o", names), without_pairs("o", names))] == [
        3
    ] * 3
    [cell] = scaled("o", {"low": names[:1], "high": names[1:]}, [2.0], rest=0.0)[:1]
    assert [(edit.factor, edit.adapters) for edit in cell.condition.edits] == [
        (2.0, (names[0],)),
        (0.0, tuple(names[1:])),
    ]
    assert keep_one("o", names[:1]) == []


def test_a_grid_of_what_is_not_there_is_refused():
    with pytest.raises(InputError, match="no layer 9"):
        steer(stack(), Strengths((1.0,)), layers=[2, 9])
    with pytest.raises(InputError, match="activation norm"):
        steer(stack(activation_norm=None), Strengths((0.1,), share=True))
    with pytest.raises(InputError, match="needs a direction"):
        steer([], Strengths((1.0,)), layers=[1])


def test_gains_of_two_organisms_are_two_conditions():
    made = [
        cell.condition
        for organism in ("o", "p")
        for cell in (
            *leave_one_out(organism, NAMES),
            *keep_one(organism, NAMES),
            *without_pairs(organism, NAMES),
            *coalitions(organism, [f"layers.{layer}.m" for layer in range(5)], 3),
            *scaled(organism, {"late": NAMES[1:]}, (0, 2)),
        )
    ]
    names = [condition.name for condition in made]
    assert len(set(names)) == len(names)
    assert names[0] == "without layers.1.mlp.down_proj of o"
