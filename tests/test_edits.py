"""Edits survive JSON, say what they do, and one that nobody knows needs its own class alone."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from backend.analysis.conditions.describe import describe
from backend.edits import (
    Ablate,
    AblateWrite,
    Add,
    Condition,
    Edit,
    EditRow,
    Gain,
    amount,
    edits_from_json,
    edits_to_json,
)
from backend.pipeline.folder import StudyFolder
from backend.records import Direction, InputError, Sampling
from backend.subject.edits import Sums, compile_edit, compile_row
from backend.worker.protocol import Arm, generation_from_json, generation_to_json
from tests.studies import tiny

V = Direction("v", 3, np.array([3.0, -4.0], np.float32), 20.0, {"n": 7})
EDITS = (
    Add(V, 1.5),
    Add(V, -2.0, (1, 2), answer_only=True),
    Ablate(V),
    Ablate(V, (4,), answer_only=True),
    AblateWrite(V, "o"),
    Gain("o", 0.5, ("layers.1.mlp.down_proj",)),
    Gain("o", 1.0),
)


@dataclass(frozen=True, eq=False)
class Mirror(Edit, kind="mirror"):
    """x - 2 v v.x of one organism: an edit that no other file knows."""

    along: Direction
    organism: str
    layers: tuple[int, ...] | None = None
    softly: bool = False

    @property
    def row(self):
        return EditRow("mirror", self.along.name, self.layers or ())

    @property
    def words(self):
        return f"mirror along {self.along.name}"

    @property
    def organisms(self):
        return (self.organism,)


def test_edits_survive_json():
    back = edits_from_json(json.loads(json.dumps(edits_to_json(EDITS))))
    assert [type(edit) for edit in back] == [type(edit) for edit in EDITS]
    for one, other in zip(EDITS, back, strict=True):
        for name in ("strength", "layers", "answer_only", "organism", "factor", "adapters"):
            assert getattr(one, name, None) == getattr(other, name, None)
    np.testing.assert_array_equal(back[0].direction.vector, V.vector)
    assert back[0].direction.provenance == {"n": 7}


def test_the_stored_form_is_that_of_earlier_files():
    keys = {"add": ["direction", "strength", "layers"], "ablate": ["direction", "layers"]}
    keys |= {"ablate_write": ["direction", "organism"], "gain": ["organism", "factor", "adapters"]}
    for edit in EDITS:
        said = edit.to_json()
        flag = ["answer_only"] if not edit.at_prompt else []
        assert list(said) == ["kind", *keys[said["kind"]], *flag]
    assert Ablate(V).to_json()["layers"] is None
    assert Gain("o", 1.0).to_json() == {"kind": "gain", "organism": "o", "factor": 1.0, "adapters": None}


@pytest.mark.parametrize(
    "value", [{"kind": "shout"}, {"kind": "add"}, {}, 7, {"kind": "ablate_write", "organism": "o"}, {"kind": ["add"]}]
)
def test_malformed_edits_are_named(value):
    with pytest.raises(InputError, match="edit 0"):
        edits_from_json([value])


def test_numbers_that_are_none_are_refused():
    for wrong in (lambda: Add(V, float("nan")), lambda: Gain("o", float("inf"))):
        with pytest.raises(InputError):
            wrong()


def test_a_strength_is_said_in_both_units():
    direction = Direction("d", 3, np.array([3.0, 4.0], dtype=np.float32), activation_norm=20)
    assert amount(direction, 2) == "λ 2.00 × ‖v‖ 5.00 = 10.00, 50% of the mean activation norm at layer 3"
    unknown = Direction("d", 3, np.array([3.0, 4.0], dtype=np.float32))
    assert "unknown" in amount(unknown, 2)


def test_every_edit_has_words_that_name_what_it_does():
    direction = Direction("d", 3, np.ones(2, dtype=np.float32))
    assert Add(direction, 2).words.startswith("add d of layer 3 after block 3: λ 2.00")
    assert "after 4 blocks, 0 to 3" in Add(direction, 2, (0, 1, 2, 3)).words
    assert Ablate(direction).words == "ablate d of layer 3 after every block"
    assert Ablate(direction, (3,)).words == "ablate d of layer 3 after block 3"
    assert Ablate(direction, (3,), answer_only=True).words.endswith("after block 3, at generated tokens only")
    assert AblateWrite(direction, "med").words == "med: d of layer 3 out of its write vectors"
    assert Gain("med", 0.5, ("a", "b")).words == "med: gain 0.5 on a, b"


# --- an edit of a new kind -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [None, (1, 2)])
def test_a_new_edit_is_read_described_and_sent(layers):
    edit = Mirror(V, "o", layers)
    [back] = edits_from_json(json.loads(json.dumps(edits_to_json([edit]))))
    assert (type(back), back.along.name, back.organism, back.layers) == (Mirror, "v", "o", layers)
    assert describe([Condition("c", (edit,))]).row(0)[:3] == ("c", "mirror", "v")
    assert describe([Condition("c", (edit, Gain("o", 1.0)))])["kind"].item() == "mirror"
    assert describe([Condition("c", (edit, Ablate(V)))])["kind"].item() == "mixed"
    sent = generation_to_json("hi", [Arm("a", (edit,))], Sampling(), 0, [])
    [got] = generation_from_json(json.loads(json.dumps(sent))).arms[0].edits
    assert got.words == "mirror along v"


def test_a_new_edit_is_stored_by_reference(tmp_path):
    (tmp_path / "study.json").write_text('{"title": "T", "base": "tiny"}')
    folder = StudyFolder(tmp_path)
    folder.add_directions([V])
    file = folder.add_sweep("s", [Condition("c", (Mirror(V, "o"),))], [], unedited=Condition("baseline"), record={})
    assert '"vector"' not in file.read_text()
    [edit] = {condition.name: condition for condition in folder.conditions()}["c"].edits
    np.testing.assert_array_equal(edit.along.vector, V.vector)


def test_a_new_edit_edits_once_it_says_how():
    subject = tiny.subject()
    along = Direction("v", 2, np.ones(tiny.D_MODEL, np.float32))
    with pytest.raises(InputError, match="mirror"):
        compile_row(subject, [Mirror(along, "o")])

    @compile_edit.register
    def _mirror(edit: Mirror, subject: object, sums: Sums) -> None:
        sums.offsets[edit.along.layer] = -2 * edit.along.vector

    assert set(compile_row(subject, [Mirror(along, "o")]).offsets) == {2}


def test_two_edits_of_one_kind_are_refused():
    with pytest.raises(TypeError, match="two edits of the kind 'gain'"):
        type("Other", (Edit,), {}, kind="gain")
