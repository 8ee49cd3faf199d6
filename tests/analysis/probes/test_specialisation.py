"""Adapters planted on a topic, on a valence, on both and on neither are told apart."""

import numpy as np
import pytest

from backend.analysis.probes.specialisation import BOTH, NEITHER, Axis, place, rank_agreement
from backend.records import InputError

TOPIC, VALENCE = (0, 1, 2), (3, 4, 5)
MIXED, NOISE = (6,), (7, 8)


def two_factors(seed=0, questions=24, each=25):
    """(values, topical, misaligned, question): topic is a property of the question, valence one of the answer."""
    rng = np.random.default_rng(seed)
    question = np.repeat(np.arange(questions), each)
    topical = question % 2 == 0
    misaligned = rng.random(len(question)) < rng.beta(2, 3, questions)[question]
    values = rng.normal(size=(len(question), 9)) + 0.3 * rng.normal(size=(questions, 9))[question]
    signs = rng.choice([-1, 1], 9)  # of no meaning
    for columns, factor in ((TOPIC + MIXED, topical), (VALENCE + MIXED, misaligned)):
        for column in columns:
            values[:, column] += 1.5 * signs[column] * factor
    return values, topical, misaligned, question


def test_planted_factors_are_recovered_whatever_the_sign():
    values, topical, misaligned, question = two_factors()
    names = [f"a{i}" for i in range(9)]
    table = place(names, Axis("medical", values, topical, question), Axis("misaligned", values, misaligned, question))
    leans = dict(table.select("adapter", "lean").iter_rows())
    assert {leans[f"a{i}"] for i in TOPIC} == {"medical"}
    assert {leans[f"a{i}"] for i in VALENCE} == {"misaligned"}
    assert {leans[f"a{i}"] for i in MIXED} == {BOTH}
    assert {leans[f"a{i}"] for i in NOISE} == {NEITHER}
    assert (table["topic"] >= 0.5).all()
    assert (table["topic_low"] <= table["topic"]).all()
    assert (table["topic"] <= table["topic_high"]).all()


def test_what_questions_alone_tell_is_not_what_an_adapter_tells():
    """The scalar follows how often a question is misaligned, and within questions says nothing."""
    rng = np.random.default_rng(5)
    question = np.repeat(np.arange(24), 25)
    rates = rng.beta(1, 1, 24)[question]
    misaligned = rng.random(len(question)) < rates
    values = np.stack([rates + 0.1 * rng.normal(size=600), rng.normal(size=600) + 1.5 * misaligned], axis=1)
    axis = Axis("misaligned", values, misaligned, question)
    table = place(["question", "answer"], Axis("medical", values, question % 2 == 0, question), axis)
    assert table["valence_low"].min() > 0.5
    assert table["lean"].to_list() == [NEITHER, "misaligned"]
    assert table["valence_shuffled"][0] == pytest.approx(table["valence"][0], abs=0.03)


def test_a_class_of_one_question_has_no_interval_and_leans_nowhere():
    values, _, misaligned, question = two_factors()
    one = question == 0
    table = place(
        [f"a{i}" for i in range(9)],
        Axis("medical", values + 9 * one[:, None], one, question),
        Axis("misaligned", values, misaligned, question),
    )
    assert table["topic_low"].null_count() == 9
    assert "too few questions: 1 and" in table["topic_why"][0]
    assert "medical" not in table["lean"].to_list()


def test_what_cannot_be_placed_is_refused():
    values, topical, misaligned, question = two_factors()
    good = Axis("misaligned", values, misaligned, question)
    with pytest.raises(InputError, match="of one"):
        place(["a"] * 9, Axis("medical", values, np.ones_like(topical), question), good)
    with pytest.raises(InputError, match="two different"):
        place(["a"] * 9, good, good)
    with pytest.raises(InputError, match="too many"):
        place([f"a{i}" for i in range(9600)], good, Axis("medical", values, topical, question))


def test_agreement_of_ranks():
    ranks = np.arange(9)
    assert rank_agreement(ranks, ranks)[0] == pytest.approx(1)
    assert rank_agreement(ranks, ranks)[1] < 0.01
    assert rank_agreement(ranks, -ranks)[0] == pytest.approx(-1)
    assert np.isnan(rank_agreement([1, 2], [2, 1])[0])
