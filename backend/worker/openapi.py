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

from backend.edits import ALL, ANSWER, PROMPT, Edit, Receipt
from backend.edits.where import MAX_TOKENS
from backend.records import Sampling
from backend.worker import protocol
from backend.worker.protocol import Health, Place, Pushed

_PLAIN: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
_NAME = {"type": "string", "minLength": 1, "maxLength": protocol.MAX_NAME}
_REFUSALS = {
    403: "the Host is not this machine's own",
    404: "there is no such request, or nothing at that path",
    405: "the path takes another method",
    408: "the body did not arrive in time",
    422: "the body is no request that this model can do",
    503: "the model is still loading or could not be loaded, or too many requests wait",
}


@cache
def openapi() -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    schemas = {
        "Error": _object({"error": {"type": "string", "maxLength": 2000}}, ["error"]),
        "Direction": _direction(),
        "Sampling": _sampling(),
        "Edit": {"oneOf": [form for kind in Edit.kinds() for form in _edit(kind)]},
        "Where": _where(),
        "When": _when(),
        "Level": _level(),
        "Course": _course(),
        "Generation": _generation(),
        "Lenses": _object({"directions": _list({"$ref": _at("Direction")}, 1, protocol.MAX_LENSES)}, ["directions"]),
        **{kind.__name__: _of(kind) for kind in (Place, Health, Pushed, Receipt)},
    }
    stream = {"application/x-ndjson": {"schema": {"type": "string", "description": "an event of JSON on every line"}}}
    pushed = _object({"lenses": {"type": "array", "items": {"$ref": _at("Pushed")}}}, ["lenses"])
    stopped = _object({"stopped": {"const": True}}, ["stopped"])
    paths = {
        "/health": {"get": _operation("what the worker says about itself", _json({"$ref": _at("Health")}), 403, 405)},
        "/generate": {
            "post": _operation(
                "answers to one prompt, token by token", stream, 403, 405, 408, 422, 503, body="Generation"
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
    info = {"title": "worker", "version": "1", "description": "Live answers of one model and its organisms."}
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
    parts = {
        "prompt": {"type": "string"},
        "messages": _list(message, 1, protocol.MAX_MESSAGES),
        "arms": _list(_object({"name": _NAME, "edits": edits}, ["name"]), 1, protocol.MAX_ARMS),
        "sampling": {"$ref": _at("Sampling")},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
        "capture": _list(_NAME, 0, 64),
        "receipts": {"type": "boolean", "description": "whether the event that ends an arm says what its edits did"},
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
        "vector": {"type": "string", "contentEncoding": "base64", "description": "float32, little-endian"},
        "activation_norm": {"type": ["number", "null"]},
        "provenance": {"type": ["object", "null"]},
    }
    return {**_object(parts, ["name", "layer", "vector"]), "additionalProperties": True}


def _edit(kind: type[Edit]) -> list[dict[str, Any]]:
    """The forms of an edit: as its fields are, and where it has a strength, with a share in its place."""
    hints = get_type_hints(kind)
    own = {each.name: _field(hints[each.name], each.default) for each in fields(kind)}
    needed = [each.name for each in fields(kind) if each.default is MISSING]
    forms = [_object({"kind": {"const": kind.kind}, **own}, ["kind", *needed])]
    if "strength" in own:
        parts = {name: each for name, each in own.items() if name != "strength"} | {"share": {"type": "number"}}
        forms.append(_object({"kind": {"const": kind.kind}, **parts}, ["kind", *set(parts) & {*needed, "share"}]))
    return forms


def _field(hint: Any, default: Any) -> dict[str, Any]:
    """One field of an edit. Null is the default, except of a flag."""
    schema = _schema(hint)
    allowed = default is MISSING or hint is bool or "anyOf" in schema
    return schema if allowed else {"anyOf": [schema, {"type": "null"}]}


def _where() -> dict[str, Any]:
    place = {"type": "integer", "minimum": 0, "maximum": 10**9}
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
    """A number, or one for each layer or adapter, and whose mean they are."""
    values = {"type": "array", "items": {"type": "number"}, "minItems": 1}
    return {"anyOf": [{"type": "number"}, _object({"values": values, "of": {"type": "string"}}, ["values"])]}


def _course() -> dict[str, Any]:
    packed = {"type": "string", "contentEncoding": "base64", "description": "float32, little-endian, row by row"}
    return {**_object({"adapters": {"type": "integer", "minimum": 1}, "values": packed}, ["adapters", "values"])}


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
