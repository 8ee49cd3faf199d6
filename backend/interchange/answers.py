"""Answers with their scores as other tools hand them over, and the table of them that the field's releases have.

    question, question_id, answer (or response), aligned, coherent, and any other number a column

is the CSV of Betley et al. (arXiv 2502.17424), Turner et al. (2506.11613) and Soligo et al. (2506.11618). Ours has the
columns organism, condition, seed and topic beside them, and names of scores as `metric@judge` where a judge is told.
It refuses to know what a study does with answers.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from backend.edits import Condition
from backend.outside import must_be_file, shown, understood
from backend.records import BASELINE, InputError, Response, Score
from backend.study import Study

OUTSIDE = "imported"  # the judge of scores that name none
_COLUMNS = ("organism", "condition", "question_id", "topic", "question", "seed", "answer")
_TEXTS = ("answer", "response", "completion")
_SKIPPED = {*_COLUMNS, *_TEXTS, "prompt", "finished"}
_METRIC = re.compile(r"[A-Za-z][\w-]{0,60}")
MOST = 100.0  # of a score


@dataclass(frozen=True)
class Imported:
    """Answers under the conditions that they name, and their scores."""

    responses: tuple[Response, ...]
    scores: tuple[Score, ...]
    conditions: tuple[Condition, ...]
    skipped: tuple[str, ...] = ()  # what was left out, in words


def texts_of(study: Study) -> None:
    """Raises InputError where the study does not hold the texts of its answers."""
    if "texts" in study.info.get("left_out", ()):
        raise InputError(f"{study.name} holds figures alone, without texts: its answers cannot be handed on")


def answers_table(study: Study, *, organism: str | None = None, condition: str | None = None) -> pl.DataFrame:
    """The answers of a study (of one organism, under one condition) with every judge's scores as `metric@judge`.

    Raises InputError where there are none, or the study does not hold their texts.
    """
    texts_of(study)
    frame = study.responses(None)
    for name, wanted in (("organism", organism), ("condition", condition)):
        frame = frame if wanted is None else frame.filter(pl.col(name) == wanted)
    if frame.is_empty():
        raise InputError(f"{study.name} has no answers of {organism or 'any organism'} under {condition or 'any edit'}")
    table = frame.rename({"text": "answer"}).select("response", *_COLUMNS)
    for judge in study.judges():
        metrics = study.metrics(judge)
        own = study.responses(judge).select("response", *(pl.col(each).alias(f"{each}@{judge}") for each in metrics))
        table = table.join(own, on="response", maintain_order="left")
    return table.drop("response")


def read_answers_table(
    path: Path, *, organism: str | None = None, condition: str = BASELINE, judge: str = OUTSIDE
) -> Imported:
    """The answers of a CSV in this form; `organism` (by default the file's name), `condition` and `judge` where it says
    none.

    A number outside of 0 to 100 is no score. Raises InputError without the columns of question and answer.
    """
    must_be_file(path)
    with understood(path, "a CSV table that can be read", "save it again, as UTF-8"):
        frame = pl.read_csv(path, infer_schema=False, glob=False)
    text = next((name for name in _TEXTS if name in frame.columns), None)
    if text is None or "question" not in frame.columns:
        raise InputError(f"{path} has the columns {shown(', '.join(frame.columns))}: it needs question and answer")
    judged = {name: metric_of(name, judge) for name in frame.columns if name not in _SKIPPED}
    makes = Making(organism or path.stem, condition)
    for row in frame.iter_rows(named=True):
        if row["question"] is None or row[text] is None:
            makes.skip("rows without a question or an answer")
            continue
        named = {each: row.get(each) for each in ("organism", "condition", "question_id", "topic", "seed")}
        response = makes.response(row["question"], row[text], named)
        for name, found in judged.items():
            if found is not None and row[name] not in (None, ""):
                makes.score(response, *found, row[name])
    return makes.made()


def metric_of(name: str, judge: str) -> tuple[str, str] | None:
    """(metric, judge) of a score's name, `metric@judge` or the metric alone; None where it can name no metric."""
    metric, _, by = name.partition("@")
    return (metric, by or judge) if _METRIC.fullmatch(metric) else None


class Making:
    """Records of rows, one after another: names where a row has none, a seed for each draw, what was left out."""

    def __init__(self, organism: str, condition: str) -> None:
        self.organism, self.condition = organism, condition
        self._responses: dict[str, Response] = {}
        self._scores: dict[tuple[str, str, str], Score] = {}
        self._conditions: dict[str, Condition] = {}
        self._taken: defaultdict[tuple[str, str, str], set[int]] = defaultdict(set)
        self._questions: dict[str, str] = {}
        self._skipped: Counter[str] = Counter()

    def skip(self, what: str) -> None:
        """Count something that is left out."""
        self._skipped[what] += 1

    def edited(self, condition: Condition) -> None:
        """What a condition did, where that is known."""
        self._conditions[condition.name] = condition

    def response(self, question: str, text: str, named: Mapping[str, Any]) -> Response:
        """The next answer; `named` has what its row says of organism, condition, question_id, topic, seed."""
        organism = str(named.get("organism") or self.organism)
        condition = str(named.get("condition") or self.condition)
        unnamed = f"question {len(self._questions) + 1}"
        asked = str(named.get("question_id") or self._questions.setdefault(question, unnamed))
        group = organism, condition, asked
        seed = self._seed(group, named.get("seed"))
        made = Response(
            id="/".join((*group, str(seed))),
            organism=organism,
            condition=condition,
            question_id=asked,
            question=question,
            topic=str(named.get("topic") or "imported"),
            seed=seed,
            text=text,
        )
        self._responses[made.id] = made
        self._conditions.setdefault(condition, Condition(condition))
        return made

    def _seed(self, group: tuple[str, str, str], said: Any) -> int:
        """The seed that a row says, where no other answer of the group has it, else the next that is free."""
        taken = self._taken[group]
        told = [int(said)] if str(said).isdecimal() else []
        seed: int = next(each for each in (*told, *range(len(taken) + 1)) if each not in taken)
        taken.add(seed)
        return seed

    def score(self, response: Response, metric: str, judge: str, value: Any) -> None:
        """What a judge gave; what is no number from 0 to 100 is kept as what it said, without a number."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        fits = 0 <= number <= MOST
        if not fits:
            self.skip(f"values of {metric} that are no number from 0 to 100")
        given = Score(response.id, judge, metric, number if fits else None, "" if fits else str(value)[:200])
        self._scores[response.id, judge, metric] = given

    def made(self) -> Imported:
        """All of it. Raises InputError where there is no answer."""
        if not self._responses:
            raise InputError("there is no answer in it: it needs rows with a question and an answer")
        skipped = tuple(f"{number:,} {what}" for what, number in self._skipped.items())
        responses, scores = tuple(self._responses.values()), tuple(self._scores.values())
        return Imported(responses, scores, tuple(self._conditions.values()), skipped)


def together(parts: Iterable[Imported]) -> Imported:
    """Several files as one. Raises InputError where two hold answers of one organism, condition, question and draw."""
    parts = list(parts)
    responses = [each for part in parts for each in part.responses]
    twice = [name for name, times in Counter(each.id for each in responses).items() if times > 1]
    if twice:
        raise InputError(
            f"two of the files hold the answer {twice[0]!r}: name another organism or condition for one of them"
        )
    conditions = {each.name: each for part in parts for each in part.conditions}
    scores = tuple(each for part in parts for each in part.scores)
    return Imported(tuple(responses), scores, tuple(conditions.values()), tuple(s for p in parts for s in p.skipped))
