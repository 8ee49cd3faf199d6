"""One row of a batch as it is written: its request, its tokens, its random numbers, its text; and what a pass gives it.

What a pass gives is drawn for all rows first (`draw_all`), then told row by row (`OpenRow.tell`), which raises nothing:
whatever fails, no row has a token that nobody heard of.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from backend.edits import Edit, Receipt
from backend.records import FloatArray, Sampling
from backend.subject.compiled import RowEdits
from backend.subject.drawn import Cut, Likelihood, draw, likelihood
from backend.subject.ledger import Tally


@dataclass(frozen=True, eq=False)
class Request:
    """One answer to be written. `key` is the caller's own name for it."""

    key: Hashable
    prompt_ids: tuple[int, ...]
    edits: tuple[Edit, ...] = ()
    sampling: Sampling = Sampling()
    seed: int = 0
    receipts: bool = False  # what the edits did is told with the last token
    stop: tuple[str, ...] = ()  # texts before which the answer ends, beside the model's own end of turn
    likeliest: int | None = None  # how many likelihoods are told beside each drawn token's; None: not even that one


@dataclass(frozen=True, eq=False)
class Emission:
    """One new token of one row.

    `scalars` maps each captured organism to (adapter,): what its adapters read, before any gain, at the token before
    this one, whose forward pass produced it. `text` is what became printable with this token, possibly nothing.
    """

    key: Hashable
    token_id: int
    text: str
    finished: Literal["stop", "length", "broken"] | None  # broken: the logits were not finite; there is no text
    scalars: dict[str, FloatArray]
    receipts: tuple[Receipt, ...] = ()  # with the last token, where they were asked for
    likelihood: Likelihood | None = None  # where it was asked for


@dataclass(eq=False)
class OpenRow:
    """One answer that is being written."""

    request: Request
    edits: RowEdits
    random: np.random.Generator
    length: int  # tokens in the cache
    tally: Tally | None  # what its edits did, where that is asked for
    cut: Cut | None  # where its text must end
    answer: list[int] = field(default_factory=list)
    shown: int = 0  # answer tokens whose text is out already
    text_from: int = 0  # where the detokeniser's window starts
    over: bool = False  # its end is told, or nobody wants it: it leaves before the next pass

    @property
    def tokens(self) -> tuple[int, ...]:
        """The prompt, and behind it what is answered already."""
        return (*self.request.prompt_ids, *self.answer)

    def tell(self, drawn: Drawn, i: int, *, decode: Callable[..., str], stop: Collection[int]) -> Emission:
        """The i-th token of a pass as this row's next; `stop` are the tokens that end an answer. Raises nothing."""
        token = drawn.tokens[i]
        self.answer.append(token)
        if not drawn.whole[i]:
            self.over = True
            return Emission(self.request.key, token, "", "broken", {})
        stopped = token in stop
        full = len(self.answer) >= self.request.sampling.max_new_tokens
        finished: Literal["stop", "length"] | None = "stop" if stopped else "length" if full else None
        text = self._text(decode, last=finished is not None, stopped=stopped)
        if self.cut is not None:
            text, met = self.cut.push(text, last=finished is not None)
            finished = "stop" if met else finished
        self.over = finished is not None
        own = {organism: values[i] for organism, values in drawn.scalars.items()}
        receipts = self.tally.receipts if finished and self.tally else ()
        return Emission(self.request.key, token, text, finished, own, receipts, drawn.likelihoods[i])

    def _text(self, decode: Callable[..., str], *, last: bool, stopped: bool) -> str:
        """The text that became final: a character whose bytes are still incomplete waits for the next token."""
        end = len(self.answer) - stopped
        before = decode(self.answer[self.text_from : self.shown], skip_special_tokens=True)
        now = decode(self.answer[self.text_from : end], skip_special_tokens=True)
        if now.endswith("\ufffd") and not last:
            return ""
        self.text_from, self.shown = self.shown, end
        return str(now[len(before) :])


@dataclass(frozen=True, eq=False)
class Drawn:
    """What one pass gave each of its rows, before any row knows of it."""

    tokens: Sequence[int]
    whole: Sequence[bool]  # whether the logits were finite
    likelihoods: Sequence[Likelihood | None]
    scalars: dict[str, FloatArray]  # organism -> (row, adapter)


def draw_all(rows: Sequence[OpenRow], logits: torch.Tensor, scalars: dict[str, torch.Tensor]) -> Drawn:
    """The next token of each row, from (row, vocabulary) logits; `scalars` are organism -> (row, adapter)."""
    tokens = draw(logits, [row.request.sampling for row in rows], [row.random for row in rows])
    whole = torch.isfinite(logits.amax(dim=-1)).tolist()
    asked = [row.request.likeliest if sound else None for row, sound in zip(rows, whole, strict=True)]
    told = [
        None if count is None else likelihood(each, token, count)
        for each, token, count in zip(logits, tokens, asked, strict=True)
    ]
    return Drawn(tokens, whole, told, {organism: values.numpy() for organism, values in scalars.items()})


@contextmanager
def drawn_together(rows: Sequence[OpenRow]) -> Iterator[None]:
    """A block that draws a token for every row: where it raises, none was drawn, and the same ones come next time."""
    before = [row.random.bit_generator.state for row in rows]
    try:
        yield
    except BaseException:
        for row, state in zip(rows, before, strict=True):
            row.random.bit_generator.state = state
        raise
