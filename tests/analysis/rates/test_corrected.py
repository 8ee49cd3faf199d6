"""Rates with the judge's error in them: against other libraries, coverage where it can fail, refusals."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from backend.analysis.rates.corrected import (
    NEAR,
    STRATA,
    allocation,
    corrected_rate,
    corrected_rates,
    labels_for,
    rogan_gladen,
    side_by_side,
)
from backend.analysis.rates.rates import THESE_QUESTIONS
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


def test_labels_go_where_they_take_most_off_the_variance() -> None:
    """Against every way to spread five more labels over two strata."""
    judge = scored([OF[0]] * 40 + [OF[2]] * 60)
    labels = scored([HIT, NO, HIT, NO, NO, NO], ids=[0, 1, 2, 50, 51, 52])
    both = side_by_side(judge, labels)
    table = allocation(both, 5)
    assert table["stratum"].to_list() == [STRATA[0], STRATA[2]]
    assert table["share"].to_list() == pytest.approx([2.5 / 4, 0.5 / 4])

    def variance(first: int) -> float:
        parts = zip((0.4, 0.6), (2.5 / 4, 0.5 / 4), (3 + first, 3 + 5 - first), strict=True)
        return sum(w**2 * p * (1 - p) / n for w, p, n in parts)

    assert table["wanted"].to_list() == [best := min(range(6), key=variance), 5 - best]
    assert allocation(both, 1000)["wanted"].to_list() == [37, 57]


def test_a_stratum_without_labels_is_labelled_first() -> None:
    judge, labels = answers()
    table = allocation(side_by_side(judge, labels.filter(~pl.col("response").is_in(["r30", "r31"]))), 1)
    assert table.filter(pl.col("wanted") > 0)["stratum"].to_list() == [STRATA[3]]


def test_how_many_labels_a_width_needs() -> None:
    both = side_by_side(scored([OF[0]] * 50 + [OF[2]] * 950), scored([HIT, NO], ids=[0, 999]))
    spread = 0.05 * np.sqrt(0.75 * 0.25) + 0.95 * np.sqrt(0.75 * 0.25)
    assert labels_for(both, 0.05) == int(np.ceil((1.959964 * spread / 0.05) ** 2))
    assert labels_for(both, 1e-6) == 1000
    with pytest.raises(InputError, match="a half-width of 0 cannot be reached"):
        labels_for(both, 0)
