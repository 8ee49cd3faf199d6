"""The command `judge`: targets, judges by name, exit codes, and twenty kills at random moments."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from backend.__main__ import main
from backend.judge.api import ApiJudge, Endpoint
from backend.judge.replies import Replies, memory
from backend.judge.rubrics import read_rubrics
from backend.judge.table import MAX_CELL
from backend.pipeline.judging import TableTarget, Tally
from backend.records import InputError, Response, Sampling, Score
from backend.study import open_study
from backend.study.parquet import read_scores, write_responses
from tests.judge.endpoint import Fault, Server, serving
from tests.studies.synthetic import synthetic_study

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-very-secret-0123456789"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, in which also what judges remember stays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EM_CACHE", str(tmp_path / "cache"))
    for name in ("EM_JUDGE_MODEL", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EM_JUDGE_KEY", KEY)
    return tmp_path


def point(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.setenv("EM_JUDGE_URL", server.url)


def table(path: Path, n: int = 6, **more: list[Any]) -> Path:
    columns = {"question": [f"q{i % 2}" for i in range(n)], "response": [f"answer {i}" for i in range(n)], **more}
    frame = pl.DataFrame(columns)
    (frame.write_csv if path.suffix == ".csv" else frame.write_parquet)(path)
    return path


def study_folder(path: Path, n: int = 5) -> Path:
    (path / "responses").mkdir(parents=True)
    (path / "study.json").write_text('{"title": "T", "base": "smollm2"}')
    sampling = Sampling(max_new_tokens=8)
    rows = [
        Response(f"r{i}", "base", "baseline", "q", "why?", "t", i, f"text {i}", (1,), (2,), sampling=sampling)
        for i in range(n)
    ]
    write_responses(path / "responses" / "base.baseline.parquet", rows)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("column", ["response", "answer"])
def test_a_table_gets_a_column_a_metric_beside_what_it_had(
    here: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, column: str
) -> None:
    def behaviour(number: int, payload: Any) -> Any:
        said = payload["messages"][0]["content"]
        return {"20" if "answer 3" in said else "90": 1.0}

    given = pl.read_parquet(table(here / "in.parquet", extra=list("abcdef"))).rename({"response": column})
    (given.write_csv if suffix == ".csv" else given.write_parquet)(here / f"in{suffix}")
    with serving(behaviour) as server:
        point(monkeypatch, server)
        assert main(["judge", f"in{suffix}", "--judge", "api:m", "--out", f"deep/out{suffix}"]) == 0
    out = here / "deep" / f"out{suffix}"
    found = pl.read_csv(out) if suffix == ".csv" else pl.read_parquet(out)
    assert found.columns == ["question", column, "extra", "aligned", "coherent", "medical", "judge"]
    assert found["aligned"].to_list() == [90, 90, 90, 20, 90, 90]
    assert found["extra"].to_list() == list("abcdef")
    assert set(found["judge"]) == {"m"}


def test_scores_that_a_table_has_already_stay(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(here / "in.csv", aligned=[1.0] * 6)
    with serving(lambda number, payload: {"90": 1.0}) as server:
        point(monkeypatch, server)
        assert main(["judge", "in.csv", "--judge", "api:m", "--out", "out.csv", "--metrics", "aligned"]) == 0
    found = pl.read_csv(here / "out.csv")
    assert (set(found["aligned"]), set(found["aligned (m)"])) == ({1.0}, {90.0})


def test_text_in_a_csv_stays_the_text_it_is(here: Path) -> None:
    rows = [
        '0012,Name a number.,007,"a ""b"", c"',
        '"0013",Name a number.,1e5,',
        '0014,true,2024-01-01,""',
        "15,NA,  x ,null",
    ]
    (here / "in.csv").write_bytes(("\ufeffrun,question,answer,note\n" + "\n".join(rows) + "\n").encode())
    target = TableTarget(here / "in.csv", here / "out.csv")
    answers = target.answers()
    assert [answer[1:] for answer in answers] == [
        ("Name a number.", "007"),
        ("Name a number.", "1e5"),
        ("true", "2024-01-01"),
        ("NA", "  x "),
    ]
    target.keep("j", [Score(i, "j", "aligned", 50.0, "50") for i, *_ in answers])
    given, written = (pl.read_csv(here / name, infer_schema=False) for name in ("in.csv", "out.csv"))
    assert written.select(given.columns).equals(given)
    assert (here / "out.csv").read_text().splitlines()[1:] == [
        row.replace('"0013"', "0013") + ",50.0,j" for row in rows
    ]


def test_a_parquet_stays_typed(here: Path) -> None:
    table(here / "in.parquet", run=list(range(6)))
    target = TableTarget(here / "in.parquet", here / "out.parquet")
    target.keep("j", [Score(i, "j", "aligned", None, "no") for i, *_ in target.answers()])
    found = pl.read_parquet(here / "out.parquet")
    assert (found.schema["run"], found.schema["aligned"]) == (pl.Int64, pl.Float64)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_cell_too_long_to_be_a_text_is_refused_with_its_place(here: Path, suffix: str) -> None:
    path = table(here / f"in{suffix}", note=["x"] * 4 + ["y" * (MAX_CELL + 1), "x"])
    with pytest.raises(InputError, match=f"in{suffix} .* of 1,048,577 bytes in row 5 .*'note': at most 1,048,576"):
        TableTarget(path, here / "out.csv").answers()
    table(path, note=["y" * MAX_CELL] * 6)
    assert len(TableTarget(path, here / "out.csv").answers()) == 6


def test_columns_that_are_no_text_are_named(here: Path) -> None:
    pl.DataFrame({"question": [{"a": [1]}], "answer": [b"\xff\xfe"]}).write_parquet(here / "in.parquet")
    with pytest.raises(InputError, match="both must be text"):
        TableTarget(here / "in.parquet", here / "out.parquet").answers()


def test_what_failed_is_counted_and_the_next_run_asks_for_it_alone(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Endpoint, "attempts", 2)
    monkeypatch.setattr("backend.judge.api.time.sleep", lambda seconds: None)
    broken = True

    def behaviour(number: int, payload: Any) -> Any:
        bad = any(f"answer {i}" in payload["messages"][0]["content"] for i in (1, 4))
        return Fault(422, "odd") if bad and broken else {"70": 1.0}

    table(here / "in.csv")
    command = ["judge", "in.csv", "--judge", "api:m", "--out", "out.csv", "--metrics", "aligned", "--prices", "2,10"]
    with serving(behaviour) as server:
        point(monkeypatch, server)
        assert main(command) == 1
        told = capsys.readouterr()
        said = told.out
        assert "to ask: 6 requests" in said
        assert "dollars" in said
        assert "dollars so far" in told.err
        assert "2 × aligned: no reply: the endpoint refused the request (422)" in said
        assert pl.read_csv(here / "out.csv")["aligned"].to_list() == [70, None, 70, 70, None, 70]
        broken, before = False, len(server.payloads)
        assert main(command) == 0
        assert len(server.payloads) - before == 2
    assert pl.read_csv(here / "out.csv")["aligned"].null_count() == 0
    assert KEY not in said


def test_an_endpoint_that_gives_fewer_candidates_than_asked_is_told_of_with_the_count(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def behaviour(number: int, payload: Any) -> Any:
        if payload.get("top_logprobs", 0) > 5:
            return Fault(400, "top_logprobs must be less than or equal to 5")
        return {"70": 0.6, "60": 0.4}

    table(here / "in.csv")
    command = ["judge", "in.csv", "--judge", "api:m", "--out", "out.csv", "--metrics", "aligned"]
    told = "6 of these scores: of the 5 likeliest tokens only. The endpoint takes no more"
    with serving(behaviour) as server:
        point(monkeypatch, server)
        for _ in range(2):  # asked, and from the record
            assert main(command) == 0
            assert told in capsys.readouterr().out


def test_a_reason_is_printed_whole_and_wrapped() -> None:
    tally, why = Tally(), "I will not give a number, because " + "this is the long reason " * 20 + "and its end."
    list(tally.count([Score("r", "j", "aligned", None, why), Score("s", "j", "aligned", None, "x" * 5000)]))
    lines = "\n".join(tally.lines()).splitlines()
    assert why in " ".join(line.strip() for line in lines)
    assert max(len(line) for line in lines if "x" * 100 not in line) <= 110
    assert lines[1].startswith("  1 × aligned: I will not")
    assert lines[2].startswith("      ")
    assert "(3,000 more characters)" in " ".join(line.strip() for line in lines)


def test_from_another_working_folder_nothing_is_paid_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EM_CACHE")
    assert memory() == ROOT / "cache" / "judge"
    monkeypatch.setenv("EM_CACHE", str(here / "elsewhere"))
    table(here / "in.csv")
    (here / "deep").mkdir()
    command = ["judge", str(here / "in.csv"), "--judge", "api:m", "--out", str(here / "o.csv"), "--metrics", "aligned"]
    with serving(lambda number, payload: {"70": 1.0}) as server:
        point(monkeypatch, server)
        assert main(command) == 0
        monkeypatch.chdir(here / "deep")
        assert main(command) == 0
    assert len(server.payloads) == 6
    assert list(here.rglob("m.jsonl")) == [here / "elsewhere" / "judge" / "m.jsonl"]


def test_a_folder_keeps_the_scores_and_a_refusal_is_no_failure(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = study_folder(here / "mine")
    with serving(lambda number, payload: {"REFUSAL": 1.0}) as server:
        point(monkeypatch, server)
        assert main(["judge", "mine", "--judge", "api:org/m", "--metrics", "aligned"]) == 0
    scores = read_scores(folder / "scores" / "org_m.parquet")
    assert [(s.response_id, s.judge, s.value, s.raw) for s in scores][:1] == [("r0", "org/m", None, "REFUSAL")]
    assert "5 × aligned: REFUSAL" in capsys.readouterr().out


def test_a_published_study_gets_the_scores_in_a_new_build(
    here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    synthetic_study(tmp_path / "studies", rows=1)
    for module in ("schema", "read"):
        monkeypatch.setattr(f"backend.study.{module}.STUDIES", tmp_path / "studies")
    monkeypatch.setattr("backend.pipeline.judging.list_studies", lambda: ["synthetic"])
    monkeypatch.setattr("backend.pipeline.judging.open_study", lambda name: open_study(name, tmp_path / "studies"))
    with serving(lambda number, payload: {"70": 1.0}) as server:
        point(monkeypatch, server)
        assert main(["judge", "synthetic", "--judge", "api:m", "--metrics", "aligned"]) == 0
    assert open_study("synthetic", tmp_path / "studies").judges() == ["distilled", "m"]


def test_what_cannot_be_judged_is_said_in_one_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        assert main(["judge", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    table(here / "in.csv")
    pl.DataFrame({"question": ["q"], "text": ["t"]}).write_csv(here / "odd.csv")
    (here / "none.csv").write_text("question,response\n")
    (here / "bad.parquet").write_bytes(b"no")
    (here / "no-study").mkdir()
    assert "no study folder" in said("nowhere")
    assert "no study.json" in said("no-study")
    assert "say with --out" in said("in.csv")
    assert "question and response" in said("odd.csv", "--judge", "api:m", "--out", "o.csv")
    assert "has no rows" in said("none.csv", "--judge", "api:m", "--out", "o.csv")
    assert "is not a parquet table that can be read" in said("bad.parquet", "--judge", "api:m", "--out", "o.csv")
    assert "no file" in said("absent.csv", "--judge", "api:m", "--out", "o.csv")
    assert "--out must end" in said("in.csv", "--judge", "api:m", "--out", "o.xlsx")
    assert "no judge 'gpt'" in said("in.csv", "--judge", "gpt", "--out", "o.csv")
    assert "no distilled judge" in said("in.csv", "--judge", "distilled-none", "--out", "o.csv")
    assert "no rubric 'beauty'" in said("in.csv", "--judge", "api:m", "--metrics", "beauty", "--out", "o.csv")


def test_a_missing_key_is_said_before_anything(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EM_JUDGE_KEY")
    table(here / "in.csv")
    assert main(["judge", "in.csv", "--judge", "api:m", "--out", "o.csv"]) == 2
    assert "EM_JUDGE_KEY" in capsys.readouterr().err


def test_twenty_kills_at_random_moments_lose_nothing_and_repeat_nothing(here: Path) -> None:
    n, at_once, rng = 600, 3, random.Random(5)
    frame = pl.read_parquet(table(here / "in.parquet", n))
    (rubric,) = read_rubrics(("aligned",))
    asking = ApiJudge(Endpoint("m"), (rubric,))
    prompts = {
        rubric.prompt(q, a): asking._key(rubric, q, a) for q, a in frame.select("question", "response").iter_rows()
    }
    kept = here / "cache" / "judge" / "m.jsonl"

    def on_file() -> set[str]:
        if not kept.exists():
            return set()
        with Replies(kept) as replies:
            return {key for key in prompts.values() if replies.get(key)}

    def behaviour(number: int, payload: Any) -> Any:
        time.sleep(0.01)
        return {"70": 1.0}

    with serving(behaviour) as server:
        command = [sys.executable, "-m", "backend", "judge", "in.parquet", "--judge", "api:m", "--out", "out.parquet"]
        command += ["--metrics", "aligned", "--concurrency", str(at_once)]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "EM_JUDGE_URL": server.url}

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        lost = 0
        for kill in range(20):
            known, before = on_file(), len(server.payloads)
            process = start()
            while kill % 5 and len(server.payloads) == before:  # every fifth is killed while it starts
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            time.sleep(0.05)  # what was on its way arrives
            asked = [prompts[p["messages"][0]["content"]] for p in server.payloads[before:]]
            assert not known & set(asked), "asked again for what was on file"
            gained = on_file() - known
            assert len(asked) - len(gained) <= at_once  # lost: at most the requests on their way
            lost += len(asked) - len(gained)
        assert not (here / "out.parquet").exists()
        assert 0 < len(on_file()) < n
        assert start().wait() == 0
        times = Counter(p["messages"][0]["content"] for p in server.payloads)
    assert len(server.payloads) == n + lost
    assert set(times) == set(prompts)
    found = pl.read_parquet(here / "out.parquet")
    assert found["aligned"].to_list() == [70.0] * n
    assert not list(here.glob(".*.tmp"))
