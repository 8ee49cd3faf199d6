"""Rates and differences of tables of responses; what their intervals cover is in test_intervals.py."""

import numpy as np
import polars as pl
import pytest
from statsmodels.stats.proportion import proportion_confint

from backend.analysis.rates.intervals import wilson
from backend.analysis.rates.rates import (
    ALIKE,
    CANNOT_TELL,
    HIGHER,
    LOWER,
    NOT_HIGHER,
    NOT_LOWER,
    difference,
    em_rates,
    rate,
)
from backend.outcomes import EM, Outcome, above
from backend.records import InputError

PAPER = np.array([0.46, 0.30, 0.22, 0.12, 0.08, 0.04, 0.02, 0.0])  # EM by question, the nine-adapter organism


def frame(shares, samples, *, seed=0, **columns):
    rng = np.random.default_rng(seed)
    question = np.repeat(np.arange(len(shares)), samples)
    hit = rng.random(len(question)) < np.repeat(shares, samples)
    table = {"question_id": [f"q{i}" for i in question], "aligned": np.where(hit, 10.0, 95.0)}
    return pl.DataFrame({**table, "coherent": 80.0}).with_columns(**{k: pl.lit(v) for k, v in columns.items()})


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (50, 400), (399, 400), (7, 7)])
def test_without_clusters_it_is_the_wilson_interval_of_statsmodels(hits, n):
    found = rate([True] * hits + [False] * (n - hits))
    expected = proportion_confint(hits, n, method="wilson")
    np.testing.assert_allclose((found.low, found.high), expected, atol=1e-12)
    assert (found.hits, found.n, found.value, found.clusters) == (hits, n, hits / n, 0)


def test_one_question_is_about_that_question_alone():
    found = rate([True, False, False, False] * 5, ["q"] * 20)
    assert (found.low, found.high) == wilson(5, 20)
    assert found.clusters == 1


def test_nothing_judged_has_no_rate():
    for found in (rate([]), rate([np.nan, np.nan], ["a", "b"])):
        assert found.n == 0
        assert np.isnan([found.value, found.low, found.high]).all()
        assert found.too_small


def test_no_judgement_is_left_out_and_no_hit_reaches_zero():
    assert rate([1.0, np.nan, 0.0], ["a", "a", "b"]).n == 2
    none = rate([False] * 400, np.arange(400) % 8)
    assert none.low == 0 < none.high < 0.13
    every = rate([True] * 400, np.arange(400) % 8)
    assert every.low == pytest.approx(1 - none.high, abs=1e-6)
    assert every.high == 1


def test_a_difference_is_clear_where_the_interval_leaves_out_zero():
    strong = difference(frame(PAPER, 50), frame(PAPER * 0, 50))
    assert strong.value == pytest.approx(strong.a.value)
    assert strong.low > 0
    assert strong.p_value < 0.05
    assert strong.clear
    weak = difference(frame(PAPER, 50), frame(PAPER, 50, seed=1))
    assert weak.low < 0 < weak.high
    assert weak.p_value > 0.05
    assert not weak.clear
    other = difference(frame(PAPER * 0, 50), frame(PAPER, 50))
    assert (other.value, other.p_value) == pytest.approx((-strong.value, strong.p_value), abs=1e-6)
    assert (other.low, other.high) == pytest.approx((-strong.high, -strong.low), abs=1e-9)


def test_a_difference_of_nothing_is_zero_with_an_interval():
    same = difference(frame([0.0] * 4, 4), frame([0.0] * 4, 4))
    assert same.value == 0
    assert same.low < 0 < same.high
    assert same.p_value == pytest.approx(1)
    assert same.verdict == CANNOT_TELL
    assert difference(frame(np.zeros(16), 40), frame(np.zeros(16), 40)).verdict == NOT_HIGHER


@pytest.mark.parametrize(
    ("after", "before", "answers", "verdict"),
    [
        (0.5, 0.0, 40, HIGHER),
        (0.0, 0.5, 40, LOWER),
        (0.3, 0.3, 400, ALIKE),
        (0.03125, 0.03125, 2, CANNOT_TELL),  # 1 of 32 against 1 of 32: nothing could have fallen by ten points
        (0.02, 0.02, 400, NOT_HIGHER),  # nor can it with any number of answers
        (0.97, 0.97, 400, NOT_LOWER),
        (0.3, 0.3, 4, CANNOT_TELL),
    ],
)
def test_a_verdict_needs_the_power_to_be_wrong(after, before, answers, verdict):
    def spread(share):
        """That share of all answers, spread evenly over 16 questions."""
        hits = round(share * 16 * answers)
        scored = frame(np.zeros(16), answers)
        place = pl.int_range(pl.len()).over("question_id") * 16 + pl.int_range(pl.len()) // answers
        return scored.with_columns(aligned=pl.when(place < hits).then(10.0).otherwise(95.0))

    found = difference(spread(after), spread(before))
    assert found.verdict == verdict
    assert found.clear == (verdict in (HIGHER, LOWER))


def test_a_difference_pairs_questions_and_ignores_unequal_numbers_of_answers():
    a = frame([0.5, 0.0], 40)
    b = pl.concat([a.filter(pl.col("question_id") == "q0"), *[a.filter(pl.col("question_id") == "q1")] * 3])
    lonely = a.with_columns(question_id=pl.lit("elsewhere"))
    found = difference(pl.concat([a, lonely]), b)
    assert found.value == pytest.approx(0)
    assert found.unshared == 1
    with pytest.raises(InputError, match="share no question"):
        difference(lonely, b)


def test_an_outcome_of_a_rule_alone_has_rates_and_differences():
    upper = Outcome("upper", (above("upper", 90),), title="upper case")
    rng = np.random.default_rng(0)
    shouted = frame(PAPER, 20).select("question_id").with_columns(upper=pl.Series(rng.uniform(0, 100, 160)))
    silent = shouted.with_columns(upper=pl.when(pl.int_range(160) < 4).then(None).otherwise(0.0))
    table = em_rates(pl.concat([shouted, silent]), outcomes=upper.beside)
    assert table["metric"].to_list() == ["upper"]
    assert (table["n"][0], table["dropped"][0]) == (316, 4)
    assert table["hits"][0] == (shouted["upper"] > 90).sum()
    found = difference(shouted, silent, outcome=upper)
    assert found.value == pytest.approx((shouted["upper"] > 90).mean(), abs=0.01)
    assert found.clear


def test_a_table_of_rates_counts_what_it_drops_and_keeps_empty_groups():
    scored = frame(PAPER, 10, condition="baseline")
    gaps = scored.with_columns(pl.when(pl.int_range(80) < 10).then(None).otherwise("aligned").alias("aligned"))
    unscored = scored.with_columns(condition=pl.lit("steered"), aligned=pl.lit(None, pl.Float64))
    table = em_rates(pl.concat([unscored, gaps.select(unscored.columns)]), ["condition"])
    assert table.columns[:7] == ["condition", "metric", "n", "hits", "value", "low", "high"]
    assert table["condition"].to_list() == ["steered", "steered", "baseline", "baseline"]
    assert table["n"].to_list() == [0, 0, 70, 70]
    assert table["dropped"].to_list() == [80, 80, 10, 10]
    assert table["value"].is_null().to_list() == [True, True, False, False]
    expected = rate((gaps["aligned"] < 30).drop_nulls().to_numpy(), gaps["question_id"].to_numpy()[10:])
    row = table.row(by_predicate=(pl.col("condition") == "baseline") & (pl.col("metric") == "em"), named=True)
    assert (row["value"], row["low"], row["high"]) == pytest.approx((expected.value, expected.low, expected.high))


def test_rates_of_single_questions_and_of_everything():
    scored = frame(PAPER, 10)
    assert em_rates(scored, outcomes=[EM]).height == 1
    single = em_rates(scored, ["question_id"], outcomes=[EM])
    assert single.height == 8
    assert single["clusters"].to_list() == [1] * 8
    assert single["too_small"].any()
    assert em_rates(scored.clear(), ["question_id"]).is_empty()


def test_a_judge_without_the_metric_is_named():
    with pytest.raises(InputError, match="'coherent'"):
        em_rates(frame(PAPER, 5).drop("coherent"))
