"""What was asked in a study and answered: questions, conditions, responses and their scores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property

import polars as pl

from backend.edits import Condition, edits_from_json
from backend.records import InputError, Response, Score
from backend.study.connection import Connection, one_of
from backend.study.parquet import response_frame, responses_from, score_frame


class Responses(Connection):
    """The responses of a study."""

    def questions(self) -> pl.DataFrame:
        """Frame of id, text, topic."""
        return self._query("FROM questions")

    def conditions(self) -> pl.DataFrame:
        """Frame of name, edits (JSON)."""
        return self._query("FROM conditions")

    def condition(self, name: str) -> Condition:
        """One condition with its edits."""
        edits = dict(self.conditions().iter_rows())
        return Condition(name, edits_from_json(json.loads(edits[one_of(name, edits, "condition")])))

    def judges(self) -> list[str]:
        """Names of the judges that scored responses; first the one that the study goes by, where it names one."""
        return sorted(self._metrics, key=lambda judge: judge != self.info.get("judge"))

    def metrics(self, judge: str) -> list[str]:
        """What one judge scored, in the order of its first scores."""
        return list(self._metrics[one_of(judge, self._metrics, "judge")])

    def responses(self, judge: str | None = None) -> pl.DataFrame:
        """One row a response, and a Float64 column for every metric of the judge (null: it gave no number).

        Columns: response (its id), organism, condition, question_id, topic, question, seed, text, n_prompt, n_answer
        (tokens, without the end of turn), finished, then the metrics.
        """
        frame = self._query(
            "SELECT response AS index, id AS response, organism, condition, question_id, topic, question, seed, text, "
            "coalesce(t.n_prompt, len(prompt_ids)) AS n_prompt, "
            "coalesce(t.n_answer, greatest(len(answer_ids) - finished::INTEGER, 0)) AS n_answer, finished "
            "FROM responses LEFT JOIN (SELECT response, any_value(n_prompt) AS n_prompt, any_value(n_answer) "
            "AS n_answer FROM traces GROUP BY response) t USING (response) ORDER BY index"
        ).with_columns(pl.col("n_prompt", "n_answer").cast(pl.Int64))
        if judge is not None:
            given = "SELECT response AS index, metric, value FROM scores WHERE judge = $judge"
            frame = _beside(frame, self._query(given, judge=judge), self.metrics(judge), on="index")
        return frame.drop("index")

    def sources(self) -> pl.DataFrame:
        """Frame of response, source: the experiments that each response is of; empty where a study has none."""
        if not self._has("sources"):
            return pl.DataFrame(schema={"response": pl.String, "source": pl.String})
        return self._query("FROM sources ORDER BY source, response").with_columns(self._named("response"))

    def response(self, response_id: str) -> Response:
        """One response with its token ids and sampling."""
        return responses_from(
            self._query("FROM responses WHERE response = $response", response=self._response(response_id))
        )[0]

    def scores(self, response_id: str) -> pl.DataFrame:
        """Frame of judge, metric, value, raw of one response."""
        return self._query(
            "SELECT judge, metric, value, raw FROM scores WHERE response = $response ORDER BY judge, rowid",
            response=self._response(response_id),
        )

    @cached_property
    def _metrics(self) -> dict[str, list[str]]:
        """What each judge scored: counted once, since it takes all scores."""
        found: dict[str, list[str]] = {}
        for judge, metric in self._query(
            "SELECT judge, metric FROM scores GROUP BY judge, metric ORDER BY judge, min(rowid)"
        ).iter_rows():
            found.setdefault(judge, []).append(metric)
        return found


def scored(responses: Iterable[Response], scores: Iterable[Score], judge: str | None = None) -> pl.DataFrame:
    """`Responses.responses` of records that are not published yet, with "aligned" and "coherent" in any case.

    By default the judge that scored the most responses, of equals the last by name. Raises InputError on a judge that
    scored nothing.
    """
    given = score_frame(scores).rename({"response_id": "response"})
    sizes = given.group_by("judge", maintain_order=True).agg(pl.col("response").n_unique())
    if judge is not None and judge not in sizes["judge"]:
        raise InputError(
            f"no scores of the judge {judge!r}: there is {', '.join(sizes['judge']) or 'none'}. Run judge first"
        )
    most = max(sizes.rows(), key=lambda row: (row[1], row[0]), default=("", 0))[0]
    given = given.filter(judge=most if judge is None else judge).unique(
        ["response", "metric"], keep="last", maintain_order=True
    )
    metrics = list(dict.fromkeys([*given["metric"], "aligned", "coherent"]))
    frame = response_frame(responses).select(
        pl.col("id").alias("response"),
        *("organism", "condition", "question_id", "topic", "question", "seed", "text"),
        n_prompt=pl.col("prompt_ids").list.len().cast(pl.Int64),
        n_answer=(pl.col("answer_ids").list.len().cast(pl.Int64) - pl.col("finished")).clip(0),
        finished="finished",
    )
    return _beside(frame, given, metrics, on="response")


def _beside(frame: pl.DataFrame, scores: pl.DataFrame, metrics: Sequence[str], *, on: str) -> pl.DataFrame:
    """A frame of responses with a column a metric, out of scores [`on`, metric, value]."""
    wide = scores.pivot("metric", on_columns=metrics, index=on, values="value")
    return frame.join(wide, on=on, how="left", maintain_order="left")
