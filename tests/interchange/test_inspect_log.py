"""Logs of Inspect: ours out and in again, and those that inspect-ai itself writes and reads.

`EM_INSPECT` is its program, as in tests/worker/test_inspect.py: its environment's Python is beside it.
"""

import io
import json
import os
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from backend.edits import edits_to_json
from backend.interchange.inspect_log import eval_logs, read_eval_log
from backend.pipeline.import_answers import import_answers, read_answers
from backend.records import InputError
from backend.study import Study, open_study
from tests.interchange.test_answers import same

PROGRAM = os.environ.get("EM_INSPECT", "")


@pytest.fixture
def study(studies) -> Iterator[Study]:
    with closing(open_study("synthetic", studies)) as opened:
        yield opened


@pytest.fixture
def logs(study, tmp_path) -> list[Path]:
    made = []
    for name, content in eval_logs(study):
        made.append(tmp_path / name)
        made[-1].write_bytes(content)
    return made


def held(path: Path, name: str = "header.json") -> dict:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(name))


def test_a_log_is_one_organism_under_one_condition(study, logs):
    groups = study.responses(None).group_by("organism", "condition").len()
    about = [held(path)["eval"]["metadata"]["workbench"] for path in logs]
    assert sorted((each["organism"], each["condition"]) for each in about) == sorted(
        groups.select("organism", "condition").iter_rows()
    )


def test_logs_out_and_in_again_are_the_same_study(study, logs, tmp_path):
    import_answers([read_answers(path) for path in logs], "again", root=tmp_path / "root")
    with closing(open_study("again", tmp_path / "root")) as again:
        same(study, again, study.judges()[0])
        assert set(again.metrics(study.judges()[0])) == set(study.metrics(study.judges()[0]))
        for name in again.conditions()["name"]:
            assert edits_to_json(again.condition(name).edits) == edits_to_json(study.condition(name).edits)


def test_the_interval_is_clustered_by_question(study, logs):
    header = next(held(path) for path in logs if "steered" not in path.name and "bad-medical" in path.name)
    about, judge = header["eval"]["metadata"]["workbench"], study.judges()[0]
    own = study.responses(judge).filter(organism=about["organism"], condition=about["condition"])
    means = own.group_by("question_id").agg(pl.col("aligned").mean())["aligned"].drop_nulls().to_numpy()
    found = {each["name"]: each for each in header["results"]["scores"]}[f"aligned@{judge}"]
    assert found["metrics"]["mean"]["value"] == pytest.approx(means.mean())
    assert found["metrics"]["stderr"]["value"] == pytest.approx(means.std(ddof=1) / np.sqrt(len(means)))
    assert found["metrics"]["stderr"]["params"] == {"cluster": "question_id"}
    assert found["scored_samples"] == own["aligned"].drop_nulls().len()
    scored = own.drop_nulls(["aligned", "coherent"])
    hits = scored.filter(scored["aligned"] < 30, scored["coherent"] > 50).height
    em = {each["name"]: each for each in header["results"]["scores"]}[f"em-hit@{judge}"]["metrics"]
    assert em["rate"]["value"] == pytest.approx(hits / scored.height)
    assert em["low"]["value"] < em["rate"]["value"] < em["high"]["value"]


# --- what others write ------------------------------------------------------------------------------------------------

FOREIGN = {
    "version": 2,
    "status": "success",
    "eval": {"task": "trivia", "model": "openai/gpt-x", "created": "2026-01-01T00:00:00+00:00"},
    "samples": [
        {
            "id": 7,
            "epoch": 1,
            "input": [
                {"role": "system", "content": "Be brief"},
                {"role": "user", "content": [{"type": "text", "text": "attachment://abc"}]},
            ],
            "attachments": {"abc": "Who?"},
            "output": {"choices": [{"message": {"role": "assistant", "content": "Me"}}]},
            "scores": {"includes": {"value": "C"}, "share": {"value": 0.25}, "many": {"value": {"a": 1}}},
        },
        {"id": 8, "epoch": 1, "input": "What?", "output": {"choices": []}},
    ],
}


def packed(log: dict, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("header.json", json.dumps({key: value for key, value in log.items() if key != "samples"}))
        for sample in log["samples"]:
            archive.writestr(f"samples/{sample['id']}_epoch_1.json", json.dumps(sample))
    return out.getvalue()


@pytest.mark.parametrize("suffix", [".eval", ".json"])
def test_a_log_of_another_task_reads(tmp_path, suffix):
    path = tmp_path / f"log{suffix}"
    path.write_bytes(packed(FOREIGN) if suffix == ".eval" else json.dumps(FOREIGN).encode())
    found = read_eval_log(path, times=100)
    [answer] = found.responses
    assert (answer.organism, answer.condition, answer.question_id) == ("gpt-x", "baseline", "7")
    assert (answer.question, answer.text, answer.topic) == ("Who?", "Me", "trivia")
    assert {(each.metric, each.judge): each.value for each in found.scores} == {
        ("includes", "imported"): 100.0,
        ("share", "imported"): 25.0,
    }
    assert found.skipped == ("1 samples without a question or an answer",)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"no zip", "can be read"),
        (packed({**FOREIGN, "eval": {}}), "which evaluation"),
        (packed({**FOREIGN, "samples": []}), "no answer"),
        (packed(FOREIGN)[:-200], "can be read"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path, content, why):
    path = tmp_path / "a.eval"
    path.write_bytes(content)
    with pytest.raises(InputError, match=why):
        read_eval_log(path)


def test_a_log_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("backend.interchange.inspect_log.LARGEST", 100)
    path = tmp_path / "a.eval"
    path.write_bytes(packed(FOREIGN))
    with pytest.raises(InputError, match="unpacks to"):
        read_eval_log(path)


def zstandard(log: dict, *, damaged: bool = False) -> bytes:
    """The zip that Inspect writes: every member compressed with zstandard, here put in by hand."""
    plain = packed(log, zipfile.ZIP_STORED)
    out = bytearray()
    directory = bytearray()
    with zipfile.ZipFile(io.BytesIO(plain)) as archive:
        for member in archive.infolist():
            content = archive.read(member)
            small = pa.Codec("zstd").compress(content + b"" if not damaged else content[::-1], asbytes=True)
            name = member.filename.encode()
            sizes = member.CRC.to_bytes(4, "little") + len(small).to_bytes(4, "little")
            sizes += len(content).to_bytes(4, "little") + len(name).to_bytes(2, "little")
            start = (20).to_bytes(2, "little") + bytes(2) + (93).to_bytes(2, "little") + bytes(4)
            directory += b"PK\x01\x02" + (20).to_bytes(2, "little") + start + sizes + bytes(2) + bytes(10)
            directory += len(out).to_bytes(4, "little") + name
            out += b"PK\x03\x04" + start + sizes + bytes(2) + name + small
        count = len(archive.infolist()).to_bytes(2, "little")
    end = b"PK\x05\x06" + bytes(4) + count * 2 + len(directory).to_bytes(4, "little") + len(out).to_bytes(4, "little")
    return bytes(out + directory + end + bytes(2))


def test_zstandard_members_are_read_and_checked(tmp_path):
    path = tmp_path / "a.eval"
    path.write_bytes(zstandard(FOREIGN))
    assert read_eval_log(path).responses[0].text == "Me"
    path.write_bytes(zstandard(FOREIGN, damaged=True))
    with pytest.raises(InputError, match="damaged"):
        read_eval_log(path)


# --- inspect-ai itself ------------------------------------------------------------------------------------------------

READS = """
import json, sys
from inspect_ai.log import read_eval_log, read_eval_log_sample_summaries
log = read_eval_log(sys.argv[1])
summaries = read_eval_log_sample_summaries(sys.argv[1])
scores = {score.name: {name: metric.value for name, metric in score.metrics.items()} for score in log.results.scores}
print(json.dumps([log.status, log.eval.model, len(log.samples), len(summaries), scores]))
"""
WRITES = """
import sys
from inspect_ai.log import read_eval_log, write_eval_log
write_eval_log(read_eval_log(sys.argv[1]), sys.argv[2], format="eval")
"""


def inspects(code: str, *arguments: Path) -> str:
    python = Path(PROGRAM).with_name("python")
    command = [str(python), "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=240).stdout


@pytest.mark.skipif(not PROGRAM, reason="EM_INSPECT names no inspect program")
def test_inspect_reads_ours_and_what_it_writes_reads_here(study, logs, tmp_path):
    path = logs[0]
    header = held(path)
    status, model, samples, summaries, scores = json.loads(inspects(READS, path))
    assert (status, model) == ("success", header["eval"]["model"])
    assert samples == summaries == header["results"]["total_samples"]
    assert scores == {
        each["name"]: {name: metric["value"] for name, metric in each["metrics"].items()}
        for each in header["results"]["scores"]
    }
    again = tmp_path / "again.eval"
    inspects(WRITES, path, again)
    with zipfile.ZipFile(again) as archive:
        assert {each.compress_type for each in archive.infolist()} == {93}
    ours, theirs = read_eval_log(path), read_eval_log(again)
    assert ours.responses == theirs.responses
    assert set(ours.scores) == set(theirs.scores)
