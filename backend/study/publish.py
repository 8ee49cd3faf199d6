"""Building a study: records in, one immutable file out, whole or not at all.

A draft is built in a hidden folder beside its target and renamed at the end. It stages what it is given in temporary
tables (which spill to that folder, so memory is bounded) and sorts them into the order that reading wants. It refuses
what does not fit together: every message names the record and the remedy.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import numpy as np
import polars as pl

from backend.edits import Condition, edits_to_json
from backend.files import settle, written
from backend.records import BASELINE, Adapter, Direction, InputError, Question, Response, Score, Trace
from backend.study.parquet import response_frame, score_frame
from backend.study.schema import FORMAT, MEANS, STUDIES, SUFFIX, TABLES, check_key, check_name, published

Columns = dict[str, np.ndarray[Any, Any]]
Pushes = Sequence[tuple[str, float]]  # (token, value), the strongest first

_BATCH_BYTES = 64 << 20  # of arrays held before they are staged
_SIGNIFICANCES = 2000  # texts whose token significance is held before it is staged
KEPT = 2  # builds of a study: the newest, and the one before it to go back to
BUILDING = ".building-"
_TAKEN = {"index", "response", "n_prompt", "n_answer", *Response.__dataclass_fields__}  # columns of Study.responses

_STAGES = """
CREATE TEMP TABLE staged_scalars AS FROM scalars;
CREATE TEMP TABLE staged_significance AS FROM significance;
CREATE TEMP TABLE staged_norms AS FROM norms;
CREATE TEMP TABLE staged_projections AS FROM projections;
"""
_SORT = """
INSERT INTO scalars FROM staged_scalars ORDER BY reader, adapter, segment, response, position;
INSERT INTO significance FROM staged_significance ORDER BY reader, response, position;
INSERT INTO norms FROM staged_norms ORDER BY reader, layer, response;
INSERT INTO projections FROM staged_projections ORDER BY reader, response, direction, layer, position;
INSERT INTO summaries
    SELECT reader, adapter, segment, response, count(*), avg(value), stddev_samp(value), min(value), max(value)
    FROM scalars WHERE segment < 2 GROUP BY ALL ORDER BY reader, adapter, segment, response;
"""
_SORT_MEANS = "INSERT INTO means FROM staged_means ORDER BY reader, segment, layer, response"
_UNKNOWN = {
    "organism": "SELECT organism FROM responses EXCEPT SELECT name FROM organisms",
    "condition": "SELECT condition FROM responses EXCEPT SELECT name FROM conditions",
    "question": "SELECT question_id FROM responses EXCEPT SELECT id FROM questions",
}


class Draft:
    """A study that is being built; use it in a `with` block, and `publish` at its end.

    Order matters where one thing refers to another: organisms and responses before traces, traces before their
    significance. Everything is checked when it is added; InputError names what does not fit.
    """

    def __init__(self, name: str, root: Path = STUDIES, *, memory: str = "2GB") -> None:
        self.name = check_name(name)
        self._home = Path(root) / name
        self._memory = memory
        self._undo = ExitStack()
        self._meta: dict[str, Any] = {}
        self._adapters: dict[str, int] = {}  # organism -> number of adapters; its place is its integer
        self._responses: dict[str, int] = {}
        self._lengths: dict[tuple[str, str], int] = {}  # (reader, response id) of a trace -> its tokens
        self._seen: set[Hashable] = set()
        self._significance: list[Columns] = []
        self._lenses: list[pl.DataFrame] = []
        self._projections: list[pl.DataFrame] = []
        self._d_model: int | None = None

    def __enter__(self) -> Draft:
        with ExitStack() as undo:
            undo.enter_context(written(self._home))
            undo.enter_context(claim(self._home))
            self._building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=self._home))
            undo.callback(shutil.rmtree, self._building, ignore_errors=True)
            self._file = self._building / f"study{SUFFIX}"
            settings: Any = {"memory_limit": self._memory, "temp_directory": str(self._building / "spill")}
            self._connection = duckdb.connect(self._file, config=settings)
            undo.callback(self._connection.close)
            self._connection.execute(TABLES + _STAGES)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.__exit__(kind, error, trace)

    def meta(self, **values: Any) -> None:
        """Provenance: anything that JSON can hold. Later values replace earlier ones of the same name."""
        self._meta.update(values)

    def add_organism(self, name: str, *, base: str, adapters: Sequence[Adapter], record: Mapping[str, Any]) -> None:
        """One organism with its adapters in trace row order, and how it was trained. The base has no adapters."""
        self._once("organism", name)
        organism = len(self._adapters)
        for adapter in adapters:
            self._once("adapter", name, adapter.name)
        self._rows("organisms", [(organism, name, base, _json(record))])
        self._rows("adapters", [(organism, index, *_adapter_row(a)) for index, a in enumerate(adapters)])
        self._adapters[name] = len(adapters)

    def add_questions(self, questions: Iterable[Question]) -> None:
        """Questions, in the order in which pages list them."""
        self._rows("questions", [(self._once("question", q.id), q.text, q.topic) for q in questions])

    def add_conditions(self, conditions: Iterable[Condition]) -> None:
        """Conditions with their edits, vectors included."""
        self._rows("conditions", [(self._once("condition", c.name), _json(edits_to_json(c.edits))) for c in conditions])

    def add_responses(self, responses: Iterable[Response] | pl.DataFrame) -> None:
        """Responses, or their table; their order is the order of their integers."""
        frame = responses if isinstance(responses, pl.DataFrame) else response_frame(responses)
        first = len(self._responses)
        for name in frame["id"]:
            self._responses[self._once("response", name)] = len(self._responses)
        self._insert("responses", frame.with_row_index("response", offset=first))

    def add_scores(self, scores: Iterable[Score] | pl.DataFrame) -> None:
        """Scores of responses that were added. What is no finite number is kept as null with its raw reply."""
        frame = scores if isinstance(scores, pl.DataFrame) else score_frame(scores)
        for metric in set(frame["metric"]) & _TAKEN:
            raise InputError(f"a metric cannot be named {metric!r}: the table of responses has a column of that name")
        for key in frame.select("response_id", "judge", "metric").iter_rows():
            self._once("score", *key)
        indices = [self._response(name, "score") for name in frame["response_id"]]
        responses = pl.Series("response", indices, dtype=pl.Int32)
        self._insert("scores", frame.drop("response_id").with_columns(responses))

    def add_sources(self, sources: Iterable[tuple[str, str]]) -> None:
        """(response id, the experiment it was sampled or kept for); a response may be in several."""
        pairs = [(self._response(name, "source"), source) for name, source in sources]
        for source in {source for _, source in pairs}:
            check_key("source", source)
        self._rows("sources", pairs)

    def add_traces(self, traces: Iterable[Trace]) -> None:
        """Traces, staged in batches as they come. Scalars and means that are not finite count as not measured."""
        batch: list[Trace] = []
        size = 0
        for trace in traces:
            self._check(trace)
            batch.append(trace)
            size += 5 * trace.scalars.nbytes + trace.prompt_mean.nbytes + trace.answer_mean.nbytes
            if size > _BATCH_BYTES:
                self._stage(batch)
                batch, size = [], 0
        if batch:
            self._stage(batch)

    def add_significance(self, response_id: str, reader: str, values: np.ndarray[Any, Any]) -> None:
        """Token significance of one traced response, (token,); NaN where it has none (paper, appendix H)."""
        length = self._lengths.get((reader, response_id))
        if length is None:
            raise InputError(f"significance of {response_id!r} read by {reader!r} has no trace: add the trace first")
        values = np.asarray(values, dtype=np.float32)
        if values.shape != (length,):
            raise InputError(f"significance of {response_id!r} has shape {values.shape}: its trace has {length} tokens")
        self._once("significance", response_id, reader)
        positions = np.flatnonzero(np.isfinite(values)).astype(np.int32)
        found = {"position": positions, "value": values[positions]}
        self._significance.append(_keyed(found, self._reader(reader), self._responses[response_id]))
        if len(self._significance) >= _SIGNIFICANCES:
            self._stage_significance()

    def add_projections(
        self, response_id: str, reader: str, directions: Sequence[tuple[str, int]], values: np.ndarray[Any, Any]
    ) -> None:
        """Every token of one traced response on unit directions (name, layer): (direction, token), residual units."""
        length = self._lengths.get((reader, response_id))
        if length is None:
            raise InputError(f"projections of {response_id!r} read by {reader!r} have no trace: add the trace first")
        if values.shape != (len(directions), length):
            raise InputError(
                f"projections of {response_id!r} have shape {values.shape}, not (direction, token) = "
                f"{(len(directions), length)}"
            )
        self._once("projection", response_id, reader)
        names, layers = ([pair[i] for pair in directions] for i in (0, 1))
        columns = {
            "direction": np.repeat(np.array(names, dtype=object), length),
            "layer": np.repeat(np.array(layers, dtype=np.int32), length),
            "position": np.tile(np.arange(length, dtype=np.int32), len(directions)),
            "value": values.ravel().astype(np.float32),
        }
        columns = _keyed(columns, self._reader(reader), self._responses[response_id])
        self._projections.append(pl.DataFrame(columns, schema_overrides={"direction": pl.String}))
        if len(self._projections) >= _SIGNIFICANCES:
            self._stage_projections()

    def add_directions(self, directions: Iterable[Direction]) -> None:
        """Directions; a name with several layers is a stack."""
        rows = []
        for d in directions:
            self._once("direction", d.name, d.layer)
            vector = d.vector.astype("<f4").tobytes()
            rows.append((d.name, d.layer, vector, d.norm, d.activation_norm, _json(dict(d.provenance))))
        self._rows("directions", rows)

    def add_lens(self, direction: str, layer: int, *, top: Pushes, bottom: Pushes) -> None:
        """What a direction promotes and suppresses through the unembedding, the strongest tokens first."""
        self._lens("direction", direction, layer, top, bottom)

    def add_adapter_lens(self, organism: str, adapter: str, *, top: Pushes, bottom: Pushes) -> None:
        """The same of an adapter's write vector. Its organism must have been added."""
        if ("adapter", organism, adapter) not in self._seen:
            raise InputError(f"a lens names the adapter {adapter!r} of {organism!r}: add the organism first")
        self._lens(f"adapter of {organism}", adapter, None, top, bottom)

    def add_measured(self, kind: str, run: str, frame: pl.DataFrame) -> None:
        """The numbers of one measurement, in the columns of `parquet.MEASURED`; what is not finite is left out."""
        self._once("measurement", kind, run)
        frame = frame.filter(pl.col("value").is_finite())
        self._insert("measured", frame.with_columns(kind=pl.lit(kind), run=pl.lit(run)))

    def publish(self) -> Path:
        """Sort, summarise, and give the file its name; returns its path. The draft takes nothing more."""
        self._refuse_unknown()
        self._stage_significance()
        self._stage_projections()
        self._rows("meta", [("format", str(FORMAT)), *((f"info.{k}", _json(v)) for k, v in self._meta.items())])
        if self._lenses:
            self._insert("lens", pl.concat(self._lenses))
        self._connection.execute(_SORT)
        if self._d_model is not None:
            self._connection.execute(MEANS.format(kind="", name="means", d=self._d_model))
            self._connection.execute(_SORT_MEANS)
        self._connection.execute("CHECKPOINT")
        self._connection.close()
        return release(self._file, self.name, self._home)

    # --- what must hold ---------------------------------------------------------------------------------------------

    def _once(self, kind: str, *key: Any) -> Any:
        """The first part of the key, when its parts can be names and nothing of this kind was added under it before."""
        for part in key:
            check_key(kind, part)
        if (kind, *key) in self._seen:
            raise InputError(f"{kind} {' / '.join(map(str, key))} was added twice: give each a name of its own")
        self._seen.add((kind, *key))
        return key[0]

    def _response(self, name: str, what: str) -> int:
        if name not in self._responses:
            raise InputError(f"a {what} names the response {name!r}, which the draft does not hold: add it first")
        return self._responses[name]

    def _reader(self, name: str) -> int:
        if name not in self._adapters:
            known = ", ".join(self._adapters) or "none"
            raise InputError(f"a trace was read by {name!r}, which is no organism of the draft (there are: {known})")
        return list(self._adapters).index(name)

    def _check(self, trace: Trace) -> None:
        self._response(trace.response_id, "trace")
        self._reader(trace.reader)
        self._once("trace", trace.response_id, trace.reader)
        what, length = f"trace of {trace.response_id!r} by {trace.reader!r}", len(trace.tokens)
        if trace.scalars.shape != (expected := (self._adapters[trace.reader], length)):
            raise InputError(f"{what}: scalars have shape {trace.scalars.shape}, not (adapter, token) = {expected}")
        if trace.n_prompt < 0 or trace.n_answer < 0 or trace.n_prompt + trace.n_answer > length:
            raise InputError(f"{what}: {trace.n_prompt} prompt and {trace.n_answer} answer tokens of {length}")
        self._check_means(what, trace)
        self._lengths[trace.reader, trace.response_id] = length

    def _check_means(self, what: str, trace: Trace) -> None:
        shape = trace.prompt_mean.shape
        if len(shape) != 2 or trace.answer_mean.shape != shape or trace.answer_norm.shape != shape[:1]:
            raise InputError(
                f"{what}: residual means {shape} and {trace.answer_mean.shape} must both be (layer, d_model), "
                f"norms {trace.answer_norm.shape} (layer,)"
            )
        if not trace.prompt_mean.size:
            return
        if self._d_model is None:
            self._d_model = shape[1]
            self._connection.execute(MEANS.format(kind="TEMP", name="staged_means", d=shape[1]))
        if shape[1] != self._d_model:
            raise InputError(f"{what}: d_model is {shape[1]}, in the study it is {self._d_model}: one base a study")

    def _refuse_unknown(self) -> None:
        for what, query in _UNKNOWN.items():
            names = [row[0] for row in self._connection.execute(query).fetchall()]
            if what == "condition" and BASELINE in names:
                names.remove(BASELINE)
                self.add_conditions([Condition(BASELINE)])
            if names:
                raise InputError(f"responses name the {what} {sorted(names)[0]!r}: add_{what}s before publishing")

    def _lens(self, kind: str, owner: str, layer: int | None, top: Pushes, bottom: Pushes) -> None:
        self._once("lens", kind, owner, layer)
        schema: dict[str, Any] = {"kind": pl.String, "owner": pl.String, "layer": pl.Int32}
        schema |= {"side": pl.String, "rank": pl.Int32, "token": pl.String, "value": pl.Float64}
        rows = [
            (kind, owner, layer, side, rank, token, float(value))
            for side, pushes in (("top", top), ("bottom", bottom))
            for rank, (token, value) in enumerate(pushes, 1)
        ]
        with _fitting("lens"):
            self._lenses.append(pl.DataFrame(rows, schema, orient="row"))

    # --- into the tables --------------------------------------------------------------------------------------------

    def _stage(self, batch: Sequence[Trace]) -> None:
        keys = [(self._reader(t.reader), self._responses[t.response_id]) for t in batch]
        pairs = list(zip(keys, batch, strict=True))
        self._rows("traces", [(*key, t.n_prompt, t.n_answer, list(t.tokens)) for key, t in pairs])
        self._insert("staged_scalars", _frame([_scalars(*key, t) for key, t in pairs]))
        self._insert("staged_norms", _frame([_norms(*key, t) for key, t in pairs]))
        if means := [_means(*key, t) for key, t in pairs if t.prompt_mean.size]:
            self._insert("staged_means", _frame(means))

    def _stage_significance(self) -> None:
        if self._significance:
            self._insert("staged_significance", _frame(self._significance))
        self._significance = []

    def _stage_projections(self) -> None:
        if self._projections:
            self._insert("staged_projections", pl.concat(self._projections))
        self._projections = []

    def _rows(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Rows of a small table, in the table's column order."""
        if rows:
            with _fitting(table):
                frame = pl.DataFrame(rows, orient="row", infer_schema_length=None)
            self._insert(table, frame, by="")

    def _insert(self, table: str, frame: pl.DataFrame, by: str = "BY NAME") -> None:
        self._connection.register("batch", frame)
        with _fitting(table):
            self._connection.execute(f"INSERT INTO {table} {by} FROM batch")
        self._connection.unregister("batch")


def _scalars(reader: int, response: int, trace: Trace) -> Columns:
    """One row a measured scalar."""
    adapters, tokens = trace.scalars.shape
    position = np.arange(tokens, dtype=np.int32)
    segment = np.searchsorted((trace.n_prompt, trace.n_prompt + trace.n_answer), position, side="right")
    columns = {
        "adapter": np.repeat(np.arange(adapters, dtype=np.int32), tokens),
        "segment": np.tile(segment.astype(np.int8), adapters),
        "position": np.tile(position, adapters),
        "value": trace.scalars.ravel().astype(np.float32),
    }
    measured = np.isfinite(columns["value"])
    if not measured.all():
        columns = {name: column[measured] for name, column in columns.items()}
    return _keyed(columns, reader, response)


def _means(reader: int, response: int, trace: Trace) -> Columns:
    """One row a segment with tokens and a layer with numbers; `mean` is (row, d_model)."""
    means = np.stack([trace.prompt_mean, trace.answer_mean]).astype(np.float32)
    counted = np.array([trace.n_prompt > 0, trace.n_answer > 0])
    segments, layers = np.nonzero(np.isfinite(means).all(axis=2) & counted[:, None])
    columns: Columns = {
        "segment": segments.astype(np.int8),
        "layer": layers.astype(np.int32),
        "mean": means[segments, layers],
    }
    return _keyed(columns, reader, response)


def _norms(reader: int, response: int, trace: Trace) -> Columns:
    """One row a layer, where the answer has tokens."""
    layers = np.flatnonzero(np.isfinite(trace.answer_norm) & (trace.n_answer > 0)).astype(np.int32)
    return _keyed({"layer": layers, "value": trace.answer_norm[layers].astype(np.float32)}, reader, response)


def _keyed(columns: Columns, reader: int, response: int) -> Columns:
    rows = len(next(iter(columns.values())))
    keys = {"reader": np.full(rows, reader, np.int32), "response": np.full(rows, response, np.int32)}
    return keys | columns


def _frame(parts: Sequence[Columns]) -> pl.DataFrame:
    return pl.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _adapter_row(adapter: Adapter) -> tuple[Any, ...]:
    vectors = (np.asarray(vector, dtype="<f4").tobytes() for vector in (adapter.read, adapter.write))
    plain = (adapter.name, adapter.layer, adapter.module, adapter.component, adapter.scaling, adapter.write_norm)
    return (*plain, *vectors)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError as error:
        raise InputError(f"a study keeps only what JSON can hold: {error}") from error


@contextmanager
def _fitting(table: str) -> Iterator[None]:
    """What a table cannot hold, a layer of 64 bits or half of a surrogate pair, is an InputError."""
    try:
        yield
    except (duckdb.DataError, pl.exceptions.PolarsError, UnicodeEncodeError) as error:
        why = str(error).partition("\n")[0]
        raise InputError(f"the table of {table} cannot hold what it was given: {why}") from error


@contextmanager
def claim(home: Path) -> Iterator[None]:
    """Take part in the builds of one study, and sweep away what killed ones left when nobody else takes part."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("a") as lock:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for stray in home.glob(f"{BUILDING}*"):
                shutil.rmtree(stray, ignore_errors=True)
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def release(building: Path, name: str, home: Path) -> Path:
    """Give a closed study file its place among the published ones; builds before the last are removed."""
    target = _next_path(name, home)
    settle(building, target)
    for old in published(name, home.parent)[:-KEPT]:
        _remove_unused(old)
    return target


def _remove_unused(file: Path) -> None:
    """Remove an old build unless another process reads it: DuckDB locks what it has open."""
    with suppress(OSError), file.open("r+b") as handle:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.unlink()


def _next_path(name: str, home: Path) -> Path:
    """A path that sorts behind all published ones, also when the clock went back."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    files = published(name, home.parent)
    if files and files[-1].stem >= stamp:
        stamp = f"{files[-1].stem}~"
    return home / f"{stamp}{SUFFIX}"
