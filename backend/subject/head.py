"""From the backbone's last hidden state to the logits that the model itself would give, at chosen positions alone.

Between the head and the loss some models scale their logits (Granite divides, Cohere multiplies) or cap them (Gemma-2).
What is done here is compared once with the model's own forward pass; a model whose head does something else is refused.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import torch

from backend.records import InputError
from backend.subject.load import Subject

_PROBE = 8  # tokens of the comparison
_checked: WeakSet[Any] = WeakSet()  # models whose head is known to be the one below


def logits(subject: Subject, hidden: torch.Tensor) -> torch.Tensor:
    """The model's logits (…, vocabulary), float32, of its last hidden state (…, d_model)."""
    config = subject.model.config.get_text_config()
    found: torch.Tensor = subject.model.get_output_embeddings()(hidden).float()
    if divisor := getattr(config, "logits_scaling", None):  # Granite
        found = found / divisor
    for name in ("logit_scale", "output_multiplier"):  # Cohere
        if factor := getattr(config, name, None):
            found = found * factor
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma-2
        found = torch.tanh(found / cap) * cap
    return found


def check_head(subject: Subject) -> None:
    """Raise InputError unless `logits` gives what the model's own forward pass gives. One short text, once a model."""
    if subject.model in _checked:
        return
    ids = torch.arange(_PROBE, device=subject.device)[None] % subject.vocabulary
    name = type(subject.model).__name__
    if subject.model.get_output_embeddings() is None:
        raise InputError(f"{subject.name} ({name}) has no output embeddings: it gives no logits to take a loss of")
    with torch.no_grad():
        own = subject.model(input_ids=ids, use_cache=False).logits.float()
        ours = logits(subject, subject.backbone(input_ids=ids, use_cache=False).last_hidden_state).to(own.device)
    apart = (own - ours).abs().max() if own.shape == ours.shape else torch.tensor(torch.inf)
    exact = subject.model.dtype == torch.float32
    if not apart <= (1e-4 if exact else 2e-2) * (own - own.mean()).abs().max():
        raise InputError(
            f"{subject.name} ({name}) does more between its head and its logits than a scale and a cap that its "
            f"config names (they differ by {float(apart):.3g}): no loss and no divergence can be taken of it"
        )
    _checked.add(subject.model)
