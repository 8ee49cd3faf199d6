"""The part of the API document that is of the routes under /v1: the OpenAI-compatible ones, and generations.

A chat request's schema is that of its pydantic model.
"""

from __future__ import annotations

from typing import Any

from backend.worker.completions import APPLIED, ChatRequest
from backend.worker.forms import schemas
from backend.worker.kept_routes import MOST, STATUSES
from backend.worker.scores import MOST_ANSWERS, MOST_CHARACTERS

_TEXT, _WHOLE, _NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
_OF_ONE = (403, 404, 405)
_REFUSED = {
    400: "the request is none that this model can do: `param` names the field",
    401: "the worker has a token, which was not sent",
    403: "the Host is not this machine's own, or a page from elsewhere asks",
    404: "there is no such model, or nothing at that path",
    405: "the path takes another method",
    408: "the body did not arrive in time",
    429: "too many requests wait: try again after as many seconds as Retry-After says",
    500: "the answer could not be finished",
    503: "the model is still loading or could not be loaded, or large requests take the room",
}


def compatible_schemas() -> dict[str, Any]:
    """Their schemas, by name."""
    error = _object(message=_TEXT, type=_TEXT, param=_or_null(_TEXT), code=_or_null(_TEXT))
    token = _object(token=_TEXT, logprob=_NUMBER, bytes=_or_null({"type": "array", "items": _WHOLE}))
    drawn = _object(**token["properties"], top_logprobs={"type": "array", "items": token})
    logprobs = _object(content={"type": "array", "items": drawn}, refusal={"type": "null"})
    receipt = {"type": "object", "required": ["kind", "about", "words"]}
    applied = _object(
        seed=_WHOLE, edits={"type": "array", "items": _TEXT}, receipts={"type": "array", "items": receipt}
    )
    message = _object(role={"const": "assistant"}, content=_TEXT, refusal={"type": "null"})
    choice = {
        "index": _WHOLE,
        "message": message,
        "logprobs": _or_null(logprobs),
        "finish_reason": {"enum": ["stop", "length"]},
        APPLIED: applied,
    }
    usage = _object(prompt_tokens=_WHOLE, completion_tokens=_WHOLE, total_tokens=_WHOLE)
    completion = {
        "id": _TEXT,
        "object": {"const": "chat.completion"},
        "created": _WHOLE,
        "model": _TEXT,
        "choices": {"type": "array", "items": _object(**choice)},
        "usage": usage,
    }
    model = _object(id=_TEXT, object={"const": "model"}, created=_WHOLE, owned_by=_TEXT, parent=_or_null(_TEXT))
    summary = {
        "object": {"const": "generation"},
        "id": _TEXT,
        "kind": {"enum": ["chat", "live", "generation"]},
        "created": _NUMBER,
        "status": {"enum": list(STATUSES)},
        "arms": {"type": "array", "items": _TEXT},
        "question": _TEXT,
        "seed": _WHOLE,
        "tokens": _WHOLE,
        "events": _WHOLE,
    }
    answer = _object(
        arm=_TEXT,
        text=_TEXT,
        reason=_or_null(_TEXT),
        edits={"type": "array", "items": _TEXT},
        receipts={"type": "array", "items": receipt},
    )
    whole = {
        **summary,
        "request": {"$ref": _at("Generation")},
        "answers": {"type": "array", "items": answer},
        "error": _or_null(_TEXT),
    }
    said = {"type": "string", "maxLength": MOST_CHARACTERS}
    pair = _object(question=said, answer=said)
    return {
        "Asked": _object(answers={"type": "array", "items": pair, "minItems": 1, "maxItems": MOST_ANSWERS}),
        "Scores": _object(
            judge=_TEXT,
            scores={"type": "array", "items": {"type": "object", "additionalProperties": _or_null(_NUMBER)}},
        ),
        "Summary": _object(**summary),
        "Kept": _object(**whole),
        **schemas(ChatRequest),
        "Completion": _object(**completion),
        "Model": model,
        "ErrorEnvelope": _object(error=error),
    }


def compatible_paths() -> dict[str, Any]:
    """Their operations."""
    listed = _object(object={"const": "list"}, data={"type": "array", "items": {"$ref": _at("Model")}})
    adapter = _object(id=_WHOLE, path=_TEXT, scale=_NUMBER)
    chat = {
        **_json({"$ref": _at("Completion")}),
        "text/event-stream": {
            "schema": {"type": "string", "description": "chat.completion.chunk objects, then [DONE]"}
        },
    }
    by_id = [{"name": "id", "in": "path", "required": True, "schema": _TEXT}]
    number = {**_WHOLE, "minimum": 0, "maximum": 10**9 - 1}
    query = [
        {"name": "limit", "in": "query", "schema": {**_WHOLE, "minimum": 1, "maximum": MOST}},
        {"name": "status", "in": "query", "schema": {"enum": list(STATUSES)}},
        {"name": "after", "in": "query", "schema": _TEXT, "description": "the id that the list goes on after"},
    ]
    last = [
        {"name": "Last-Event-ID", "in": "header", "schema": number, "description": "the last number that was heard"},
        {"name": "after", "in": "query", "schema": number, "description": "the same, for who cannot send headers"},
    ]
    lines = "server-sent events, each with its number as id and an Event as data; `waiting` has no number"
    stream = {"text/event-stream": {"schema": {"type": "string", "description": lines}}}
    listing = _object(
        object={"const": "list"},
        data={"type": "array", "items": {"$ref": _at("Summary")}},
        has_more={"type": "boolean"},
    )
    cancelled = _json(_object(id=_TEXT, cancelled={"type": "boolean"}))
    begun = _versioned("begin a generation", _json({"$ref": _at("Summary")}), 400, 403, 405, 408, 429, 503)
    begun["responses"]["201"] = begun["responses"].pop("200")
    created = {**begun, "requestBody": {"required": True, "content": _json({"$ref": _at("Generation")})}}
    text = {"text/plain": {"schema": _TEXT}}
    name = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    body = {"required": True, "content": _json({"$ref": _at("ChatRequest")})}
    return {
        "/v1/models": {"get": _versioned("the base and the organisms that can be worn", _json(listed), 403, 405, 503)},
        "/v1/models/{model}": {
            "get": {
                **_versioned("one of them", _json({"$ref": _at("Model")}), 403, 404, 405, 503),
                "parameters": [name],
            }
        },
        "/v1/chat/completions": {
            "post": {
                **_versioned("answers to a conversation", chat, 400, 403, 404, 405, 408, 429, 500, 503),
                "requestBody": body,
            }
        },
        "/v1/generations": {
            "get": {**_versioned("the newest first", _json(listing), 400, 403, 405), "parameters": query},
            "post": created,
        },
        "/v1/generations/{id}": {
            "get": {
                **_versioned("what was asked and answered", _json({"$ref": _at("Kept")}), *_OF_ONE),
                "parameters": by_id,
            }
        },
        "/v1/generations/{id}/events": {
            "get": {**_versioned("its events", stream, 400, *_OF_ONE), "parameters": [*by_id, *last]}
        },
        "/v1/scores": {
            "post": {
                **_versioned(
                    "scores of answers by the embedded judge",
                    _json({"$ref": _at("Scores")}),
                    *(400, 403, 405, 408, 429, 503),
                ),
                "requestBody": {"required": True, "content": _json({"$ref": _at("Asked")})},
            }
        },
        "/v1/generations/{id}/cancel": {"post": {**_versioned("stop it", cancelled, *_OF_ONE), "parameters": by_id}},
        "/metrics": {"get": _operation_of("counters, as Prometheus reads them", text, refusals=(403, 405))},
        "/lora-adapters": {
            "get": _operation_of("the ids that `lora` may name", _json({"type": "array", "items": adapter}))
        },
    }


def _versioned(what: str, answer: dict[str, Any], *refusals: int) -> dict[str, Any]:
    """An operation whose refusals are in the OpenAI API's envelope."""
    return _operation_of(what, answer, "ErrorEnvelope", refusals)


def _operation_of(
    what: str, answer: dict[str, Any], error: str = "Error", refusals: tuple[int, ...] = (403, 405, 503)
) -> dict[str, Any]:
    refused = {
        str(status): {"description": _REFUSED[status], "content": _json({"$ref": _at(error)})} for status in refusals
    }
    return {"summary": what, "responses": {"200": {"description": what, "content": answer}, **refused}}


def _object(**parts: Any) -> dict[str, Any]:
    return {"type": "object", "properties": parts, "required": list(parts), "additionalProperties": False}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _at(name: str) -> str:
    return f"#/components/schemas/{name}"
