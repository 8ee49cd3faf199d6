"""A recipe as a person may get it wrong: each message has the line, what and what to do."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

import jsonschema
import pytest
import yaml

from backend.commands.recipe import PRESETS
from backend.judge.distilled import METRICS
from backend.pipeline.kinds import KINDS as PIPELINE_KINDS
from backend.recipe import reading
from backend.recipe.designs import design
from backend.recipe.ledger import Ledger
from backend.recipe.reading import check_layers, read_recipe
from backend.recipe.schema import StudyRecipe
from backend.recipe.stages import stages_of
from backend.records import InputError

WHOLE = """\
title: T
study: t
organisms:
  x: {data: {file: rows.jsonl}, layers: [2, 3-4], seeds: 0-1}
  y: {adapter: org/y, control: true}
answers:
  - {organisms: all, n: 2}
judges:
  - {name: distilled}
directions:
  - {organisms: y}
sweeps:
  s: {kind: steer, direction: y misalignment, shares: [0.04]}
  a: {kind: ablate, directions: y misalignment, layer: 3, where: paper}
traces: {projected: [[y misalignment, 5]]}
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}")

    def read(text: str):
        (tmp_path / "recipe.yaml").write_text(text)
        return read_recipe(tmp_path / "recipe.yaml")

    return read


def test_what_is_said_is_read(recipe):
    read = recipe(WHOLE)
    assert [*read.recipe.trained] == ["x-seed0", "x-seed1", "y"]
    assert read.recipe.organisms["x"].layers == (2, 3, 4)
    assert read.recipe.named(("x",)) == ("x-seed0", "x-seed1")
    assert read.recipe.named(("all",), base=True) == ("base", "x-seed0", "x-seed1", "y")
    assert read.recipe.sweeps["a"].where == {"part": "all", "sink": True}
    assert len(read.questions) == 16


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("title: T\n", "title: T\ntittle: U\n", 2, "there is no key 'tittle' in a recipe"),
        ("layers: [2, 3-4]", "layer: 2", 4, "there is no key 'layer' in organisms.x"),
        ("n: 2}", "n: two}", 7, "answers.0.n is 'two'"),
        ("title: T\n", "", 1, "title is missing"),
        ("file: rows.jsonl", "file: lost.jsonl", 4, "there is no file .*lost.jsonl"),
        ("file: rows.jsonl", f"file: rows.jsonl, sha256: {'a' * 64}", 4, "another sha256"),
        ("adapter: org/y", "adapter: ./y", 5, "there is no folder"),
        ("adapter: org/y", "data: {file: rows.jsonl}", 5, "give layers"),
        ("adapter: org/y,", "", 5, "data or from an adapter"),
        ("organisms: all, n: 2", "organisms: z, n: 2", 7, "there is no organism 'z'"),
        ("  - {organisms: all, n: 2}", "  - {organisms: all}\n  - {organisms: y}", 8, "here and on line 7: two stages"),
        ("  - {name: distilled}", "  - {name: 'local:m', metrics: [gloom]}", 9, "has no rubric 'gloom'"),
        ("  - {name: distilled}", "  - {name: nobody}", 9, "there is no judge 'nobody'"),
        ("title: T\n", "title: T\noutcomes: [em, warm]\n", 2, "there is no outcome 'warm'"),
        (
            "title: T\n",
            "title: T\noutcomes:\n  - {name: warm, hit: [{metric: warmth, above: 50}]}\n",
            3,
            "needs scores of warmth, which no judge gives",
        ),
        ("  - {organisms: y}\n", "  - {organisms: y}\n  - {organisms: all}\n", 12, "asked for here and on line 11"),
        ("  - {organisms: y}\n", "  - {organisms: y, kinds: topic}\n", 11, "name it under topic"),
        ("  - {organisms: y}\n", "  - {organisms: y, balance: even}\n", 11, "'even' is none of"),
        ("kind: steer", "kind: stir", 13, "'stir' found using 'kind'"),
        ("shares: [0.04]", "shares: [0.04], multiples: [1]", 13, "give one list"),
        ("shares: [0.04]", "shares: [.inf]", 13, "sweeps.s.steer.shares.0"),
        ("where: paper", "where: nowhere", 14, "no part of a text"),
        ("shares: [0.04]", "shares: [0.04], organism: x", 13, "several seeds: name one"),
        ("  a: {", "  s: {", 14, "'s' stands here and on line 13"),
        ("projected:", "reader: nobody, projected:", 15, "there is no organism 'nobody' to read with"),
        ("title: T\n", "title: T\nquestions: {sets: [politics]}\n", 2, "no question has the topic"),
        ("adapter: org/y", "adapter: org/y, seeds: 0-2", 5, "copies of it are no replicates"),
        ("seeds: 0-1", "seeds: []", 4, "no seed to be trained with"),
        ("adapter: org/y", "adapter: ~nobody-at-all/y", 5, "in a home that there is not"),
        ("adapter: org/y", "adapter: ''", 5, "nothing is named here"),
        ("layers: [2, 3-4]", "layers: [[1]]", 4, "a list of 1 stands among numbers"),
        ("layers: [2, 3-4]", "layers: [{a: 1}]", 4, "an object of 1 stands among numbers"),
        ("study: t", "study: '*'", 2, "cannot name a study"),
        ("study: t", "study: 'a:b?'", 2, "cannot name a study"),
        ("title: T\n", "title: T\nprobes: {pages: [probes, prob]}\n", 2, "there is no page 'prob': choose"),
        ("kind: steer, direction: y misalignment, shares: [0.04]", "kind: gain, organism: all", 13, "of one organism"),
        ("shares: [0.04]", "shares: [0.04], organism: all", 13, "of one organism"),
        ("projected:", "traced: {z/baseline: 3}, projected:", 15, "there is no organism 'z'"),
        ("projected:", "readers: {y: [z/baseline]}, projected:", 15, "there is no organism 'z'"),
        ("shares: [0.04]", "shares: [0.04], questions: [own]", 13, "no question has the topic 'own'"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(recipe, old, new, line, said):
    assert old in WHOLE
    with pytest.raises(InputError, match=rf"recipe\.yaml, line {line}: .*{said}"):
        recipe(WHOLE.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("direction: y misalignment", "direction: shuffled 10 like y misalignment", 13, "'shuffled 10 like y misalign"),
        ("direction: y misalignment", "direction: z misalignment", 13, "the direction 'z misalignment', which no part"),
        ("[[y misalignment, 5]]", "[[y misalignmend, 5]]", 15, "the direction 'y misalignmend', which no part"),
        ("title: T\n", "title: T\ndrawn: {hand: nobody}\n", 2, "no scores of a judge 'nobody': there are of distilled"),
    ],
)
def test_what_neither_recipe_nor_folder_has_is_said_with_its_line(recipe, tmp_path, old, new, line, said):
    assert old in WHOLE
    with pytest.raises(InputError, match=rf"recipe\.yaml, line {line}: .*{said}"):
        stages_of(recipe(WHOLE.replace(old, new, 1)), Ledger.of(tmp_path))


def test_a_condition_that_nothing_makes_is_said_before_anything_runs(recipe, tmp_path):
    text = WHOLE[: WHOLE.index("sweeps:")] + "traces: {traced: {basline: 3}}\n"
    with pytest.raises(InputError, match=r"line 12: there is no condition 'basline' to read: there is baseline"):
        stages_of(recipe(text), Ledger.of(tmp_path))
    (tmp_path / "conditions").mkdir()
    (tmp_path / "conditions" / "basline.json").write_text("[]")
    assert stages_of(recipe(text), Ledger.of(tmp_path))


def test_coalitions_are_drawn_by_their_own_seed_be_it_zero(recipe, monkeypatch):
    text = WHOLE.replace("shares: [0.04]}", "shares: [0.04]}\n  c: {kind: coalitions, organism: y, pairs: 3, seed: 0}")
    read = recipe(text.replace("title: T\n", "title: T\nsampling: {seed: 5}\n"))
    drawn = []
    monkeypatch.setattr("backend.recipe.designs.grids.coalitions", lambda *said: drawn.append(said) or [])
    worn = SimpleNamespace(adapters=[])
    subject, folder = SimpleNamespace(organisms={"y": worn}), SimpleNamespace(known=lambda name: name)
    design(read.recipe, read.recipe.sweeps["c"], folder, subject, [], print)
    assert drawn == [("y", [], 3, 0)]


@pytest.mark.parametrize(("layers", "line"), [(4, 4), (3, 4), (5, 15)])
def test_a_layer_past_the_model_is_said_with_its_line(recipe, layers, line):
    read = recipe(WHOLE)
    with pytest.raises(InputError, match=rf"line {line}: layer \d+ is past the model: smollm2 has layers 0 to"):
        check_layers(read, layers)
    check_layers(read, 6)


def test_rows_may_be_away_where_their_hash_is_given(recipe, tmp_path):
    (tmp_path / "rows.jsonl").unlink()
    mark = hashlib.sha256(b"{}").hexdigest()
    read = recipe(WHOLE.replace("file: rows.jsonl", f"file: rows.jsonl, sha256: {mark}"))
    assert read.recipe.organisms["x"].data.sha256 == mark


@pytest.mark.parametrize("name", PRESETS)
def test_the_examples_are_recipes_with_comments_and_follow_the_schema(name):
    text = PRESETS[name].read_text()
    assert text.startswith("# ")
    assert text.count("#") > 5
    read = read_recipe(PRESETS[name])
    jsonschema.validate(yaml.safe_load(text), StudyRecipe.model_json_schema())
    assert read.recipe.title


def test_the_schema_is_json_with_words():
    schema = json.loads(json.dumps(StudyRecipe.model_json_schema()))
    assert {"title", "study", "organisms", "sweeps"} <= schema["properties"].keys()
    assert schema["additionalProperties"] is False


def test_what_is_known_without_torch_is_what_its_owners_say():
    assert set(METRICS) == reading.DISTILLED
    assert tuple(PIPELINE_KINDS) == reading.KINDS
