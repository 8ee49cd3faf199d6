"""Shapley values: those of a planted game, efficiency, what pairs of complements take out, and the interval's cover."""

from __future__ import annotations

import json
from itertools import permutations, product

import numpy as np
import polars as pl
import pytest
from scipy.stats import ttest_1samp

from backend.analysis.conditions.causal import gain_conditions
from backend.analysis.conditions.shapley import from_zero, over_questions, shapley, shapley_values
from backend.edits import edits_to_json
from backend.outcomes import Outcome, above
from backend.pipeline.grids import coalitions, keep_one, leave_one_out
from backend.records import BASE, BASELINE, InputError

NINE = [f"layers.{layer}.mlp.down_proj" for layer in (9, 10, 11, 13, 14, 15, 17, 18, 19)]


def sampled(adapters, pairs, seed=0):
    """The coalitions that the sweeps `gain` and `coalitions` ask, with none and all: (coalition, player)."""
    cells = [
        *leave_one_out("x", adapters),
        *keep_one("x", adapters),
        *coalitions("x", adapters, pairs, seed),
    ]
    zeroed = [set(cell.condition.edits[0].adapters) for cell in cells]
    rows = [[adapter not in out for adapter in adapters] for out in zeroed]
    return np.array([[False] * len(adapters), [True] * len(adapters), *rows])


def two_by_two(members, own, together):
    """A game of single worths and of what two players are worth beside them: (coalition,)."""
    return members @ own + np.einsum("ci,ij,cj->c", members, np.triu(together, 1), members)


def test_all_coalitions_give_the_mean_over_all_orders():
    rng, players = np.random.default_rng(0), 5
    every = np.array(list(product([False, True], repeat=players)))
    worth = rng.normal(size=(len(every), 3))
    place = {tuple(row): i for i, row in enumerate(every.tolist())}
    expected = np.zeros((players, 3))
    for order in permutations(range(players)):
        on = [False] * players
        for player in order:
            before = worth[place[tuple(on)]]
            on[player] = True
            expected[player] += worth[place[tuple(on)]] - before
    np.testing.assert_allclose(shapley(every, worth), expected / 120, atol=1e-10)


def test_sampled_pairs_are_exact_where_only_two_interact():
    rng = np.random.default_rng(1)
    own, together = rng.normal(size=9), rng.normal(size=(9, 9))
    members = sampled(NINE, 20, seed=3)
    both = np.triu(together, 1)
    found = shapley(members, two_by_two(members.astype(float), own, together)[:, None])[:, 0]
    np.testing.assert_allclose(found, own + (both.sum(0) + both.sum(1)) / 2, atol=1e-10)


def test_values_add_up_to_all_less_none():
    members = sampled(NINE, 12)
    worth = np.random.default_rng(2).uniform(size=(len(members), 8))
    np.testing.assert_allclose(shapley(members, worth).sum(axis=0), worth[1] - worth[0], atol=1e-12)


def test_a_sampled_game_of_three_that_interact_is_near_its_values():
    members = sampled(NINE, 64)
    worth = members[:, :3].all(axis=1).astype(float)[:, None]  # nothing without all of the first three
    found = shapley(members, worth)[:, 0]
    np.testing.assert_allclose(found, [1 / 3] * 3 + [0] * 6, atol=0.06)


def test_what_cannot_be_settled_is_refused():
    members = sampled(NINE, 12)
    with pytest.raises(InputError, match="no adapter"):
        shapley(members[2:], np.zeros((len(members) - 2, 1)))
    with pytest.raises(InputError, match="twice"):
        shapley(np.concatenate([members, members[-1:]]), np.zeros((len(members) + 1, 1)))
    with pytest.raises(InputError, match="without its complement"):
        shapley(members[:-1], np.zeros((len(members) - 1, 1)))
    few = np.concatenate([members[:2], members[-4:]])
    with pytest.raises(InputError, match="do not settle"):
        shapley(few, np.zeros((6, 1)))


def test_coalitions_come_with_their_complements_and_once():
    members = sampled(NINE, 32)[20:]
    assert len(members) == 64 == len(np.unique(members, axis=0))
    assert (members[::2] == ~members[1::2]).all()
    assert set(members.sum(axis=1).tolist()) <= set(range(2, 8))
    assert len(coalitions("x", NINE[:4], 3)) == 6
    with pytest.raises(InputError, match="3 pairs"):
        coalitions("x", NINE[:4], 4)


def test_the_interval_holds_the_value_of_questions_like_these():
    """Questions differ in how much an adapter matters, and 4 answers a coalition are few."""
    rng, members, held = np.random.default_rng(5), sampled(NINE, 16), []
    truth = np.array([0.3, 0.2, 0.1, *[0.0] * 6])
    for _ in range(300):
        own = truth[:, None] * rng.uniform(0.5, 1.5, size=(9, 8))
        rates = np.clip(0.05 + members @ own, 0, 1)
        found = shapley(members, rng.binomial(4, rates) / 4)
        ends = [over_questions(values) for values in found]
        held.append([end.low <= value <= end.high for end, value in zip(ends, truth, strict=True)])
    assert 0.93 < np.mean(held) < 0.98
    assert np.mean(held, axis=0).min() > 0.9


def test_of_answers_one_adapter_does_it_all():
    """Hits are there just where the second adapter is on; conditions of other gains are left out."""
    asked = Outcome("loud", (above("upper", 50),))
    cells = [*leave_one_out("x", NINE), *keep_one("x", NINE), *coalitions("x", NINE, 8)]
    conditions = pl.DataFrame(
        [(BASELINE, "[]"), *((c.condition.name, as_kept(c.condition.edits)) for c in cells)],
        schema=["name", "edits"],
        orient="row",
    )
    gains = gain_conditions(conditions, {"x": NINE})
    levels = {(row["organism"], row["condition"]): row["levels"][1] for row in gains.iter_rows(named=True)}
    answers = [("x", name, "q1", levels["x", name]) for name in conditions["name"]] + [(BASE, BASELINE, "q1", 0)]
    frame = pl.DataFrame(
        [(o, c, f"q{i}", 100.0 * level) for o, c, _, level in answers for i in range(3)],
        schema=["organism", "cell", "question_id", "upper"],
        orient="row",
    )
    found = shapley_values(frame, gains, "x", NINE, outcome=asked)
    assert found["unit"].to_list() == NINE
    np.testing.assert_allclose(found["value"], [0, 1, *[0] * 7], atol=1e-9)
    assert found.row(0)[5:8] == (36, 3, 3 * 36)
    for name in ("low", "high", "p_value", "q_value", "stands"):  # questions that are alike show nothing of others
        assert found[name].null_count() == 9, name
    odd = frame.filter(pl.col("cell") != cells[-1].condition.name)
    assert shapley_values(odd, gains, "x", NINE, outcome=asked)["coalitions"][0] == 34, "the other of the pair goes too"
    assert shapley_values(frame.filter(pl.col("cell") == BASELINE), gains, "x", NINE, outcome=asked).is_empty()


def as_kept(edits):
    """Edits as a study keeps them."""
    return json.dumps(edits_to_json(edits))


def test_modules_are_a_family_by_students_test_over_questions():
    """The second module makes 60, 80 and 100 of 100 answers hits by question; the others do nothing."""
    asked = Outcome("loud", (above("upper", 50),))
    cells = [*leave_one_out("x", NINE), *keep_one("x", NINE), *coalitions("x", NINE, 8)]
    conditions = pl.DataFrame(
        [(BASELINE, "[]"), *((c.condition.name, as_kept(c.condition.edits)) for c in cells)],
        schema=["name", "edits"],
        orient="row",
    )
    gains = gain_conditions(conditions, {"x": NINE})
    levels = {(row["organism"], row["condition"]): row["levels"][1] for row in gains.iter_rows(named=True)}
    answers = [("x", name, levels["x", name]) for name in conditions["name"]] + [(BASE, BASELINE, 0)]
    frame = pl.DataFrame(
        [
            (organism, cell, f"q{question}", 100.0 * (level and at < hits))
            for organism, cell, level in answers
            for question, hits in enumerate((3, 4, 5))
            for at in range(5)
        ],
        schema=["organism", "cell", "question_id", "upper"],
        orient="row",
    )
    row = shapley_values(frame, gains, "x", NINE, outcome=asked).row(1, named=True)
    expected = ttest_1samp([0.6, 0.8, 1.0], 0)
    assert row["value"] == pytest.approx(0.8)
    assert row["p_value"] == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (row["low"], row["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (row["family"], row["q_value"], row["stands"]) == (
        1,
        pytest.approx(row["p_value"]),
        True,
    )  # the rest is alike


def test_values_of_one_question_or_of_equal_ones_have_no_interval():
    for values in ([0.3], [0.25] * 8, [0.1 + 0.2, 0.3, 0.3]):
        found = over_questions(np.array(values))
        assert found.value == pytest.approx(np.mean(values))
        assert np.isnan([found.low, found.high, from_zero(np.array(values))]).all()
