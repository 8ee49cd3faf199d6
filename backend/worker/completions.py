"""Chat completions as the OpenAI API has them: the request's fields, what is asked of the engine, what is answered.

Knows the wire forms of `POST /v1/chat/completions`. An unknown field is refused: it might change the answer.
"""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from backend.edits import Edit, edits_to_json
from backend.records import BASE, InputError, Sampling
from backend.worker.forms import FieldError, Form
from backend.worker.protocol import (
    MAX_ARMS,
    MAX_BODY,
    MAX_LIKELIEST,
    MAX_MESSAGES,
    MAX_NAME,
    MAX_NEW_TOKENS,
    MAX_STOPS,
    MAX_VALUES,
    Arm,
    Done,
    End,
    Event,
    Generation,
    Message,
    Start,
    Token,
    asked_to_json,
)
from backend.worker.steering import (
    EditsJson,
    Lora,
    Steering,
    SteeringClamps,
    clamped,
    few_enough,
    gains,
    own_edits,
    steered,
)

_ARM = 60  # bytes of an arm beside its edits, and more than its values
APPLIED = "x-workbench-applied"  # the field of a choice that says what was done to it
StopText = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
StopTexts = Annotated[list[StopText], Field(max_length=MAX_STOPS)]
Tokens = Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS)]


class TextPart(Form):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


def _many(value: Any) -> str:
    return "a list" if isinstance(value, list) else "a text"


class ChatMessage(Form):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[str, Tag("a text")] | Annotated[list[TextPart], Tag("a list"), Field(min_length=1, max_length=64)],
        Discriminator(_many),
    ]

    @property
    def spoken(self) -> Message:
        """As the engine reads it."""
        parts = self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": parts}


class StreamOptions(Form):
    """What a stream says beside its text."""

    include_usage: bool | None = None


class PlainText(Form):
    """The one format of answers."""

    type: Literal["text"]


def _off(value: Any) -> str:
    return "false " if value is False else "an object"


SteeringOrNone = Annotated[
    Annotated[Steering, Tag("an object")] | Annotated[Literal[False], Tag("false ")], Discriminator(_off)
]


class ChatRequest(Form):
    """`POST /v1/chat/completions`. Null is what was left out."""

    model: Annotated[str, Field(min_length=1, max_length=4 * MAX_NAME, description="the base, or an organism to wear")]
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    n: Annotated[int, Field(ge=1, le=MAX_ARMS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    seed: (
        Annotated[int, Field(ge=0, lt=2**63, description="choice i is drawn with seed + i; random where left out")]
        | None
    ) = None
    temperature: Annotated[float, Field(ge=0, le=10)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    stop: (
        Annotated[Annotated[StopText, Tag("a text")] | Annotated[StopTexts, Tag("a list")], Discriminator(_many)] | None
    ) = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LIKELIEST)] | None = None
    user: Annotated[str, Field(max_length=MAX_NAME, description="whose request it is: users take turns")] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    response_format: PlainText | None = None
    steering: SteeringOrNone | None = None
    steering_clamps: SteeringClamps | None = None
    lora: Annotated[list[Lora], Field(max_length=64)] | None = None
    edits: EditsJson | None = None

    def generation(self, base: str, organisms: Sequence[str]) -> Generation:
        """What is asked of the engine of this base and these organisms. Raises FieldError on what does not fit."""
        edits = self._edits(base, organisms)
        count = self.n or 1
        seed = secrets.randbelow(2**31) if self.seed is None else self.seed
        if self.top_logprobs is not None and not self.logprobs:
            raise FieldError("top_logprobs", "likelihoods are told with logprobs: set that to true")
        if self.stream_options is not None and not self.stream:
            raise FieldError("stream_options", "these are of a stream: set stream to true")
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        for index, message in enumerate(self.messages):
            _whole_text(f"messages.{index}.content", message.spoken["content"])
        for text in stop:
            _whole_text("stop", text)
        asked = Generation(
            messages=tuple(message.spoken for message in self.messages),
            arms=tuple(Arm(f"choice {i}", edits, i) for i in range(count)),
            sampling=self._sampling(),
            seed=seed,
            receipts=bool(edits),
            stop=stop,
            likeliest=(self.top_logprobs or 0) if self.logprobs else None,
            fits=self.max_tokens is None and self.max_completion_tokens is None,
        )
        _sendable(asked)
        return asked

    def _edits(self, base: str, organisms: Sequence[str]) -> tuple[Edit, ...]:
        if self.model not in (base, BASE, *organisms):
            raise UnknownModel(self.model)
        worn = self.model if self.model in organisms else None
        edits = gains(worn, self.lora or (), organisms) + own_edits(self.edits or ())
        if isinstance(self.steering, Steering):
            edits += steered(self.steering)
        if self.steering_clamps is not None:
            edits += clamped(self.steering_clamps)
        few_enough("steering", edits)
        return tuple(edits)

    def _sampling(self) -> Sampling:
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise FieldError("max_tokens", "max_completion_tokens says something else: give one of them")
        return Sampling(
            1.0 if self.temperature is None else self.temperature,
            1.0 if self.top_p is None else self.top_p,
            self.max_completion_tokens or self.max_tokens or MAX_NEW_TOKENS,
        )


class UnknownModel(InputError):
    """No model of that name is served."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the model {name[:80]!r} is not served here: GET /v1/models lists what is")


def _sendable(asked: Generation) -> None:
    """Raise FieldError unless the request that is kept can be sent again: every choice has the edits written out."""
    one = json.dumps(asked_to_json(replace(asked, arms=asked.arms[:1])))
    each = json.dumps(edits_to_json(asked.arms[0].edits))
    for size, most, what in ((len, MAX_BODY, "bytes"), (_values, MAX_VALUES, "values")):
        whole = size(one) + (len(asked.arms) - 1) * (size(each) + _ARM)
        if whole > most:
            field = "steering" if size(each) * 2 > size(one) else "messages"
            raise FieldError(field, f"with every choice written out it has {whole:,} {what}, of {most:,}: ask for less")


def _values(text: str) -> int:
    return sum(map(text.count, ",[{"))


def _whole_text(where: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FieldError(where, f"it holds half of a surrogate pair at character {error.start}: remove it") from error


@dataclass(eq=False)
class _Choice:
    """One answer as it grows."""

    text: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    end: End | None = None


@dataclass(eq=False)
class Completion:
    """The answers to one request, from the events of its generation."""

    id: str
    model: str
    created: int  # seconds since 1970
    asked: Generation
    usage: bool = False  # whether a stream ends with the usage
    _choices: defaultdict[int, _Choice] = field(default_factory=lambda: defaultdict(_Choice))
    _prompt: int = 0

    def take(self, event: Event) -> None:
        """One event into its answer."""
        match event:
            case Start():
                self._prompt = len(event.prompt_tokens)
            case Token():
                choice = self._choices[event.arm]
                choice.tokens += 1
                choice.text.append(event.text)
                if event.drawn is not None:
                    choice.logprobs.append(_logprob(event))
            case End():
                self._choices[event.arm].end = event

    def whole(self) -> dict[str, Any]:
        """The reply to a request that does not stream, when all events are taken."""
        choices = [self._told(index, self._choices[index]) for index in range(len(self.asked.arms))]
        return {**self._head("chat.completion"), "choices": choices, "usage": self._usage()}

    def _told(self, index: int, choice: _Choice) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(choice.text), "refusal": None}
        return {
            "index": index,
            "message": message,
            "logprobs": None if self.asked.likeliest is None else {"content": choice.logprobs, "refusal": None},
            "finish_reason": _reason(choice.end),
            APPLIED: self._applied(index, choice.end),
        }

    def chunks(self, event: Event) -> Iterator[dict[str, Any]]:
        """What a stream says of one event, after it was taken."""
        match event:
            case Start():
                for index in range(len(self.asked.arms)):
                    yield self._chunk(index, {"role": "assistant", "content": ""})
            case Token():
                logprobs = None if event.drawn is None else {"content": [_logprob(event)], "refusal": None}
                if event.text or logprobs:
                    yield self._chunk(event.arm, {"content": event.text}, logprobs)
            case End():
                chunk = self._chunk(event.arm, {}, reason=_reason(event))
                chunk["choices"][0][APPLIED] = self._applied(event.arm, event)
                yield chunk
            case Done() if self.usage:
                yield {**self._head("chat.completion.chunk"), "choices": [], "usage": self._usage()}

    def _chunk(
        self, index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None, reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        usage = {"usage": None} if self.usage else {}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **usage}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self.id}", "object": kind, "created": self.created, "model": self.model}

    def _usage(self) -> dict[str, int]:
        answered = sum(choice.tokens for choice in self._choices.values())
        return {
            "prompt_tokens": self._prompt,
            "completion_tokens": answered,
            "total_tokens": self._prompt + answered,
        }

    def _applied(self, index: int, end: End | None) -> dict[str, Any]:
        """What was done to an answer: its edits in words, and the receipts of what they changed."""
        arm = self.asked.arms[index]
        return {
            "seed": self.asked.seed + arm.draw,
            "edits": [edit.words for edit in arm.edits],
            "receipts": [{**one.to_json(), "words": one.words} for one in (end.receipts if end else ())],
        }


def _reason(end: End | None) -> str:
    """OpenAI knows no cancelled answer: one that was stopped ends as at its length."""
    return "stop" if end is not None and end.reason == "stop" else "length"


def _logprob(event: Token) -> dict[str, Any]:
    assert event.drawn is not None
    return {**_likely(*event.drawn), "top_logprobs": [_likely(*pair) for pair in event.likeliest]}


def _likely(token: str, nats: float) -> dict[str, Any]:
    """A token that is part of a character has no text of its own, and no bytes are told of it."""
    return {"token": token, "logprob": nats, "bytes": None if "\ufffd" in token else list(token.encode())}
