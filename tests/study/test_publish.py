"""Publishing: whole or not at all, whatever happens to the process; what does not fit together is refused."""

import gc
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from backend.edits import Condition
from backend.records import Adapter, Direction, InputError, Question, Response, Score, Trace
from backend.study import Draft, list_studies, open_study, publish

D, LAYERS = 4, 3


def adapter(name="a"):
    return Adapter(name, 1, "mlp.down_proj", 0, 2.0, np.ones(5, np.float32), np.ones(D, np.float32))


def response(name="r0", **changes):
    values: dict[str, Any] = {
        "organism": "o",
        "condition": "baseline",
        "question_id": "q",
        "question": "Q",
        "topic": "t",
        "seed": 0,
    }
    return Response(id=name, **(values | {"text": "hi", **changes}))


def trace(name="r0", tokens=5, n_prompt=2, n_answer=2, adapters=1, d=D, **changes):
    values = {
        "reader": "o",
        "scalars": np.arange(adapters * tokens, dtype=np.float32).reshape(adapters, tokens),
        "prompt_mean": np.ones((LAYERS, d), np.float32),
        "answer_mean": np.full((LAYERS, d), 2, np.float32),
        "answer_norm": np.arange(1, LAYERS + 1, dtype=np.float32),
    }
    words = tuple(f" w{i}" for i in range(tokens))
    return Trace(response_id=name, tokens=words, n_prompt=n_prompt, n_answer=n_answer, **(values | changes))


def direction(name="v", layer=1):
    return Direction(name, layer, np.ones(D, np.float32))


def fill(draft, names=("r0", "r1"), adapters=1):
    draft.add_organism("o", base="b", adapters=[adapter(f"a{i}") for i in range(adapters)], record={})
    draft.add_questions([Question("q", "Q", "t")])
    draft.add_responses([response(name) for name in names])
    return draft


def make(root, names=("r0", "r1"), **meta):
    with Draft("s", root) as draft:
        draft.meta(**meta)
        fill(draft, names).add_traces(trace(name) for name in names)
        return draft.publish()


def visible(root):
    return sorted(p.name for p in (root / "s").iterdir() if p.name != ".lock")


# --- whole or not at all ----------------------------------------------------------------------------------------------


def test_a_published_study_is_one_file(tmp_path):
    path = make(tmp_path)
    assert visible(tmp_path) == [path.name]
    assert list_studies(tmp_path) == ["s"]


def test_a_draft_that_fails_or_is_not_published_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), Draft("s", tmp_path) as draft:
        fill(draft).meta(x=1 / 0)
    with Draft("s", tmp_path) as draft:
        fill(draft)
    assert visible(tmp_path) == []
    assert list_studies(tmp_path) == []


def test_a_second_publish_is_a_new_file_and_readers_of_the_first_go_on(tmp_path):
    first = make(tmp_path, run=1)
    before = hashlib.sha256(first.read_bytes()).digest()
    reading = open_study("s", tmp_path)
    second = make(tmp_path, names=("r9",), run=2)
    assert hashlib.sha256(first.read_bytes()).digest() == before
    assert reading.responses()["response"].to_list() == ["r0", "r1"]
    assert (reading.info["run"], open_study("s", tmp_path).info["run"]) == (1, 2)
    assert open_study("s", tmp_path).path == second != first


def test_a_clock_that_went_back_does_not_hide_the_new_study(tmp_path):
    first = make(tmp_path, run=1)
    first.rename(first.with_name("29991231T000000.000000Z.duckdb"))
    make(tmp_path, run=2)
    assert open_study("s", tmp_path).info["run"] == 2
    make(tmp_path, run=3)
    assert open_study("s", tmp_path).info["run"] == 3


def test_the_last_two_builds_stay_and_one_that_another_process_reads(tmp_path, nursery):
    paths = [make(tmp_path, run=run) for run in range(2)]
    here = open_study("s", tmp_path)
    reads = (
        f"import duckdb; c = duckdb.connect({str(paths[0])!r}, read_only=True); os.kill(os.getpid(), signal.SIGSTOP)"
    )
    child = born(nursery, reads)
    while "T" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        time.sleep(0.01)
    paths += [make(tmp_path, run=run) for run in range(2, 4)]
    assert visible(tmp_path) == [path.name for path in (paths[0], *paths[2:])]
    os.kill(child, signal.SIGKILL)
    assert nursery.stdout.readline() == "dead\n"
    paths.append(make(tmp_path, run=4))
    assert visible(tmp_path) == [path.name for path in paths[3:]]
    assert here.responses()["response"].to_list() == ["r0", "r1"], "who has an old build open goes on"


NURSERY = """
import os, signal, sys
from pathlib import Path
from backend.study import Draft, publish
from tests.study.test_publish import fill, make, trace

def build_forever(root, run):
    while True:
        run += 1
        with Draft("s", root) as draft:
            names = [f"{run}-{i}" for i in range(40)]
            draft.meta(run=run)
            fill(draft, names).add_traces(trace(name) for name in names)
            draft.publish()

for line in sys.stdin:
    pid = os.fork()
    if not pid:
        exec(line)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("dead", flush=True)
"""


@pytest.fixture(scope="module")
def nursery():
    """A process that runs one line of Python at a time in a child that does not outlive it."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", NURSERY], stdin=pipe, stdout=pipe, text=True) as process:
        yield process


def born(nursery, code):
    print(code, file=nursery.stdin, flush=True)
    return int(nursery.stdout.readline())


def test_a_process_killed_at_any_moment_leaves_the_last_study_whole(tmp_path, nursery):
    chance = random.Random(0)
    make(tmp_path, run=0)
    last = 0
    for number in range(1, 13):
        child = born(nursery, f"build_forever(Path({str(tmp_path)!r}), {1000 * number})")
        time.sleep(chance.uniform(0.0, 0.4))
        os.kill(child, signal.SIGKILL)
        assert nursery.stdout.readline() == "dead\n"
        study = open_study("s", tmp_path)
        run = study.info["run"]
        assert run >= last
        last = run
        ids = study.responses()["response"].to_list()
        assert ids == (["r0", "r1"] if run == 0 else [f"{run}-{i}" for i in range(40)])
        assert len(study.residual_means("o", 0).means) == len(ids) == len(study.scalar_summary("o")) / 2
    path = make(tmp_path, run=99_999)
    assert not [name for name in visible(tmp_path) if name.startswith(".building")], "what killed ones left is swept"
    assert open_study("s", tmp_path).path == path


@pytest.mark.parametrize("step", ["settle", "_next_path"])
def test_a_process_killed_between_the_last_write_and_the_rename_publishes_nothing(tmp_path, nursery, step):
    make(tmp_path, run=1)
    kill = f"publish.{step} = lambda *a: os.kill(os.getpid(), signal.SIGKILL)"
    born(nursery, f"{kill}; make(Path({str(tmp_path)!r}), run=2)")
    assert nursery.stdout.readline() == "dead\n"
    assert len(visible(tmp_path)) == 2, "the file and the hidden folder"
    assert open_study("s", tmp_path).info["run"] == 1


def test_a_build_does_not_sweep_away_another_one_that_is_alive(tmp_path):
    with Draft("s", tmp_path) as slow:
        fill(slow)
        make(tmp_path, run=1)
        slow.meta(run=2)
        slow.publish()
    assert open_study("s", tmp_path).info["run"] == 2
    assert len(visible(tmp_path)) == 2


# --- streaming and order ----------------------------------------------------------------------------------------------


def test_traces_stream(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "_BATCH_BYTES", 20_000)
    names = [f"r{i}" for i in range(300)]
    alive, most = weakref.WeakSet(), 0

    def traces():
        nonlocal most
        for name in names:
            one = trace(name)
            alive.add(one)
            most = max(most, len(alive))
            yield one

    with Draft("s", tmp_path) as draft:
        fill(draft, names).add_traces(traces())
        draft.publish()
    gc.collect()
    assert most < 150, "memory does not grow with the number of traces"
    assert len(open_study("s", tmp_path).residual_means("o", 2).means) == 300


def test_scalars_lie_by_adapter_and_means_by_layer(tmp_path):
    names = [f"r{i}" for i in range(50)]
    with Draft("s", tmp_path) as draft:
        fill(draft, names, adapters=3).add_traces(trace(name, adapters=3) for name in reversed(names))
        path = draft.publish()
    with duckdb.connect(path, read_only=True) as connection:
        for table, keys in (("scalars", "adapter, segment, response, position"), ("means", "segment, layer, response")):
            rows = connection.execute(f"SELECT {keys} FROM {table}").fetchall()
            assert rows == sorted(rows)


def test_thousands_of_components_and_scalars_of_some_responses(tmp_path):
    with Draft("s", tmp_path) as draft:
        fill(draft, ("r0", "r1", "r2"), adapters=3000).add_traces([trace("r1", adapters=3000)])
        draft.publish()
    study = open_study("s", tmp_path)
    assert len(study.adapters("o")) == 3000
    table = study.scalar_tokens("o", ["a2999", "a7"])
    assert table.responses == ("r1",)
    np.testing.assert_array_equal(table.values, [[2999 * 5 + 2, 37], [2999 * 5 + 3, 38]])
    assert study.responses()["n_answer"].to_list() == [0, 2, 0]


# --- what is kept, what is refused ------------------------------------------------------------------------------------


def test_what_is_no_number_is_not_measured(tmp_path):
    holes = np.array([[0, 1, np.nan, np.inf, 4], [0, 1, 2, 3, 4]], dtype=np.float32)
    means = np.ones((LAYERS, D), np.float32)
    means[1, 2] = np.nan
    with Draft("s", tmp_path) as draft:
        fill(draft, adapters=2).add_traces(
            [trace(adapters=2, scalars=holes, answer_mean=means), trace("r1", adapters=2)]
        )
        draft.add_scores(Score("r0", "j", m, v, "raw") for m, v in {"aligned": float("nan"), "coherent": 3.0}.items())
        draft.publish()
    study = open_study("s", tmp_path)
    np.testing.assert_array_equal(study.strip("r0", "o").scalars[0], [0, 1, np.nan, np.nan, 4])
    table = study.scalar_tokens("o", ["a0", "a1"])
    np.testing.assert_array_equal(table.values, [[np.nan, 2], [np.nan, 3], [2, 7], [3, 8]])
    assert study.residual_means("o", 1).responses == ("r1",)
    assert study.residual_means("o", 0).responses == ("r0", "r1")
    assert study.responses("j").select("aligned", "coherent").rows() == [(None, 3.0), (None, None)]
    assert study.scores("r0").rows() == [("j", "aligned", None, "raw"), ("j", "coherent", 3.0, "raw")]


def test_an_answer_without_tokens_has_no_mean(tmp_path):
    with Draft("s", tmp_path) as draft:
        fill(draft).add_traces([trace(n_answer=0), trace("r1")])
        draft.publish()
    study = open_study("s", tmp_path)
    assert study.residual_means("o", 0).responses == ("r1",)
    assert study.residual_means("o", 0, segment="prompt").responses == ("r0", "r1")


@pytest.mark.parametrize(
    ("message", "add"),
    [
        (r"the direction 'a\\x00b' cannot be named so", lambda d: d.add_directions([direction("a\0b")])),
        (r"the question '\\ud800' cannot be named so", lambda d: d.add_questions([Question("\ud800", "Q", "t")])),
        ("at most 1000 characters", lambda d: d.add_conditions([Condition("x" * 1001)])),
        ("table of directions cannot hold.*out of range", lambda d: d.add_directions([direction(layer=2**40)])),
        ("table of questions cannot hold.*surrogates", lambda d: d.add_questions([Question("q2", "\ud800", "t")])),
        ("table of lens cannot hold", lambda d: d.add_lens("v", 2**40, top=[("a", 1.0)], bottom=[])),
        ("responses do not fit", lambda d: d.add_responses([response("r2", text="\ud800")])),
        ("organism o was added twice", lambda d: d.add_organism("o", base="b", adapters=[], record={})),
        ("response r1 was added twice", lambda d: d.add_responses([response("r1")])),
        ("question q was added twice", lambda d: d.add_questions([Question("q", "Q", "t")])),
        ("score r0 / j / m was added twice", lambda d: d.add_scores([Score("r0", "j", "m", v) for v in (1.0, 2.0)])),
        ("adapter p / a", lambda d: d.add_organism("p", base="b", adapters=[adapter()] * 2, record={})),
        ("condition c was", lambda d: d.add_conditions([Condition("c")] * 2)),
        ("trace r0 / o was added twice", lambda d: d.add_traces([trace(), trace()])),
        ("direction v / 1", lambda d: d.add_directions([Direction("v", 1, np.ones(2, np.float32))] * 2)),
        ("score names the response 'x'", lambda d: d.add_scores([Score("x", "j", "m", 1.0)])),
        ("trace names the response 'x'", lambda d: d.add_traces([trace("x")])),
        ("by 'nobody'", lambda d: d.add_traces([trace(reader="nobody")])),
        (r"\(1, 5\)", lambda d: d.add_traces([trace(adapters=2)])),
        ("4 prompt and 2 answer tokens of 5", lambda d: d.add_traces([trace(n_prompt=4)])),
        ("one base a study", lambda d: d.add_traces([trace(), trace("r1", d=D + 1)])),
        ("norms", lambda d: d.add_traces([trace(answer_norm=np.ones(1, np.float32))])),
        ("add the trace first", lambda d: d.add_significance("r0", "o", np.ones(5))),
        ("its trace has 5 tokens", lambda d: d.add_traces([trace()]) or d.add_significance("r0", "o", np.ones(4))),
        ("metric cannot be named 'text'", lambda d: d.add_scores([Score("r0", "j", "text", 1.0)])),
        ("JSON", lambda d: d.meta(x=object()) or d.publish()),
        ("organism 'ghost'", lambda d: d.add_responses([response("g", organism="ghost")]) or d.publish()),
        ("condition 'ghost'", lambda d: d.add_responses([response("g", condition="ghost")]) or d.publish()),
        ("question 'ghost'", lambda d: d.add_responses([response("g", question_id="ghost")]) or d.publish()),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path, message, add):
    with pytest.raises(InputError, match=message), Draft("s", tmp_path) as draft:
        add(fill(draft))
    assert list_studies(tmp_path) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", ".hidden", "a\0b", "x\n"])
def test_names_that_are_no_folder_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="cannot name a study"):
        Draft(name, tmp_path)


def test_an_unwritable_place_fails_at_once(tmp_path):
    (tmp_path / "s").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="s cannot be written"), Draft("s", tmp_path):
        pytest.fail("entered")
    assert os.listdir(tmp_path) == ["s"]  # noqa: PTH208
