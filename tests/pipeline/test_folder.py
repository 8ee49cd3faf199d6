"""A study folder reads what earlier commands wrote, and writes it again as it was."""

import json
import re

import pytest

from backend.analysis.conditions.baselines import unedited
from backend.analysis.conditions.controls import GOOD, ITSELF, RANDOM, SHUFFLED, SHUFFLED_OVER_ALL, SUBSPACE, roles
from backend.edits import edits_to_json
from backend.pipeline.folder import Stored, StudyFolder, _referred
from backend.records import InputError, Response, Sampling
from tests.studies.demo import DEMO

NAMED = re.compile(r"(random subspace|random|shuffled)(?: \d+)? like (.+)")
KINDS = {"random subspace": SUBSPACE, "random": RANDOM, "shuffled": SHUFFLED_OVER_ALL}


def named_role(name):
    """What earlier programs read from a name."""
    found = NAMED.fullmatch(name)
    if found:
        return KINDS[found[1]], found[2]
    return GOOD if name.startswith("good-") else ITSELF, name


def test_every_direction_of_the_demo_stands_for_what_its_name_says():
    folder = StudyFolder(DEMO)
    conditions = folder.conditions()
    held = [direction for stack in folder.directions().values() for direction in stack]
    held += [direction for condition in conditions for edit in condition.edits for direction in edit.directions]
    origins = {direction.name: direction.origin for direction in held}
    assert folder.controls == ("good-medical",)
    found = roles(origins, folder.controls)
    for name, each in found.items():
        kind, like = named_role(name)
        late = name.endswith((", matched", " upper", " gloom"))
        within = late and kind == SHUFFLED_OVER_ALL  # what a name alone stood for, before origins said more
        assert (each.kind, each.like) == (SHUFFLED if within else kind, like), name
    assert {each.kind for each in found.values()} == {ITSELF, GOOD, RANDOM, SUBSPACE, SHUFFLED, SHUFFLED_OVER_ALL}


def rounded(said):
    """Its numbers to six digits: the norm of a rescaled vector is that of float32."""
    return json.loads(json.dumps(said), parse_float=lambda text: float(f"{float(text):.6g}"))


def test_the_demos_sweeps_are_written_again_as_they_were_read():
    folder = StudyFolder(DEMO)
    stored = Stored(folder)
    for name, sweep in folder.sweeps().items():
        said = json.loads((DEMO / "sweeps" / f"{name}.json").read_text())
        again = {c.name: edits_to_json(c.edits, lambda d: _referred(d, stored)) for c in sweep.conditions if c.edits}
        assert rounded(again) == rounded({name: edits for name, edits in said["conditions"].items() if edits})
        assert sweep.unedited == unedited(said["sampling"]["max_new_tokens"])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "study.json").write_text('{"title": "T", "base": "tiny", "controls": []}')
    return StudyFolder(tmp_path)


@pytest.mark.parametrize(("declared", "says"), [('"nobody"', "must be a list"), ('["nobody"]', "'nobody': there is")])
def test_a_control_must_be_an_organism(folder, declared, says):
    assert folder.controls == ()
    (folder.path / "study.json").write_text(f'{{"title": "T", "base": "tiny", "controls": {declared}}}')
    with pytest.raises(InputError, match=says):
        _ = folder.controls


def answer(condition):
    how = Sampling(max_new_tokens=5)
    return Response("i", "base", condition, "q", "q?", "t", 0, "yes", (1,), (2,), True, how)


def test_sweeps_share_the_unedited_answers_and_no_others(folder):
    plain = unedited(5)
    for name in ("a", "b"):
        folder.add_sweep(name, [], [answer(plain.name)], unedited=plain, record={})
    assert folder.responses() == [answer(plain.name)]
    for name in ("a", "b"):
        folder.add_sweep(name, [], [answer("edited")], unedited=plain, record={})
    with pytest.raises(InputError, match="another file does too"):
        folder.responses()
