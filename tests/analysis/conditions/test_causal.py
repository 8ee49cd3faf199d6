"""A planted organism whose adapters have known effects: the tables give them back, and a probe that errs is found."""

import json
from itertools import combinations

import numpy as np
import polars as pl
import pytest

from backend.analysis.conditions.causal import (
    ALL_SCALED,
    INTACT,
    MIXED,
    NONE,
    ONLY_ONE,
    ONLY_SOME,
    SCALED,
    WITHOUT_ONE,
    WITHOUT_SOME,
    WITHOUT_TWO,
    ProbeClaim,
    against_cause,
    gain_conditions,
    gain_rates,
    pair_interactions,
    short_names,
    single_effects,
)
from backend.edits import Add, Condition, Gain, edits_to_json
from backend.records import Direction

O = "med"  # noqa: E741
NAMES = tuple(f"layers.{layer}.mlp.down_proj" for layer in (1, 2, 3, 4, 5))
QUESTIONS = [f"q{i}" for i in range(12)]
PER_QUESTION = 100


def table(conditions):
    rows = [(c.name, json.dumps(edits_to_json(c.edits))) for c in conditions]
    return pl.DataFrame(rows, ["name", "edits"], orient="row")


def zeroed(*layers):
    return (Gain(O, 1.0), Gain(O, 0.0, tuple(f"layers.{layer}.mlp.down_proj" for layer in layers)))


def rate_of(off):
    """Adapter 1 carries 30 points; 2 and 3 carry 20 either of them; 4 and 5 carry nothing."""
    return 0.05 + 0.3 * (1 not in off) + 0.2 * (not {2, 3} <= set(off))


def planted(off_by_cell):
    """Answers at exactly the planted rate."""
    rows = []
    for (organism, cell), off in off_by_cell.items():
        for question in QUESTIONS:
            hits = round(rate_of(off) * PER_QUESTION)
            rows += [(organism, cell, question, 10.0 if i < hits else 90.0, 90.0) for i in range(PER_QUESTION)]
    return pl.DataFrame(rows, ["organism", "cell", "question_id", "aligned", "coherent"], orient="row")


EVERY = (1, 2, 3, 4, 5)
OFF = (
    {("base", "baseline"): EVERY, (O, "baseline"): ()}
    | {(O, f"no {i}"): (i,) for i in EVERY}
    | {(O, f"no {i} {j}"): (i, j) for i, j in combinations(EVERY, 2)}
    | {(O, f"only {i}"): tuple(j for j in EVERY if j != i) for i in EVERY}
)
CONDITIONS = [Condition(name, zeroed(*off) if off else ()) for (organism, name), off in OFF.items() if organism == O]


@pytest.fixture(scope="module")
def frame():
    return planted(OFF)


@pytest.fixture(scope="module")
def gains():
    return gain_conditions(table(CONDITIONS), {"base": (), O: NAMES})


@pytest.mark.parametrize(
    ("edits", "arrangement", "units", "gain", "rest", "what"),
    [
        ((), INTACT, [], 1, None, "intact"),
        ((Gain(O, 0.0),), NONE, [], 0, None, "no adapter"),
        ((Gain(O, 2.0),), ALL_SCALED, NAMES, 2, None, "all ×2"),
        (zeroed(3), WITHOUT_ONE, NAMES[2:3], 0, 1, "without L3"),
        (zeroed(3)[1:], WITHOUT_ONE, NAMES[2:3], 0, 1, "without L3"),
        (zeroed(1, 4), WITHOUT_TWO, (NAMES[0], NAMES[3]), 0, 1, "without L1, L4"),
        (zeroed(1, 2, 4, 5), ONLY_ONE, NAMES[2:3], 1, 0, "only L3"),
        (zeroed(1, 2, 4), "only two", (NAMES[2], NAMES[4]), 1, 0, "only L3, L5"),
        ((Gain(O, 30.0, NAMES[:2]), Gain(O, 0.0, NAMES[2:])), SCALED, NAMES[:2], 30, 0, "L1, L2 ×30; others ×0"),
        ((Gain(O, 1.0), Gain(O, 3.0, NAMES[:2])), SCALED, NAMES[:2], 3, 1, "L1, L2 ×3; others ×1"),
        (
            (Gain(O, 30.0, NAMES[:2]), Gain(O, -10.0, NAMES[2:4]), Gain(O, 0.0, NAMES[4:])),
            MIXED,
            NAMES[:4],
            None,
            0,
            "L1, L2 ×30; L3, L4 ×-10; others ×0",
        ),
    ],
)
def test_what_a_condition_did(edits, arrangement, units, gain, rest, what):
    name = "a condition" if edits else "baseline"
    [row] = gain_conditions(table([Condition(name, edits)]), {O: NAMES}).iter_rows(named=True)
    assert (row["arrangement"], tuple(row["units"])) == (arrangement, tuple(units))
    assert (row["gain"], row["rest"], row["what"]) == (gain, rest, what)


def test_a_group_is_named_by_its_smaller_side():
    seven = tuple(f"layers.{layer}.mlp.down_proj" for layer in range(7))
    for off, arrangement in (((0, 1, 2), WITHOUT_SOME), ((0, 1, 2, 3), ONLY_SOME)):
        [row] = gain_conditions(table([Condition("c", zeroed(*off))]), {O: seven}).iter_rows(named=True)
        assert row["arrangement"] == arrangement
        assert len(row["units"]) == 3


def test_other_edits_other_organisms_and_torn_modules_are_no_gain_conditions():
    add = Add(Direction("v", 1, np.ones(4, dtype=np.float32)), 1.0)
    rank_2 = tuple(f"layers.1.mlp.up_proj#{i}" for i in range(2))
    conditions = [Condition("a", (add,)), Condition("b", (*zeroed(1), add)), Condition("c", (Gain("other", 0.0),))]
    assert gain_conditions(table(conditions), {O: NAMES}).is_empty()
    half = Condition("half", (Gain(O, 0.0, rank_2[:1]),))
    whole = Condition("whole", (Gain(O, 0.0, rank_2),))
    assert gain_conditions(table([half, whole]), {O: rank_2})["arrangement"].to_list() == [NONE]


def test_a_released_table_of_gains_is_read_without_edits():
    says = {"scale 1 ×30": {"kind": "scale", "organism": O, "gains": {"1": 30.0}, "others": 0.0}}
    [row] = gain_conditions(table([Condition("scale 1 ×30")]), {O: NAMES}, says).iter_rows(named=True)
    assert row["what"] == "L1 ×30; others ×0"


def test_single_effects_are_the_planted_ones(frame, gains):
    without = single_effects(frame, gains, O, WITHOUT_ONE)
    changes = dict(without.select("unit", "change").iter_rows())
    assert changes[NAMES[0]] == pytest.approx(-0.3)
    assert [changes[name] for name in NAMES[1:]] == pytest.approx([0, 0, 0, 0], abs=1e-9)
    assert (without["change_low"] <= without["change"]).all()
    assert dict(without.select("unit", "change_high").iter_rows())[NAMES[0]] < 0
    alone = single_effects(frame, gains, O, ONLY_ONE)
    assert alone["against"].to_list() == pytest.approx([0.05] * 5)
    assert dict(alone.select("unit", "change").iter_rows())[NAMES[1]] == pytest.approx(0.2, abs=0.02)


def test_pairs_that_stand_in_for_each_other_and_pairs_that_add_up(frame, gains):
    pairs = {(a, b): row for a, b, *row in pair_interactions(frame, gains, O).iter_rows()}
    assert len(pairs) == 10
    value, expected, interaction, _, high, p_value, n, questions, *_, stands = pairs[NAMES[1], NAMES[2]]
    assert (value, expected) == pytest.approx((rate_of((2, 3)), rate_of(())), abs=0.02)
    assert interaction == pytest.approx(-0.2, abs=0.02)
    assert high < 0
    assert p_value == pytest.approx(2**-11)
    assert stands
    assert (n, questions) == (len(QUESTIONS) * PER_QUESTION, len(QUESTIONS))
    alone = pairs[NAMES[0], NAMES[3]]
    assert alone[2] == pytest.approx(0, abs=1e-9)
    assert alone[3] < -0.02  # as many answers leave more than nothing open
    assert not alone[-1]


def test_one_question_gives_no_interval(frame, gains):
    one = frame.filter(question_id="q0")
    assert pair_interactions(one, gains, O)["low"].null_count() == 10


def test_without_a_reference_a_rate_has_no_change(frame, gains):
    alone = single_effects(frame.filter(organism=O), gains, O, ONLY_ONE)
    assert alone.height == 5
    assert alone["change"].null_count() == 5


def test_rates_name_what_was_done(frame, gains):
    rates = gain_rates(frame, gains)
    em = rates.filter(metric="em")
    assert em.height == gains.height
    assert em.row(by_predicate=pl.col("what") == "without L1", named=True)["n"] == len(QUESTIONS) * PER_QUESTION
    assert set(rates["metric"]) == {"em", "coherent"}


def test_a_probe_that_says_topic_where_the_cause_is_elsewhere_is_in_conflict(frame, gains):
    claims = [
        ProbeClaim(NAMES[0], "medical", 0.9, 0.52),  # probes as topic, yet it is the cause
        ProbeClaim(NAMES[1], "neither", 0.52, 0.53),
        ProbeClaim(NAMES[3], "misaligned", 0.5, 0.95),  # probes as misaligned, and zeroing it does nothing
    ]
    found = against_cause(claims, single_effects(frame, gains, O, WITHOUT_ONE), topic="medical", valence="misaligned")
    by_unit = {row["unit"]: row for row in found.iter_rows(named=True)}
    assert by_unit[NAMES[0]]["conflict"]
    assert (by_unit[NAMES[0]]["probe_rank"], by_unit[NAMES[0]]["cause_rank"]) == (3, 1)
    assert by_unit[NAMES[3]]["conflict"]
    assert not by_unit[NAMES[1]]["conflict"]


@pytest.mark.parametrize(("share", "says"), [(1 / 32, "cannot tell"), (0.3, "zeroing it does not lower the rate")])
def test_a_rate_that_could_not_fall_is_no_sign_that_zeroing_does_nothing(share, says):
    """A module that does nothing, of an organism whose rate is 1 of 32, or 30 % of 3,200."""
    per_question = 2 if share < 0.1 else 200
    hits = round(share * 16 * per_question)
    rows = [
        (O, cell, f"q{i % 16}", 10.0 if i // 16 * 16 + i % 16 < hits else 90.0, 90.0)
        for cell in ("baseline", "no 4")
        for i in range(16 * per_question)
    ]
    frame = pl.DataFrame(rows, ["organism", "cell", "question_id", "aligned", "coherent"], orient="row")
    gains = gain_conditions(table([Condition("baseline"), Condition("no 4", zeroed(4))]), {O: NAMES})
    effects = single_effects(frame, gains, O, WITHOUT_ONE)
    [found] = against_cause(
        [ProbeClaim(NAMES[3], "neither", 0.5, 0.5)], effects, topic="medical", valence="misaligned"
    ).iter_rows(named=True)
    assert found["verdict"] == says
    [valence] = against_cause(
        [ProbeClaim(NAMES[3], "misaligned", 0.5, 0.9)], effects, topic="medical", valence="misaligned"
    ).iter_rows(named=True)
    assert valence["conflict"] == (share > 0.1)


def test_short_names():
    assert list(short_names(NAMES).values()) == ["L1", "L2", "L3", "L4", "L5"]
    both = short_names(["layers.1.mlp.up_proj", "layers.1.mlp.down_proj"])
    assert list(both.values()) == ["L1 mlp.up_proj", "L1 mlp.down_proj"]
