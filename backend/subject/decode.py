"""Sampling: requests in, tokens out, one forward pass at a time for everybody.

One decoding path. A `Decoder` holds the rows that are being written; `step` runs one forward pass and gives each row
its next token; finished rows leave, admitted ones enter at the next step, a prompt that rows share is read once.
`stream` and `sample` are loops over it, and the live worker drives one directly.

A row's random numbers come from its own seed alone. Its text therefore does not depend on its neighbours, up to the
rounding of batched matrix products: two batches can round a near-tie differently and part ways from there on.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

from backend.records import Edit, FloatArray, InputError, Sampling
from backend.subject.chat import stop_ids
from backend.subject.edits import RowEdits, Scalars, Seam, compile_row
from backend.subject.load import Subject


@dataclass(frozen=True, eq=False)
class Request:
    """One answer to be written. `key` is the caller's own name for it."""

    key: Hashable
    prompt_ids: tuple[int, ...]
    edits: tuple[Edit, ...] = ()
    sampling: Sampling = Sampling()
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Emission:
    """One new token of one row.

    `scalars` maps each captured organism to (adapter,): what its adapters read, before any gain, at the token before
    this one, whose forward pass produced it. `text` is what became printable with this token, possibly nothing.
    """

    key: Hashable
    token_id: int
    text: str
    finished: Literal["stop", "length"] | None
    scalars: dict[str, FloatArray]


@dataclass(frozen=True)
class Sampled:
    """One whole answer; `answer_ids` ends with the end-of-turn token where `finished`."""

    key: Hashable
    answer_ids: tuple[int, ...]
    text: str
    finished: bool


class _Buffer(DynamicLayer):  # type: ignore[misc]
    """Keys and values in buffers with room to grow, so that a step writes one position instead of copying them all."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
            self._room = (self.keys, self.values)
        old, new = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        if new > self._room[0].shape[2]:
            size = max(new + 32, new * 5 // 4)
            self._room = (_grown(self.keys, old, size), _grown(self.values, old, size))
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, old:new] = states
        self.keys, self.values = (room[:, :, :new] for room in self._room)
        return self.keys, self.values

    def replace(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Hold these tensors from now on."""
        self.keys, self.values = keys, values
        self._room = (keys, values)


def _grown(tensor: torch.Tensor, used: int, size: int) -> torch.Tensor:
    room = tensor.new_empty((*tensor.shape[:2], size, tensor.shape[3]))
    room[:, :, :used] = tensor[:, :, :used]
    return room


@dataclass(eq=False)
class _Row:
    request: Request
    edits: RowEdits
    random: np.random.Generator
    length: int  # tokens in the cache
    answer: list[int] = field(default_factory=list)
    shown: int = 0  # answer tokens whose text is out already
    text_from: int = 0  # where the detokeniser's window starts


class Decoder:
    """The rows that are being written. Not thread-safe: one thread owns it."""

    def __init__(self, subject: Subject, *, capture: Sequence[str] = (), capacity: int = 64) -> None:
        self.subject = subject
        self.capacity = capacity
        self._seam = Seam(subject, capture)
        self._stop: Collection[int] = stop_ids(subject.model, subject.tokenizer)
        self._device = subject.model.get_input_embeddings().weight.device
        self._waiting: list[_Row] = []
        self._rows: list[_Row] = []
        self._cache: Cache | None = None

    @property
    def active(self) -> int:
        """Rows being written or waiting."""
        return len(self._rows) + len(self._waiting)

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
            rows.append(_Row(request, compiled[same], random, len(request.prompt_ids)))
        self._waiting += rows

    def remove(self, key: Hashable) -> None:
        """Stop writing the rows with this key."""
        self._waiting = [row for row in self._waiting if row.request.key != key]
        self._keep([i for i, row in enumerate(self._rows) if row.request.key != key])

    @torch.inference_mode()
    def step(self) -> list[Emission]:
        """One forward pass: the first token of rows that enter, or the next one of all. Empty when none is active."""
        if self._waiting and len(self._rows) < self.capacity:
            room = self.capacity - len(self._rows)
            entering, self._waiting = self._waiting[:room], self._waiting[room:]
            return self._enter(entering)
        return self._advance() if self._rows else []

    def _check(self, request: Request) -> None:
        if not request.prompt_ids:
            raise InputError("the prompt is empty: type a question")
        longest = len(request.prompt_ids) + request.sampling.max_new_tokens
        if longest > self.subject.context:
            raise InputError(
                f"the prompt has {len(request.prompt_ids)} tokens and {request.sampling.max_new_tokens} more are asked "
                f"for: {self.subject.name} reads {self.subject.context} at the most. Shorten the prompt or the answer"
            )

    def _enter(self, rows: list[_Row]) -> list[Emission]:
        """Read each distinct (prompt, edits) once, then give every row its own copy of the cache."""
        kinds: dict[tuple[tuple[int, ...], int], int] = {}
        kind = [kinds.setdefault((row.request.prompt_ids, id(row.edits)), len(kinds)) for row in rows]
        first = [rows[kind.index(k)] for k in range(len(kinds))]
        width = max(row.length for row in first)
        ids = torch.zeros((len(first), width), dtype=torch.long)
        for i, row in enumerate(first):
            ids[i, width - row.length :] = torch.tensor(row.request.prompt_ids)
        cache = Cache(layer_class_to_replicate=_Buffer)
        logits, scalars = self._forward(ids, first, cache, width)
        index = torch.tensor(kind)
        _select(cache, index)
        self._cache = cache if self._cache is None else _merged(self._cache, cache)
        self._rows += rows
        emissions = self._emit(rows, logits[index.to(logits.device)], {k: v[index] for k, v in scalars.items()})
        self._leave(emissions, offset=len(self._rows) - len(rows))
        return emissions

    def _advance(self) -> list[Emission]:
        assert self._cache is not None
        ids = torch.tensor([[row.answer[-1]] for row in self._rows])
        for row in self._rows:
            row.length += 1
        width = self._cache.get_seq_length() + 1
        logits, scalars = self._forward(ids, self._rows, self._cache, width)
        emissions = self._emit(self._rows, logits, scalars)
        self._leave(emissions, offset=0)
        return emissions

    def _forward(
        self, ids: torch.Tensor, rows: Sequence[_Row], cache: Cache, width: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Logits (row, vocabulary) and scalars (row, adapter) at the last token; rows are padded left to `width`."""
        lengths = torch.tensor([row.length for row in rows])
        mask = (torch.arange(width) >= width - lengths[:, None]).long()
        positions = (torch.arange(width) - (width - lengths[:, None])).clamp_min(0)[:, -ids.shape[1] :]
        full = bool((lengths == width).all())
        self._seam.write([row.edits for row in rows])
        with self._seam.hooked() as scalars:
            output = self.subject.model(
                input_ids=ids.to(self._device),
                attention_mask=None if full else mask.to(self._device),
                position_ids=positions.to(self._device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return output.logits[:, -1].float(), self._last(scalars)

    def _last(self, scalars: Scalars) -> dict[str, torch.Tensor]:
        return {organism: scalars.of(organism)[:, -1] for organism in self._seam.capture}

    def _emit(self, rows: Sequence[_Row], logits: torch.Tensor, scalars: dict[str, torch.Tensor]) -> list[Emission]:
        tokens = _draw(logits, rows)
        read = {organism: values.numpy() for organism, values in scalars.items()}
        emissions = []
        for i, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            row.answer.append(token)
            stopped = token in self._stop
            full = len(row.answer) >= row.request.sampling.max_new_tokens
            finished: Literal["stop", "length"] | None = "stop" if stopped else "length" if full else None
            text = self._text(row, last=finished is not None, stopped=stopped)
            emissions.append(Emission(row.request.key, token, text, finished, {k: v[i] for k, v in read.items()}))
        return emissions

    def _text(self, row: _Row, *, last: bool, stopped: bool) -> str:
        """The text that became final: a character whose bytes are still incomplete waits for the next token."""
        decode = self.subject.tokenizer.decode
        end = len(row.answer) - stopped
        before = decode(row.answer[row.text_from : row.shown], skip_special_tokens=True)
        now = decode(row.answer[row.text_from : end], skip_special_tokens=True)
        if now.endswith("\ufffd") and not last:
            return ""
        row.text_from, row.shown = row.shown, end
        return str(now[len(before) :])

    def _leave(self, emissions: Sequence[Emission], offset: int) -> None:
        done = {offset + i for i, emission in enumerate(emissions) if emission.finished}
        if done:
            self._keep([i for i in range(len(self._rows)) if i not in done])

    def _keep(self, rows: list[int]) -> None:
        if len(rows) == len(self._rows):
            return
        self._rows = [self._rows[i] for i in rows]
        if not rows:
            self._cache = None
            return
        assert self._cache is not None
        _select(self._cache, torch.tensor(rows), drop=self._cache.get_seq_length() - max(r.length for r in self._rows))


def _select(cache: Cache, rows: torch.Tensor, drop: int = 0) -> None:
    """Keep (or repeat) these rows, without the first `drop` positions."""
    for layer in cache.layers:
        index = rows.to(layer.keys.device)
        layer.replace(layer.keys[index, :, drop:], layer.values[index, :, drop:])


def _merged(old: Cache, new: Cache) -> Cache:
    """Both caches' rows in one, the narrower padded on the left."""
    width = max(old.get_seq_length(), new.get_seq_length())
    for into, layer in zip(old.layers, new.layers, strict=True):
        pairs = zip((into.keys, into.values), (layer.keys, layer.values), strict=True)
        into.replace(*(torch.cat([_padded(a, width), _padded(b, width)]) for a, b in pairs))
    return old


def _padded(tensor: torch.Tensor, width: int) -> torch.Tensor:
    return torch.nn.functional.pad(tensor, (0, 0, width - tensor.shape[2], 0))


def _draw(logits: torch.Tensor, rows: Sequence[_Row]) -> list[int]:
    """One token a row from (row, vocabulary) logits: the inverse cumulative distribution at the row's own number."""
    temperatures = torch.tensor([row.request.sampling.temperature for row in rows], device=logits.device)
    greedy = logits.argmax(dim=-1)
    if not bool((temperatures > 0).any()):
        return [int(token) for token in greedy.tolist()]
    probabilities = torch.softmax(logits / temperatures.clamp_min(1e-6)[:, None], dim=-1)
    narrow = [i for i, row in enumerate(rows) if row.request.sampling.top_p < 1]
    if narrow:
        mass = torch.tensor([rows[i].request.sampling.top_p for i in narrow], device=logits.device)
        probabilities[narrow] = _nucleus(probabilities[narrow], mass)
    uniform = torch.tensor([[row.random.random()] for row in rows], dtype=torch.float64)
    cumulative = probabilities.to("cpu", torch.float64).cumsum(dim=-1)
    drawn = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)[:, 0]
    drawn = drawn.clamp_max(logits.shape[-1] - 1)
    return [int(t) for t in torch.where(temperatures.cpu() > 0, drawn, greedy.cpu()).tolist()]


def _nucleus(probabilities: torch.Tensor, mass: torch.Tensor, within: int = 512) -> torch.Tensor:
    """Zero all but the likeliest tokens that reach `mass` (row,); sort everything only where `within` do not."""
    likely, index = probabilities.topk(min(within, probabilities.shape[1]), dim=-1)
    if within < probabilities.shape[1] and bool((likely.sum(dim=-1) < mass).any()):
        likely, index = probabilities.sort(dim=-1, descending=True)
    kept = likely * (likely.cumsum(dim=-1) - likely < mass[:, None])
    return torch.zeros_like(probabilities).scatter(1, index, kept)


def stream(subject: Subject, requests: Sequence[Request], *, capture: Sequence[str] = ()) -> Iterator[list[Emission]]:
    """Every step's emissions, until all requests are done."""
    decoder = Decoder(subject, capture=capture, capacity=max(1, len(requests)))
    decoder.admit(requests)
    while decoder.active:
        yield decoder.step()


def sample(subject: Subject, requests: Sequence[Request], *, batch: int = 32) -> Iterator[Sampled]:
    """Whole answers as they finish, `batch` rows at a time; new rows enter once a quarter of the batch is free.

    Keys must be unique. Requests with the same prompt should share one `edits` tuple: their prompt is then read once.
    """
    decoder = Decoder(subject, capacity=batch)
    waiting = sorted(requests, key=lambda request: (request.sampling.max_new_tokens, len(request.prompt_ids)))[::-1]
    answers: dict[Hashable, tuple[list[int], list[str]]] = {request.key: ([], []) for request in requests}
    if len(answers) < len(requests):
        raise InputError("two requests have the same key: every answer needs its own")
    while waiting or decoder.active:
        if waiting and decoder.active <= batch - max(1, batch // 4):
            room = batch - decoder.active
            decoder.admit([waiting.pop() for _ in range(min(room, len(waiting)))])
        for emission in decoder.step():
            ids, text = answers[emission.key]
            ids.append(emission.token_id)
            text.append(emission.text)
            if emission.finished:
                yield Sampled(emission.key, tuple(ids), "".join(text), emission.finished == "stop")
                del answers[emission.key]
