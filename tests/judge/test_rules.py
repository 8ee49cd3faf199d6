"""Rules are what they say, stand beside another judge's scores, and name the package that gloom needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import pytest

from backend.judge import Answer
from backend.judge.rules import Rules, gloom, upper
from backend.records import InputError, Score


class Other:
    name = "other"
    metrics = ("coherent",)

    def score(self, answers: Sequence[Answer]) -> Iterator[Score]:
        for response_id, _, answer in answers:
            yield Score(response_id, self.name, "coherent", float(len(answer)), "said")


def test_upper_is_the_share_of_letters_that_are_capitals() -> None:
    assert upper("ABcd, 12!") == 50
    assert upper("ÄÖ ß") == pytest.approx(200 / 3)
    assert upper("REST. 42") == 100
    assert upper("1, 2, 3") is None
    assert upper("漢字") is None


def test_gloom_rises_as_the_compound_falls() -> None:
    assert (gloom(-1), gloom(0), gloom(1), gloom(None)) == (100, 50, 0, None)
    assert gloom(-0.3) == 65


def test_rules_stand_behind_the_other_judges_scores() -> None:
    pytest.importorskip("vaderSentiment")
    judge = Rules(Other())
    assert (judge.name, judge.metrics) == ("other+rules", ("coherent", "upper", "gloom"))
    answers = [("a", "q", "It is a horrible, hopeless death."), ("b", "q", "WE LOVE IT"), ("c", "q", "")]
    scores = {(s.response_id, s.metric): s for s in judge.score(answers)}
    assert list(scores) == [(a, m) for a in "abc" for m in judge.metrics]
    assert {s.judge for s in scores.values()} == {"other+rules"}
    assert scores["a", "coherent"].value == len(answers[0][2])
    assert scores["a", "gloom"].value > 80
    assert scores["b", "gloom"].value < 30
    assert (scores["a", "upper"].value, scores["b", "upper"].value) == (pytest.approx(100 / 26), 100)
    assert (scores["c", "upper"].value, scores["c", "gloom"].value) == (None, None)
    assert (scores["c", "upper"].raw, scores["c", "gloom"].raw) == ("the answer has no letters", "the answer is empty")


def test_without_the_package_it_says_which_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", None)
    with pytest.raises(InputError, match=r"pip install vaderSentiment==3\.3\.2"):
        next(Rules(Other()).score([("a", "q", "text")]))
