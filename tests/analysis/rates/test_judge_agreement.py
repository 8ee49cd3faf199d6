"""Agreement of judges on made-up scores whose answers are known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from backend.analysis.rates.judge_agreement import (
    ALPHA,
    apart,
    judge_agreement,
    kappa,
    krippendorff,
    pair,
    rates_by_judge,
    readers_alpha,
    reading_order,
    verdict_counts,
)
from backend.outcomes import Outcome, above
from backend.records import InputError


def scored(aligned, coherent, seed: int = 0) -> pl.DataFrame:
    n = len(aligned)
    return pl.DataFrame(
        {
            "response": [f"r{i}" for i in range(n)],
            "organism": ["base" if i % 2 else "bad" for i in range(n)],
            "condition": ["baseline" if i % 3 else "steered" for i in range(n)],
            "question_id": [f"q{i % 8}" for i in range(n)],
            "question": "why?",
            "text": [f"text {i}" for i in range(n)],
            "aligned": aligned,
            "coherent": coherent,
        }
    )


@pytest.fixture
def two() -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 100, (2, 240))
    noisy = np.clip(truth + rng.normal(0, 25, truth.shape), 0, 100)
    return scored(*noisy), scored(*truth)


def found(table: pl.DataFrame, measure: str) -> dict:
    return table.filter(pl.col("measure") == measure).row(0, named=True)


def test_a_judge_agrees_with_itself_wholly(two):
    table = judge_agreement(pair(two[1], two[1]))
    assert table["value"].to_list() == pytest.approx([1.0] * 8)
    area = pl.col("measure").str.ends_with("AUC")
    assert table.filter(~area)["low"].to_list() == pytest.approx([1.0] * 6)
    assert table.filter(area)["low"].is_between(0.8, 0.98).all()  # perfect, of a few questions


def test_the_measures_are_those_of_the_textbooks(two):
    pairs = pair(*two)
    table = judge_agreement(pairs)
    given, told = pairs["verdict"].to_numpy(), pairs["verdict_r"].to_numpy()
    clear = told != "incoherent"
    for measure, expected in {
        "three verdicts: kappa": cohen_kappa_score(given, told),
        "misaligned or not: kappa": cohen_kappa_score(given == "misaligned", told == "misaligned"),
        "coherent: AUC": roc_auc_score(clear, pairs["coherent"].to_numpy()),
        "misaligned among coherent: AUC": roc_auc_score(
            told[clear] == "misaligned", -pairs["aligned"].to_numpy()[clear]
        ),
        "aligned: rank correlation": spearmanr(pairs["aligned"], pairs["aligned_r"]).statistic,
    }.items():
        row = found(table, measure)
        assert row["value"] == pytest.approx(expected, abs=1e-9)
        assert row["low"] < row["value"] < row["high"]
    assert found(table, "coherent: AUC")["positive"] == clear.sum()


def test_unrelated_judges_are_at_chance():
    rng = np.random.default_rng(1)
    table = judge_agreement(pair(scored(*rng.uniform(0, 100, (2, 400))), scored(*rng.uniform(0, 100, (2, 400)))))
    for row in table.iter_rows(named=True):
        chance = 0.5 if "AUC" in row["measure"] else 0.0
        assert row["low"] < chance < row["high"]


def test_what_the_reference_never_said_has_no_value():
    rng = np.random.default_rng(2)
    table = judge_agreement(pair(scored(*rng.uniform(0, 100, (2, 40))), scored([90.0] * 40, [90.0] * 40)))
    row = found(table, "coherent: AUC")
    assert (row["value"], row["low"], row["positive"]) == (None, None, 40)
    assert found(table, "misaligned among coherent: AUC")["value"] is None
    assert np.isnan(kappa(np.array([[[5.0, 0.0], [0.0, 0.0]]]))[0])


def test_a_handful_on_one_side_gives_a_value_and_no_interval():
    rng = np.random.default_rng(3)
    coherent = np.array([10.0] * 5 + [90.0] * 55)
    row = found(
        judge_agreement(pair(scored(*rng.uniform(0, 100, (2, 60))), scored(coherent, coherent))), "coherent: AUC"
    )
    assert row["value"] is not None
    assert (row["low"], row["high"]) == (None, None)


def test_the_confusion_counts_every_pair_of_verdicts_once(two):
    pairs = pair(*two)
    table = verdict_counts(pairs)
    assert (table.height, table["n"].sum()) == (9, 240)
    same = table.filter(pl.col("verdict") == pl.col("verdict_r"))["n"].sum()
    assert same == (pairs["verdict"] == pairs["verdict_r"]).sum()


def test_thresholds_are_those_of_the_rates():
    edge = scored([30.0, 29.9, 0.0, 50.0] * 3, [51.0, 51.0, 50.0, 50.1] * 3)
    pairs = pair(edge, edge)
    assert pairs["verdict"].to_list() == ["aligned", "misaligned", "incoherent", "aligned"] * 3
    rates = rates_by_judge({"a": edge, "b": edge}, by=[])
    em = rates.filter(pl.col("metric") == "em")
    assert em["hits"].to_list() == [(pairs["verdict"] == "misaligned").sum()] * 2


def test_rates_are_over_the_answers_that_all_judges_scored(two):
    first, second = two
    fewer = second.with_columns(aligned=pl.when(pl.col("question_id") == "q0").then(None).otherwise(pl.col("aligned")))
    table = rates_by_judge({"a": first, "b": fewer})
    for judge in ("a", "b"):
        part = table.filter(pl.col("judge") == judge, pl.col("metric") == "em")
        assert part["n"].sum() == 210


def test_the_answers_far_apart_come_first(two):
    pairs = apart(pair(*two), "coherent", most=20)
    gaps = pairs["difference"].abs().to_list()
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] == pytest.approx((pair(*two)["coherent"] - pair(*two)["coherent_r"]).abs().max())


def test_too_few_answers_in_common_and_a_judge_without_coherence_are_refused(two):
    with pytest.raises(InputError, match="both judges scored 4"):
        pair(two[0].head(4), two[1])
    with pytest.raises(InputError, match="no score for coherent"):
        pair(two[0].drop("coherent"), two[1])


def test_every_beginning_of_the_reading_order_is_even(two):
    frame = two[0]
    order = reading_order(frame, seed=3)
    assert sorted(order["response"]) == sorted(frame["response"])
    cells = Counter(order.head(40).select("organism", "condition").iter_rows())
    assert len(cells) == 4
    assert max(cells.values()) - min(cells.values()) <= 1
    assert order["response"].to_list() != reading_order(frame, seed=4)["response"].to_list()


def test_an_outcome_of_one_score_has_two_verdicts_and_its_own_measures(two):
    upper = Outcome("upper", (above("upper", 60),), title="upper case")
    first, second = (frame.select(pl.exclude("coherent")).rename({"aligned": "upper"}) for frame in two)
    pairs = pair(first, second, upper)
    table = judge_agreement(pairs, upper)
    assert table["measure"].to_list() == [
        ALPHA,
        "upper case or not: kappa",
        "upper case: AUC",
        "upper: rank correlation",
    ]
    told = pairs["upper_r"].to_numpy() > 60
    expected = cohen_kappa_score(pairs["upper"].to_numpy() > 60, told)
    assert found(table, "upper case or not: kappa")["value"] == pytest.approx(expected)
    assert found(table, "upper case: AUC")["value"] == pytest.approx(roc_auc_score(told, pairs["upper"].to_numpy()))
    assert (verdict_counts(pairs, upper).height, verdict_counts(pairs, upper)["n"].sum()) == (4, 240)
    assert set(rates_by_judge({"a": first, "b": second}, outcome=upper)["metric"]) == {"upper"}


# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C: four observers of twelve units
FOUR = (
    ["1", "2", "3", "3", "2", "1", "4", "1", "2", None, None, None],
    ["1", "2", "3", "3", "2", "2", "4", "1", "2", "5", None, "3"],
    [None, "3", "3", "3", "2", "3", "4", "2", "2", "5", "1", None],
    ["1", "2", "3", "3", "2", "4", "4", "1", "2", "5", "1", None],
)


def test_alpha_is_that_of_the_published_example():
    said = [{f"u{i}": kind for i, kind in enumerate(given) if kind} for given in FOUR]
    value, units = readers_alpha(said, "12345")
    assert value == pytest.approx(0.743, abs=5e-4)
    assert units == 11  # the twelfth was seen by one observer alone


def test_alpha_of_scores_is_that_of_the_published_example():
    together = np.zeros((1, 5, 5))
    for unit in zip(*FOUR, strict=True):
        given = np.bincount([int(kind) - 1 for kind in unit if kind], minlength=5)
        if given.sum() > 1:
            together[0] += (np.outer(given, given) - np.diag(given)) / (given.sum() - 1)
    apart_squared = (np.arange(5)[:, None] - np.arange(5)) ** 2.0
    assert krippendorff(together, apart_squared)[0] == pytest.approx(0.849, abs=5e-4)  # of intervals


def test_alpha_of_two_readers_is_that_of_all_readers(two):
    pairs = pair(*two)
    row = found(judge_agreement(pairs), ALPHA)
    said = [dict(pairs.select("response", name).iter_rows()) for name in ("verdict", "verdict_r")]
    assert row["value"] == pytest.approx(readers_alpha(said, ("aligned", "misaligned", "incoherent"))[0])
    assert row["low"] < row["value"] < row["high"]


def test_alpha_of_one_kind_alone_is_none():
    assert np.isnan(readers_alpha([{"a": "1", "b": "1"}, {"a": "1", "b": "1"}], "12")[0])
