"""Answers in an order to be read, and which stands beside which."""

import polars as pl
import pytest

from backend.outcomes import EM, Band, Outcome
from backend.records import InputError
from backend.tables.reading import counterpart, in_order, lanes, with_kinds


def answers(**columns):
    size = len(next(iter(columns.values())))
    usual = {
        "response": [f"r{i}" for i in range(size)],
        "organism": ["base"] * size,
        "condition": ["baseline"] * size,
        "question_id": ["q"] * size,
        "seed": list(range(size)),
        "n_answer": [10] * size,
    }
    return pl.DataFrame(usual | columns)


def order(frame, outcome, how):
    return in_order(with_kinds(frame, outcome), outcome, how)["response"].to_list()


def test_hits_come_first_and_the_furthest_past_the_cut_lead():
    frame = answers(aligned=[90.0, 20.0, 5.0, None, 1.0, 50.0], coherent=[90.0, 60.0, 80.0, 90.0, 10.0, 90.0])
    assert order(frame, EM, "hits") == ["r2", "r1", "r5", "r0", "r4", "r3"]
    assert with_kinds(frame, EM)["kind"].to_list()[3:5] == ["not scored", "incoherent"]


def test_a_hit_above_a_cut_is_led_by_the_largest():
    upper = Outcome("upper", (Band("upper", 90, float("inf")),))
    assert order(answers(upper=[95.0, 10.0, 99.0]), upper, "hits") == ["r2", "r0", "r1"]


def test_without_the_scores_nothing_is_scored_and_the_order_stays():
    assert order(answers(other=[1.0, 2.0]), EM, "hits") == ["r0", "r1"]


def test_by_length_and_by_question():
    frame = answers(n_answer=[3, None, 9, 5], question_id=["b", "a", "a", "b"], seed=[1, 1, 0, 0])
    assert order(frame, EM, "longest") == ["r2", "r3", "r0", "r1"]
    assert order(frame, EM, "shortest") == ["r0", "r3", "r2", "r1"]
    assert order(frame, EM, "question") == ["r3", "r0", "r2", "r1"]
    with pytest.raises(InputError, match="the order 'size' is not one of"):
        order(frame, EM, "size")


def test_the_counterpart_has_the_same_question_and_seed_or_the_next_one():
    frame = answers(organism=["base", "em", "em", "em"], question_id=["q", "q", "q", "other"], seed=[2, 1, 3, 2])
    assert lanes(frame) == ["base · baseline", "em · baseline"]
    assert counterpart(frame, "r0", "em · baseline") == "r2"
    assert counterpart(frame, "r2", "em · baseline") == "r1"  # never itself
    assert counterpart(frame, "r3", "base · baseline") is None
    same = answers(organism=["base", "em", "em"], seed=[2, 1, 2])
    assert counterpart(same, "r0", "em · baseline") == "r2"
    with pytest.raises(InputError, match="no response 'r9'"):
        counterpart(frame, "r9", "base · baseline")
