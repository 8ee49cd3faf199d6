"""A study without its texts: numbers alone, small enough for a repository, and a study again.

    study.json          what the study is, its organisms, conditions, questions by id, and a digest of each file
    answers.parquet     one row an answer: who, under what, to which question, which draw, and every judge's scores
    scalars.parquet     one row a reading: every adapter's scalar at every token as float16, and token significance
    directions.parquet  one row a direction and layer: coordinates, activation norm, provenance

**Directions are coordinates** in an orthonormal basis of what the study's directions of one base and layer span. Norms,
cosines and projections among directions of one layer are those of the vectors, to rounding; the vectors cannot be had
back, and directions of different layers cannot be compared. A direction says what it is of: `coordinates_of`, d_model.

What is not there: texts of prompts and answers, tokens, adapters' vectors, residual means. The study says so
(`left_out` in its info), and pages say it on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from backend.edits import Condition, edits_from_json
from backend.files import whole
from backend.outside import bytes_of, in_a_line, json_in, understood
from backend.pipeline.import_published import SAMPLED
from backend.records import COORDINATES_OF, Adapter, Direction, FloatArray, InputError, Question, Trace
from backend.study import STUDIES, Draft, Study
from backend.study.parquet import RESPONSE

TABLES = ("answers.parquet", "scalars.parquet", "directions.parquet")
LEFT_OUT = ("texts", "tokens", "vectors")
_LACKS = "Figures alone: the texts of prompts and answers, the tokens and the vectors are their authors' and not here."
_REMEDY = "get the folder again as it was, or write it from an import with: python -m backend figures-of"
_ABOUT, _FORMAT = "study.json", 1
_KEYS = ("organism", "condition", "question_id", "seed")
_KEPT = (
    *("base", "published_questions", "source", "remedy", "notes"),
    *("settings", "judge", "controls", "outcomes", "baselines"),
)


def write_figures(study: Study, folder: Path, *, title: str) -> int:
    """Write a study's figures as files of a folder; returns their bytes. Each file is written whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    answers, sources = _answers(study)
    directions = list(_directions(study))
    frames = (answers, _readings(study, answers), pl.DataFrame(directions, schema=_DIRECTION, orient="row"))
    digests, size = {}, 0
    for name, frame in zip(TABLES, frames, strict=True):
        content = BytesIO()
        frame.drop("response", strict=False).write_parquet(content, compression="zstd", compression_level=19)
        digests[name] = hashlib.sha256(content.getvalue()).hexdigest()
        size += _write(folder / name, content.getvalue())
    about = {
        "format": _FORMAT,
        "title": title,
        "info": {key: study.info[key] for key in _KEPT if key in study.info},
        "organisms": [_organism(study, row) for row in study.organisms().iter_rows(named=True)],
        "questions": study.questions().select("id", "topic").rows(),
        "conditions": [(name, _plain_edits(edits)) for name, edits in study.conditions().iter_rows()],
        "sources": sources,
        "digests": digests,
    }
    return size + _write(folder / _ABOUT, json.dumps(about, ensure_ascii=False, indent=1).encode())


def publish_figures(folder: Path, name: str, root: Path = STUDIES) -> Path:
    """Publish such a folder as a study. Raises InputError where a file of it is missing, damaged or edited."""
    about, frames = _read(folder)
    try:
        with understood(folder, "a folder of a study's figures", _REMEDY):
            return _published(about, frames, name, root)
    except InputError as error:
        said = str(error)
        raise InputError(said if said.startswith(str(folder)) else f"{folder}: {said}") from error


def _published(about: dict[str, Any], frames: Sequence[pl.DataFrame], name: str, root: Path) -> Path:
    answers, readings, directions = frames
    with Draft(name, root=root) as draft:
        notes = "\n".join(filter(None, (_LACKS, about["info"].get("notes"))))
        draft.meta(**{**about["info"], "notes": notes}, title=about["title"], left_out=list(LEFT_OUT))
        for organism in about["organisms"]:
            adapters = [_adapter(*each) for each in organism["adapters"]]
            draft.add_organism(organism["name"], base=organism["base"], adapters=adapters, record=organism["record"])
        topics = dict(about["questions"])
        draft.add_questions(Question(each, "", topic) for each, topic in topics.items())
        draft.add_conditions(Condition(name, edits_from_json(edits)) for name, edits in about["conditions"])
        responses = _responses(answers, topics)
        draft.add_responses(responses)
        draft.add_scores(_scores(answers, responses["id"]))
        draft.add_sources(_sources(answers, responses["id"], about["sources"]))
        ids = responses["id"].to_list()
        counts = {organism["name"]: len(organism["adapters"]) for organism in about["organisms"]}
        draft.add_traces(
            _trace(row, ids[row["answer"]], counts[row["reader"]]) for row in readings.iter_rows(named=True)
        )
        for row in readings.filter(pl.col("significance").is_not_null()).iter_rows(named=True):
            draft.add_significance(ids[row["answer"]], row["reader"], _significance(row))
        draft.add_directions(_direction(row) for row in directions.iter_rows(named=True))
        return draft.publish()


# --- out of a study ---------------------------------------------------------------------------------------------------


def _write(path: Path, content: bytes) -> int:
    with whole(path) as out:
        out.write(content)
    return len(content)


def _organism(study: Study, row: Mapping[str, Any]) -> dict[str, Any]:
    adapters = study.adapters(row["organism"]).select("name", "layer", "module", "component").rows()
    record = json.loads(row["record"])
    return {"name": row["organism"], "base": row["base"], "record": record, "adapters": adapters}


def _plain_edits(edits: str) -> list[Any]:
    """The edits of a condition, none where one of them holds a vector: the study's settings say what was done."""
    values = json.loads(edits)
    return [] if any(isinstance(item, dict) for edit in values for item in edit.values()) else values


def _answers(study: Study) -> tuple[pl.DataFrame, list[list[str]]]:
    """One row an answer with a column `judge/metric` for each, and the experiments that answers are of, by number."""
    frame = study.responses().select("response", *_KEYS)
    named = frame.select(pl.concat_str(*_KEYS, separator="/")).to_series()
    if (named != frame["response"]).any():
        raise InputError(
            f"{study.name}: only answers that are named by who, under what, asked what and draw are written"
        )
    for judge in study.judges():
        scores = study.responses(judge).select(study.metrics(judge))
        frame = frame.hstack(scores.rename({metric: f"{judge}/{metric}" for metric in scores.columns}))
    of = study.sources().group_by("response").agg(pl.col("source").sort())
    sets = of["source"].unique().sort().to_list()
    number = {tuple(each): index for index, each in enumerate(sets)}
    numbers = {response: number[tuple(each)] for response, each in of.iter_rows()}
    column = pl.Series("sources", [numbers.get(each) for each in frame["response"]], dtype=pl.Int16)
    return frame.with_columns(column, pl.col("seed").cast(pl.Int32)), sets


def _readings(study: Study, answers: pl.DataFrame) -> pl.DataFrame:
    rows = {response: row for row, response in enumerate(answers["response"])}
    found = []
    for reader in study.readers():
        for response in study.readings(reader)["response"]:
            strip = study.strip(response, reader)
            marks = None if strip.significance is None else strip.significance.astype("<f4").tobytes()
            scalars = strip.scalars.astype("<f2").tobytes()
            found.append((rows[response], reader, len(strip.tokens), strip.n_prompt, strip.n_answer, scalars, marks))
    return pl.DataFrame(found, schema=_READING, orient="row")


_READING: dict[str, Any] = {
    "answer": pl.Int32,  # row of the answers
    "reader": pl.String,
    "tokens": pl.Int32,
    "n_prompt": pl.Int32,
    "n_answer": pl.Int32,
    "scalars": pl.Binary,  # (adapter, token) float16
    "significance": pl.Binary,  # (token,) float32, NaN where it has none
}
_DIRECTION: dict[str, Any] = {
    "name": pl.String,
    "layer": pl.Int32,
    "coordinates": pl.Binary,  # (dimension,) float32
    "activation_norm": pl.Float64,
    "provenance": pl.String,
}


def _directions(study: Study) -> Iterator[tuple[Any, ...]]:
    names = study.directions()["name"].unique(maintain_order=True)
    every = [direction for name in names for direction in study.direction_stack(name)]
    spaces: dict[tuple[str, int], list[Direction]] = {}
    for direction in every:
        spaces.setdefault((str(direction.provenance.get("model")), direction.d_model), []).append(direction)
    taken: set[int] = set()
    for own in spaces.values():
        by_layer: dict[int, list[Direction]] = {}
        for direction in own:
            by_layer.setdefault(direction.layer, []).append(direction)
        found = {layer: coordinates([each.vector for each in there]) for layer, there in by_layer.items()}
        width = max(rows.shape[1] for rows in found.values())
        while width in taken:  # directions of two bases are told apart by their width, as vectors mostly are
            width += 1
        taken.add(width)
        for layer, there in by_layer.items():
            rows = np.pad(found[layer], ((0, 0), (0, width - found[layer].shape[1]))).astype("<f4")
            for direction, row in zip(there, rows, strict=True):
                said = {**direction.provenance, COORDINATES_OF: direction.d_model}
                yield direction.name, layer, row.tobytes(), direction.activation_norm, json.dumps(said)


def coordinates(vectors: Sequence[FloatArray]) -> FloatArray:
    """Vectors (k, d_model) in an orthonormal basis of their span, (k, rank): every inner product among them stays."""
    left, sizes, _ = np.linalg.svd(np.asarray(vectors, dtype=np.float64), full_matrices=False)
    rank = int((sizes > 1e-9 * sizes[0]).sum())
    kept: FloatArray = left[:, :rank] * sizes[:rank]
    return kept


# --- into a study -----------------------------------------------------------------------------------------------------


def _read(folder: Path) -> tuple[dict[str, Any], list[pl.DataFrame]]:
    if not (folder / _ABOUT).exists():
        raise InputError(f"{folder} has no {_ABOUT}, so it holds no figures of a study: {_REMEDY}")
    try:
        about = json_in(bytes_of(folder / _ABOUT))
        digests = {name: about["digests"][name] for name in TABLES}
        if about["format"] != _FORMAT:
            raise InputError(f"{folder} is of another version of this program: {_REMEDY}")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / _ABOUT} is damaged ({in_a_line(error)}): {_REMEDY}") from error
    frames = []
    for name in TABLES:
        if not (folder / name).exists():
            raise InputError(f"{folder} lacks {name}: {_REMEDY}")
        content = bytes_of(folder / name)
        if hashlib.sha256(content).hexdigest() != digests[name]:
            raise InputError(f"{folder / name} is not the file that {_ABOUT} was written with: {_REMEDY}")
        with understood(folder / name, "a table of figures", _REMEDY):
            frames.append(pl.read_parquet(content))
    return about, frames


def _responses(answers: pl.DataFrame, topics: Mapping[str, str]) -> pl.DataFrame:
    none: Any = pl.lit([], dtype=pl.List(pl.Int32))
    return answers.select(
        pl.concat_str(*_KEYS, separator="/").alias("id"),
        *_KEYS,
        question=pl.lit(""),
        topic=pl.col("question_id").replace_strict(topics),
        text=pl.lit(""),
        prompt_ids=none,
        answer_ids=none,
        finished=True,
        temperature=SAMPLED.temperature,
        top_p=SAMPLED.top_p,
        max_new_tokens=SAMPLED.max_new_tokens,
    ).select(pl.col(name).cast(kind) for name, kind in RESPONSE.items())


def _scores(answers: pl.DataFrame, ids: pl.Series) -> pl.DataFrame:
    columns = [name for name in answers.columns if "/" in name]
    long = (
        answers.select(columns).with_columns(response_id=ids).unpivot(columns, index="response_id").drop_nulls("value")
    )
    judge = pl.col("variable").str.split("/")
    return long.select(
        "response_id",
        judge=judge.list.first(),
        metric=judge.list.last(),
        value="value",
        raw=pl.lit(""),
    )


def _sources(answers: pl.DataFrame, ids: pl.Series, sources: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    pairs = zip(ids, answers["sources"], strict=True)
    return [(response, source) for response, number in pairs if number is not None for source in sources[number]]


def _trace(row: Mapping[str, Any], response: str, adapters: int) -> Trace:
    none = np.zeros((0, 0), dtype=np.float32)
    return Trace(
        response_id=response,
        reader=row["reader"],
        tokens=("",) * row["tokens"],
        n_prompt=row["n_prompt"],
        scalars=np.frombuffer(row["scalars"], dtype="<f2").reshape(adapters, row["tokens"]).astype(np.float32),
        prompt_mean=none,
        answer_mean=none,
        n_answer=row["n_answer"],
        answer_norm=np.zeros(0, dtype=np.float32),
    )


def _significance(row: Mapping[str, Any]) -> FloatArray:
    return np.frombuffer(row["significance"], dtype="<f4").astype(np.float32)


def _direction(row: Mapping[str, Any]) -> Direction:
    vector = np.frombuffer(row["coordinates"], dtype="<f4").astype(np.float32)
    return Direction(row["name"], row["layer"], vector, row["activation_norm"], json.loads(row["provenance"]))


def _adapter(name: str, layer: int, module: str, component: int) -> Adapter:
    none = np.zeros(0, dtype=np.float32)
    return Adapter(name, layer, module, component, float("nan"), none, none)
