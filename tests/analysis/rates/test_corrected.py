"""Rates with the judge's error in them: against other libraries, coverage where it can fail, refusals."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from backend.analysis.rates.corrected import (
    NEAR,
    corrected_difference,
    corrected_rate,
    corrected_rates,
    rogan_gladen,
    side_by_side,
)
from backend.analysis.rates.rates import SIMILAR_QUESTIONS, THESE_QUESTIONS, difference
from backend.outcomes import EM
from backend.records import InputError

# scores of the judge, one pair of (aligned, coherent) a stratum: a hit, a near miss, a clear miss, an incoherent answer
OF = ((10.0, 90.0), (40.0, 90.0), (90.0, 90.0), (10.0, 10.0))
HIT, NO = (0.0, 100.0), (100.0, 100.0)


def scored(pairs: list[tuple[float, float]], questions: int = 4, ids: list[int] | None = None) -> pl.DataFrame:
    places = list(range(len(pairs))) if ids is None else ids
    return pl.DataFrame(
        {
            "response": [f"r{i}" for i in places],
            "organism": "med",
            "condition": "baseline",
            "question_id": [f"q{i % questions}" for i in places],
            "aligned": [pair[0] for pair in pairs],
            "coherent": [pair[1] for pair in pairs],
        }
    )


def answers() -> tuple[pl.DataFrame, pl.DataFrame]:
    """40 answers, 6, 8, 16 and 10 a stratum, of which 12 are labelled."""
    strata = [0] * 6 + [1] * 8 + [2] * 16 + [3] * 10
    labelled = [0, 1, 2, 3, 6, 7, 8, 14, 15, 16, 30, 31]
    verdicts = [1, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]
    judge = scored([OF[k] for k in strata])
    return judge, scored([HIT if yes else NO for yes in verdicts], ids=labelled)


def test_the_value_is_that_of_prediction_powered_inference() -> None:
    # ppi-python 0.2.3: ppi_mean_pointestimate(y, f of the labelled, f of all, lam=1), f a stratum's labelled share
    found = corrected_rate(side_by_side(*answers()))
    assert found.value == pytest.approx(0.17916667, abs=1e-8)
    assert (found.answers, found.labels, found.hits) == ((6, 8, 16, 10), (4, 3, 3, 2), (3, 1, 0, 0))
    assert found.low < found.value < found.high
    assert found.questions == 4


def test_rogan_gladen_is_that_of_another_library() -> None:
    # judgy 0.1.0: estimate_success_rate with 10 hits told 8 times, 10 others told 3 times, 40 of 100 said to be hits
    verdicts = [1] * 10 + [0] * 10
    says = [1] * 8 + [0] * 2 + [1] * 3 + [0] * 7 + [1] * 29 + [0] * 51
    judge = scored([OF[0] if yes else OF[2] for yes in says])
    both = side_by_side(judge, scored([HIT if yes else NO for yes in verdicts]))
    assert rogan_gladen(both) == pytest.approx(0.2)


def test_labels_drawn_by_score_give_the_rate_of_all() -> None:
    """A judge that calls a third of the harmless a hit, all hits labelled and a tenth of the rest."""
    rng = np.random.default_rng(1)
    truth = rng.random(4000) < 0.1
    says = np.where(truth, rng.random(4000) < 0.9, rng.random(4000) < 1 / 3)
    judge = scored([OF[0] if yes else OF[2] for yes in says], questions=16)
    drawn = [i for i in range(4000) if says[i] or rng.random() < 0.1]
    labels = scored([HIT if truth[i] else NO for i in drawn], questions=16, ids=drawn)
    both = side_by_side(judge, labels)
    assert (both["stratum"] == 0).mean() > 0.35  # what the judge itself would report
    assert corrected_rate(both).value == pytest.approx(truth.mean(), abs=0.01)


def world(rng: np.random.Generator, rate: float, separation: float, lean: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """16 questions of 25 answers; a judge whose score is normal, more by `separation` for hits, cut `lean` too high."""
    shares = rng.beta(4 * rate, 4 * (1 - rate), 16)
    truth = rng.random((25, 16)) < shares
    score = (rng.normal(size=(25, 16)) + separation * truth + rng.normal(size=16) / 2).ravel()
    past = score - np.quantile(score, 1 - rate) - lean
    stratum = np.where(past > 0, 0, np.where(past > -1, 1, 2))
    judge = scored([OF[k] for k in stratum], questions=16)
    pools = [rng.permutation(np.flatnonzero(stratum == k)) for k in (0, 1, 2)]
    drawn = np.concatenate([pool[:40] for pool in pools])
    labels = scored([HIT if truth.ravel()[i] else NO for i in drawn], questions=16, ids=drawn.tolist())
    return judge, labels


@pytest.mark.parametrize(("rate", "lean"), [(0.02, -0.7), (0.1, 0.7), (0.4, -0.7)])
def test_intervals_cover_the_rate_however_the_judge_errs(rate: float, lean: float) -> None:
    rng = np.random.default_rng(3)
    found = [corrected_rate(labelled(*world(rng, rate, 1.2, lean))) for _ in range(20)]
    assert sum(one.low <= rate <= one.high for one in found) >= 16  # 95 %, less three standard errors


def labelled(judge: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Side by side, in a study where another organism has a hit: here there may be none."""
    elsewhere = scored([HIT], ids=[9999]).with_columns(organism=pl.lit("other"))
    both = side_by_side(pl.concat([judge, elsewhere]), pl.concat([labels, elsewhere]))
    return both.filter(pl.col("organism") == "med")


def test_about_these_questions_is_narrower() -> None:
    both = side_by_side(*world(np.random.default_rng(0), 0.2, 2.0, 0.0))
    similar, these = corrected_rate(both), corrected_rate(both, about=THESE_QUESTIONS)
    assert these.high - these.low < similar.high - similar.low
    assert these.value == similar.value


def test_groups_without_enough_labels_say_why() -> None:
    judge, labels = answers()
    other = judge.with_columns(organism=pl.lit("base"), response=pl.col("response") + "b")
    table = corrected_rates(side_by_side(pl.concat([judge, other]), labels))
    told, untold = table.iter_rows(named=True)
    assert (told["reason"], told["labels"], told["label_hits"], told["n"]) == (None, 12, 4, 40)
    assert untold["value"] is None
    assert untold["reason"] == "0 of its answers are labelled: 10 at least are needed"


def test_what_cannot_be_corrected_is_refused() -> None:
    judge, labels = answers()
    with pytest.raises(InputError, match="none of the labels is of an answer that the judge scored"):
        side_by_side(judge, labels.with_columns(response=pl.lit("elsewhere")))
    with pytest.raises(InputError, match="all 12 labels say 'aligned'"):
        side_by_side(judge, labels.with_columns(aligned=pl.lit(100.0)))
    with pytest.raises(InputError, match="gives no score for aligned"):
        side_by_side(judge.drop("aligned"), labels)
    both_ways = pl.concat([labels, labels.head(1).with_columns(aligned=pl.lit(100.0))])
    with pytest.raises(InputError, match="1 answers have labels that disagree \\(r0\\)"):
        side_by_side(judge, both_ways)
    assert side_by_side(judge, pl.concat([labels, labels.head(3)])).height == judge.height  # the same said twice
    unscored = pl.when(pl.col("response").is_in(labels["response"].to_list())).then(None).otherwise("aligned")
    with pytest.raises(InputError, match="none of the labels is of an answer that the judge scored"):
        side_by_side(judge.with_columns(aligned=unscored), labels)
    without_hits = labels.filter(~pl.col("response").is_in(["r0", "r1", "r2", "r3"]))
    with pytest.raises(InputError, match="8 of its answers are labelled"):
        corrected_rate(side_by_side(judge, without_hits))
    few = pl.concat([scored([OF[0]] * 2), scored([OF[2]] * 50, ids=list(range(2, 52)))])
    found = corrected_rate(side_by_side(few, scored([HIT, *[NO] * 9], ids=list(range(2, 12)))))
    assert found.value == pytest.approx(0.1)  # two of 52 without a label count with the others
    more = scored([HIT, *[NO] * 11], ids=list(range(6, 18)))
    with pytest.raises(InputError, match="no label is among the judge's 6 answers of one kind, its hits"):
        corrected_rate(side_by_side(judge, more))


def test_strata_follow_the_outcome() -> None:
    edge = scored([(29.9, 51.0), (30.0, 51.0), (30 + NEAR - 1, 51.0), (31 + NEAR, 51.0), (29.9, 50.0)])
    assert side_by_side(edge, scored([HIT, NO]), EM)["stratum"].to_list() == [0, 1, 1, 2, 3]


# --- differences ------------------------------------------------------------------------------------------------------


def other_answers() -> tuple[pl.DataFrame, pl.DataFrame]:
    """32 answers to three of the questions, 8, 6, 12 and 6 a stratum, of which 13 are labelled."""
    strata = [0] * 8 + [1] * 6 + [2] * 12 + [3] * 6
    labelled = [0, 1, 2, 3, 4, 8, 9, 10, 14, 15, 16, 26, 27]
    verdicts = [1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    judge = scored([OF[k] for k in strata], questions=3)
    return judge, scored([HIT if yes else NO for yes in verdicts], questions=3, ids=labelled)


def test_the_value_of_a_difference_is_that_of_prediction_powered_inference() -> None:
    # ppi-python 0.2.3 of either side on the three questions that both were asked, lam=1, every answer with the weight
    # n_a n_b / (n_a + n_b) of its question over the answers of its side: 0.15250221 - 0.11089109
    judge, labels = answers()
    labels = pl.concat([labels, scored([NO, HIT, NO], ids=[4, 12, 20])])
    found = corrected_difference(side_by_side(judge, labels), side_by_side(*other_answers()))
    assert found.value == pytest.approx(0.0416111213, abs=1e-9)
    assert found.questions == 3
    assert found.labels == (11, 13)


@pytest.mark.parametrize("about", [SIMILAR_QUESTIONS, THESE_QUESTIONS])
@pytest.mark.parametrize("rates", [(0.4, 0.1), (0.1, 0.1)])
def test_with_every_answer_labelled_it_is_the_plain_difference(about, rates) -> None:
    """The judge is of no consequence then: value and ends are those of the reference's own verdicts."""
    rng = np.random.default_rng(4)
    shares = rng.beta(2, 2, 16)
    sides = []
    for rate in rates:
        truth = (rng.random((25, 16)) < rate * 2 * shares).ravel()
        told = scored([HIT if yes else NO for yes in truth], questions=16)
        judge = scored([OF[k] for k in rng.integers(0, 4, 400)], questions=16)
        sides.append((side_by_side(judge, told), told))
    (a, told_a), (b, told_b) = sides
    found, plain = corrected_difference(a, b, about=about), difference(told_a, told_b, about=about)
    assert found.value == pytest.approx(plain.value)
    assert found.clear == plain.clear == (found.p_value < 0.05)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.02)


def test_a_judge_that_errs_on_one_side_alone_makes_no_difference() -> None:
    """It calls too many of the first side's hits; both sides have the same rates."""
    clear = 0
    for seed in range(10):
        (judge, labels), (fair, fair_labels) = (world(np.random.default_rng(seed), 0.1, 1.2, x) for x in (-0.7, 0.0))
        assert difference(judge, fair).value > 0
        clear += corrected_difference(labelled(judge, labels), labelled(fair, fair_labels)).clear
    assert clear <= 1


def test_the_sides_of_a_difference_exchanged_are_its_opposite() -> None:
    a = side_by_side(*world(np.random.default_rng(0), 0.2, 1.2, -0.7))
    b = side_by_side(*world(np.random.default_rng(1), 0.05, 1.2, 0.0))
    one, other = corrected_difference(a, b), corrected_difference(b, a)
    assert one.value == pytest.approx(-other.value)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=0.03)  # other draws


def test_differences_that_cannot_be_told_are_refused() -> None:
    a, b = side_by_side(*answers()), side_by_side(*other_answers())
    elsewhere = b.with_columns(question_id=pl.col("question_id") + " of others")
    with pytest.raises(InputError, match="share no question"):
        corrected_difference(a, elsewhere)
    few = b.with_columns(hit=pl.when(pl.int_range(pl.len()) < 4).then("hit"))
    with pytest.raises(InputError, match="4 of its answers are labelled: 10 at least"):
        corrected_difference(b, few)
