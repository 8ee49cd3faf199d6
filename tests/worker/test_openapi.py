"""Schemathesis against the worker on a real socket: what the document says, and what it does not, in many requests."""

import copy
import json
import urllib.error
import urllib.request
from collections import Counter

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis import openapi as documents
from schemathesis.checks import CHECKS

from backend.edits import (
    ANSWER,
    Ablate,
    AblateWrite,
    Add,
    Clamp,
    ClampScalars,
    Course,
    Edit,
    Gain,
    Level,
    NoiseScalars,
    PatchScalars,
    When,
    Where,
)
from backend.records import Sampling, direction_to_json
from backend.worker.client import Arm
from backend.worker.openapi import openapi
from backend.worker.protocol import Done, End, event_from_line, generation_from_json, generation_to_json
from tests.studies import tiny
from tests.worker.conftest import direction, serving, wait

EXAMPLES = 40  # of each operation, sound and unsound
NAMES = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
SOUND, UNSOUND = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
OPERATIONS = [
    (path, method, mode)
    for path, methods in openapi()["paths"].items()
    for method, said in methods.items()
    for mode in ((SOUND, UNSOUND) if "requestBody" in said and path != "/v1/generations" else (SOUND,))
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    from backend.worker.engine import Engine

    folder = tiny.adapter(tmp_path_factory.mktemp("worn") / "o", layers=(1, 2))
    subject = tiny.subject(organisms={"o": folder}, num_hidden_layers=3, max_position_embeddings=128)
    engine = Engine(subject)
    with serving(lambda: engine) as worker:
        wait(lambda: worker.health().status == "ready")
        yield worker.url
    engine.close(timeout=5)


def answerable(path):
    """The document with narrower bounds, within which this model has an answer to most requests, and soon."""
    document = copy.deepcopy(openapi())
    schemas = document["components"]["schemas"]
    few = {"enum": [1, 2, 3, 6]}
    schemas["Sampling"]["properties"]["max_new_tokens"] = few
    schemas["Sampling"]["required"] = ["max_new_tokens"]
    generation = schemas["Generation"]
    generation["required"] = ["arms", "sampling"]
    generation["properties"]["capture"]["items"] = {"enum": ["o"]}
    generation["properties"]["seed"] = {"enum": [0, 1, 2**63 - 1]}
    short = {"type": "string", "minLength": 1, "maxLength": 20, "pattern": r"^\w+$"}
    generation["properties"]["prompt"] = generation["properties"]["messages"]["items"]["properties"]["content"] = short
    generation["properties"]["messages"]["maxItems"] = 2
    arms = generation["properties"]["arms"]
    arms["maxItems"], arms["items"]["required"] = 2, ["name", "edits"]
    arms["items"]["properties"]["edits"] |= {"minItems": 1, "maxItems": 2}
    vector = direction_to_json(direction())["vector"]
    schemas["Direction"]["properties"] |= {
        "name": short,
        "layer": {"enum": [0, 1, 2, 7] if path == "/lens" else [0, 1, 2]},
        "vector": {"enum": [vector, "AAAA"] if path == "/lens" else [vector]},
        "activation_norm": {"enum": [None, 2.0]},
    }
    schemas["Where"]["properties"] |= {"first": few, "after": {"enum": [0, 1]}}
    schemas["Where"]["properties"]["tokens"]["items"] = {"enum": [1, 2, 40]}
    schemas["Level"]["anyOf"][1]["properties"]["values"]["maxItems"] = 2
    schemas["Course"]["properties"] = {"adapters": {"enum": [1, 2]}, "values": {"enum": ["AAAAAAAAgD8=", "AAAAAA=="]}}
    narrow_chat(schemas, few, short)
    for edit in schemas["Edit"]["oneOf"]:
        edit["properties"] |= {
            name: narrow
            for name, narrow in {
                "organism": {"enum": ["o"]},
                "adapters": {"enum": [None, ["layers.1.mlp.down_proj"]]},
                "layers": {"enum": [None, [0], [1, 2]]},
                "seed": few,
                "strength": {"type": "number", "minimum": -5, "maximum": 5},
                "share": {"type": "number", "minimum": -5, "maximum": 5},
                "factor": {"type": "number", "minimum": -5, "maximum": 5},
                "size": {"type": "number", "minimum": 0, "maximum": 5},
            }.items()
            if name in edit["properties"]
        }
    return document


def narrow_chat(schemas, few, short):
    """The same of chat completions: short answers of models that are there, vectors of this width."""
    chat = schemas["ChatRequest"]
    none = {"enum": [None]}
    chat["properties"] |= {
        "model": {"enum": ["tiny", "o", "base"]},
        "n": {"enum": [None, 1, 2]},
        "max_tokens": few,
        "max_completion_tokens": none,
        "stream": {"enum": [None, False]},
        "stream_options": none,
        "logprobs": {"enum": [True]},
        "top_logprobs": {"enum": [None, 0, 2]},
        "seed": {"enum": [None, 0, 2**63 - 1]},
        "lora": {"enum": [None, [], [{"id": 0, "scale": 0.5}], [{"name": "o", "scale": -2}]]},
    }
    chat["required"] = ["model", "messages", "max_tokens", "logprobs"]
    chat["properties"]["messages"]["maxItems"] = 2
    chat["properties"]["edits"]["anyOf"][0]["maxItems"] = 1
    schemas["ChatMessage"]["properties"]["content"] = short
    vector = direction().vector.tolist()
    schemas["SteeringVector"]["properties"] |= {
        "data": {"enum": [{"1": vector}, {"layer.0": vector, "2": vector}]},
        "layers": none,
        "scale": {"enum": [None, 0.5, -3]},
    }
    schemas["Steering"]["properties"]["vectors"]["maxItems"] = 1
    schemas["ClampSpec"]["properties"] |= {"vector": {"enum": [vector]}, "min": {"enum": [-1, 0]}}
    schemas["ClampSpec"]["required"] = ["vector", "min"]
    schemas["SteeringClamps"]["properties"]["post_block"] |= {
        "propertyNames": {"enum": ["0", "layer.2"]},
        "patternProperties": {},
        "additionalProperties": {"type": "array", "items": {"$ref": "#/components/schemas/ClampSpec"}, "minItems": 1},
        "maxProperties": 2,
    }


@pytest.mark.parametrize(("path", "method", "mode"), OPERATIONS)
def test_every_request_is_answered_as_the_document_says(address, path, method, mode):
    operation = documents.from_dict(answerable(path) if mode is SOUND else openapi())[path][method.upper()]
    checks = CHECKS.get_by_names(NAMES)
    answered, kinds = Counter(), Counter()

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        reply = case.call_and_validate(base_url=address, checks=checks, timeout=20)
        answered[reply.status_code] += 1
        if path == "/generate" and reply.status_code == 200:
            *_, last = [event_from_line(line) for line in reply.content.splitlines()]
            assert isinstance(last, Done), last
            kinds.update(edit["kind"] for arm in case.body["arms"] for edit in arm.get("edits", ()))

    ask()
    if path in ("/generate", "/lens"):
        assert set(answered) == ({200, 422} if mode is SOUND else {422}), answered
    if path == "/v1/generations" and method == "post":
        assert answered[201] >= EXAMPLES / 6 if mode is SOUND else set(answered) <= {400}, answered
    if path == "/v1/chat/completions":
        assert answered[200] >= EXAMPLES / 6 if mode is SOUND else set(answered) <= {400, 404}, answered
    if mode is SOUND and path == "/generate":
        assert answered[200] >= EXAMPLES / 6, answered
        assert len(kinds) >= 3, kinds
    with urllib.request.urlopen(f"{address}/health") as reply:
        assert json.load(reply)["status"] == "ready"


V = direction()
GATE = When(direction(layer=0), 1e6, under=True)
EDITS = (
    Add(V, 1.0, where=Where(ANSWER)),
    Ablate(V, where=Where(first=3, after=1, tokens=(1, 2), special=False, sink=True), to=Level((0.5,), "base")),
    Clamp(V, Level((0.0,)), Level((1.0,), "base"), (2,), when=GATE),
    AblateWrite(V, "o"),
    Gain("o", 0.5, ("layers.1.mlp.down_proj",)),
    ClampScalars("o", Level((0.0, 0.5)), Level((1.0,)), where=Where(ANSWER)),
    PatchScalars("o", Course(np.array([[0.5, np.nan], [1.0, 2.0]])), "a text", when=GATE),
    NoiseScalars("o", 0.1, 3),
)


def post(address, request):
    """Status and body of an answer to POST /generate."""
    head = {"Content-Type": "application/json"}
    asked = urllib.request.Request(f"{address}/generate", json.dumps(request).encode(), head)
    try:
        with urllib.request.urlopen(asked, timeout=20) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def validator(name):
    return jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": openapi()["components"]}
    )


def asked(*edits):
    """A request of one arm, its edits as JSON."""
    return {"prompt": "hello", "arms": [{"name": "a", "edits": list(edits)}], "sampling": {"max_new_tokens": 2}}


def test_the_document_is_served_and_says_what_clients_send_and_get(address):
    with urllib.request.urlopen(f"{address}/openapi.json") as reply:
        assert json.load(reply) == openapi()
    request = generation_to_json(
        "hello", [Arm("a", EDITS), Arm("b")], Sampling(max_new_tokens=3), 1, ["o"], receipts=True
    )
    validator("Generation").validate(request)
    status, body = post(address, request)
    assert status == 200, body
    for line in body.splitlines():
        validator("Event").validate(json.loads(line))
    ends = {event.arm: event for event in map(event_from_line, body.splitlines()) if isinstance(event, End)}
    assert [receipt.kind for receipt in ends[0].receipts] == [edit.row.kind for edit in EDITS]
    assert ends[1].receipts == ()
    told = json.loads(next(line for line in body.splitlines() if b"receipts" in line))["receipts"]
    validator("Receipt").validate(told[0])
    with pytest.raises(jsonschema.ValidationError):
        validator("Receipt").validate({**told[0], "places": "many"})
    for unsound in ({"seed": -1}, {"receipts": None}, {"recipes": True}):
        with pytest.raises(jsonschema.ValidationError):
            validator("Generation").validate({**request, **unsound})


def test_every_kind_of_edit_is_in_the_document():
    said = {edit["properties"]["kind"]["const"] for edit in openapi()["components"]["schemas"]["Edit"]["oneOf"]}
    kinds = {kind.kind for kind in Edit.kinds() if kind.__module__.startswith("backend.")}  # other tests add their own
    assert said >= kinds
    assert {edit.kind for edit in EDITS} == kinds


V_JSON = direction_to_json(V)
ADD = {"kind": "add", "direction": V_JSON, "strength": 1.0}
CLAMP = {"kind": "clamp", "direction": V_JSON, "low": 1}
SCALARS = {"kind": "patch_scalars", "organism": "o", "given": {"adapters": 2, "values": "AAAAAAAAgD8="}}
NORMED = {**V_JSON, "activation_norm": 2.0}
TAKEN = {
    "only what is needed": ADD,
    "null is the default": {**ADD, "layers": None, "where": None, "when": None},
    "share": {"kind": "add", "direction": NORMED, "share": 0.5},
    "earlier flag": {**ADD, "answer_only": True},
    "bare level": CLAMP,
    "one side null": {**CLAMP, "high": None},
    "level of many": {**CLAMP, "low": {"values": [1, 2.5], "of": "base"}, "layers": [1, 2]},
    "no layers": {**CLAMP, "layers": []},
    "empty where": {**ADD, "where": {}},
    "course": SCALARS,
}
REFUSED = {
    "unknown field": {**ADD, "wehre": {}},
    "no strength": {"kind": "add", "direction": V_JSON},
    "strength twice": {**ADD, "direction": NORMED, "share": 0.5},
    "null strength": {**ADD, "strength": None},
    "tokens twice": {**ADD, "where": {}, "answer_only": True},
    "flag of text": {**ADD, "answer_only": "no"},
    "flag of a gain": {"kind": "gain", "organism": "o", "factor": 1, "answer_only": True},
    "negative layer": {**ADD, "layers": [-1]},
    "layers as text": {**ADD, "layers": "12"},
    "part": {**ADD, "where": {"part": "middle"}},
    "null in where": {**ADD, "where": {"first": None}},
    "first none": {**ADD, "where": {"first": 0}},
    "many tokens": {**ADD, "where": {"tokens": [1] * 257}},
    "unknown in where": {**ADD, "where": {"start": 1}},
    "gate without a threshold": {**ADD, "when": {"direction": V_JSON}},
    "unknown in a gate": {**ADD, "when": {"direction": V_JSON, "threshold": 1, "over": True}},
    "null in a gate": {**ADD, "when": {"direction": V_JSON, "threshold": 1, "under": None}},
    "no bound": {**CLAMP, "low": None},
    "level without values": {**CLAMP, "low": {"values": []}},
    "level of text": {**CLAMP, "low": "1"},
    "far level": {**CLAMP, "low": 1e10},
    "unknown in a level": {**CLAMP, "low": {"values": [1], "sd": 1}},
    "long name of a level": {**CLAMP, "low": {"values": [1], "of": "x" * 201}},
    "course of none": {**SCALARS, "given": {"adapters": 0, "values": "AAAAAA=="}},
    "unknown in a course": {**SCALARS, "given": {"adapters": 1, "values": "AAAAAA==", "of": "x"}},
    "negative noise": {"kind": "noise_scalars", "organism": "o", "size": -1},
    "negative seed": {"kind": "noise_scalars", "organism": "o", "size": 1, "seed": -1},
    "organism without a name": {"kind": "gain", "organism": "", "factor": 1},
}


@pytest.mark.parametrize("edit", TAKEN.values(), ids=TAKEN)
def test_what_the_document_permits_is_taken(address, edit):
    validator("Generation").validate(asked(edit))
    status, body = post(address, asked(edit))
    assert status == 200, body
    assert isinstance(event_from_line(body.splitlines()[-1]), Done), body


@pytest.mark.parametrize("edit", REFUSED.values(), ids=REFUSED)
def test_what_the_document_forbids_is_refused(address, edit):
    with pytest.raises(jsonschema.ValidationError):
        validator("Generation").validate(asked(edit))
    assert post(address, asked(edit))[0] == 422


def test_defaults_stand_for_what_is_left_out():
    [plain] = generation_from_json(asked(ADD)).arms[0].edits
    [null] = generation_from_json(asked(TAKEN["null is the default"])).arms[0].edits
    assert plain.layers == null.layers == (V.layer,)
    assert plain.where == null.where == Add(V, 1.0).where
    [share] = generation_from_json(asked(TAKEN["share"])).arms[0].edits
    assert share.strength == pytest.approx(0.5 * 2.0 / V.norm)
    [flagged] = generation_from_json(asked(TAKEN["earlier flag"])).arms[0].edits
    assert flagged.where == Where(ANSWER)


def test_half_a_surrogate_pair_in_a_refusal_is_no_failure(address):
    status, body = post(address, asked({**CLAMP, "low": {"values": [2], "of": "\ud800"}, "high": 1}))
    assert status == 422
    assert "half of a surrogate pair" in json.loads(body)["error"]
