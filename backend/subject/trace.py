"""Tracing: texts in, every adapter's scalar at every token and the residual mean at every layer out, in one pass.

No language-model head, nothing above the deepest block asked for, no padding mask (padding is on the right and
attention is causal). Texts that share a prompt read it once. Memory is bounded by one batch, whatever the texts.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers.cache_utils import DynamicCache

from backend.records import BASE, Gain, InputError, Trace
from backend.subject.chat import stop_ids
from backend.subject.edits import Seam, compile_row
from backend.subject.load import Subject


@dataclass(frozen=True)
class Text:
    """One prompt and its answer, as token ids; the answer may end with the end-of-turn token."""

    response_id: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


@dataclass(eq=False)
class _Read:
    """What one forward pass gives of a batch of token spans."""

    scalars: np.ndarray  # (row, adapter, token)
    sums: np.ndarray  # (row, layer, d_model), over the counted tokens
    norms: np.ndarray  # (row, layer), summed norms of the counted tokens


class _Deep(Exception):
    """Raised behind the deepest block that somebody reads, to end the forward pass there."""


def trace(
    subject: Subject, texts: Iterable[Text], reader: str, *, depth: int | None = None, batch_tokens: int = 4096
) -> Iterator[Trace]:
    """Traces of `texts` as read by the organism `reader` ("base": no adapter, no scalars), in order of completion.

    `depth` is how many blocks to read (None: all); means then have that many layers. `batch_tokens` bounds a batch.
    """
    tracer = _Tracer(subject, reader, len(subject.blocks) if depth is None else depth)
    groups: dict[tuple[int, ...], list[Text]] = defaultdict(list)
    for text in texts:
        if not text.prompt_ids or len(text.prompt_ids) + len(text.answer_ids) > subject.context:
            raise InputError(
                f"response {text.response_id!r} has {len(text.prompt_ids)} prompt and {len(text.answer_ids)} answer "
                f"tokens: {subject.name} reads 1 to {subject.context}"
            )
        groups[text.prompt_ids].append(text)
    for prompt, group in groups.items():
        yield from tracer.group(prompt, group, batch_tokens)


class _Tracer:
    def __init__(self, subject: Subject, reader: str, depth: int) -> None:
        if not 1 <= depth <= len(subject.blocks):
            raise InputError(f"depth {depth} is not between 1 and {len(subject.blocks)}, the blocks of {subject.name}")
        self.subject, self.reader, self.depth = subject, reader, depth
        self.worn = () if reader == BASE else (reader,)
        self.edits = compile_row(subject, [Gain(name, 1.0) for name in self.worn])
        self.seam = Seam(subject, capture=self.worn)
        self.stop = stop_ids(subject.model, subject.tokenizer)
        self.device = subject.model.get_input_embeddings().weight.device
        self.names: dict[int, str] = {}

    @torch.inference_mode()
    def group(self, prompt: tuple[int, ...], texts: Sequence[Text], batch_tokens: int) -> Iterator[Trace]:
        """Read the prompt once, then its answers in batches of like length."""
        cache = DynamicCache()
        head = self._read(torch.tensor([prompt]), torch.ones(1, len(prompt)), cache)
        ordered = sorted(texts, key=lambda text: len(text.answer_ids))
        while ordered:
            longest = len(prompt) + len(ordered[-1].answer_ids)
            size = max(1, batch_tokens // longest)
            batch, ordered = ordered[-size:], ordered[:-size]
            yield from self._answers(prompt, head, cache, batch)

    def _answers(
        self, prompt: tuple[int, ...], head: _Read, cache: DynamicCache, batch: Sequence[Text]
    ) -> Iterator[Trace]:
        width = max(len(text.answer_ids) for text in batch)
        counts = [self._counted(text) for text in batch]
        tail = None
        if width:
            ids = torch.zeros((len(batch), width), dtype=torch.long)
            for i, text in enumerate(batch):
                ids[i, : len(text.answer_ids)] = torch.tensor(text.answer_ids, dtype=torch.long)
            counted = (torch.arange(width) < torch.tensor(counts)[:, None]).float()
            tail = self._read(ids, counted, _repeated(cache, len(batch)), offset=len(prompt))
        for i, (text, count) in enumerate(zip(batch, counts, strict=True)):
            yield self._trace(prompt, text, head, tail, i, count)

    def _trace(self, prompt: tuple[int, ...], text: Text, head: _Read, tail: _Read | None, i: int, count: int) -> Trace:
        zero = np.zeros_like(head.sums[0])
        scalars = head.scalars[0]
        if tail is not None:
            scalars = np.concatenate([scalars, tail.scalars[i, :, : len(text.answer_ids)]], axis=1)
        return Trace(
            response_id=text.response_id,
            reader=self.reader,
            tokens=tuple(self._name(token) for token in (*prompt, *text.answer_ids)),
            n_prompt=len(prompt),
            scalars=scalars,
            prompt_mean=head.sums[0] / len(prompt),
            answer_mean=tail.sums[i] / count if tail is not None and count else zero,
            n_answer=count,
            answer_norm=tail.norms[i] / count if tail is not None and count else zero[:, 0],
        )

    def _counted(self, text: Text) -> int:
        """Answer tokens behind the mean: all but a closing end-of-turn token."""
        ends = bool(text.answer_ids) and text.answer_ids[-1] in self.stop
        return len(text.answer_ids) - ends

    def _read(self, ids: torch.Tensor, counted: torch.Tensor, cache: DynamicCache, offset: int = 0) -> _Read:
        """One pass over (row, token) ids behind `offset` cached tokens; sums are over tokens with `counted` 1."""
        rows, width = ids.shape
        sums = torch.zeros((self.depth, rows, self.subject.d_model))
        norms = torch.zeros((self.depth, rows))

        def reader(layer: int, hidden: torch.Tensor) -> None:
            weight = counted.to(hidden.device, hidden.dtype)
            sums[layer] = torch.einsum("btd,bt->bd", hidden, weight)
            norms[layer] = (hidden.norm(dim=-1) * weight).sum(dim=1)
            if layer == self.depth - 1:
                raise _Deep

        self.seam.write([self.edits] * rows)
        on_block = {layer: (lambda hidden, at=layer: reader(at, hidden)) for layer in range(self.depth)}
        positions = torch.arange(offset, offset + width).expand(rows, width)
        with self.seam.hooked(on_block) as scalars, contextlib.suppress(_Deep):
            self.subject.backbone(
                input_ids=ids.to(self.device),
                position_ids=positions.to(self.device),
                past_key_values=cache,
                use_cache=True,
            )
        values = [scalars.of(name).transpose(1, 2) for name in self.worn]
        read = values[0].numpy() if values else np.zeros((rows, 0, width), dtype=np.float32)
        return _Read(read, sums.transpose(0, 1).numpy(), norms.T.numpy())

    def _name(self, token: int) -> str:
        if token not in self.names:
            self.names[token] = self.subject.tokenizer.decode([token])
        return self.names[token]


def _repeated(cache: DynamicCache, rows: int) -> DynamicCache:
    """The prompt's cache seen by every row, without a copy."""
    repeated = DynamicCache()
    for index, layer in enumerate(cache.layers):
        if layer.is_initialized:
            keys, values = (t.expand(rows, *t.shape[1:]) for t in (layer.keys, layer.values))
            repeated.update(keys, values, index)
    return repeated
