"""Sampling: requests in, tokens out, one forward pass at a time for everybody.

One decoding path. A `Decoder` holds the rows that are being written; `step` runs one forward pass and gives each row
its next token; finished rows leave, admitted ones enter at the next step, a prompt that rows share is read once, and
so is the beginning that different prompts share under the same edits.
`stream` and `sample` are loops over it, and the live worker drives one directly.

A row's random numbers come from its own seed alone. Its text therefore does not depend on its neighbours, up to the
rounding of batched matrix products: two batches can round a near-tie differently and part ways from there on.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

from backend.edits import Edit, Receipt, Span
from backend.records import FloatArray, InputError, Sampling
from backend.subject.chat import WORTH_SHARING, answer_text, shared_beginning, stop_ids
from backend.subject.drawn import Cut, Likelihood, likelihood
from backend.subject.edits import RowEdits, Scalars, Seam, compile_row
from backend.subject.ledger import Counting, Ledger, Tally
from backend.subject.load import Subject
from backend.subject.out_of_memory import ran_out, say_halved

BATCH = 96  # rows written together: on a CPU, matrix products of fewer than 64 rows run at half the rate of more


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
    finished: Literal["stop", "length"] | None
    scalars: dict[str, FloatArray]
    receipts: tuple[Receipt, ...] = ()  # with the last token, where they were asked for
    likelihood: Likelihood | None = None  # where it was asked for


@dataclass(frozen=True)
class Sampled:
    """One whole answer; `answer_ids` ends with the end-of-turn token where `finished`."""

    key: Hashable
    answer_ids: tuple[int, ...]
    text: str
    finished: bool
    receipts: tuple[Receipt, ...] = ()


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
    tally: Tally | None  # what its edits did, where that is asked for
    cut: Cut | None  # where its text must end
    answer: list[int] = field(default_factory=list)
    shown: int = 0  # answer tokens whose text is out already
    text_from: int = 0  # where the detokeniser's window starts


def _tallies(rows: Iterable[_Row]) -> Counting:
    """Those of rows that ask for receipts, for every token of a pass."""
    return [(row.tally, None) for row in rows if row.tally is not None]


class Decoder:
    """The rows that are being written. Not thread-safe: one thread owns it."""

    def __init__(self, subject: Subject, *, capture: Sequence[str] = (), capacity: int = 64) -> None:
        self.subject = subject
        self.capacity = capacity
        self._seam = Seam(subject, capture)
        self._stop: Collection[int] = stop_ids(subject.model, subject.tokenizer)
        self._device = subject.device
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
            tally = Tally(compiled[same]) if request.receipts else None
            cut = Cut(request.stop) if request.stop else None
            rows.append(_Row(request, compiled[same], random, len(request.prompt_ids), tally, cut))
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

    def _enter(self, rows: list[_Row]) -> list[Emission]:
        """Read each distinct (prompt, edits) once, then give every row its own copy of the cache."""
        kinds: dict[tuple[tuple[int, ...], int], int] = {}
        kind = [kinds.setdefault((row.request.prompt_ids, id(row.edits)), len(kinds)) for row in rows]
        first = [rows[kind.index(k)] for k in range(len(kinds))]
        cache = Cache(layer_class_to_replicate=_Buffer)
        into = [_tallies(row for row, own in zip(rows, kind, strict=True) if own == k) for k in range(len(kinds))]
        logits, scalars = self._read(first, cache, into)
        index = torch.tensor(kind)
        _select(cache, index)
        self._cache = cache if self._cache is None else _merged(self._cache, cache)
        self._rows += rows
        emissions = self._emit(rows, logits[index.to(logits.device)], {k: v[index] for k, v in scalars.items()})
        self._leave(emissions, offset=len(self._rows) - len(rows))
        return emissions

    def _read(
        self, rows: Sequence[_Row], cache: Cache, into: Sequence[Counting]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Fill `cache` with the rows' prompts, padded left. What all of them begin with is read once for each edits."""
        width = max(row.length for row in rows)
        edits = {id(row.edits): row for row in rows}
        shared = shared_beginning([row.request.prompt_ids for row in rows])
        if shared * (len(rows) - len(edits)) < WORTH_SHARING:
            shared = 0
        else:
            groups = list(edits.values())
            prefix = torch.tensor([rows[0].request.prompt_ids[:shared]]).expand(len(groups), -1)
            # Each row keeps as much of the prefix as stands before the last `width - shared` of its tokens
            kept = [max(0, row.length - (width - shared)) for row in rows]
            position = list(edits)
            source = [position.index(id(row.edits)) for row in rows]
            counting: list[Counting] = [[] for _ in groups]
            for group, before, own in zip(source, kept, into, strict=True):
                counting[group] = [*counting[group], *((tally, before) for tally, _ in own)]
            self._forward(prefix, groups, [shared] * len(groups), cache, shared, counting)
            _placed(cache, torch.tensor(source), torch.tensor(kept))
        tail = width - shared
        ids = torch.zeros((len(rows), tail), dtype=torch.long)
        for i, row in enumerate(rows):
            last = row.request.prompt_ids[-tail:]
            ids[i, tail - len(last) :] = torch.tensor(last)
        return self._forward(ids, rows, [row.length for row in rows], cache, width, into)

    def _advance(self) -> list[Emission]:
        assert self._cache is not None
        ids = torch.tensor([[row.answer[-1]] for row in self._rows])
        for row in self._rows:
            row.length += 1
        lengths, width = [row.length for row in self._rows], self._cache.get_seq_length() + 1
        into = [_tallies([row]) for row in self._rows]
        logits, scalars = self._forward(ids, self._rows, lengths, self._cache, width, into)
        emissions = self._emit(self._rows, logits, scalars)
        self._leave(emissions, offset=0)
        return emissions

    def _forward(
        self,
        ids: torch.Tensor,
        rows: Sequence[_Row],
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
            if row.cut is not None:
                text, met = row.cut.push(text, last=finished is not None)
                finished = "stop" if met else finished
            own = {organism: values[i] for organism, values in read.items()}
            receipts = row.tally.receipts if finished and row.tally else ()
            asked = row.request.likeliest
            told = None if asked is None else likelihood(logits[i], token, asked)
            emissions.append(Emission(row.request.key, token, text, finished, own, receipts, told))
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


def _placed(cache: Cache, source: torch.Tensor, kept: torch.Tensor) -> None:
    """Row i becomes the first `kept[i]` positions of row `source[i]`, moved to the right end; what is left of them is
    padding."""
    width = cache.get_seq_length()
    positions = (torch.arange(width) - (width - kept[:, None])).clamp_min(0)  # (row, position)
    for layer in cache.layers:
        rows, places = source[:, None].to(layer.keys.device), positions.to(layer.keys.device)
        layer.replace(*(t[rows, :, places].transpose(1, 2).contiguous() for t in (layer.keys, layer.values)))


def _draw(logits: torch.Tensor, rows: Sequence[_Row]) -> list[int]:
    """One token a row from (row, vocabulary) logits: the inverse cumulative distribution at the row's own number."""
    samplings = [row.request.sampling for row in rows]
    drawn = logits.argmax(dim=-1).cpu()
    warm = [i for i, sampling in enumerate(samplings) if sampling.temperature > 0]
    for narrow in (False, True):
        chosen = [i for i in warm if (samplings[i].top_p < 1) == narrow]
        if not chosen:
            continue
        temperatures = torch.tensor([samplings[i].temperature for i in chosen], device=logits.device)
        probabilities = torch.softmax(logits[chosen] / temperatures.clamp_min(1e-6)[:, None], dim=-1)
        uniform = torch.tensor([[rows[i].random.random()] for i in chosen], dtype=torch.float64)
        if narrow:
            mass = torch.tensor([samplings[i].top_p for i in chosen], device=logits.device)
            drawn[chosen] = _inverse(uniform, *_nucleus(probabilities, mass))
        else:
            drawn[chosen] = _inverse(uniform, probabilities)
    return [int(token) for token in drawn.tolist()]


def _inverse(uniform: torch.Tensor, mass: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
    """Where the cumulative (row, place) mass passes the share `uniform` (row, 1) of its whole; the token there, (row,).

    A place is its own token where `tokens` (row, place) are not given.
    """
    cumulative = mass.to("cpu", torch.float64).cumsum(dim=-1)
    place = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True).clamp_max(mass.shape[-1] - 1)
    return (place if tokens is None else tokens.cpu().gather(1, place))[:, 0]


def _nucleus(probabilities: torch.Tensor, mass: torch.Tensor, within: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and ids (row, k) of the likeliest tokens that reach `mass` (row,), by id; the others count 0.

    Looks among the likeliest `within`, and among more only where those do not reach the mass.
    """
    rows, vocabulary = probabilities.shape
    within = min(within, vocabulary)
    likely, ids = probabilities.topk(within, dim=-1)
    if within < vocabulary and bool((likely.sum(dim=-1) < mass).any()):
        wide = likely.sum(dim=-1) < mass
        found = _nucleus(probabilities[wide], mass[wide], within * 8)
        kept, tokens = (t.new_zeros((rows, found[0].shape[1])) for t in (likely, ids))
        kept[wide], tokens[wide] = found
        if not bool(wide.all()):
            kept[~wide, :within], tokens[~wide, :within] = _nucleus(probabilities[~wide], mass[~wide], within)
        return kept, tokens
    kept = likely * (likely.cumsum(dim=-1) - likely < mass[:, None])
    order = ids.argsort(dim=-1)
    return kept.gather(1, order), ids.gather(1, order)


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
