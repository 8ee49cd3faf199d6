"""One token at a time: how it is drawn, how likely it was, and where a text that must not appear begins.

Knows logits and strings. Refuses to know models and rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from backend.records import Sampling

LEAST = -9999.0  # nats: as OpenAI's API says of a token that cannot be drawn; JSON has no infinity


@dataclass(frozen=True)
class Likelihood:
    """Log probabilities (nats) of the model's own distribution: at temperature 1, before top-p; never below `LEAST`."""

    drawn: float
    likeliest: tuple[tuple[int, float], ...] = ()  # (token id, log probability), the likeliest first


def likelihood(logits: torch.Tensor, token: int, likeliest: int) -> Likelihood:
    """Of one drawn token, from the (vocabulary,) logits that it was drawn from."""
    logs = torch.log_softmax(logits.double(), dim=-1)
    logs = logs.clamp_min(LEAST)
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


def draw(logits: torch.Tensor, samplings: Sequence[Sampling], randoms: Sequence[np.random.Generator]) -> list[int]:
    """One token a row from (row, vocabulary) logits: the inverse cumulative distribution at the row's own number."""
    drawn = logits.argmax(dim=-1).cpu()
    warm = [i for i, sampling in enumerate(samplings) if sampling.temperature > 0]
    for narrow in (False, True):
        chosen = [i for i in warm if (samplings[i].top_p < 1) == narrow]
        if not chosen:
            continue
        temperatures = torch.tensor([samplings[i].temperature for i in chosen], device=logits.device)
        probabilities = torch.softmax(logits[chosen] / temperatures.clamp_min(1e-6)[:, None], dim=-1)
        uniform = torch.tensor([[randoms[i].random()] for i in chosen], dtype=torch.float64)
        if narrow:
            mass = torch.tensor([samplings[i].top_p for i in chosen], device=logits.device)
            drawn[chosen] = _inverse(uniform, *nucleus(probabilities, mass))
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


def nucleus(probabilities: torch.Tensor, mass: torch.Tensor, within: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and ids (row, k) of the likeliest tokens that reach `mass` (row,), by id; the others count 0.

    Looks among the likeliest `within`, and among more only where those do not reach the mass.
    """
    rows, vocabulary = probabilities.shape
    within = min(within, vocabulary)
    likely, ids = probabilities.topk(within, dim=-1)
    if within < vocabulary and bool((likely.sum(dim=-1) < mass).any()):
        wide = likely.sum(dim=-1) < mass
        found = nucleus(probabilities[wide], mass[wide], within * 8)
        kept, tokens = (t.new_zeros((rows, found[0].shape[1])) for t in (likely, ids))
        kept[wide], tokens[wide] = found
        if not bool(wide.all()):
            kept[~wide, :within], tokens[~wide, :within] = nucleus(probabilities[~wide], mass[~wide], within)
        return kept, tokens
    kept = likely * (likely.cumsum(dim=-1) - likely < mass[:, None])
    order = ids.argsort(dim=-1)
    return kept.gather(1, order), ids.gather(1, order)
