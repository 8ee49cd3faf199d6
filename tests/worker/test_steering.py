"""The field's own shapes of steering: each comes to the edits that it says, or is refused by its field."""

import base64
import json
import re
import time

import numpy as np
import pytest

from backend.edits import ALL, ANSWER, PROMPT, Gain, Span, Where, edits_to_json
from backend.worker.completions import ChatRequest
from backend.worker.forms import FieldError, form
from backend.worker.intake import from_json
from backend.worker.protocol import MAX_BODY, MAX_EDITS, MAX_LAYERS, asked_to_json, generation_from_json
from backend.worker.steering import Lora, Steering, SteeringClamps, clamped, gains, steered

V = [3.0, 0.0, 4.0, 0.0]
PACKED = {"shape": [4], "data": base64.b64encode(np.array(V, "<f4").tobytes()).decode()}
EVERYWHERE = {"prompt": "all", "generation": "all"}


def vector(**changes):
    return {"data": {"2": V}, "apply": EVERYWHERE, **changes}


def steer(*vectors, **changes):
    return steered(form(Steering, {"vectors": list(vectors), **changes}))


def test_a_vector_is_added_at_its_scale_after_its_layer():
    [plain] = steer(vector())
    assert (plain.strength, plain.layers, plain.where) == (1.0, (2,), Where(ALL, sink=True))
    np.testing.assert_array_equal(plain.direction.vector, np.array(V, np.float32))
    [scaled] = steer(vector(scale=-2, name="happy"))
    assert (scaled.strength, scaled.direction.name) == (-2.0, "happy")
    [unit] = steer(vector(scale=2.0, normalize=True))
    assert unit.strength * unit.direction.norm == pytest.approx(2.0)
    [shared] = steer(vector(params={"share": 0.1, "activation_norm": 200}))
    assert shared.strength * shared.direction.norm == pytest.approx(20.0)


def test_layers_are_those_of_the_data_or_the_named_ones():
    both = {"1": V, "layer.3": [1.0, 0, 0, 0]}
    assert [edit.layers for edit in steer(vector(data=both))] == [(1,), (3,)]
    [third] = steer(vector(data=both, layers=[3]))
    assert third.direction.vector[0] == 1.0
    assert [edit.direction.layer for edit in steer(vector(layers=[0, 5]))] == [0, 5]
    wire = {"version": 1, "kind": "direction", "tensors": {"layer.2": PACKED}, "extra": {}, "sha256": "00"}
    np.testing.assert_array_equal(steer(vector(data=wire))[0].direction.vector, np.array(V, np.float32))


# a text of 6 prompt tokens with ids 10 to 15, and 4 answer tokens with ids 20 to 23
SPAN = Span(np.array([[*range(10, 16), *range(20, 24)]]), np.arange(10)[None], np.array([6]))
SELECTED = {
    "all": (EVERYWHERE, range(10)),
    "prompt": ({"prompt": "all"}, range(6)),
    "generation": ({"generation": "all"}, range(6, 10)),
    "positions": ({"prompt_positions": [4, 0, 1]}, [0, 1, 4]),
    "window": ({"prompt_window": [2, 4]}, [2, 3]),
    "open window": ({"prompt_window": [4, None]}, [4, 5]),
    "union": ({"prompt_positions": [0, 2], "prompt_window": [1, 3]}, [0, 1, 2]),
    "both parts": ({"prompt_positions": [5], "generation_window": [0, 2]}, [5, 6, 7]),
    "tokens": ({"prompt_tokens": [11, 15, 21]}, [1, 5]),
    "generated tokens": ({"generation_tokens": [11, 21]}, [7]),
    "all and tokens": ({"prompt": "all", "prompt_tokens": [11]}, range(6)),
    "excluded": (
        {**EVERYWHERE, "exclude_prompt_positions": [0, 3], "exclude_generation_window": [1, None]},
        [1, 2, 4, 5, 6],
    ),
    "excluded window": ({"prompt_window": [0, 5], "exclude_prompt_window": [1, 4]}, [0, 4]),
}


@pytest.mark.parametrize(("apply", "expected"), SELECTED.values(), ids=SELECTED)
def test_selectors_mean_what_they_mean_elsewhere_and_no_token_is_edited_twice(apply, expected):
    acted = sum(edit.where.holds(SPAN, ()).astype(int) for edit in steer(vector(apply=apply)))
    assert np.flatnonzero(acted[0]).tolist() == list(expected)
    assert acted.max() == 1


REFUSED = {
    "nothing selected": (vector(apply={}), "vectors.0.apply", "no token is selected"),
    "all excluded": (
        vector(apply={"prompt": "all", "exclude_prompt_window": [0, None]}),
        "vectors.0.apply",
        "no token",
    ),
    "excluded alone": (vector(apply={"exclude_prompt_positions": [0]}), "vectors.0.apply", "none is selected"),
    "tokens and places": (
        vector(apply={"prompt_tokens": [1], "prompt_positions": [0]}),
        "vectors.0.apply",
        "two vectors",
    ),
    "from the end": (vector(apply={"prompt_positions": [-1]}), "vectors.0.apply.prompt_positions.0", "greater than"),
    "empty window": (vector(apply={"prompt_window": [3, 3]}), "vectors.0.apply", "stop past start"),
    "older form": (vector(apply={"phases": ["prompt"]}), "vectors.0.apply.phases", "no such field"),
    "a path": (vector(source="/etc/passwd"), "vectors.0.source", "no such field"),
    "another algorithm": (vector(algorithm="loreft"), "vectors.0.algorithm", "direct"),
    "no layer": (vector(data={"x": V}), "vectors.0.data.x", "pattern"),
    "missing layer": (vector(data={"1": V, "2": V}, layers=[3]), "vectors.0.data", "no vector for layer 3"),
    "layer twice": (vector(data={"2": V, "layer.2": V}), "vectors.0.data", "given twice"),
    "zero": (vector(data={"2": [0.0] * 4}), "vectors.0", "is zero"),
    "nan": (vector(data={"2": [float("nan")]}), "vectors.0.data.2.0", "finite"),
    "shape": (
        vector(data={"kind": "direction", "tensors": {"layer.2": {**PACKED, "shape": [5]}}}),
        "vectors.0.data",
        "4 numbers",
    ),
    "not base64": (
        vector(data={"kind": "direction", "tensors": {"2": {"shape": [4], "data": "%"}}}),
        "vectors.0.data",
        "base64",
    ),
    "strength twice": (vector(scale=1, params={"share": 0.1}), "vectors.0.params.share", "given twice"),
    "share of what": (vector(params={"share": 0.1}), "vectors.0.params.share", "give activation_norm"),
    "gate": (vector(params={"when": {"threshold": 1}}), "vectors.0.params.when", "no gate"),
}


@pytest.mark.parametrize(("given", "field", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_done_as_it_says_is_refused_by_its_field(given, field, message):
    with pytest.raises(FieldError, match=message) as caught:
        steered(form(Steering, {"vectors": [given]}))
    assert caught.value.field.removeprefix("steering.").startswith(field)


def test_vectors_add_up_only_where_that_is_what_was_asked_for():
    with pytest.raises(FieldError, match="add up"):
        steer(vector(), vector())
    with pytest.raises(FieldError, match="add up"):
        steer(vector(), vector(), conflict="error")
    assert len(steer(vector(), vector(), conflict="sequential")) == 2
    assert len(steer(vector(), vector(layers=[3]))) == 2


def scattered(count):
    """A selection of so many runs of places, that is of so many edits."""
    return {"prompt_positions": [2 * place for place in range(count)]}


def test_what_comes_to_more_edits_than_an_answer_may_have_is_refused_while_they_are_made():
    assert len(steer(vector(layers=[1, 2, 3, 4], apply=scattered(32)))) == MAX_EDITS
    many = vector(layers=list(range(MAX_LAYERS)), apply=scattered(256))
    started = time.perf_counter()
    for given in (vector(layers=[1, 2, 3], apply=scattered(43)), many):
        with pytest.raises(FieldError, match=r"steering: it comes to more than 128 edits"):
            steer(given)
    assert time.perf_counter() - started < 1
    post_block = {str(layer): [{"vector": V, "min": 0}] * 16 for layer in range(9)}
    with pytest.raises(FieldError, match=r"steering_clamps: it comes to more than 128 edits"):
        clamped(form(SteeringClamps, {"post_block": post_block}))


def chat(**changes):
    return form(ChatRequest, {"model": "o", "messages": [{"role": "user", "content": "x"}], **changes})


def test_all_fields_together_are_bounded_and_what_is_kept_can_be_sent_again():
    edits = edits_to_json([Gain("o", 1.0)] * 100)
    fits = {"edits": edits, "steering": {"vectors": [vector(layers=list(range(27)))]}, "n": 3}
    asked = chat(**fits).generation("tiny", ["o"])  # 100, 27 and the model's own
    assert len(asked.arms[0].edits) == MAX_EDITS
    again = generation_from_json(json.loads(json.dumps(asked_to_json(asked))))
    assert asked_to_json(again) == asked_to_json(asked)
    with pytest.raises(FieldError, match=r"steering: it comes to more than 128 edits"):
        chat(**fits, lora=[{"name": "p", "scale": 1}]).generation("tiny", ["o", "p"])


@pytest.mark.parametrize(("count", "fits"), [(5, True), (16, False)])
def test_a_vector_that_is_written_out_for_many_choices_fits_a_body_or_is_refused(count, fits):
    wide = vector(data={"2": [0.5] * 2048}, layers=list(range(100)))
    asking = chat(steering={"vectors": [wide]}, n=count)
    if fits:
        kept = asked_to_json(asking.generation("tiny", ["o"]))
        assert len(json.dumps(kept)) <= MAX_BODY
        generation_from_json(from_json(json.dumps(kept).encode()))
    else:
        with pytest.raises(FieldError, match="steering: with every choice written out") as caught:
            asking.generation("tiny", ["o"])
        [said] = (int(each.replace(",", "")) for each in re.findall(r"has ([0-9,]+) bytes", str(caught.value)))
        assert said == pytest.approx(count * 100 * 2048 * 4 * 4 / 3, rel=0.05)


def lora(*entries):
    return [form(Lora, entry) for entry in entries]


def test_lora_gives_each_organism_its_gain():
    names = ["o", "p"]
    assert gains("o", [], names) == [Gain("o", 1.0)]
    assert gains(None, lora({"id": 1, "scale": 0.5}, {"name": "o", "scale": -1}), names) == [
        Gain("p", 0.5),
        Gain("o", -1.0),
    ]
    assert gains("o", lora({"id": 0, "scale": 0.5}), names) == [Gain("o", 0.5)]
    for entry in ({"id": 2, "scale": 1}, {"scale": 1}, {"id": 0, "name": "o", "scale": 1}):
        with pytest.raises(FieldError, match=r"lora\.0"):
            gains(None, lora(entry), names)


def clamp(**spec):
    return clamped(form(SteeringClamps, {"post_block": {"3": [{"vector": V, **spec}]}}))


def test_clamps_bound_or_hold_the_projection():
    [edit] = clamp(min=-1, max=2)
    assert (edit.low.values, edit.high.values, edit.layers) == ((-1.0,), (2.0,), (3,))
    [floor] = clamp(min=0)
    assert (floor.low.values, floor.high) == ((0.0,), None)
    for held in (clamp(value=0.5), clamp(value=0.5, strength=1)):
        assert held[0].low.values == held[0].high.values == (0.5,)
    for wrong in ({}, {"value": 1, "min": 0}, {"min": 2, "max": 1}, {"min": 0, "strength": 1}):
        with pytest.raises(FieldError, match=r"post_block\.3\.0"):
            clamp(**wrong)
    for unknown in ({"value": 1, "strength": 0.5}, {"value": 1, "cap": 2}):
        with pytest.raises(FieldError):
            clamp(**unknown)
    with pytest.raises(FieldError, match="pre_attn"):
        form(SteeringClamps, {"post_block": {"3": [{"vector": V, "min": 0}]}, "pre_attn": {}})


def test_parts_keep_their_meaning():
    assert [edit.where.part for edit in steer(vector(apply={"prompt_positions": [0], "generation": "all"}))] == [
        PROMPT,
        ANSWER,
    ]
