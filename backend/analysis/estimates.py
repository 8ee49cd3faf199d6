"""A number with its 95 % interval, from draws of a bootstrap over groups.

Rows that share a question or a response are not independent, so what is resampled is whole groups, never rows. With
few groups the plain percentile bootstrap is too narrow; the expanded percentile interval (Hesterberg 2015, "What
teachers should know about the bootstrap", section 5) widens it to what a t interval would be.
It refuses to know what the rows are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit
from scipy.stats import rankdata

from backend.analysis.groups import Bools, Floats, Ints, groups_with

LEVEL = 0.95
BINS = 256  # of the score in bootstrapped AUCs; scores within a bin count as tied


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval. NaN ends: no interval can be given."""

    value: float
    low: float
    high: float


def expanded_percentile(draws: NDArray[Any], groups: int) -> tuple[float, float]:
    """The 95 % interval of bootstrap values (draw,) that came from `groups` groups; NaN draws are left out."""
    draws = draws[np.isfinite(draws)]
    if groups < 2 or not len(draws):
        return np.nan, np.nan
    tail = ndtr(np.sqrt(groups / (groups - 1)) * stdtrit(groups - 1, (1 - LEVEL) / 2))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def one_more_draw(draws: NDArray[Any]) -> Estimate:
    """The mean of independent draws, and the range that holds one more of them with 95 % (a t prediction interval).

    It serves to judge a value by a few draws of what it would be by chance: mean -+ t sd sqrt(1 + 1/n). The ends are
    NaN for fewer than two draws. It takes them to be roughly normal.
    """
    size = len(draws)
    if size < 2:
        return Estimate(float(np.mean(draws)) if size else np.nan, np.nan, np.nan)
    wide = float(stdtrit(size - 1, (1 + LEVEL) / 2) * np.sqrt(1 + 1 / size) * np.std(draws, ddof=1))
    mean = float(np.mean(draws))
    return Estimate(mean, mean - wide, mean + wide)


def auc(scores: NDArray[Any], labels: Bools) -> float:
    """The chance that a positive row scores above a negative one, ties counting half; NaN without both classes."""
    positive = int(labels.sum())
    pairs = positive * (len(labels) - positive)
    return float((rankdata(scores)[labels].sum() - positive * (positive + 1) / 2) / pairs) if pairs else np.nan


def auc_interval(value: float, drawn: NDArray[Any], labels: Bools, codes: Ints) -> tuple[float, float]:
    """The 95 % interval of an AUC from its bootstrap draws over groups (draw,), labels and groups (row,).

    Two draws have to be ruled out. That of groups: of the class that fewer groups hold, only those count, as all others
    say nothing of it. And that of rows within them, which a few groups that happen to agree would hide: the standard
    error of independent rows (Hanley and McNeil 1982).
    """
    low, high = expanded_percentile(drawn, min(groups_with(codes, labels)))
    positive, negative = int(labels.sum()), int((~labels).sum())
    if np.isnan(low) or not positive or not negative:
        return np.nan, np.nan
    one, other = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value) + (positive - 1) * (one - value**2) + (negative - 1) * (other - value**2)
    reach = float(ndtri((1 + LEVEL) / 2)) * np.sqrt(max(spread, 0.0) / (positive * negative))
    return max(min(low, value - reach), 0.0), min(max(high, value + reach), 1.0)


def auc_draws(scores: NDArray[Any], labels: Bools, codes: Ints, counts: Floats) -> Floats:
    """The AUC of every bootstrap draw, (draw,), from `group_draws`; NaN where a draw holds one class only."""
    bins = np.unique(scores, return_inverse=True)[1]
    if bins.max() >= BINS:
        bins = ((rankdata(scores) - 0.5) * BINS / len(scores)).astype(np.intp)
    size, width = counts.shape[1], int(bins.max()) + 1
    cells = codes * width + bins
    table = [np.bincount(cells[side], minlength=size * width).reshape(size, width) for side in (labels, ~labels)]
    positive, negative = (counts @ side for side in table)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(1) * negative.sum(1)
    drawn = np.full(len(counts), np.nan)
    np.divide((positive * below).sum(1), pairs, out=drawn, where=pairs > 0)
    return drawn
