"""The worker's HTTP API as an OpenAPI document, made of the protocol's own types and bounds.

Knows JSON Schema. Says what a request may be in form and size; whether an organism or a layer exists depends on the
model, and is refused with 422 as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from backend.edits import ALL, ANSWER, PROMPT, Add, Edit, Receipt
from backend.edits.where import FARTHEST, MAX_OF, MAX_PLACE, MAX_TOKENS
from backend.records import Sampling
from backend.worker import protocol
from backend.worker.openapi_v1 import compatible_paths, compatible_schemas
from backend.worker.protocol import Done, End, Failed, Health, Place, Pushed, Start, Token, Waiting

_PLAIN: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
_NAME = {"type": "string", "minLength": 1, "maxLength": protocol.MAX_NAME}
_PACKED = {"type": "string", "contentEncoding": "base64", "description": "float32, little-endian"}
_NUMBER = {"type": "number", "minimum": -1e300, "maximum": 1e300}
_EVENTS = {"start": Start, "waiting": Waiting, "token": Token, "end": End, "done": Done, "error": Failed}
_BOUNDS: dict[str, dict[str, Any]] = {  # of fields of edits that have these names
    "organism": _NAME,
    "adapters": {"type": "array", "items": _NAME},
    "layers": {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": protocol.MAX_LAYERS},
    "strength": _NUMBER,
    "factor": _NUMBER,
    "size": {**_NUMBER, "minimum": 0},
    "seed": {"type": "integer", "minimum": 0},
}
_REFUSALS = {
    403: "the Host is not this machine's own, or a page from elsewhere asks",
    404: "there is no such request, or nothing at that path",
    405: "the path takes another method",
    408: "the body did not arrive in time",
    422: "the body is no request that this model can do",
    429: "too many requests wait: try again after as many seconds as Retry-After says",
    503: "the model is still loading or could not be loaded, or large requests take the room",
}


@cache
def openapi() -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    schemas = {
        "Error": _object({"error": {"type": "string", "maxLength": 2000}}, ["error"]),
        "Direction": _direction(),
        "Sampling": _sampling(),
        "Where": _where(),
        "When": _when(),
        "Level": _level(),
        "Course": _object({"adapters": {"type": "integer", "minimum": 1}, "values": _PACKED}, ["adapters", "values"]),
        "Edit": {"oneOf": [_edit(kind) for kind in Edit.kinds()]},
        "Generation": _generation(),
        "Lenses": _object({"directions": _list({"$ref": _at("Direction")}, 1, protocol.MAX_LENSES)}, ["directions"]),
        **{kind.__name__: _of(kind) for kind in (Place, Health, Pushed, Receipt)},
        "Event": {"oneOf": [_event(name) for name in _EVENTS]},
        **compatible_schemas(),
    }
    lines = f"a JSON object on every line, each as {_at('Event')}: start first, done or error last"
    stream = {"application/x-ndjson": {"schema": {"type": "string", "description": lines}}}
    pushed = _object({"lenses": {"type": "array", "items": {"$ref": _at("Pushed")}}}, ["lenses"])
    stopped = _object({"stopped": {"const": True}}, ["stopped"])
    paths = {
        "/health": {"get": _operation("what the worker says about itself", _json({"$ref": _at("Health")}), 403, 405)},
        "/generate": {
            "post": _operation(
                "answers to one prompt, token by token", stream, 403, 405, 408, 422, 429, 503, body="Generation"
            )
        },
        "/generate/{id}": {
            "delete": {
                **_operation("stop a request that is being written", _json(stopped), 403, 404, 405),
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
            }
        },
        "/lens": {
            "post": _operation(
                "the tokens that directions promote and suppress", _json(pushed), 403, 405, 408, 422, 503, body="Lenses"
            )
        },
    }
    paths |= compatible_paths()
    what = "Live answers of one model and its organisms. Whole numbers are written without a fraction: 1, not 1.0."
    info = {"title": "worker", "version": "1", "description": what}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _operation(what: str, answer: Mapping[str, Any], *refusals: int, body: str = "") -> dict[str, Any]:
    refused = {
        str(status): {"description": _REFUSALS[status], "content": _json({"$ref": _at("Error")})} for status in refusals
    }
    said = {"summary": what, "responses": {"200": {"description": what, "content": dict(answer)}, **refused}}
    return {**said, "requestBody": {"required": True, "content": _json({"$ref": _at(body)})}} if body else said


def _generation() -> dict[str, Any]:
    role = {"enum": ["system", "user", "assistant"]}
    message = _object({"role": role, "content": {"type": "string"}}, ["role", "content"])
    edits = _list({"$ref": _at("Edit")}, 0, protocol.MAX_EDITS)
    draw = {"type": "integer", "minimum": 0, "maximum": 2**31, "description": "is added to the seed"}
    parts = {
        "prompt": {"type": "string"},
        "messages": _list(message, 1, protocol.MAX_MESSAGES),
        "arms": _list(_object({"name": _NAME, "edits": edits, "draw": draw}, ["name"]), 1, protocol.MAX_ARMS),
        "sampling": {"$ref": _at("Sampling")},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
        "capture": _list(_NAME, 0, 64),
        "receipts": {"type": "boolean", "description": "whether the end of each arm has the receipts of its edits"},
        "stop": _list(_NAME, 0, protocol.MAX_STOPS),
        "likeliest": {"type": ["integer", "null"], "minimum": 0, "maximum": protocol.MAX_LIKELIEST},
        "fits": {"type": "boolean", "description": "whether max_new_tokens is lowered to what the context leaves"},
    }
    return {**_object(parts, ["arms"]), "oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}]}


def _sampling() -> dict[str, Any]:
    said = _of(Sampling)
    del said["required"]
    bounds: dict[str, dict[str, float]] = {
        "temperature": {"minimum": 0, "maximum": 10},
        "top_p": {"exclusiveMinimum": 0, "maximum": 1},
        "max_new_tokens": {"minimum": 1, "maximum": protocol.MAX_NEW_TOKENS},
    }
    return {**said, "properties": {name: {**said["properties"][name], **bounds[name]} for name in bounds}}


def _direction() -> dict[str, Any]:
    parts = {
        "name": {"type": "string"},
        "layer": {"type": "integer", "minimum": 0},
        "vector": _PACKED,
        "activation_norm": {"type": ["number", "null"], "minimum": 0, "exclusiveMaximum": 1e300},
        "provenance": {"type": ["object", "null"]},
    }
    return {**_object(parts, ["name", "layer", "vector"]), "additionalProperties": True}


def _where() -> dict[str, Any]:
    place = {"type": "integer", "minimum": 0, "maximum": MAX_PLACE}
    parts = {
        "part": {"enum": [ALL, PROMPT, ANSWER]},
        "first": {**place, "minimum": 1},
        "after": place,
        "tokens": _list(place, 0, MAX_TOKENS),
        "special": {"type": "boolean"},
        "sink": {"type": "boolean"},
    }
    return _object(parts, [])


def _when() -> dict[str, Any]:
    parts = {"direction": {"$ref": _at("Direction")}, "threshold": {"type": "number"}, "under": {"type": "boolean"}}
    return _object(parts, ["direction", "threshold"])


def _level() -> dict[str, Any]:
    number = {"type": "number", "minimum": -FARTHEST, "maximum": FARTHEST}
    values = {"type": "array", "items": number, "minItems": 1}
    return {"anyOf": [number, _object({"values": values, "of": {"type": "string", "maxLength": MAX_OF}}, ["values"])]}


def _edit(kind: type[Edit]) -> dict[str, Any]:
    """An edit's own fields: one with a default may be left out, or be null."""
    hints = get_type_hints(kind)
    own, needed = {}, ["kind"]
    for each in fields(kind):
        bounds, hint = _BOUNDS.get(each.name), hints[each.name]
        if each.default is MISSING:
            needed.append(each.name)
            own[each.name] = bounds or _schema(hint)
        else:
            own[each.name] = {"anyOf": [bounds, {"type": "null"}]} if bounds else _schema(hint | None)
    said = _object({"kind": {"const": kind.kind}, **own}, needed)
    if "where" in own:
        said["properties"]["answer_only"] = {"type": "boolean", "description": "of earlier builds: true is part answer"}
        said["not"] = {"required": ["where", "answer_only"]}
    if "low" in own:  # and high: one of them bounds something
        level = {"$ref": _at("Level")}
        said["anyOf"] = [{"properties": {side: level}, "required": [side]} for side in ("low", "high")]
    if kind is Add:
        said["properties"]["share"] = {**_NUMBER, "description": "of the activation norm, in place of strength"}
        said["required"].remove("strength")
        said["oneOf"] = [{"required": ["strength"]}, {"required": ["share"]}]
    return said


def _event(name: str) -> dict[str, Any]:
    said = _of(_EVENTS[name])
    for asked in ("receipts", "drawn", "likeliest"):  # only where they are
        if asked in said["properties"]:
            said["required"].remove(asked)
    return _object({"event": {"const": name}, **said["properties"]}, ["event", *said["required"]])


def _of(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    parts = {each.name: _schema(hints[each.name]) for each in fields(kind)}
    return _object(parts, list(parts))


def _schema(hint: Any) -> dict[str, Any]:
    """A type of the protocol as JSON Schema."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, UnionType):
        return {"anyOf": [_schema(each) for each in inner]}
    if origin is tuple and inner[-1] is Ellipsis:
        return {"type": "array", "items": _schema(inner[0])}
    if origin is tuple:
        each = [_schema(item) for item in inner]
        return {"type": "array", "prefixItems": each, "minItems": len(each), "maxItems": len(each)}
    if origin is np.ndarray:
        return {"type": "array", "items": {"type": ["number", "null"]}}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(inner[1])}
    if isinstance(hint, type) and is_dataclass(hint):
        return {"$ref": _at(hint.__name__)}
    raise TypeError(f"the protocol holds {hint}, which is not known here: say how it is written in JSON")


def _object(parts: Mapping[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(parts), "required": required, "additionalProperties": False}


def _list(items: Mapping[str, Any], fewest: int, most: int) -> dict[str, Any]:
    return {"type": "array", "items": dict(items), "minItems": fewest, "maxItems": most}


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": dict(schema)}}


def _at(name: str) -> str:
    return f"#/components/schemas/{name}"
