"""Edits survive JSON, say what they do, and one that nobody knows needs its own class alone."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from backend.analysis.conditions.describe import describe
from backend.edits import (
    ANSWER,
    EVERY,
    PLAIN,
    PROMPT,
    Ablate,
    AblateWrite,
    Add,
    Clamp,
    ClampScalars,
    Condition,
    Course,
    Edit,
    EditRow,
    Gain,
    Level,
    NoiseScalars,
    PatchScalars,
    Receipt,
    When,
    Where,
    amount,
    edits_from_json,
    edits_to_json,
    together,
)
from backend.pipeline.folder import StudyFolder
from backend.records import Direction, InputError, Sampling
from backend.subject.edits import Plan, compile_edit, compile_row
from backend.worker.protocol import Arm, generation_from_json, generation_to_json
from tests.studies import tiny

V = Direction("v", 3, np.array([3.0, -4.0], np.float32), 20.0, {"n": 7})
EDITS = (
    Add(V, 1.5),
    Add(V, -2.0, (1, 2), Where(ANSWER)),
    Ablate(V),
    Ablate(V, (4,), Where(ANSWER)),
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
        for name in ("strength", "layers", "where", "organism", "factor", "adapters"):
            assert getattr(one, name, None) == getattr(other, name, None)
    np.testing.assert_array_equal(back[0].direction.vector, V.vector)
    assert back[0].direction.provenance == {"n": 7}


def test_the_stored_form_is_that_of_earlier_files():
    keys = {"add": ["direction", "strength", "layers"], "ablate": ["direction", "layers"]}
    keys |= {"ablate_write": ["direction", "organism"], "gain": ["organism", "factor", "adapters"]}
    for edit in EDITS:
        said = edit.to_json()
        where = ["where"] if getattr(edit, "where", EVERY) != EVERY else []
        assert list(said) == ["kind", *keys[said["kind"]], *where]
    assert Ablate(V).to_json()["layers"] is None
    assert Gain("o", 1.0).to_json() == {"kind": "gain", "organism": "o", "factor": 1.0, "adapters": None}


def test_the_flag_of_earlier_files_is_the_answer_and_none_is_every_token():
    flagged = {**Ablate(V, (4,)).to_json(), "answer_only": True}
    assert edits_from_json([flagged])[0].where == Where(ANSWER)
    plain = Add(V, 1.0).to_json()
    assert "where" not in plain
    assert edits_from_json([plain, {**plain, "answer_only": False}])[1].where == EVERY
    assert edits_from_json([plain])[0].where == EVERY


def test_where_when_and_levels_survive_json():
    gate = When(V, 0.25, under=True)
    edits = (
        Add(V, 1.0, where=Where(ANSWER, first=5, after=2, tokens=(7, 3), special=False), when=gate),
        Ablate(V, (1, 2), PLAIN, to=Level((0.5, -1.5), "base")),
        Clamp(V, None, Level((2.0,)), (3,)),
        ClampScalars("o", Level((1.0, 2.0)), Level((2.5,)), ("a", "b"), PLAIN),
        PatchScalars("o", Course(np.array([[1.0, np.nan], [3.0, 4.0]])), "r1", ("a", "b"), Where(PROMPT)),
        NoiseScalars("o", 0.5, 9, None, PLAIN, gate),
    )
    back = edits_from_json(json.loads(json.dumps(edits_to_json(edits))))
    for one, other in zip(edits, back, strict=True):
        assert one.words == other.words
        assert one.row == other.row
        assert getattr(one, "where", None) == getattr(other, "where", None)
        assert [d.name for d in one.directions] == [d.name for d in other.directions]
    assert back[1].to == Level((0.5, -1.5), "base")
    np.testing.assert_array_equal(back[4].given.values, edits[4].given.values)
    assert (back[5].when.threshold, back[5].when.under, len(back[0].directions)) == (0.25, True, 2)


def test_a_share_of_the_activation_norm_stands_for_a_strength():
    said = {name: value for name, value in Add(V, 1.0, (1, 2)).to_json().items() if name != "strength"}
    [edit] = edits_from_json([{**said, "share": 0.5}])
    assert (edit.strength, edit.relative, edit.layers) == (2.0, 0.5, (1, 2))
    with pytest.raises(InputError, match="given twice"):
        edits_from_json([{**said, "share": 0.5, "strength": 1.0}])
    unknown = Add(Direction("u", 3, np.ones(2, np.float32)), 1.0).to_json()
    with pytest.raises(InputError, match="does not know the activation norm"):
        edits_from_json([{**{k: v for k, v in unknown.items() if k != "strength"}, "share": 0.5}])


def test_what_cannot_be_held_is_refused():
    wrong = (
        lambda: Clamp(V),
        lambda: Clamp(V, Level((2.0,)), Level((1.0,))),
        lambda: Ablate(V, (1, 2), to=Level((1.0, 2.0, 3.0))),
        lambda: Level(()),
        lambda: Level((float("nan"),)),
        lambda: ClampScalars("o"),
        lambda: NoiseScalars("o", -1.0),
        lambda: Course(np.array([1.0])),
        lambda: Course(np.array([[np.inf]])),
        lambda: When(V, float("inf")),
    )
    for each in wrong:
        with pytest.raises(InputError):
            each()


def test_an_unknown_field_of_an_edit_is_refused_by_name():
    with pytest.raises(InputError, match="'add' has no field 'wehre'"):
        edits_from_json([{**Add(V, 1.0).to_json(), "wehre": {}}])
    with pytest.raises(InputError, match="has no field 'answer_only'"):
        edits_from_json([{**Gain("o", 1.0).to_json(), "answer_only": True}])


def test_rows_of_tables_tell_tokens_and_targets_apart():
    rows = [Ablate(V).row, Ablate(V, where=PLAIN).row, Ablate(V, to=Level((1.0,), "base")).row, Add(V, 1.0).row]
    assert [(row.where, row.to) for row in rows] == [
        ("every token", "zero"),
        ("every token but the sink", "zero"),
        ("every token", "the mean of base"),
        ("every token", ""),
    ]
    assert Clamp(V, Level((1.0,)), Level((1.0,))).row.to == "held at 1"
    assert Clamp(V, Level((-1.0,)), Level((2.0,), "base")).row.to == "at least -1, at most the mean of base"


def test_receipts_add_up_and_say_when_nothing_was_done():
    one = Receipt("ablate", "v", (1, 2), 3, 40, 86, 86.0, 860.0)
    assert (one.tokens, one.change, one.share) == (43, 1.0, 0.1)
    assert one.words == (
        "ablate v: acted at 3 prompt tokens and 40 answer tokens of 2 layers, mean change 1 = "
        "10.0% of the stream's norm"
    )
    both = one + Receipt("ablate", "v", (3,), 0, 1, 1, 3.0, 10.0)
    assert (both.layers, both.answer, both.places, both.texts) == ((1, 2, 3), 41, 87, 2)
    assert Receipt("steer", "v").words == "steer v: did nothing, no token was changed"
    assert Receipt.from_json(json.loads(json.dumps(one.to_json()))) == one
    wise = [Receipt("ablate", "v", (layer,), 0, 40, 40, 40.0 * layer, 400.0) for layer in (1, 2, 3)]
    [line] = together(wise)
    assert (line.layers, line.answer, line.change, line.texts) == ((1, 2, 3), 40, 2.0, 1)


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
    assert Add(direction, 2).words.startswith("add d of layer 3 after block 3, at every token: λ 2.00")
    assert "after 4 blocks, 0 to 3" in Add(direction, 2, (0, 1, 2, 3)).words
    assert Ablate(direction).words == "ablate d of layer 3 after every block, at every token"
    assert Ablate(direction, (3,)).words == "ablate d of layer 3 after block 3, at every token"
    assert Ablate(direction, (3,), Where(ANSWER)).words.endswith("after block 3, at answer tokens")
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
    def _mirror(edit: Mirror, subject: object, plan: Plan) -> None:
        plan.add(edit.along.layer, -2 * edit.along.vector)

    assert set(compile_row(subject, [Mirror(along, "o")]).steps) == {2}


def test_two_edits_of_one_kind_are_refused():
    with pytest.raises(TypeError, match="two edits of the kind 'gain'"):
        type("Other", (Edit,), {}, kind="gain")
