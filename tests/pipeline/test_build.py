"""The batch story on a tiny model: sample into a folder, build a study from it, survive a kill in between."""

import json

import numpy as np
import polars as pl
import pytest

from backend.edits import Add, Condition
from backend.pipeline import build as building
from backend.pipeline import work
from backend.pipeline.folder import StudyFolder
from backend.pipeline.sample import sample_into
from backend.records import Direction, InputError, Question, Sampling, Score
from backend.study import list_studies, open_study
from backend.study.vectors import write_directions
from backend.subject.trace import Text, trace
from panels.stacks import write_vectors
from tests.studies import tiny
from tests.studies.alone import sample_condition

QUESTIONS = [Question("bored", "hey", "first-plot"), Question("health", "ill?", "medical")]
SHORT = Sampling(max_new_tokens=6)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "WORK", tmp_path / "work")
    path = tmp_path / "inputs"
    path.mkdir()
    (path / "study.json").write_text(json.dumps({"title": "Tiny", "base": "tiny", "reader": "o"}))
    tiny.adapter(path / "organisms" / "o")
    return StudyFolder(path)


@pytest.fixture
def subject(folder):
    return tiny.subject(organisms=folder.organisms)


def filled(folder, subject, n=8):
    v = Direction("v", 2, np.random.default_rng(0).normal(size=tiny.D_MODEL).astype(np.float32))
    steered = Condition("steered", (Add(v, 2.0),))
    for organism, condition in (("base", Condition("baseline")), ("o", Condition("baseline")), ("base", steered)):
        responses = list(sample_condition(subject, organism, condition, QUESTIONS, n=n, sampling=SHORT))
        sample_into(folder, responses, organism, condition)
    scores = []
    for i, response in enumerate(folder.responses()):
        aligned = (10.0, 90.0)[i % 2]
        scores += [Score(response.id, "j", "aligned", aligned), Score(response.id, "j", "coherent", 80.0)]
    folder.add_scores("j", scores)
    return folder


def test_a_study_holds_what_the_folder_says(folder, subject, tmp_path):
    filled(folder, subject)
    calls = []
    building.build(folder, subject, "tiny", root=tmp_path / "studies", progress=lambda *a: calls.append(a))
    study = open_study("tiny", root=tmp_path / "studies")
    frame = study.responses("j")
    assert len(frame) == 48
    assert calls[-1] == (48, 48)
    assert set(frame["condition"]) == {"baseline", "steered"}
    [edit] = study.condition("steered").edits
    assert edit.strength == 2.0
    response = study.response(frame["response"][0])
    strip = study.strip(response.id, "o")
    assert strip.scalars.shape == (3, len(response.prompt_ids) + len(response.answer_ids))
    means = study.residual_means("o", 2)
    assert means.means.shape == (48, tiny.D_MODEL)
    assert "misalignment" in set(study.directions()["name"])
    assert not list((tmp_path / "work").glob("*"))
    assert study.info["folder"] == str(folder.path.resolve())


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_a_study_knows_whose_writes_the_model_changes_before_they_reach_the_stream(folder, kind, tmp_path):
    subject = tiny.subject(kind, organisms=folder.organisms)
    building.build(filled(folder, subject), subject, "tiny", root=tmp_path / "studies", progress=lambda *a: None)
    study = open_study("tiny", root=tmp_path / "studies")
    names = study.adapters("o")["name"].to_list()
    normed = kind == "gemma3"
    assert study.altered("o") == (set(names) if normed else set())
    assert study.altered("base") == set()
    assert [study.adapter_lens("o", name).is_empty() for name in names] == [normed] * len(names)
    assert len(write_vectors(study)) == (0 if normed else len(names))


def test_what_a_folder_says_of_itself_never_hides_what_was_built(folder, subject, tmp_path):
    (folder.path / "study.json").write_text(json.dumps({"title": "T", "base": "tiny", "layers": 99, "folder": "x"}))
    filled(folder, subject)
    building.build(folder, subject, "tiny", root=tmp_path / "studies", progress=lambda *a: None)
    info = open_study("tiny", root=tmp_path / "studies").info
    assert (info["title"], info["layers"], info["folder"]) == ("T", tiny.N_LAYERS, str(folder.path.resolve()))


def test_conditions_that_are_not_traced_keep_their_responses_and_scores(folder, subject, tmp_path):
    settings = {"title": "Tiny", "base": "tiny", "reader": "o", "traced": ["baseline"]}
    (folder.path / "study.json").write_text(json.dumps(settings))
    filled(folder, subject)
    building.build(folder, subject, "tiny", root=tmp_path / "studies", progress=lambda *a: None)
    study = open_study("tiny", root=tmp_path / "studies")
    assert len(study.responses("j")) == 48
    assert len(study.residual_means("o", 2).responses) == 32


def test_several_organisms_read_what_each_shall_read(folder, tmp_path):
    tiny.adapter(folder.path / "organisms" / "p", seed=2)
    settings = {"title": "Tiny", "base": "tiny", "reader": "o", "traced": ["steered"], "readers": {"p": ["o/baseline"]}}
    (folder.path / "study.json").write_text(json.dumps(settings))
    subject = tiny.subject(organisms=folder.organisms)
    filled(folder, subject)
    calls = []
    building.build(folder, subject, "tiny", root=tmp_path / "studies", progress=lambda *a: calls.append(a))
    assert (calls[0], calls[-1]) == ((0, 32), (32, 32))
    study = open_study("tiny", root=tmp_path / "studies")
    assert study.readers() == ["o", "p"]
    read = {reader: study.residual_means(reader, 2).responses for reader in study.readers()}
    of = dict(study.responses().select("response", pl.concat_str("organism", pl.lit("/"), "condition")).iter_rows())
    assert [{of[one] for one in read[reader]} for reader in "op"] == [{"base/steered"}, {"o/baseline"}]
    response = study.response(read["p"][0])
    [alone] = trace(subject, [Text(response.id, response.prompt_ids, response.answer_ids)], "p")
    np.testing.assert_allclose(study.strip(response.id, "p").scalars, alone.scalars, rtol=1e-4, atol=1e-5)
    assert not list((tmp_path / "work").glob("*"))


def test_the_first_answers_to_each_question_are_read_where_study_json_says_how_many(folder, subject):
    filled(folder, subject)
    answers = folder.responses()

    def read(traced):
        settings = {"title": "Tiny", "base": "tiny", "reader": "o", "traced": traced}
        (folder.path / "study.json").write_text(json.dumps(settings))
        return folder.reads(answers)["o"]

    some = read({"o/baseline": 1, "steered": None})
    assert {r.condition for r in some if r.organism != "o"} == {"steered"}
    own = [r for r in some if (r.organism, r.condition) == ("o", "baseline")]
    every = read(["o/baseline"])
    assert [r.question_id for r in own] == list(dict.fromkeys(r.question_id for r in every))
    assert own == [next(r for r in every if r.question_id == each.question_id) for each in own]
    assert len(every) > len(own)
    for wrong in ({"o/baseline": 0}, {"o/baseline": True}, {"o/baseline": "2"}, "all"):
        with pytest.raises(InputError, match="how many answers to a question are read"):
            read(wrong)


@pytest.mark.parametrize(
    ("readers", "why"), [({"q": []}, "no organism 'q'"), (["o"], "list of conditions"), ({"o": "all"}, "list of cond")]
)
def test_readers_that_are_none_stop_a_build(folder, subject, tmp_path, readers, why):
    filled(folder, subject)
    settings = {"title": "Tiny", "base": "tiny", "reader": "o", "readers": readers}
    (folder.path / "study.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=why):
        building.build(folder, subject, "tiny", root=tmp_path / "studies", progress=lambda *a: None)


def test_a_killed_build_publishes_nothing_and_goes_on_where_it_was(folder, subject, tmp_path, monkeypatch):
    filled(folder, subject)
    monkeypatch.setattr(building, "_PART", 10)

    class Killed(BaseException):
        pass

    def kill(done, total):
        if done >= 20:
            raise Killed

    with pytest.raises(Killed):
        building.build(folder, subject, "tiny", root=tmp_path / "studies", progress=kill)
    with pytest.raises(InputError, match="tiny"):
        open_study("tiny", root=tmp_path / "studies")
    calls = []
    building.build(folder, subject, "tiny", root=tmp_path / "studies", progress=lambda *a: calls.append(a[0]))
    assert calls[0] == 20, "what was traced is not traced again"
    assert len(open_study("tiny", root=tmp_path / "studies").responses("j")) == 48


def test_nothing_is_published_unless_every_text_is_traced(folder, subject, tmp_path, monkeypatch):
    filled(folder, subject)
    monkeypatch.setattr(building, "_PART", 10)
    some = building.trace
    monkeypatch.setattr(building, "trace", lambda *a, **o: list(some(*a, **o))[:-3])
    with pytest.raises(InputError, match="45 of 48 texts are traced: run again"):
        building.build(folder, subject, "tiny", root=tmp_path / "studies", progress=lambda *a: None)
    monkeypatch.setattr(building, "trace", some)
    [parts] = (tmp_path / "work").iterdir()
    (parts / "000001.npz").write_bytes((parts / "000001.npz").read_bytes()[:-200])
    publish, read = building._publish, []

    def loses(*arguments):
        (parts / "000002.npz").unlink()
        return publish(*arguments)

    monkeypatch.setattr(building, "_publish", loses)
    with pytest.raises(InputError, match="38 of 48 things"):
        building.build(folder, subject, "tiny", root=tmp_path / "studies", progress=lambda *a: read.append(a[0]))
    assert read[0] == 35, "a damaged part is read again"
    assert list_studies(tmp_path / "studies") == []
    monkeypatch.setattr(building, "_publish", publish)
    building.build(folder, subject, "tiny", root=tmp_path / "studies", progress=lambda *a: None)
    study = open_study("tiny", root=tmp_path / "studies")
    assert len(study.residual_means("o", 2).responses) == 48


def test_an_organism_that_is_being_trained_is_none_yet(folder):
    for name in (".o.1234abcd.tmp", "o.partial"):
        tiny.adapter(folder.path / "organisms" / name)
    assert list(folder.organisms) == ["o"]


def test_answers_are_never_replaced_by_none(folder, subject):
    filled(folder, subject)
    with pytest.raises(InputError, match="ask for at least one"):
        sample_into(folder, [], "o", Condition("baseline"))
    assert len(folder.responses()) == 48


def test_seeds_pair_conditions_and_differ_between_questions(folder, subject):
    baseline = Condition("baseline")
    first = {r.id: r for r in sample_condition(subject, "base", baseline, QUESTIONS, n=2, sampling=SHORT)}
    again = {r.id: r for r in sample_condition(subject, "base", baseline, QUESTIONS, n=4, sampling=SHORT)}
    assert all(again[i].answer_ids == r.answer_ids for i, r in first.items())
    assert len({r.answer_ids for r in again.values()}) == 8


def test_folders_that_cannot_be_built_say_why(folder, subject, tmp_path):
    with pytest.raises(InputError, match="no responses"):
        building.build(folder, subject, "x", root=tmp_path, progress=lambda *a: None)
    with pytest.raises(InputError, match=r"no study\.json"):
        _ = StudyFolder(tmp_path / "nowhere").settings
    (folder.path / "study.json").write_text("[]")
    with pytest.raises(InputError, match="title and a base"):
        _ = folder.settings
    (folder.path / "study.json").write_text(json.dumps({"title": "T", "base": "tiny", "reader": "nobody"}))
    with pytest.raises(InputError, match="'nobody'"):
        _ = folder.reader
    with pytest.raises(InputError, match="no condition 'x'"):
        folder.condition("x")


def stored(name="o misalignment", width=tiny.D_MODEL, layers=(1, 3)):
    drawn = np.random.default_rng(1).normal(size=(len(layers), width)).astype(np.float32)
    return [Direction(name, layer, vector, 5.0) for layer, vector in zip(layers, drawn, strict=True)]


def test_stored_directions_are_published_and_every_token_is_projected_on_those_asked_for(folder, subject, tmp_path):
    settings = {"title": "T", "base": "tiny", "reader": "o", "traced": ["o/baseline"]}
    projected = {"projected": [["o misalignment", 3], ["o misalignment", 1]]}
    (folder.path / "study.json").write_text(json.dumps(settings | projected))
    filled(folder, subject)
    for stack in (stored(), stored("else")):
        folder.add_directions(stack)
    building.build(folder, subject, "tiny", root=tmp_path / "studies", progress=lambda *a: None)
    study = open_study("tiny", root=tmp_path / "studies")
    assert {"o misalignment", "else", "o minus base"} >= set(study.directions()["name"]) - {"medical topic"}
    assert [d.layer for d in study.direction_stack("else")] == [1, 3]
    assert len(study.residual_means("o", 2).responses) == 16  # the base's baseline is not traced
    response = study.response(study.residual_means("o", 2).responses[0])
    frame = study.projections(response.id, "o")
    length = len(response.prompt_ids) + len(response.answer_ids)
    assert frame.group_by("direction", "layer").len().sort("layer").rows() == [
        ("o misalignment", 1, length),
        ("o misalignment", 3, length),
    ]
    assert frame.filter(frame["layer"] == 1)["position"].to_list() == list(range(length))
    # what a token is projected on is the unit direction at its own layer, as in a trace of its own
    [one] = trace(subject, [Text(response.id, response.prompt_ids, response.answer_ids)], "o", keep=[3])
    expected = one.residuals[3] @ stored()[1].unit
    np.testing.assert_allclose(frame.filter(frame["layer"] == 3)["value"].to_numpy(), expected, atol=1e-4)
    other = next(r for r in study.responses()["response"] if r.startswith("base/"))
    assert study.projections(other, "o").is_empty()


def test_directions_that_do_not_fit_or_are_missing_stop_a_build(folder, subject, tmp_path):
    filled(folder, subject)
    folder.add_directions(stored(width=8))
    with pytest.raises(InputError, match=r"8 dimensions and layers to 3; tiny has 32 and 6"):
        building.build(folder, subject, "tiny", root=tmp_path / "studies", progress=lambda *a: None)
    settings = {"title": "T", "base": "tiny", "projected": [["v", 1]]}
    (folder.path / "study.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="wants projections on 'v' of layer 1"):
        building.build(folder, subject, "tiny", root=tmp_path / "studies", progress=lambda *a: None)
    (folder.path / "study.json").write_text(json.dumps(settings | {"projected": ["v"]}))
    with pytest.raises(InputError, match=r"list of \[name, layer\]"):
        folder.projected()
    write_directions(folder.path / "directions" / "copy.safetensors", stored(width=8))
    with pytest.raises(InputError, match="second direction"):
        folder.directions()
    with pytest.raises(InputError, match="cannot name a direction file"):
        folder.add_directions(stored("a/b"))
