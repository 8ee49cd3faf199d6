"""What is told of a drawn token beside its text: how likely it was, and where a text that must not appear begins.

Knows logits and strings. Refuses to know models and rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Likelihood:
    """Log probabilities (nats) of the model's own distribution: at temperature 1, before top-p."""

    drawn: float
    likeliest: tuple[tuple[int, float], ...] = ()  # (token id, log probability), the likeliest first


def likelihood(logits: torch.Tensor, token: int, likeliest: int) -> Likelihood:
    """Of one drawn token, from the (vocabulary,) logits that it was drawn from."""
    logs = torch.log_softmax(logits.double(), dim=-1)
    top = logs.topk(min(likeliest, logs.shape[0]))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return Likelihood(float(logs[token]), tuple(pairs))


class Cut:
    """A text as it grows, cut before the first of some strings. What may begin one is held back until that is clear."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = strings
        self._held = ""

    def push(self, text: str, *, last: bool) -> tuple[str, bool]:
        """What can be shown now that `text` has come, and whether a string was met: nothing comes after it."""
        text = self._held + text
        met = [at for at in map(text.find, self._strings) if at >= 0]
        if met:
            return text[: min(met)], True
        keep = 0 if last else max(_begun(text, string) for string in self._strings)
        shown, self._held = text[: len(text) - keep], text[len(text) - keep :]
        return shown, False


def _begun(text: str, string: str) -> int:
    """How many characters at the end of the text are the beginning of the string."""
    most = min(len(text), len(string) - 1)
    return next((n for n in range(most, 0, -1) if text.endswith(string[:n])), 0)
