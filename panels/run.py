"""A live generation as it grows: what was asked, and each answer token by token with the scalars that came along.

Takes tokens one by one. It refuses to know how tokens arrive, and interprets nothing in a model's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backend.charts.strip import common_scale
from backend.edits import Receipt, together
from backend.records import FloatArray

ENDINGS = {"stop": "ended by itself", "length": "reached the limit of tokens", "cancelled": "stopped"}


@dataclass
class LiveAnswer:
    """One arm of a generation, growing token by token."""

    name: str
    pieces: list[str] = field(default_factory=list)  # (token,) text as it came; a piece may be empty
    read: list[Mapping[str, FloatArray]] = field(default_factory=list)  # (token,) scalars that came with it
    reason: str | None = None  # why it ended: "stop", "length" or "cancelled"; None while it grows, "" before it begins
    receipts: tuple[Receipt, ...] = ()  # what its edits did, once it has ended by itself
    edited: bool = False  # it has edits, whose receipts are waited for

    def token(self, text: str, scalars: Mapping[str, FloatArray]) -> None:
        """Take the next token."""
        self.pieces.append(text)
        self.read.append(scalars)

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
    """One generation: its settings in words and its answers."""

    prompt: str
    settings: str
    answers: tuple[LiveAnswer, ...]
    adapters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by organism whose scalars come along
    ahead: int = 0  # requests that the worker takes first
    error: str = ""
    asked: Any = None  # all that decides the answers, to compare with what is chosen now

    def close(self) -> None:
        """Whatever still grows is stopped."""
        for answer in self.answers:
            answer.reason = answer.reason or "cancelled"

    def scale(self, organism: str, adapter: int) -> float:
        """The scale that both answers share."""
        return common_scale(np.concatenate([answer.values(organism, adapter) for answer in self.answers]))
