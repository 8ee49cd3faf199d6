"""Wrong names, odd names, nothing at all, damaged files: a study answers with the truth or with what to do."""

import pickle
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import pytest

from backend.edits import Ablate, Add, Condition
from backend.records import Direction, InputError, Question, Response, Score, Trace
from backend.study import Draft, list_studies, open_study
from tests.studies import synthetic
from tests.studies.synthetic import ADAPTERS, JUDGE, ORGANISM

ROOT = Path(__file__).resolve().parents[2]
NASTY = 'it\'s "quoted"; DROP TABLE responses; -- $1 ? %s {x} ü 日本 \\ \t'


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.adapters("x"), "organism 'x'.*base, bad-medical"),
        (lambda s: s.adapter(ORGANISM, "x"), r"adapter of 'bad-medical' 'x'.*layers\.1"),
        (lambda s: s.condition("x"), "condition 'x'.*baseline, steered, ablated"),
        (lambda s: s.responses("x"), "judge 'x'.*distilled"),
        (lambda s: s.response("x"), "no response 'x'"),
        (lambda s: s.strip("base.baseline.wish.0", "base"), "'base' has not read.*bad-medical"),
        (lambda s: s.scalar_tokens(ORGANISM, ADAPTERS, segment="x"), "segment 'x'.*prompt, answer, all"),
        (lambda s: s.scalar_tokens(ORGANISM, ADAPTERS, responses=["x"]), "no response 'x'"),
        (lambda s: s.residual_means(ORGANISM, 99), "layer 99"),
        (lambda s: s.residual_means(ORGANISM, 1, segment="all"), "'prompt' and 'answer'"),
        (lambda s: s.direction("x", 1), "direction 'x'.*medical, misalignment"),
        (lambda s: s.direction("medical", 99), "layer of the direction 'medical' 99"),
        (lambda s: s.direction("x'; DROP TABLE directions; --", 1), "there is no direction"),
        (lambda s: s.direction("\0\ud800", 1), r"there is no direction '\\x00\\ud800'"),
        (lambda s: s.direction("x" * 10_000, 1), "there is no direction 'x{199}…"),
        (lambda s: s.response("x" * 10_000), "no response 'x{199}…"),
    ],
)
def test_a_wrong_name_raises_with_the_right_ones(study, ask, message):
    with pytest.raises(InputError, match=message):
        ask(study)


def test_any_text_is_a_name(tmp_path):
    vector = np.ones(2, np.float32)
    with Draft("s", tmp_path) as draft:
        draft.meta(title=NASTY)
        draft.add_organism(NASTY, base=NASTY, adapters=[], record={NASTY: NASTY})
        draft.add_questions([Question(NASTY, NASTY, NASTY)])
        draft.add_conditions([Condition(NASTY, (Ablate(Direction(NASTY, 0, vector)),))])
        draft.add_responses([Response(NASTY, NASTY, NASTY, NASTY, NASTY, NASTY, 1, NASTY)])
        draft.add_scores([Score(NASTY, NASTY, NASTY, 7.0, NASTY)])
        draft.add_directions([Direction(NASTY, 0, vector)])
        draft.publish()
    study = open_study("s", tmp_path)
    assert study.info["title"] == NASTY
    assert study.responses(NASTY)[NASTY].to_list() == [7.0]
    assert study.response(NASTY).text == NASTY
    assert study.scores(NASTY)["raw"].to_list() == [NASTY]
    assert study.condition(NASTY).edits[0].direction.name == NASTY
    assert study.direction(NASTY, 0).name == NASTY
    assert study.organisms()["organism"].to_list() == [NASTY]


def test_an_empty_study_reads_as_empty(tmp_path):
    with Draft("s", tmp_path) as draft:
        draft.add_organism("o", base="b", adapters=synthetic.adapters(), record={})
        draft.publish()
    study = open_study("s", tmp_path)
    for frame in (study.questions(), study.conditions(), study.responses(), study.directions()):
        assert frame.is_empty()
        assert frame.columns
    assert study.judges() == study.readers() == study.residual_layers("o") == []
    assert study.info == {}
    assert study.scalar_tokens("o", ADAPTERS).values.shape == (0, 9)
    assert study.scalar_summary("o").is_empty()
    assert study.top_tokens("o", ADAPTERS[0]).is_empty()
    assert study.residual_means("o", 3).means.shape[0] == 0
    assert study.activation_norm("o").shape == (0,)
    with pytest.raises(InputError, match="significance"):
        study.scalar_tokens("o", ADAPTERS, min_significance=0.5)


def test_an_absent_study_names_what_there_is(root, tmp_path):
    with pytest.raises(InputError, match=r"no study 'demo'.*synthetic.*build --folder YOUR-FOLDER --name demo"):
        open_study("demo", root)
    with pytest.raises(InputError, match="none yet"):
        open_study("demo", tmp_path / "nowhere")
    for name in ("../demo", "a\0b", "ü" * 101, ""):
        with pytest.raises(InputError, match="cannot name a study"):
            open_study(name, root)
    assert list_studies(root) == ["synthetic"]
    assert list_studies(tmp_path / "nowhere") == []


def foreign(path):
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE t (x INTEGER)")


def other_format(path):
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE meta (key TEXT, value TEXT); INSERT INTO meta VALUES ('format', '99')")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"SQLite format 3\0" + b"\0" * 20_000),
        lambda path: path.write_bytes(np.random.default_rng(0).bytes(30_000)),
        lambda path: path.mkdir(),
        foreign,
        other_format,
    ],
)
def test_a_file_that_is_no_study_says_what_to_do(tmp_path, damage):
    (tmp_path / "s").mkdir()
    damage(tmp_path / "s" / "20260101.duckdb")
    with pytest.raises(
        InputError, match=r"20260101\.duckdb cannot be read.*Delete.*build --folder YOUR-FOLDER --name s"
    ):
        open_study("s", tmp_path)


def test_a_truncated_copy_is_noticed(root, tmp_path):
    content = open_study("synthetic", root).path.read_bytes()
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "1.duckdb").write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(InputError, match="cannot be read"):
        open_study("s", tmp_path)


def ask_everything(study):
    """What a study answers to every question of all its parts, as bytes."""
    said = [study.info, study.organisms(), study.questions(), study.directions(), study.directions_near(3)]
    said += [study.condition(name) for name in study.conditions()["name"]]
    said += [study.responses(judge) for judge in (None, *study.judges())]
    last = said[-1]["response"][-1]
    said += [study.response(last), study.scores(last)]
    for organism in study.organisms()["organism"]:
        names = study.adapters(organism)["name"].to_list()
        said += [ask(organism, name) for name in names for ask in (study.adapter, study.adapter_lens)]
    for name in sorted(set(study.directions()["name"])):
        said += [study.direction_stack(name), study.lens(name, 3)]
    for reader in study.readers():
        said += [study.readings(reader), study.activation_norm(reader)]
        said += [study.strip(last, reader), study.projections(last, reader)]
        said += [study.residual_means(reader, layer) for layer in study.residual_layers(reader)]
    said += [study.scalar_summary(ORGANISM), study.scalar_tokens(ORGANISM, ADAPTERS, segment="all")]
    said += [study.scalar_tokens(ORGANISM, ADAPTERS[:1], min_significance=0.5)]
    said += [ask(ORGANISM, name) for name in ADAPTERS for ask in (study.scalar_column, study.top_tokens)]
    said += [study.scalar_statistic(ORGANISM, ADAPTERS, "max"), study.scalar_shares(ORGANISM, ADAPTERS, 0.5)]
    return pickle.dumps(said)


def small_study(root):
    """A study with something in every table, of few responses."""
    random = np.random.default_rng(0)
    with Draft("s", root) as draft:
        draft.meta(title="small")
        draft.add_organism(ORGANISM, base="base", adapters=synthetic.adapters(), record={})
        draft.add_questions([Question("q", "?", "t")])
        draft.add_conditions([Condition("steered", (Add(synthetic.directions("medical")[3], 2.0),))])
        names = [f"r{i}" for i in range(40)]
        draft.add_responses(Response(name, ORGANISM, "baseline", "q", "?", "t", 0, "text") for name in names)
        draft.add_scores(Score(name, JUDGE, "aligned", 50.0) for name in names)
        for name in names:
            draft.add_traces([small_trace(name, random)])
            draft.add_significance(name, ORGANISM, random.normal(size=20))
            draft.add_projections(name, ORGANISM, [("medical", 3)], random.normal(size=(1, 20)))
        draft.add_directions(synthetic.directions("medical"))
        draft.add_lens("medical", 3, top=[("a", 1.0)], bottom=[])
        draft.publish()
    return open_study("s", root)


def small_trace(name, random):
    prompt, answer = random.normal(size=(2, 4, 8)).astype(np.float32)
    scalars = random.normal(size=(len(ADAPTERS), 20)).astype(np.float32)
    return Trace(name, ORGANISM, ("t",) * 20, 5, scalars, prompt, answer, 14, np.ones(4, np.float32))


def test_flipped_bytes_are_noticed_or_harmless_wherever_they_are(tmp_path):
    """Headers, catalogue and blocks: what comes back is the whole truth, or an InputError, and soon."""
    whole = small_study(tmp_path)
    truth = ask_everything(whole)
    assert truth == ask_everything(open_study("s", tmp_path))
    content = whole.path.read_bytes()
    random = np.random.default_rng(1)
    refused = 0
    for at in (*random.integers(0, 3 * 4096, 15), *random.integers(3 * 4096, len(content), 45)):
        flipped = bytearray(content)
        flipped[at] ^= int(random.integers(1, 256))
        (tmp_path / "flipped").mkdir()  # a new one each time: the old file may still be open
        (tmp_path / "flipped" / "1.duckdb").write_bytes(flipped)
        started = time.monotonic()
        try:
            said = ask_everything(open_study("flipped", tmp_path))
        except InputError as error:
            said, refused = truth if "cannot be read as a study" in str(error) else error, refused + 1
        assert said == truth, at
        assert time.monotonic() - started < 30, at
        shutil.rmtree(tmp_path / "flipped")
    assert refused >= 15  # headers at least; a block may be of no use to anyone


def test_many_threads_read_one_study(root):
    study = open_study("synthetic", root)
    ids = study.responses()["response"].to_list()
    expected = {name: study.strip(name, ORGANISM).scalars for name in ids[:40]}
    summary = study.scalar_summary(ORGANISM, ADAPTERS[:2])
    fresh = open_study("synthetic", root)

    def read(number):
        name = ids[number % 40]
        match number % 3:
            case 0:
                return np.array_equal(fresh.strip(name, ORGANISM).scalars, expected[name])
            case 1:
                return fresh.response(name).id == name
            case _:
                return fresh.scalar_summary(ORGANISM, ADAPTERS[:2]).equals(summary)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(120)))


def test_a_study_cannot_reach_other_files(study):
    with pytest.raises(InputError, match="disabled"):
        study._query("SELECT * FROM read_text('/etc/hostname')")


UNTIL_THE_END = """
import sys, threading, time
from pathlib import Path
from backend.records import InputError
from backend.study import open_study

def ask_for_ever(study):
    started.set()
    try:
        while True:
            study._query("SELECT sum(i * i) FROM range(100000000) t(i)")
    except InputError as error:
        print(error)
    while True:
        time.sleep(1)

started = threading.Event()
study = open_study("synthetic", Path(sys.argv[1]))
threading.Thread(target=ask_for_ever, args=(study,), daemon=True).start()
started.wait()
time.sleep(0.2)
"""


def test_a_process_that_ends_while_a_thread_asks_ends_as_it_should(root):
    done = subprocess.run(
        [sys.executable, "-c", UNTIL_THE_END, str(root)], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "study 'synthetic' is closed: open it again\n"


def test_a_study_that_is_closed_says_so(root):
    study = open_study("synthetic", root)
    study.close()
    study.close()
    with pytest.raises(InputError, match="study 'synthetic' is closed"):
        study.responses()
