"""Sweeps: paired seeds, resumed after a kill, and refused where they cannot run."""

import numpy as np
import pytest

from backend.analysis.conditions.baselines import unedited
from backend.edits import Add, Condition
from backend.pipeline import sweep as sweeping
from backend.pipeline import work
from backend.pipeline.folder import StudyFolder
from backend.pipeline.grids import Strengths, Taken, ablate_everywhere, steer, steer_controls
from backend.pipeline.sweep import Cell, Sweep, estimate, references, run_sweep
from backend.records import BASE, Direction, InputError, Question, Sampling
from tests.studies import tiny
from tests.studies.alone import sample_condition

QUESTIONS = (Question("bored", "hey", "first-plot"), Question("health", "ill?", "medical"))
SHORT = Sampling(max_new_tokens=5)


def stack(width=tiny.D_MODEL, layers=range(tiny.N_LAYERS), activation_norm=4.0, name="v"):
    drawn = np.random.default_rng(0).normal(size=(len(layers), width)).astype(np.float32)
    return [Direction(name, layer, vector, activation_norm) for layer, vector in zip(layers, drawn, strict=True)]


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return tiny.subject(organisms={"o": tiny.adapter(tmp_path_factory.mktemp("o") / "o")})


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Where what is answered waits."""
    monkeypatch.setattr(work, "WORK", tmp_path / "work")
    return tmp_path / "work"


def ran(subject, sweep, **options):
    with run_sweep(subject, sweep, **options) as answers:
        return answers


def cells():
    plain = [Cell("o", Condition("worn")), Cell(BASE, Condition("bare"))]
    return [*plain, *steer(stack(), Strengths((0.1, 0.3), share=True), layers=[2, 4])]


def sweep(name="s", n=3, **changes):
    return Sweep(name, tuple(changes.pop("cells", cells())), QUESTIONS, n, changes.pop("sampling", SHORT), **changes)


def test_a_mixed_batch_says_what_each_condition_says_alone(subject, tmp_path):
    answers = ran(subject, sweep(), batch=16)
    assert len(answers) == sweep().size == 6 * 2 * 3
    by_id = {answer.id: answer for answer in answers}
    for cell in cells():
        alone = sample_condition(subject, cell.organism, cell.condition, QUESTIONS, n=3, sampling=SHORT)
        for answer in alone:
            assert by_id[answer.id].answer_ids == answer.answer_ids
    first = [a for a in answers if a.condition == "worn"]
    assert [(a.question_id, a.seed) for a in first] == [(q.id, k) for q in QUESTIONS for k in range(3)]


def test_a_killed_sweep_goes_on_and_asks_nothing_twice(subject, place, monkeypatch):
    monkeypatch.setattr(sweeping, "PART", 4)
    whole = ran(subject, sweep("whole"), batch=8)
    asked = []
    sample = vars(sweeping)["sample"]

    def killed(subject, requests, *, batch):
        for count, answer in enumerate(sample(subject, requests, batch=batch)):
            if count == 14:
                raise KeyboardInterrupt
            yield answer

    def counted(subject, requests, *, batch):
        asked.extend(requests)
        return sample(subject, requests, batch=batch)

    monkeypatch.setattr(sweeping, "sample", killed)
    with pytest.raises(KeyboardInterrupt):
        ran(subject, sweep(), batch=8)
    [parts] = place.iterdir()
    assert parts.name.startswith("sweep-s-")
    monkeypatch.setattr(sweeping, "sample", counted)
    told = []
    resumed = ran(subject, sweep(), batch=8, progress=lambda *now: told.append(now))
    assert len(asked) == sweep().size - 14
    assert told[0] == (14, 36)
    assert told[-1] == (36, 36)
    assert [a.id for a in resumed] == [a.id for a in whole]
    assert [a.answer_ids for a in resumed] == [a.answer_ids for a in whole]
    assert not list(place.iterdir())


def test_answers_are_kept_until_the_block_has_put_them_where_they_stay(subject, place):
    with pytest.raises(RuntimeError), run_sweep(subject, sweep(n=1)):
        raise RuntimeError("the disk is full")
    told = []
    assert len(ran(subject, sweep(n=2), progress=lambda *now: told.append(now))) == sweep(n=2).size
    assert told[0] == (sweep(n=1).size, sweep(n=2).size), "more answers to the same go on from there"


def test_another_edit_is_another_sweep(subject, place):
    for each in (sweep(n=1), sweep(n=1, cells=steer(stack(), Strengths((2.0,)), layers=[2]))):
        with pytest.raises(RuntimeError), run_sweep(subject, each):
            raise RuntimeError
    assert len(list(place.iterdir())) == 2


def test_the_estimate_bounds_the_tokens(subject):
    found = estimate(subject, sweep(), batch=8)
    assert (found.answers, found.tokens) == (36, 180)
    assert found.seconds > 0


def test_unedited_answers_are_cut_to_the_sweeps_length(subject, tmp_path):
    long = Sampling(max_new_tokens=9)
    baselines = [
        answer
        for organism in ("o", BASE)
        for answer in sample_condition(subject, organism, Condition("baseline"), QUESTIONS, n=2, sampling=long)
    ]
    found, missing = references(subject, sweep(), baselines)
    assert not missing
    assert {answer.condition for answer in found} == {"baseline, 5 tokens"} == {sweep().unedited.name}
    assert sweep().unedited.tokens == 5
    short = sample_condition(subject, "o", Condition("baseline"), QUESTIONS, n=2, sampling=SHORT)
    cut = {(a.question_id, a.seed): a for a in found if a.organism == "o"}
    for answer in short:
        other = cut[answer.question_id, answer.seed]
        assert (other.answer_ids, other.text, other.finished) == (answer.answer_ids, answer.text, answer.finished)
    _, missing = references(subject, sweep(sampling=Sampling(max_new_tokens=10)), baselines)
    assert [(cell.organism, cell.condition.name) for cell in missing] == [
        ("o", "baseline, 10 tokens"),
        (BASE, "baseline, 10 tokens"),
    ]


def test_a_sweep_that_cannot_run_is_refused_before_it_starts(subject, place):
    def made(*cells, **changes):
        return Sweep("s", cells, QUESTIONS, 1, SHORT, **changes)

    far = Cell(BASE, Condition("far", (Add(stack(width=8, layers=[1])[0], 1.0),)))
    with pytest.raises(InputError, match="under 'far'"):
        ran(subject, made(far))
    with pytest.raises(InputError, match="nobody"):
        ran(subject, made(Cell("nobody", Condition("c"))))
    for name in ("../elsewhere", ".hidden", ""):
        with pytest.raises(InputError, match="cannot name a sweep"):
            sweep(name)
    with pytest.raises(InputError, match="asks nothing"):
        Sweep("s", (), QUESTIONS, 1, SHORT)
    with pytest.raises(InputError, match="twice"):
        made(far, far)
    with pytest.raises(InputError, match="two things"):
        made(
            Cell("o", Condition("c")),
            Cell(BASE, Condition("c", ablate_everywhere(stack()[0], BASE, Taken()).condition.edits)),
        )
    assert not place.exists()


def test_a_folder_keeps_a_sweep_with_directions_by_reference(tmp_path):
    (tmp_path / "study.json").write_text('{"title": "T", "base": "tiny"}')
    folder = StudyFolder(tmp_path)
    folder.add_directions(stack())
    made = [*steer(stack(), Strengths((1.0,)), layers=[2])]
    made += steer_controls(stack(), Strengths((1.0,)), layers=[2], random=(7,))
    made += steer(stack(name="elsewhere"), Strengths((1.0,)), layers=[3])
    conditions = [cell.condition for cell in made]
    file = folder.add_sweep("s", conditions, [], unedited=unedited(5), record={"kind": "steer"})
    text = file.read_text()
    assert text.count('"vector"') == 1  # the one that is not stored
    read = {condition.name: condition for condition in folder.conditions()}
    for condition in conditions:
        np.testing.assert_allclose(
            read[condition.name].edits[0].direction.vector, condition.edits[0].direction.vector, rtol=1e-6
        )
    assert read["baseline, 5 tokens"] == Condition("baseline, 5 tokens", tokens=5)
    folder.add_directions([Direction("v", 2, -stack()[2].vector)])
    with pytest.raises(InputError, match="holds otherwise now"):
        folder.conditions()
    (tmp_path / "directions" / "v.safetensors").unlink()
    with pytest.raises(InputError, match="does not hold"):
        folder.conditions()
    file.write_text("{}")
    with pytest.raises(InputError, match="is no sweep"):
        folder.conditions()


def test_a_sweep_whose_writing_was_killed_is_not_there(subject, tmp_path):
    """Its answers are written before the file that says what they are."""
    (tmp_path / "study.json").write_text('{"title": "T", "base": "tiny"}')
    folder = StudyFolder(tmp_path)
    answers = ran(subject, sweep())
    file = folder.add_sweep("s", sweep().conditions, answers, unedited=sweep().unedited, record={})
    assert {answer.id for answer in folder.responses()} == {answer.id for answer in answers}
    file.unlink()
    assert folder.responses() == []
    assert [condition.name for condition in folder.conditions()] == ["baseline"]
