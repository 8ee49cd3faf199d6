"""True question rates of two conditions, drawn anew in every study."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr

Floats = NDArray[np.float64]
Truth = tuple[Floats, Floats, float]  # question rates on both sides, (run, question), and the difference of their means
PAPER = np.array([0.46, 0.30, 0.22, 0.12, 0.08, 0.04, 0.02, 0.0])  # EM by question, the nine-adapter organism


def beta(rng: np.random.Generator, shape: tuple[int, int], mean: float, icc: float) -> Floats:
    """Question rates with that mean, and that correlation of answers to one question."""
    if not icc:
        return np.full(shape, mean)
    size = (1 - icc) / icc
    return rng.beta(mean * size, (1 - mean) * size, shape)


def same(rng: np.random.Generator, shape: tuple[int, int], mean: float, icc: float) -> Truth:
    """No effect: both sides have the same rates."""
    rates = beta(rng, shape, mean, icc)
    return rates, rates, 0.0


def times(factor: float) -> Callable[..., Truth]:
    """The second side has a share of every rate."""

    def truth(rng: np.random.Generator, shape: tuple[int, int], mean: float, icc: float) -> Truth:
        rates = beta(rng, shape, mean, icc)
        return rates, factor * rates, (1 - factor) * mean

    return truth


def joined(together: float) -> Callable[..., Truth]:
    """Rates of its own with the same mean, alike by so much in normal scores."""

    def truth(rng: np.random.Generator, shape: tuple[int, int], mean: float, icc: float) -> Truth:
        one, other = rng.standard_normal((2, *shape))
        other = together * one + np.sqrt(1 - together**2) * other
        size = (1 - icc) / icc
        return *(betaincinv(mean * size, (1 - mean) * size, ndtr(z)) for z in (one, other)), 0.0

    return truth


def in_half_of_the_questions(rng: np.random.Generator, shape: tuple[int, int], mean: float, icc: float) -> Truth:
    """The second side has nothing in half of the questions, and the same in the others."""
    rates = beta(rng, shape, mean, icc)
    return rates, np.where(rng.random(shape) < 0.5, 0.0, rates), mean / 2


def one_question(rng: np.random.Generator, shape: tuple[int, int], mean: float, icc: float) -> Truth:
    """No effect: every hit of either side is in one question, at this rate there."""
    rates = np.zeros(shape)
    rates[:, 0] = mean
    return rates, rates, 0.0


def two_kinds(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Questions that never do it and questions that do it in 60 %, with nothing between."""
    return np.where(rng.random(shape) < 0.5, 0.0, 0.6)


TRUTHS: dict[str, Callable[..., Truth]] = {
    "same": same,
    "half": times(0.5),
    "tenth": times(0.1),
    "alike": joined(0.7),
    "unalike": joined(0.0),
    "some": in_half_of_the_questions,
}
RATES: dict[str, tuple[float, Callable[[np.random.Generator, tuple[int, int]], Floats]]] = {
    **{
        f"{mean:g} · {icc:g}": (mean, partial(beta, mean=mean, icc=icc))
        for mean, icc in ((0.02, 0.2), (0.05, 0.2), (0.15, 0.05), (0.15, 0.2), (0.15, 0.4), (0.3, 0.3), (0.5, 0.2))
    },
    "the paper's": (float(PAPER.mean()), lambda rng, shape: rng.choice(PAPER, shape)),
    "0 or 60 %": (0.3, two_kinds),
}
