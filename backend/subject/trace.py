"""Tracing: texts in, every adapter's scalar at every token and the residual mean at every layer out, in one pass.

On request also every token's projections on given directions, and its residual stream at given layers. No
language-model head, nothing above the deepest block asked for, no padding mask (padding is on the right and attention
is causal). Texts that share a prompt read it once. Memory is bounded by one batch, whatever the texts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from transformers.cache_utils import DynamicCache

from backend.edits import Ablate, Edit, Gain, Span
from backend.records import BASE, Direction, FloatArray, InputError, Trace
from backend.subject.chat import stop_ids
from backend.subject.edits import Seam, compile_row
from backend.subject.load import Subject
from backend.subject.out_of_memory import ran_out, say_halved


@dataclass(frozen=True)
class Text:
    """One prompt and its answer, as token ids; the answer may end with the end-of-turn token."""

    response_id: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


@dataclass(eq=False)
class _Read:
    """What one forward pass gives of a batch of token spans. A mask says which tokens a sum counts."""

    scalars: FloatArray  # (row, adapter, token)
    sums: FloatArray  # (mask, row, layer, d_model)
    norms: FloatArray  # (mask, row, layer), summed norms
    projections: FloatArray  # (row, direction, token)
    residuals: dict[int, FloatArray]  # layer -> (row, token, d_model)

    def tokens(self, row: int, n: int) -> _Tokens:
        """What is known of the first `n` tokens of a row, one by one."""
        residuals = {layer: values[row, :n] for layer, values in self.residuals.items()}
        return _Tokens(self.scalars[row, :, :n], self.projections[row, :, :n], residuals)


@dataclass(frozen=True, eq=False)
class _Tokens:
    scalars: FloatArray  # (adapter, token)
    projections: FloatArray  # (direction, token)
    residuals: dict[int, FloatArray]  # layer -> (token, d_model)

    def then(self, other: _Tokens) -> _Tokens:
        """These tokens and those that follow."""
        residuals = {layer: np.concatenate([rows, other.residuals[layer]]) for layer, rows in self.residuals.items()}
        scalars = np.concatenate([self.scalars, other.scalars], axis=1)
        return _Tokens(scalars, np.concatenate([self.projections, other.projections], axis=1), residuals)


class _Deep(Exception):
    """Raised behind the deepest block that somebody reads, to end the forward pass there."""


def trace(
    subject: Subject,
    texts: Iterable[Text],
    reader: str,
    *,
    edits: Sequence[Edit] = (),
    depth: int | None = None,
    project: Sequence[Direction] = (),
    keep: Sequence[int] = (),
    batch_tokens: int = 4096,
) -> Iterator[Trace]:
    """Traces of `texts` as read by the organism `reader` ("base": no adapter, no scalars), in order of completion.

    With `edits` the reader is edited, at the same tokens as where the text was sampled under them.
    `depth` is how many blocks to read (None: all); means then have that many layers, and the scalars of adapters above
    are NaN. `project` asks for every token's projection on these directions, each at unit norm and at its own layer,
    `keep` for every token's residual stream at these layers. `batch_tokens` bounds a batch; one that does not fit in
    memory is halved, once.
    """
    tracer = _Tracer(subject, reader, edits, depth, project, keep, batch_tokens)
    groups: dict[tuple[int, ...], list[Text]] = defaultdict(list)
    for text in texts:
        check_text(subject, text)
        groups[text.prompt_ids].append(text)
    alone = [group[0] for group in groups.values() if len(group) == 1]
    yield from tracer.whole(alone)
    for prompt, group in groups.items():
        if len(group) > 1:
            yield from tracer.shared(prompt, group)


def check_text(subject: Subject, text: Text) -> None:
    """Raise InputError on a text without a prompt, past the context, or with a token that the model does not have."""
    if not text.prompt_ids or len(text.prompt_ids) + len(text.answer_ids) > subject.context:
        raise InputError(
            f"response {text.response_id!r} has {len(text.prompt_ids)} prompt and {len(text.answer_ids)} answer "
            f"tokens: {subject.name} reads 1 to {subject.context}"
        )
    ids = (*text.prompt_ids, *text.answer_ids)
    if min(ids) < 0 or max(ids) >= subject.vocabulary:
        wrong = next(token for token in ids if not 0 <= token < subject.vocabulary)
        raise InputError(
            f"response {text.response_id!r} has the token id {wrong}: {subject.name} has the ids 0 to "
            f"{subject.vocabulary - 1}. It was written by another model: sample it again"
        )


def batches(texts: Sequence[Text], batch_tokens: int, length: Callable[[Text], int]) -> Iterator[Sequence[Text]]:
    """Texts of like length together, the longest first, so that what does not fit fails at once."""
    ordered = sorted(texts, key=length)
    while ordered:
        size = max(1, batch_tokens // max(1, length(ordered[-1])))
        yield ordered[-size:]
        ordered = ordered[:-size]


class _Tracer:
    def __init__(
        self,
        subject: Subject,
        reader: str,
        edits: Sequence[Edit],
        depth: int | None,
        project: Sequence[Direction],
        keep: Sequence[int],
        batch_tokens: int,
    ) -> None:
        blocks = len(subject.blocks)
        if depth is not None and not 1 <= depth <= blocks:
            raise InputError(f"depth {depth} is not between 1 and {blocks}, the blocks of {subject.name}")
        self.subject, self.reader, self.depth = subject, reader, blocks if depth is None else depth
        beyond = [layer for layer in (*keep, *(d.layer for d in project)) if not 0 <= layer < self.depth]
        if beyond:
            raise InputError(f"layer {beyond[0]} is not read: this pass reads layers 0 to {self.depth - 1}")
        compile_row(subject, [Ablate(direction) for direction in project])  # refuses directions of another width
        self.project, self.keep, self.batch_tokens = project, set(keep), batch_tokens
        self.worn = () if reader == BASE else (reader,)
        self.edits = compile_row(subject, [*(Gain(name, 1.0) for name in self.worn), *edits])
        self.seam = Seam(subject, capture=self.worn)
        self.stop = stop_ids(subject.model, subject.tokenizer)
        self.device = subject.device
        self.names: dict[int, str] = {}

    def whole(self, texts: Sequence[Text]) -> Iterator[Trace]:
        """Texts with prompts of their own: prompt and answer in one pass."""
        for batch in self._batches(texts, lambda text: len(text.prompt_ids) + len(text.answer_ids)):
            yield from self._fitting(self._whole, batch)

    def _whole(self, batch: Sequence[Text]) -> list[Trace]:
        ids = padded([(*text.prompt_ids, *text.answer_ids) for text in batch])
        starts = [len(text.prompt_ids) for text in batch]
        ends = [start + self._counted(text) for start, text in zip(starts, batch, strict=True)]
        masks = torch.stack([_counting([0] * len(batch), starts, ids), _counting(starts, ends, ids)])
        lengths = [start + len(text.answer_ids) for start, text in zip(starts, batch, strict=True)]
        read = self._read(ids, masks, span(ids, lengths, starts))
        return [
            self._trace(
                text,
                read.tokens(i, starts[i] + len(text.answer_ids)),
                read.sums[0, i],
                read.sums[1, i],
                read.norms[1, i],
            )
            for i, text in enumerate(batch)
        ]

    def shared(self, prompt: tuple[int, ...], texts: Sequence[Text]) -> Iterator[Trace]:
        """Texts behind one prompt: read it once, then its answers."""
        cache = DynamicCache()
        ids = padded([prompt])
        head = self._read(ids, torch.ones(1, 1, len(prompt)), span(ids, [len(prompt)], [len(prompt)]), cache)
        first, prompt_sum = head.tokens(0, len(prompt)), head.sums[0, 0]

        def read(batch: Sequence[Text]) -> list[Trace]:
            ids = padded([text.answer_ids for text in batch])
            if not ids.numel():
                none = np.zeros_like(prompt_sum)
                return [self._trace(text, first, prompt_sum, none, none[:, 0]) for text in batch]
            counted = _counting([0] * len(batch), [self._counted(text) for text in batch], ids)[None]
            lengths = [len(text.answer_ids) for text in batch]
            there = span(ids, lengths, [len(prompt)] * len(batch), offset=len(prompt))
            tail = self._read(ids, counted, there, repeated(cache, len(batch)), offset=len(prompt))
            return [
                self._trace(
                    text,
                    first.then(tail.tokens(i, len(text.answer_ids))),
                    prompt_sum,
                    tail.sums[0, i],
                    tail.norms[0, i],
                )
                for i, text in enumerate(batch)
            ]

        for batch in self._batches(texts, lambda text: len(prompt) + len(text.answer_ids)):
            yield from self._fitting(read, batch)

    def _batches(self, texts: Sequence[Text], length: Callable[[Text], int]) -> Iterator[Sequence[Text]]:
        """As `batches`, with the bound that holds when each is taken."""
        left = sorted(texts, key=length)
        while left:
            batch = next(batches(left, self.batch_tokens, length))
            yield batch
            left = left[: -len(batch)]

    def _fitting(self, read: Callable[[Sequence[Text]], list[Trace]], batch: Sequence[Text]) -> Iterator[Trace]:
        """`read` of the batch, or of its halves where the whole does not fit in memory."""
        try:
            yield from read(batch)
            return
        except RuntimeError as error:
            if not ran_out(error) or len(batch) < 2:
                raise
        self.batch_tokens //= 2
        say_halved("texts", len(batch), len(batch) // 2)
        for half in (batch[len(batch) // 2 :], batch[: len(batch) // 2]):
            yield from read(half)

    def _trace(
        self, text: Text, tokens: _Tokens, prompt_sum: FloatArray, answer_sum: FloatArray, answer_norms: FloatArray
    ) -> Trace:
        count = self._counted(text)
        counted = np.float32(max(1, count))
        return Trace(
            response_id=text.response_id,
            reader=self.reader,
            tokens=tuple(self._name(token) for token in (*text.prompt_ids, *text.answer_ids)),
            n_prompt=len(text.prompt_ids),
            scalars=tokens.scalars,
            prompt_mean=prompt_sum / np.float32(len(text.prompt_ids)),
            answer_mean=answer_sum / counted,
            n_answer=count,
            answer_norm=answer_norms / counted,
            projections=tokens.projections,
            residuals=tokens.residuals,
        )

    def _counted(self, text: Text) -> int:
        """Answer tokens behind the mean: all but a closing end-of-turn token."""
        ends = bool(text.answer_ids) and text.answer_ids[-1] in self.stop
        return len(text.answer_ids) - ends

    @torch.inference_mode()
    def _read(
        self, ids: torch.Tensor, masks: torch.Tensor, there: Span, cache: DynamicCache | None = None, offset: int = 0
    ) -> _Read:
        """One pass over (row, token) ids behind `offset` cached tokens, with (mask, row, token) masks."""
        rows, width = ids.shape
        sums = torch.zeros((self.depth, len(masks), rows, self.subject.d_model))
        norms = torch.zeros((self.depth, len(masks), rows))
        projections = torch.zeros((rows, len(self.project), width))
        residuals: dict[int, FloatArray] = {}

        def reader(layer: int, hidden: torch.Tensor) -> None:
            for index, direction in enumerate(self.project):
                if direction.layer == layer:
                    projections[:, index] = hidden.float() @ torch.from_numpy(direction.unit).to(hidden.device)
            if layer in self.keep:
                residuals[layer] = hidden.float().cpu().numpy()
            hidden = hidden.float()  # half precision is too coarse to sum in
            weights = masks.to(hidden.device)
            sums[layer] = torch.einsum("btd,kbt->kbd", hidden, weights)
            norms[layer] = (hidden.norm(dim=-1) * weights).sum(dim=-1)
            if layer == self.depth - 1:
                raise _Deep

        self.seam.write([self.edits] * rows)
        on_block = {layer: partial(reader, layer) for layer in range(self.depth)}
        positions = torch.arange(offset, offset + width).expand(rows, width)
        with self.seam.hooked(on_block, there) as scalars, suppress(_Deep):
            self.subject.backbone(
                input_ids=ids.to(self.device),
                position_ids=positions.to(self.device),
                past_key_values=cache,
                use_cache=cache is not None,
            )
        values = [scalars.of(name).transpose(1, 2) for name in self.worn]
        read = values[0].numpy() if values else np.zeros((rows, 0, width), dtype=np.float32)
        summed = (sums.permute(1, 2, 0, 3).numpy(), norms.permute(1, 2, 0).numpy())
        return _Read(read, *summed, projections.numpy(), residuals)

    def _name(self, token: int) -> str:
        if token not in self.names:
            self.names[token] = self.subject.tokenizer.decode([token])
        return self.names[token]


def padded(spans: Sequence[Sequence[int]]) -> torch.Tensor:
    """(row, token) ids, padded on the right."""
    ids = torch.zeros((len(spans), max(map(len, spans))), dtype=torch.long)
    for row, span in zip(ids, spans, strict=True):
        row[: len(span)] = torch.tensor(span, dtype=torch.long)
    return ids


def span(ids: torch.Tensor, lengths: Sequence[int], n_prompt: Sequence[int], *, offset: int = 0) -> Span:
    """The tokens of rows that are padded on the right, behind `offset` that were read before."""
    place = np.arange(ids.shape[1])
    there = place < np.asarray(lengths)[:, None]
    return Span(ids.numpy(), np.where(there, place + offset, -1), np.asarray(n_prompt))


def _counting(starts: Sequence[int], ends: Sequence[int], ids: torch.Tensor) -> torch.Tensor:
    """(row, token) mask of the positions from start up to end."""
    position = torch.arange(ids.shape[1])
    return ((position >= torch.tensor(starts)[:, None]) & (position < torch.tensor(ends)[:, None])).float()


def repeated(cache: DynamicCache, rows: int) -> DynamicCache:
    """The prompt's cache seen by every row."""
    repeated = DynamicCache()
    for index, layer in enumerate(cache.layers):
        if layer.is_initialized:
            keys, values = (t.expand(rows, *t.shape[1:]) for t in (layer.keys, layer.values))
            repeated.update(keys, values, index)
    return repeated
