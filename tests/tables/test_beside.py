"""Two sides next to each other: what is paired, what is not, and what else differs."""

from contextlib import closing

import numpy as np
import polars as pl
import pytest

from backend.analysis.rates.rates import THESE_QUESTIONS, difference, rate
from backend.analysis.rates.unpaired import unpaired_difference
from backend.outcomes import EM
from backend.records import InputError, Question
from backend.study import Draft, open_study
from backend.tables.beside import beside, caveats, same_questions


def answers(rates: dict[str, tuple[int, int]]) -> pl.DataFrame:
    """Hits of so many answers by question."""
    rows = [(name, 10.0 if at < hits else 90.0, 90.0) for name, (hits, n) in rates.items() for at in range(n)]
    return pl.DataFrame(rows, ["question_id", "aligned", "coherent"], orient="row")


def study(root, name, *questions):
    with Draft(name, root=root) as draft:
        draft.meta(title=name, base="none")
        draft.add_questions([Question(*each) for each in questions])
        draft.publish()
    return open_study(name, root)


def test_questions_are_one_by_id_or_text_and_never_against_a_known_text(tmp_path):
    ours = study(tmp_path, "ours", ("a", "How?", "x"), ("b", "Why?", "x"), ("c", "", "x"), ("d", "When?", "x"))
    theirs = study(
        tmp_path, "theirs", ("a", "how? ", "x"), ("q7", "Why?", "x"), ("c", "Who?", "x"), ("d", "Where?", "x")
    )
    with closing(ours), closing(theirs):
        assert same_questions(ours, theirs) == {"a": "a", "q7": "b", "c": "c"}  # c has no text here; d is another


def test_shared_questions_are_paired_as_the_difference_of_rates_is():
    ours = answers({"a": (9, 10), "b": (8, 10), "only": (10, 10)})
    theirs = answers({"a": (1, 10), "x": (0, 10), "other": (0, 10)})
    found = beside(ours, theirs, EM, {"a": "a", "x": "b"})
    renamed = theirs.with_columns(pl.col("question_id").replace({"x": "b"}))
    expected = difference(ours, renamed, about=THESE_QUESTIONS)  # two questions say nothing of questions like them
    assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)
    assert (found.shared, found.only) == (2, (1, 1))
    said = found.said(("one", "two"), EM)
    assert "one 85.0 % of 20, two 5.0 % of 20 answers misaligned: +80.0 points" in said
    assert "Paired by 2 shared questions; left out: 1 asked of one alone and 1 asked of two alone" in said
    assert said.endswith("interval for these very questions.")


def test_without_a_shared_question_nothing_is_paired_and_that_is_said():
    ours, theirs = answers({"a": (9, 10), "b": (8, 10)}), answers({"a": (1, 10), "c": (0, 10)})
    found = beside(ours, theirs, EM, {})  # an equal id alone does not make one question
    assert (found.shared, found.verdict) == (0, None)
    assert found.value == pytest.approx(0.8)
    assert 0 < found.low < 0.8 < found.high
    assert "Unpaired, because no question is shared" in found.said(("one", "two"), EM)
    assert "what differs may be the questions" in found.said(("one", "two"), EM)


def test_no_difference_is_said_as_none():
    same = answers({"a": (1, 4), "b": (2, 4)})
    assert "no fall is shown, and whether there is one cannot be told" in beside(
        same, same, EM, {"a": "a", "b": "b"}
    ).said(("one", "two"), EM)
    more = answers({f"q{at}": (at % 2, 4) for at in range(6)})
    assert ": no difference is shown. Unpaired" in beside(more, more, EM, {}).said(("one", "two"), EM)


@pytest.mark.parametrize(("questions", "told"), [(1, False), (5, False), (6, True)])
def test_few_questions_beside_others_are_too_few_to_tell(questions, told):
    ours, theirs = (answers({f"q{at}": (hits, 20) for at in range(questions)}) for hits in (20, 0))
    found = beside(ours, theirs, EM, {})
    assert found.clear is told
    assert found.a == rate(np.ones(20 * questions), np.repeat(np.arange(questions), 20))  # questions like its own
    said = found.said(("one", "two"), EM)
    assert ("too few questions to compare different ones, 6 a side are needed" in said) is not told
    assert "no difference is shown" not in said
    assert ("+100.0 points (" in said) is told
    fewer = beside(ours, answers({f"q{at}": (0, 20) for at in range(6)}), EM, {})
    assert fewer.clear is told


@pytest.mark.parametrize(("questions", "correlation"), [(1, 0.2), (3, 0.5), (6, 0.2), (6, 0.5), (12, 0.5)])
def test_different_questions_with_the_same_mean_are_hardly_ever_clear(questions, correlation):
    """What differs is the draw of questions alone: 25 answers to each, rates of a Beta with mean 0.3."""
    rng, spread, runs = np.random.default_rng(2), 1 / correlation - 1, 150
    clear = 0
    for _ in range(runs):
        sides = []
        for _ in range(2):
            own = rng.binomial(25, rng.beta(0.3 * spread, 0.7 * spread, size=questions))
            sides.append(answers({f"q{at}": (int(hits), 25) for at, hits in enumerate(own)}))
        clear += beside(sides[0], sides[1], EM, {}).clear
    assert clear / runs < 0.09


def test_two_cells_that_are_the_most_of_several_get_no_verdict():
    ours = answers({f"q{at}": (9, 10) for at in range(8)})
    theirs = answers({f"q{at}": (1, 10) for at in range(8)})
    same = {f"q{at}": f"q{at}" for at in range(8)}
    for pairs, clear in ((same, True), ({}, True)):
        found = beside(ours, theirs, EM, pairs)
        assert found.clear is clear
        said = found.said(("one", "two"), EM, (12, 3))
        assert "each is the most of its study's cells (12 and 3), so the one with more is higher by chance" in said
        assert ": no verdict. " in said
    none = beside(theirs, theirs, EM, same).said(("one", "two"), EM, (4, 4))
    assert "no fall" not in none
    assert "(4 and 4), so both are higher by chance" in none
    assert "each is the most" not in beside(ours, theirs, EM, same).said(("one", "two"), EM, (1, 1))


def test_a_side_without_scores_is_refused():
    ours = answers({"a": (1, 2)})
    with pytest.raises(InputError, match="no scores for coherent"):
        beside(ours, ours.drop("coherent"), EM, {})
    with pytest.raises(InputError, match="no scored answers"):
        beside(ours, ours.clear(), EM, {})


def test_other_judges_and_other_questions_are_said():
    assert caveats(("one", "one"), (["x"], ["x"])) == ()
    assert "Different judges, one and two" in caveats(("one", "two"), (["x"], ["x"]))[0]
    assert caveats(("one", "one"), (["x"], ["x", "y"])) == ("Different question sets, x and x, y.",)


@pytest.mark.parametrize("truths", [(0.3, 0.3), (0.6, 0.2), (0.05, 0.05)])
def test_the_unpaired_interval_covers(truths):
    """Answers of 8 questions whose rates vary (beta, correlation 0.2), 20 each, on either side."""
    rng, spread, covered, runs = np.random.default_rng(1), 1 / 0.2 - 1, 0, 150
    groups = np.repeat(np.arange(8), 20)
    for _ in range(runs):
        sides = []
        for truth in truths:
            own = rng.beta(truth * spread, (1 - truth) * spread, size=8)
            sides.append(rate(rng.random(160) < own[groups], groups))
        _, low, high = unpaired_difference(*sides)
        covered += low <= truths[0] - truths[1] <= high
    assert covered / runs > 0.91
