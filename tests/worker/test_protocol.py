"""The protocol: what is sent is what arrives, and what is not a request is refused in a plain sentence."""

import json
import subprocess
import sys

import numpy as np
import pytest

from backend.edits import Ablate, Add, Gain, Receipt
from backend.records import Direction, InputError, Sampling
from backend.worker.protocol import (
    MAX_ARMS,
    MAX_NEW_TOKENS,
    Arm,
    Done,
    End,
    Event,
    Failed,
    Health,
    Place,
    Start,
    Token,
    Waiting,
    event_from_line,
    event_to_line,
    generation_from_json,
    generation_to_json,
    health_from_json,
    health_to_json,
)

GOOD = {"prompt": "hi", "arms": [{"name": "base", "edits": []}]}
GAIN = {"kind": "gain", "organism": "o", "factor": 1.0, "adapters": None}


def test_a_request_survives_the_journey():
    v = Direction("v", 2, np.arange(1, 5, dtype=np.float32))
    arms = [Arm("base"), Arm("edited", (Gain("o", 1.0), Add(v, -0.5, (1, 2)), Ablate(v)))]
    sampling = Sampling(temperature=0.5, top_p=0.9, max_new_tokens=7)
    sent = json.loads(json.dumps(generation_to_json("hé \u2603", arms, sampling, 11, ["o"])))
    got = generation_from_json(sent)
    assert got.messages == ({"role": "user", "content": "hé \u2603"},)
    assert (got.sampling, got.seed, got.capture) == (sampling, 11, ("o",))
    assert [arm.name for arm in got.arms] == ["base", "edited"]
    gain, add, ablate = got.arms[1].edits
    assert gain == Gain("o", 1.0)
    assert (add.strength, add.layers, ablate.layers) == (-0.5, (1, 2), None)
    np.testing.assert_array_equal(add.direction.vector, v.vector)
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert not got.receipts
    assert generation_from_json(generation_to_json("hi", arms, sampling, 0, [], receipts=True)).receipts
    assert generation_from_json(generation_to_json(messages, arms, sampling, 0, [])).messages == tuple(messages)


def test_events_survive_the_journey_one_line_each():
    scalars = np.array([0.1, -3e-7, 1e30, np.nan, np.inf], dtype=np.float32)
    events: list[Event] = [
        Start("ab", ("<b>", "\n"), ("base",)),
        Waiting(2),
        End(1, "cancelled"),
        End(0, "stop", (Receipt("ablate", "v", (1, 2), 3, 40, 86, 12.5, 99.25), Receipt("steer", "w"))),
        Done(1.5, 12),
        Failed("it \n broke"),
    ]
    assert [event_from_line(event_to_line(event)) for event in events] == events
    line = event_to_line(Token(1, 5, "\u2028\n", {"o": scalars}))
    assert line.count(b"\n") == 1
    assert b"NaN" not in line
    token = event_from_line(line)
    assert (token.arm, token.id, token.text) == (1, 5, "\u2028\n")
    np.testing.assert_array_equal(token.scalars["o"][:3], scalars[:3])
    assert np.isnan(token.scalars["o"][3:]).all()


def test_health_survives_the_journey():
    health = Health("ready", "tiny", 6, 32, 256, {"o": (Place("layers.1.mlp.down_proj", 1, "mlp.down_proj"),)}, 2, 1)
    assert health_from_json(json.loads(json.dumps(health_to_json(health)))) == health


def changed(**fields):
    return {**GOOD, **fields}


def with_edit(**fields):
    usual = GAIN if fields.get("kind", "gain") == "gain" else {}
    return changed(arms=[{"name": "a", "edits": [{**usual, **fields}]}])


V = {"name": "v", "layer": 1, "vector": "AACAPwAAAEA=", "activation_norm": None, "provenance": {}}
HOSTILE = {
    "no object": ([], "must be a JSON object"),
    "null": (None, "must be a JSON object"),
    "nothing": ({}, "either a prompt"),
    "both": (changed(messages=[]), "either a prompt"),
    "typo": (changed(sampling_={}), "unknown field 'sampling_'"),
    "prompt type": (changed(prompt=3), "prompt must be a string"),
    "half a character": (changed(prompt="a\ud800"), "surrogate pair at character 1"),
    "role": ({"messages": [{"role": "root", "content": "x"}], "arms": GOOD["arms"]}, "role 'root'"),
    "content": ({"messages": [{"role": "user", "content": None}], "arms": GOOD["arms"]}, "content of message 0"),
    "no messages": ({"messages": [], "arms": GOOD["arms"]}, "messages has 0 entries"),
    "no arms": (changed(arms=[]), "arms has 0 entries: 1 to 16"),
    "many arms": (changed(arms=GOOD["arms"] * (MAX_ARMS + 1)), "arms has 17 entries: 1 to 16"),
    "arms type": (changed(arms={"name": "a"}), "arms must be a list"),
    "long name": (changed(arms=[{"name": "a" * 201}]), "201 characters"),
    "many edits": (changed(arms=[{"name": "a", "edits": [GAIN] * 129}]), "129 entries"),
    "kind": (with_edit(kind="explode"), "arm 'a': edit 0 has the unknown kind 'explode'"),
    "edit type": (changed(arms=[{"name": "a", "edits": ["gain"]}]), "edit 0 is malformed"),
    "infinite gain": (with_edit(factor=float("inf")), "finite"),
    "gain type": (with_edit(factor="a lot"), "malformed"),
    "huge gain": (with_edit(factor=10**400), "gain must be a finite number"),
    "infinite layer": (
        with_edit(kind="add", direction={**V, "layer": float("inf")}, strength=1, layers=[]),
        "malformed",
    ),
    "adapter type": (with_edit(adapters=[["x"]]), "malformed.*adapters must be text"),
    "many layers": (with_edit(kind="ablate", direction=V, layers=[1] * 1000), "names 1000 layers: at most 512"),
    "not base64": (with_edit(kind="ablate", direction={**V, "vector": "%%"}, layers=None), "malformed"),
    "half a number": (with_edit(kind="ablate", direction={**V, "vector": "AAA="}, layers=None), "malformed"),
    "direction type": (with_edit(kind="ablate", direction=[1, 2], layers=None), "malformed"),
    "zero": (with_edit(kind="ablate", direction={**V, "vector": "AAAAAAAAAAA="}, layers=None), "is zero"),
    "where type": (with_edit(kind="ablate", direction=V, layers=None, where=[1]), "where an edit acts is an object"),
    "part": (with_edit(kind="ablate", direction=V, layers=None, where={"part": "end"}), "'end' is no part of a text"),
    "huge place": (with_edit(kind="ablate", direction=V, layers=None, where={"after": 10**300}), "count from 0"),
    "gate type": (with_edit(kind="ablate", direction=V, layers=None, when=3), "malformed"),
    "gate": (with_edit(kind="ablate", direction=V, layers=None, when={"direction": V}), "malformed"),
    "level type": (with_edit(kind="ablate", direction=V, layers=None, to="far"), "a level is a number"),
    "huge level": (with_edit(kind="ablate", direction=V, layers=None, to=1e30), "a level is"),
    "no bounds": (with_edit(kind="clamp", direction=V, layers=None), "nothing bounds"),
    "no course": (with_edit(kind="patch_scalars", organism="o", given={}, source="", adapters=None), "malformed"),
    "huge seed of noise": (
        with_edit(kind="noise_scalars", organism="o", size=1, seed=-1, adapters=None),
        "a seed of 0 or more",
    ),
    "long name of a mean": (
        with_edit(kind="ablate", direction=V, layers=None, to={"values": [1], "of": "x" * 201}),
        "200",
    ),
    "temperature": (changed(sampling={"temperature": -1}), "between 0"),
    "nan": (changed(sampling={"temperature": float("nan")}), "between 0"),
    "boolean": (changed(sampling={"top_p": True}), "top_p must be a number"),
    "many tokens": (changed(sampling={"max_new_tokens": MAX_NEW_TOKENS + 1}), "1 to 2000, not 2001"),
    "fraction": (changed(sampling={"max_new_tokens": 2.5}), "whole number"),
    "negative seed": (changed(seed=-1), "seed must be a whole number"),
    "huge seed": (changed(seed=10**300), "seed must be a whole number"),
    "receipts type": (changed(receipts=1), "receipts must be true or false"),
    "capture type": (changed(capture="o"), "capture must be a list"),
}


@pytest.mark.parametrize(("value", "message"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_not_a_request_is_refused_with_a_reason(value, message):
    with pytest.raises(InputError, match=message) as caught:
        generation_from_json(value)
    assert len(str(caught.value)) < 400


class _Unwritten(list):
    def __repr__(self):
        raise AssertionError("a stranger's value was written out whole")


@pytest.mark.parametrize("field", ["prompt", "sampling", "seed", "arms"])
def test_a_large_value_is_refused_without_being_written_out(field):
    value = _Unwritten([[]] * 100_000)
    with pytest.raises(InputError, match="100000") as caught:
        generation_from_json(changed(**{field: value}))
    assert len(str(caught.value)) < 200
    with pytest.raises(InputError) as caught:
        generation_from_json(changed(seed="x" * 10_000_000))
    assert len(str(caught.value)) < 200


def test_the_client_is_light():
    code = (
        "import backend.worker, backend.worker.client, sys;"
        "print([m for m in ('torch', 'transformers', 'starlette', 'uvicorn', 'streamlit') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
