"""The scalars of a study: what every adapter said at every token, by response, by adapter, or summed up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from backend.records import FloatArray, InputError
from backend.study.connection import Connection, IntArray, ascending, one_of, segment_codes

_CONTEXT = 8  # tokens shown on either side of a top token


@dataclass(frozen=True, eq=False)
class Strip:
    """One response token by token, as read by one organism. A scalar that was not measured is NaN."""

    tokens: tuple[str, ...]  # (token,), prompt then answer
    n_prompt: int
    n_answer: int  # without the end-of-turn token
    adapters: tuple[str, ...]
    scalars: FloatArray  # (adapter, token)
    significance: FloatArray | None  # (token,), NaN where it has none


@dataclass(frozen=True, eq=False)
class ScalarTable:
    """Scalars of several adapters at many tokens, ordered by response and position."""

    values: FloatArray  # (n, adapter), NaN where not measured
    adapters: tuple[str, ...]
    response: IntArray  # (n,), index into `responses`
    responses: tuple[str, ...]
    position: IntArray  # (n,), token index in the response


@dataclass(frozen=True, eq=False)
class ScalarColumn:
    """One adapter's scalar at the tokens of a segment where it was measured."""

    values: FloatArray  # (n,)
    reading: IntArray  # (n,), row of `readings`
    position: IntArray  # (n,), token index in the response


class Scalars(Connection):
    """The scalars of a study."""

    def strip(self, response_id: str, reader: str) -> Strip:
        """One response token by token. Raises InputError when `reader` has not read it."""
        key = {"reader": self._organism(reader), "response": self._response(response_id)}
        where = "WHERE reader = $reader AND response = $response"
        traces = self._query(f"SELECT tokens, n_prompt, n_answer FROM traces {where}", **key)
        if traces.is_empty():
            raise InputError(f"{reader!r} has not read the response {response_id!r}; readers: {self.readers()}")
        tokens, n_prompt, n_answer = traces.row(0)
        adapters = tuple(self._adapter_names(reader))
        scalars = np.full((len(adapters), len(tokens)), np.nan, dtype=np.float32)
        frame = self._query(f"SELECT adapter, position, value FROM scalars {where}", **key)
        scalars[frame["adapter"].to_numpy(), frame["position"].to_numpy()] = frame["value"].to_numpy()
        marks = self._query(f"SELECT position, value FROM significance {where}", **key)
        significance = None
        if not marks.is_empty():
            significance = np.full(len(tokens), np.nan, dtype=np.float32)
            significance[marks["position"].to_numpy()] = marks["value"].to_numpy()
        return Strip(tuple(tokens), n_prompt, n_answer, adapters, scalars, significance)

    def scalar_tokens(
        self,
        reader: str,
        adapters: Sequence[str],
        *,
        segment: str = "answer",
        responses: Sequence[str] | None = None,
        min_significance: float | None = None,
    ) -> ScalarTable:
        """Scalars of some adapters at every token of a segment ("prompt", "answer", "all").

        `responses` keeps some responses only; `min_significance` keeps tokens of at least that significance.
        """
        where = {"reader": self._organism(reader), **segment_codes(segment)}
        columns = [self._scalars(adapter=index, **where) for index in self._adapter_indices(reader, adapters)]
        tokens, values = _aligned(columns)
        keep = np.ones(len(tokens), dtype=bool)
        if responses is not None:
            keep &= np.isin(tokens >> 32, self._response_indices(responses))
        if min_significance is not None:
            keep &= np.isin(tokens, self._significant(reader, min_significance))
        tokens, values = (tokens, values) if keep.all() else (tokens[keep], values[keep])
        starts = np.diff(tokens >> 32, prepend=-1) != 0
        return ScalarTable(
            values=values,
            adapters=tuple(adapters),
            response=(np.cumsum(starts) - 1).astype(np.int32),
            responses=tuple(self._ids[index] for index in tokens[starts] >> 32),
            position=(tokens & 0xFFFFFFFF).astype(np.int32),
        )

    def scalar_column(self, reader: str, adapter: str, segment: str = "answer") -> ScalarColumn:
        """Scalars of one adapter at every token of a segment: as it lies, at a third of the cost of a table."""
        index = self._organism(reader)
        frame = self._query(
            "SELECT response, position, value FROM scalars "
            "WHERE reader = $reader AND adapter = $adapter AND segment BETWEEN $low AND $high",
            reader=index,
            adapter=self._adapter_indices(reader, [adapter])[0],
            **segment_codes(segment),
        )
        read = self._query("SELECT response FROM traces WHERE reader = $reader ORDER BY response", reader=index)
        row = np.zeros(len(self._ids), dtype=np.int32)
        row[read["response"].to_numpy()] = np.arange(read.height)
        values, response = frame["value"].to_numpy(), frame["response"].to_numpy()
        return ScalarColumn(values, row[response], frame["position"].to_numpy())

    def scalar_summary(self, reader: str, adapters: Sequence[str] | None = None) -> pl.DataFrame:
        """Frame of adapter, response, segment, n, mean, sd, min, max: one row an adapter, response and segment.

        Of some adapters, or of all.
        """
        chosen = "" if adapters is None else "AND list_contains($adapters::INTEGER[], s.adapter)"
        some = {} if adapters is None else {"adapters": self._adapter_indices(reader, adapters)}
        return self._query(
            "SELECT a.name AS adapter, r.id AS response, "
            "CASE segment WHEN 0 THEN 'prompt' ELSE 'answer' END AS segment, n, mean, sd, min, max "
            "FROM summaries s JOIN adapters a ON a.organism = s.reader AND a.adapter = s.adapter "
            f"JOIN responses r USING (response) WHERE reader = $reader {chosen} "
            "ORDER BY s.adapter, segment, s.response",
            reader=self._organism(reader),
            **some,
        )

    def scalar_statistic(self, reader: str, adapters: Sequence[str], statistic: str) -> pl.DataFrame:
        """Frame of response and a column an adapter: the "mean", "min" or "max" over the answer tokens of a response.

        A row a response that has one of any of these adapters, in the order of the responses.
        """
        wide = self._wide(reader, adapters, one_of(statistic, ("mean", "min", "max"), "statistic of scalars"))
        return wide.with_columns(self._named("response"))

    def scalar_shares(self, reader: str, adapters: Sequence[str], threshold: float) -> pl.DataFrame:
        """The same of the share of a response's answer tokens that have a scalar above a threshold."""
        wide = self._wide(reader, adapters, "n")
        for name in adapters:
            above = self._query(
                "SELECT response FROM scalars WHERE reader = $reader AND adapter = $adapter AND segment = 1 "
                "AND value > $threshold",
                reader=self._organism(reader),
                adapter=self._adapter_indices(reader, [name])[0],
                threshold=float(threshold),
            )
            counts = np.bincount(above["response"].to_numpy(), minlength=len(self._ids))  # a third of a GROUP BY
            wide = wide.with_columns(pl.Series(name, counts[wide["response"].to_numpy()]) / pl.col(name))
        return wide.with_columns(self._named("response"))

    def top_tokens(
        self,
        reader: str,
        adapter: str,
        *,
        k: int = 20,
        largest: bool = True,
        segment: str = "answer",
        responses: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """The k tokens with the largest (or smallest) scalar of one adapter, the most extreme first.

        Frame of response, position, token, value, before, after: the text of 8 tokens on either side.
        """
        chosen, some = "", None
        if responses is not None:
            chosen, some = "SEMI JOIN labels USING (response)", self._response_indices(responses)
        order, within = (
            ("DESC", ">= (SELECT min(value) FROM ends)") if largest else ("ASC", "<= (SELECT max(value) FROM ends)")
        )
        return self._query(
            _TOP.format(chosen=chosen, order=order, within=within, context=_CONTEXT),
            None if some is None else pl.DataFrame({"response": some}, schema={"response": pl.Int32}),
            reader=self._organism(reader),
            adapter=self._adapter_indices(reader, [adapter])[0],
            k=k,
            **segment_codes(segment),
        )

    def _scalars(self, **where: int) -> tuple[Any, FloatArray]:
        """Tokens (n,), as response << 32 | position, ascending, and the scalar of one adapter at each."""
        frame = self._query(
            "SELECT response, position, value FROM scalars "
            "WHERE reader = $reader AND adapter = $adapter AND segment BETWEEN $low AND $high",
            **where,
        )
        return ascending(_tokens(frame), frame["value"].to_numpy())

    def _significant(self, reader: str, least: float) -> Any:
        frame = self._query(
            "SELECT response, position, value FROM significance WHERE reader = $reader", reader=self._organism(reader)
        )
        if frame.is_empty():
            raise InputError(
                f"study {self.name!r} has no token significance read by {reader!r}: do not ask for a least"
            )
        return _tokens(frame.filter(pl.col("value") >= least))

    def _wide(self, reader: str, adapters: Sequence[str], column: str) -> pl.DataFrame:
        """A column of the summaries of answers, as one row a response (its integer) and one column an adapter."""
        indices = self._adapter_indices(reader, adapters)
        rows = self._query(
            f"SELECT adapter, response, {column} AS value FROM summaries WHERE reader = $reader AND segment = 1 "
            "AND list_contains($adapters::INTEGER[], adapter)",
            reader=self._organism(reader),
            adapters=indices,
        )
        wide = rows.pivot("adapter", on_columns=indices, index="response", values="value").sort("response")
        return wide.rename(dict(zip(map(str, indices), adapters, strict=True)))


_TOP = """
WITH points AS NOT MATERIALIZED (
    SELECT response, position, value FROM scalars {chosen}
    WHERE reader = $reader AND adapter = $adapter AND segment BETWEEN $low AND $high),
ends AS (SELECT value FROM points ORDER BY value {order} LIMIT $k),
top AS (
    SELECT response, position, value FROM points
    WHERE value {within}
    ORDER BY value {order}, response, position LIMIT $k)
SELECT r.id AS response, position, tokens[position + 1] AS token, value,
    array_to_string(tokens[greatest(position + 1 - {context}, 1):position], '') AS before,
    array_to_string(tokens[position + 2:position + 1 + {context}], '') AS after
FROM top JOIN traces t USING (response) JOIN responses r USING (response) WHERE t.reader = $reader
ORDER BY value {order}, response, position
"""


def _tokens(frame: pl.DataFrame) -> Any:
    """One integer a token, ordered by response and position, (n,)."""
    return (frame["response"].to_numpy().astype(np.int64) << 32) | frame["position"].to_numpy()


def _aligned(columns: Sequence[tuple[Any, FloatArray]]) -> tuple[Any, FloatArray]:
    """Columns of (tokens, values) as the tokens (n,) that any of them has, and values (n, column); NaN elsewhere."""
    every = [tokens for tokens, _ in columns]
    if not every:
        return np.zeros(0, dtype=np.int64), np.zeros((0, 0), dtype=np.float32)
    tokens = every[0]
    if not all(np.array_equal(tokens, other) for other in every):
        tokens = np.unique(np.concatenate(every))
    values = np.full((len(tokens), len(columns)), np.nan, dtype=np.float32)
    for index, (own, column) in enumerate(columns):
        values[np.searchsorted(tokens, own) if len(own) < len(tokens) else slice(None), index] = column
    return tokens, values
