"""Schemathesis against the worker on a real socket: what the document says, and what it does not, in many requests."""

import copy
import json
import urllib.request
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis import openapi as documents
from schemathesis.checks import CHECKS

from backend.edits import (
    ANSWER,
    Ablate,
    Add,
    Clamp,
    ClampScalars,
    Course,
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
from backend.worker.protocol import Done, event_from_line, generation_to_json
from tests.studies import tiny
from tests.worker.conftest import direction, serving, wait

EXAMPLES = 40  # of each operation, sound and unsound
NAMES = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
SOUND, UNSOUND = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
OPERATIONS = [
    (path, method, mode)
    for path, methods in openapi()["paths"].items()
    for method, said in methods.items()
    for mode in ((SOUND, UNSOUND) if "requestBody" in said else (SOUND,))
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


def answerable():
    """The document with narrower bounds, within which this model has an answer to most requests, and soon."""
    document = copy.deepcopy(openapi())
    schemas = document["components"]["schemas"]
    schemas["Sampling"]["properties"]["max_new_tokens"]["maximum"] = 6
    schemas["Sampling"]["required"] = ["max_new_tokens"]
    generation = schemas["Generation"]
    generation["required"] = ["arms", "sampling"]
    generation["properties"]["capture"]["items"] = {"enum": ["o"]}
    short = {"type": "string", "minLength": 1, "maxLength": 20, "pattern": r"^\w+$"}
    generation["properties"]["prompt"] = generation["properties"]["messages"]["items"]["properties"]["content"] = short
    generation["properties"]["messages"]["maxItems"] = 2
    vector = direction_to_json(direction())["vector"]
    schemas["Direction"]["properties"] |= {"vector": {"enum": [vector, "AAAA"]}, "layer": {"enum": [0, 1, 2, 7]}}
    for edit in schemas["Edit"]["oneOf"]:
        edit["properties"] |= {
            name: narrow
            for name, narrow in {
                "organism": {"enum": ["o"]},
                "adapters": {"enum": [None, ["layers.1.mlp.down_proj"]]},
                "layers": {"enum": [[0], [1, 2]]},
                "size": {"type": "number", "minimum": 0, "maximum": 5},
                "seed": {"type": "integer", "minimum": 0, "maximum": 5},
                "given": {"enum": [Course(np.ones((count, 3))).to_json() for count in (1, 2)]},
                "strength": {"type": "number", "minimum": -5, "maximum": 5},
                "factor": {"type": "number", "minimum": -5, "maximum": 5},
            }.items()
            if name in edit["properties"]
        }
    return document


@pytest.mark.parametrize(("path", "method", "mode"), OPERATIONS)
def test_every_request_is_answered_as_the_document_says(address, path, method, mode):
    operation = documents.from_dict(answerable() if mode is SOUND else openapi())[path][method.upper()]
    checks = CHECKS.get_by_names(NAMES)
    answered = Counter()

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

    ask()
    if path in ("/generate", "/lens"):
        assert set(answered) == ({200, 422} if mode is SOUND else {422}), answered
    if mode is SOUND and path == "/generate":
        assert answered[200] >= EXAMPLES / 6, answered
    with urllib.request.urlopen(f"{address}/health") as reply:
        assert json.load(reply)["status"] == "ready"


def test_the_document_is_served_and_says_what_clients_send(address):
    import jsonschema

    with urllib.request.urlopen(f"{address}/openapi.json") as reply:
        document = json.load(reply)
    assert document == openapi()
    gate = When(direction(), 1.0, under=True)
    edits = (Add(direction(), 1.0, where=Where(part=ANSWER, first=4)), Gain("o", 0.5, ("x",)))
    held = (Clamp(direction(), low=Level((1.0,)), when=gate), Ablate(direction(), to=Level((2.0, 3.0), "base")))
    scalars = (
        PatchScalars("o", Course(np.ones((1, 2)))),
        NoiseScalars("o", 0.5),
        ClampScalars("o", high=Level((1.0,))),
    )
    arms = [Arm("a", edits), Arm("b"), Arm("c", held), Arm("d", scalars)]
    request = generation_to_json("hello", arms, Sampling(), 1, ["o"], receipts=True)
    schema = {"$ref": "#/components/schemas/Generation", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(request)))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate({**request, "seed": -1})
