"""How often chance alone sets two conditions as far apart as they were found, from counts of hits by question.

Two things are left to chance, and each has an exact test of one statistic, the hits of a beyond those expected from the
margins of every question, summed over questions (the numerator of Cochran, Mantel and Haenszel's test):

which answers were drawn: answers are dealt anew to the two conditions within each question (`dealt_anew`);
which questions were asked: the excess of every question changes its sign or keeps it (`signs_flipped`).

Both are two-sided, and both count what was found in. It refuses to know what a hit is, and which of the two matters.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Floats = NDArray[np.float64]

LISTED = 15  # signs of up to so many questions are listed; of more they are counted on a grid
_STEPS = 1 << 13  # of the grid, from no excess at all to every question's to one side
_NEGLIGIBLE = 1e-18
_TIED = 1e-9


def excess(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats) -> Floats:
    """Hits of a beyond those that the margins of each question let expect, (question,): w_q times the difference.

    w_q = n_a n_b / (n_a + n_b) weighs questions as the difference of two rates does.
    """
    return (hits_a * n_b - hits_b * n_a) / (n_a + n_b)


def dealt_anew(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats) -> float:
    """The p-value of "no question's rate differs": of every way to deal its answers anew, the share as far off.

    Exact: the hypergeometric distributions of all questions are convolved. Arrays are (question,), whole numbers.
    """
    whole = np.round(np.stack([hits_a, n_a, hits_b, n_b])).astype(int)
    found = float(excess(hits_a, n_a, hits_b, n_b).sum())
    mass, first = np.ones(1), 0
    for a, n, b, m in whole.T:
        if 0 < a + b < n + m:
            own, least = _dealt(int(n), int(m), int(a + b))
            mass, first = np.convolve(mass, own), first + least
        else:
            first += int(a)
    expected = float((n_a * (hits_a + hits_b) / (n_a + n_b)).sum())
    away = np.abs(first + np.arange(len(mass)) - expected)
    return _share(mass[away >= abs(found) - _TIED * (1 + abs(found))].sum())


def signs_flipped(excesses: Floats) -> float:
    """The p-value of "differences of questions lie around zero": of every choice of signs, the share as far off.

    Exact where differences of questions are as likely as their opposites. With k questions that differ at all it is
    2 ** (1 - k) at least. Signs of over `LISTED` questions are counted on a grid: exactly where excesses are multiples
    of one number, as with equal numbers of answers, else a little above the exact share.
    """
    sizes = np.abs(excesses[np.abs(excesses) > _TIED])
    found = abs(float(excesses.sum()))
    if len(sizes) < 2:
        return 1.0
    if len(sizes) <= LISTED:
        sums = sizes[:1]  # the first sign stays: the opposite choice is as far off
        for size in sizes[1:]:
            sums = np.concatenate([sums + size, sums - size])
        return _share((np.abs(sums) >= found - _TIED * (1 + found)).mean())
    return _share(_counted(sizes, found))


def _counted(sizes: Floats, found: float) -> float:
    """The share of sign choices at least `found` off, by a convolution on a grid."""
    step = _common(sizes) or float(sizes.sum()) / _STEPS
    steps = np.round(sizes / step).astype(int)
    slack = float(np.abs(sizes - steps * step).sum())
    half = int(steps.sum())
    mass = np.zeros(2 * half + 1)
    mass[half] = 1.0
    for by in steps:
        moved = np.zeros_like(mass)
        moved[by:] += mass[: len(mass) - by] / 2
        moved[: len(mass) - by] += mass[by:] / 2
        mass = moved
    away = np.abs(np.arange(-half, half + 1)) * step
    return float(mass[away >= found - slack - _TIED * (1 + found)].sum())


def _common(sizes: Floats) -> float | None:
    """The smallest size or its half, where all are multiples of it and the grid stays small."""
    for step in (float(sizes.min()), float(sizes.min()) / 2):
        parts = sizes / step
        if sizes.sum() / step <= _STEPS and np.abs(parts - np.round(parts)).max() < _TIED:
            return step
    return None


def _share(value: float) -> float:
    return float(min(value, 1.0))


@lru_cache(maxsize=4096)
def _dealt(n: int, m: int, hits: int) -> tuple[Floats, int]:
    """The hypergeometric distribution of the hits among n of n + m answers, from its first likely count on."""
    counts = np.arange(max(0, hits - m), min(n, hits) + 1)
    log = -(gammaln(counts + 1) + gammaln(n - counts + 1) + gammaln(hits - counts + 1) + gammaln(m - hits + counts + 1))
    mass = np.exp(log - log.max())
    likely = np.flatnonzero(mass > _NEGLIGIBLE)
    mass = mass[likely[0] : likely[-1] + 1]
    return mass / mass.sum(), int(counts[likely[0]])
