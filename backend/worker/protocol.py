"""What a client and the worker say to each other: a generation asked for, its events, the worker's health.

Knows the JSON form of each and the bounds of what may be asked. Refuses to know models and sockets: whether an organism
or a layer exists is the engine's to say, how bytes travel is the client's and the service's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from backend.edits import Edit, Receipt, edits_from_json, edits_to_json
from backend.hosts import token_refused
from backend.records import Direction, FloatArray, InputError, Sampling, direction_from_json, direction_to_json

DEFAULT_PORT = 8600
MAX_BODY = 8 * 2**20  # bytes of one request: a page sends up to 16 arms x 3 edits, 87 kB each for a 16k-wide model
MAX_VALUES = 2**18  # separators of a request, which bound what it becomes in memory
MAX_ARMS = 16
MAX_EDITS = 128  # an arm: one a layer of a deep model, and more
MAX_LAYERS = 512  # an edit
MAX_MESSAGES = 200
MAX_LENSES = 256  # vectors of one question about tokens
MAX_NEW_TOKENS = 2000
MAX_NAME = 200  # characters
MAX_STOPS = 4  # texts that end an answer
MAX_LIKELIEST = 20  # tokens whose likelihoods are told beside a drawn one

INTERRUPTED = "the worker ended before the answer was finished"

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": ...}
Status = Literal["loading", "ready", "failed"]
Reason = Literal["stop", "length", "cancelled"]


class Busy(Exception):
    """No room for another request now; the message says so plainly. `retry`: seconds until trying again may help."""

    def __init__(self, message: str, *, status: int = 503, retry: int = 0) -> None:
        super().__init__(message)
        self.status = status  # of HTTP
        self.retry = retry


@dataclass(frozen=True, eq=False)
class Arm:
    """One answer to be written beside others to the same prompt: the edits of its decoder row."""

    name: str
    edits: tuple[Edit, ...] = ()
    draw: int = 0  # is added to the seed: several answers of the same edits differ by it


@dataclass(frozen=True, eq=False)
class Generation:
    """One prompt answered by several arms, all with the same seed, so that they differ by their edits alone."""

    messages: tuple[Message, ...]
    arms: tuple[Arm, ...]
    sampling: Sampling = Sampling()
    seed: int = 0
    capture: tuple[str, ...] = ()  # organisms whose scalars are sent with every token
    receipts: bool = False  # what the edits of an arm did is sent with its end
    stop: tuple[str, ...] = ()  # texts before which an answer ends
    likeliest: int | None = None  # likelihoods sent beside that of each token; None: not even that one
    fits: bool = False  # max_new_tokens is lowered to what the prompt leaves of the context


@dataclass(frozen=True)
class Start:
    """The request is accepted under `id`. `prompt_tokens`: its prompt in the chat template, decoded one by one."""

    id: str
    prompt_tokens: tuple[str, ...]
    arms: tuple[str, ...]


@dataclass(frozen=True)
class Waiting:
    """Silence: `ahead` requests come first (0: the model is at work). Sent so that a reader can stop meanwhile.

    Of a long prompt that is read piece by piece, `read` tokens of `prompt` are read.
    """

    ahead: int
    read: int = 0
    prompt: int = 0


@dataclass(frozen=True, eq=False)
class Token:
    """One new token of one arm. `text` is what became printable with it, possibly nothing.

    `scalars` maps each captured organism to (adapter,), NaN where not finite: what its adapters read, before any gain,
    at the token BEFORE this one. An arm's first token carries the scalars of the last prompt token.
    """

    arm: int
    id: int
    text: str
    scalars: Mapping[str, FloatArray] = field(default_factory=dict)
    drawn: tuple[str, float] | None = None  # it, decoded alone, and its log probability, where that was asked for
    likeliest: tuple[tuple[str, float], ...] = ()  # the same of the likeliest tokens, the likeliest first


@dataclass(frozen=True)
class End:
    """One arm is finished. `receipts`, where they were asked for, has one for every edit that changes anything."""

    arm: int
    reason: Reason
    receipts: tuple[Receipt, ...] = ()


@dataclass(frozen=True)
class Done:
    """All arms are finished: `tokens` in all, within `seconds` of entering the model."""

    seconds: float
    tokens: int


@dataclass(frozen=True)
class Failed:
    """The request ended with an error; nothing follows."""

    message: str


Event = Start | Waiting | Token | End | Done | Failed


@dataclass(frozen=True)
class Place:
    """Where one adapter of a loaded organism sits. The order of places is the order of streamed scalars."""

    name: str
    layer: int
    module: str


@dataclass(frozen=True)
class Health:
    """What the worker says about itself. Sizes are 0 and `organisms` is empty until the status is "ready"."""

    status: Status
    model: str
    layers: int = 0
    d_model: int = 0
    context: int = 0  # tokens, prompt and answer together
    organisms: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    active: int = 0  # rows being written
    waiting: int = 0  # requests that wait for room
    error: str = ""  # why loading failed
    rows: int = 0  # that can be written at once
    queue: int = 0  # requests that may wait
    memory: int = 0  # bytes that the keys and values of all rows may take
    per_token: int = 0  # bytes that one token of one row takes


TOKEN_VARIABLE = "EM_WORKER_TOKEN"


def token_in(environment: Mapping[str, str]) -> str:
    """The token that workers ask for and clients send; empty where there is none. Raises InputError on what is none."""
    token = environment.get(TOKEN_VARIABLE, "").strip()
    if (refused := token_refused(TOKEN_VARIABLE, token, local=True)) is not None:
        raise InputError(refused)
    return token


# --- a request --------------------------------------------------------------------------------------------------------


def generation_to_json(
    prompt: str | Sequence[Message],
    arms: Sequence[Arm],
    sampling: Sampling,
    seed: int,
    capture: Sequence[str],
    *,
    receipts: bool = False,
) -> dict[str, Any]:
    """A request as plain JSON values. Nothing is checked here: the worker answers for what it accepts."""
    spoken = {"prompt": prompt} if isinstance(prompt, str) else {"messages": [dict(message) for message in prompt]}
    return {
        **spoken,
        "arms": [{"name": arm.name, "edits": edits_to_json(arm.edits)} for arm in arms],
        "sampling": asdict(sampling),
        "seed": seed,
        "capture": list(capture),
        "receipts": receipts,
    }


def generation_from_json(value: Any) -> Generation:
    """A request from outside, checked for form and size. Raises InputError naming the first part that does not fit."""
    fields = _object("the request", value, _ASKED)
    likeliest = fields.get("likeliest")
    return Generation(
        messages=_messages(fields),
        arms=_arms(fields.get("arms")),
        sampling=_sampling(fields.get("sampling", {})),
        seed=_integer("seed", fields.get("seed", 0), 0, 2**63 - 1),
        capture=_capture(fields.get("capture", [])),
        receipts=_flag("receipts", fields.get("receipts", False)),
        stop=tuple(_name("a text in stop", text) for text in _list("stop", fields.get("stop", []), 0, MAX_STOPS)),
        likeliest=None if likeliest is None else _integer("likeliest", likeliest, 0, MAX_LIKELIEST),
        fits=_flag("fits", fields.get("fits", False)),
    )


def asked_to_json(generation: Generation) -> dict[str, Any]:
    """A whole request as plain JSON values, which `generation_from_json` reads."""
    arms = [{"name": arm.name, "edits": edits_to_json(arm.edits), "draw": arm.draw} for arm in generation.arms]
    return {
        "messages": [dict(message) for message in generation.messages],
        "arms": arms,
        "sampling": asdict(generation.sampling),
        "seed": generation.seed,
        "capture": list(generation.capture),
        "receipts": generation.receipts,
        "stop": list(generation.stop),
        "likeliest": generation.likeliest,
        "fits": generation.fits,
    }


_ASKED = {"prompt", "messages", "arms", "sampling", "seed", "capture", "receipts", "stop", "likeliest", "fits"}


def _messages(fields: Mapping[str, Any]) -> tuple[Message, ...]:
    if ("prompt" in fields) == ("messages" in fields):
        raise InputError("give either a prompt (a string) or messages (a list of objects with role and content)")
    if "prompt" in fields:
        return ({"role": "user", "content": _text("prompt", fields["prompt"])},)
    return tuple(_message(i, value) for i, value in enumerate(_list("messages", fields["messages"], 1, MAX_MESSAGES)))


def _message(index: int, value: Any) -> Message:
    fields = _object(f"message {index}", value, {"role", "content"})
    role = fields.get("role")
    if role not in ("system", "user", "assistant"):
        raise InputError(f"message {index} has the role {_shown(role)}: use system, user or assistant")
    return {"role": role, "content": _text(f"the content of message {index}", fields.get("content"))}


def _arms(value: Any) -> tuple[Arm, ...]:
    return tuple(_arm(i, arm) for i, arm in enumerate(_list("arms", value, 1, MAX_ARMS)))


def _arm(index: int, value: Any) -> Arm:
    fields = _object(f"arm {index}", value, {"name", "edits", "draw"})
    name = _name(f"the name of arm {index}", fields.get("name"))
    edits = _list(f"the edits of arm {name!r}", fields.get("edits", []), 0, MAX_EDITS)
    try:
        return Arm(name, bounded_edits(edits), _integer("draw", fields.get("draw", 0), 0, 2**31))
    except InputError as error:
        raise InputError(f"arm {name!r}: {error}") from error


def bounded_edits(values: Sequence[Any]) -> tuple[Edit, ...]:
    """Edits from outside, within the bounds of a request. Raises InputError on the first that does not fit."""
    try:
        edits = edits_from_json(values)
        for edit in edits:
            _bounded(edit)
        return edits
    except InputError:
        raise
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise InputError(f"an edit is malformed ({type(error).__name__}: {_shown(error)})") from error


def _bounded(edit: Edit) -> None:
    """What the records leave open and a stranger could abuse."""
    for organism in edit.organisms:
        _name("an organism's name", organism)
    for adapter in edit.adapters or ():
        _name("an adapter's name", adapter)
    if len(edit.row.layers) > MAX_LAYERS:
        raise InputError(f"an edit names {len(edit.row.layers)} layers: at most {MAX_LAYERS} are allowed")


def _sampling(value: Any) -> Sampling:
    fields = _object("sampling", value, {"temperature", "top_p", "max_new_tokens"})
    default = Sampling()
    return Sampling(
        temperature=_number("temperature", fields.get("temperature", default.temperature)),
        top_p=_number("top_p", fields.get("top_p", default.top_p)),
        max_new_tokens=_integer(
            "max_new_tokens", fields.get("max_new_tokens", default.max_new_tokens), 1, MAX_NEW_TOKENS
        ),
    )


def _capture(value: Any) -> tuple[str, ...]:
    names = (_name("a name in capture", name) for name in _list("capture", value, 0, 64))
    return tuple(dict.fromkeys(names))


def _object(what: str, value: Any, keys: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{what} must be a JSON object with {_listed(keys)}, not {_shown(value)}")
    unknown = min(set(value) - keys, default=None)
    if unknown is not None:
        raise InputError(f"{what} has the unknown field {_shown(unknown)}: it may have {_listed(keys)}")
    return value


def _list(what: str, value: Any, fewest: int, most: int) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{what} must be a list, not {_shown(value)}")
    if not fewest <= len(value) <= most:
        raise InputError(f"{what} has {len(value)} entries: {fewest} to {most} are allowed")
    return value


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{what} must be a string, not {_shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} holds half of a surrogate pair at character {error.start}: remove it") from error
    return value


def _name(what: str, value: Any) -> str:
    name = _text(what, value)
    if not 1 <= len(name) <= MAX_NAME:
        raise InputError(f"{what} has {len(name)} characters: 1 to {MAX_NAME} are allowed")
    return name


def _integer(what: str, value: Any, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InputError(f"{what} must be a whole number from {least} to {most}, not {_shown(value)}")
    return value


def _flag(what: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{what} must be true or false, not {_shown(value)}")
    return value


def _number(what: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > 1e300:
        raise InputError(f"{what} must be a number, not {_shown(value)}")
    return float(value)


def _listed(keys: set[str]) -> str:
    return ", ".join(sorted(keys))


def _shown(value: Any) -> str:
    """A stranger's value in a message. The cost does not grow with the value: a long one is never written out."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = str(value) if isinstance(value, Exception) else repr(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# --- the events of an answer, one JSON object a line ------------------------------------------------------------------


def event_to_line(event: Event) -> bytes:
    """One event as one line of NDJSON, newline included. Numbers that are not finite travel as null."""
    return json.dumps(_event_to_json(event), allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _event_to_json(event: Event) -> dict[str, Any]:
    match event:
        case Start():
            return {
                "event": "start",
                "id": event.id,
                "prompt_tokens": list(event.prompt_tokens),
                "arms": list(event.arms),
            }
        case Waiting():
            return {"event": "waiting", "ahead": event.ahead, "read": event.read, "prompt": event.prompt}
        case Token():
            scalars = {organism: [_float(s) for s in values] for organism, values in event.scalars.items()}
            token = {"event": "token", "arm": event.arm, "id": event.id, "text": event.text, "scalars": scalars}
            if event.drawn is None:
                return token
            return {**token, "drawn": list(event.drawn), "likeliest": [list(pair) for pair in event.likeliest]}
        case End():
            receipts = [receipt.to_json() for receipt in event.receipts]
            told = {"receipts": receipts} if receipts else {}
            return {"event": "end", "arm": event.arm, "reason": event.reason, **told}
        case Done():
            return {"event": "done", "seconds": round(event.seconds, 4), "tokens": event.tokens}
        case Failed():
            return {"event": "error", "message": event.message}


def _float(value: np.float32) -> float | None:
    """The shortest decimal that reads back as the same float32."""
    return float(str(value)) if math.isfinite(value) else None


def event_from_line(line: bytes) -> Event:
    """The inverse of `event_to_line`, of a line that this program wrote. Who does not know that asks `heard`."""
    return event_from_json(json.loads(line))


def event_from_json(value: Any) -> Event:
    """The event that a line says. Raises any error on what is none."""
    match value["event"]:
        case "start":
            return Start(value["id"], tuple(value["prompt_tokens"]), tuple(value["arms"]))
        case "waiting":
            return Waiting(value["ahead"], value.get("read", 0), value.get("prompt", 0))
        case "token":
            scalars = {organism: np.array(s, dtype=np.float32) for organism, s in value["scalars"].items()}
            drawn, likeliest = (
                _pairs([value["drawn"]])[0] if "drawn" in value else None,
                _pairs(value.get("likeliest", [])),
            )
            return Token(value["arm"], value["id"], value["text"], scalars, drawn, likeliest)
        case "end":
            return End(value["arm"], value["reason"], tuple(map(Receipt.from_json, value.get("receipts", ()))))
        case "done":
            return Done(value["seconds"], value["tokens"])
        case "error":
            return Failed(value["message"])
        case kind:
            raise ValueError(f"unknown event {kind!r}")


def _pairs(values: Any) -> tuple[tuple[str, float], ...]:
    return tuple((str(token), float(number)) for token, number in values)


# --- health -----------------------------------------------------------------------------------------------------------


def health_to_json(health: Health) -> dict[str, Any]:
    """Health as plain JSON values."""
    return asdict(health)


def health_from_json(value: Any) -> Health:
    """The inverse of `health_to_json`. Raises KeyError or TypeError on what is no health."""
    organisms = {name: tuple(Place(**place) for place in places) for name, places in value["organisms"].items()}
    return Health(**{**value, "organisms": organisms})


# --- lenses -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pushed:
    """The tokens that a direction promotes and those that it suppresses, the strongest first.

    Values are logits less their mean, in standard deviations over the vocabulary.
    """

    top: tuple[tuple[str, float], ...]
    bottom: tuple[tuple[str, float], ...]


def lenses_to_json(directions: Sequence[Direction]) -> dict[str, Any]:
    """The question which tokens directions promote and suppress."""
    return {"directions": [direction_to_json(direction) for direction in directions]}


def lenses_from_json(value: Any) -> list[Direction]:
    """The inverse of `lenses_to_json`, checked for form and size. Raises InputError on what does not fit."""
    fields = _object("the request", value, {"directions"})
    found = []
    for index, given in enumerate(_list("directions", fields.get("directions"), 1, MAX_LENSES)):
        try:
            found.append(direction_from_json(given))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"direction {index} is malformed ({type(error).__name__}: {_shown(error)})") from error
    return found


def pushed_to_json(lenses: Sequence[Pushed]) -> dict[str, Any]:
    """The answer as plain JSON values."""
    return {"lenses": [asdict(lens) for lens in lenses]}


def pushed_from_json(value: Any) -> list[Pushed]:
    """The inverse of `pushed_to_json`. Raises KeyError, TypeError or ValueError on what is no answer."""

    return [Pushed(_pairs(lens["top"]), _pairs(lens["bottom"])) for lens in value["lenses"]]
