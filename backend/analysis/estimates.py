"""A number with its 95 % interval, from what it is without each group in turn, or from a bootstrap over groups.

Rows that share a question or a response are not independent, so what is left out or resampled is whole groups, never
rows. Leaving one out at a time (the jackknife) gives a t interval; for a share, Wilson's at the effective sample size.
Where only a bootstrap serves, the plain percentile interval is too narrow with few groups; the expanded one (Hesterberg
2015, "What teachers should know about the bootstrap", section 5) widens it to what a t interval would be.
It refuses to know what the rows are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

LEVEL = 0.95


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


def without_each(value: float, left: NDArray[Any], groups: int) -> Estimate:
    """A value with its t interval from what it is without each group, (group,), on `groups` - 1 degrees of freedom.

    `groups` are those that hold the class which fewer hold. NaN ends where it cannot do without one, or there are fewer
    than two.
    """
    reach = _quantile(groups) * _jackknife_error(value, left)
    return Estimate(value, value - reach, value + reach)


def share_without_each(value: float, left: NDArray[Any], groups: int) -> Estimate:
    """The same of a share: Wilson's score interval at its effective sample size, which stays inside 0 and 1.

    Where the share is 0 or 1 nothing is seen of how it varies, and `groups` is taken for that size.
    """
    error, quantile = _jackknife_error(value, left), _quantile(groups)
    if not np.isfinite(error) or not np.isfinite(quantile):
        return Estimate(value, np.nan, np.nan)
    size = value * (1 - value) / error**2 if error else float(groups)
    square = quantile**2 / size
    middle, reach = value + square / 2, np.sqrt(square * (value * (1 - value) + square / 4))
    return Estimate(
        value, float(max((middle - reach) / (1 + square), 0.0)), float(min((middle + reach) / (1 + square), 1.0))
    )


def _jackknife_error(value: float, left: NDArray[Any]) -> float:
    size = len(left)
    return float(np.sqrt((size - 1) / size * ((left - value) ** 2).sum()))


def _quantile(groups: int) -> float:
    return float(stdtrit(groups - 1, (1 + LEVEL) / 2)) if groups > 1 else np.nan
