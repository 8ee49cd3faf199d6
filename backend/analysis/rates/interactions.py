"""What two changes do together beyond the sum of either: a difference of differences of rates on the same questions.

As of a single difference, two draws have to be ruled out: that of answers (the intervals of the four rates, joined as
independent) and that of questions (a bootstrap over them, and their signs flipped). It refuses to know what was
changed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from backend.analysis.estimates import LEVEL, expanded_percentile
from backend.analysis.groups import group_draws
from backend.analysis.rates.chance import signs_flipped
from backend.analysis.rates.intervals import THESE_QUESTIONS, agreeing, rate_interval

Floats = NDArray[np.float64]

_SIGNS = np.array([1.0, -1.0, -1.0, 1.0])


def interaction_interval(
    hits: Floats, n: Floats, rng: np.random.Generator
) -> tuple[float, float | None, float | None, float | None]:
    """The interaction, both ends of its 95 % interval and the p-value of none; None with a single question.

    `hits` and `n` are (4, question): of both changes, of either, of none. A question weighs as much as its four counts
    allow, 1 / sum(1 / n), so that unequal numbers of answers make no interaction.
    """
    weights = 1 / (1 / n).sum(axis=0)
    parts = weights * (_SIGNS @ (hits / n))
    value = float(parts.sum() / weights.sum())
    if len(weights) < 2:
        return value, None, None, None
    _, draws = group_draws(np.arange(len(weights)), rng)
    low, high = expanded_percentile((draws @ parts) / (draws @ weights), len(weights))
    below, above = _answers_alone(hits, n)
    towards = below if value > 0 else above
    answers = 2 * float(ndtr(-abs(value) / towards * ndtri((1 + LEVEL) / 2))) if value else 1.0
    p_value = max(answers, signs_flipped(parts))
    return value, *agreeing(value, min(low, value - below), max(high, value + above), p_value), p_value


def _answers_alone(hits: Floats, n: Floats) -> tuple[float, float]:
    """How far the interval with these questions reaches below and above: independent rates (Zou and Donner 2008)."""
    values = hits.sum(axis=1) / n.sum(axis=1)
    ends = np.array([rate_interval(*side, THESE_QUESTIONS) for side in zip(hits, n, strict=True)])
    down, up = values - ends[:, 0], ends[:, 1] - values
    plus = _SIGNS > 0
    return float(np.linalg.norm(np.where(plus, down, up))), float(np.linalg.norm(np.where(plus, up, down)))
