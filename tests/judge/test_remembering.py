"""A judge that remembers is asked once for each answer, and again where the answer or the judge changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from backend.judge import Answer
from backend.judge.choice import load_judge
from backend.judge.remembering import Remembering
from backend.records import InputError, Score


@dataclass
class Counting:
    """A judge whose score is the answer's length; it notes what it was asked."""

    name: str = "length"
    metrics: tuple[str, ...] = ("aligned", "coherent")
    asked: list[str] = field(default_factory=list)
    fails_at: str | None = None

    def score(self, answers: Sequence[Answer]) -> Iterator[Score]:
        for response_id, _, answer in answers:
            if answer == self.fails_at:
                raise RuntimeError
            self.asked.append(answer)
            for metric in self.metrics:
                yield Score(
                    response_id, self.name, metric, float(len(answer)) if answer else None, f"{metric} {answer}"
                )


def answers(n: int) -> list[Answer]:
    return [(f"r{i}", "q", "x" * i) for i in range(n)]


def test_scores_are_the_judges_and_are_asked_for_once(tmp_path: Path) -> None:
    plain, judge = Counting(), Counting()
    first = list(Remembering(judge, "d", tmp_path).score(answers(150)))
    assert first == list(plain.score(answers(150)))
    assert list(Remembering(judge, "d", tmp_path).score(answers(150))) == first
    assert judge.asked == plain.asked


def test_what_was_made_before_an_interruption_is_kept(tmp_path: Path) -> None:
    judge = Counting(fails_at="x" * 100)
    with pytest.raises(RuntimeError):
        list(Remembering(judge, "d", tmp_path).score(answers(150)))
    assert len(judge.asked) == 100
    judge.fails_at = None
    assert len(list(Remembering(judge, "d", tmp_path).score(answers(150)))) == 300
    assert len(judge.asked) == len(set(judge.asked)) == 150


def test_a_changed_answer_and_a_changed_judge_are_judged_anew(tmp_path: Path) -> None:
    judge = Counting()
    list(Remembering(judge, "d", tmp_path).score([("r", "q", "old")]))
    (score, _) = Remembering(judge, "d", tmp_path).score([("r", "q", "newer")])
    assert score.value == 5
    list(Remembering(judge, "other weights", tmp_path).score([("r", "q", "newer")]))
    assert judge.asked == ["old", "newer", "newer"]


def test_a_name_that_leads_to_no_judge_says_which_do(tmp_path: Path) -> None:
    for name in ("gpt-4o", "api:", "local", "remote:x"):
        with pytest.raises(InputError, match="local:MODEL"):
            load_judge(name, cache=tmp_path)
