"""Answers and scores as logs of Inspect (inspect.aisi.org.uk, Log Files), out and in, without inspect-ai.

A `.eval` file is a zip of JSON: `header.json` is the log without samples, `samples/ID_epoch_N.json` one sample each,
`summaries.json` and `reductions.json` for viewers. Here a log is one organism under one condition: a sample is a
question, an epoch a draw, a score `metric@judge`, and `em-hit@judge` 1 where an answer is a hit of an outcome. Metrics
are clustered by question: Inspect reduces the epochs of a sample to their mean, so the standard error over samples is
one over questions; `rate`, `low` and `high` of an outcome are ours (docs/statistics.md).

Inspect compresses with zstandard, which Python's zipfile does not know before 3.14: members are read by pyarrow. What
others wrote is bounded before it is read, and nothing of it is run.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from backend.analysis.rates.rates import rate
from backend.edits import Condition, edits_from_json, edits_to_json
from backend.interchange.answers import OUTSIDE, Imported, Making, metric_of, texts_of
from backend.outcomes import Outcome
from backend.outside import LARGEST, json_in, json_of, must_be_file, shown, understood
from backend.records import BASELINE, InputError
from backend.study import Study
from backend.study.outcome_json import outcomes_of

_OURS = "workbench"  # key of our own in a log's and a sample's metadata
_HIT = "-hit@"  # between an outcome and the judge
_VERSION = 2  # of the log format
_ZSTD = 93
_LETTERS = {"C": 100.0, "I": 0.0, "P": 50.0, "N": 0.0}  # Inspect's own verdicts
_MOST_MEMBERS = 1_000_000


# --- out --------------------------------------------------------------------------------------------------------------


def eval_logs(
    study: Study, *, organism: str | None = None, condition: str | None = None
) -> Iterator[tuple[str, bytes]]:
    """(file name, content) of a log for every organism and condition, or those that are named.

    Raises InputError where there are none, or the study does not hold their texts.
    """
    texts_of(study)
    answers = study.responses(None)
    for column, wanted in (("organism", organism), ("condition", condition)):
        answers = answers if wanted is None else answers.filter(pl.col(column) == wanted)
    if answers.is_empty():
        raise InputError(f"{study.name} has no answers of {organism or 'any organism'} under {condition or 'any edit'}")
    scored = _scores_of(study)
    for (name, under), rows in answers.group_by("organism", "condition", maintain_order=True):
        log = _Log(study, str(name), str(under), rows, scored)
        yield log.file, log.content()


def _scores_of(study: Study) -> pl.DataFrame:
    """[response, then a column for every metric@judge and outcome-hit@judge]."""
    table = study.responses(None).select("response")
    for judge in study.judges():
        metrics = study.metrics(judge)
        own = study.responses(judge)
        asked = [each for each in outcomes_of(study.info) if set(each.needs) <= set(metrics)]
        columns = [pl.col(each).alias(f"{each}@{judge}") for each in metrics]
        columns += [_hit(each).alias(f"{each.name}{_HIT}{judge}") for each in asked]
        table = table.join(own.select("response", *columns), on="response", maintain_order="left")
    return table


def _hit(outcome: Outcome) -> pl.Expr:
    return pl.when(outcome.scored()).then(outcome.hits().cast(pl.Float64))


class _Log:
    """One organism under one condition."""

    def __init__(self, study: Study, organism: str, condition: str, rows: pl.DataFrame, scored: pl.DataFrame) -> None:
        self.study, self.organism, self.condition = study, organism, condition
        table = rows.join(scored, on="response", maintain_order="left")
        names = [name for name in scored.columns if "@" in name]
        self.names = [name for name in names if table[name].drop_nulls().len()]
        self.table = table.with_columns(epoch=pl.col("seed").rank("ordinal").over("question_id").cast(pl.Int64))
        words = "|".join((study.name, study.path.stem, organism, condition))
        self.digest = hashlib.sha256(words.encode()).hexdigest()[:22]

    @property
    def file(self) -> str:
        """A name of its own that any file system takes."""
        slug = re.sub(r"[^\w.-]+", "-", f"{self.organism}.{self.condition}")[:80]
        return f"{slug}.{self.digest[:6]}.eval"

    def content(self) -> bytes:
        """The zip."""
        samples = [self._sample(row) for row in self.table.iter_rows(named=True)]
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, said in (
                ("_journal/start.json", {key: value for key, value in self._header().items() if key != "results"}),
                *((f"samples/{each['id']}_epoch_{each['epoch']}.json", each) for each in samples),
                ("summaries.json", [_summary(each) for each in samples]),
                ("reductions.json", [self._reduction(name) for name in self.names]),
                ("header.json", self._header()),
            ):
                archive.writestr(name, json.dumps(said, ensure_ascii=False, allow_nan=False))
        return out.getvalue()

    def _header(self) -> dict[str, Any]:
        questions = self.table["question_id"].unique(maintain_order=True).to_list()
        made = _built(self.study)
        about = {
            "study": self.study.name,
            "organism": self.organism,
            "condition": self.condition,
            "edits": edits_to_json(self.study.condition(self.condition).edits),
            "hits": [name for name in self.names if _HIT in name],
        }
        return {
            "version": _VERSION,
            "status": "success",
            "eval": {
                **dict.fromkeys(("eval_id", "run_id", "task_id"), self.digest),
                "created": made,
                "task": self.study.name,
                "dataset": {"name": self.study.name, "samples": len(questions), "sample_ids": questions},
                "model": self.organism,
                "config": {"epochs": max(self.table["epoch"].to_list()), "epochs_reducer": ["mean"]},
                "metadata": {_OURS: about},
                "scorers": [{"name": name} for name in self.names],
            },
            "plan": {"name": "stored answers", "steps": []},
            "results": {
                "total_samples": self.table.height,
                "completed_samples": self.table.height,
                "scores": [self._metrics(name) for name in self.names],
            },
            "stats": {"started_at": made, "completed_at": made},
        }

    def _sample(self, row: Mapping[str, Any]) -> dict[str, Any]:
        said = {"role": "assistant", "content": row["text"], "source": "generate", "model": self.organism}
        stop = "stop" if row["finished"] else "max_tokens"
        known = {name: row[name] for name in self.names if row[name] is not None}
        return {
            "id": row["question_id"],
            "epoch": row["epoch"],
            "input": row["question"],
            "target": "",
            "messages": [{"role": "user", "content": row["question"], "source": "input"}, said],
            "output": {"model": self.organism, "choices": [{"message": said, "stop_reason": stop}]},
            "scores": {name: {"value": value} for name, value in known.items()},
            "metadata": {_OURS: {"topic": row["topic"], "seed": row["seed"]}},
            "uuid": hashlib.sha256(row["response"].encode()).hexdigest()[:22],
        }

    def _reduction(self, name: str) -> dict[str, Any]:
        means = self._by_question(name)
        samples = [{"sample_id": each, "value": value} for each, value in means.iter_rows()]
        return {"scorer": name, "reducer": "mean", "samples": samples}

    def _by_question(self, name: str) -> pl.DataFrame:
        """[question_id, mean over its draws]."""
        return self.table.drop_nulls(name).group_by("question_id", maintain_order=True).agg(pl.col(name).mean())

    def _metrics(self, name: str) -> dict[str, Any]:
        means, given = self._by_question(name)[name].to_numpy(), self.table[name]
        found = {"mean": float(means.mean())}
        if len(means) > 1:
            found["stderr"] = float(means.std(ddof=1) / np.sqrt(len(means)))
        if _HIT in name:
            hits = self.table.drop_nulls(name)
            counted = rate(hits[name].to_numpy(), hits["question_id"].to_numpy())
            found |= {"rate": counted.value, "low": counted.low, "high": counted.high}
        cluster = {"cluster": "question_id"}
        return {
            "name": name,
            "scorer": name,
            "reducer": "mean",
            "scored_samples": given.len() - given.null_count(),
            "unscored_samples": given.null_count(),
            "metrics": {key: {"name": key, "value": value, "params": cluster} for key, value in found.items()},
        }


def _summary(sample: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: sample[name] for name in ("id", "epoch", "input", "target", "metadata", "scores", "uuid")}
    return {**kept, "completed": True, "message_count": 2}


def _built(study: Study) -> str:
    """When the build was published, as Inspect writes times."""
    try:
        return datetime.strptime(study.path.stem, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC).isoformat("T", "seconds")
    except ValueError:
        return datetime.fromtimestamp(0, UTC).isoformat("T", "seconds")


# --- in ---------------------------------------------------------------------------------------------------------------


def read_eval_log(
    path: Path, *, organism: str | None = None, condition: str | None = None, times: float = 1.0
) -> Imported:
    """The answers of a log, `.eval` or `.json`; `organism` and `condition` where not what the log says.

    A score that is no `metric@judge` is of the judge "imported", and is multiplied by `times` where it is a number
    (scores here run from 0 to 100); Inspect's letters are 100 (correct), 50 (partly) and 0. Raises InputError on
    anything that is no such log, with what to do.
    """
    header, samples = _json_log(path) if path.suffix == ".json" else _zip_log(path)
    spec = _mapping(header.get("eval"))
    if not spec:
        raise InputError(f"{path} is no Inspect log: it does not say which evaluation it is of")
    ours = _mapping(_mapping(spec.get("metadata")).get(_OURS))
    name = organism or ours.get("organism") or str(spec.get("model") or "model").rpartition("/")[2]
    under = condition or ours.get("condition") or BASELINE
    makes = Making(str(name), str(under))
    if not condition and ours.get("edits"):
        makes.edited(Condition(str(under), edits_from_json(ours["edits"])))
    hits = set(ours.get("hits") or ())  # counted from the other scores
    for sample in samples:
        question, text = _question(sample), _answer(sample)
        if not question or text is None:
            makes.skip("samples without a question or an answer")
            continue
        own = _mapping(_mapping(sample.get("metadata")).get(_OURS))
        topic = own.get("topic") or spec.get("task")
        response = makes.response(question, text, {"question_id": sample.get("id"), "topic": topic})
        for each, score in _mapping(sample.get("scores")).items():
            found = None if each in hits else metric_of(each, OUTSIDE)
            value = _mapping(score).get("value")
            if found is not None and not isinstance(value, dict | list):
                makes.score(response, *found, _number(value, 1.0 if "@" in each else times))
    return makes.made()


def _number(value: Any, times: float) -> Any:
    if isinstance(value, str):
        return _LETTERS.get(value, value)
    return float(value) * times if isinstance(value, int | float) else value


def _question(sample: Mapping[str, Any]) -> str:
    """What was asked: the input, or the last thing that a user said in it."""
    asked = sample.get("input")
    if isinstance(asked, list):
        said = [_words(each.get("content"), sample) for each in asked if _mapping(each).get("role") == "user"]
        return said[-1] if said else ""
    return _words(asked, sample)


def _answer(sample: Mapping[str, Any]) -> str | None:
    choices = _mapping(sample.get("output")).get("choices")
    if not isinstance(choices, list) or not choices:
        return None
    return _words(_mapping(_mapping(choices[0]).get("message")).get("content"), sample)


def _words(content: Any, sample: Mapping[str, Any]) -> str:
    """The text of a message, which may be in parts, and kept apart as an attachment."""
    if isinstance(content, list):
        parts = [_mapping(each).get("text") for each in content if _mapping(each).get("type") == "text"]
        return "\n".join(_words(each, sample) for each in parts)
    text = content if isinstance(content, str) else ""
    apart = _mapping(sample.get("attachments")).get(text.removeprefix("attachment://"))
    return apart if text.startswith("attachment://") and isinstance(apart, str) else text


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _json_log(path: Path) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    said = _mapping(json_of(path))
    samples = said.get("samples")
    if not isinstance(samples, list):
        raise InputError(f"{path} holds no samples: is it the log of an evaluation, written with its samples?")
    return said, [_mapping(each) for each in samples]


def _zip_log(path: Path) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    must_be_file(path, absent="name the .eval file of a log")
    wrong = understood(path, "an Inspect log that can be read", "write it anew: inspect log convert --to json")
    with wrong, zipfile.ZipFile(path) as archive:
        members = {each.filename: each for each in archive.infolist()}
        size = sum(each.file_size for each in members.values())
        if size > LARGEST or len(members) > _MOST_MEMBERS:
            raise InputError(f"{path} unpacks to {size >> 20:,} MB, and at most {LARGEST >> 20} are read")
        read = {name: json_in(_member(archive, each)) for name, each in members.items() if _wanted(name)}
    header = next((read[name] for name in ("header.json", "_journal/start.json", "start.json") if name in read), None)
    if header is None:
        raise InputError(f"{path} is no Inspect log: it has no header.json")
    samples = [_mapping(said) for name, said in read.items() if name.startswith("samples/")]
    return _mapping(header), sorted(samples, key=lambda each: (str(each.get("id")), _epoch(each)))


def _wanted(name: str) -> bool:
    return name.startswith("samples/") or name in ("header.json", "_journal/start.json", "start.json")


def _epoch(sample: Mapping[str, Any]) -> int:
    epoch = sample.get("epoch")
    return epoch if isinstance(epoch, int) else 0


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The content of a member, which the archive says how long it is."""
    if member.compress_type != _ZSTD:
        with archive.open(member) as plain:
            return plain.read(member.file_size)
    file = archive.fp
    assert file is not None
    file.seek(member.header_offset)
    head = file.read(30)
    names, extra = struct.unpack("<HH", head[26:30])
    file.seek(member.header_offset + 30 + names + extra)
    packed = pa.BufferReader(file.read(member.compress_size))
    content: bytes = pa.CompressedInputStream(packed, "zstd").read(member.file_size)
    if zlib.crc32(content) != member.CRC:
        raise InputError(f"{shown(member.filename)} is damaged in it")
    return content
