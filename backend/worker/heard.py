"""What a worker said, read by who does not trust it: the client of some address, or the reader of a history's file.

What comes may be of another program, or garbled: it is of the kinds that the protocol's records declare, or there is a
ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from backend.outside import json_in
from backend.worker.protocol import End, Event, Token, event_from_json

R = TypeVar("R")
_WRONG = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def heard_event(line: bytes, arms: int) -> Event:
    """The event of one line about a generation of so many arms. Raises ValueError on what is none."""
    event = heard(event_from_json, json_in_line(line))
    if isinstance(event, Token | End) and event.arm >= arms:
        raise ValueError("an arm that was not asked for")
    return event


def heard(read: Callable[[Any], R], value: Any) -> R:
    """What `read` makes of a value of JSON, whose fields are of the kinds that it declares. Raises ValueError."""
    with _said_plainly():
        return _checked(read(value))


def json_in_line(line: bytes) -> Any:
    """What a line says. Raises ValueError."""
    with _said_plainly():
        return json_in(line)


@contextmanager
def _said_plainly() -> Iterator[None]:
    try:
        yield
    except _WRONG as error:
        raise ValueError(f"{type(error).__name__}: {str(error)[:200]}") from error


def _checked(record: R) -> R:
    if isinstance(record, list):
        for each in record:
            _checked(each)
        return record
    of: type = type(record)
    for name, kind in _kinds(of).items():
        if not _is(getattr(record, name), kind):
            raise TypeError(f"{name} is not of its kind")
    return record


@cache
def _kinds(record: Hashable) -> dict[str, Any]:
    return get_type_hints(record)


def _is(value: Any, kind: Any) -> bool:
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin is Literal:
        return value in inner
    if origin is UnionType:
        return any(_is(value, each) for each in inner)
    if origin is tuple:
        each = [inner[0]] * len(value) if inner[-1] is ... else inner
        return isinstance(value, tuple) and len(value) == len(each) and all(map(_is, value, each))
    if origin is Mapping:
        return isinstance(value, dict) and all(isinstance(key, str) and _is(value[key], inner[1]) for key in value)
    if origin is int:  # sizes, counts and ids
        return type(value) is int and 0 <= value < 2**63
    if origin is float:
        return type(value) in (int, float) and abs(value) < 1e300  # false of NaN
    if origin is np.ndarray:
        return isinstance(value, np.ndarray) and value.ndim == 1
    return isinstance(value, origin) and (not is_dataclass(origin) or bool(_checked(value)))
