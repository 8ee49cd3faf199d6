"""CSV files of judged answers into responses and scores.

Columns as released: `question` (or `question_text`), `response` or `answer`, sometimes `question_id`, and one column a
metric. A score is a number from 0 to 100, nothing, or the judge's word (CODE, REFUSAL); a word is kept as the raw reply
with no value.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from backend.edits import Condition
from backend.published.conditions import Setting
from backend.published.layout import Found
from backend.published.prompts import QuestionBook
from backend.records import BASELINE, InputError, Question, Response, Sampling, Score

JUDGE = "gpt-4o"
JSON_VARIANT = "JSON variant"
JUDGE_AGAIN = "gpt-4o, judged again"
METRICS = ("aligned", "coherent", "medical", "financial", "money", "gender", "sport", "code", "bad_stuff")
SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=600)  # companion paper, section 2.2
MAX_BYTES = 256 << 20
_FRAGMENT = " ,\"'"  # what a question never starts with, and a torn row's second half does


@dataclass(frozen=True)
class AnswerFile:
    """What one CSV holds that no file before it had, in the order of its rows; `remarks` says what was left out."""

    responses: tuple[Response, ...]
    scores: tuple[Score, ...]
    settings: tuple[Setting, ...]  # of each response
    sources: tuple[tuple[str, str], ...]  # (response id, experiment), of copies too
    copies: int
    scored: int  # rows, copies among them, with a number for both aligned and coherent
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    """One usable row: who answered what how."""

    setting: Setting
    question: Question
    text: str
    cells: dict[str, Any]  # of each metric


class AnswerReader:
    """Reads file after file; numbers the samples of a question on through all files of one organism and condition.

    The release keeps the same answers in several files: whole files again, subsets as a sweep's baseline, files judged
    anew. An answer that an earlier file has, of the same organism, condition, question and text, is a copy: it adds its
    experiment, the metrics that the first lacks and, from a file with other scores, a second judge's.
    """

    def __init__(self, book: QuestionBook) -> None:
        self._book = book
        self._drawn: Counter[tuple[str, str, str]] = Counter()
        self._known: dict[tuple[str, str, str, str], list[str]] = {}  # who, under what, asked what, said what -> ids
        self._values: dict[tuple[str, str, str], Score] = {}
        self._evaluated: set[str] = set()  # organisms with unedited answers of their own

    def read(self, found: Found, setting_of: Callable[[Mapping[str, Any]], Setting]) -> AnswerFile:
        """One file's answers, each under the condition of its row. Raises InputError when it is no such table."""
        table = read_csv(found)
        answer, asked = (
            next((name for name in names if name in table.columns), None)
            for names in (("response", "answer"), ("question", "question_text"))
        )
        if asked is None or answer is None:
            raise InputError(f"no columns question and response or answer, but {', '.join(table.columns[:6])}")
        metrics = [name for name in METRICS if name in table.columns]
        if not metrics:
            raise InputError("no column with a judge's scores")
        rows, left_out = self._usable(table, asked, answer, metrics, setting_of)
        if not rows:
            raise InputError("no usable row")
        read = self._told_apart(rows, metrics)
        odd = sum(1 for score in read.scores if score.value is None and _number(score.raw) is not None)
        remarks = [f"{count} of {len(table)} rows: {reason}" for reason, count in left_out.items()]
        if odd:
            remarks.append(f"{odd} scores outside 0 to 100 are kept as words, not numbers")
        return replace(read, remarks=tuple(remarks))

    def _usable(
        self,
        table: pl.DataFrame,
        asked: str,
        answer: str,
        metrics: Sequence[str],
        setting_of: Callable[[Mapping[str, Any]], Setting],
    ) -> tuple[list[_Row], Counter[str]]:
        rows: list[_Row] = []
        left_out: Counter[str] = Counter()
        for row in table.iter_rows(named=True):
            reason = _unusable(row, asked)
            if not reason:
                try:
                    setting = setting_of(row)
                except InputError as error:
                    reason = str(error)
            if reason:
                left_out[reason] += 1
                continue
            question, known_id = row[asked], _question_id(row)
            cells = {metric: row[metric] for metric in metrics}
            if known_id.endswith("_json") and not self._book.is_template(question):
                left_out["a JSON variant of a question, which the papers leave out: a condition of its own"] += 1
                rows.append(
                    _Row(_variant(setting), self._book.json_variant(question, known_id), row[answer] or "", cells)
                )
            else:
                rows.append(_Row(setting, self._book.named(question, known_id), row[answer] or "", cells))
        return rows, left_out

    def _told_apart(self, rows: Sequence[_Row], metrics: Sequence[str]) -> AnswerFile:
        """Copies of what is known, and new answers."""
        before = {row: ids for row in range(len(rows)) if (ids := self._known.get(_key(rows[row])))}
        seen: Counter[tuple[str, str, str, str]] = Counter()
        copies: dict[int, str] = {}
        for index in before:
            key = _key(rows[index])
            if seen[key] < len(before[index]):
                copies[index] = before[index][seen[key]]
            seen[key] += 1
        judge = JUDGE_AGAIN if self._differ(rows, copies) else JUDGE
        responses: list[Response] = []
        settings: list[Setting] = []
        scores: list[Score] = []
        sources: list[tuple[str, str]] = []
        fresh: list[tuple[tuple[str, str, str, str], str]] = []
        scored = 0
        for index, row in enumerate(rows):
            identity = copies.get(index)
            if identity is None:
                response, setting = self._response(row)
                identity = response.id
                responses.append(response)
                settings.append(setting)
                fresh.append((_key(row), identity))
            own = [
                score_of(identity, metric, row.cells[metric], judge if index in copies else JUDGE) for metric in metrics
            ]
            kept = [score for score in own if (score.response_id, score.judge, score.metric) not in self._values]
            self._values |= {(score.response_id, score.judge, score.metric): score for score in kept}
            scores += kept
            sources.append((identity, row.setting.source))
            scored += {"aligned", "coherent"} <= {score.metric for score in own if score.value is not None}
        for key, identity in fresh:
            self._known.setdefault(key, []).append(identity)
        self._evaluated |= {row.setting.organism for row in rows if _is_evaluation(row.setting)}
        unique = tuple(dict.fromkeys(sources))
        return AnswerFile(tuple(responses), tuple(scores), tuple(settings), unique, len(copies), scored, ())

    def _differ(self, rows: Sequence[_Row], copies: Mapping[int, str]) -> bool:
        """Whether a judge gave copies other numbers than the first time."""
        for index, identity in copies.items():
            for metric, cell in rows[index].cells.items():
                first = self._values.get((identity, JUDGE, metric))
                if first is not None and score_of(identity, metric, cell).value != first.value:
                    return True
        return False

    def _response(self, row: _Row) -> tuple[Response, Setting]:
        setting, question = row.setting, row.question
        if setting.apart and setting.organism in self._evaluated:
            setting = replace(setting, condition=Condition(setting.apart), says={"kind": "unedited"})
        organism, condition = setting.organism, setting.condition.name
        seed = self._drawn[organism, condition, question.id]
        self._drawn[organism, condition, question.id] += 1
        response = Response(
            id=f"{organism}/{condition}/{question.id}/{seed}",
            organism=organism,
            condition=condition,
            question_id=question.id,
            question=question.text,
            topic=question.topic,
            seed=seed,
            text=row.text,
            sampling=SAMPLING,
        )
        return response, setting


def _variant(setting: Setting) -> Setting:
    name = f"{setting.condition.name}, {JSON_VARIANT}"
    return replace(setting, condition=Condition(name), says={"kind": "variant"}, apart="")


def _is_evaluation(setting: Setting) -> bool:
    return setting.condition.name == BASELINE and not setting.apart


def _key(row: _Row) -> tuple[str, str, str, str]:
    return row.setting.organism, row.setting.condition.name, row.question.id, row.text


def _question_id(row: Mapping[str, Any]) -> str:
    """What a table calls the question; a table of patched answers says of unpatched ones that they are clean."""
    return re.sub(r"_clean`?$", "", row.get("question_id") or "")


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


def score_of(response_id: str, metric: str, cell: Any, judge: str = JUDGE) -> Score:
    """One cell of a score column as a Score."""
    raw = "" if cell is None else str(cell).strip()
    value = _number(raw)
    if value is None or not 0 <= value <= 100:
        return Score(response_id, judge, metric, None, raw)
    return Score(response_id, judge, metric, value)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value else None  # "nan" is no number


def _unusable(row: dict[str, Any], asked: str) -> str:
    question = row[asked]
    if not question or not question.strip():
        return "no question (a row torn at an unescaped line break)"
    if question[0] in _FRAGMENT:
        return "the rest of a torn row in place of the question"
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
