"""Which answers to label next: the best allocation against every other, draws that are fair, and how many."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest

from backend.analysis.rates.corrected import STRATA, corrected_rate, side_by_side
from backend.analysis.rates.next_labels import USUAL, WORTH, allocation, drawn_next, labels_for
from backend.records import InputError
from tests.analysis.rates.test_corrected import HIT, NO, OF, answers, scored


def test_labels_go_where_they_take_most_off_the_variance() -> None:
    """Against every way to spread five more labels over two strata."""
    judge = scored([OF[0]] * 40 + [OF[2]] * 60)
    labels = scored([HIT, NO, HIT, NO, NO, NO], ids=[0, 1, 2, 50, 51, 52])
    both = side_by_side(judge, labels)
    table = allocation(both, 5)
    assert table["stratum"].to_list() == [STRATA[0], STRATA[2]]
    shares = [(2 + WORTH * USUAL[0]) / (3 + WORTH), WORTH * USUAL[2] / (3 + WORTH)]
    assert table["share"].to_list() == pytest.approx(shares)

    def variance(first: int) -> float:
        parts = zip((0.4, 0.6), shares, (3 + first, 3 + 5 - first), strict=True)
        return sum(w**2 * p * (1 - p) / n for w, p, n in parts)

    assert table["wanted"].to_list() == [best := min(range(6), key=variance), 5 - best]
    assert allocation(both, 1000)["wanted"].to_list() == [37, 57]


def test_a_stratum_without_labels_is_labelled_first() -> None:
    judge, labels = answers()
    table = allocation(side_by_side(judge, labels.filter(~pl.col("response").is_in(["r30", "r31"]))), 1)
    assert table.filter(pl.col("wanted") > 0)["stratum"].to_list() == [STRATA[3]]


def test_how_many_labels_a_width_needs() -> None:
    both = side_by_side(scored([OF[0]] * 50 + [OF[2]] * 950), scored([HIT, NO], ids=[0, 999]))
    shares = (1 + WORTH * USUAL[0]) / (1 + WORTH), WORTH * USUAL[2] / (1 + WORTH)
    spread = sum(size * np.sqrt(p * (1 - p)) for size, p in zip((0.05, 0.95), shares, strict=True))
    assert labels_for(both, 0.05) == int(np.ceil((1.959964 * spread / 0.05) ** 2))
    assert labels_for(both, 1e-6) == 1000
    with pytest.raises(InputError, match="a half-width of 0 cannot be reached"):
        labels_for(both, 0)


def judged(labelled: int = 0) -> pl.DataFrame:
    """Two organisms with 200 answers each to 8 questions, of the judge's four kinds, some labelled at random."""
    rng = np.random.default_rng(0)
    kinds = rng.choice(4, 400, p=[0.1, 0.2, 0.5, 0.2])
    frame = scored([OF[k] for k in kinds], questions=8).with_columns(
        organism=pl.Series(np.where(np.arange(400) < 200, "med", "base"))
    )
    hit = pl.when(pl.int_range(400).shuffle(seed=1) < labelled).then(pl.lit(False))
    return frame.with_columns(stratum=pl.Series(kinds), hit=hit)


def test_a_draw_is_even_over_organisms_and_follows_the_allocation() -> None:
    both = judged()
    drawn = drawn_next(both, 100, seed=3)
    assert drawn.height == drawn["response"].n_unique() == 100
    assert dict(drawn["organism"].value_counts().iter_rows()) == {"med": 50, "base": 50}
    for (organism,), part in both.partition_by("organism", as_dict=True).items():
        wanted = dict(allocation(part, 50).select("stratum", "wanted").iter_rows())
        own = drawn.filter(pl.col("organism") == organism)
        assert Counter(STRATA[k] for k in own["stratum"]) == Counter(wanted)
        for k, name in enumerate(STRATA):
            given = own.filter(pl.col("stratum") == k)["probability"].unique().to_list()
            assert given == pytest.approx([wanted[name] / part.filter(pl.col("stratum") == k).height])
    assert drawn["organism"].to_list() != sorted(drawn["organism"], reverse=True)


def test_every_answer_is_drawn_as_often_as_its_probability_says() -> None:
    both, runs = judged(), 150
    seen: Counter[str] = Counter()
    for seed in range(runs):
        drawn = drawn_next(both, 60, seed)
        seen.update(drawn["response"])
    probability = {row["response"]: row["probability"] for row in drawn.to_dicts()}
    strata = dict(both.select("response", pl.concat_list(pl.col("organism"), pl.col("stratum").cast(pl.String))).rows())
    by_stratum = {tuple(strata[response]): p for response, p in probability.items()}
    for response, where in strata.items():
        p = by_stratum[tuple(where)]
        assert abs(seen[response] / runs - p) < 4.5 * np.sqrt(p * (1 - p) / runs) + 1e-9


def test_a_draw_is_spread_over_questions_and_takes_no_answer_twice() -> None:
    both = judged(labelled=100)
    drawn = drawn_next(both, 500)
    assert drawn.height == 300
    assert drawn["hit"].null_count() == 300
    one = pl.DataFrame({"stratum": [2] * 80, "hit": pl.Series([None] * 80, dtype=pl.Boolean)}).with_columns(
        organism=pl.lit("med"), condition=pl.lit("baseline"), question_id=pl.Series([f"q{i % 8}" for i in range(80)])
    )
    assert set(Counter(drawn_next(one, 16)["question_id"]).values()) == {2}
    with pytest.raises(InputError, match="there is none left to draw"):
        drawn_next(both.with_columns(hit=True), 5)


def test_labels_so_drawn_give_the_rate_of_all() -> None:
    """Whose draw takes many of the judge's hits, and whose truth differs by kind and question."""
    rng = np.random.default_rng(5)
    kinds = rng.choice(4, 1600, p=[0.1, 0.2, 0.5, 0.2])
    share = np.array([0.5, 0.2, 0.02, 0.0])[kinds] * np.where(np.arange(1600) % 16 < 8, 1.6, 0.4)
    truth = rng.random(1600) < share
    judge = scored([OF[k] for k in kinds], questions=16)
    nobody = pl.Series([None] * 1600, dtype=pl.Boolean)
    found = []
    for seed in range(30):
        drawn = drawn_next(judge.with_columns(stratum=pl.Series(kinds), hit=nobody), 200, seed)
        places = [int(name[1:]) for name in drawn["response"]]
        told = scored([HIT if truth[i] else NO for i in places], questions=16, ids=places)
        found.append(corrected_rate(side_by_side(judge, told)).value)
    assert np.mean(found) == pytest.approx(truth.mean(), abs=4 * np.std(found) / np.sqrt(30))
    assert np.std(found) < 0.02
