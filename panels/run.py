"""A lane's answers as they grow: what was asked, and each answer token by token with the scalars that came along.

Takes numbered events one by one, each once. It refuses to know how events arrive, and interprets nothing in a model's
text.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from backend.charts.strip import common_scale
from backend.edits import Gain, Receipt, together
from backend.records import FloatArray
from backend.worker.client import Done, End, Event, Failed, Generation, Message, Token, Waiting, asked_to_json

WHOLE = ("stop", "length")  # endings of an answer that counts; one that was stopped is not what would have been said
REST = 60.0  # seconds before a judge that failed twice is asked again
ENDINGS = {"stop": "ended by itself", "length": "reached the limit of tokens", "cancelled": "stopped"}


@dataclass
class LiveAnswer:
    """One answer, growing token by token."""

    pieces: list[str] = field(default_factory=list)  # (token,) text as it came; a piece may be empty
    read: list[Mapping[str, FloatArray]] = field(default_factory=list)  # (token,) scalars that came with it
    reason: str | None = None  # why it ended: "stop", "length" or "cancelled"; None while it grows, "" before it begins
    receipts: tuple[Receipt, ...] = ()  # what its edits did, once it has ended by itself
    edited: bool = False  # it has edits, whose receipts are waited for
    scores: Mapping[str, float | None] | None = None  # by metric, once it is judged

    def token(self, text: str, scalars: Mapping[str, FloatArray]) -> None:
        """Take the next token: its scalars first, so that whoever draws meanwhile finds no token without them."""
        self.read.append(scalars)
        self.pieces.append(text)

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self.pieces)

    @property
    def state(self) -> str:
        """How far it is, in words."""
        if self.reason == "":
            return "Nothing written yet."
        return f"{len(self.pieces)} tokens, {'writing' if self.reason is None else ENDINGS[self.reason]}"

    @property
    def effects(self) -> list[str]:
        """What its edits did, a line each; where it was stopped, that nobody knows."""
        if self.receipts:
            return [receipt.words for receipt in together(self.receipts)]
        if self.edited and self.reason == "cancelled":
            return ["stopped before the receipt of its edits came"]
        return []

    def values(self, organism: str, adapter: int) -> FloatArray:
        """The scalar of one adapter at every token, (token,); NaN where the organism has no such adapter.

        What comes with token k was read at token k-1, so the last token has none yet: NaN.
        """
        none = np.empty(0, dtype=np.float32)
        columns = [scalars.get(organism, none)[adapter : adapter + 1] for scalars in self.read[1:]]
        read = [column[0] if column.size else np.nan for column in columns]
        return np.array([*read, np.nan][: len(self.pieces)], dtype=np.float32)

    def printed(self, organism: str, adapter: int) -> tuple[list[str], FloatArray]:
        """The tokens that made text printable, and their scalars: bytes of a character come as one token."""
        shown = [at for at, piece in enumerate(self.pieces) if piece]
        return [self.pieces[at] for at in shown], self.values(organism, adapter)[shown]


@dataclass
class LiveRun:
    """One generation that the worker keeps: a lane's answers to one conversation, which differ by their draw alone."""

    id: str
    request: Generation
    created: float  # seconds since 1970
    answers: tuple[LiveAnswer, ...] = ()
    heard: int = 0  # events taken
    waiting: Waiting = Waiting(0)
    over: bool = False
    error: str = ""  # why it ended before its end, or why nothing is heard
    judge: str = ""  # who scored its answers
    judge_error: str = ""  # why nobody did
    _misses: int = 0  # of the judge, in a row
    _asked_again: float = 0.0  # when, by the monotonic clock
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        changed = [any(edit.changes for edit in arm.edits) for arm in self.request.arms]
        self.answers = self.answers or tuple(LiveAnswer(edited=edited) for edited in changed)

    def take(self, number: int, event: Event) -> None:
        """The event of that number. One that was heard before, by whoever read the same stream, is left out."""
        with self._lock:
            if isinstance(event, Waiting):
                self.waiting = event
                return
            if number != self.heard:
                return
            self.heard += 1
            self.error = ""
            match event:
                case Token():
                    self.answers[event.arm].token(event.text, event.scalars)
                case End():
                    self.answers[event.arm].reason = event.reason
                    self.answers[event.arm].receipts = event.receipts
                case Failed():
                    self.error = event.message
            if isinstance(event, Done | Failed):
                self.over = True
                for answer in self.answers:
                    answer.reason = answer.reason or "cancelled"

    def judged(self, judge: str) -> None:
        """A judge has scored what it was asked."""
        self.judge, self.judge_error, self._misses = judge, "", 0

    def not_judged(self, why: str) -> None:
        """A judge could not be asked: asked again at once the first time, and the second after `REST` seconds."""
        self._misses += 1
        if self._misses > 1:
            self.judge_error, self._misses, self._asked_again = why, 0, time.monotonic() + REST

    @property
    def unjudged(self) -> bool:
        """Whether no judge is to be had for now."""
        return bool(self.judge_error) and time.monotonic() < self._asked_again

    @property
    def unscored(self) -> list[LiveAnswer]:
        """Samples that have ended by themselves and wait for a judge: none of one answer, or without a judge."""
        if len(self.answers) == 1 or self.unjudged:
            return []
        return [each for each in self.answers if each.reason in WHOLE and each.text.strip() and each.scores is None]

    @property
    def settled(self) -> bool:
        """Whether nothing follows, no score either."""
        return self.over and not self.unscored

    @property
    def name(self) -> str:
        """What its lane is called."""
        return self.request.arms[0].name

    @property
    def prompt(self) -> str:
        """What was asked last."""
        return self.request.messages[-1]["content"]

    @property
    def settings(self) -> str:
        """All that decided the answers, beside the conversation, in words."""
        drawn, samples = self.request.sampling, len(self.answers)
        edits = "; ".join(edit.words for edit in self.request.arms[0].edits) or "no edits"
        seeds = f"seed {self.request.seed}" if samples == 1 else f"seeds {self.request.seed} and {samples - 1} more"
        how = f"Temperature {drawn.temperature:g}, top-p {drawn.top_p:g}, at most {drawn.max_new_tokens} tokens"
        return f"{edits}. {how}, {seeds}."

    @property
    def state(self) -> str:
        """What is waited for, before its first token."""
        if self.waiting.ahead:
            return f"Waiting: {self.waiting.ahead} requests come first."
        if self.waiting.prompt:
            return f"Reading the prompt: {self.waiting.read} of {self.waiting.prompt} tokens."
        return "Waiting for the first token."

    def followed(self, words: str) -> Generation:
        """The same lane asked on: its conversation with its first answer, and what is said next."""
        said: tuple[Message, ...] = (
            {"role": "assistant", "content": self.answers[0].text},
            {"role": "user", "content": words},
        )
        return replace(self.request, messages=(*self.request.messages, *said))


def scale_of(runs: Iterable[LiveRun], organism: str, adapter: int) -> float:
    """The scale that all answers share."""
    values = [answer.values(organism, adapter) for run in runs for answer in run.answers]
    return common_scale(np.concatenate(values)) if values else 1.0


def same_controls(asked: Sequence[Generation], shown: Sequence[LiveRun]) -> bool:
    """Whether the answers shown were asked for with what is asked now; turns that came later do not count."""
    return [_beginning(each) for each in asked] == [_beginning(run.request) for run in shown]


def _beginning(request: Generation) -> dict[str, Any]:
    first = next(at for at, message in enumerate(request.messages) if message["role"] == "user")
    return asked_to_json(replace(request, messages=request.messages[: first + 1]))


def worn_of(request: Generation) -> str | None:
    """The organism that a lane's answers wear; None where it is the base."""
    gains = [edit for edit in request.arms[0].edits if isinstance(edit, Gain)]
    return gains[0].organism if gains else None
