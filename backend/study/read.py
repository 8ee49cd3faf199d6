"""Reading a study: one published file, opened read-only, answering from any thread.

Every method runs on a cursor of its own and returns a polars frame, a record or a frozen holder of arrays. What a
study does not have comes back empty; what is asked for by a wrong name raises InputError with the right ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl

from backend.edits import Condition, edits_from_json
from backend.records import Adapter, Direction, FloatArray, InputError, Response
from backend.study.parquet import responses_of
from backend.study.schema import FORMAT, SEGMENTS, STUDIES, build_command, newest

IntArray = np.ndarray[Any, np.dtype[np.int32]]
_CONTEXT = 8  # tokens shown on either side of a top token
_BLOCKS_OFFSET = 3 * 4096  # DuckDB's headers before the first block
_DAMAGE = (duckdb.IOException, duckdb.SerializationException, duckdb.InternalException, duckdb.FatalException)


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


@dataclass(frozen=True, eq=False)
class ResidualMeans:
    """Mean residual stream of every response at one layer, with the number of tokens behind each mean."""

    responses: tuple[str, ...]
    means: FloatArray  # (n, d_model)
    counts: IntArray  # (n,)


def open_study(name: str, root: Path = STUDIES) -> Study:
    """The newest published file of a study. Raises InputError when there is none or it cannot be read."""
    return Study(name, newest(name, root))


class Study:
    """One published study. Immutable: whatever it returned may be kept, and a new build is a new Study."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self._connection = _open(path)
        self._places: dict[str, dict[str, int]] = {}  # of an organism's adapters
        self.info: dict[str, Any] = self._info()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    # --- what was asked and answered --------------------------------------------------------------------------------

    def organisms(self) -> pl.DataFrame:
        """Frame of organism, base, n_adapters, record (JSON)."""
        return self._query(
            "SELECT name AS organism, base, (SELECT count(*) FROM adapters a WHERE a.organism = o.organism) AS "
            "n_adapters, record FROM organisms o ORDER BY o.organism"
        )

    def adapters(self, organism: str) -> pl.DataFrame:
        """Frame of index, name, layer, module, component, scaling, write_norm, in the row order of its traces."""
        return self._query(
            "SELECT adapter AS index, name, layer, module, component, scaling, write_norm FROM adapters "
            "WHERE organism = $organism ORDER BY adapter",
            organism=self._organism(organism),
        )

    def adapter(self, organism: str, name: str) -> Adapter:
        """One adapter with its read and write vectors."""
        row = self._query(
            "SELECT * FROM adapters WHERE organism = $organism AND adapter = $adapter",
            organism=self._organism(organism),
            adapter=self._adapter_indices(organism, [name])[0],
        ).row(0, named=True)
        plain = {key: row[key] for key in ("name", "layer", "module", "component", "scaling")}
        return Adapter(**plain, read=_vector(row["read_vector"]), write=_vector(row["write_vector"]))

    def adapter_vectors(self, organism: str, names: Sequence[str], side: str) -> list[FloatArray]:
        """The "read" or "write" vectors of some adapters, in the order of the names; empty where not released."""
        column = f"{_one_of(side, ('read', 'write'), 'side of an adapter')}_vector"
        indices = self._adapter_indices(organism, names)
        frame = self._query(
            f"SELECT adapter, {column} FROM adapters WHERE organism = $organism "
            "AND list_contains($adapters::INTEGER[], adapter)",
            organism=self._organism(organism),
            adapters=indices,
        )
        found = dict(frame.iter_rows())
        return [_vector(found[index]) for index in indices]

    def questions(self) -> pl.DataFrame:
        """Frame of id, text, topic."""
        return self._query("FROM questions")

    def conditions(self) -> pl.DataFrame:
        """Frame of name, edits (JSON)."""
        return self._query("FROM conditions")

    def condition(self, name: str) -> Condition:
        """One condition with its edits."""
        edits = dict(self.conditions().iter_rows())
        return Condition(name, edits_from_json(json.loads(edits[_one_of(name, edits, "condition")])))

    def judges(self) -> list[str]:
        """Names of the judges that scored responses; first the one that the study goes by, where it names one."""
        return sorted(self._metrics, key=lambda judge: judge != self.info.get("judge"))

    def metrics(self, judge: str) -> list[str]:
        """What one judge scored, in the order of its first scores."""
        return list(self._metrics[_one_of(judge, self._metrics, "judge")])

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
            metrics = self.metrics(judge)
            scores = self._query(
                "SELECT response AS index, metric, value FROM scores WHERE judge = $judge", judge=judge
            ).pivot("metric", on_columns=metrics, index="index", values="value")
            frame = frame.join(scores, on="index", how="left", maintain_order="left")
        return frame.drop("index")

    def response(self, response_id: str) -> Response:
        """One response with its token ids and sampling."""
        return responses_of(
            self._query("FROM responses WHERE response = $response", response=self._response(response_id))
        )[0]

    def scores(self, response_id: str) -> pl.DataFrame:
        """Frame of judge, metric, value, raw of one response."""
        return self._query(
            "SELECT judge, metric, value, raw FROM scores WHERE response = $response ORDER BY judge, rowid",
            response=self._response(response_id),
        )

    # --- scalars ----------------------------------------------------------------------------------------------------

    def readers(self) -> list[str]:
        """Organisms that read texts."""
        return self._column(
            "SELECT name FROM organisms WHERE organism IN (SELECT DISTINCT reader FROM traces) ORDER BY organism"
        )

    def readings(self, reader: str) -> pl.DataFrame:
        """Frame of response, n_prompt, n_answer (tokens): what `reader` read, in the order of the responses."""
        return self._query(
            "SELECT response, n_prompt, n_answer FROM traces WHERE reader = $reader ORDER BY response",
            reader=self._organism(reader),
        ).with_columns(self._named("response"))

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
        where = {"reader": self._organism(reader), **_segment(segment)}
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
            **_segment(segment),
        )
        read = self._query("SELECT response FROM traces WHERE reader = $reader ORDER BY response", reader=index)
        row = np.zeros(len(self._ids), dtype=np.int32)
        row[read["response"].to_numpy()] = np.arange(read.height)
        values, response = frame["value"].to_numpy(), frame["response"].to_numpy()
        return ScalarColumn(values, row[response], frame["position"].to_numpy())

    def _scalars(self, **where: int) -> tuple[Any, FloatArray]:
        """Tokens (n,), as response << 32 | position, ascending, and the scalar of one adapter at each."""
        frame = self._query(
            "SELECT response, position, value FROM scalars "
            "WHERE reader = $reader AND adapter = $adapter AND segment BETWEEN $low AND $high",
            **where,
        )
        return _ascending(_tokens(frame), frame["value"].to_numpy())

    def _significant(self, reader: str, least: float) -> Any:
        frame = self._query(
            "SELECT response, position, value FROM significance WHERE reader = $reader", reader=self._organism(reader)
        )
        if frame.is_empty():
            raise InputError(
                f"study {self.name!r} has no token significance read by {reader!r}: do not ask for a least"
            )
        return _tokens(frame.filter(pl.col("value") >= least))

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
        wide = self._wide(reader, adapters, _one_of(statistic, ("mean", "min", "max"), "statistic of scalars"))
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

    def scalar_histogram(
        self,
        reader: str,
        adapters: Sequence[str],
        labels: pl.DataFrame,
        bins: int = 60,
        *,
        segment: str = "answer",
    ) -> pl.DataFrame:
        """Frame of adapter, label, low, high, n, density: how each label's tokens spread over one adapter's scalars.

        `labels` has the columns response (id) and label. The bins of an adapter are equal for all its labels, empty
        ones included; the densities of one adapter and label integrate to 1.
        """
        frame = self._query(
            _HISTOGRAM,
            labels.select("response", "label"),
            reader=self._organism(reader),
            adapters=self._adapter_indices(reader, adapters),
            bins=bins,
            **_segment(segment),
        )
        names = dict(enumerate(self._adapter_names(reader)))
        return frame.with_columns(pl.col("adapter").replace_strict(names, return_dtype=pl.String))

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
            **_segment(segment),
        )

    # --- residual stream --------------------------------------------------------------------------------------------

    def residual_layers(self, reader: str) -> list[int]:
        """Layers at which residual means are kept."""
        if not self._has_means:
            return []
        return self._column(
            "SELECT DISTINCT layer FROM means WHERE reader = $reader ORDER BY layer", reader=self._organism(reader)
        )

    def residual_means(
        self, reader: str, layer: int, *, segment: str = "answer", responses: Sequence[str] | None = None
    ) -> ResidualMeans:
        """Means of every response that has tokens in the segment ("prompt" or "answer"), in order of the responses.

        `responses` keeps some responses only.
        """
        code = _segment(segment)["low"]
        if segment == "all":
            raise InputError("residual means are kept for the segments 'prompt' and 'answer'")
        reader_index = self._organism(reader)
        layers = self.residual_layers(reader)
        if not layers:
            none = np.zeros((0, 0), dtype=np.float32)
            return ResidualMeans((), none, np.zeros(0, dtype=np.int32))
        chosen = "" if responses is None else "AND list_contains($responses::INTEGER[], response)"
        some = {} if responses is None else {"responses": self._response_indices(responses)}
        frame = self._query(
            "SELECT response, mean FROM means "
            f"WHERE reader = $reader AND segment = $segment AND layer = $layer {chosen}",
            reader=reader_index,
            segment=code,
            layer=int(_one_of(layer, layers, "layer")),
            **some,
        )
        counts = dict(
            self._query(
                f"SELECT response, n_{segment} FROM traces WHERE reader = $reader", reader=reader_index
            ).iter_rows()
        )
        indices, means = _ascending(frame["response"].to_numpy(), frame["mean"].to_numpy())
        return ResidualMeans(
            tuple(self._ids[i] for i in indices), means, np.array([counts[i] for i in indices], dtype=np.int32)
        )

    def activation_norm(self, reader: str) -> FloatArray:
        """Mean norm of the residual stream over all answer tokens, (layer,); empty where it was not measured."""
        frame = self._query(
            "SELECT sum(value * n_answer) / sum(n_answer) AS norm FROM norms JOIN traces USING (reader, response) "
            "WHERE reader = $reader GROUP BY layer ORDER BY layer",
            reader=self._organism(reader),
        )
        return frame["norm"].to_numpy().astype(np.float32)

    def directions(self) -> pl.DataFrame:
        """Frame of name, layer, norm, activation_norm, provenance (JSON)."""
        return self._query("SELECT name, layer, norm, activation_norm, provenance FROM directions ORDER BY rowid")

    def direction(self, name: str, layer: int) -> Direction:
        """One direction at one layer."""
        stack = {direction.layer: direction for direction in self.direction_stack(name)}
        return stack[_one_of(layer, stack, f"layer of the direction {name!r}")]

    def direction_stack(self, name: str) -> list[Direction]:
        """A direction at all its layers, ascending."""
        frame = self._query("FROM directions WHERE name = $name ORDER BY layer", name=name)
        if frame.is_empty():
            _one_of(name, self._column("SELECT DISTINCT name FROM directions ORDER BY name"), "direction")
        return _directions(frame)

    def directions_near(self, layer: int) -> list[Direction]:
        """Every direction, once: at this layer, or at the nearest that it has, the lower of two."""
        return _directions(
            self._query(
                "FROM directions QUALIFY row_number() OVER (PARTITION BY name ORDER BY abs(layer - $layer), layer) = 1 "
                "ORDER BY rowid",
                layer=layer,
            )
        )

    def projections(self, response_id: str, reader: str) -> pl.DataFrame:
        """Frame of direction, layer, position, value: every token of a response on unit directions, in residual units.

        Empty where the study keeps none of it.
        """
        key = {"reader": self._organism(reader), "response": self._response(response_id)}
        if not self._has("projections"):
            schema = {"direction": pl.String, "layer": pl.Int32, "position": pl.Int32, "value": pl.Float32}
            return pl.DataFrame(schema=schema)
        return self._query(
            "SELECT direction, layer, position, value FROM projections WHERE reader = $reader AND response = $response "
            "ORDER BY direction, layer, position",
            **key,
        )

    def lens(self, name: str, layer: int) -> pl.DataFrame:
        """Frame of side ("top", "bottom"), rank, token, value: what a direction promotes and what it suppresses.

        Values are logits less their mean, in standard deviations over the vocabulary. Empty where the study has none.
        """
        return self._lens("direction", name, layer)

    def adapter_lens(self, organism: str, adapter: str) -> pl.DataFrame:
        """The same of an adapter's write vector; empty where it does not write to the residual stream."""
        return self._lens(f"adapter of {organism}", adapter, None)

    def _lens(self, kind: str, owner: str, layer: int | None) -> pl.DataFrame:
        if not self._has_lens:
            return pl.DataFrame(schema={"side": pl.String, "rank": pl.Int32, "token": pl.String, "value": pl.Float64})
        return self._query(
            "SELECT side, rank, token, value FROM lens WHERE kind = $kind AND owner = $owner "
            "AND layer IS NOT DISTINCT FROM $layer::INTEGER ORDER BY side DESC, rank",
            kind=kind,
            owner=owner,
            layer=layer,
        )

    # --- names and integers -----------------------------------------------------------------------------------------

    def _query(self, sql: str, labels: pl.DataFrame | None = None, /, **params: Any) -> pl.DataFrame:
        cursor = self._connection.cursor()
        try:
            if labels is not None:
                cursor.register("labels", labels)
            frame: pl.DataFrame = cursor.sql(sql, params=params).pl()
            return frame
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error
        finally:
            cursor.close()

    def _column(self, sql: str, **params: Any) -> list[Any]:
        return self._query(sql, **params).to_series().to_list()

    def _info(self) -> dict[str, Any]:
        rows = dict(self._query("FROM meta").iter_rows())
        return {key.removeprefix("info."): json.loads(value) for key, value in rows.items() if key.startswith("info.")}

    @cached_property
    def _ids(self) -> list[str]:
        """Response ids; the index is the response's integer."""
        return self._column("SELECT id FROM responses ORDER BY response")

    @cached_property
    def _id_series(self) -> pl.Series:
        return pl.Series(self._ids, dtype=pl.String)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self._ids)}

    @cached_property
    def _metrics(self) -> dict[str, list[str]]:
        """What each judge scored: counted once, since it takes all scores."""
        found: dict[str, list[str]] = {}
        for judge, metric in self._query(
            "SELECT judge, metric FROM scores GROUP BY judge, metric ORDER BY judge, min(rowid)"
        ).iter_rows():
            found.setdefault(judge, []).append(metric)
        return found

    @cached_property
    def _organisms(self) -> dict[str, int]:
        return dict(self._query("SELECT name, organism FROM organisms ORDER BY organism").iter_rows())

    @cached_property
    def _has_means(self) -> bool:
        return bool(self._column("SELECT table_name FROM duckdb_tables() WHERE table_name = 'means'"))

    @cached_property
    def _has_lens(self) -> bool:
        """False in studies built before there was one."""
        return bool(self._column("SELECT table_name FROM duckdb_tables() WHERE table_name = 'lens'"))

    def _has(self, table: str) -> bool:
        """Whether the file has a table: those of earlier builds lack the newer ones."""
        return bool(self._column("SELECT table_name FROM duckdb_tables() WHERE table_name = $table", table=table))

    def _organism(self, name: str) -> int:
        return self._organisms[_one_of(name, self._organisms, "organism")]

    def _response(self, name: str) -> int:
        if name not in self._indices:
            raise InputError(f"study {self.name!r} holds no response {name!r}: it was built anew, choose another one")
        return self._indices[name]

    def _response_indices(self, names: Iterable[str]) -> list[int]:
        return [self._response(name) for name in names]

    def _named(self, column: str) -> pl.Expr:
        """Responses by their integers as ids."""
        return pl.lit(self._id_series).gather(pl.col(column)).alias(column)

    def _adapter_names(self, organism: str) -> list[str]:
        return list(self._adapter_places(organism))

    def _adapter_places(self, organism: str) -> dict[str, int]:
        """The index of every adapter, read once: nearly every question about scalars asks for some."""
        if organism not in self._places:
            names = self.adapters(organism)["name"]
            self._places[organism] = {name: index for index, name in enumerate(names)}
        return self._places[organism]

    def _adapter_indices(self, organism: str, names: Sequence[str]) -> list[int]:
        known = self._adapter_places(organism)
        return [known[_one_of(name, known, f"adapter of {organism!r}")] for name in names]


_HISTOGRAM = """
WITH labelled AS (SELECT r.response, l.label FROM labels l JOIN responses r ON r.id = l.response),
wanted AS (SELECT unnest($adapters::INTEGER[]) AS adapter, generate_subscripts($adapters::INTEGER[], 1) AS place),
points AS (
    SELECT adapter, label, value FROM scalars JOIN labelled USING (response)
    WHERE reader = $reader AND segment BETWEEN $low AND $high AND list_contains($adapters::INTEGER[], adapter)
        AND adapter BETWEEN list_min($adapters::INTEGER[]) AND list_max($adapters::INTEGER[])),
edges AS (
    SELECT adapter, CASE WHEN max(value) > min(value) THEN min(value) ELSE min(value) - 0.5 END::DOUBLE AS first,
        CASE WHEN max(value) > min(value) THEN (max(value)::DOUBLE - min(value)) / $bins ELSE 1.0 / $bins END AS width
    FROM points GROUP BY adapter),
counts AS (
    SELECT adapter, label, least(floor((value - first) / width), $bins - 1)::INTEGER AS bin, count(*) AS n
    FROM points JOIN edges USING (adapter) GROUP BY ALL),
totals AS (SELECT adapter, label, sum(n)::BIGINT AS total FROM counts GROUP BY ALL)
SELECT adapter, label, first + bin * width AS low, first + (bin + 1) * width AS high, coalesce(n, 0) AS n,
    coalesce(n, 0) / (total * width) AS density
FROM totals JOIN edges USING (adapter) JOIN wanted USING (adapter)
CROSS JOIN (SELECT unnest(range($bins))::INTEGER AS bin) LEFT JOIN counts USING (adapter, label, bin)
ORDER BY place, label, bin
"""
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


def _open(path: Path) -> duckdb.DuckDBPyConnection:
    """A read-only connection to a whole file of this format; what the file says cannot reach any other file."""
    try:
        connection = duckdb.connect(path, read_only=True, config={"enable_external_access": "false"})
        _check(connection, path)
    except duckdb.Error as error:
        raise _damaged(path, error) from error
    return connection


def _check(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Raises InputError unless the file is whole and of this format."""
    size = connection.sql("SELECT block_size * total_blocks FROM pragma_database_size()").fetchall()[0][0]
    found = connection.sql("SELECT value FROM meta WHERE key = 'format'").fetchall()
    if path.stat().st_size < _BLOCKS_OFFSET + size:
        raise _damaged(path, "it is shorter than it says")
    if found != [(str(FORMAT),)]:
        raise _damaged(path, f"its format is {found}, this program reads format {FORMAT}")


def _damaged(path: Path, reason: object) -> InputError:
    why = str(reason).partition("\n")[0]
    return InputError(
        f"{path} cannot be read as a study ({why}). Delete that file to go back to an earlier build of "
        f"{path.parent.name!r}, or build it again: {build_command(path.parent.name)}"
    )


def _one_of(name: Any, known: Iterable[Any], what: str) -> Any:
    if name not in known:
        raise InputError(f"there is no {what} {name!r} in this study; there is: {', '.join(map(str, known)) or 'none'}")
    return name


def _segment(name: str) -> dict[str, int]:
    low, high = SEGMENTS[_one_of(name, SEGMENTS, "segment")]
    return {"low": low, "high": high}


def _vector(blob: bytes) -> FloatArray:
    return np.frombuffer(blob, dtype="<f4").astype(np.float32)


def _directions(frame: pl.DataFrame) -> list[Direction]:
    return [
        Direction(r["name"], r["layer"], _vector(r["vector"]), r["activation_norm"], json.loads(r["provenance"]))
        for r in frame.iter_rows(named=True)
    ]


def _tokens(frame: pl.DataFrame) -> Any:
    """One integer a token, ordered by response and position, (n,)."""
    return (frame["response"].to_numpy().astype(np.int64) << 32) | frame["position"].to_numpy()


def _ascending(keys: Any, values: FloatArray) -> tuple[Any, FloatArray]:
    """Both in ascending order of the keys: a study is sorted, so there is rarely anything to do."""
    if (keys[1:] > keys[:-1]).all():
        return keys, values
    order = np.argsort(keys, kind="stable")
    return keys[order], values[order]


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
