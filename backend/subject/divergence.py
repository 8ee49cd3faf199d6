"""How far an edited model is from another on given answers: KL at every answer token, and which tokens it hangs on.

Both models read a text in one batch, as two rows with different edits. Token significance is the paper's (App. H): the
gradient of the total KL with respect to each answer token's embedding, its L2 norm, divided by the sum over the answer,
times the total KL. The vocabulary is met a slice of tokens at a time, so memory does not grow with the answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers.cache_utils import DynamicCache

from backend.edits import Edit
from backend.records import FloatArray
from backend.subject.edits import Seam, compile_row
from backend.subject.head import check_head, logits
from backend.subject.load import Subject
from backend.subject.trace import Text, batches, check_text, padded, span

_SLICE = 256  # tokens whose logits exist at once


@dataclass(frozen=True, eq=False)
class Divergence:
    """What one text tells of two models."""

    response_id: str
    kl: FloatArray  # (answer token,), nats: KL(edited || other) of the distributions that produce this token
    significance: FloatArray | None  # (answer token,), sums to the total KL; the last token's is 0: nothing follows it


def divergence(
    subject: Subject,
    texts: Iterable[Text],
    edits: Sequence[Edit],
    *,
    against: Sequence[Edit] = (),
    significance: bool = False,
    batch_tokens: int = 2048,
) -> Iterator[Divergence]:
    """KL of the model under `edits` to the model under `against` (nothing: the base), for every answer token.

    Texts that share a prompt read it once; texts without an answer are left out. `significance` costs a backward pass.
    Raises InputError on edits that the subject cannot take, a text that it cannot read, or a head that is not known.
    """
    check_head(subject)
    pair = [compile_row(subject, edits), compile_row(subject, against)]
    seam = Seam(subject)
    groups: dict[tuple[int, ...], list[Text]] = defaultdict(list)
    for text in texts:
        check_text(subject, text)
        if text.answer_ids:
            groups[text.prompt_ids].append(text)
    device = subject.device
    for prompt, group in groups.items():
        cache, n_prompt = DynamicCache(), len(prompt)
        twice = torch.tensor([prompt, prompt])
        seam.write(pair)
        with torch.no_grad(), seam.hooked(span=span(twice, [n_prompt] * 2, [n_prompt] * 2)):
            head = subject.backbone(input_ids=twice.to(device), past_key_values=cache)
        start = head.last_hidden_state[:, -1:]  # (pair, 1, d_model): what produces the first answer token
        length = partial(_length, n_prompt)
        for batch in batches(group, batch_tokens // 2, length):
            seam.write([row for row in pair for _ in batch])
            ids, lengths = padded([text.answer_ids for text in batch]), [len(text.answer_ids) for text in batch]
            there = span(ids.repeat(2, 1), lengths * 2, [n_prompt] * (2 * len(batch)), offset=n_prompt)
            with torch.set_grad_enabled(significance), seam.hooked(span=there):
                found = _read(subject, batch, start, _doubled(cache, len(batch)), n_prompt, device)
            yield from found


def _length(n_prompt: int, text: Text) -> int:
    return n_prompt + len(text.answer_ids)


def _read(
    subject: Subject, batch: Sequence[Text], start: torch.Tensor, cache: DynamicCache, offset: int, device: Any
) -> list[Divergence]:
    """All texts of `batch` behind one prompt; whether gradients are on decides on significance."""
    ids = padded([text.answer_ids for text in batch]).to(device)
    rows, width = ids.shape
    lengths = torch.tensor([len(text.answer_ids) for text in batch])
    counted = torch.arange(width) < lengths[:, None]
    embedded = subject.model.get_input_embeddings()(ids).detach().requires_grad_(torch.is_grad_enabled())
    positions = torch.arange(offset, offset + width, device=device).expand(2 * rows, width)
    last = subject.backbone(
        inputs_embeds=torch.cat([embedded, embedded]), position_ids=positions, past_key_values=cache
    ).last_hidden_state
    first = start.to(last.device).repeat_interleave(rows, dim=0)
    hidden = torch.cat([first, last[:, :-1]], dim=1)  # (2 row, token, d_model): what produces each answer token
    kl = _divergences(subject, hidden, counted.to(hidden.device))
    significance: list[FloatArray | None] = [None] * rows
    if torch.is_grad_enabled():
        assert embedded.grad is not None
        weight = embedded.grad.float().norm(dim=-1).cpu() * counted
        share = weight / weight.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        significance = list((share * kl.sum(dim=1, keepdim=True)).numpy())
    return [
        Divergence(text.response_id, kl[i, :n].numpy(), None if marks is None else marks[:n])
        for i, (text, n, marks) in enumerate(zip(batch, lengths.tolist(), significance, strict=True))
    ]


def _divergences(subject: Subject, hidden: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """KL (row, token) of the first half of the rows to the second, zero where not counted; sends its gradient back."""
    rows = len(hidden) // 2
    leaf = hidden.detach().requires_grad_(torch.is_grad_enabled())
    where = counted.nonzero()
    kl = torch.zeros(counted.shape)
    for part in torch.split(where, _SLICE):
        row, token = part.T
        found = logits(subject, torch.cat([leaf[row, token], leaf[row + rows, token]]))
        edited, other = functional.log_softmax(found, dim=-1).chunk(2)
        apart = (edited.exp() * (edited - other)).sum(dim=-1)
        if torch.is_grad_enabled():
            apart.sum().backward()  # type: ignore[no-untyped-call]
        kl[row.cpu(), token.cpu()] = apart.detach().cpu()
    if torch.is_grad_enabled():
        hidden.backward(leaf.grad)  # type: ignore[no-untyped-call]
    return kl


def _doubled(cache: DynamicCache, rows: int) -> DynamicCache:
    """The pair's cache, each of the two for `rows` rows."""
    doubled = DynamicCache()
    for index, layer in enumerate(cache.layers):
        keys, values = (tensor.repeat_interleave(rows, dim=0) for tensor in (layer.keys, layer.values))
        doubled.update(keys, values, index)
    return doubled


def mean_kl(found: Iterable[Divergence]) -> float:
    """Nats a token, over all answer tokens alike."""
    every = np.concatenate([divergence.kl for divergence in found])
    return float(every.mean())
