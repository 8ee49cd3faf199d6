"""Responses, scores and measurements as tables, and as Parquet files that are written whole or not at all.

This module knows the one tabular form of each; a study holds the same columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from backend.files import whole
from backend.outside import must_be_file, understood
from backend.records import InputError, Response, Sampling, Score

_LEVEL = 19  # of zstd: a sixth smaller than by default, 10 microseconds a row
_SAMPLING: dict[str, Any] = {"temperature": pl.Float64, "top_p": pl.Float64, "max_new_tokens": pl.Int64}
RESPONSE: dict[str, Any] = {
    "id": pl.String,
    "organism": pl.String,
    "condition": pl.String,
    "question_id": pl.String,
    "question": pl.String,
    "topic": pl.String,
    "seed": pl.Int64,
    "text": pl.String,
    "prompt_ids": pl.List(pl.Int32),
    "answer_ids": pl.List(pl.Int32),
    "finished": pl.Boolean,
    **_SAMPLING,
}
SCORE: dict[str, Any] = {
    "response_id": pl.String,
    "judge": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "raw": pl.String,
}
MEASURED: dict[str, Any] = {  # one number of a measurement; what does not apply is "" or null
    "measure": pl.String,  # what was measured
    "vector": pl.String,  # of which direction or control
    "reader": pl.String,  # in which organism, or the base
    "side": pl.String,  # on which class of texts
    "segment": pl.String,  # at tokens of the prompt or the answer
    "layer": pl.Int32,
    "part": pl.String,  # of which part of the model, or which token
    "strength": pl.Float64,
    "question": pl.String,  # "" is the mean over questions
    "value": pl.Float64,
}
_PLAIN = [field.name for field in fields(Response) if field.name != "sampling"]


def write_responses(path: Path, responses: Iterable[Response]) -> None:
    """Replace the file by these responses, atomically."""
    with whole(path) as out:
        responses_to(out, responses)


def responses_to(out: BinaryIO, responses: Iterable[Response]) -> None:
    """Write the bytes of such a file."""
    response_frame(responses).write_parquet(out, compression="zstd", compression_level=_LEVEL)


def read_responses(path: Path) -> list[Response]:
    """The responses of a file, in its order. Raises InputError when it is no such file."""
    frame = _read(path, RESPONSE, nullable=())
    for name in ("prompt_ids", "answer_ids"):
        if frame.select(pl.col(name).list.eval(pl.element().is_null() | (pl.element() < 0)).list.any().any()).item():
            raise InputError(f"{path} has {name} that are no token ids: write it again")
    try:
        return responses_from(frame)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Replace the file by these scores, atomically; NaN becomes null."""
    frame = score_frame(scores)
    with whole(path) as out:
        frame.write_parquet(out, compression="zstd", compression_level=_LEVEL)


def read_scores(path: Path) -> list[Score]:
    """The scores of a file, in its order. Raises InputError when it is no such file."""
    return [Score(**row) for row in _read(path, SCORE, nullable=("value",)).iter_rows(named=True)]


def write_measured(path: Path, frame: pl.DataFrame) -> None:
    """Replace the file by the numbers of a measurement, in the columns of `MEASURED`, atomically; five digits each."""
    frame = frame.select(*MEASURED).with_columns(pl.col("value").round_sig_figs(5))
    with whole(path) as out:
        frame.write_parquet(out, compression="zstd", compression_level=19)


def read_measured(path: Path) -> pl.DataFrame:
    """The inverse. Raises InputError when it is no such file."""
    return _read(path, MEASURED, nullable=("layer", "strength"))


def response_frame(responses: Iterable[Response]) -> pl.DataFrame:
    """One row a response, in the columns of `RESPONSE`."""
    rows = [
        [getattr(r, name) for name in _PLAIN] + [getattr(r.sampling, name) for name in _SAMPLING] for r in responses
    ]
    try:
        return pl.DataFrame(rows, schema=RESPONSE, orient="row")
    except (pl.exceptions.PolarsError, TypeError, OverflowError, UnicodeEncodeError) as error:
        raise InputError(f"responses do not fit their table (seeds are 64-bit, token ids 32-bit): {error}") from error


def responses_from(frame: pl.DataFrame) -> list[Response]:
    """The inverse of `response_frame`."""
    return [_response(row) for row in frame.select(*RESPONSE).iter_rows(named=True)]


def score_frame(scores: Iterable[Score]) -> pl.DataFrame:
    """One row a score, in the columns of `SCORE`. What is no finite number is null."""
    rows = [(s.response_id, s.judge, s.metric, finite(s.value), s.raw) for s in scores]
    return pl.DataFrame(rows, schema=SCORE, orient="row")


def finite(value: float | None) -> float | None:
    """The value, or None where it is no finite number."""
    return float(value) if value is not None and math.isfinite(value) else None


def _response(row: dict[str, Any]) -> Response:
    sampling = Sampling(**{name: row.pop(name) for name in _SAMPLING})
    ids: Any = {name: tuple(row.pop(name)) for name in ("prompt_ids", "answer_ids")}
    return Response(**row, **ids, sampling=sampling)


def _may_be(found: Any, wanted: Any) -> bool:
    """Whether a column is one of a kind that holds the same: a cast would make text of numbers, and flags of text."""
    if wanted == pl.Float64:
        return bool(found.is_numeric() or found == pl.Null)
    if wanted == pl.Int64:
        return bool(found.is_integer())
    if wanted == pl.List(pl.Int32):
        return bool(isinstance(found, pl.List) and (found.inner.is_integer() or found.inner == pl.Null))
    return bool(found == wanted or (wanted == pl.String and found in (pl.Categorical, pl.Enum)))


def _read(path: Path, schema: dict[str, Any], *, nullable: tuple[str, ...]) -> pl.DataFrame:
    must_be_file(path, absent="sample or judge first")
    with understood(path, f"a table of {', '.join(schema)}", "write it again"):
        frame = pl.read_parquet(path, columns=list(schema), glob=False)
        for name, kind in schema.items():
            if not _may_be(frame.schema[name], kind):
                raise InputError(f"{path}: the column {name} is of {frame.schema[name]}, not {kind}: write it again")
        frame = frame.cast(pl.Schema(schema))
    empty = [name for name in schema if name not in nullable and frame[name].null_count()]
    if empty:
        raise InputError(f"{path} has rows without {', '.join(empty)}: write it again")
    return frame
