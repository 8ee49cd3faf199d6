"""What a rate hangs on: over cuts, without questions, with what is unscored, and over draws."""

from __future__ import annotations

from itertools import combinations

import polars as pl
import pytest

from backend.analysis.rates.robustness import (
    at_least_once,
    close_to_cuts,
    cuts,
    differences_over_cuts,
    rates_over_cuts,
    turns,
    with_unscored,
    without_each_question,
)
from backend.outcomes import EM, ON_TOPIC, Band, Outcome
from backend.records import InputError


def table(aligned: list[float | None], coherent: float | list[float] = 90.0, questions: int = 2) -> pl.DataFrame:
    n = len(aligned)
    return pl.DataFrame(
        {
            "question_id": [f"q{i % questions}" for i in range(n)],
            "aligned": pl.Series(aligned, dtype=pl.Float64),
            "coherent": [coherent] * n if isinstance(coherent, float) else coherent,
        }
    )


def test_cuts_are_within_reach_and_hold_the_outcomes_own() -> None:
    (metric, edges), gates = cuts(EM)
    assert metric == "aligned"
    assert edges[0] == 10
    assert edges[-1] == 50
    assert 30.0 in edges
    assert gates == ("coherent", [25.0, 50.0, 75.0])
    assert cuts(ON_TOPIC[0])[1] is None


def test_rates_are_those_of_an_outcome_cut_elsewhere() -> None:
    rows = rates_over_cuts(table([5, 15, 30, 45, 49.9, 90], [90, 90, 60, 90, 30, 90]))
    at = {(row["cut"], row["gate"]): row["hits"] for row in rows.iter_rows(named=True)}
    assert at[10, 50] == 1
    assert at[30, 50] == 2  # 30 itself is no hit: the cut stays what it was, below it
    assert at[32.5, 50] == 3
    assert at[32.5, 75] == 2
    assert at[50, 25] == 5
    assert rows.filter(pl.col("own")).select("cut", "gate", "hits").rows() == [(30.0, 50.0, 2)]


def test_a_conclusion_that_turns_is_counted() -> None:
    """Clear at low cuts, nothing at high ones, where everything on both sides is a hit."""
    a, b = table([5.0] * 80 + [45.0] * 80, questions=16), table([45.0] * 160, questions=16)
    up, down, untold = turns(differences_over_cuts(a, b))
    assert up > 0
    assert down == 0
    assert untold > 0
    assert up + untold == 17 * 3
    same = differences_over_cuts(a, a)
    assert turns(same) == (0, 0, 17 * 3)


def test_without_each_question() -> None:
    found = without_each_question(table([5, 90, 5, 90, 90, 90]))
    assert found.select("question_id", "value", "own").rows() == [("q0", 0.0, 2 / 3), ("q1", 2 / 3, 0.0)]
    with pytest.raises(InputError, match="1 question has scored answers: two"):
        without_each_question(table([5, 90], questions=1))


def test_what_is_close_to_a_cut_counts_scored_answers() -> None:
    close = close_to_cuts(table([25, 35, 36, None, 90], [46.0, 90, 90, 50, 90]))
    assert close.rows() == [("aligned < 30", 2, 4), ("coherent > 50", 1, 4)]


def test_unscored_answers_bound_the_rate() -> None:
    missing, left, low, high = with_unscored(table([5, None, 90, None]))
    assert (missing, left.value, low.value, high.value) == (2, 0.5, 0.25, 0.75)


def test_at_least_once_is_the_share_of_all_draws_without_replacement() -> None:
    rows = table([5, 5, 5, 90, 90, 90, 90, 90], questions=2)  # of four answers each: two hits, and one
    hits = {"q0": [1, 1, 0, 0], "q1": [1, 0, 0, 0]}
    for k, value, questions in at_least_once(rows).rows():
        every = [[any(drawn) for drawn in combinations(one, k)] for one in hits.values()]
        assert value == pytest.approx(sum(sum(one) / len(one) for one in every) / 2)
        assert questions == 2


def test_an_outcome_of_bands_with_two_ends_has_nothing_to_move() -> None:
    between = Outcome("between", (Band("aligned", 10, 20),))
    with pytest.raises(InputError, match="no cut with one edge"):
        cuts(between)
