"""Sampling: requests in, tokens out, one forward pass at a time for everybody.

One decoding path. A `Decoder` holds the rows that are being written; `step` runs one forward pass and gives each row
its next token; finished rows leave, admitted ones enter at the next step, a prompt that rows share is read once, and
so is the beginning that different prompts share under the same edits.
`stream` and `sample` are loops over it, and the live worker drives one directly.

A row's random numbers come from its own seed alone. Its text therefore does not depend on its neighbours, up to the
rounding of batched matrix products: two batches can round a near-tie differently and part ways from there on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers.cache_utils import Cache

from backend.edits import Receipt, Span
from backend.records import InputError
from backend.subject.chat import WORTH_SHARING, answer_text, shared_beginning, stop_ids
from backend.subject.drawn import Cut
from backend.subject.edits import RowEdits, Scalars, Seam, compile_row
from backend.subject.key_values import keep_rows, merged, new_cache, placed
from backend.subject.ledger import Counting, Ledger, Tally
from backend.subject.load import Subject
from backend.subject.out_of_memory import ran_out, say_halved
from backend.subject.rows import Drawn, Emission, OpenRow, Request, draw_all, drawn_together

__all__ = ["BATCH", "Decoder", "Emission", "Request", "Sampled", "sample", "stream"]

BATCH = 96  # rows written together: on a CPU, matrix products of fewer than 64 rows run at half the rate of more


@dataclass(frozen=True)
class Sampled:
    """One whole answer; `answer_ids` ends with the end-of-turn token where `finished`."""

    key: Hashable
    answer_ids: tuple[int, ...]
    text: str
    finished: bool
    receipts: tuple[Receipt, ...] = ()


@dataclass(eq=False)
class _Reading:
    """A long prompt that is read piece by piece, under the edits of each of `first`. `kinds` are those of `rows`."""

    rows: list[OpenRow]
    first: list[OpenRow]
    kinds: list[int]
    cache: Cache
    read: int = 0  # tokens


def _kinds(rows: Sequence[OpenRow]) -> tuple[list[OpenRow], list[int]]:
    """The first row of each (text, edits), and which of them each row is like."""
    kinds: dict[tuple[tuple[int, ...], int], int] = {}
    kind = [kinds.setdefault((row.tokens, id(row.edits)), len(kinds)) for row in rows]
    return [rows[kind.index(k)] for k in range(len(kinds))], kind


def _tallies(rows: Iterable[OpenRow]) -> Counting:
    """Those of rows that ask for receipts, for every token of a pass."""
    return [(row.tally, None) for row in rows if row.tally is not None]


class Decoder:
    """The rows that are being written. Not thread-safe: one thread owns it.

    With `piece`, a prompt of more tokens is read in pieces of about so many (over its different edits together), and
    the others are written on in between.

    A call that raises has told nothing, and has changed no text: what is told is drawn first, and rows leave later.
    """

    def __init__(
        self, subject: Subject, *, capture: Sequence[str] = (), capacity: int = 64, piece: int | None = None
    ) -> None:
        self.subject = subject
        self.capacity = capacity
        self._piece = piece
        self._readings: deque[_Reading] = deque()
        self._written = False  # whether the last step wrote on
        self._seam = Seam(subject, capture)
        self._stop: Collection[int] = stop_ids(subject.model, subject.tokenizer)
        self._device = subject.device
        self._waiting: list[OpenRow] = []
        self._rows: list[OpenRow] = []
        self._cache: Cache | None = None

    @property
    def active(self) -> int:
        """Rows being written or waiting. May be asked from any thread."""
        return self._written_now + len(self._waiting) + self._in_pieces

    @property
    def _written_now(self) -> int:
        return sum(not row.over for row in self._rows)

    @property
    def _in_pieces(self) -> int:
        return sum(len(reading.rows) for reading in tuple(self._readings))

    @property
    def read(self) -> dict[Hashable, tuple[int, int]]:
        """How many tokens of how many are read of the prompts that are read in pieces, by the keys of their rows."""
        return {row.request.key: (reading.read, len(row.tokens)) for reading in self._readings for row in reading.rows}

    def admit(self, requests: Sequence[Request]) -> None:
        """Let requests enter at the next step. Raises InputError on the first that cannot run; then none enters."""
        compiled: dict[int, RowEdits] = {}
        rows = []
        for request in requests:
            self._check(request)
            same = id(request.edits)
            if same not in compiled:
                compiled[same] = compile_row(self.subject, request.edits)
            random = np.random.default_rng(request.seed)
            tally = Tally(compiled[same]) if request.receipts else None
            cut = Cut(request.stop) if request.stop else None
            rows.append(OpenRow(request, compiled[same], random, len(request.prompt_ids), tally, cut))
        self._waiting += rows

    def remove(self, key: Hashable) -> None:
        """Stop writing the rows with this key. Raises nothing: their place in the cache is freed by the next step."""
        self._waiting = [row for row in self._waiting if row.request.key != key]
        for reading in self._readings:
            left = [i for i, row in enumerate(reading.rows) if row.request.key != key]
            reading.rows, reading.kinds = [reading.rows[i] for i in left], [reading.kinds[i] for i in left]
        self._readings = deque(reading for reading in self._readings if reading.rows)
        for row in self._rows:
            row.over = row.over or row.request.key == key
        self._clear()

    @torch.inference_mode()
    def step(self) -> list[Emission]:
        """One forward pass: the first token of rows that enter, a piece of a long prompt, or the next token of all.

        Empty when none is active, and after a piece that is not the last.
        """
        self._leave()
        if emissions := self.enter():
            return emissions
        if self._readings and (self._written or not self._rows):
            self._written = False
            return self._read_on()
        self._written = True
        return self._advance() if self._rows else []

    def enter(self) -> list[Emission]:
        """The first tokens of the waiting rows, read in one pass; of long prompts in pieces, nothing yet."""
        entering = self._entering()
        return self._enter(entering) if entering else []

    def recover(self) -> tuple[list[Emission], dict[Hashable, Exception]]:
        """After a pass that failed: read all that is being written anew, each key for itself.

        Returns their next tokens, and the errors of those that failed again, which are no longer written.
        """
        keys: dict[Hashable, list[OpenRow]] = {}
        written = [row for row in self._rows if not row.over]
        for row in (*written, *(row for reading in self._readings for row in reading.rows)):
            keys.setdefault(row.request.key, []).append(row)
        self._rows, self._readings, self._cache = [], deque(), None
        emissions: list[Emission] = []
        failed: dict[Hashable, Exception] = {}
        for key, rows in keys.items():
            for row in rows:
                row.length = len(row.tokens)
                row.tally = Tally(row.edits) if row.tally else None  # the whole text is counted anew
            try:
                with torch.inference_mode():
                    emissions += self._enter(rows)
            except Exception as error:
                failed[key] = error.with_traceback(None)  # or it holds the tensors that did not fit
        return emissions, failed

    def _entering(self) -> list[OpenRow]:
        """Those of the waiting rows that are read in one pass. Long prompts begin to be read in pieces."""
        room = self.capacity - self._written_now - self._in_pieces
        if not self._waiting or room <= 0:
            return []
        rows, self._waiting = self._waiting[:room], self._waiting[room:]
        if self._piece is None:
            return rows
        long: dict[tuple[int, ...], list[OpenRow]] = {}
        for row in rows:
            if len(row.tokens) > self._piece:
                long.setdefault(row.tokens, []).append(row)
        for same in long.values():
            first, kinds = _kinds(same)
            self._readings.append(_Reading(same, first, kinds, new_cache()))
        return [row for row in rows if len(row.tokens) <= self._piece]

    def _read_on(self) -> list[Emission]:
        """One more piece of the prompt whose turn it is; after the last, the first token of its rows."""
        assert self._piece is not None
        reading = self._readings.popleft()
        tokens = reading.rows[0].tokens
        end = min(len(tokens), reading.read + max(16, self._piece // len(reading.first)))
        ids = torch.tensor([tokens[reading.read : end]]).expand(len(reading.first), -1)
        own = [
            [row for row, kind in zip(reading.rows, reading.kinds, strict=True) if kind == k] for k in range(len(ids))
        ]
        into = [_tallies(rows) for rows in own]
        try:
            output = self._forward(ids, reading.first, [end] * len(ids), reading.cache, end, into)
            reading.read = end
            if end == len(tokens):
                return self._join(reading.rows, reading.kinds, reading.cache, *output)
        except BaseException:
            self._readings.append(reading)  # its rows are still there to be removed or read anew
            raise
        self._readings.append(reading)
        return []

    def _check(self, request: Request) -> None:
        if not request.prompt_ids:
            raise InputError("the prompt is empty: type a question")
        if not 0 <= min(request.prompt_ids) <= max(request.prompt_ids) < self.subject.vocabulary:
            raise InputError(
                f"the prompt holds a token that {self.subject.name} lacks: it has the ids 0 to "
                f"{self.subject.vocabulary - 1}. Its tokenizer or the file is of another model"
            )
        longest = len(request.prompt_ids) + request.sampling.max_new_tokens
        if longest > self.subject.context:
            raise InputError(
                f"the prompt has {len(request.prompt_ids)} tokens and {request.sampling.max_new_tokens} more are asked "
                f"for: {self.subject.name} reads {self.subject.context} at the most. Shorten the prompt or the answer"
            )

    def _enter(self, rows: list[OpenRow]) -> list[Emission]:
        """Read each distinct (prompt, edits) once, then give every row its own copy of the cache."""
        first, kinds = _kinds(rows)
        cache = new_cache()
        into = [_tallies(row for row, own in zip(rows, kinds, strict=True) if own == k) for k in range(len(first))]
        return self._join(rows, kinds, cache, *self._read(first, cache, into))

    def _join(
        self,
        rows: list[OpenRow],
        kinds: Sequence[int],
        cache: Cache,
        logits: torch.Tensor,
        scalars: dict[str, torch.Tensor],
    ) -> list[Emission]:
        """Rows whose prompts are read into `cache`, of their kinds, are written from now on: their first tokens."""
        index = torch.tensor(kinds)
        with drawn_together(rows):
            drawn = draw_all(rows, logits[index.to(logits.device)], {k: v[index] for k, v in scalars.items()})
            keep_rows(cache, index)
            self._cache = cache if self._cache is None else merged(self._cache, cache)
        self._rows = [*self._rows, *rows]
        return self._tell(rows, drawn)

    def _read(
        self, rows: Sequence[OpenRow], cache: Cache, into: Sequence[Counting]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Fill `cache` with the rows' prompts, padded left. What all of them begin with is read once for each edits."""
        width = max(row.length for row in rows)
        edits = {id(row.edits): row for row in rows}
        shared = shared_beginning([row.tokens for row in rows])
        if shared * (len(rows) - len(edits)) < WORTH_SHARING:
            shared = 0
        else:
            groups = list(edits.values())
            prefix = torch.tensor([rows[0].tokens[:shared]]).expand(len(groups), -1)
            # Each row keeps as much of the prefix as stands before the last `width - shared` of its tokens
            kept = [max(0, row.length - (width - shared)) for row in rows]
            position = list(edits)
            source = [position.index(id(row.edits)) for row in rows]
            counting: list[Counting] = [[] for _ in groups]
            for group, before, own in zip(source, kept, into, strict=True):
                counting[group] = [*counting[group], *((tally, before) for tally, _ in own)]
            self._forward(prefix, groups, [shared] * len(groups), cache, shared, counting)
            placed(cache, torch.tensor(source), torch.tensor(kept))
        tail = width - shared
        ids = torch.zeros((len(rows), tail), dtype=torch.long)
        for i, row in enumerate(rows):
            last = row.tokens[-tail:]
            ids[i, tail - len(last) :] = torch.tensor(last)
        return self._forward(ids, rows, [row.length for row in rows], cache, width, into)

    def _advance(self) -> list[Emission]:
        assert self._cache is not None
        ids = torch.tensor([[row.answer[-1]] for row in self._rows])
        for row in self._rows:
            row.length += 1
        lengths, width = [row.length for row in self._rows], self._cache.get_seq_length() + 1
        into = [_tallies([row]) for row in self._rows]
        with drawn_together(self._rows):
            drawn = draw_all(self._rows, *self._forward(ids, self._rows, lengths, self._cache, width, into))
        return self._tell(self._rows, drawn)

    def _forward(
        self,
        ids: torch.Tensor,
        rows: Sequence[OpenRow],
        lengths: list[int],
        cache: Cache,
        width: int,
        into: Sequence[Counting],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Logits (row, vocabulary) and scalars (row, adapter) at the last token; rows are padded left to `width`."""
        ends = torch.tensor(lengths)[:, None]
        mask = (torch.arange(width) >= width - ends).long()
        places = (torch.arange(width) - (width - ends))[:, -ids.shape[1] :]  # below 0 is padding
        full = bool((ends == width).all())
        prompts = np.array([len(row.request.prompt_ids) for row in rows])
        span = Span(ids.numpy(), places.numpy(), prompts)
        self._seam.write([row.edits for row in rows])
        with self._seam.hooked(span=span, ledger=Ledger(span, into) if any(into) else None) as scalars:
            output = self.subject.model(
                input_ids=ids.to(self._device),
                attention_mask=None if full else mask.to(self._device),
                position_ids=places.clamp_min(0).to(self._device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return output.logits[:, -1].float(), self._last(scalars)

    def _last(self, scalars: Scalars) -> dict[str, torch.Tensor]:
        return {organism: scalars.of(organism)[:, -1] for organism in self._seam.capture}

    def _tell(self, rows: Sequence[OpenRow], drawn: Drawn) -> list[Emission]:
        decode = self.subject.tokenizer.decode
        emissions = [row.tell(drawn, i, decode=decode, stop=self._stop) for i, row in enumerate(rows)]
        self._clear()
        return emissions

    def _clear(self) -> None:
        """Nothing is held where nobody is written on."""
        if all(row.over for row in self._rows):
            self._rows, self._cache = [], None

    def _leave(self) -> None:
        """Rows that are over make room. Where it raises they are still over, and `recover` reads the others anew."""
        left = [i for i, row in enumerate(self._rows) if not row.over]
        if len(left) == len(self._rows):
            return
        assert self._cache is not None
        longest = max(self._rows[i].length for i in left)
        keep_rows(self._cache, torch.tensor(left), drop=self._cache.get_seq_length() - longest)
        self._rows = [self._rows[i] for i in left]


def stream(subject: Subject, requests: Sequence[Request], *, capture: Sequence[str] = ()) -> Iterator[list[Emission]]:
    """Every step's emissions, until all requests are done."""
    decoder = Decoder(subject, capture=capture, capacity=max(1, len(requests)))
    decoder.admit(requests)
    while decoder.active:
        yield decoder.step()


def sample(subject: Subject, requests: Sequence[Request], *, batch: int = BATCH) -> Iterator[Sampled]:
    """Whole answers as they finish, `batch` rows at a time; new rows enter once a quarter of the batch is free.

    Keys must be unique. Requests with the same prompt should share one `edits` tuple: their prompt is then read once.
    Where a batch does not fit in memory its rows begin again, half as many at a time, once; their texts are the same.
    """
    if len({request.key for request in requests}) < len(requests):
        raise InputError("two requests have the same key: every answer needs its own")
    unfinished = {request.key: request for request in requests}
    try:
        yield from _sample(subject, unfinished, batch)
        return
    except RuntimeError as error:
        if not ran_out(error) or batch < 2:
            raise
    say_halved("rows", batch, batch // 2)
    yield from _sample(subject, unfinished, batch // 2)


def _sample(subject: Subject, unfinished: dict[Hashable, Request], batch: int) -> Iterator[Sampled]:
    """As `sample`; what has been given is no longer among the `unfinished`."""
    decoder = Decoder(subject, capacity=batch)
    kinds: dict[int, int] = {}  # rows of the same edits enter together: they read what their prompts share once

    def place(request: Request) -> tuple[int, int, int]:
        kind = kinds.setdefault(id(request.edits), len(kinds))
        return request.sampling.max_new_tokens, kind, len(request.prompt_ids)

    waiting = sorted(unfinished.values(), key=place)[::-1]
    answers: dict[Hashable, tuple[list[int], list[str]]] = {request.key: ([], []) for request in waiting}
    while waiting or decoder.active:
        if waiting and decoder.active <= batch - max(1, batch // 4):
            room = batch - decoder.active
            decoder.admit([waiting.pop() for _ in range(min(room, len(waiting)))])
        for emission in decoder.step():
            ids, text = answers[emission.key]
            ids.append(emission.token_id)
            text.append(emission.text)
            if emission.finished:
                del answers[emission.key], unfinished[emission.key]
                said = answer_text(subject.tokenizer, ids, "".join(text))
                yield Sampled(emission.key, tuple(ids), said, emission.finished == "stop", emission.receipts)
