"""CSV files of judged answers into responses and scores.

Columns as released: `question`, `response` or `answer`, sometimes `question_id`, and one column a metric. A score is a
number from 0 to 100, nothing, or the judge's word (CODE, REFUSAL); a word is kept as the raw reply with no value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from backend.published.layout import Found
from backend.published.prompts import QuestionBook
from backend.records import InputError, Question, Response, Sampling, Score

JUDGE = "gpt-4o"
METRICS = ("aligned", "coherent", "medical", "financial", "money", "gender", "sport", "code", "bad_stuff")
SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=600)  # companion paper, section 2.2
MAX_BYTES = 256 << 20
_FRAGMENT = " ,\"'"  # what a question never starts with, and a torn row's second half does


@dataclass(frozen=True)
class AnswerFile:
    """What one CSV holds, in the order of its rows; `remarks` says what was left out of it and why."""

    responses: tuple[Response, ...]
    scores: tuple[Score, ...]
    remarks: tuple[str, ...]


class AnswerReader:
    """Reads file after file; numbers the samples of a question on through all files of one organism and condition."""

    def __init__(self, book: QuestionBook) -> None:
        self._book = book
        self._drawn: Counter[tuple[str, str, str]] = Counter()

    def read(self, found: Found, organism: str, condition: str) -> AnswerFile:
        """One file's answers under one condition. Raises InputError when the file is not such a table."""
        table = read_csv(found)
        answer = next((name for name in ("response", "answer") if name in table.columns), None)
        if "question" not in table.columns or answer is None:
            raise InputError(f"no columns question and response or answer, but {', '.join(table.columns[:6])}")
        metrics = [name for name in METRICS if name in table.columns]
        if not metrics:
            raise InputError("no column with a judge's scores")
        responses: list[Response] = []
        scores: list[Score] = []
        left_out: Counter[str] = Counter()
        for row in table.iter_rows(named=True):
            reason = _unusable(row)
            if reason:
                left_out[reason] += 1
                continue
            question = self._book.named(row["question"], row.get("question_id") or "")
            response = self._response(question, row[answer] or "", organism, condition)
            responses.append(response)
            scores += [score_of(response.id, metric, row[metric]) for metric in metrics]
        if not responses:
            raise InputError("no usable row")
        odd = sum(1 for score in scores if score.value is None and _number(score.raw) is not None)
        remarks = [f"{count} of {len(table)} rows: {reason}" for reason, count in left_out.items()]
        if odd:
            remarks.append(f"{odd} scores outside 0 to 100 are kept as words, not numbers")
        return AnswerFile(tuple(responses), tuple(scores), tuple(remarks))

    def _response(self, question: Question, text: str, organism: str, condition: str) -> Response:
        seed = self._drawn[organism, condition, question.id]
        self._drawn[organism, condition, question.id] += 1
        return Response(
            id=f"{organism}/{condition}/{question.id}/{seed}",
            organism=organism,
            condition=condition,
            question_id=question.id,
            question=question.text,
            topic=question.topic,
            seed=seed,
            text=text,
            sampling=SAMPLING,
        )


def read_csv(found: Found) -> pl.DataFrame:
    """A CSV file as text columns, nulls where a cell is empty. Raises InputError with the reason."""
    if found.path.stat().st_size == 0:
        raise InputError("empty")
    if found.path.stat().st_size > MAX_BYTES:
        raise InputError(f"larger than {MAX_BYTES >> 20} MB")
    try:
        return pl.read_csv(found.path, infer_schema=False)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"not readable as CSV ({str(error).splitlines()[0][:120]})") from error


def score_of(response_id: str, metric: str, cell: Any) -> Score:
    """One cell of a score column as a Score."""
    raw = "" if cell is None else str(cell).strip()
    value = _number(raw)
    if value is None or not 0 <= value <= 100:
        return Score(response_id, JUDGE, metric, None, raw)
    return Score(response_id, JUDGE, metric, value)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value else None  # "nan" is no number


def _unusable(row: dict[str, Any]) -> str:
    question = row["question"]
    if not question or not question.strip():
        return "no question (a row torn at an unescaped line break)"
    if question[0] in _FRAGMENT:
        return "the rest of a torn row in place of the question"
    if (row.get("question_id") or "").endswith("_json"):
        return "a JSON variant of a question, which the papers leave out"
    return ""


def joined_scores(found: Found, wanted: pl.DataFrame) -> Iterator[Score]:
    """Scores of a table by question and answer for `wanted` (id, question, answer): the table names no organism."""
    table = read_parquet(found, ("question", "response"))
    metrics = [name for name in METRICS if name in table.collect_schema().names()]
    judged = table.unique(["question", "response"], keep="first")
    judged = judged.rename({"response": "answer"}).select("question", "answer", *metrics)
    matched = wanted.lazy().join(judged, on=["question", "answer"]).collect()
    for row in matched.iter_rows(named=True):
        yield from (score_of(row["id"], metric, row[metric]) for metric in metrics if row[metric] is not None)


def read_parquet(found: Found, columns: tuple[str, ...], *, max_rows: int = 5_000_000) -> pl.LazyFrame:
    """A parquet file that has these columns, not read yet. Raises InputError with the reason."""
    if found.path.stat().st_size == 0:
        raise InputError("empty")
    try:
        table = pl.scan_parquet(found.path, glob=False)
        names = table.collect_schema().names()
        rows = table.select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"not readable as parquet ({str(error).splitlines()[0][:120]})") from error
    if missing := [name for name in columns if name not in names]:
        raise InputError(f"no columns {', '.join(missing)}, but {', '.join(names[:6])}")
    if rows > max_rows or found.path.stat().st_size > MAX_BYTES:
        raise InputError(f"{rows:,} rows in {found.path.stat().st_size >> 20} MB are more than any released file")
    return table
