"""The logit lens: which tokens a vector in the residual stream promotes and which it suppresses.

The vector goes straight to the unembedding: at norm 1, times the gain of the final norm, without the division by the
residual's own size (which no vector alone has) and without the blocks between. A token's value is its logit less the
mean over the vocabulary (which softmax ignores), in standard deviations over the vocabulary (in which a model's own
logit scale cancels, and a cap has no place: these are no logits). So the largest of a random
vector is about 4 among 50,000 tokens, and what lies near that says nothing. Refuses to know where a vector came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from backend.records import FloatArray, InputError
from backend.subject.load import Subject

SHOWN = 20  # tokens on either side
_BATCH = 64  # vectors that meet the vocabulary at once
_NORMS = ("norm", "ln_f", "final_layer_norm", "language_model.norm", "norm_f")

Pushes = tuple[tuple[str, float], ...]  # (token, standard deviations), the strongest first


@dataclass(frozen=True)
class Lens:
    """What one vector promotes (`top`) and suppresses (`bottom`)."""

    top: Pushes
    bottom: Pushes


def lens(subject: Subject, vectors: FloatArray, shown: int = SHOWN) -> list[Lens]:
    """The lens of every vector (k, d_model). Raises InputError on vectors that are not of this residual stream."""
    rows = np.asarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != subject.d_model:
        raise InputError(
            f"a lens needs vectors of {subject.d_model} numbers, the width of {subject.name}, not an array of shape "
            f"{rows.shape}: they come from another model"
        )
    norms = np.linalg.norm(rows, axis=1)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise InputError("a vector without a finite length has no lens: leave out those that are zero or not a number")
    unembedding = _unembedding(subject)
    decoded: dict[int, str] = {}
    found = []
    with torch.inference_mode():
        for part in np.split(rows / norms[:, None], range(_BATCH, len(rows), _BATCH)):
            found += _lenses(subject, part, unembedding, min(shown, len(unembedding)), decoded)
    return found


def _lenses(
    subject: Subject, unit: FloatArray, unembedding: torch.Tensor, shown: int, decoded: dict[int, str]
) -> list[Lens]:
    through = _through_norm(subject, torch.from_numpy(unit)).to(unembedding.device, unembedding.dtype)
    logits = (through @ unembedding.T).float()
    logits = (logits - logits.mean(dim=1, keepdim=True)) / logits.std(dim=1, keepdim=True).clamp_min(1e-12)
    ends = [logits.topk(shown, dim=1, largest=largest) for largest in (True, False)]

    def said(values: torch.Tensor, ids: torch.Tensor) -> Pushes:
        tokens = ids.tolist()
        for token in tokens:
            if token not in decoded:
                decoded[token] = subject.tokenizer.decode([token])
        return tuple(zip((decoded[token] for token in tokens), map(float, values.tolist()), strict=True))

    sides = [[said(*pair) for pair in zip(end.values.cpu(), end.indices.cpu(), strict=True)] for end in ends]
    return [Lens(top, bottom) for top, bottom in zip(*sides, strict=True)]


def _unembedding(subject: Subject) -> torch.Tensor:
    """(vocabulary, d_model), without rows that the tokenizer has no token for."""
    head = subject.model.get_output_embeddings()
    if head is None:
        raise InputError(f"{subject.name} has no output embeddings, so its vectors have no lens")
    weight: torch.Tensor = head.weight.detach()
    return weight[: len(subject.tokenizer)]


def _through_norm(subject: Subject, vectors: torch.Tensor) -> torch.Tensor:
    """Vectors (k, d_model) times the final norm's gain; centred first where that norm centres."""
    norm: Any = _final_norm(subject)
    weight = norm.weight
    if isinstance(norm, nn.LayerNorm):
        centred = vectors - vectors.mean(dim=1, keepdim=True)
        scaled: torch.Tensor = centred * weight.detach().float().cpu()
        return scaled
    ones = torch.ones(1, vectors.shape[1], device=weight.device, dtype=weight.dtype)
    gain: torch.Tensor = norm(ones).float().cpu()  # `ones` is of size 1, so this is the gain, however the norm keeps it
    return vectors * gain


def _final_norm(subject: Subject) -> nn.Module:
    for name in _NORMS:
        try:
            norm = subject.backbone.get_submodule(name)
        except AttributeError:
            continue
        if getattr(norm, "weight", None) is not None:
            return norm
    raise InputError(
        f"no final norm found in {type(subject.backbone).__name__}: looked for {', '.join(_NORMS)}, so there is no lens"
    )
