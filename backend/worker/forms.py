"""JSON bodies as pydantic models: what every one of them has in common, and how its errors are said.

Knows pydantic. Strict: a number is no text, NaN is no number, an unknown field is refused, null is what was left out.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, WithJsonSchema

from backend.records import InputError

M = TypeVar("M", bound="Form")
_AT = "#/components/schemas/"


class Form(BaseModel):
    """A JSON object with these fields and no other."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, ser_json_inf_nan="null")


class FieldError(InputError):
    """A field cannot be used. `field` is its path in the body, "messages.0.content"."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


def form(kind: type[M], value: Any) -> M:
    """The body as one of these models. Raises FieldError on the first field that does not fit."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"] if not _branch(part))
        if first["type"] == "extra_forbidden":
            raise FieldError(path[:200], "there is no such field here: remove it") from None
        raise FieldError(path[:200], f"{first['msg'][:1].lower()}{first['msg'][1:]}") from None


def _branch(part: Any) -> bool:
    """Whether a part of a path names a branch of a union, which no body holds."""
    return isinstance(part, str) and not part.isidentifier() and not part.isdecimal()


def schemas(kind: type[Form]) -> dict[str, Any]:
    """The schemas of a model and of what it is made of, by name, for an OpenAPI document."""
    said = kind.model_json_schema(ref_template=_AT + "{model}")
    found: dict[str, Any] = _linked({**said.pop("$defs", {}), kind.__name__: said})
    return found


def elsewhere(name: str) -> WithJsonSchema:
    """Of a field that others read: its schema is one of the document's, which pydantic does not know."""
    return WithJsonSchema({"type": "object", "$comment": _AT + name})


def _linked(schema: Any) -> Any:
    if isinstance(schema, dict):
        if str(schema.get("$comment", "")).startswith(_AT):
            return {"$ref": schema["$comment"]}
        return {name: _linked(each) for name, each in schema.items()}
    return [_linked(each) for each in schema] if isinstance(schema, list) else schema
